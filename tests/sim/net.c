// SPDX-License-Identifier: Apache-2.0
/* The simulated network: it loses, repeats, reorders and delays. */
#include "tests/sim/sim.h"

void message_free(struct raft_message *m)
{
	raft_messages_free(m, 1);
}

/* A message that shares the payloads of @m. */
static struct raft_message *message_copy(const struct raft_message *m)
{
	struct raft_message *copy = sim_alloc(NULL, 1, sizeof(*copy));

	*copy = *m;
	if (m->context)
		blob_get(m->context);
	if (m->n_entries) {
		copy->entries = sim_alloc(NULL, m->n_entries, sizeof(*m->entries));
		memcpy(copy->entries, m->entries, m->n_entries * sizeof(*m->entries));
	}
	for (size_t i = 0; i < m->n_entries; i++)
		if (m->entries[i].payload)
			blob_get(m->entries[i].payload);
	if (m->snapshot) {
		copy->snapshot = sim_alloc(NULL, 1, sizeof(*m->snapshot));
		*copy->snapshot = (struct raft_snapshot_meta){ m->snapshot->index,
							      m->snapshot->term, { 0 } };
		conf_copy_to(&m->snapshot->conf, &copy->snapshot->conf);
	}
	return copy;
}

static void report(struct sim *s, const struct raft_message *m, enum raft_event_type type)
{
	struct sim_event ev = {
		.kind = SIM_EV_REPORT, .node = m->from, .report = type, .peer = m->to,
	};

	sim_at(s, 1 + sim_draw(s, s->profile.delay), &ev);
}

static void lose(struct sim *s, struct raft_message *m)
{
	char text[400];

	if (s->tracing) {
		raft_message_to_text(m, text, sizeof(text));
		sim_trace(s, "lost: %s", text);
	}
	s->count[SIM_LOSS]++;
	/* Of a snapshot its sender always learns what became of it. */
	if (m->type == RAFT_MSG_SNAP) {
		s->count[SIM_SNAPSHOT_LOST]++;
		report(s, m, RAFT_SNAPSHOT_FAILED);
	} else if (sim_chance(s, 250)) {
		report(s, m, RAFT_UNREACHABLE);
	}
	message_free(m);
}

static void put_under_way(struct sim *s, struct raft_message *m)
{
	struct sim_event ev = { .kind = SIM_EV_MESSAGE, .node = m->to, .message = m };
	uint64_t delay = 1 + sim_draw(s, s->profile.delay);

	if (!s->calm && sim_chance(s, s->profile.late)) {
		s->count[delay < s->profile.late_delay ? SIM_REORDER : SIM_LATE]++;
		delay += sim_draw(s, s->profile.late_delay);
		if (delay > SIM_ELECTION_TICKS * SIM_TICK)
			s->count[SIM_LATE]++;
	}
	sim_at(s, delay, &ev);
}

/* Takes what the messages own, but not the array. */
void net_send(struct sim *s, struct raft_message *messages, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct raft_message *m = sim_alloc(NULL, 1, sizeof(*m));

		*m = messages[i];
		messages[i] = (struct raft_message){ 0 };
		check_send(s, m);
		if (!s->calm && sim_chance(s, s->profile.loss)) {
			lose(s, m);
			continue;
		}
		if (!s->calm && sim_chance(s, s->profile.duplicate) &&
		    !(m->type == RAFT_MSG_PROP && sim_program.proposals_once)) {
			s->count[SIM_DUPLICATE]++;
			put_under_way(s, message_copy(m));
		}
		put_under_way(s, m);
	}
}

void net_arrive(struct sim *s, struct raft_message *m)
{
	struct sim_node *n = &s->node[m->to];
	struct raft_event ev = { .type = RAFT_RECEIVE, .message = m };
	char text[400];

	if (!n->raft || s->down[m->from][m->to]) {
		lose(s, m);
		return;
	}
	if (s->tracing) {
		raft_message_to_text(m, text, sizeof(text));
		sim_trace(s, "%s", text);
	}
	sim_mix(s, m->from ^ m->term << 8 ^ m->index << 24 ^ (uint64_t)m->type << 48);
	if (node_step(s, n, &ev) < 0)
		sim_fail(s, "%d refuses a message", (int)n->id);
	if (m->type == RAFT_MSG_SNAP)
		report(s, m, RAFT_SNAPSHOT_SENT);
	message_free(m);
}
