// SPDX-License-Identifier: Apache-2.0
/* Time in the simulator: a heap of events, of which the next is always the earliest. */
#include "tests/sim/sim.h"

void *sim_alloc(void *old, size_t n, size_t size)
{
	void *p = realloc(old, (n ? n : 1) * size);

	BUG_ON(!p);
	return p;
}

/* Releases what @to was. */
void conf_copy_to(const struct raft_conf_state *from, struct raft_conf_state *to)
{
	struct raft_conf_state c = *from;

#define COPY(ids) do {								\
		c.ids = sim_alloc(NULL, c.n_##ids, sizeof(*c.ids));		\
		if (c.n_##ids)							\
			memcpy(c.ids, from->ids, c.n_##ids * sizeof(*c.ids));	\
	} while (0)
	COPY(voters);
	COPY(learners);
	COPY(voters_outgoing);
	COPY(learners_next);
#undef COPY
	raft_conf_state_release(to);
	*to = c;
}

void sim_mix(struct sim *s, uint64_t v)
{
	s->hash = (s->hash ^ v) * 0x9e3779b97f4a7c15;
	s->hash ^= s->hash >> 29;
}

/* The next of a splitmix64 sequence, below @n. */
uint64_t sim_draw(struct sim *s, uint64_t n)
{
	uint64_t z = s->random += 0x9e3779b97f4a7c15;

	BUG_ON(!n);
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return ((z ^ z >> 31) >> 11) % n;
}

bool sim_chance(struct sim *s, uint32_t per_thousand)
{
	return sim_draw(s, 1000) < per_thousand;
}

uint64_t sim_digest(const struct raft_entry *e)
{
	uint64_t h = 0xcbf29ce484222325 ^ (uint64_t)e->type;

	for (size_t i = 0; e->payload && i < e->payload->len; i++)
		h = (h ^ e->payload->data[i]) * 0x100000001b3;
	return h;
}

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
	return a->time != b->time ? a->time < b->time : a->order < b->order;
}

static void push(struct sim *s, const struct sim_event *ev)
{
	size_t i = s->n_events++;

	if (s->n_events > s->cap_events) {
		s->cap_events = s->cap_events ? s->cap_events * 2 : 256;
		s->events = sim_alloc(s->events, s->cap_events, sizeof(*s->events));
	}
	for (; i && is_before(ev, &s->events[(i - 1) / 2]); i = (i - 1) / 2)
		s->events[i] = s->events[(i - 1) / 2];
	s->events[i] = *ev;
}

static struct sim_event pop(struct sim *s)
{
	struct sim_event first = s->events[0], last = s->events[--s->n_events];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < s->n_events) {
		if (child + 1 < s->n_events &&
		    is_before(&s->events[child + 1], &s->events[child]))
			child++;
		if (!is_before(&s->events[child], &last))
			break;
		s->events[i] = s->events[child];
		i = child;
	}
	s->events[i] = last;
	return first;
}

void sim_at(struct sim *s, uint64_t delay, const struct sim_event *event)
{
	struct sim_event ev = *event;

	ev.time = s->now + delay;
	ev.order = s->order++;
	ev.life = s->node[ev.node].life;
	push(s, &ev);
}

void sim_node_at(struct sim *s, struct sim_node *n, enum sim_kind kind, uint64_t delay)
{
	sim_at(s, delay, &(struct sim_event){ .kind = kind, .node = n->id });
}

void sim_wake(struct sim *s, struct sim_node *n)
{
	if (n->turn_comes)
		return;
	n->turn_comes = true;
	sim_node_at(s, n, SIM_EV_TURN, sim_draw(s, 4) ? 0 : sim_draw(s, SIM_TICK / 2));
}

void sim_restart_later(struct sim *s, uint64_t id)
{
	sim_node_at(s, &s->node[id], SIM_EV_RESTART, sim_draw(s, 40 * SIM_TICK));
}

static void to_running(struct sim *s, struct sim_node *n, const struct sim_event *ev)
{
	switch (ev->kind) {
	case SIM_EV_TICK:
		sim_node_at(s, n, SIM_EV_TICK, n->tick);
		if (n->stopped_until <= s->now)
			node_step(s, n, &(struct raft_event){ .type = RAFT_TICK });
		return;
	case SIM_EV_REPORT:
		node_step(s, n, &(struct raft_event){ .type = ev->report, .id = ev->peer });
		return;
	case SIM_EV_DISK:
		disk_event(s, n);
		return;
	default:
		node_event(s, n, ev->kind);
	}
}

static void to_node(struct sim *s, struct sim_event *ev)
{
	struct sim_node *n = &s->node[ev->node];

	if (ev->kind != SIM_EV_MESSAGE && ev->life != n->life)
		return;
	/* A process that is stopped finds everything waiting when it goes on. */
	if (n->raft && n->paused_until > s->now) {
		ev->time = n->paused_until;
		ev->order = s->order++;
		push(s, ev);
		return;
	}
	sim_mix(s, ev->node << 8 | (uint64_t)ev->kind);
	if (ev->kind == SIM_EV_MESSAGE)
		net_arrive(s, ev->message);
	else if (ev->kind == SIM_EV_RESTART)
		node_start(s, n);
	else if (n->raft)
		to_running(s, n, ev);
}

/* Carries out the next event; false: there is none. */
bool sim_next(struct sim *s)
{
	struct sim_event ev;

	if (!s->n_events)
		return false;
	ev = pop(s);
	s->now = MAX(s->now, ev.time);
	s->steps++;
	sim_mix(s, s->now);
	if (ev.kind == SIM_EV_CLIENT)
		client_turn(s);
	else if (ev.kind == SIM_EV_CHAOS)
		chaos_strike(s);
	else
		to_node(s, &ev);
	return true;
}

void sim_run_until(struct sim *s, uint64_t time)
{
	while (s->n_events && s->events[0].time <= time)
		sim_next(s);
	s->now = time;
}

/* Everything but what is counted over all seeds begins anew. */
void sim_begin(struct sim *s, uint64_t seed)
{
	s->seed = seed;
	s->random = seed * 0xd1342543de82ef95 + 1;
	s->now = s->order = s->n_events = 0;
	s->hash = seed;
	s->next_value = 1;
	s->calm = false;
	s->probe_value = 0;
	memset(s->needed, 0, sizeof(s->needed));
	memset(s->down, 0, sizeof(s->down));
	check_begin(s);
}

void sim_end(struct sim *s)
{
	for (size_t i = 0; i < s->n_events; i++)
		if (s->events[i].message)
			message_free(s->events[i].message);
	s->n_events = 0;
	s->simulated += s->now;
	for (uint64_t id = 1; id < SIM_NODES; id++)
		node_release(&s->node[id]);
}
