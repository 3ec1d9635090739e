// SPDX-License-Identifier: Apache-2.0
/* Groups of kvd's cores. */
#include "tests/sim/kvd_sim.h"

#define END_TICKS 100

static void profile(struct sim *s)
{
	struct sim_profile *p = &s->profile;

	p->size = p->pool = MIN(p->size, sim_program.most_nodes);
	p->changes = p->eager = p->lease = false;
	/* What was said to an earlier life of a member comes to a later one. */
	if (sim_draw(s, 2)) {
		p->late = 50 + (uint32_t)sim_draw(s, 200);
		p->late_delay = 1 + sim_draw(s, 3 * SIM_ELECTION_TICKS * SIM_TICK);
	}
	kvd.next_value = 1;
	kvd.next_lease = 1;
	model_reset(&kvd.model);
}

/* Everything once more, when nothing else is under way. */
static void end(struct sim *s)
{
	for (uint64_t id = 1; id <= s->profile.size; id++) {
		struct sim_node *n = &s->node[id];
		struct kvd_op *op;

		if (!n->raft || !s->needed[id])
			continue;
		op = client_op(s, REQUEST_RANGE);
		op->steps[0] = (struct kvd_step){ .kind = KVD_RANGE, .end = KVD_KEYS };
		op->read = check_read_asked(s, n);
		client_ask(s, n, op);
		client_ask(s, n, client_op(s, REQUEST_HASH_KV));
		sim_run_until(s, s->now + END_TICKS * SIM_TICK);
		if (!s->oracle.reads[op->read - 1].answered)
			sim_fail(s, "%d does not answer in the end", (int)id);
		mvcc_check(member_of(n)->store);
		watch_check_end(s, n);
	}
	for (uint64_t id = 1; id < SIM_NODES; id++)
		node_release(&s->node[id]);
	client_compare(s);
	client_release();
}

const struct sim_program sim_program = {
	.name = "kvd_sim",
	.most_nodes = 5,
	.proposals_once = true,
	.part = SIM_KVD,
	.profile = profile,
	.end = end,
};
