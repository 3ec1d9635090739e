// SPDX-License-Identifier: Apache-2.0
/*
 * A member: kvd's core, with the log's thread (disk.c), the store's thread and the loop
 * around it played by events. A turn follows what has come in, some time later, as the
 * daemon's loop takes it (kvd/server.c, kvd/disk.c).
 */
#include <stdio.h>

#include "kvd/crc32c.h"
#include "tests/sim/kvd_sim.h"

#define HASH_BYTES 500		/* of records that are hashed in one go */
#define CHECK_EVERY 16		/* turns between two looks at the whole store */

struct kvd kvd;

static char url[] = "http://127.0.0.1:2379";
static char *urls[] = { url };
static const char *peer_urls[] = { "http://127.0.0.1:2380" };

/* A clock that stood still does not catch up; one that drifts is fast or slow. */
uint64_t member_clock(struct sim *s, struct sim_node *n)
{
	struct kvd_member *m = member_of(n);
	uint64_t from = MAX(m->clock_at, MIN(n->stopped_until, s->now));

	if (!n->tick)
		return 0;
	m->clock += (s->now - from) * KVD_UNIT * SIM_TICK / n->tick;
	m->clock_at = s->now;
	return m->clock;
}

/* --- starting ------------------------------------------------------------------------ */

/* As kvd makes a cluster: the log begins with an entry for each member. */
static void first_entries(struct sim *s, struct sim_node *n)
{
	struct raft_entry e = { .term = 1, .type = RAFT_ENTRY_CONF_CHANGE };
	struct sim_disk *d = &n->disk;
	char name[8];

	for (uint64_t id = 1; id <= s->profile.size; id++) {
		snprintf(name, sizeof(name), "m%d", (int)id);
		e.index = id;
		e.payload = cluster_encode_add(id, id, peer_urls, 1, name);
		BUG_ON(!e.payload);
		d->entries = sim_alloc(d->entries, id, sizeof(e));
		d->entries[d->n_entries++] = e;
	}
	d->hard_state = d->synced = (struct raft_hard_state){ .term = 1, .commit = d->n_entries };
}

void node_init(struct sim *s, struct sim_node *n, uint64_t id)
{
	memset(n, 0, sizeof(*n));
	n->id = id;
	n->writes_end = &n->writes;
	*member_of(n) = (struct kvd_member){ .clock = 1000000000, .clock_at = s->now };
	member_of(n)->jobs_end = &member_of(n)->jobs;
	if (id <= s->profile.size)
		first_entries(s, n);
}

static void open_store(struct sim *s, struct sim_node *n)
{
	struct kvd_member *m = member_of(n);
	struct mvcc_args args = {
		.cache_bytes = 1 + sim_draw(s, 20000), .ring_events = 1 + sim_draw(s, 100),
	};
	char why[256] = "";

	store_open(&m->disk);
	if (mvcc_open(m->disk.backend, &args, &m->store, why, sizeof(why)))
		sim_fail(s, "%d cannot open its store: %s", (int)n->id, why);
}

static void open_core(struct sim *s, struct sim_node *n)
{
	struct kvd_member *m = member_of(n);
	struct sim_disk *d = &n->disk;
	struct core_config c = {
		.member_id = n->id, .cluster_id = 9, .seed = sim_draw(s, UINT64_MAX),
		.election_ticks = SIM_ELECTION_TICKS, .heartbeat_ticks = 1,
		.tick = SIM_TICK * KVD_UNIT, .snapshot_count = 1 + sim_draw(s, 60), .quota = -1,
		.name = "m", .client_urls = urls, .n_client_urls = 1, .hard_state = d->hard_state,
	};
	uint64_t index = core_applied_in(m->store).index, last = d->base + d->n_entries;
	const char *why;

	if (index < d->base || index > last)
		sim_fail(s, "%d has applied %llu, and its log is %llu-%llu", (int)n->id,
			 (unsigned long long)index, (unsigned long long)d->base + 1,
			 (unsigned long long)last);
	c.log_term = d->base_term;
	c.entries = d->entries;
	c.n_entries = d->n_entries;
	if (core_open(&c, m->store, &m->core, &why))
		sim_fail(s, "%d cannot start: %s", (int)n->id, why);
	n->machine.applied = index;
	sim_trace(s, "%d starts with log %d-%d, applied %d, term %d, commit %d", (int)n->id,
		  (int)d->base + 1, (int)last, (int)index, (int)c.hard_state.term,
		  (int)c.hard_state.commit);
}

void node_start(struct sim *s, struct sim_node *n)
{
	if (n->raft || n->id > s->profile.size)
		return;
	open_store(s, n);
	open_core(s, n);
	n->raft = member_of(n)->core->raft;
	n->config.pre_vote = n->config.check_quorum = true;
	n->paused_until = n->stopped_until = 0;
	check_started(s, n);
	sim_node_at(s, n, SIM_EV_TICK, sim_draw(s, n->tick));
	sim_wake(s, n);
}

/* --- ending ---------------------------------------------------------------------------- */

static void release_append(void *owner)
{
	struct core_append *a = owner;

	/* disk.c has the entries. */
	a->n_entries = 0;
	core_append_free(a);
}

/* What was on its way to the store's thread, or back. */
static void drop_jobs(struct kvd_member *m)
{
	struct fetch_job *fetch;

	while (m->jobs) {
		struct kvd_job *job = m->jobs;

		m->jobs = job->next;
		if (job->fetch)
			core_fetched(m->core, job->fetch);
		if (job->batch)
			mvcc_batch_done(m->store, job->batch->batch);
		free(job->batch);
		free(job);
	}
	m->jobs_end = &m->jobs;
	while ((fetch = core_take_fetch(m->core)))
		core_fetched(m->core, fetch);
}

static void stop(struct sim_node *n)
{
	struct kvd_member *m = member_of(n);

	disk_forget(n);
	raft_conf_state_release(&n->machine.conf);
	if (m->core) {
		drop_jobs(m);
		watch_stop(n);
		core_close(m->core);
		mvcc_free(m->store);
	}
	m->core = NULL;
	m->store = NULL;
	n->raft = NULL;
	n->turn_comes = n->store_comes = false;
	n->life++;
}

void node_crashed(struct sim *s, struct sim_node *n)
{
	struct kvd_member *m = member_of(n);

	member_clock(s, n);
	stop(n);
	store_crash(s, &m->disk);
	/* Nobody hears what became of them. */
	client_compare(s);
}

void node_release(struct sim_node *n)
{
	struct kvd_member *m = member_of(n);

	stop(n);
	mvcc_backend_close(m->disk.backend);
	m->disk.backend = NULL;
	store_forget(&m->disk);
	store_release(&m->disk);
	disk_release(n);
}

/* --- what the core asks for -------------------------------------------------------------- */

static void take_appends(struct sim *s, struct sim_node *n)
{
	struct core_append *a;

	while ((a = core_take_append(member_of(n)->core))) {
		struct sim_write *w = sim_alloc(NULL, 1, sizeof(*w));

		*w = (struct sim_write){
			.entries = a->entries, .n_entries = a->n_entries,
			.hard_state = a->hard_state, .hard_state_changed = a->has_hard_state,
			.sync = a->sync, .owner = a, .release = release_append,
		};
		check_holds(s, n, a->entries, a->n_entries);
		for (size_t i = 0; i < a->n_entries; i++)
			sim_mix(s, a->entries[i].index << 16 ^ a->entries[i].term);
		a->entries = NULL;
		disk_add(s, n, w);
	}
}

static void take_messages(struct sim *s, struct sim_node *n)
{
	struct core_messages *messages;

	while ((messages = core_take_messages(member_of(n)->core))) {
		net_send(s, messages->messages, messages->n);
		core_messages_free(messages);
	}
}

static void store_next(struct sim *s, struct sim_node *n)
{
	if (n->store_comes || !member_of(n)->jobs)
		return;
	n->store_comes = true;
	sim_node_at(s, n, SIM_EV_STORE, sim_draw(s, s->profile.apply_delay));
}

static void add_job(struct sim *s, struct sim_node *n, const struct kvd_job *what)
{
	struct kvd_member *m = member_of(n);
	struct kvd_job *job = sim_alloc(NULL, 1, sizeof(*job));

	*job = *what;
	*m->jobs_end = job;
	m->jobs_end = &job->next;
	store_next(s, n);
}

static void take_jobs(struct sim *s, struct sim_node *n)
{
	struct core *core = member_of(n)->core;
	struct core_batch *batch;
	struct fetch_job *fetch;
	struct hash_job *hash;

	while ((fetch = core_take_fetch(core)))
		add_job(s, n, &(struct kvd_job){ .fetch = fetch });
	while ((hash = core_take_hash(core)))
		add_job(s, n, &(struct kvd_job){ .hash = hash });
	batch = core_take_batch(core, member_clock(s, n), false);
	if (batch)
		add_job(s, n, &(struct kvd_job){ .batch = batch });
}

/* --- what has been applied ---------------------------------------------------------------- */

static const struct raft_entry *entry_on_disk(const struct sim_node *n, uint64_t index)
{
	BUG_ON(index <= n->disk.base || index > n->disk.base + n->disk.n_entries);
	return &n->disk.entries[index - n->disk.base - 1];
}

/* The model carries out what no member had applied before, and says what must be now. */
static void check_applied(struct sim *s, struct sim_node *n)
{
	struct kvd_member *m = member_of(n);
	uint64_t applied = m->core->applied;

	for (uint64_t i = n->machine.applied + 1; i <= applied; i++) {
		const struct raft_entry *e = entry_on_disk(n, i);

		check_apply(s, n, e);
		n->machine.applied = i;
		if (i > kvd.model.index)
			model_apply(s, i, e, e->type == RAFT_ENTRY_NORMAL && e->payload ?
				    client_find(request_id_of(blob_slice(e->payload))) : NULL);
	}
	if (mvcc_revision(m->store) != kvd.model.revision_at[applied] ||
	    mvcc_compact_revision(m->store) != kvd.model.compacted_at[applied])
		sim_fail(s, "%d is at revision %d, compacted at %d; entry %d makes %d, %d",
			 (int)n->id, (int)mvcc_revision(m->store),
			 (int)mvcc_compact_revision(m->store), (int)applied,
			 (int)kvd.model.revision_at[applied], (int)kvd.model.compacted_at[applied]);
	raft_conf_state_release(&n->machine.conf);
	BUG_ON(raft_conf_state(n->raft, &n->machine.conf));
	n->disk.machine.applied = m->core->synced;
}

/* Something was done to the core. */
static void settle(struct sim *s, struct sim_node *n)
{
	take_messages(s, n);
	take_appends(s, n);
	check_step(s, n);
	check_applied(s, n);
	client_compare(s);
	take_jobs(s, n);
}

static void demand(struct sim *s, struct sim_node *n, int err)
{
	if (err < 0)
		sim_fail(s, "%d: its core fails: %d", (int)n->id, err);
}

/* --- events -------------------------------------------------------------------------------- */

int node_step(struct sim *s, struct sim_node *n, const struct raft_event *ev)
{
	struct kvd_member *m = member_of(n);
	uint64_t now = member_clock(s, n);

	if (ev->type == RAFT_TICK)
		demand(s, n, core_tick(m->core, now));
	else if (ev->type == RAFT_RECEIVE)
		demand(s, n, core_receive(m->core, ev->message));
	else if (ev->type == RAFT_UNREACHABLE)
		demand(s, n, core_unreachable(m->core, ev->id));
	else
		demand(s, n, core_step(m->core, ev));
	settle(s, n);
	sim_wake(s, n);
	return 0;
}

void node_leap(struct sim *s, struct sim_node *n, uint64_t ticks)
{
	member_clock(s, n);
	member_of(n)->clock += ticks * SIM_TICK * KVD_UNIT;
	node_step(s, n, &(struct raft_event){ .type = RAFT_TICK });
}

static void turn(struct sim *s, struct sim_node *n)
{
	struct kvd_member *m = member_of(n);

	n->turn_comes = false;
	demand(s, n, core_turn(m->core, member_clock(s, n)));
	settle(s, n);
	watch_deliver(s, n);
	take_jobs(s, n);
	if (!sim_draw(s, CHECK_EVERY))
		mvcc_check(m->store);
	if (core_busy(m->core))
		sim_wake(s, n);
}

void node_written(struct sim *s, struct sim_node *n, struct sim_write *w)
{
	struct core_append *a = w->owner;

	if (a->release_index) {
		s->count[SIM_KV_LOG_CUT] += a->release_index > n->disk.base;
		disk_cut(n, a->release_index);
	}
	a->entries = w->entries;
	w->entries = NULL;
	w->owner = NULL;
	demand(s, n, core_appended(member_of(n)->core, a));
	settle(s, n);
	sim_wake(s, n);
}

static void add_to_crc(void *arg, struct slice bytes)
{
	uint32_t *crc = arg;

	*crc = crc32c(*crc, bytes);
}

static void hash_slice(struct kvd_member *m, struct hash_job *hash)
{
	int r = mvcc_backend_hash(m->disk.backend, &hash->hash, HASH_BYTES, add_to_crc,
				  &hash->crc);

	BUG_ON(r < 0);
	hash->more = r;
	core_hashed(m->core, hash);
}

/* The store's thread has done what was first in its queue. */
static void store_done(struct sim *s, struct sim_node *n)
{
	struct kvd_member *m = member_of(n);
	struct kvd_job *job = m->jobs;

	n->store_comes = false;
	m->jobs = job->next;
	if (!m->jobs)
		m->jobs_end = &m->jobs;
	if (job->batch) {
		store_write(s, &m->disk, job->batch);
		BUG_ON(mvcc_backend_size(m->disk.backend, &job->batch->size));
		core_stored(m->core, job->batch);
	} else if (job->hash) {
		hash_slice(m, job->hash);
	} else {
		s->count[SIM_KV_FETCH]++;
		BUG_ON(mvcc_backend_fetch(m->disk.backend, job->fetch->fetch));
		core_fetched(m->core, job->fetch);
	}
	free(job);
	settle(s, n);
	sim_wake(s, n);
	store_next(s, n);
}

void node_event(struct sim *s, struct sim_node *n, enum sim_kind kind)
{
	BUG_ON(kind != SIM_EV_TURN && kind != SIM_EV_STORE);
	if (kind == SIM_EV_TURN)
		turn(s, n);
	else if (!s->calm && sim_chance(s, s->profile.disk_error))
		disk_fail(s, n);
	else
		store_done(s, n);
}

/* The core decides by itself when its log is cut. */
void node_compact(struct sim *s, struct sim_node *n, uint64_t index)
{
}

/* Members come and go by requests. */
int node_propose(struct sim *s, struct sim_node *n, enum raft_entry_type type, struct blob *b)
{
	blob_put(b);
	return 0;
}
