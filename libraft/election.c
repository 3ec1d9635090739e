// SPDX-License-Identifier: Apache-2.0
/*
 * Leader election: thesis 3.4, with the pre-vote of 9.6 and the checked quorum of 6.2.
 *
 * The vote a candidate gives itself counts at once although it is not yet durable.
 * That is sound because its requests for votes wait for the disk: whatever answer
 * arrives proves that the own vote is stored. A voter that decides alone gets no
 * answer; what it sends as a leader waits for its first entry instead (update.c).
 */
#include "libraft/raft_i.h"

static const char campaign_transfer[] = "CampaignTransfer";

/* Allowed changes of role: [from] has the bit of each to. */
static const uint8_t role_edges[] = {
	[RAFT_FOLLOWER] = 1 << RAFT_FOLLOWER | 1 << RAFT_PRE_CANDIDATE | 1 << RAFT_CANDIDATE,
	[RAFT_PRE_CANDIDATE] = 1 << RAFT_FOLLOWER | 1 << RAFT_PRE_CANDIDATE |
			       1 << RAFT_CANDIDATE,
	[RAFT_CANDIDATE] = 1 << RAFT_FOLLOWER | 1 << RAFT_PRE_CANDIDATE | 1 << RAFT_CANDIDATE |
			   1 << RAFT_LEADER,
	[RAFT_LEADER] = 1 << RAFT_FOLLOWER,
};

static void become(struct raft *raft, enum raft_role role)
{
	BUG_ON((size_t)raft->role >= ARRAY_SIZE(role_edges));
	BUG_ON(!(role_edges[raft->role] & 1 << role));
	raft->role = role;
}

/* The next of a splitmix64 sequence, within election_ticks .. 2 * election_ticks - 1. */
uint32_t election_timeout_draw(struct raft *raft)
{
	uint64_t z = raft->random += 0x9e3779b97f4a7c15;

	BUG_ON(!raft->election_ticks);
	BUG_ON(raft->election_ticks > UINT32_MAX / 4);
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	z ^= z >> 31;
	return raft->election_ticks + (uint32_t)(z % raft->election_ticks);
}

static void reset_votes(struct raft *raft)
{
	for (size_t i = 0; i < raft->n_progress; i++)
		raft->progress[i].vote = VOTE_NONE;
}

static void reset(struct raft *raft, uint64_t term)
{
	BUG_ON(term < raft->term);
	if (raft->term != term) {
		raft->term = term;
		raft->vote = 0;
	}
	raft->leader = 0;
	raft->election_elapsed = 0;
	raft->heartbeat_elapsed = 0;
	raft->election_timeout = election_timeout_draw(raft);
	raft->transferee = 0;
	raft->pending_conf = 0;
	raft->no_change_to = 0;
	raft->uncommitted_bytes = 0;
	raft->term_start = 0;
	raft->elected_alone = false;
	reads_reset(&raft->reads);
	reset_votes(raft);
	BUG_ON(raft->reads.n || raft->reads.lease_end);
}

void become_follower(struct raft *raft, uint64_t term, uint64_t leader)
{
	BUG_ON(leader == raft->id || term > RAFT_TERM_MAX);
	become(raft, RAFT_FOLLOWER);
	reset(raft, term);
	BUG_ON(raft->transferee || raft->term_start);
	raft->leader = leader;
}

/* Thesis 9.6: a pre-candidate changes neither its term nor its vote. It knows no leader,
 * and the votes of an earlier attempt are not for this one (raft-rs #83, #84). */
static void become_pre_candidate(struct raft *raft)
{
	become(raft, RAFT_PRE_CANDIDATE);
	reset_votes(raft);
	raft->leader = 0;
}

static void become_candidate(struct raft *raft)
{
	BUG_ON(raft->term >= RAFT_TERM_MAX);
	become(raft, RAFT_CANDIDATE);
	reset(raft, raft->term + 1);
	BUG_ON(raft->vote);
	raft->vote = raft->id;
}

/*
 * Thesis 3.4, 6.4: a new leader appends an empty entry, since only entries of its own
 * term can be committed by counting. No change of the configuration is taken up while
 * an earlier one may be in the log and not applied. One that is taken up stands after
 * the empty entry, and takes effect when it is applied, so that the leader has always
 * committed an entry of its term first, which the thesis' changes of one member lacked
 * (Ongaro, raft-dev, July 2015).
 */
static int become_leader(struct raft *raft, struct raft_update *up)
{
	struct raft_progress *own = progress_find(raft, raft->id);
	int ret;

	BUG_ON(!own || raft->vote != raft->id);
	become(raft, RAFT_LEADER);
	reset(raft, raft->term);
	raft->leader = raft->id;
	for (size_t i = 0; i < raft->n_progress; i++)
		progress_reset(&raft->progress[i], raft->log.last);
	progress_become_replicate(own);
	own->match = raft->log.stored;
	own->next = own->match + 1;
	own->recent_active = true;
	raft->elected_alone = conf_is_singleton(&raft->conf, raft->id);
	raft->term_start = raft->log.last + 1;
	raft->pending_conf = raft->log.last;
	ret = leader_append_empty(raft, up, RAFT_ENTRY_NORMAL);
	BUG_ON(!ret && raft->log.last != raft->term_start);
	return ret ? ret : broadcast_append(raft, up, true);
}

bool raft_is_promotable(const struct raft *raft)
{
	return conf_is_voter(&raft->conf, raft->id) && !raft->log.snapshot;
}

/*
 * Thesis 6.4.1: a leader may count on this member not to help elect another. Who that
 * leader is does not matter, nor what has been heard since; and after a restart it may be
 * one whose heartbeat was answered just before.
 */
bool owes_lease(const struct raft *raft)
{
	BUG_ON(raft->heard > raft->ticks);
	return raft->lease_ticks && raft->ticks - raft->heard < raft->election_ticks;
}

/* Thesis 4.2.2: a configuration that is committed but not applied must come first. */
static bool has_unapplied_conf_change(const struct raft *raft)
{
	for (uint64_t i = raft->log.applied + 1; i <= raft->log.commit; i++)
		if (log_entry(&raft->log, i)->type != RAFT_ENTRY_NORMAL)
			return true;
	return false;
}

static enum raft_vote vote_of(const void *arg, uint64_t id)
{
	const struct raft_progress *pr = progress_find(arg, id);

	BUG_ON(!pr);
	return pr->vote;
}

static int request_vote(struct raft *raft, struct raft_update *up, uint64_t to, bool transfer)
{
	struct raft_message m = {
		.type = raft->role == RAFT_CANDIDATE ? RAFT_MSG_VOTE : RAFT_MSG_PRE_VOTE,
		.to = to,
		.term = raft->role == RAFT_CANDIDATE ? raft->term : raft->term + 1,
		.index = raft->log.last,
		.log_term = log_last_term(&raft->log),
	};

	BUG_ON(raft->role != RAFT_PRE_CANDIDATE && raft->role != RAFT_CANDIDATE);
	BUG_ON(to == raft->id || m.term > RAFT_TERM_MAX);
	if (transfer) {
		m.context = blob_copy(slice_str(campaign_transfer));
		if (!m.context)
			return -ENOMEM;
	}
	return raft_send(raft, up, &m);
}

static int count_votes(struct raft *raft, struct raft_update *up);

static int campaign(struct raft *raft, struct raft_update *up, bool pre, bool transfer)
{
	struct raft_progress *own;
	int ret;

	BUG_ON(raft->role == RAFT_LEADER);
	if (raft->term >= RAFT_TERM_MAX)
		return 0;
	if (pre)
		become_pre_candidate(raft);
	else
		become_candidate(raft);
	own = progress_find(raft, raft->id);
	BUG_ON(!own);
	own->vote = VOTE_GRANTED;
	for (size_t i = 0; i < raft->n_progress; i++) {
		uint64_t id = raft->progress[i].id;

		if (id == raft->id || !conf_is_voter(&raft->conf, id))
			continue;
		ret = request_vote(raft, up, id, transfer);
		if (ret)
			return ret;
	}
	return count_votes(raft, up);
}

static int count_votes(struct raft *raft, struct raft_update *up)
{
	BUG_ON(raft->role != RAFT_PRE_CANDIDATE && raft->role != RAFT_CANDIDATE);
	BUG_ON(raft->role == RAFT_CANDIDATE && raft->vote != raft->id);
	switch (raft_quorum_vote(raft, vote_of)) {
	case QUORUM_WON:
		if (raft->role == RAFT_PRE_CANDIDATE)
			return campaign(raft, up, false, false);
		return become_leader(raft, up);
	case QUORUM_LOST:
		become_follower(raft, raft->term, 0);
		return 0;
	case QUORUM_PENDING:
		return 0;
	}
	BUG();
}

/* Stands for election, unless that is pointless. */
int raft_hup(struct raft *raft, struct raft_update *up, bool transfer)
{
	BUG_ON(raft->term > RAFT_TERM_MAX);
	BUG_ON(transfer && raft->role != RAFT_FOLLOWER);
	if (raft->role == RAFT_LEADER || !raft_is_promotable(raft))
		return 0;
	if (has_unapplied_conf_change(raft))
		return 0;
	/* Its own vote would be the one that it owes to the leader's lease. */
	if (owes_lease(raft) && !transfer && !conf_is_singleton(&raft->conf, raft->id))
		return 0;
	/* Thesis 3.10: a leadership transfer needs no pre-vote, nothing was cut off. */
	return campaign(raft, up, raft->pre_vote && !transfer, transfer);
}

static enum raft_vote active_of(const void *arg, uint64_t id)
{
	const struct raft *raft = arg;
	const struct raft_progress *pr = progress_find(raft, id);

	BUG_ON(!pr);
	return id == raft->id || pr->recent_active ? VOTE_GRANTED : VOTE_REJECTED;
}

/* Thesis 6.2: a leader that has not heard of a majority for an election timeout. */
static void check_quorum(struct raft *raft)
{
	BUG_ON(raft->role != RAFT_LEADER);
	if (raft_quorum_vote(raft, active_of) != QUORUM_WON)
		become_follower(raft, raft->term, 0);
	BUG_ON(raft->role != RAFT_LEADER && raft->reads.n);
	for (size_t i = 0; i < raft->n_progress; i++)
		if (raft->progress[i].id != raft->id)
			raft->progress[i].recent_active = false;
}

static int tick_leader(struct raft *raft, struct raft_update *up)
{
	BUG_ON(raft->role != RAFT_LEADER);
	BUG_ON(raft->heartbeat_elapsed >= raft->heartbeat_ticks);
	raft->heartbeat_elapsed++;
	if (++raft->election_elapsed >= raft->election_ticks) {
		raft->election_elapsed = 0;
		if (raft->check_quorum)
			check_quorum(raft);
		/* Thesis 3.10: a transfer that takes this long has failed. */
		raft->transferee = 0;
	}
	if (raft->role != RAFT_LEADER || raft->heartbeat_elapsed < raft->heartbeat_ticks)
		return 0;
	raft->heartbeat_elapsed = 0;
	return leader_heartbeat(raft, up);
}

int raft_tick(struct raft *raft, struct raft_update *up)
{
	BUG_ON(raft->election_timeout < raft->election_ticks);
	raft->ticks++;
	BUG_ON(raft->heard > raft->ticks);
	if (raft->role == RAFT_LEADER)
		return tick_leader(raft, up);
	/* It stops at the timeout while this member may not campaign. */
	if (raft->election_elapsed < raft->election_timeout)
		raft->election_elapsed++;
	if (raft->election_elapsed < raft->election_timeout || !raft_is_promotable(raft))
		return 0;
	raft->election_elapsed = 0;
	return raft_hup(raft, up, false);
}

/*
 * Thesis 3.4: at most one vote in a term, first come first served; 3.6.1: only for a
 * log that is at least as up to date. Learners vote as well: one that was promoted may
 * not know of it yet, and its vote may be needed to tell it.
 */
int handle_vote_request(struct raft *raft, struct raft_update *up, const struct raft_message *m)
{
	bool pre = m->type == RAFT_MSG_PRE_VOTE;
	bool can_vote = raft->vote == m->from || (!raft->vote && !raft->leader) ||
			(pre && m->term > raft->term);
	bool granted = can_vote && log_up_to_date(&raft->log, m->index, m->log_term);
	struct raft_message reply = {
		.type = pre ? RAFT_MSG_PRE_VOTE_RESP : RAFT_MSG_VOTE_RESP,
		.to = m->from,
		.reject = !granted,
		/* Of a pre-vote granted: the term asked about, or a member whose own term
		 * lags would have its answer dropped as old. */
		.term = granted ? m->term : raft->term,
	};

	BUG_ON(!pre && m->term != raft->term);
	/* See learn_commit(). */
	if (!granted && !conf_is_voter(&raft->conf, raft->id) && raft->log.commit) {
		reply.index = raft->log.commit;
		BUG_ON(!log_term(&raft->log, reply.index, &reply.log_term));
	}
	BUG_ON(granted && raft->vote && raft->vote != m->from && m->term == raft->term);
	if (granted && !pre) {
		BUG_ON(raft->role == RAFT_LEADER || raft->role == RAFT_CANDIDATE);
		raft->election_elapsed = 0;
		raft->vote = m->from;
	}
	return raft_send(raft, up, &reply);
}

/*
 * A candidate may still need the votes of members that are voters no more, since its
 * configuration is the one it has applied; and those may refuse, because they have
 * entries that it lacks, and stand for nothing themselves. So that the group does not
 * wait for ever, such a refusal says what is committed: if the candidate has that
 * entry, it has everything before it as well (thesis 3.5, log matching), and with it
 * the configuration that makes the refusal irrelevant; it is a candidate again once
 * that is applied. raftpb leaves these fields of a vote's response unused; etcd's
 * members ignore them.
 */
static void learn_commit(struct raft *raft, const struct raft_message *m)
{
	if (!m->reject || raft->role == RAFT_LEADER || m->index <= raft->log.commit)
		return;
	if (!log_matches(&raft->log, m->index, m->log_term))
		return;
	raft_commit_to(raft, m->index);
	if (raft->role != RAFT_FOLLOWER)
		become_follower(raft, raft->term, 0);
	BUG_ON(raft->log.commit > raft->log.last);
	BUG_ON(raft->log.commit < m->index || raft->role != RAFT_FOLLOWER);
}

/*
 * The other way round: the one who refuses has a longer log but knows of less that is
 * committed, and may be a voter, and electable, once it knows more. It takes a refusal
 * of its own as above.
 */
static int teach_commit(struct raft *raft, struct raft_update *up, const struct raft_message *m)
{
	struct raft_message reply = {
		.type = m->type,
		.to = m->from,
		.term = raft->term,
		.index = raft->log.commit,
		.reject = true,
	};

	if (!m->reject || !m->index || m->index >= raft->log.commit)
		return 0;
	BUG_ON(m->term > raft->term);
	BUG_ON(!log_term(&raft->log, reply.index, &reply.log_term));
	return raft_send(raft, up, &reply);
}

int handle_vote_response(struct raft *raft, struct raft_update *up,
			 const struct raft_message *m)
{
	struct raft_progress *pr = progress_find(raft, m->from);
	bool pre = m->type == RAFT_MSG_PRE_VOTE_RESP;
	int ret;

	BUG_ON(m->term < raft->term || m->from == raft->id);
	BUG_ON(!pre && m->term != raft->term);
	learn_commit(raft, m);
	ret = teach_commit(raft, up, m);
	if (ret)
		return ret;
	if (raft->role != (pre ? RAFT_PRE_CANDIDATE : RAFT_CANDIDATE) || !pr)
		return 0;
	/* A grant must be about the term this member asked for now. */
	if (pre && !m->reject && m->term != raft->term + 1)
		return 0;
	if (pr->vote == VOTE_NONE)
		pr->vote = m->reject ? VOTE_REJECTED : VOTE_GRANTED;
	return count_votes(raft, up);
}
