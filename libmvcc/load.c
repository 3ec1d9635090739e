// SPDX-License-Identifier: Apache-2.0
/*
 * Reading all that a backend holds into a new store. Records come in order of
 * revision, so that their keys come in any order; a few are collected before they go
 * into the index, so that memory brings what all of them need at the same time.
 */
#include "libmvcc/mvcc_i.h"

/* A record: a key with this one revision, until the index says that it has it. */
struct loaded {
	struct key *key;
	int64_t lease;
};

struct load {
	struct mvcc *store;
	struct loaded items[INDEX_AHEAD_MAX];
	size_t n;
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

/* Puts one record into the index, which takes its key over, or frees it. */
static int load_index(struct mvcc *store, struct loaded *item)
{
	struct key *fresh = item->key, *key;
	struct index_path path;
	bool was_live;
	int r;

	key = index_seek(&store->index, key_slice(fresh), &path);
	if (!key) {
		r = index_insert(&store->index, &path, fresh);
		if (r)
			return r;
		item->key = NULL;
		return leased_add(store, fresh, item->lease);
	}
	was_live = key_live(key);
	r = key_push(key, fresh->mod, fresh->sub, fresh->create, fresh->version);
	if (r)
		return r;
	index_changed(&store->index, &path, was_live);
	return leased_add(store, key, item->lease);
}

static int load_flush(struct load *load)
{
	struct slice names[INDEX_AHEAD_MAX];
	int r = 0;

	for (size_t i = 0; i < load->n; i++)
		names[i] = key_slice(load->items[i].key);
	index_ahead(&load->store->index, names, load->n);
	for (size_t i = 0; i < load->n; i++) {
		if (!r)
			r = load_index(load->store, &load->items[i]);
		key_free(load->items[i].key);
	}
	load->n = 0;
	return r;
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
	load->items[load->n++] = (struct loaded){ key, kv.lease };
	store->revisions++;
	store->revision = main;
	return load->n == ARRAY_SIZE(load->items) ? load_flush(load) : 0;
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
	if (r || flushed)
		return r ? r : flushed;
	compact_resume(store);
	store->stored = store->revision;
	store->ring.first = store->revision + 1;
	return 0;
}
