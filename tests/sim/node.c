// SPDX-License-Identifier: Apache-2.0
/*
 * A member: libraft, a disk whose writes take time and may be lost, and a state machine
 * that is stored behind the log, as kvd's is. It gathers several events into an update
 * now and then, and carries out an update as raft.h says.
 */
#include "tests/sim/conf_wire.h"
#include "tests/sim/sim.h"

static void machine_copy(const struct sim_machine *from, struct sim_machine *to)
{
	to->applied = from->applied;
	conf_copy_to(&from->conf, &to->conf);
}

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

static void write_free(struct sim_write *w)
{
	raft_entries_free(w->entries, w->entries ? w->n_entries : 0);
	if (w->snapshot)
		raft_conf_state_release(&w->snapshot->conf);
	free(w->snapshot);
	raft_messages_free(w->after_store, w->n_after_store);
	free(w);
}

static struct sim_write *take_write(struct sim_node *n)
{
	struct sim_write *w = n->writes;

	n->writes = w->next;
	if (!n->writes)
		n->writes_end = &n->writes;
	return w;
}

/* What is in memory only. */
static void forget(struct sim_node *n)
{
	while (n->writes)
		write_free(take_write(n));
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
	raft_entries_free(n->disk.entries, n->disk.n_entries);
	raft_conf_state_release(&n->disk.machine.conf);
	memset(&n->disk, 0, sizeof(n->disk));
}

static void come(struct sim *s, struct sim_node *n, enum sim_kind kind, uint64_t delay)
{
	sim_at(s, delay, &(struct sim_event){ .kind = kind, .node = n->id });
}

void node_restart_later(struct sim *s, struct sim_node *n)
{
	come(s, n, SIM_EV_RESTART, sim_draw(s, 40 * SIM_TICK));
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
	machine_copy(&n->disk.machine, &n->machine);
	n->paused_until = n->stopped_until = 0;
	sim_trace(s, "%d starts with log %d-%d, applied %d, term %d, vote %d, commit %d",
		  (int)n->id, (int)c.snapshot.index + 1, (int)(c.snapshot.index + c.n_entries),
		  (int)c.applied, (int)c.hard_state.term, (int)c.hard_state.vote,
		  (int)c.hard_state.commit);
	check_started(s, n);
	come(s, n, SIM_EV_TICK, sim_draw(s, n->tick));
}

/* --- disk ------------------------------------------------------------------------ */

bool node_has_stored(const struct sim_node *n, uint64_t index, uint64_t term)
{
	const struct sim_disk *d = &n->disk;

	if (index <= d->base)
		return true;
	return index - d->base <= d->n_entries && d->entries[index - d->base - 1].term == term;
}

static void disk_append(struct sim *s, struct sim_node *n, const struct raft_entry *e, size_t count)
{
	struct sim_disk *d = &n->disk;
	size_t keep;

	if (!count)
		return;
	if (e[0].index <= d->base || e[0].index > d->base + d->n_entries + 1)
		sim_fail(s, "%d appends %d to a log of %d-%d", (int)n->id, (int)e[0].index,
			 (int)d->base + 1, (int)(d->base + d->n_entries));
	keep = e[0].index - d->base - 1;
	while (d->n_entries > keep)
		blob_put(d->entries[--d->n_entries].payload);
	check_entries(s, n->id, e, count, keep ? d->entries[keep - 1].term : d->base_term);
	d->entries = sim_alloc(d->entries, keep + count, sizeof(*d->entries));
	memcpy(d->entries + keep, e, count * sizeof(*e));
	d->n_entries = keep + count;
	for (size_t i = 0; i < count; i++)
		if (e[i].payload)
			blob_get(e[i].payload);
}

static void disk_snapshot(struct sim_disk *d, const struct raft_snapshot_meta *meta)
{
	struct sim_machine m = { meta->index, meta->conf };

	raft_entries_free(d->entries, d->n_entries);
	d->entries = NULL;
	d->n_entries = 0;
	d->base = meta->index;
	d->base_term = meta->term;
	machine_copy(&m, &d->machine);
}

static void disk_write(struct sim *s, struct sim_node *n, const struct sim_write *w)
{
	if (w->snapshot)
		disk_snapshot(&n->disk, w->snapshot);
	disk_append(s, n, w->entries, w->n_entries);
	if (w->hard_state_changed)
		n->disk.hard_state = w->hard_state;
	if (w->sync)
		n->disk.synced = n->disk.hard_state;
}

/* Of a write that was cut short: the snapshot, some entries, never the hard state. */
static void disk_tear(struct sim *s, struct sim_node *n, const struct sim_write *w)
{
	size_t count = sim_draw(s, 3) ? w->n_entries : sim_draw(s, w->n_entries + 1);

	if (w->snapshot)
		disk_snapshot(&n->disk, w->snapshot);
	disk_append(s, n, w->entries, count);
	if (count || w->snapshot)
		s->count[SIM_TORN_WRITE]++;
	sim_trace(s, "%d: torn write, %d of %d entries", (int)n->id, (int)count,
		  (int)w->n_entries);
}

static void disk_next(struct sim *s, struct sim_node *n)
{
	uint64_t delay = n->writes->sync ? 1 + sim_draw(s, s->profile.disk_delay) : 0;

	if (n->writes->sync && s->profile.disk_delay > 2 * SIM_TICK)
		s->count[SIM_SLOW_DISK]++;
	if (n->writes->sync && !s->calm && sim_chance(s, s->profile.late / 20)) {
		s->count[SIM_STALL]++;
		delay += sim_draw(s, 3 * SIM_ELECTION_TICKS * SIM_TICK);
	}
	come(s, n, SIM_EV_DISK, delay);
}

static void disk_done(struct sim *s, struct sim_node *n)
{
	struct raft_event ev = { .type = RAFT_STORED };
	struct sim_write *w = take_write(n);

	disk_write(s, n, w);
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
	write_free(w);
	if (ev.index)
		node_step(s, n, &ev);
	if (n->writes)
		disk_next(s, n);
}

/* The process is gone, with what its disk has not made durable: all but @done writes. */
static void end(struct sim *s, struct sim_node *n, uint64_t done)
{
	for (; n->writes && done; done--) {
		struct sim_write *w = take_write(n);

		w->sync = true;
		disk_write(s, n, w);
		write_free(w);
	}
	if (n->writes) {
		s->count[SIM_LOST_WRITE]++;
		if (sim_draw(s, 2))
			disk_tear(s, n, n->writes);
	}
	if (n->disk.synced.commit != n->disk.hard_state.commit && sim_draw(s, 2)) {
		s->count[SIM_LOST_COMMIT]++;
		n->disk.hard_state = n->disk.synced;
	}
	n->disk.synced = n->disk.hard_state;
	s->count[SIM_LOST_APPLY] += n->machine.applied > n->disk.machine.applied;
	forget(n);
}

void node_crash(struct sim *s, struct sim_node *n)
{
	if (!n->raft)
		return;
	sim_trace(s, "%d crashes", (int)n->id);
	s->count[SIM_CRASH]++;
	end(s, n, sim_draw(s, 3));
}

/* As kvd does: the first error of a disk ends the process. What was written stays. */
static void disk_fails(struct sim *s, struct sim_node *n)
{
	sim_trace(s, "%d: the disk fails", (int)n->id);
	s->count[SIM_DISK_ERROR]++;
	end(s, n, sim_draw(s, 2));
	node_restart_later(s, n);
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
	*n->writes_end = w;
	n->writes_end = &w->next;
	if (n->writes == w)
		disk_next(s, n);
}

static void install_snapshot(struct sim *s, struct sim_node *n)
{
	struct sim_machine m = { n->up.snapshot->index, n->up.snapshot->conf };

	/* What is still to be applied is part of it. */
	raft_entries_free(n->committed, n->n_committed);
	n->committed = NULL;
	n->n_committed = 0;
	machine_copy(&m, &n->machine);
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
		come(s, n, SIM_EV_APPLY, sim_draw(s, s->profile.apply_delay));
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
	if (raft_update_pending(&n->up) && !n->turn_comes) {
		n->turn_comes = true;
		come(s, n, SIM_EV_TURN, sim_draw(s, 4) ? 0 : sim_draw(s, SIM_TICK / 2));
	}
	return ret;
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
		come(s, n, SIM_EV_APPLY, 1 + sim_draw(s, s->profile.apply_delay));
	n->apply_comes = n->n_committed != 0;
	if (!n->store_comes)
		come(s, n, SIM_EV_STORE, sim_draw(s, 10 * SIM_TICK));
	n->store_comes = true;
}

static void store_machine(struct sim_node *n)
{
	n->store_comes = false;
	if (!n->snapshots_under_way && !n->up.snapshot)
		machine_copy(&n->machine, &n->disk.machine);
}

/* What the disk's state machine holds need not be in the log. */
void node_compact(struct sim *s, struct sim_node *n, uint64_t index)
{
	struct raft_event ev = { .type = RAFT_COMPACT, .index = index };
	struct sim_disk *d = &n->disk;
	size_t count;

	if (!n->raft || index <= d->base || index > d->machine.applied)
		return;
	count = index - d->base;
	d->base_term = d->entries[count - 1].term;
	d->base = index;
	for (size_t i = 0; i < count; i++)
		blob_put(d->entries[i].payload);
	d->n_entries -= count;
	memmove(d->entries, d->entries + count, d->n_entries * sizeof(*d->entries));
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

void node_event(struct sim *s, struct sim_node *n, const struct sim_event *ev)
{
	struct raft_event tick = { .type = RAFT_TICK };
	struct raft_event report = { .type = ev->report, .id = ev->peer };

	if (!n->raft)
		return;
	switch (ev->kind) {
	case SIM_EV_TICK:
		come(s, n, SIM_EV_TICK, n->tick);
		if (n->stopped_until <= s->now)
			node_step(s, n, &tick);
		return;
	case SIM_EV_TURN:
		n->turn_comes = false;
		node_flush(s, n);
		return;
	case SIM_EV_DISK:
		if (!s->calm && sim_chance(s, s->profile.disk_error))
			disk_fails(s, n);
		else
			disk_done(s, n);
		return;
	case SIM_EV_APPLY:
		apply_some(s, n);
		return;
	case SIM_EV_STORE:
		store_machine(n);
		return;
	case SIM_EV_REPORT:
		node_step(s, n, &report);
		return;
	default:
		BUG();
	}
}
