// SPDX-License-Identifier: Apache-2.0
/*
 * Reading. A read first collects keys from the index: in order of key, which is
 * the common case, no more than the limit asks for; otherwise all of them, to be
 * filtered and sorted. Only of those that remain the values are looked up.
 */
#include "libmvcc/mvcc_i.h"

struct gather {
	struct found *items;
	size_t n, cap;
	size_t most;			/* stop there; 0: no limit */
	int64_t revision;
	const struct mvcc_read *read;
};

/* --- results -------------------------------------------------------------- */

void mvcc_result_init(struct mvcc_result *result)
{
	*result = (struct mvcc_result){ 0 };
}

void result_clear(struct mvcc_result *result)
{
	for (size_t i = 0; i < result->n; i++)
		blob_put(result->kvs[i]);
	result->n = 0;
	result->count = 0;
	result->more = false;
}

void mvcc_result_release(struct mvcc_result *result)
{
	result_clear(result);
	free(result->kvs);
	mvcc_result_init(result);
}

int result_add(struct mvcc_result *result, struct blob *kv)
{
	int r = vec_grow(&result->kvs, &result->cap, result->n);

	if (!r)
		result->kvs[result->n++] = blob_get(kv);
	return r;
}

/* --- values --------------------------------------------------------------- */

static struct blob *value_in_memory(struct mvcc *store, const struct value_want *want, bool newest)
{
	struct key *key = want->key;
	struct blob *b;

	if (newest && key->value) {
		if (!key->hot)
			key->hot = 1;
		store->cache.hits++;
		return key->value;
	}
	b = batch_find(store, want->main, want->sub);
	return b ? b : ring_find(&store->ring, want->main, want->sub);
}

int value_find(struct mvcc *store, const struct value_want *want, struct blob **out)
{
	struct mvcc_rev rev = { want->main, want->sub & ~SUB_TOMBSTONE };
	struct key *key = want->key;
	bool newest = key && key->mod == want->main && key->sub == want->sub;
	int r;

	*out = value_in_memory(store, want, newest);
	if (*out)
		return want->fetch->keep ? fetch_keep(want->fetch, want->known, rev, *out) : 0;
	r = fetch_find(want->fetch, want->known, rev, out);
	if (r == MVCC_COLD)
		store->cache.misses++;
	if (r || !*out)
		return r ? r : -EBADMSG;
	return newest && key_live(key) ? cache_set(store, key, *out) : 0;
}

/* --- collecting ----------------------------------------------------------- */

static bool filtered(const struct mvcc_read *read, const struct found *f)
{
	return (read->min_mod_revision && f->mod < read->min_mod_revision) ||
	       (read->max_mod_revision && f->mod > read->max_mod_revision) ||
	       (read->min_create_revision && f->create < read->min_create_revision) ||
	       (read->max_create_revision && f->create > read->max_create_revision);
}

static int gather_key(void *arg, struct key *key)
{
	struct gather *g = arg;
	int r = vec_grow(&g->items, &g->cap, g->n);

	if (r)
		return r;
	if (!key_at(key, g->revision, &g->items[g->n]) ||
	    filtered(g->read, &g->items[g->n]))
		return 0;
	g->n++;
	return g->most && g->n >= g->most;
}

static bool has_filters(const struct mvcc_read *read)
{
	return read->min_mod_revision || read->max_mod_revision ||
	       read->min_create_revision || read->max_create_revision;
}

/*
 * Collecting may stop at the limit where the index gives the keys in the order that
 * is asked for. An order of none with a target does sort, but etcd limits before it
 * does, unless there are filters; clients see that, so it is so here.
 */
static bool limits_early(const struct mvcc_read *read)
{
	return read->sort_target == MVCC_SORT_KEY ||
	       (read->sort_order == MVCC_SORT_NONE && !has_filters(read));
}

static int gather(struct mvcc *store, struct gather *g, bool current, struct mvcc_result *out)
{
	const struct mvcc_read *read = g->read;
	struct index_walk walk = {
		.live = current,
		.reverse = read->sort_target == MVCC_SORT_KEY &&
			   read->sort_order == MVCC_SORT_DESCEND,
		.since = MAX(read->min_mod_revision, 0),
		.fn = gather_key,
		.arg = g,
	};
	struct found found;
	struct key *key;
	int r;

	if (range_is_key(read->range)) {
		key = index_find(&store->index, read->range.key);
		out->count = key && key_at(key, g->revision, &found);
		return out->count && !read->count_only ? gather_key(g, key) : 0;
	}
	index_walk_range(&walk, read->range);
	out->count = index_count(&store->index, &walk, g->revision);
	if (!out->count || read->count_only)
		return 0;
	if (read->limit > 0 && limits_early(read))
		g->most = (size_t)MIN(read->limit, INT64_MAX - 1) + 1;
	r = index_walk(&store->index, &walk);
	return MIN(r, 0);
}

/* --- sorting -------------------------------------------------------------- */

/* What is sorted: what the index knows, and the value where it is sorted by that. */
struct sorted {
	struct found found;
	int64_t by;
	struct slice value;
};

static bool less_by(const void *a, const void *b)
{
	return ((const struct sorted *)a)->by < ((const struct sorted *)b)->by;
}

static bool greater_by(const void *a, const void *b)
{
	return less_by(b, a);
}

static bool less_value(const void *a, const void *b)
{
	return slice_cmp(((const struct sorted *)a)->value, ((const struct sorted *)b)->value) < 0;
}

static bool greater_value(const void *a, const void *b)
{
	return less_value(b, a);
}

static int sort_key(struct mvcc *store, const struct mvcc_read *read, struct value_want *want,
		    struct sorted *s)
{
	struct mvcc_kv kv;
	struct blob *b;
	int r;

	switch (read->sort_target) {
	case MVCC_SORT_VERSION:
		s->by = s->found.version;
		return 0;
	case MVCC_SORT_CREATE:
		s->by = s->found.create;
		return 0;
	case MVCC_SORT_MOD:
		s->by = s->found.mod;
		return 0;
	case MVCC_SORT_VALUE:
		want->key = s->found.key;
		want->main = s->found.mod;
		want->sub = s->found.sub;
		r = value_find(store, want, &b);
		if (!r)
			r = mvcc_kv_decode(blob_slice(b), &kv);
		if (!r)
			s->value = kv.value;
		return r;
	default:
		BUG();
		return 0;
	}
}

/* Not by key: the index has that order. Ties: see sort.c. */
static int sort_found(struct mvcc *store, struct gather *g, struct value_want *want)
{
	bool descend = g->read->sort_order == MVCC_SORT_DESCEND, cold = false;
	bool value = g->read->sort_target == MVCC_SORT_VALUE;
	struct sorted *s;
	int r = 0;

	if (g->read->sort_target == MVCC_SORT_KEY || g->n < 2)
		return 0;
	s = calloc(g->n, sizeof(*s));
	if (!s)
		return -ENOMEM;
	for (size_t i = 0; i < g->n && r >= 0; i++) {
		s[i].found = g->items[i];
		r = sort_key(store, g->read, want, &s[i]);
		cold |= r == MVCC_COLD;
	}
	if (r >= 0 && !cold)
		sort_items(s, g->n, sizeof(*s),
			   value ? descend ? greater_value : less_value :
			   descend ? greater_by : less_by);
	for (size_t i = 0; i < g->n && !r; i++)
		g->items[i] = s[i].found;
	free(s);
	return r < 0 ? r : cold ? MVCC_COLD : 0;
}

/* --- answering ------------------------------------------------------------ */

/* A key without its value: from the index; or, sorted by value, from the record,
 * whose lease then remains, as etcd has it. */
static int add_key_only(struct mvcc *store, const struct gather *g, const struct found *f,
			struct value_want *want, struct mvcc_result *out)
{
	struct mvcc_kv kv = {
		.key = key_slice(f->key), .create_revision = f->create,
		.mod_revision = f->mod, .version = f->version,
	};
	struct blob *b;
	int r = 0;

	if (g->read->sort_target == MVCC_SORT_VALUE) {
		r = value_find(store, want, &b);
		if (!r)
			r = mvcc_kv_decode(blob_slice(b), &kv);
		if (r)
			return r;
		kv.value = slice_of(NULL, 0);
	}
	b = kv_encode(&kv);
	if (!b)
		return -ENOMEM;
	r = result_add(out, b);
	blob_put(b);
	return r;
}

static int answer(struct mvcc *store, struct gather *g, struct value_want *want,
		  struct mvcc_result *out)
{
	const struct mvcc_read *read = g->read;
	bool cold = false;
	struct blob *b;
	int r;

	out->more = read->limit > 0 && g->n > (uint64_t)read->limit;
	if (out->more)
		g->n = (size_t)read->limit;
	for (size_t i = 0; i < g->n; i++) {
		if (i + AHEAD < g->n)
			__builtin_prefetch(g->items[i + AHEAD].key->value);
		want->key = g->items[i].key;
		want->main = g->items[i].mod;
		want->sub = g->items[i].sub;
		if (read->keys_only) {
			r = add_key_only(store, g, &g->items[i], want, out);
		} else {
			r = value_find(store, want, &b);
			if (!r && !cold)
				r = result_add(out, b);
		}
		if (r < 0)
			return r;
		cold |= r == MVCC_COLD;
	}
	return cold ? MVCC_COLD : 0;
}

/* The revision to read at, in *@revision; @current where it is the newest there is. */
static int read_revision(const struct mvcc *store, int64_t asked, int64_t *revision,
			 bool *current)
{
	int64_t now = store->revision + (store->txn.open && store->txn.sub);

	if (asked > now)
		return MVCC_FUTURE;
	if (asked > 0 && asked < store->compact_revision)
		return MVCC_COMPACTED;
	*current = asked <= 0 || asked == now;
	*revision = *current ? INT64_MAX : asked;
	return 0;
}

/* One key with its value, as it is now: the commonest read. */
static bool is_plain(const struct mvcc_read *read)
{
	return range_is_key(read->range) && !read->keys_only && !read->count_only &&
	       !has_filters(read);
}

static int range_plain(struct mvcc *store, struct value_want *want, struct slice name,
		       struct mvcc_result *out)
{
	struct key *key = index_find(&store->index, name);
	struct blob *b = NULL;
	int r = 0;

	if (key && key_live(key)) {
		want->key = key;
		want->main = key->mod;
		want->sub = key->sub;
		r = value_find(store, want, &b);
	}
	if (r)
		return r;
	result_clear(out);
	out->count = !!b;
	return b ? result_add(out, b) : 0;
}

static int range_any(struct mvcc *store, struct gather *g, bool current,
		     struct value_want *want, struct mvcc_result *out)
{
	struct mvcc_result result;
	int r;

	mvcc_result_init(&result);
	r = gather(store, g, current, &result);
	if (!r)
		r = sort_found(store, g, want);
	if (!r)
		r = answer(store, g, want, &result);
	free(g->items);
	if (r) {
		mvcc_result_release(&result);
		return r;
	}
	mvcc_result_release(out);
	*out = result;
	return 0;
}

int mvcc_range(struct mvcc *store, const struct mvcc_read *read, struct mvcc_fetch *fetch,
	       struct mvcc_result *out)
{
	struct gather g = { .read = read };
	struct value_want want = { .fetch = fetch };
	bool current;
	int r = read_revision(store, read->revision, &g.revision, &current);

	if (!r)
		r = fetch_sort(fetch);
	if (r)
		return r;
	want.known = fetch->n;
	if (current && is_plain(read))
		r = range_plain(store, &want, read->range.key, out);
	else
		r = range_any(store, &g, current, &want, out);
	/* not before it has all: what it found in the cache, it comes back for */
	if (!r)
		cache_trim(store, TRIM_READ + 2 * fetch->n);
	return r;
}

void mvcc_ahead(const struct mvcc *store, const struct slice *keys, size_t n)
{
	for (size_t i = 0; i < n; i += INDEX_AHEAD_MAX)
		index_ahead(&store->index, keys + i, MIN(n - i, (size_t)INDEX_AHEAD_MAX));
}

bool mvcc_find(const struct mvcc *store, struct slice name, struct mvcc_key_info *out)
{
	const struct key *key = index_find(&store->index, name);

	if (!key || !key_live(key))
		return false;
	out->create_revision = key->create;
	out->version = key->version;
	out->mod = (struct mvcc_rev){ key->mod, key->sub };
	return true;
}
