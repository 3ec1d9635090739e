// SPDX-License-Identifier: Apache-2.0
/*
 * A member's log on its disk: writes take time, are durable in their order, may be torn
 * or lost in a crash, and may fail, which ends the process.
 */
#include "tests/sim/sim.h"

void sim_machine_copy(const struct sim_machine *from, struct sim_machine *to)
{
	to->applied = from->applied;
	conf_copy_to(&from->conf, &to->conf);
}

static void write_free(struct sim_write *w)
{
	raft_entries_free(w->entries, w->entries ? w->n_entries : 0);
	if (w->snapshot)
		raft_conf_state_release(&w->snapshot->conf);
	free(w->snapshot);
	raft_messages_free(w->after_store, w->n_after_store);
	if (w->owner)
		w->release(w->owner);
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

bool disk_has(const struct sim_node *n, uint64_t index, uint64_t term)
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
	sim_machine_copy(&m, &d->machine);
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
	sim_at(s, delay, &(struct sim_event){ .kind = SIM_EV_DISK, .node = n->id });
}

void disk_add(struct sim *s, struct sim_node *n, struct sim_write *w)
{
	*n->writes_end = w;
	n->writes_end = &w->next;
	if (n->writes == w)
		disk_next(s, n);
}

static void disk_done(struct sim *s, struct sim_node *n)
{
	struct sim_write *w = take_write(n);

	disk_write(s, n, w);
	node_written(s, n, w);
	write_free(w);
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
	node_crashed(s, n);
}

void disk_crash(struct sim *s, struct sim_node *n)
{
	if (!n->raft)
		return;
	sim_trace(s, "%d crashes", (int)n->id);
	s->count[SIM_CRASH]++;
	end(s, n, sim_draw(s, 3));
}

/* As kvd does: the first error of a disk ends the process. What was written stays. */
void disk_fail(struct sim *s, struct sim_node *n)
{
	sim_trace(s, "%d: the disk fails", (int)n->id);
	s->count[SIM_DISK_ERROR]++;
	end(s, n, sim_draw(s, 2));
	sim_restart_later(s, n->id);
}

/* The oldest write is durable, or it fails. */
void disk_event(struct sim *s, struct sim_node *n)
{
	if (!s->calm && sim_chance(s, s->profile.disk_error))
		disk_fail(s, n);
	else
		disk_done(s, n);
}

/* What is under way is gone. */
void disk_forget(struct sim_node *n)
{
	while (n->writes)
		write_free(take_write(n));
}

/* Entries up to @index are needed no more. */
void disk_cut(struct sim_node *n, uint64_t index)
{
	struct sim_disk *d = &n->disk;
	uint64_t count;

	if (index <= d->base)
		return;
	count = index - d->base;
	BUG_ON(count > d->n_entries);
	d->base_term = d->entries[count - 1].term;
	d->base = index;
	for (size_t i = 0; i < count; i++)
		blob_put(d->entries[i].payload);
	d->n_entries -= count;
	memmove(d->entries, d->entries + count, d->n_entries * sizeof(*d->entries));
}

void disk_release(struct sim_node *n)
{
	raft_entries_free(n->disk.entries, n->disk.n_entries);
	raft_conf_state_release(&n->disk.machine.conf);
	memset(&n->disk, 0, sizeof(n->disk));
}
