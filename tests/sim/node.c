// SPDX-License-Identifier: Apache-2.0
/*
 * A member: libraft, its log (disk.c), and a state machine that is stored behind the log,
 * as kvd's is. It gathers several events into an update
 * now and then, and carries out an update as raft.h says.
 */
#include "tests/sim/conf_wire.h"
#include "tests/sim/sim.h"

/* As a new member: the first configuration is known to all who may ever join. */
void node_init(struct sim *s, struct sim_node *n, uint64_t id)
{
	uint64_t voters[SIM_NODES];
	struct raft_conf_state conf = { .voters = voters, .n_voters = s->profile.size };

	memset(n, 0, sizeof(*n));
	n->id = id;
	n->writes_end = &n->writes;
	for (uint64_t i = 0; i < conf.n_voters; i++)
		voters[i] = i + 1;
	conf_copy_to(&conf, &n->disk.machine.conf);
}

/* What is in memory only. */
static void forget(struct sim_node *n)
{
	disk_forget(n);
	raft_entries_free(n->committed, n->n_committed);
	n->committed = NULL;
	n->n_committed = 0;
	raft_update_release(&n->up);
	raft_conf_state_release(&n->machine.conf);
	raft_free(n->raft);
	n->raft = NULL;
	n->snapshots_under_way = 0;
	n->turn_comes = n->apply_comes = n->store_comes = false;
	n->life++;
}

void node_release(struct sim_node *n)
{
	forget(n);
	disk_release(n);
}

void node_crashed(struct sim *s, struct sim_node *n)
{
	s->count[SIM_LOST_APPLY] += n->machine.applied > n->disk.machine.applied;
	forget(n);
}

void node_start(struct sim *s, struct sim_node *n)
{
	struct raft_config c = n->config;
	const char *why = "";

	if (n->raft)
		return;
	c.id = n->id;
	c.hard_state = n->disk.hard_state;
	c.snapshot.index = n->disk.base;
	c.snapshot.term = n->disk.base_term;
	c.snapshot.conf = n->disk.machine.conf;
	c.applied = n->disk.machine.applied;
	c.entries = n->disk.entries;
	c.n_entries = n->disk.n_entries;
	raft_update_init(&n->up);
	if (raft_new(&c, &n->raft, &why))
		sim_fail(s, "%d cannot start: %s", (int)n->id, why);
	sim_machine_copy(&n->disk.machine, &n->machine);
	n->paused_until = n->stopped_until = 0;
	sim_trace(s, "%d starts with log %d-%d, applied %d, term %d, vote %d, commit %d",
		  (int)n->id, (int)c.snapshot.index + 1, (int)(c.snapshot.index + c.n_entries),
		  (int)c.applied, (int)c.hard_state.term, (int)c.hard_state.vote,
		  (int)c.hard_state.commit);
	check_started(s, n);
	sim_node_at(s, n, SIM_EV_TICK, sim_draw(s, n->tick));
}

/* --- what an update asks for -------------------------------------------------------- */

/* The caller sends its own store, at that index or a later one. */
static void fill_snapshots(struct sim *s, struct sim_node *n)
{
	for (size_t i = 0; i < n->up.n_messages; i++) {
		struct raft_snapshot_meta *meta = n->up.messages[i].snapshot;

		if (!meta)
			continue;
		s->count[SIM_SNAPSHOT]++;
		if (meta->index >= n->machine.applied)
			continue;
		meta->index = n->machine.applied;
		meta->term = s->oracle.applied[meta->index].term;
		conf_copy_to(&n->machine.conf, &meta->conf);
	}
}

static void add_write(struct sim *s, struct sim_node *n)
{
	struct raft_update *up = &n->up;
	struct sim_write *w = sim_alloc(NULL, 1, sizeof(*w));

	*w = (struct sim_write){
		.entries = up->entries,
		.n_entries = up->n_entries,
		.hard_state = up->hard_state,
		.hard_state_changed = up->hard_state_changed,
		.sync = up->must_sync,
		.snapshot = up->snapshot,
		.after_store = up->after_store,
		.n_after_store = up->n_after_store,
	};
	n->snapshots_under_way += up->snapshot != NULL;
	up->entries = NULL;
	up->snapshot = NULL;
	up->after_store = NULL;
	up->n_entries = up->n_after_store = 0;
	disk_add(s, n, w);
}

void node_written(struct sim *s, struct sim_node *n, struct sim_write *w)
{
	struct raft_event ev = { .type = RAFT_STORED };

	if (w->snapshot) {
		n->snapshots_under_way--;
		ev.index = w->snapshot->index;
		ev.term = w->snapshot->term;
	}
	if (w->n_entries) {
		ev.index = w->entries[w->n_entries - 1].index;
		ev.term = w->entries[w->n_entries - 1].term;
	}
	net_send(s, w->after_store, w->n_after_store);
	w->n_after_store = 0;
	if (ev.index)
		node_step(s, n, &ev);
}

static void install_snapshot(struct sim *s, struct sim_node *n)
{
	struct sim_machine m = { n->up.snapshot->index, n->up.snapshot->conf };

	/* What is still to be applied is part of it. */
	raft_entries_free(n->committed, n->n_committed);
	n->committed = NULL;
	n->n_committed = 0;
	sim_machine_copy(&m, &n->machine);
	s->count[SIM_INSTALLED]++;
	sim_trace(s, "%d installs snapshot %d", (int)n->id, (int)m.applied);
}

static void take_committed(struct sim *s, struct sim_node *n)
{
	struct raft_update *up = &n->up;
	size_t total = n->n_committed + up->n_committed;

	if (!up->n_committed)
		return;
	n->committed = sim_alloc(n->committed, total, sizeof(*n->committed));
	memcpy(n->committed + n->n_committed, up->committed,
	       up->n_committed * sizeof(*up->committed));
	n->n_committed = total;
	up->n_committed = 0;
	if (!n->apply_comes)
		sim_node_at(s, n, SIM_EV_APPLY, sim_draw(s, s->profile.apply_delay));
	n->apply_comes = true;
}

/* Carries out what has been gathered. */
static void node_flush(struct sim *s, struct sim_node *n)
{
	struct raft_update *up = &n->up;

	if (!raft_update_pending(up))
		return;
	check_update(s, n);
	if (up->snapshot)
		install_snapshot(s, n);
	fill_snapshots(s, n);
	net_send(s, up->messages, up->n_messages);
	up->n_messages = 0;
	for (size_t i = 0; i < up->n_reads; i++)
		check_read_answered(s, n, &up->reads[i]);
	if (up->n_entries || up->n_after_store || up->snapshot || up->hard_state_changed)
		add_write(s, n);
	take_committed(s, n);
	raft_update_clear(up);
}

int node_step(struct sim *s, struct sim_node *n, const struct raft_event *ev)
{
	int ret = raft_step(n->raft, ev, &n->up);

	check_step(s, n);
	if (raft_update_pending(&n->up))
		sim_wake(s, n);
	return ret;
}

void node_leap(struct sim *s, struct sim_node *n, uint64_t ticks)
{
	while (ticks--)
		node_step(s, n, &(struct raft_event){ .type = RAFT_TICK });
}

/* --- applying ------------------------------------------------------------------------ */

static bool has_id(const uint64_t *ids, size_t n, uint64_t id)
{
	for (size_t i = 0; i < n; i++)
		if (ids[i] == id)
			return true;
	return false;
}

/* Which kinds of changes have taken effect. */
static void count_change(struct sim *s, const struct raft_conf_state *a,
			 const struct raft_conf_state *b, enum raft_conf_transition transition)
{
	static const enum sim_class joint[] = {
		SIM_JOINT_AUTO, SIM_JOINT_IMPLICIT, SIM_JOINT_EXPLICIT,
	};

	if (b->n_voters_outgoing && !a->n_voters_outgoing)
		s->count[joint[transition]]++;
	else if (a->n_voters_outgoing && !b->n_voters_outgoing)
		s->count[SIM_JOINT_LEFT]++;
	else
		s->count[SIM_SINGLE_CHANGE]++;
	for (uint64_t id = 1; id < SIM_NODES; id++) {
		bool voted = has_id(a->voters, a->n_voters, id);
		bool votes = has_id(b->voters, b->n_voters, id);
		bool learned = has_id(a->learners, a->n_learners, id);
		bool learns = has_id(b->learners, b->n_learners, id) ||
			      has_id(b->learners_next, b->n_learners_next, id);

		s->count[SIM_LEARNER] += learns && !learned;
		s->count[SIM_PROMOTED] += learned && votes;
		s->count[SIM_DEMOTED] += voted && learns;
		s->count[SIM_REMOVED] += voted && !votes && !learns;
	}
}

static void apply_change(struct sim *s, struct sim_node *n, const struct raft_entry *e)
{
	struct raft_conf_single singles[CONF_WIRE_MAX + 1];
	struct raft_conf_change change;
	struct raft_event ev = {
		.type = RAFT_CONF_APPLIED, .index = e->index, .conf_change = &change,
	};
	struct raft_conf_state conf;
	int ret;

	conf_wire_decode(e, singles, &change);
	ret = node_step(s, n, &ev);
	if (ret && ret != -22)
		sim_fail(s, "%d: a change of the configuration fails: %d", (int)n->id, ret);
	BUG_ON(raft_conf_state(n->raft, &conf));
	if (!ret)
		count_change(s, &n->machine.conf, &conf, change.transition);
	raft_conf_state_release(&n->machine.conf);
	n->machine.conf = conf;
}

static void apply_some(struct sim *s, struct sim_node *n)
{
	struct raft_event ev = { .type = RAFT_APPLIED };
	bool changed = false;
	size_t count;

	/* What raft knows to be part of a snapshot must not be applied once more. */
	if (n->up.snapshot)
		node_flush(s, n);
	n->apply_comes = false;
	if (!n->n_committed)
		return;
	count = 1 + sim_draw(s, n->n_committed);
	for (size_t i = 0; i < count; i++) {
		const struct raft_entry *e = &n->committed[i];

		check_apply(s, n, e);
		n->machine.applied = ev.index = e->index;
		if (e->type != RAFT_ENTRY_NORMAL) {
			apply_change(s, n, e);
			changed = true;
		}
		blob_put(e->payload);
	}
	n->n_committed -= count;
	memmove(n->committed, n->committed + count, n->n_committed * sizeof(*n->committed));
	node_step(s, n, &ev);
	if (changed && s->profile.eager && !s->calm && n->was.role == RAFT_LEADER && sim_draw(s, 3))
		chaos_change(s, n);
	if (n->n_committed)
		sim_node_at(s, n, SIM_EV_APPLY, 1 + sim_draw(s, s->profile.apply_delay));
	n->apply_comes = n->n_committed != 0;
	if (!n->store_comes)
		sim_node_at(s, n, SIM_EV_STORE, sim_draw(s, 10 * SIM_TICK));
	n->store_comes = true;
}

static void store_machine(struct sim_node *n)
{
	n->store_comes = false;
	if (!n->snapshots_under_way && !n->up.snapshot)
		sim_machine_copy(&n->machine, &n->disk.machine);
}

/* What the disk's state machine holds need not be in the log. */
void node_compact(struct sim *s, struct sim_node *n, uint64_t index)
{
	struct raft_event ev = { .type = RAFT_COMPACT, .index = index };

	if (!n->raft || index <= n->disk.base || index > n->disk.machine.applied)
		return;
	disk_cut(n, index);
	sim_trace(s, "%d compacts to %d", (int)n->id, (int)index);
	s->count[SIM_COMPACT]++;
	node_step(s, n, &ev);
}

int node_propose(struct sim *s, struct sim_node *n, enum raft_entry_type type, struct blob *b)
{
	struct raft_entry e = { .type = type, .payload = b };
	struct raft_event ev = { .type = RAFT_PROPOSE, .entries = &e, .n_entries = 1 };
	int ret;

	BUG_ON(!b);
	ret = node_step(s, n, &ev);
	blob_put(b);
	return ret;
}

void node_event(struct sim *s, struct sim_node *n, enum sim_kind kind)
{
	switch (kind) {
	case SIM_EV_TURN:
		n->turn_comes = false;
		node_flush(s, n);
		return;
	case SIM_EV_APPLY:
		apply_some(s, n);
		return;
	case SIM_EV_STORE:
		store_machine(n);
		return;
	default:
		BUG();
	}
}
