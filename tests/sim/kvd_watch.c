// SPDX-License-Identifier: Apache-2.0
/*
 * Watches, and what etcd promises of them: events come in the order of their revisions,
 * none twice, none is left out, those of one revision come together, a watch that is
 * made again goes on after the last, and who is told to have seen a revision has seen
 * everything up to it. What was delivered is compared with the model's history.
 */
#include "tests/sim/kvd_sim.h"

#define MAX_EVENTS 8		/* that are asked for at once */

static bool matches(const struct kvd_watch *w, const struct kvd_version *v)
{
	return v->key >= w->key && v->key < w->end && !(v->tombstone ? w->no_delete : w->no_put);
}

static void fail(struct sim *s, const struct kvd_watch *w, const char *what,
		 const struct mvcc_event *ev)
{
	struct text t = { 0 };
	struct mvcc_kv kv;

	text_add(&t, "a watch of %d for k%02d-k%02d at %d %s", (int)w->node->id, w->key, w->end,
		 (int)w->next, what);
	if (ev && !mvcc_kv_decode(blob_slice(ev->kv), &kv))
		text_kv(&t, &kv);
	sim_fail(s, "%s", t.data);
}

/* The one before, unless a compaction took it. */
static void check_prev(struct sim *s, const struct kvd_watch *w, const struct mvcc_event *ev,
		       const struct kvd_version *v)
{
	const struct kvd_version *before = model_find(&kvd.model, v->key, v->main - 1);
	char value[KVD_VALUE_MAX];
	struct mvcc_kv kv, want;

	if (!w->prev || !before || before->tombstone) {
		if (ev->prev)
			fail(s, w, "has a value before that is none", ev);
		return;
	}
	if (!ev->prev) {
		if (v->main - 1 >= kvd.model.compacted)
			fail(s, w, "lacks the value before", ev);
		return;
	}
	model_kv(before, value, &want);
	if (mvcc_kv_decode(blob_slice(ev->prev), &kv) || !slice_eq(kv.key, want.key) ||
	    !slice_eq(kv.value, want.value) || kv.mod_revision != want.mod_revision)
		fail(s, w, "has another value before", ev);
}

static void check_event(struct sim *s, const struct kvd_watch *w, const struct mvcc_event *ev,
			const struct kvd_version *v)
{
	char value[KVD_VALUE_MAX];
	struct mvcc_kv kv, want;

	model_kv(v, value, &want);
	if (mvcc_kv_decode(blob_slice(ev->kv), &kv) || ev->mod_revision != v->main ||
	    (ev->type == MVCC_DELETE) != v->tombstone || !slice_eq(kv.key, want.key) ||
	    !slice_eq(kv.value, want.value) || kv.lease != want.lease ||
	    kv.version != want.version || kv.create_revision != want.create_revision)
		fail(s, w, "is told of what did not happen:", ev);
	check_prev(s, w, ev, v);
}

/* Exactly what happened from w->next up to what it says that it has seen. */
static void check_events(struct sim *s, struct kvd_watch *w, const struct mvcc_events *events)
{
	const struct kvd_model *m = &kvd.model;
	size_t given = 0;

	if (events->revision > m->revision)
		fail(s, w, "claims to have seen what has not happened", NULL);
	for (size_t i = model_after(m, w->next - 1); i < m->n; i++) {
		const struct kvd_version *v = &m->history[i];

		if (v->main > events->revision)
			break;
		if (!matches(w, v))
			continue;
		if (given == events->n)
			fail(s, w, "misses an event", NULL);
		check_event(s, w, &events->events[given++], v);
	}
	if (given < events->n)
		fail(s, w, "is told too much:", &events->events[given]);
	s->count[SIM_KV_EVENT] += given;
	sim_mix(s, (uint64_t)events->revision << 8 ^ given);
	w->next = MAX(w->next, events->revision + 1);
}

static void deliver(struct sim *s, struct kvd_watch *w);

static void fetched(struct fetch_job *job)
{
	struct kvd_watch *w = container_of(job, struct kvd_watch, job);

	w->fetching = false;
}

static void unwatch(struct kvd_watch *w)
{
	if (w->watcher)
		mvcc_unwatch(member_of(w->node)->store, w->watcher);
	w->watcher = NULL;
	mvcc_fetch_release(&w->fetch);
	mvcc_fetch_init(&w->fetch);
}

/* Its history is gone: it begins again at what is there. */
static void cut(struct sim *s, struct kvd_watch *w, int64_t compacted)
{
	if (w->next >= kvd.model.compacted)
		fail(s, w, "is cut off although nothing is compacted", NULL);
	if (compacted > kvd.model.compacted)
		fail(s, w, "is told of a compaction that was none", NULL);
	s->count[SIM_KV_CUT]++;
	unwatch(w);
	w->from = 0;
}

static void deliver(struct sim *s, struct kvd_watch *w)
{
	struct kvd_member *m = member_of(w->node);
	struct mvcc_events events;
	int outcome;

	mvcc_events_init(&events);
	for (;;) {
		outcome = mvcc_watch_next(m->store, w->watcher, MAX_EVENTS, &w->fetch, &events);
		if (outcome)
			break;
		mvcc_fetch_release(&w->fetch);
		mvcc_fetch_init(&w->fetch);
		check_events(s, w, &events);
		if (!events.n)
			break;
		mvcc_events_release(&events);
		mvcc_events_init(&events);
	}
	if (outcome == MVCC_COLD) {
		s->count[SIM_KV_LAG]++;
		w->fetching = true;
		w->job = (struct fetch_job){ .fetch = &w->fetch, .done = fetched };
		core_submit_fetch(m->core, &w->job);
		sim_wake(s, w->node);
	} else if (outcome == MVCC_COMPACTED) {
		cut(s, w, events.compact_revision);
	} else if (outcome) {
		sim_fail(s, "a watch fails: %d", outcome);
	}
	mvcc_events_release(&events);
}

/* A new one, or one that was there before its member crashed. */
static void begin(struct sim *s, struct kvd_watch *w)
{
	struct mvcc_watch_args args = { .owner = w };

	if (!w->from) {
		w->key = (int)sim_draw(s, KVD_KEYS);
		w->end = sim_draw(s, 2) ? w->key + 1 :
			 w->key + 1 + (int)sim_draw(s, (uint64_t)(KVD_KEYS - w->key));
		w->prev = sim_draw(s, 2);
		w->no_put = !sim_draw(s, 8);
		w->no_delete = !sim_draw(s, 8);
		w->next = MAX(kvd.model.compacted, 1) +
			  (int64_t)sim_draw(s, (uint64_t)kvd.model.revision + 3);
		w->from = w->next;
	} else {
		s->count[SIM_KV_RESUMED]++;
	}
	args.range.key = kvd_key(w->key);
	args.range.end = w->end > w->key + 1 ? kvd_key(w->end) : SLICE_LIT("");
	args.start_revision = w->next;
	args.prev_kv = w->prev;
	args.no_put = w->no_put;
	args.no_delete = w->no_delete;
	BUG_ON(mvcc_watch(member_of(w->node)->store, &args, &w->watcher));
}

/* After a turn. One that is not asked loses nothing. */
void watch_deliver(struct sim *s, struct sim_node *n)
{
	struct kvd_member *m = member_of(n);
	struct mvcc_watcher *watcher;

	for (size_t i = 0; i < KVD_WATCHES; i++) {
		struct kvd_watch *w = &m->watches[i];

		w->node = n;
		if (!w->watcher && (s->calm || !sim_draw(s, 8)))
			begin(s, w);
	}
	/* Off the list for good: who is taken off is asked until there is no more. */
	while ((watcher = mvcc_watch_ready(m->store)))
		((struct kvd_watch *)mvcc_watcher_owner(watcher))->ready = true;
	for (size_t i = 0; i < KVD_WATCHES; i++) {
		struct kvd_watch *w = &m->watches[i];

		if (!w->watcher || !w->ready || w->fetching || (!s->calm && sim_draw(s, 3)))
			continue;
		w->ready = false;
		deliver(s, w);
		w->ready = w->fetching;
	}
}

/* Its member is gone; it is not. */
void watch_stop(struct sim_node *n)
{
	for (size_t i = 0; i < KVD_WATCHES; i++) {
		unwatch(&member_of(n)->watches[i]);
		member_of(n)->watches[i].fetching = member_of(n)->watches[i].ready = false;
	}
}

/* Nothing is under way any more: each must have seen everything. */
void watch_check_end(struct sim *s, struct sim_node *n)
{
	struct kvd_member *m = member_of(n);

	for (size_t i = 0; i < KVD_WATCHES; i++) {
		struct kvd_watch *w = &m->watches[i];

		if (w->watcher && w->next <= kvd.model.revision &&
		    mvcc_watcher_synced(m->store, w->watcher))
			check_events(s, w, &(struct mvcc_events){ .revision = kvd.model.revision });
		if (!w->watcher || w->next <= kvd.model.revision)
			fail(s, w, "has not seen everything", NULL);
	}
}
