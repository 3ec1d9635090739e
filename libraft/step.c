// SPDX-License-Identifier: Apache-2.0
/* One step: which event, which message, which term; the rest is in the other files. */
#include "libraft/raft_i.h"

static bool is_from_leader(enum raft_message_type type)
{
	return type == RAFT_MSG_APP || type == RAFT_MSG_HEARTBEAT || type == RAFT_MSG_SNAP;
}

static bool is_vote_request(enum raft_message_type type)
{
	return type == RAFT_MSG_VOTE || type == RAFT_MSG_PRE_VOTE;
}

/*
 * Thesis 4.2.3: a member that has heard of a leader within the election timeout
 * neither votes nor takes over a higher term, so that a removed or cut off member
 * cannot disturb the others; unless the leader itself wants the election.
 */
static bool sticks_to_leader(const struct raft *raft, const struct raft_message *m)
{
	BUG_ON(m->to != raft->id || m->from == raft->id);
	BUG_ON((raft->role == RAFT_LEADER) != (raft->leader == raft->id));
	if (!is_vote_request(m->type) || m->term < raft->term)
		return false;
	if (m->context && slice_eq(blob_slice(m->context), SLICE_LIT("CampaignTransfer")))
		return false;
	if (owes_lease(raft))
		return true;
	return m->term > raft->term && raft->check_quorum && raft->leader &&
	       raft->election_elapsed < raft->election_ticks;
}

/* Thesis 3.3: a higher term is taken over, except from what only asks about one. */
static void receive_newer(struct raft *raft, const struct raft_message *m)
{
	BUG_ON(m->term <= raft->term || m->term > RAFT_TERM_MAX);
	if (m->type == RAFT_MSG_PRE_VOTE)
		return;
	/* A pre-vote that is granted names the term asked about, not the voter's. */
	if (m->type == RAFT_MSG_PRE_VOTE_RESP && !m->reject)
		return;
	become_follower(raft, m->term, is_from_leader(m->type) ? m->from : 0);
	BUG_ON(raft->term != m->term || raft->vote);
}

/*
 * From an earlier term. A leader that lags is told the term of today: with pre-votes or
 * a checked quorum this member's own campaign would not reach it, and it would never
 * take this member back (etcd #8501). A pre-candidate that lags is told too, or a member with a
 * high term and a short log and one with a low term and a long log could wait for
 * each other for ever (etcd #8243).
 */
static int receive_older(struct raft *raft, struct raft_update *up, const struct raft_message *m)
{
	struct raft_message reply = { .to = m->from, .term = raft->term };

	BUG_ON(!m->term || m->term >= raft->term);
	BUG_ON(m->from == raft->id);
	if ((raft->check_quorum || raft->pre_vote) &&
	    (m->type == RAFT_MSG_HEARTBEAT || m->type == RAFT_MSG_APP)) {
		reply.type = RAFT_MSG_APP_RESP;
		return raft_send(raft, up, &reply);
	}
	if (m->type == RAFT_MSG_PRE_VOTE) {
		reply.type = RAFT_MSG_PRE_VOTE_RESP;
		reply.reject = true;
		return raft_send(raft, up, &reply);
	}
	return 0;
}

static int receive_from_leader(struct raft *raft, struct raft_update *up,
			       const struct raft_message *m)
{
	BUG_ON(m->term != raft->term);
	/* Thesis 3.4, election safety: no term has two leaders. */
	if (raft->role == RAFT_LEADER || (raft->leader && raft->leader != m->from)) {
		raft->messages_rejected++;
		return 0;
	}
	if (raft->role != RAFT_FOLLOWER)
		become_follower(raft, m->term, m->from);
	raft->leader = m->from;
	raft->heard = raft->ticks;
	raft->election_elapsed = 0;
	BUG_ON(raft->role != RAFT_FOLLOWER);
	if (m->type == RAFT_MSG_APP)
		return handle_append(raft, up, m);
	if (m->type == RAFT_MSG_HEARTBEAT)
		return handle_heartbeat(raft, up, m);
	return handle_snapshot(raft, up, m);
}

static int receive_to_leader(struct raft *raft, struct raft_update *up,
			     const struct raft_message *m)
{
	if (raft->role != RAFT_LEADER)
		return 0;
	if (m->type == RAFT_MSG_APP_RESP)
		return handle_append_response(raft, up, m);
	return handle_heartbeat_response(raft, up, m);
}

/* Thesis 6.2: a follower passes what clients propose on to the leader. */
static int forward_proposal(struct raft *raft, struct raft_update *up,
			    const struct raft_entry *entries, size_t n)
{
	struct raft_message m = { .type = RAFT_MSG_PROP, .to = raft->leader, .n_entries = n };
	int ret = entries_copy(entries, n, &m.entries);

	BUG_ON(raft->role != RAFT_FOLLOWER || !raft->leader);
	return ret ? ret : raft_send(raft, up, &m);
}

static int propose(struct raft *raft, struct raft_update *up, const struct raft_entry *entries,
		   size_t n)
{
	BUG_ON(!n || !entries);
	BUG_ON((raft->role == RAFT_LEADER) != (raft->leader == raft->id));
	if (raft->role == RAFT_LEADER)
		return leader_propose(raft, up, entries, n);
	if (raft->role != RAFT_FOLLOWER || !raft->leader)
		return RAFT_DROPPED;
	return forward_proposal(raft, up, entries, n);
}

static int receive_in_term(struct raft *raft, struct raft_update *up,
			   const struct raft_message *m)
{
	BUG_ON(m->term && m->term < raft->term);
	switch (m->type) {
	case RAFT_MSG_VOTE:
	case RAFT_MSG_PRE_VOTE:
		return handle_vote_request(raft, up, m);
	case RAFT_MSG_VOTE_RESP:
	case RAFT_MSG_PRE_VOTE_RESP:
		return handle_vote_response(raft, up, m);
	case RAFT_MSG_APP:
	case RAFT_MSG_HEARTBEAT:
	case RAFT_MSG_SNAP:
		return receive_from_leader(raft, up, m);
	case RAFT_MSG_APP_RESP:
	case RAFT_MSG_HEARTBEAT_RESP:
		return receive_to_leader(raft, up, m);
	case RAFT_MSG_PROP:
		/* One that comes from the leader must not be sent back to it. */
		return raft->leader == m->from ? 0 : propose(raft, up, m->entries, m->n_entries);
	case RAFT_MSG_READ_INDEX:
		return handle_read_index(raft, up, m);
	case RAFT_MSG_READ_INDEX_RESP:
		return handle_read_index_response(raft, up, m);
	case RAFT_MSG_TRANSFER_LEADER:
		return transfer_leader(raft, up, m->from);
	case RAFT_MSG_TIMEOUT_NOW:
		return raft->role == RAFT_FOLLOWER ? raft_hup(raft, up, true) : 0;
	}
	BUG();
}

static int receive(struct raft *raft, struct raft_update *up, const struct raft_message *m)
{
	int ret;

	BUG_ON(!m);
	if (!message_is_valid(raft, m)) {
		raft->messages_rejected++;
		return 0;
	}
	if (sticks_to_leader(raft, m))
		return 0;
	if (m->term > raft->term) {
		receive_newer(raft, m);
	} else if (m->term && m->term < raft->term) {
		return receive_older(raft, up, m);
	}
	BUG_ON((raft->role == RAFT_LEADER) != (raft->leader == raft->id));
	/* Outcomes such as RAFT_DROPPED are for this member's own proposals. */
	ret = receive_in_term(raft, up, m);
	return ret < 0 ? ret : 0;
}

static int stored(struct raft *raft, struct raft_update *up, const struct raft_event *event)
{
	if (!log_stored(&raft->log, event->index, event->term) || raft->role != RAFT_LEADER)
		return 0;
	return leader_stored(raft, up);
}

/* A message to @id was lost: the next ones may be, too, so find out where it stands. */
static void unreachable(struct raft *raft, uint64_t id)
{
	struct raft_progress *pr = progress_find(raft, id);

	if (raft->role != RAFT_LEADER || !pr || id == raft->id)
		return;
	if (pr->state == PROGRESS_REPLICATE)
		progress_become_probe(pr);
}

static int step(struct raft *raft, const struct raft_event *event, struct raft_update *up)
{
	BUG_ON(raft->term > RAFT_TERM_MAX);
	switch (event->type) {
	case RAFT_TICK:
		return raft_tick(raft, up);
	case RAFT_CAMPAIGN:
		return raft_hup(raft, up, false);
	case RAFT_RECEIVE:
		return receive(raft, up, event->message);
	case RAFT_PROPOSE:
		return propose(raft, up, event->entries, event->n_entries);
	case RAFT_READ:
		return raft_read(raft, up, event->id);
	case RAFT_STORED:
		return stored(raft, up, event);
	case RAFT_APPLIED:
		log_applied(&raft->log, event->index);
		return raft_auto_leave(raft, up);
	case RAFT_CONF_APPLIED:
		return raft_conf_applied(raft, up, event);
	case RAFT_COMPACT:
		log_compact(&raft->log, event->index);
		return 0;
	case RAFT_TRANSFER:
		return transfer_leader(raft, up, event->id);
	case RAFT_UNREACHABLE:
		unreachable(raft, event->id);
		return 0;
	case RAFT_SNAPSHOT_SENT:
	case RAFT_SNAPSHOT_FAILED:
		snapshot_reported(raft, event->id, event->type == RAFT_SNAPSHOT_FAILED);
		return 0;
	case RAFT_FORGET_LEADER:
		/* What the leader's lease was promised is not taken back. */
		if (raft->role == RAFT_FOLLOWER && !raft->lease_ticks)
			raft->leader = 0;
		return 0;
	}
	BUG();
}

int raft_step(struct raft *raft, const struct raft_event *event, struct raft_update *up)
{
	const struct raft_log *log = &raft->log;
	int ret, err;

	BUG_ON(!raft || !event || !up);
	ret = step(raft, event, up);
	/* An outcome, and a configuration change that is refused, end a step as usual. */
	if (ret == -ENOMEM)
		return ret;
	BUG_ON((raft->role == RAFT_LEADER) != (raft->leader == raft->id));
	err = update_finish(raft, up);
	BUG_ON(log->base > log->applied || log->applied > log->handed);
	BUG_ON(log->handed > log->commit || log->commit > log->last);
	return err ? err : ret;
}
