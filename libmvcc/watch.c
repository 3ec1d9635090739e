// SPDX-License-Identifier: Apache-2.0
/*
 * Watching. What clients are promised (etcd's guarantees): events in order of
 * revision, each once, none left out, a revision whole or not at all, and a watch
 * can go on from any revision that is not compacted.
 *
 * A watcher that has caught up stays where it is through a compaction while the
 * ring still has what it waits for: to have caught up and then be told that the
 * next event is compacted would be an artefact of when it was asked.
 */
#include "include/wire.h"
#include "libmvcc/mvcc_i.h"

/* One call of mvcc_watch_next(). */
struct reader {
	struct mvcc *store;
	struct mvcc_watcher *w;
	struct mvcc_events ev;
	struct value_want want;
	size_t max;
	int64_t next;
	const struct watch_past *past;	/* the watcher's, until it is read to its end */
	size_t past_at;
	bool cold;
};

/* --- watchers ------------------------------------------------------------- */

/* What a watcher has beside its state is the state's own: its place in the ready list,
 * or its list of the past. */
static void set_state(struct mvcc *store, struct mvcc_watcher *w, enum watcher_state state)
{
	struct watch_table *t = &store->watch;

	t->n_lagging += (int64_t)(state != WATCHER_IDLE) - (int64_t)(w->state != WATCHER_IDLE);
	if (w->state == WATCHER_READY)
		list_del(&w->ready);
	else if (w->state == WATCHER_TAKEN)
		past_free(w->past);
	w->past = NULL;
	if (state == WATCHER_READY)
		list_add_tail(&t->ready, &w->ready);
	if (state == WATCHER_IDLE)
		w->joined = true;
	w->state = state;
}

int mvcc_watch(struct mvcc *store, const struct mvcc_watch_args *args, struct mvcc_watcher **out)
{
	struct mvcc_watcher *w;
	int r;

	BUG_ON(store->txn.open);
	if (args->start_revision < 0)
		return -EINVAL;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	r = group_join(&store->watch, args->range, w);
	if (r) {
		free(w);
		return r;
	}
	w->no_put = args->no_put;
	w->no_delete = args->no_delete;
	w->prev_kv = args->prev_kv;
	w->owner = args->owner;
	w->begun = !args->start_revision;
	w->next_revision = w->begun ? store->revision + 1 :
			   MIN(args->start_revision, WATCH_REVISION_MAX);
	store->watch.n++;
	store->watch.n_prev += w->prev_kv;
	set_state(store, w, w->next_revision <= store->revision ? WATCHER_READY : WATCHER_IDLE);
	*out = w;
	return 0;
}

static void watcher_free(struct mvcc_watcher *w)
{
	if (w->state == WATCHER_TAKEN)
		past_free(w->past);
	free(w);
}

void mvcc_unwatch(struct mvcc *store, struct mvcc_watcher *w)
{
	if (!w)
		return;
	set_state(store, w, WATCHER_IDLE);
	group_leave(&store->watch, w);
	store->watch.n--;
	store->watch.n_prev -= w->prev_kv;
	watcher_free(w);
}

void *mvcc_watcher_owner(const struct mvcc_watcher *w)
{
	return w->owner;
}

bool mvcc_watcher_synced(const struct mvcc *store, const struct mvcc_watcher *w)
{
	return w->state == WATCHER_IDLE && (w->begun || w->next_revision <= store->revision);
}

struct mvcc_watcher *mvcc_watch_ready(struct mvcc *store)
{
	struct mvcc_watcher *w;

	if (list_empty(&store->watch.ready))
		return NULL;
	w = list_first(&store->watch.ready, struct mvcc_watcher, ready);
	set_state(store, w, WATCHER_TAKEN);
	return w;
}

/* --- a change wakes its watchers ------------------------------------------ */

struct hit {
	struct mvcc *store;
	bool deletion;
	int64_t main;
};

/* An idle watcher has seen all before this revision, however long ago it was asked. */
static void hit_group(void *arg, struct watch_group *group)
{
	const struct hit *hit = arg;
	struct mvcc_watcher *w = group->first;

	do {
		if (w->state != WATCHER_IDLE || hit->main < w->next_revision ||
		    (hit->deletion ? w->no_delete : w->no_put))
			continue;
		w->next_revision = hit->main;
		set_state(hit->store, w, WATCHER_READY);
	} while ((w = w->next) != group->first);
}

void watch_notify(struct mvcc *store, struct slice key, bool deletion, int64_t main)
{
	struct hit hit = { store, deletion, main };

	if (store->watch.n)
		group_each(&store->watch, key, hit_group, &hit);
}

/* --- events --------------------------------------------------------------- */

void mvcc_events_init(struct mvcc_events *events)
{
	*events = (struct mvcc_events){ 0 };
}

void mvcc_events_release(struct mvcc_events *events)
{
	for (size_t i = 0; i < events->n; i++) {
		blob_put(events->events[i].kv);
		blob_put(events->events[i].prev);
	}
	free(events->events);
	mvcc_events_init(events);
}

/* A value that the reader wants; 0 with NULL where it has to be fetched first. */
static int want_value(struct reader *rd, struct key *key, int64_t main, uint32_t sub,
		      struct blob **out)
{
	int r;

	rd->want.key = key;
	rd->want.main = main;
	rd->want.sub = sub;
	r = value_find(rd->store, &rd->want, out);
	if (r != MVCC_COLD)
		return r;
	rd->cold = true;
	*out = NULL;
	return 0;
}

/* The value that @name had before @main, borrowed; NULL where there was none, or it is
 * compacted, as far as a read at that revision would say. */
static int prev_value(struct reader *rd, struct slice name, int64_t main, struct blob **out)
{
	struct key *key = index_find(&rd->store->index, name);
	struct found found;

	*out = NULL;
	if (!key || !key_at(key, main - 1, &found))
		return 0;
	return want_value(rd, key, found.mod, found.sub, out);
}

static struct blob *deletion_kv(const struct blob *tombstone, int64_t main)
{
	const struct mvcc_kv kv = { .key = kv_key(tombstone), .mod_revision = main };

	return kv_encode(&kv);
}

/* Takes over the reference @kv; gets one of its own for @prev, which may be NULL. */
static int add_event(struct reader *rd, struct batch_drop rev, struct blob *kv,
		     struct blob *prev)
{
	struct mvcc_events *ev = &rd->ev;
	int r = vec_grow(&ev->events, &ev->cap, ev->n);

	if (r) {
		blob_put(kv);
		return r;
	}
	ev->events[ev->n++] = (struct mvcc_event){
		.type = rev.sub & SUB_TOMBSTONE ? MVCC_DELETE : MVCC_PUT,
		.mod_revision = rev.main,
		.kv = kv,
		.prev = prev ? blob_get(prev) : NULL,
	};
	return 0;
}

/* A put that creates the key has none, even where the same transaction deleted one. */
static bool wants_prev(const struct reader *rd, int64_t main, const struct blob *kv)
{
	struct mvcc_kv put;

	if (!rd->w->prev_kv || main - 1 < rd->store->compact_revision)
		return false;
	return mvcc_kv_decode(blob_slice(kv), &put) || !put.create_revision ||
	       put.create_revision != put.mod_revision;
}

/* --- events of the past --------------------------------------------------- */

static int past_event(struct reader *rd, struct batch_drop rev)
{
	struct mvcc_key_range range = group_range(rd->w->group);
	struct key *key = range_is_key(range) ? index_find(&rd->store->index, range.key) : NULL;
	struct blob *kv, *prev = NULL;
	int r = want_value(rd, key, rev.main, rev.sub, &kv);

	/* the first of two changes of one key at the compact revision itself */
	if (r == -EBADMSG && rev.main <= rd->store->compact_revision)
		return 0;
	if (!r && kv && wants_prev(rd, rev.main, kv))
		r = prev_value(rd, kv_key(kv), rev.main, &prev);
	if (r || !kv)
		return r;
	kv = rev.sub & SUB_TOMBSTONE ? deletion_kv(kv, rev.main) : blob_get(kv);
	return kv ? add_event(rd, rev, kv, prev) : -ENOMEM;
}

/* A new list of past revisions. Nothing was read yet, so that the watcher can be moved
 * to where the list begins. */
static int begin_past(struct reader *rd)
{
	struct mvcc_watcher *w = rd->w;

	BUG_ON(rd->ev.n);
	past_free(w->past);
	w->past = NULL;
	w->next_revision = rd->next;
	rd->past_at = 0;
	return past_new(rd->store, w, rd->next, &w->past);
}

/* Reads from the list of past revisions, up to its end or until there is enough. */
static int read_past(struct reader *rd)
{
	const struct watch_past *past;
	size_t wanted = 0;
	int64_t main;
	int r = 0;

	if (!rd->past)
		r = begin_past(rd);
	if (r)
		return r;
	past = rd->w->past;
	rd->past = past;
	while (!r && rd->past_at < past->n && rd->ev.n + wanted < rd->max) {
		main = past->revs[rd->past_at].main;
		while (!r && rd->past_at < past->n && past->revs[rd->past_at].main == main) {
			r = past_event(rd, past->revs[rd->past_at++]);
			wanted += rd->cold;
		}
		rd->next = main + 1;
	}
	if (!r && rd->past_at == past->n) {
		rd->next = past->upto + 1;
		rd->past = NULL;
	}
	return r;
}

/* --- events of the ring --------------------------------------------------- */

static int ring_prev(struct reader *rd, const struct ring_event *e, struct blob **out)
{
	*out = NULL;
	if (!wants_prev(rd, e->main, e->kv))
		return 0;
	if (!e->prev_known)
		return prev_value(rd, kv_key(e->kv), e->main, out);
	*out = e->prev;
	return 0;
}

/* A tombstone gets its mod revision once, for all that will be told of it. */
static int ring_patch(struct ring *ring, struct ring_event *e)
{
	struct blob *kv;

	if (e->patched || !(e->sub & SUB_TOMBSTONE))
		return 0;
	kv = deletion_kv(e->kv, e->main);
	if (!kv)
		return -ENOMEM;
	ring->bytes += blob_cost(kv) - blob_cost(e->kv);
	blob_put(e->kv);
	e->kv = kv;
	e->patched = true;
	return 0;
}

static int ring_event(struct reader *rd, struct ring_event *e)
{
	const struct batch_drop rev = { e->main, e->sub };
	struct blob *prev;
	int r;

	if ((e->sub & SUB_TOMBSTONE ? rd->w->no_delete : rd->w->no_put) ||
	    !range_has(group_range(rd->w->group), kv_key(e->kv)))
		return 0;
	r = ring_patch(&rd->store->ring, e);
	if (!r)
		r = ring_prev(rd, e, &prev);
	return r ? r : add_event(rd, rev, blob_get(e->kv), prev);
}

static int read_ring(struct reader *rd)
{
	struct ring *ring = &rd->store->ring;
	uint64_t pos = ring_seek(ring, rd->next);
	int r = 0;

	while (!r && pos < ring->tail) {
		struct ring_event *e = ring_at(ring, pos);

		if (e->main >= rd->next && rd->ev.n >= rd->max)
			return 0;
		rd->next = e->main + 1;
		while (!r && pos < ring->tail && ring_at(ring, pos)->main < rd->next)
			r = ring_event(rd, ring_at(ring, pos++));
	}
	if (!r)
		rd->next = rd->store->revision + 1;
	return r;
}

/* --- reading on ----------------------------------------------------------- */

static bool is_compacted(const struct mvcc *store, const struct mvcc_watcher *w)
{
	return w->next_revision < store->compact_revision &&
	       !(w->joined && w->next_revision >= store->ring.first);
}

/* All was found: the watcher moves on, and its list of the past goes when it is read. */
static void advance(struct reader *rd)
{
	struct mvcc_watcher *w = rd->w;

	w->begun |= rd->next > w->next_revision;
	w->next_revision = rd->next;
	if (w->past && w->past == rd->past) {
		w->past->at = rd->past_at;
	} else {
		past_free(w->past);
		w->past = NULL;
	}
	/* one that begins in the future has seen what there is, and no more */
	rd->ev.revision = MIN(rd->next - 1, rd->store->revision);
	if (!rd->ev.n)
		set_state(rd->store, w, WATCHER_IDLE);
}

static int compacted(const struct mvcc *store, struct mvcc_watcher *w, struct mvcc_events *out)
{
	past_free(w->past);
	w->past = NULL;
	mvcc_events_release(out);
	out->compact_revision = store->compact_revision;
	return MVCC_COMPACTED;
}

/* Where the next thing to read is another list of the past, what was found goes first. */
static bool reads_on(const struct reader *rd)
{
	if (rd->cold || rd->next > rd->store->revision || rd->ev.n >= rd->max)
		return false;
	return rd->past || rd->next >= rd->store->ring.first || !rd->ev.n;
}

/* Of a watcher that is taken, or idle. */
static int watch_read(struct mvcc *store, struct mvcc_watcher *w, size_t max,
		      struct mvcc_fetch *fetch, struct mvcc_events *out)
{
	struct reader rd = {
		.store = store, .w = w, .max = max, .next = w->next_revision, .past = w->past,
		.past_at = w->past ? w->past->at : 0, .want.fetch = fetch,
	};
	int r = fetch_sort(fetch);

	if (r)
		return r;
	if (w->state == WATCHER_IDLE)
		rd.next = MAX(store->revision + 1, rd.next);
	else if (is_compacted(store, w))
		return compacted(store, w, out);
	rd.want.known = fetch->n;
	while (!r && reads_on(&rd))
		r = rd.past || rd.next < store->ring.first ? read_past(&rd) : read_ring(&rd);
	if (r || rd.cold) {
		mvcc_events_release(&rd.ev);
		return r ? r : MVCC_COLD;
	}
	cache_trim(store, TRIM_READ + 2 * fetch->n);
	advance(&rd);
	mvcc_events_release(out);
	*out = rd.ev;
	return 0;
}

int mvcc_watch_next(struct mvcc *store, struct mvcc_watcher *w, size_t max,
		    struct mvcc_fetch *fetch, struct mvcc_events *out)
{
	bool ready = w->state == WATCHER_READY;
	int r;

	BUG_ON(store->txn.open || !max);
	if (ready)
		set_state(store, w, WATCHER_TAKEN);
	r = watch_read(store, w, max, fetch, out);
	/* one that nobody took is still there to be taken */
	if (ready && w->state == WATCHER_TAKEN)
		set_state(store, w, WATCHER_READY);
	return r;
}

/* --- the whole ------------------------------------------------------------ */

void watch_init(struct mvcc *store)
{
	group_table_init(&store->watch);
}

void watch_release(struct mvcc *store)
{
	group_table_release(&store->watch, watcher_free);
}

void watch_check(const struct mvcc *store)
{
	const struct mvcc_watcher *w;

	group_table_check(&store->watch);
	list_for_each(w, &store->watch.ready, ready)
		BUG_ON(w->state != WATCHER_READY || w->next_revision > store->revision + 1);
	BUG_ON(store->watch.n_lagging > store->watch.n || store->watch.n_lagging < 0);
}
