// SPDX-License-Identifier: Apache-2.0
/*
 * Leadership transfer: thesis 3.10. The leader takes no more proposals, brings the
 * target's log up to date and tells it to stand for election at once. After an election
 * timeout without success it goes on as before (election.c).
 */
#include "libraft/raft_i.h"

static int send_timeout_now(struct raft *raft, struct raft_update *up, uint64_t to)
{
	struct raft_message m = { .type = RAFT_MSG_TIMEOUT_NOW, .to = to, .term = raft->term };

	BUG_ON(raft->role != RAFT_LEADER || to == raft->id);
	BUG_ON(raft->transferee != to);
	/* From now on an election may come about that no lease holds up. */
	raft->reads.lease_given_up = true;
	return raft_send(raft, up, &m);
}

static int leader_transfer(struct raft *raft, struct raft_update *up, uint64_t to)
{
	struct raft_progress *pr = progress_find(raft, to);
	bool sent;

	BUG_ON(raft->role != RAFT_LEADER);
	BUG_ON(pr && pr->match > raft->log.last);
	if (!pr || pr->learner || raft->transferee == to)
		return 0;
	raft->transferee = 0;
	if (to == raft->id)
		return 0;
	raft->election_elapsed = 0;
	raft->transferee = to;
	if (pr->match == raft->log.last)
		return send_timeout_now(raft, up, to);
	return send_append(raft, up, pr, true, &sent);
}

/* Hands leadership to @to; a follower asks its leader to. */
int transfer_leader(struct raft *raft, struct raft_update *up, uint64_t to)
{
	struct raft_message m = {
		.type = RAFT_MSG_TRANSFER_LEADER,
		.to = raft->leader,
		.from = to,
		.term = raft->term,
	};

	BUG_ON(!to);
	BUG_ON((raft->role == RAFT_LEADER) != (raft->leader == raft->id));
	if (raft->role == RAFT_LEADER)
		return leader_transfer(raft, up, to);
	if (raft->role != RAFT_FOLLOWER || !raft->leader || raft->leader == to)
		return RAFT_DROPPED;
	return raft_send(raft, up, &m);
}

/* @pr has acknowledged something: was it what the transfer waited for? */
int transfer_caught_up(struct raft *raft, struct raft_update *up, struct raft_progress *pr)
{
	BUG_ON(pr->match > raft->log.last);
	if (!raft->transferee || pr->id != raft->transferee || pr->match != raft->log.last)
		return 0;
	return send_timeout_now(raft, up, pr->id);
}
