// SPDX-License-Identifier: Apache-2.0
/*
 * Majorities. Groups are small, so counting each member against each other is as
 * fast as sorting, and needs no memory and no limit.
 */
#include "libraft/raft_i.h"

uint64_t quorum_index(struct quorum_ids ids, quorum_acked_fn *acked, const void *arg)
{
	uint64_t best = 0;

	BUG_ON(!acked || (ids.n && !ids.ids));
	if (!ids.n)
		return UINT64_MAX;
	for (size_t i = 0; i < ids.n; i++) {
		uint64_t index = acked(arg, ids.ids[i]);
		size_t n = 0;

		if (index <= best)
			continue;
		for (size_t j = 0; j < ids.n; j++)
			n += acked(arg, ids.ids[j]) >= index;
		BUG_ON(!n || n > ids.n);
		if (n > ids.n / 2)
			best = index;
	}
	return best;
}

enum quorum_result quorum_vote(struct quorum_ids ids, quorum_vote_fn *vote, const void *arg)
{
	size_t granted = 0, rejected = 0, majority = ids.n / 2 + 1;

	BUG_ON(!vote);
	if (!ids.n)
		return QUORUM_WON;
	for (size_t i = 0; i < ids.n; i++) {
		enum raft_vote v = vote(arg, ids.ids[i]);

		granted += v == VOTE_GRANTED;
		rejected += v == VOTE_REJECTED;
	}
	BUG_ON(granted + rejected > ids.n);
	BUG_ON(granted >= majority && ids.n - rejected < majority);
	if (granted >= majority)
		return QUORUM_WON;
	/* Lost when those who may still answer cannot make a majority. */
	return ids.n - rejected >= majority ? QUORUM_PENDING : QUORUM_LOST;
}

/* Thesis 4.3: a joint configuration decides when both of its halves do. */
enum quorum_result quorum_joint(enum quorum_result a, enum quorum_result b)
{
	if (a == b)
		return a;
	if (a == QUORUM_LOST || b == QUORUM_LOST)
		return QUORUM_LOST;
	return QUORUM_PENDING;
}
