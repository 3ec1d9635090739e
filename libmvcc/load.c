// SPDX-License-Identifier: Apache-2.0
/*
 * Reading all that a backend holds into a new store. Records come in order of
 * revision, so that their keys come in any order, and each would find its place in the
 * index at the price of several looks at memory that nobody has looked at lately. So
 * many are collected and sorted first: neighbours then share all of the way.
 *
 * What is sorted are not the keys, which are anywhere in memory, but eight bytes of
 * each (the head), from where the keys of the group begin to differ; by digits, the last
 * one first, which keeps records of one key in order of revision.
 */
#include "include/endian_bytes.h"
#include "libmvcc/mvcc_i.h"

/* Records of a group: as many, or a share of the keys that the index has already, so that
 * of the keys that a leaf gets in a large index several are in the same group. */
#define GROUP_MIN ((size_t)1 << 18)
#define GROUP_SHARE 8
#define DIGITS 8			/* of a head, 8 bits each */
#define KEYS_AHEAD 32			/* memory is asked for so many keys before their turn */

/* A record: a key with this one revision, until the index says that it has it. */
struct loaded {
	uint64_t head;
	struct key *key;
	int64_t lease;
};

struct load {
	struct mvcc *store;
	struct loaded *items;
	size_t n, cap;
	size_t shared;			/* bytes that all of these keys begin with */
};

static int leased_add(struct mvcc *store, struct key *key, int64_t lease)
{
	int r;

	if (!lease)
		return 0;
	r = vec_grow(&store->leased, &store->cap_leased, store->n_leased);
	if (!r)
		store->leased[store->n_leased++] = (struct leased){
			key, key->mod, lease, key->sub,
		};
	return r;
}

/* A record that contradicts its revision or the one before it is damage. */
static int load_kv(const struct mvcc *store, int64_t main, uint32_t sub, struct slice value,
		   struct mvcc_kv *kv)
{
	int r = mvcc_kv_decode(value, kv);

	if (r)
		return r;
	if (sub & SUB_TOMBSTONE) {
		kv->create_revision = 0;
		kv->version = 0;
		kv->lease = 0;
	} else if (kv->mod_revision != main || kv->create_revision <= 0 ||
		   kv->create_revision > main || kv->version <= 0) {
		return -EBADMSG;
	}
	return main < store->revision && store->revisions ? -EBADMSG : 0;
}

/* Puts one record into the index, which takes its key over, or frees it. @path is the way
 * to the record before it in order, or has no depth. */
static int load_index(struct mvcc *store, struct loaded *item, struct index_path *path)
{
	struct key *fresh = item->key, *key;
	bool was_live;
	int r;

	if (!path->depth || !index_same_leaf(path, key_slice(fresh)))
		index_approach(&store->index, key_slice(fresh), path);
	key = index_arrive(&store->index, key_slice(fresh), path);
	if (!key) {
		r = index_insert(&store->index, path, fresh);
		if (r)
			return r;
		item->key = NULL;
		return leased_add(store, fresh, item->lease);
	}
	was_live = key_live(key);
	r = key_push(key, fresh->mod, fresh->sub, fresh->create, fresh->version);
	if (r)
		return r;
	index_changed(&store->index, path, was_live);
	return leased_add(store, key, item->lease);
}

/* --- sorting -------------------------------------------------------------- */

static uint64_t head_of(struct slice name, size_t skip)
{
	uint8_t bytes[8] = { 0 };

	if (name.len > skip)
		memcpy(bytes, name.data + skip, MIN(name.len - skip, sizeof(bytes)));
	return get_be64(bytes);
}

static unsigned int digit_of(uint64_t head, unsigned int digit)
{
	return head >> 8 * digit & 0xff;
}

/* Moves all of @from to @to in order of one digit; so many have each value of it. */
static void sort_digit(const struct loaded *from, struct loaded *to, size_t n,
		       unsigned int digit, const uint32_t counts[256])
{
	size_t at[256], sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		at[i] = sum;
		sum += counts[i];
	}
	BUG_ON(sum != n);
	for (size_t i = 0; i < n; i++)
		to[at[digit_of(from[i].head, digit)]++] = from[i];
}

/* By their heads; what has equal ones stays in order. @other has room for as many. Gives
 * the one of the two that has the result. */
static struct loaded *sort_heads(struct loaded *items, struct loaded *other, size_t n)
{
	uint32_t counts[DIGITS][256] = { 0 };

	for (size_t i = 0; i < n; i++)
		for (unsigned int d = 0; d < DIGITS; d++)
			counts[d][digit_of(items[i].head, d)]++;
	for (unsigned int d = 0; d < DIGITS; d++) {
		struct loaded *sorted = other;

		if (counts[d][digit_of(items[0].head, d)] == n)
			continue;
		sort_digit(items, other, n, d, counts[d]);
		other = items;
		items = sorted;
	}
	return items;
}

static bool loaded_less(const void *a, const void *b)
{
	const struct key *x = ((const struct loaded *)a)->key, *y = ((const struct loaded *)b)->key;
	int c = slice_cmp(key_slice(x), key_slice(y));

	if (c || x->mod != y->mod)
		return c ? c < 0 : x->mod < y->mod;
	return (x->sub & ~SUB_TOMBSTONE) < (y->sub & ~SUB_TOMBSTONE);
}

/* Where heads do not tell, the whole keys do. */
static void sort_ties(struct loaded *items, size_t n)
{
	for (size_t from = 0, to; from < n; from = to) {
		for (to = from + 1; to < n && items[to].head == items[from].head;)
			to++;
		if (to - from > 1)
			sort_items(items + from, to - from, sizeof(*items), loaded_less);
	}
}

/* --- a group of records --------------------------------------------------- */

static int load_sorted(struct mvcc *store, struct loaded *items, size_t n)
{
	struct index_path path = { .depth = 0 };
	int r = 0;

	for (size_t i = 0; i < n; i++) {
		if (i + KEYS_AHEAD < n)
			key_fetch(items[i + KEYS_AHEAD].key);
		if (!r)
			r = load_index(store, &items[i], &path);
		key_free(items[i].key);
	}
	return r;
}

static int load_flush(struct load *load)
{
	struct loaded *other, *sorted;
	int r;

	if (!load->n)
		return 0;
	other = malloc(load->n * sizeof(*other));
	sorted = load->items;
	for (size_t i = 0; i < load->n; i++)
		load->items[i].head = head_of(key_slice(load->items[i].key), load->shared);
	if (other) {
		sorted = sort_heads(load->items, other, load->n);
		sort_ties(sorted, load->n);
	} else {
		sort_items(sorted, load->n, sizeof(*sorted), loaded_less);
	}
	r = load_sorted(load->store, sorted, load->n);
	free(other);
	load->n = 0;
	return r;
}

/* Takes @key. */
static int load_add(struct load *load, struct key *key, int64_t lease)
{
	struct slice name = key_slice(key), first;
	int r = vec_grow(&load->items, &load->cap, load->n);
	size_t most;

	if (r) {
		key_free(key);
		return r;
	}
	first = load->n ? key_slice(load->items[0].key) : name;
	load->shared = load->n ? MIN(load->shared, slice_shared(name, first)) : name.len;
	load->items[load->n++] = (struct loaded){ .key = key, .lease = lease };
	most = MAX((size_t)load->store->index.keys / GROUP_SHARE, GROUP_MIN);
	return load->n >= most ? load_flush(load) : 0;
}

static int load_revision(void *arg, int64_t main, uint32_t sub, struct slice value)
{
	struct load *load = arg;
	struct mvcc *store = load->store;
	struct mvcc_kv kv;
	struct key *key;
	int r = load_kv(store, main, sub, value, &kv);

	if (r)
		return r;
	key = key_new(kv.key);
	if (!key)
		return -ENOMEM;
	r = key_push(key, main, sub, kv.create_revision, kv.version);
	BUG_ON(r);
	store->revisions++;
	store->revision = main;
	return load_add(load, key, kv.lease);
}

static int load_record(void *arg, struct slice key, struct slice value)
{
	return record_load(arg, key, value);
}

int load(struct mvcc *store)
{
	struct mvcc_backend *b = store->backend;
	struct load load = { .store = store };
	int r = b->ops->scan_records(b, load_record, store), flushed;

	if (!r)
		r = b->ops->scan(b, (struct mvcc_rev){ 0 }, load_revision, &load);
	flushed = load_flush(&load);
	free(load.items);
	if (r || flushed)
		return r ? r : flushed;
	compact_resume(store);
	store->stored = store->revision;
	store->ring.first = store->revision + 1;
	return 0;
}
