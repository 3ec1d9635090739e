// SPDX-License-Identifier: Apache-2.0
/* What clients ask a group of libraft for: entries, and reads. */
#include "tests/sim/sim.h"

bool client_propose(struct sim *s, struct sim_node *n, uint64_t value)
{
	struct blob *b = blob_new(sizeof(value) + sim_draw(s, 40));

	BUG_ON(!b);
	memset(b->data, 'x', b->len);
	memcpy(b->data, &value, sizeof(value));
	return !node_propose(s, n, RAFT_ENTRY_NORMAL, b);
}

/* The id of the read. */
uint64_t client_read(struct sim *s, struct sim_node *n)
{
	struct raft_event ev = { .type = RAFT_READ, .id = check_read_asked(s, n) };

	node_step(s, n, &ev);
	return ev.id;
}

/* One that takes itself for the leader, rightly or not. */
static struct sim_node *draw_leader(struct sim *s)
{
	struct sim_node *n = NULL;

	for (uint64_t i = 0; i < 4 && !(n && n->was.role == RAFT_LEADER); i++)
		n = chaos_draw_up(s);
	return n;
}

void client_turn(struct sim *s)
{
	struct sim_node *n = sim_draw(s, 2) ? chaos_leader(s) : draw_leader(s);

	/* What has piled up by then is enough to work off. */
	if (s->calm)
		return;
	if (n && n->paused_until <= s->now) {
		uint64_t burst = sim_draw(s, 3) ? 1 : 1 + sim_draw(s, 6);

		for (; burst && sim_draw(s, 3); burst--)
			client_propose(s, n, s->next_value++);
		if (burst)
			client_read(s, n);
	}
	sim_at(s, 1 + sim_draw(s, s->profile.client_every),
	       &(struct sim_event){ .kind = SIM_EV_CLIENT });
}
