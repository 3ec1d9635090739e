// SPDX-License-Identifier: Apache-2.0
/*
 * Whether a message makes sense by itself, before anything is done about it. What
 * passes here cannot trip an assertion further on, whoever sent it.
 */
#include "libraft/raft_i.h"

/* The entries follow each other, and their terms never fall and fit the message. */
static bool entries_are_valid(const struct raft_message *m)
{
	uint64_t term = m->log_term;

	BUG_ON(m->index > RAFT_INDEX_MAX);
	if (m->n_entries && !m->entries)
		return false;
	if (m->n_entries > RAFT_INDEX_MAX - m->index)
		return false;
	for (size_t i = 0; i < m->n_entries; i++) {
		const struct raft_entry *e = &m->entries[i];

		if (e->index != m->index + 1 + i || !e->term)
			return false;
		if (e->term < term || e->term > m->term)
			return false;
		if ((unsigned int)e->type > RAFT_ENTRY_CONF_CHANGE_V2)
			return false;
		term = e->term;
	}
	return true;
}

static bool append_is_valid(const struct raft_message *m)
{
	/* Entry 0 is the one before the first; its term is 0, and no other's is. */
	if ((m->index == 0) != (m->log_term == 0) || m->log_term > m->term)
		return false;
	return entries_are_valid(m);
}

static bool proposal_is_valid(const struct raft_message *m)
{
	if (!m->n_entries || !m->entries)
		return false;
	for (size_t i = 0; i < m->n_entries; i++)
		if ((unsigned int)m->entries[i].type > RAFT_ENTRY_CONF_CHANGE_V2)
			return false;
	return true;
}

static bool snapshot_is_valid(const struct raft_message *m)
{
	const struct raft_snapshot_meta *s = m->snapshot;

	BUG_ON(m->term > RAFT_TERM_MAX);
	if (!s || !s->index || s->index > RAFT_INDEX_MAX)
		return false;
	if (!s->term || s->term > m->term)
		return false;
	return s->conf.n_voters && conf_is_valid(&s->conf);
}

/* A read's id travels as the payload of the only entry. */
static bool read_is_valid(const struct raft_message *m)
{
	const struct blob *id;

	if (m->n_entries != 1 || !m->entries)
		return false;
	id = m->entries[0].payload;
	return id && id->len && id->len <= RAFT_CONTEXT_MAX;
}

/* An answer cannot be about what this log never held. */
static bool response_is_valid(const struct raft *raft, const struct raft_message *m)
{
	return m->term != raft->term || raft->role != RAFT_LEADER || m->index <= raft->log.last;
}

static bool body_is_valid(const struct raft *raft, const struct raft_message *m)
{
	BUG_ON(m->to != raft->id || m->from == raft->id);
	BUG_ON(m->index > RAFT_INDEX_MAX || m->term > RAFT_TERM_MAX);
	switch (m->type) {
	case RAFT_MSG_PROP:
		return proposal_is_valid(m);
	case RAFT_MSG_APP:
		return append_is_valid(m);
	case RAFT_MSG_APP_RESP:
		return response_is_valid(raft, m);
	case RAFT_MSG_SNAP:
		return snapshot_is_valid(m);
	case RAFT_MSG_READ_INDEX:
	case RAFT_MSG_READ_INDEX_RESP:
		return read_is_valid(m);
	case RAFT_MSG_VOTE:
	case RAFT_MSG_VOTE_RESP:
	case RAFT_MSG_PRE_VOTE:
	case RAFT_MSG_PRE_VOTE_RESP:
	case RAFT_MSG_HEARTBEAT:
	case RAFT_MSG_HEARTBEAT_RESP:
	case RAFT_MSG_TRANSFER_LEADER:
	case RAFT_MSG_TIMEOUT_NOW:
		return true;
	}
	return false;
}

bool message_is_valid(const struct raft *raft, const struct raft_message *m)
{
	bool forwarded = m->type == RAFT_MSG_PROP || m->type == RAFT_MSG_READ_INDEX;

	BUG_ON(!raft->id || raft->term > RAFT_TERM_MAX);
	if (m->to != raft->id || !m->from || m->from == raft->id)
		return false;
	/* What a follower passes on to its leader carries no term; all else does. */
	if (forwarded != (m->term == 0) || m->term > RAFT_TERM_MAX)
		return false;
	if (m->log_term > RAFT_TERM_MAX || m->index > RAFT_INDEX_MAX ||
	    m->commit > RAFT_INDEX_MAX || m->reject_hint > RAFT_INDEX_MAX)
		return false;
	if (m->context && m->context->len > RAFT_CONTEXT_MAX)
		return false;
	return body_is_valid(raft, m);
}
