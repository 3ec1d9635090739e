// SPDX-License-Identifier: Apache-2.0
/* Log replication, the follower's side: thesis 3.5. */
#include "libraft/raft_i.h"

static int reply_append(struct raft *raft, struct raft_update *up, uint64_t to, uint64_t index)
{
	struct raft_message m = {
		.type = RAFT_MSG_APP_RESP,
		.to = to,
		.term = raft->term,
		.index = index,
	};

	BUG_ON(raft->role != RAFT_FOLLOWER);
	BUG_ON(index > raft->log.last);
	return raft_send(raft, up, &m);
}

/*
 * Thesis 3.5: the logs do not meet at m->index. The hint is where they may: the last
 * entry here with a term not above that of the leader's entry; everything after it
 * cannot be in the leader's log.
 */
static int reply_reject(struct raft *raft, struct raft_update *up, const struct raft_message *m)
{
	struct raft_message reply = {
		.type = RAFT_MSG_APP_RESP,
		.to = m->from,
		.term = raft->term,
		.index = m->index,
		.reject = true,
	};

	BUG_ON(m->index < raft->log.commit);
	reply.reject_hint = log_find_conflict(&raft->log, MIN(m->index, raft->log.last),
					      m->log_term, &reply.log_term);
	BUG_ON(reply.reject_hint > m->index || reply.reject_hint > raft->log.last);
	return raft_send(raft, up, &reply);
}

/* Skips what the log already holds: a delayed message must not cut off its tail. */
static size_t entries_known(const struct raft *raft, const struct raft_message *m)
{
	size_t i = 0;

	BUG_ON(m->n_entries && !m->entries);
	while (i < m->n_entries &&
	       log_matches(&raft->log, m->entries[i].index, m->entries[i].term))
		i++;
	BUG_ON(i < m->n_entries && m->entries[i].index <= raft->log.commit);
	return i;
}

int handle_append(struct raft *raft, struct raft_update *up, const struct raft_message *m)
{
	uint64_t last = m->index + m->n_entries;
	bool changes = false;
	size_t known;
	int ret;

	BUG_ON(raft->role != RAFT_FOLLOWER || m->term != raft->term);
	BUG_ON(raft->leader != m->from);
	if (m->index < raft->log.commit)
		return reply_append(raft, up, m->from, raft->log.commit);
	if (!log_matches(&raft->log, m->index, m->log_term))
		return reply_reject(raft, up, m);
	known = entries_known(raft, m);
	if (known < m->n_entries) {
		ret = log_begin(&raft->log, up, m->entries[known].index, m->n_entries - known);
		if (ret)
			return ret;
		for (size_t i = known; i < m->n_entries; i++) {
			log_push(&raft->log, up, &m->entries[i]);
			changes = changes || m->entries[i].type != RAFT_ENTRY_NORMAL;
		}
	}
	if (changes)
		raft_commit_changes(raft);
	BUG_ON(raft->log.last < last);
	raft_commit_to(raft, MIN(m->commit, last));
	BUG_ON(m->n_entries && !log_matches(&raft->log, last, m->entries[m->n_entries - 1].term));
	return reply_append(raft, up, m->from, last);
}

/*
 * A leader tells a commit index that this member has acknowledged in the leader's
 * term. One beyond the log means that acknowledged entries were lost: it is not
 * answered, so that a member without them is not counted.
 */
int handle_heartbeat(struct raft *raft, struct raft_update *up, const struct raft_message *m)
{
	struct raft_message reply = {
		.type = RAFT_MSG_HEARTBEAT_RESP,
		.to = m->from,
		.term = raft->term,
	};

	BUG_ON(raft->role != RAFT_FOLLOWER || m->term != raft->term);
	BUG_ON(raft->leader != m->from);
	if (m->commit > raft->log.last) {
		raft->messages_rejected++;
		return 0;
	}
	raft_commit_to(raft, m->commit);
	if (m->context)
		reply.context = blob_get(m->context);
	return raft_send(raft, up, &reply);
}
