// SPDX-License-Identifier: Apache-2.0
/*
 * What strikes a group and what its operators ask for, all drawn from the seed.
 */
#include "tests/sim/conf_wire.h"
#include "tests/sim/sim.h"

struct sim_node *chaos_draw_up(struct sim *s)
{
	struct sim_node *n = &s->node[1 + sim_draw(s, s->profile.pool)];

	return n->raft && n->paused_until <= s->now ? n : NULL;
}

/* The leader of the highest term among those that are up. */
struct sim_node *chaos_leader(struct sim *s)
{
	struct sim_node *leader = NULL;

	for (uint64_t id = 1; id <= s->profile.pool; id++) {
		struct sim_node *n = &s->node[id];

		if (n->raft && n->was.role == RAFT_LEADER &&
		    (!s->calm || s->needed[id]) &&
		    (!leader || n->was.term > leader->was.term))
			leader = n;
	}
	return leader;
}

/* --- faults ---------------------------------------------------------------------------- */

static void strike_crash(struct sim *s)
{
	struct sim_node *n = sim_draw(s, 3) ? chaos_draw_up(s) : chaos_leader(s);

	if (!n)
		return;
	disk_crash(s, n);
	sim_restart_later(s, n->id);
}

static void strike_crash_all(struct sim *s)
{
	s->count[SIM_CRASH_ALL]++;
	for (uint64_t id = 1; id <= s->profile.pool; id++) {
		if (!s->node[id].raft)
			continue;
		disk_crash(s, &s->node[id]);
		sim_restart_later(s, id);
	}
}

/* All but the leader are gone for a moment; whom it is cut off from, none hears. */
static void strike_crash_followers(struct sim *s)
{
	struct sim_node *leader = chaos_leader(s);

	if (!leader)
		return;
	for (uint64_t id = 1; id <= s->profile.pool; id++) {
		if (id == leader->id)
			continue;
		if (s->node[id].raft)
			disk_crash(s, &s->node[id]);
		sim_at(s, sim_draw(s, 3 * SIM_TICK),
		       &(struct sim_event){ .kind = SIM_EV_RESTART, .node = id });
		s->down[leader->id][id] = s->down[id][leader->id] = sim_draw(s, 2);
	}
}

static void strike_pause(struct sim *s)
{
	struct sim_node *n = sim_draw(s, 2) ? chaos_draw_up(s) : chaos_leader(s);

	if (!n)
		return;
	s->count[SIM_PAUSE]++;
	n->paused_until = s->now + sim_draw(s, 5 * SIM_ELECTION_TICKS * SIM_TICK);
	sim_trace(s, "%d is stopped until %d", (int)n->id, (int)n->paused_until);
}

/* Whoever keeps time sees much of it pass at once. */
static void strike_leap(struct sim *s)
{
	struct sim_node *n = sim_draw(s, 2) ? chaos_draw_up(s) : chaos_leader(s);
	uint64_t ticks = 1 + sim_draw(s, 3 * SIM_ELECTION_TICKS);

	if (!n || n->paused_until > s->now)
		return;
	s->count[SIM_CLOCK_LEAP]++;
	sim_trace(s, "the clock of %d leaps %d ticks", (int)n->id, (int)ticks);
	node_leap(s, n, ticks);
}

/* It was set back: nothing ticks until it has caught up, but messages come and go. */
static void strike_stop(struct sim *s)
{
	struct sim_node *n = sim_draw(s, 2) ? chaos_draw_up(s) : chaos_leader(s);

	if (!n)
		return;
	s->count[SIM_CLOCK_STOP]++;
	n->stopped_until = s->now + sim_draw(s, 5 * SIM_ELECTION_TICKS * SIM_TICK);
	sim_trace(s, "the clock of %d stops until %d", (int)n->id, (int)n->stopped_until);
}

static void cut_both(struct sim *s, uint64_t a, uint64_t b)
{
	s->down[a][b] = s->down[b][a] = a != b;
}

static void heal(struct sim *s)
{
	memset(s->down, 0, sizeof(s->down));
	sim_trace(s, "all links are up");
}

static void strike_one_way(struct sim *s)
{
	uint64_t a = 1 + sim_draw(s, s->profile.pool), b = 1 + sim_draw(s, s->profile.pool);

	s->count[SIM_ONE_WAY]++;
	s->down[a][b] = a != b;
	sim_trace(s, "link %d->%d is down", (int)a, (int)b);
}

/* Any subset of all links. */
static void strike_links(struct sim *s)
{
	uint32_t share = (uint32_t)sim_draw(s, 1000);

	s->count[SIM_LINKS]++;
	sim_trace(s, "%d of 1000 links are down", (int)share);
	for (uint64_t a = 1; a <= s->profile.pool; a++)
		for (uint64_t b = 1; b <= s->profile.pool; b++)
			s->down[a][b] = a != b && sim_chance(s, share);
}

/* One hears nothing, or is not heard, or both. */
static void strike_isolate(struct sim *s)
{
	struct sim_node *leader = chaos_leader(s);
	uint64_t id = leader && sim_draw(s, 2) ? leader->id : 1 + sim_draw(s, s->profile.pool);
	uint64_t how = sim_draw(s, 3);

	s->count[SIM_ISOLATE]++;
	sim_trace(s, "%d is cut off, way %d", (int)id, (int)how);
	for (uint64_t i = 1; i < SIM_NODES; i++) {
		if (i == id)
			continue;
		s->down[id][i] = how != 0;
		s->down[i][id] = how != 1;
	}
}

/* Two sides; with a bridge, one member talks to both. */
static void split(struct sim *s, bool bridge)
{
	uint64_t sides = sim_draw(s, 1 << s->profile.pool);
	uint64_t middle = bridge ? 1 + sim_draw(s, s->profile.pool) : 0;

	heal(s);
	sim_trace(s, "split %x, bridge %d", (unsigned int)sides, (int)middle);
	for (uint64_t a = 1; a <= s->profile.pool; a++)
		for (uint64_t b = 1; b < a; b++)
			if ((sides >> (a - 1) & 1) != (sides >> (b - 1) & 1) && a != middle &&
			    b != middle)
				cut_both(s, a, b);
}

static void strike_split(struct sim *s)
{
	s->count[SIM_SPLIT]++;
	split(s, false);
}

static void strike_bridge(struct sim *s)
{
	s->count[SIM_BRIDGE]++;
	split(s, true);
}

/* Everyone talks to the next one only. */
static void strike_ring(struct sim *s)
{
	uint64_t n = s->profile.pool;

	heal(s);
	s->count[SIM_RING]++;
	sim_trace(s, "a ring");
	for (uint64_t a = 1; a <= n; a++)
		for (uint64_t b = 1; b < a; b++)
			if (a - b != 1 && a - b != n - 1)
				cut_both(s, a, b);
}

/* --- what operators do ----------------------------------------------------------------- */

static enum raft_conf_change_type draw_change(struct sim *s)
{
	static const enum raft_conf_change_type types[] = {
		RAFT_CONF_ADD_NODE, RAFT_CONF_ADD_NODE, RAFT_CONF_ADD_LEARNER,
		RAFT_CONF_REMOVE_NODE, RAFT_CONF_REMOVE_NODE, RAFT_CONF_UPDATE_NODE,
	};

	return types[sim_draw(s, ARRAY_SIZE(types))];
}

void chaos_change(struct sim *s, struct sim_node *n)
{
	struct raft_conf_single singles[4];
	struct raft_conf_change change = { .changes = singles };

	change.n_changes = sim_draw(s, 2) ? 1 : sim_draw(s, ARRAY_SIZE(singles));
	change.transition = (enum raft_conf_transition)(sim_draw(s, 3) ? 0 : sim_draw(s, 3));
	for (size_t i = 0; i < change.n_changes; i++) {
		singles[i].type = draw_change(s);
		singles[i].node_id = 1 + sim_draw(s, s->profile.pool);
	}
	sim_trace(s, "%d is asked for %d changes, transition %d", (int)n->id,
		  (int)change.n_changes, (int)change.transition);
	node_propose(s, n, RAFT_ENTRY_CONF_CHANGE_V2, conf_wire_encode(&change));
}

static void strike_change(struct sim *s)
{
	struct sim_node *n = sim_draw(s, 4) ? chaos_leader(s) : chaos_draw_up(s);

	for (uint64_t hurry = 1 + sim_draw(s, 3); n && n->paused_until <= s->now && hurry; hurry--)
		chaos_change(s, n);
}

static void strike_event(struct sim *s, struct sim_node *n, enum raft_event_type type)
{
	struct raft_event ev = { .type = type, .id = 1 + sim_draw(s, s->profile.pool) };

	if (n && n->paused_until <= s->now)
		node_step(s, n, &ev);
}

static void strike_transfer(struct sim *s)
{
	strike_event(s, sim_draw(s, 4) ? chaos_leader(s) : chaos_draw_up(s), RAFT_TRANSFER);
}

/* Leadership is handed over by one that hears of nothing from then on. */
static void strike_hand_over(struct sim *s)
{
	struct sim_node *leader = chaos_leader(s);

	if (!leader)
		return;
	sim_trace(s, "%d hands over and hears nothing more", (int)leader->id);
	strike_event(s, leader, RAFT_TRANSFER);
	for (uint64_t i = 1; i < SIM_NODES; i++)
		s->down[i][leader->id] = i != leader->id;
}

static void strike_campaign(struct sim *s)
{
	s->count[SIM_CAMPAIGN]++;
	strike_event(s, chaos_draw_up(s), RAFT_CAMPAIGN);
}

static void strike_forget(struct sim *s)
{
	s->count[SIM_FORGET_LEADER]++;
	strike_event(s, chaos_draw_up(s), RAFT_FORGET_LEADER);
}

/* A transport may be wrong about what became of a message. */
static void strike_report(struct sim *s)
{
	static const enum raft_event_type types[] = {
		RAFT_UNREACHABLE, RAFT_SNAPSHOT_SENT, RAFT_SNAPSHOT_FAILED,
	};

	strike_event(s, chaos_draw_up(s), types[sim_draw(s, ARRAY_SIZE(types))]);
}

static void strike_compact(struct sim *s)
{
	struct sim_node *n = chaos_draw_up(s);

	if (n && n->disk.machine.applied > n->disk.base)
		node_compact(s, n, sim_draw(s, 2) ? n->disk.machine.applied :
			     n->disk.base + 1 +
			     sim_draw(s, n->disk.machine.applied - n->disk.base));
}

static const struct {
	uint32_t weight;
	void (*strike)(struct sim *s);
} actions[] = {
	{ 10, strike_crash }, { 1, strike_crash_all }, { 1, strike_crash_followers },
	{ 6, strike_pause }, { 3, strike_leap },
	{ 3, strike_stop }, { 6, strike_one_way }, { 4, strike_links }, { 6, strike_isolate },
	{ 5, strike_split }, { 3, strike_bridge }, { 2, strike_ring }, { 12, strike_change },
	{ 6, strike_transfer }, { 3, strike_hand_over }, { 3, strike_campaign },
	{ 3, strike_forget },
	{ 3, strike_report }, { 24, strike_compact }, { 14, heal },
};

void chaos_strike(struct sim *s)
{
	uint64_t total = 0, pick;

	if (s->calm)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
		total += s->profile.weights[i];
	pick = total ? sim_draw(s, total) : 0;
	for (size_t i = 0; total && i < ARRAY_SIZE(actions); i++) {
		if (pick < s->profile.weights[i]) {
			actions[i].strike(s);
			break;
		}
		pick -= s->profile.weights[i];
	}
	sim_at(s, 1 + sim_draw(s, s->profile.chaos_every),
	       &(struct sim_event){ .kind = SIM_EV_CHAOS });
}

/* --- a seed's own mixture -------------------------------------------------------------- */

/* Nothing in some seeds, a little in some and much in others. */
static uint32_t draw_rate(struct sim *s, uint32_t most)
{
	static const uint32_t tenths[] = { 0, 0, 1, 3, 10 };

	return (uint32_t)sim_draw(s, most * tenths[sim_draw(s, ARRAY_SIZE(tenths))] / 10 + 1);
}

/* Thesis 6.4.1: a lease is for members whose clocks drift within a bound. */
static bool breaks_lease(void (*strike)(struct sim *s))
{
	return strike == strike_pause || strike == strike_leap || strike == strike_stop;
}

void chaos_profile(struct sim *s, uint64_t nodes)
{
	struct sim_profile *p = &s->profile;
	static const uint64_t delays[] = { 5, 50, 50, 200, 600 };
	static const uint64_t disks[] = { 5, 50, 200, 600 };

	memset(p, 0, sizeof(*p));
	p->delay = p->disk_delay = 50;
	p->size = nodes ? nodes : 1 + sim_draw(s, sim_draw(s, 4) ? 7 : 2);
	p->pool = p->size + sim_draw(s, 3);
	p->loss = draw_rate(s, 300);
	p->duplicate = draw_rate(s, 500);
	p->late = draw_rate(s, 300);
	p->delay = delays[sim_draw(s, ARRAY_SIZE(delays))];
	p->late_delay = 1 + sim_draw(s, 5 * SIM_ELECTION_TICKS * SIM_TICK);
	p->disk_delay = disks[sim_draw(s, ARRAY_SIZE(disks))];
	p->disk_error = draw_rate(s, 20);
	p->chaos_every = 50 + sim_draw(s, 1000);
	p->client_every = 40 + sim_draw(s, 300);
	p->drift = sim_draw(s, 2) ? sim_draw(s, 25) : 0;
	p->changes = sim_draw(s, 2);
	p->eager = p->changes && sim_draw(s, 2);
	p->apply_delay = delays[sim_draw(s, ARRAY_SIZE(delays))] * (sim_draw(s, 4) ? 1 : 5);
	p->lease = !sim_draw(s, 4);
	if (p->lease && sim_draw(s, 2)) {
		p->late = 100 + (uint32_t)sim_draw(s, 300);
		p->late_delay = 1 + sim_draw(s, 2 * SIM_ELECTION_TICKS * SIM_TICK);
	}
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		bool on = sim_draw(s, 3) || actions[i].strike == heal;

		if (actions[i].strike == strike_change)
			on = p->changes;
		if (p->lease && breaks_lease(actions[i].strike))
			on = false;
		/* Some seeds are mostly about one kind. */
		p->weights[i] = on ? actions[i].weight * (sim_draw(s, 8) ? 1 : 6) : 0;
	}
}

/*
 * The longest that is safe: on the slowest clock it lasts no longer than the fastest
 * follower waits, which may begin to count a tick late.
 */
static uint32_t lease_ticks(const struct sim_profile *p)
{
	uint64_t slow = SIM_TICK + p->drift, fast = SIM_TICK - p->drift;

	return p->lease ? (uint32_t)((SIM_ELECTION_TICKS - 1) * fast / slow) : 0;
}

static void draw_config(struct sim *s, struct sim_node *n, bool pre_vote, bool check_quorum)
{
	n->config = (struct raft_config){
		.seed = sim_draw(s, UINT64_MAX),
		.election_ticks = SIM_ELECTION_TICKS,
		.heartbeat_ticks = 1 + (uint32_t)sim_draw(s, 3),
		.pre_vote = pre_vote,
		.check_quorum = check_quorum,
		.lease_ticks = lease_ticks(&s->profile),
		.max_message_bytes = sim_draw(s, 200),
		.max_inflight = 1 + sim_draw(s, 16),
		.max_uncommitted_bytes = sim_draw(s, 2) ? 0 : 400,
		.max_committed_bytes = sim_draw(s, 2) ? 0 : 60,
	};
	n->tick = SIM_TICK - s->profile.drift + sim_draw(s, 2 * s->profile.drift + 1);
	s->count[SIM_DRIFT] += n->tick != SIM_TICK;
}

void chaos_begin(struct sim *s)
{
	bool pre_vote = sim_draw(s, 4), check_quorum = sim_draw(s, 4) || s->profile.lease;

	for (uint64_t id = 1; id < SIM_NODES; id++) {
		node_init(s, &s->node[id], id);
		if (id > s->profile.pool)
			continue;
		draw_config(s, &s->node[id], pre_vote, check_quorum);
		node_start(s, &s->node[id]);
	}
	sim_at(s, 1, &(struct sim_event){ .kind = SIM_EV_CLIENT });
	sim_at(s, 1, &(struct sim_event){ .kind = SIM_EV_CHAOS });
}
