// SPDX-License-Identifier: Apache-2.0
/*
 * The calm after the faults. A quorum must get work done again; then everything that a
 * group without faults is there for must work: one leader stays, reads are answered,
 * leadership can be handed over, and the loss of a minority is survived.
 */
#include <stdio.h>

#include "tests/sim/conf_wire.h"
#include "tests/sim/sim.h"

#define HURRY 150		/* changes asked for at once */
#define CALM_TICKS 1000		/* a hundred election timeouts */
/* Without pre-votes those who cannot win make the others begin to wait anew: the one who
 * can, if its clock is slow, must be lucky. */
#define SLOW_CALM_TICKS (10 * CALM_TICKS)
#define WATCH_TICKS (10 * SIM_ELECTION_TICKS)
#define DRAIN_TICKS (6 * SIM_ELECTION_TICKS)	/* what is very late has come */

static bool has_id(const uint64_t *ids, size_t n, uint64_t id)
{
	for (size_t i = 0; i < n; i++)
		if (ids[i] == id)
			return true;
	return false;
}

static bool is_voter(const struct raft_conf_state *c, uint64_t id)
{
	return has_id(c->voters, c->n_voters, id) ||
	       has_id(c->voters_outgoing, c->n_voters_outgoing, id);
}

static bool is_member(const struct raft_conf_state *c, uint64_t id)
{
	return is_voter(c, id) || has_id(c->learners, c->n_learners, id);
}

/* --- who is there ------------------------------------------------------------------ */

static void cut_off(struct sim *s, uint64_t id)
{
	s->needed[id] = false;
	sim_trace(s, "%d is lost for good", (int)id);
	for (uint64_t i = 1; i < SIM_NODES; i++)
		s->down[id][i] = s->down[i][id] = i != id;
}

/* All members come back; or only a quorum of them, where it is clear who they are. */
static void come_back(struct sim *s)
{
	uint64_t lost = 0;

	memset(s->down, 0, sizeof(s->down));
	for (uint64_t id = 1; id <= s->profile.pool; id++)
		s->needed[id] = true;
	if (!s->profile.changes && s->profile.size > 2 && sim_draw(s, 2))
		lost = 1 + sim_draw(s, (s->profile.size - 1) / 2);
	s->count[lost ? SIM_QUORUM_CALM : SIM_ALL_CALM]++;
	for (; lost; lost--)
		cut_off(s, 1 + sim_draw(s, s->profile.size));
	for (uint64_t id = 1; id <= s->profile.pool; id++) {
		s->node[id].paused_until = s->node[id].stopped_until = 0;
		node_start(s, &s->node[id]);
	}
}

static bool half_remains(const struct sim *s, const uint64_t *ids, size_t n, uint64_t without)
{
	size_t have = 0;

	for (size_t i = 0; i < n; i++)
		have += s->needed[ids[i]] && ids[i] != without;
	return !n || have > n / 2;
}

/* Of the configuration that the leader has applied, and all the others with it. */
static bool quorum_remains(struct sim *s, uint64_t without)
{
	const struct raft_conf_state *c = &chaos_leader(s)->machine.conf;

	return half_remains(s, c->voters, c->n_voters, without) &&
	       half_remains(s, c->voters_outgoing, c->n_voters_outgoing, without);
}

/* --- what they must do ------------------------------------------------------------- */

/*
 * The new proposal is applied, and a joint configuration that is to end has ended; and
 * by all members, where a leader learns of their higher terms, which takes pre-votes or
 * a checked quorum.
 */
static bool has_settled(struct sim *s, uint64_t *committed)
{
	struct sim_node *leader = chaos_leader(s);
	const struct raft_config *c = &s->node[1].config;

	if (!s->oracle.probe || !leader)
		return false;
	*committed = MIN(*committed, s->now);
	if (leader->machine.conf.auto_leave)
		return false;
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

static void report_members(struct sim *s)
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
 * A member that was removed without knowing it can make the others vote again and again,
 * unless they stick to the leader that they hear of (thesis 4.2.3).
 */
static bool may_be_disturbed(const struct sim *s)
{
	return s->profile.changes && !s->node[1].config.check_quorum;
}

/* False where that cannot be asked for. */
static bool settle(struct sim *s)
{
	const struct raft_config *c = &s->node[1].config;
	uint64_t ticks = c->pre_vote ? CALM_TICKS : SLOW_CALM_TICKS;
	uint64_t begin = s->now, end = begin + ticks * SIM_TICK, committed = UINT64_MAX;

	s->oracle.probe = 0;
	s->probe_value--;
	while (!has_settled(s, &committed)) {
		struct sim_node *leader = chaos_leader(s);

		if (s->now > end && s->profile.changes && !c->pre_vote && !c->check_quorum)
			return false;
		if (s->now > end) {
			report_members(s);
			sim_fail(s, "nothing gets done %d election timeouts after the faults",
				 (int)(ticks / SIM_ELECTION_TICKS));
		}
		if (leader && !s->oracle.probe)
			client_propose(s, leader, s->probe_value);
		sim_run_until(s, s->now + SIM_TICK);
	}
	s->calm_worst = MAX(s->calm_worst, committed - begin);
	return true;
}

/* Those that are cut off neither lead on, nor make the others vote when they return. */
static void check_lost(struct sim *s, const uint64_t *terms)
{
	for (uint64_t id = 1; id <= s->profile.pool; id++) {
		struct sim_node *n = &s->node[id];

		if (s->needed[id])
			continue;
		if (n->config.check_quorum && n->was.role == RAFT_LEADER)
			sim_fail(s, "%d leads on without hearing of anybody", (int)id);
		if (n->config.pre_vote && n->was.term != terms[id])
			sim_fail(s, "%d raises its term without hearing of anybody", (int)id);
	}
}

/* One leader all the time, and every member gets its read answered. */
static void check_works(struct sim *s)
{
	struct sim_node *leader = chaos_leader(s);
	uint64_t reads[SIM_NODES] = { 0 }, terms[SIM_NODES], term = leader->was.term;

	for (uint64_t id = 1; id <= s->profile.pool; id++) {
		terms[id] = s->node[id].was.term;
		if (s->needed[id] && s->node[id].was.leader == leader->id &&
		    is_member(&leader->machine.conf, id))
			reads[id] = client_read(s, &s->node[id]);
	}
	sim_run_until(s, s->now + WATCH_TICKS * SIM_TICK);
	if (leader->was.role != RAFT_LEADER || leader->was.term != term ||
	    chaos_leader(s) != leader) {
		report_members(s);
		sim_fail(s, "%d leads no longer, and nothing has happened", (int)leader->id);
	}
	for (uint64_t id = 1; id <= s->profile.pool; id++)
		if (reads[id] && !s->oracle.reads[reads[id] - 1].answered)
			sim_fail(s, "a read of %d is not answered", (int)id);
	check_lost(s, terms);
}

/* Thesis 3.10: leadership can be handed to a voter that has everything; unless one who
 * was removed stands at the same moment, in a higher term. */
static void check_transfer(struct sim *s)
{
	struct sim_node *leader = chaos_leader(s);
	uint64_t to = 1 + sim_draw(s, s->profile.pool);
	struct raft_event ev = { .type = RAFT_TRANSFER, .id = to };

	if (s->profile.changes && !leader->config.pre_vote)
		return;
	if (!s->needed[to] || !is_voter(&leader->machine.conf, to) ||
	    s->node[to].was.leader != leader->id)
		return;
	s->count[SIM_TRANSFER_CALM]++;
	node_step(s, leader, &ev);
	sim_run_until(s, s->now + 2 * SIM_ELECTION_TICKS * SIM_TICK);
	if (chaos_leader(s) != &s->node[to]) {
		report_members(s);
		sim_fail(s, "%d does not become the leader", (int)to);
	}
}

/* Changes of which all but the first are refused: nothing of them may stay. */
static void hurry(struct sim *s)
{
	struct raft_conf_single single = { .type = RAFT_CONF_UPDATE_NODE };
	struct raft_conf_change change = { .changes = &single, .n_changes = 1 };
	struct sim_node *leader = chaos_leader(s);

	single.node_id = leader->id;
	for (int i = 0; s->profile.changes && i < HURRY; i++)
		node_propose(s, leader, RAFT_ENTRY_CONF_CHANGE_V2, conf_wire_encode(&change));
}

/* A minority is lost, the leader among it if need be. */
static void lose_some(struct sim *s)
{
	uint64_t lose[SIM_NODES], n = 0;

	for (uint64_t i = 0; i < s->profile.pool; i++) {
		uint64_t id = 1 + sim_draw(s, s->profile.pool);

		if (!s->needed[id] || !quorum_remains(s, id))
			continue;
		/* The leader last: it knows the configuration. */
		s->needed[id] = id == chaos_leader(s)->id;
		lose[n++] = id;
		if (s->needed[id])
			break;
	}
	s->count[SIM_LATER_LOSS] += n != 0;
	for (uint64_t i = 0; i < n; i++)
		cut_off(s, lose[i]);
}

void calm_run(struct sim *s)
{
	s->calm = true;
	s->profile.delay = s->profile.disk_delay = s->profile.apply_delay = 20;
	sim_trace(s, "the faults stop");
	come_back(s);
	if (!settle(s) || may_be_disturbed(s))
		return;
	sim_run_until(s, s->now + DRAIN_TICKS * SIM_TICK);
	settle(s);
	check_works(s);
	hurry(s);
	settle(s);
	check_transfer(s);
	lose_some(s);
	settle(s);
	check_works(s);
}
