// SPDX-License-Identifier: Apache-2.0
/*
 * Random operations against a model that is too simple to be wrong: the list of all
 * changes ever made, searched from end to end. Every kind of read, at every revision
 * that is left, watchers from any revision with any filter, compactions in steps,
 * batches at any time, restarts and crashes, over both backends.
 *
 *	KVD_SEED=n	runs that seed alone
 */
#include "tests/unit/mvcc_util.h"

#define KEYS_MAX 2000
#define CHANGES_MAX 40000
#define WATCHERS_MAX 12
#define KEY_BYTES 12

struct change {
	int64_t main, create, version, lease;	/* create 0: a deletion */
	int key;
	uint32_t value;				/* number of the put that made it */
};

struct model_watcher {
	struct mvcc_watcher *watcher;
	int from, end;				/* end -1: one key; n_keys: open */
	int64_t next;
	bool no_put, no_delete, prev_kv, ended;
};

struct world {
	struct rig rig;
	uint64_t random;
	int n_keys;
	char names[KEYS_MAX][KEY_BYTES];	/* in order */
	size_t name_len[KEYS_MAX];
	struct change *changes;
	size_t n, stored;			/* stored: what a crash leaves */
	int64_t revision, compacted, stored_revision, stored_compacted;
	int64_t applied, stored_applied;	/* a small record */
	struct model_watcher watchers[WATCHERS_MAX];
};

/* --- randomness: xorshift64* ---------------------------------------------- */

static uint32_t rnd(struct world *w, uint32_t below)
{
	w->random ^= w->random >> 12;
	w->random ^= w->random << 25;
	w->random ^= w->random >> 27;
	return (uint32_t)((w->random * UINT64_C(2685821657736338717)) >> 33) % below;
}

static bool chance(struct world *w, uint32_t percent)
{
	return rnd(w, 100) < percent;
}

static int name_cmp(const void *a, const void *b)
{
	return memcmp(a, b, KEY_BYTES);
}

/* Names of different lengths that share prefixes and have zero bytes in them. */
static void names_make(struct world *w)
{
	for (int i = 0; i < w->n_keys; i++) {
		char name[32] = "";

		if (i % 3)
			snprintf(name, sizeof(name), "/k/%04d", i);
		else
			snprintf(name, sizeof(name), "/k/a/%c%04d", 'a' + i % 5, i);
		memcpy(w->names[i], name, KEY_BYTES);
	}
	qsort(w->names, (size_t)w->n_keys, KEY_BYTES, name_cmp);
	for (int i = 0; i < w->n_keys; i++) {
		assert_true(!i || memcmp(w->names[i - 1], w->names[i], KEY_BYTES));
		w->name_len[i] = strnlen(w->names[i], KEY_BYTES);
	}
	/* one that is the one before it and a zero byte */
	if (w->n_keys > 2 && w->name_len[1] < KEY_BYTES) {
		memcpy(w->names[2], w->names[1], KEY_BYTES);
		w->name_len[2] = w->name_len[1] + 1;
	}
}

static struct slice name(const struct world *w, int i)
{
	return slice_of(w->names[i], w->name_len[i]);
}

static int name_find(const struct world *w, struct slice key)
{
	for (int i = 0; i < w->n_keys; i++)
		if (slice_eq(name(w, i), key))
			return i;
	fail_msg("a key that was never put");
	return -1;
}

/* [from, end) as the API has it. */
static struct mvcc_key_range range_of(const struct world *w, int from, int end)
{
	struct mvcc_key_range range = { name(w, from), { 0 } };

	if (end == w->n_keys)
		range.end = slice_of("", 1);
	else if (end >= 0)
		range.end = name(w, end);
	return range;
}

static bool in_range(int from, int end, int key)
{
	return end < 0 ? key == from : key >= from && key < end;
}

/* --- the model ------------------------------------------------------------ */

/* The state of a key after all changes up to @revision; NULL where it is not there. */
static const struct change *model_at(const struct world *w, int key, int64_t revision)
{
	for (size_t i = w->n; i-- > 0;)
		if (w->changes[i].key == key && w->changes[i].main <= revision)
			return w->changes[i].create ? &w->changes[i] : NULL;
	return NULL;
}

static void value_make(uint32_t number, char *out, size_t size, size_t *len)
{
	/* values of very different sizes, now and then beyond a page */
	*len = number % 97 == 0 ? 20000 : number % 5 == 0 ? 0 : number % 40 + 1;
	assert_true(*len < size);
	memset(out, 'a' + (int)(number % 23), *len);
	if (*len >= 8)
		memcpy(out, &number, sizeof(number));
}

static void kv_check(const struct world *w, const struct change *c, const struct blob *blob,
		     bool value, bool lease)
{
	static char bytes[32768];
	struct mvcc_kv kv;
	size_t len;

	assert_int_equal(mvcc_kv_decode(blob_slice(blob), &kv), 0);
	assert_true(slice_eq(kv.key, name(w, c->key)));
	assert_int_equal(kv.mod_revision, c->main);
	assert_int_equal(kv.create_revision, c->create);
	assert_int_equal(kv.version, c->version);
	assert_int_equal(kv.lease, lease ? c->lease : 0);
	value_make(c->value, bytes, sizeof(bytes), &len);
	assert_true(slice_eq(kv.value, slice_of(bytes, value ? len : 0)));
}

/* --- writing -------------------------------------------------------------- */

static void do_put(struct world *w, int key, int64_t main)
{
	static char bytes[32768];
	const struct change *was = model_at(w, key, main);
	struct change *c = &w->changes[w->n];
	struct mvcc_put put = { .key = name(w, key) };
	size_t len;

	*c = (struct change){
		.main = main, .key = key, .value = (uint32_t)w->n,
		.create = was ? was->create : main, .version = was ? was->version + 1 : 1,
		.lease = chance(w, 20) ? (int64_t)rnd(w, 5) - 1 : 0,
	};
	value_make(c->value, bytes, sizeof(bytes), &len);
	put.value = slice_of(bytes, len);
	put.lease = c->lease;
	assert_int_equal(mvcc_put(w->rig.store, &put), 0);
	w->n++;
}

static void do_delete(struct world *w, int from, int end, int64_t main)
{
	struct mvcc_result result;
	size_t n = 0;

	mvcc_result_init(&result);
	assert_int_equal(mvcc_delete_range(w->rig.store, range_of(w, from, end), &result), 0);
	for (int key = from; key < (end < 0 ? from + 1 : end); key++) {
		struct mvcc_kv kv;

		if (!model_at(w, key, main))
			continue;
		assert_true(n < result.n);
		assert_int_equal(mvcc_kv_decode(blob_slice(result.kvs[n]), &kv), 0);
		assert_true(slice_eq(kv.key, name(w, key)));
		assert_int_equal(kv.mod_revision, 0);
		w->changes[w->n++] = (struct change){ .main = main, .key = key };
		n++;
	}
	assert_int_equal(result.n, n);
	assert_int_equal(result.count, n);
	mvcc_result_release(&result);
}

static void pick_range(struct world *w, int *from, int *end)
{
	*from = (int)rnd(w, (uint32_t)w->n_keys);
	switch (rnd(w, 6)) {
	case 0:
		*end = w->n_keys;
		break;
	case 1:
	case 2:
		*end = -1;
		break;
	case 3:
		*end = (int)rnd(w, (uint32_t)w->n_keys);	/* may well be empty */
		break;
	default:
		*end = MIN(*from + (int)rnd(w, 10), w->n_keys - 1);
	}
}

static void read_check(struct world *w, bool in_txn);

static void step_write(struct world *w)
{
	int64_t main = w->revision + 1;
	size_t before = w->n;
	int from, end, changes = chance(w, 70) ? 1 : (int)rnd(w, 6);

	if (w->n + KEYS_MAX + 8 > CHANGES_MAX)
		return;
	mvcc_begin(w->rig.store);
	while (changes-- > 0) {
		if (chance(w, 75)) {
			do_put(w, (int)rnd(w, (uint32_t)w->n_keys), main);
		} else {
			pick_range(w, &from, &end);
			if (end == w->n_keys && !chance(w, 10))
				end = -1;
			do_delete(w, from, end, main);
		}
		if (chance(w, 10))
			read_check(w, w->n > before);
	}
	w->revision += w->n > before;
	assert_int_equal(mvcc_end(w->rig.store), w->revision);
	w->applied++;
	assert_int_equal(mvcc_record_put(w->rig.store, "meta", SLICE_LIT("applied"),
					 slice_of(&w->applied, sizeof(w->applied))), 0);
}

/* --- reading -------------------------------------------------------------- */

static int64_t sort_figure(const struct change *c, enum mvcc_sort_target target)
{
	switch (target) {
	case MVCC_SORT_KEY:
		return c->key;
	case MVCC_SORT_VERSION:
		return c->version;
	case MVCC_SORT_CREATE:
		return c->create;
	default:
		return c->main;
	}
}

static int sort_cmp(const struct change *a, const struct change *b, enum mvcc_sort_target target)
{
	static char x[32768], y[32768];
	size_t xn, yn;

	if (target != MVCC_SORT_VALUE)
		return (sort_figure(a, target) > sort_figure(b, target)) -
		       (sort_figure(a, target) < sort_figure(b, target));
	value_make(a->value, x, sizeof(x), &xn);
	value_make(b->value, y, sizeof(y), &yn);
	return slice_cmp(slice_of(x, xn), slice_of(y, yn));
}

/* A stable insertion sort. */
static void model_sort(const struct change **found, size_t n, enum mvcc_sort_target target,
		       bool descend)
{
	for (size_t i = 1; i < n; i++) {
		const struct change *c = found[i];
		size_t at = i;

		while (at) {
			int order = sort_cmp(found[at - 1], c, target);

			if (descend ? order >= 0 : order <= 0)
				break;
			found[at] = found[at - 1];
			at--;
		}
		found[at] = c;
	}
}

static bool model_drops(const struct mvcc_read *r, const struct change *c)
{
	return (r->min_mod_revision && c->main < r->min_mod_revision) ||
	       (r->max_mod_revision && c->main > r->max_mod_revision) ||
	       (r->min_create_revision && c->create < r->min_create_revision) ||
	       (r->max_create_revision && c->create > r->max_create_revision);
}

/* What a read should give: @found[0..n), of @all that were there before the cut. */
struct model_result {
	const struct change *found[KEYS_MAX];
	size_t n, all;
	int64_t count;
	bool more;
};

/* As etcd does it: cut if it may, filter, sort, cut. */
static void model_range(const struct world *w, const struct mvcc_read *r, int from, int end,
			int64_t revision, struct model_result *out)
{
	bool filters = r->min_mod_revision || r->max_mod_revision || r->min_create_revision ||
		       r->max_create_revision;
	bool early = !filters && (r->sort_order == MVCC_SORT_NONE ||
				  (r->sort_target == MVCC_SORT_KEY &&
				   r->sort_order == MVCC_SORT_ASCEND));
	size_t n = 0;

	out->count = 0;
	for (int key = from; key < (end < 0 ? from + 1 : end); key++) {
		const struct change *c = model_at(w, key, revision);

		if (!c)
			continue;
		out->count++;
		if (r->count_only || (early && r->limit > 0 && (int64_t)n > r->limit))
			continue;
		if (!model_drops(r, c))
			out->found[n++] = c;
	}
	if (r->sort_target != MVCC_SORT_KEY || r->sort_order != MVCC_SORT_NONE)
		model_sort(out->found, n, r->sort_target, r->sort_order == MVCC_SORT_DESCEND);
	out->all = n;
	out->more = r->limit > 0 && (int64_t)n > r->limit;
	out->n = out->more ? (size_t)r->limit : n;
}

/*
 * The expected change at place @i, which is the one that was returned. Few keys, or
 * sorted by key: exactly this one. Otherwise ties may come in any order, and a limit
 * may cut anywhere among them: one that sorts the same, and only once.
 */
static const struct change *expected(const struct world *w, const struct mvcc_read *r,
				     struct model_result *m, size_t i, const struct blob *got)
{
	struct mvcc_kv kv;

	if (m->all <= 12 || r->sort_target == MVCC_SORT_KEY)
		return m->found[i];
	assert_int_equal(mvcc_kv_decode(blob_slice(got), &kv), 0);
	for (size_t k = i; k < m->all; k++) {
		const struct change *c = m->found[k];

		if (sort_cmp(m->found[i], c, r->sort_target))
			break;
		if (!slice_eq(name(w, c->key), kv.key))
			continue;
		m->found[k] = m->found[i];
		m->found[i] = c;
		return c;
	}
	fail_msg("not in order");
	return NULL;
}

static void pick_read(struct world *w, struct mvcc_read *r)
{
	uint32_t span = (uint32_t)w->revision + 3;

	if (chance(w, 50))
		r->revision = (int64_t)rnd(w, span);
	if (chance(w, 50))
		r->limit = (int64_t)rnd(w, 12);
	if (chance(w, 50)) {
		r->sort_order = (enum mvcc_sort_order)rnd(w, 3);
		r->sort_target = (enum mvcc_sort_target)rnd(w, 5);
	}
	r->keys_only = chance(w, 20);
	r->count_only = chance(w, 10);
	if (chance(w, 15))
		r->min_mod_revision = (int64_t)rnd(w, span);
	if (chance(w, 15))
		r->max_mod_revision = (int64_t)rnd(w, span);
	if (chance(w, 15))
		r->min_create_revision = (int64_t)rnd(w, span);
	if (chance(w, 15))
		r->max_create_revision = (int64_t)rnd(w, span);
}

/* @in_txn: a transaction is open and has changed something. */
static void read_check(struct world *w, bool in_txn)
{
	static struct model_result model;
	int64_t now = w->revision + in_txn;
	struct mvcc_result result;
	struct mvcc_read r = { 0 };
	int from, end, got;

	pick_range(w, &from, &end);
	pick_read(w, &r);
	r.range = range_of(w, from, end);
	mvcc_result_init(&result);
	got = rig_range(&w->rig, &r, &result);
	if (r.revision > now) {
		assert_int_equal(got, MVCC_FUTURE);
		return;
	}
	if (r.revision && r.revision < w->compacted) {
		assert_int_equal(got, MVCC_COMPACTED);
		return;
	}
	assert_int_equal(got, 0);
	model_range(w, &r, from, end, r.revision ? r.revision : now, &model);
	assert_int_equal(result.n, model.n);
	assert_int_equal(result.count, model.count);
	assert_int_equal(result.more, model.more);
	for (size_t i = 0; i < model.n; i++)
		kv_check(w, expected(w, &r, &model, i, result.kvs[i]), result.kvs[i], !r.keys_only,
			 !r.keys_only || r.sort_target == MVCC_SORT_VALUE);
	mvcc_result_release(&result);
}

/* --- watching ------------------------------------------------------------- */

static void step_watch(struct world *w)
{
	struct model_watcher *m = &w->watchers[rnd(w, WATCHERS_MAX)];
	struct mvcc_watch_args args = { 0 };

	if (m->watcher) {
		if (chance(w, 20)) {
			mvcc_unwatch(w->rig.store, m->watcher);
			m->watcher = NULL;
		}
		return;
	}
	*m = (struct model_watcher){ .no_put = chance(w, 15), .no_delete = chance(w, 15),
				     .prev_kv = chance(w, 40) };
	pick_range(w, &m->from, &m->end);
	if (chance(w, 60))
		args.start_revision = (int64_t)rnd(w, (uint32_t)w->revision + 5);
	args.range = range_of(w, m->from, m->end);
	args.no_put = m->no_put;
	args.no_delete = m->no_delete;
	args.prev_kv = m->prev_kv;
	args.owner = m;
	m->next = args.start_revision ? args.start_revision : w->revision + 1;
	assert_int_equal(mvcc_watch(w->rig.store, &args, &m->watcher), 0);
}

static const struct change *model_event(const struct world *w, const struct model_watcher *m,
					int64_t revision, size_t *at)
{
	for (; *at < w->n && w->changes[*at].main <= revision; ++*at) {
		const struct change *c = &w->changes[*at];

		if (c->main < m->next || !in_range(m->from, m->end, c->key) ||
		    (c->create ? m->no_put : m->no_delete))
			continue;
		++*at;
		return c;
	}
	return NULL;
}

static void event_check(const struct world *w, const struct model_watcher *m,
			const struct change *c, const struct mvcc_event *e)
{
	const struct change *prev = model_at(w, c->key, c->main - 1);
	struct mvcc_kv kv;

	assert_int_equal(e->mod_revision, c->main);
	assert_int_equal(e->type, c->create ? MVCC_PUT : MVCC_DELETE);
	if (c->create) {
		kv_check(w, c, e->kv, true, true);
	} else {
		assert_int_equal(mvcc_kv_decode(blob_slice(e->kv), &kv), 0);
		assert_int_equal(name_find(w, kv.key), c->key);
		assert_int_equal(kv.mod_revision, c->main);
		assert_int_equal(kv.create_revision, 0);
		assert_int_equal(kv.value.len, 0);
	}
	if (!m->prev_kv || c->main - 1 < w->compacted || (c->create == c->main))
		prev = NULL;
	assert_int_equal(!prev, !e->prev);
	if (prev)
		kv_check(w, prev, e->prev, true, true);
}

/* Of two changes of one key in the compact revision, the first is compacted. */
static bool may_be_gone(const struct world *w, const struct change *c)
{
	return c->main == w->compacted;
}

/* Asks once; true while there is more. */
static bool watch_step(struct world *w, struct model_watcher *m)
{
	struct mvcc_events events;
	const struct change *c;
	size_t at = 0, i = 0;
	bool more;
	int r;

	mvcc_events_init(&events);
	r = rig_next(&w->rig, m->watcher, 1 + rnd(w, 20), &events);
	if (r == MVCC_COMPACTED) {
		assert_true(m->next < w->compacted);
		assert_int_equal(events.compact_revision, w->compacted);
		m->ended = true;
		return false;
	}
	assert_int_equal(r, 0);
	assert_true(events.revision >= MIN(m->next - 1, w->revision));
	assert_true(events.revision <= w->revision);
	while ((c = model_event(w, m, events.revision, &at))) {
		if (may_be_gone(w, c) &&
		    (i == events.n || events.events[i].mod_revision != c->main ||
		     events.events[i].type != (c->create ? MVCC_PUT : MVCC_DELETE)))
			continue;
		assert_true(i < events.n);
		event_check(w, m, c, &events.events[i++]);
	}
	assert_int_equal(i, events.n);
	m->next = MAX(m->next, events.revision + 1);
	more = events.n > 0;
	if (!more)
		assert_true(events.revision >= w->revision);
	mvcc_events_release(&events);
	return more;
}

static void step_ready(struct world *w)
{
	struct mvcc_watcher *one;

	while ((one = mvcc_watch_ready(w->rig.store))) {
		struct model_watcher *m = mvcc_watcher_owner(one);

		assert_ptr_equal(m->watcher, one);
		while (watch_step(w, m))
			;
	}
	/* nobody that is not ready has anything to be told */
	for (size_t i = 0; i < WATCHERS_MAX; i++) {
		struct model_watcher *m = &w->watchers[i];
		size_t at = 0;

		if (!m->watcher || m->ended)
			continue;
		assert_null(model_event(w, m, w->revision, &at));
		m->next = MAX(m->next, w->revision + 1);
	}
}

/* One that is asked a single time, ready or not. */
static void step_ask(struct world *w)
{
	struct model_watcher *m = &w->watchers[rnd(w, WATCHERS_MAX)];

	if (m->watcher && !m->ended)
		watch_step(w, m);
}

/* --- compaction, batches, restarts ---------------------------------------- */

static void step_compact(struct world *w)
{
	int64_t to = w->compacted + (int64_t)rnd(w, 30);
	int want = to <= w->compacted ? MVCC_COMPACTED : to > w->revision ? MVCC_FUTURE : 0;

	if (chance(w, 20))
		to = w->revision;
	want = to <= w->compacted ? MVCC_COMPACTED : to > w->revision ? MVCC_FUTURE : 0;
	assert_int_equal(mvcc_compact(w->rig.store, to), want);
	if (!want)
		w->compacted = to;
	assert_int_equal(mvcc_compact_revision(w->rig.store), w->compacted);
}

static void step_store(struct world *w)
{
	rig_store(&w->rig);
	w->stored = w->n;
	w->stored_revision = w->revision;
	w->stored_compacted = w->compacted;
	w->stored_applied = w->applied;
}

static int leased_check(void *arg, struct slice key, int64_t lease)
{
	struct world *w = arg;
	const struct change *c = model_at(w, name_find(w, key), w->revision);

	assert_non_null(c);
	assert_int_equal(lease, c->lease);
	assert_true(lease);
	w->applied++;			/* used as a counter for a moment */
	return 0;
}

static void restart_check(struct world *w)
{
	struct slice applied = mvcc_record_get(w->rig.store, "meta", SLICE_LIT("applied"));
	int64_t was = w->applied, leased = 0;

	assert_int_equal(mvcc_revision(w->rig.store), w->revision);
	assert_int_equal(mvcc_compact_revision(w->rig.store), w->compacted);
	assert_int_equal(applied.len, was ? sizeof(was) : 0);
	if (was)
		assert_memory_equal(applied.data, &was, sizeof(was));
	for (int key = 0; key < w->n_keys; key++) {
		const struct change *c = model_at(w, key, w->revision);

		leased += c && c->lease;
	}
	assert_int_equal(mvcc_each_leased(w->rig.store, leased_check, w), 0);
	assert_int_equal(w->applied - was, leased);
	w->applied = was;
}

static void step_restart(struct world *w)
{
	if (chance(w, 50))
		step_store(w);
	rig_restart(&w->rig);
	w->n = w->stored;
	w->revision = w->stored_revision;
	w->compacted = w->stored_compacted;
	w->applied = w->stored_applied;
	memset(w->watchers, 0, sizeof(w->watchers));
	restart_check(w);
}

/* --- runs ----------------------------------------------------------------- */

static void step(struct world *w)
{
	uint32_t what = rnd(w, 1000);

	if (what < 450)
		step_write(w);
	else if (what < 700)
		read_check(w, false);
	else if (what < 740)
		step_watch(w);
	else if (what < 800)
		step_ready(w);
	else if (what < 860)
		step_ask(w);
	else if (what < 870)
		step_compact(w);
	else if (what < 920)
		mvcc_compact_step(w->rig.store, 1 + rnd(w, 20));
	else if (what < 985)
		step_store(w);
	else if (what < 990)
		step_restart(w);
	else
		mvcc_check(w->rig.store);
}

static void run(uint64_t seed, bool bdb)
{
	struct world *w = calloc(1, sizeof(*w));
	struct mvcc_args args;

	assert_non_null(w);
	w->random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	w->n_keys = seed % 3 ? 8 + (int)rnd(w, 60) : 700;
	args.cache_bytes = seed % 2 ? 1 + rnd(w, 5000) : 0;
	args.ring_events = seed % 2 ? 1 + rnd(w, 100) : 0;
	w->changes = calloc(CHANGES_MAX, sizeof(*w->changes));
	assert_non_null(w->changes);
	w->revision = 1;
	w->compacted = -1;
	names_make(w);
	rig_open(&w->rig, bdb, &args);
	step_store(w);
	for (int i = 0; i < (w->n_keys > 100 ? 1200 : 3000); i++)
		step(w);
	step_ready(w);
	mvcc_check(w->rig.store);
	rig_close(&w->rig);
	free(w->changes);
	free(w);
}

static void run_seeds(bool bdb)
{
	const char *one = getenv("KVD_SEED");

	if (one) {
		run(strtoull(one, NULL, 10), bdb);
		return;
	}
	for (uint64_t seed = 1; seed <= (bdb ? 8 : 24); seed++) {
		print_message("seed %" PRIu64 "\n", seed);
		run(seed, bdb);
	}
}

static void agrees_in_memory(void **state)
{
	run_seeds(false);
}

static void agrees_on_berkeley_db(void **state)
{
	run_seeds(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_in_memory),
		cmocka_unit_test(agrees_on_berkeley_db),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
