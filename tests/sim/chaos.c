// SPDX-License-Identifier: Apache-2.0
/*
 * What strikes a group and what its clients ask for, all drawn from the seed; and the
 * calm afterwards, in which a quorum must get work done again.
 */
#include <stdio.h>

#include "tests/sim/conf_wire.h"
#include "tests/sim/sim.h"

#define CALM_TICKS 1000		/* a hundred election timeouts */

static struct sim_node *draw_up(struct sim *s)
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

static void restart_later(struct sim *s, struct sim_node *n)
{
	struct sim_event ev = { .kind = SIM_EV_RESTART, .node = n->id };

	sim_at(s, sim_draw(s, 40 * SIM_TICK), &ev);
}

static void strike_crash(struct sim *s)
{
	struct sim_node *n = sim_draw(s, 3) ? draw_up(s) : chaos_leader(s);

	if (!n)
		return;
	node_crash(s, n);
	restart_later(s, n);
}

static void strike_crash_all(struct sim *s)
{
	s->count[SIM_CRASH_ALL]++;
	for (uint64_t id = 1; id <= s->profile.pool; id++) {
		if (!s->node[id].raft)
			continue;
		node_crash(s, &s->node[id]);
		restart_later(s, &s->node[id]);
	}
}

static void strike_pause(struct sim *s)
{
	struct sim_node *n = sim_draw(s, 2) ? draw_up(s) : chaos_leader(s);

	if (!n)
		return;
	s->count[SIM_PAUSE]++;
	n->paused_until = s->now + sim_draw(s, 5 * SIM_ELECTION_TICKS * SIM_TICK);
	sim_trace(s, "%d is stopped until %d", (int)n->id, (int)n->paused_until);
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

/* Each member hears nothing, or is not heard. */
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

static void strike_change(struct sim *s)
{
	struct sim_node *n = sim_draw(s, 4) ? chaos_leader(s) : draw_up(s);
	struct raft_conf_single singles[4];
	struct raft_conf_change change = { .changes = singles };

	if (!n || n->paused_until > s->now)
		return;
	change.n_changes = sim_draw(s, 2) ? 1 : sim_draw(s, ARRAY_SIZE(singles));
	change.transition = (enum raft_conf_transition)(sim_draw(s, 3) ? 0 : sim_draw(s, 3));
	for (size_t i = 0; i < change.n_changes; i++) {
		singles[i].type = draw_change(s);
		singles[i].node_id = 1 + sim_draw(s, s->profile.pool);
		s->count[SIM_LEARNER] += singles[i].type == RAFT_CONF_ADD_LEARNER;
	}
	s->count[change.n_changes == 1 && !change.transition ? SIM_SINGLE_CHANGE :
		 SIM_JOINT_CHANGE]++;
	sim_trace(s, "%d is asked for %d changes, transition %d", (int)n->id,
		  (int)change.n_changes, (int)change.transition);
	node_propose(s, n, RAFT_ENTRY_CONF_CHANGE_V2, conf_wire_encode(&change));
}

static void strike_event(struct sim *s, struct sim_node *n, enum raft_event_type type)
{
	struct raft_event ev = { .type = type, .id = 1 + sim_draw(s, s->profile.pool) };

	if (n && n->paused_until <= s->now)
		node_step(s, n, &ev);
}

static void strike_transfer(struct sim *s)
{
	strike_event(s, sim_draw(s, 4) ? chaos_leader(s) : draw_up(s), RAFT_TRANSFER);
}

static void strike_campaign(struct sim *s)
{
	s->count[SIM_CAMPAIGN]++;
	strike_event(s, draw_up(s), RAFT_CAMPAIGN);
}

static void strike_forget(struct sim *s)
{
	s->count[SIM_FORGET_LEADER]++;
	strike_event(s, draw_up(s), RAFT_FORGET_LEADER);
}

/* A transport may be wrong about what became of a message. */
static void strike_report(struct sim *s)
{
	static const enum raft_event_type types[] = {
		RAFT_UNREACHABLE, RAFT_SNAPSHOT_SENT, RAFT_SNAPSHOT_FAILED,
	};

	strike_event(s, draw_up(s), types[sim_draw(s, ARRAY_SIZE(types))]);
}

static void strike_compact(struct sim *s)
{
	struct sim_node *n = draw_up(s);

	if (n && n->disk.machine.applied > n->disk.base)
		node_compact(s, n, sim_draw(s, 2) ? n->disk.machine.applied :
			     n->disk.base + 1 +
			     sim_draw(s, n->disk.machine.applied - n->disk.base));
}

static const struct {
	uint32_t weight;
	void (*strike)(struct sim *s);
} actions[] = {
	{ 10, strike_crash }, { 1, strike_crash_all }, { 6, strike_pause },
	{ 6, strike_one_way }, { 6, strike_isolate }, { 5, strike_split }, { 3, strike_bridge },
	{ 2, strike_ring }, { 12, strike_change }, { 6, strike_transfer },
	{ 3, strike_campaign }, { 3, strike_forget }, { 3, strike_report }, { 24, strike_compact },
	{ 14, heal },
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

/* --- clients --------------------------------------------------------------------------- */

bool chaos_propose(struct sim *s, struct sim_node *n, uint64_t value)
{
	struct blob *b = blob_new(sizeof(value) + sim_draw(s, 40));

	BUG_ON(!b);
	memset(b->data, 'x', b->len);
	memcpy(b->data, &value, sizeof(value));
	return !node_propose(s, n, RAFT_ENTRY_NORMAL, b);
}

static void client_read(struct sim *s, struct sim_node *n)
{
	struct raft_event ev = { .type = RAFT_READ, .id = check_read_asked(s, n) };

	node_step(s, n, &ev);
}

/* One that takes itself for the leader, rightly or not. */
static struct sim_node *draw_leader(struct sim *s)
{
	struct sim_node *n = NULL;

	for (uint64_t i = 0; i < 4 && !(n && n->was.role == RAFT_LEADER); i++)
		n = draw_up(s);
	return n;
}

void chaos_client(struct sim *s)
{
	struct sim_node *n = sim_draw(s, 2) ? chaos_leader(s) : draw_leader(s);

	/* What has piled up by then is enough to work off. */
	if (s->calm)
		return;
	if (n && n->paused_until <= s->now) {
		uint64_t burst = sim_draw(s, 3) ? 1 : 1 + sim_draw(s, 6);

		for (; burst && sim_draw(s, 3); burst--)
			chaos_propose(s, n, s->next_value++);
		if (burst)
			client_read(s, n);
	}
	sim_at(s, 1 + sim_draw(s, s->profile.client_every),
	       &(struct sim_event){ .kind = SIM_EV_CLIENT });
}

/* --- a seed's own mixture -------------------------------------------------------------- */

/* Nothing in some seeds, a little in some and much in others. */
static uint32_t draw_rate(struct sim *s, uint32_t most)
{
	static const uint32_t tenths[] = { 0, 0, 1, 3, 10 };

	return (uint32_t)sim_draw(s, most * tenths[sim_draw(s, ARRAY_SIZE(tenths))] / 10 + 1);
}

void chaos_profile(struct sim *s, uint64_t nodes)
{
	struct sim_profile *p = &s->profile;
	static const uint64_t delays[] = { 5, 50, 50, 200, 600 };
	static const uint64_t disks[] = { 5, 50, 200, 600 };

	memset(p, 0, sizeof(*p));
	p->delay = p->disk_delay = 50;
	p->size = nodes ? nodes : 1 + sim_draw(s, 7);
	p->pool = p->size + sim_draw(s, 3);
	p->loss = draw_rate(s, 300);
	p->duplicate = draw_rate(s, 500);
	p->late = draw_rate(s, 300);
	p->delay = delays[sim_draw(s, ARRAY_SIZE(delays))];
	p->late_delay = 1 + sim_draw(s, 5 * SIM_ELECTION_TICKS * SIM_TICK);
	p->disk_delay = disks[sim_draw(s, ARRAY_SIZE(disks))];
	p->chaos_every = 50 + sim_draw(s, 1000);
	p->client_every = 40 + sim_draw(s, 300);
	p->drift = sim_draw(s, 2) ? sim_draw(s, 25) : 0;
	p->changes = sim_draw(s, 2);
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		bool on = sim_draw(s, 3) || actions[i].strike == heal;

		if (actions[i].strike == strike_change)
			on = p->changes;
		/* Some seeds are mostly about one kind. */
		p->weights[i] = on ? actions[i].weight * (sim_draw(s, 8) ? 1 : 6) : 0;
	}
}

static void draw_config(struct sim *s, struct sim_node *n, bool pre_vote, bool check_quorum)
{
	n->config = (struct raft_config){
		.seed = sim_draw(s, UINT64_MAX),
		.election_ticks = SIM_ELECTION_TICKS,
		.heartbeat_ticks = 1 + (uint32_t)sim_draw(s, 3),
		.pre_vote = pre_vote,
		.check_quorum = check_quorum,
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
	bool pre_vote = sim_draw(s, 4), check_quorum = sim_draw(s, 4);

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

/* --- the calm -------------------------------------------------------------------------- */

/* All members come back; or only a quorum of them, where it is clear who they are. */
static void calm_links(struct sim *s)
{
	uint64_t lost = 0;

	memset(s->down, 0, sizeof(s->down));
	for (uint64_t id = 1; id <= s->profile.pool; id++)
		s->needed[id] = true;
	if (!s->profile.changes && s->profile.size > 2 && sim_draw(s, 2))
		lost = 1 + sim_draw(s, (s->profile.size - 1) / 2);
	s->count[lost ? SIM_QUORUM_CALM : SIM_ALL_CALM]++;
	while (lost--) {
		uint64_t id = 1 + sim_draw(s, s->profile.size);

		if (!s->needed[id])
			continue;
		s->needed[id] = false;
		sim_trace(s, "%d does not come back", (int)id);
		for (uint64_t i = 1; i < SIM_NODES; i++)
			cut_both(s, id, i);
	}
}

static bool is_member(const struct raft_conf_state *c, uint64_t id)
{
	for (size_t i = 0; i < c->n_voters; i++)
		if (c->voters[i] == id)
			return true;
	for (size_t i = 0; i < c->n_voters_outgoing; i++)
		if (c->voters_outgoing[i] == id)
			return true;
	for (size_t i = 0; i < c->n_learners; i++)
		if (c->learners[i] == id)
			return true;
	return false;
}

/*
 * The new proposal is applied; and by all members, where a leader learns of their higher
 * terms, which takes pre-votes or a checked quorum.
 */
static bool has_settled(struct sim *s)
{
	struct sim_node *leader = chaos_leader(s);
	const struct raft_config *c = &s->node[1].config;

	if (!s->oracle.probe || !leader)
		return false;
	if (s->calm_time > s->now)
		s->calm_time = s->now;
	if (!c->pre_vote && !c->check_quorum)
		return true;
	for (uint64_t id = 1; id <= s->profile.pool; id++)
		if (s->needed[id] && is_member(&leader->machine.conf, id) &&
		    s->node[id].machine.applied < s->oracle.probe)
			return false;
	return true;
}

static void ids_to_text(char *text, size_t size, const char *before, const uint64_t *ids,
			size_t n)
{
	size_t len = strlen(text);

	for (size_t i = 0; i < n; i++)
		len += (size_t)snprintf(text + len, size - len, " %s%d", before, (int)ids[i]);
}

static void report_groups(struct sim *s)
{
	for (uint64_t id = 1; id <= s->profile.pool; id++) {
		const struct sim_node *n = &s->node[id];
		const struct raft_conf_state *c = &n->machine.conf;
		char conf[400] = "";

		ids_to_text(conf, sizeof(conf), "v", c->voters, c->n_voters);
		ids_to_text(conf, sizeof(conf), "o", c->voters_outgoing, c->n_voters_outgoing);
		ids_to_text(conf, sizeof(conf), "l", c->learners, c->n_learners);
		sim_trace(s, "%d%s: %s, term %d, leader %d, log %d-%d, stored %d, "
			  "commit %d, applied %d, rejected %d; members%s",
			  (int)id, s->needed[id] ? "" : " (cut off)",
			  raft_role_to_text(n->was.role), (int)n->was.term, (int)n->was.leader,
			  (int)n->was.first_index, (int)n->was.last_index, (int)n->was.stored,
			  (int)n->was.commit, (int)n->was.applied,
			  (int)n->was.messages_rejected, conf);
	}
}

/*
 * A member that was removed without knowing it can keep the others from electing a
 * leader for good, unless there are pre-votes or a checked quorum (thesis 4.2.3).
 */
static bool may_be_disturbed(const struct sim *s)
{
	const struct raft_config *c = &s->node[1].config;

	return s->profile.changes && !c->pre_vote && !c->check_quorum;
}

/* Liveness: the faults stop on a quorum, and what is proposed then is committed. */
void chaos_calm(struct sim *s)
{
	uint64_t end = s->now + CALM_TICKS * SIM_TICK, begin = s->now;

	s->calm = true;
	s->calm_time = UINT64_MAX;
	s->profile.delay = s->profile.disk_delay = 20;
	sim_trace(s, "the faults stop");
	calm_links(s);
	for (uint64_t id = 1; id <= s->profile.pool; id++) {
		s->node[id].paused_until = 0;
		node_start(s, &s->node[id]);
	}
	while (!has_settled(s)) {
		struct sim_node *leader = chaos_leader(s);

		if (s->now > end && may_be_disturbed(s))
			return;
		if (s->now > end) {
			report_groups(s);
			sim_fail(s, "nothing gets done %d election timeouts after the faults",
				 CALM_TICKS / SIM_ELECTION_TICKS);
		}
		if (leader && !s->oracle.probe)
			chaos_propose(s, leader, UINT64_MAX);
		sim_run_until(s, s->now + SIM_TICK);
	}
	s->calm_worst = MAX(s->calm_worst, s->calm_time - begin);
}
