// SPDX-License-Identifier: Apache-2.0
/*
 * Three members and every subset of the six directed links between them, from each of
 * them as the leader, and from none. Wherever a quorum is connected both ways there must
 * be a stable leader, with work getting done: pre-votes alone do not suffice for that, nor
 * does a checked quorum alone (the outage at Cloudflare in November 2020).
 */
#include <stdio.h>

#include "tests/sim/sim.h"

#define SETTLE (60 * SIM_ELECTION_TICKS * SIM_TICK)
#define WATCH (100 * SIM_ELECTION_TICKS * SIM_TICK)

static void begin(struct sim *s, uint64_t seed)
{
	sim_begin(s, seed);
	s->profile = (struct sim_profile){
		.size = 3, .pool = 3, .delay = 20, .disk_delay = 20, .apply_delay = 20,
		.late_delay = 1,
	};
	for (uint64_t id = 1; id < SIM_NODES; id++) {
		struct sim_node *n = &s->node[id];

		node_init(s, n, id);
		n->tick = SIM_TICK;
		n->config = (struct raft_config){
			.seed = sim_draw(s, UINT64_MAX),
			.election_ticks = SIM_ELECTION_TICKS,
			.heartbeat_ticks = 1,
			.pre_vote = true,
			.check_quorum = true,
			.max_message_bytes = 1000,
			.max_inflight = 16,
		};
		if (id <= 3)
			node_start(s, n);
	}
}

static bool lead(struct sim *s, uint64_t id)
{
	node_step(s, &s->node[id], &(struct raft_event){ .type = RAFT_CAMPAIGN });
	for (int i = 0; i < 100 && s->node[id].was.role != RAFT_LEADER; i++)
		sim_run_until(s, s->now + SIM_TICK);
	return s->node[id].was.role == RAFT_LEADER;
}

static void cut(struct sim *s, unsigned int up)
{
	for (uint64_t a = 1; a <= 3; a++)
		for (uint64_t b = 1; b <= 3; b++)
			if (a != b) {
				s->down[a][b] = !(up & 1);
				up >>= 1;
			}
}

static bool has_quorum(const struct sim *s)
{
	for (uint64_t a = 1; a <= 3; a++)
		for (uint64_t b = 1; b < a; b++)
			if (!s->down[a][b] && !s->down[b][a])
				return true;
	return false;
}

static uint64_t highest_term(const struct sim *s)
{
	return MAX(s->node[1].was.term, MAX(s->node[2].was.term, s->node[3].was.term));
}

/* One leader all the time, and each tick's proposal committed. */
static bool is_stable(struct sim *s)
{
	struct sim_node *leader = chaos_leader(s);
	uint64_t term = highest_term(s), before = s->oracle.commit, proposed = 0;

	for (uint64_t i = 0; i < WATCH / SIM_TICK; i++) {
		if (!leader || leader->was.role != RAFT_LEADER || highest_term(s) != term)
			return false;
		proposed += client_propose(s, leader, s->next_value++);
		sim_run_until(s, s->now + SIM_TICK);
	}
	return proposed == WATCH / SIM_TICK && s->oracle.commit >= before + proposed - 1;
}

/* @leader 0: the links are down before there is any. */
static bool run_subset(struct sim *s, unsigned int up, uint64_t leader)
{
	bool ok;

	begin(s, up * 4 + leader);
	ok = !leader || lead(s, leader);
	cut(s, up);
	if (ok && has_quorum(s)) {
		sim_run_until(s, s->now + SETTLE);
		ok = is_stable(s);
	}
	if (!ok)
		printf("links %02x, first leader %d: no stable leader\n", up, (int)leader);
	sim_end(s);
	return ok;
}

size_t links_run(struct sim *s)
{
	size_t failed = 0;

	for (unsigned int up = 0; up < 64; up++) {
		bool ok = true;

		for (uint64_t leader = 0; leader <= 3; leader++)
			ok = run_subset(s, up, leader) && ok;
		failed += !ok;
	}
	printf("%zu passed, %zu failed\n", 64 - failed, failed);
	return failed;
}
