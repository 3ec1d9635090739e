// SPDX-License-Identifier: Apache-2.0
/*
 * Writing. A transaction is one revision; its changes are numbered from zero in
 * the order in which they are made. Nothing is undone: who opens a transaction has
 * checked that all of it can be done.
 */
#include "libmvcc/mvcc_i.h"

void mvcc_begin(struct mvcc *store)
{
	BUG_ON(store->txn.open);
	store->txn.open = true;
	store->txn.main = store->revision + 1;
	store->txn.sub = 0;
}

int64_t mvcc_end(struct mvcc *store)
{
	BUG_ON(!store->txn.open);
	store->txn.open = false;
	if (store->txn.sub)
		store->revision = store->txn.main;
	return store->revision;
}

/* What a watcher with prev_kv will want: the value that is about to be replaced. */
static void event_prev(const struct mvcc *store, const struct key *key, struct ring_event *e)
{
	if (!store->watch.n_prev)
		return;
	if (!key || !key_live(key)) {
		e->prev_known = !key || key->mod != store->txn.main;
	} else if (key->value && key->mod != store->txn.main) {
		e->prev = blob_get(key->value);
		e->prev_known = true;
	}
}

/* Tells ring and watchers; @key is still as it was before, NULL if there was none. */
static int announce(struct mvcc *store, const struct key *key, uint32_t sub, struct blob *kv)
{
	struct ring_event e = { .main = store->txn.main, .sub = sub };
	int r;

	event_prev(store, key, &e);
	e.kv = blob_get(kv);
	r = ring_push(&store->ring, &e);
	if (r)
		return r;
	watch_notify(store, kv_key(kv), sub & SUB_TOMBSTONE, e.main);
	return 0;
}

/* One change: (@create, @version) of zero is a tombstone. @key is NULL where @path
 * says that there is none. */
static int change(struct mvcc *store, struct index_path *path, struct key *key,
		  const struct mvcc_kv *now, struct blob *kv)
{
	bool tombstone = !now->create_revision, was_live = key && key_live(key), fresh = !key;
	uint32_t sub = store->txn.sub | (tombstone ? SUB_TOMBSTONE : 0);
	int r;

	BUG_ON(store->txn.sub >= SUB_TOMBSTONE - 1);
	store_touch(store);
	r = announce(store, key, sub, kv);
	if (!r)
		r = batch_put(store, store->txn.main, sub, kv);
	if (r)
		return r;
	if (!key)
		key = key_new(now->key);
	if (!key)
		return -ENOMEM;
	if (tombstone)
		cache_drop(store, key);
	r = key_push(key, store->txn.main, sub, now->create_revision, now->version);
	if (r)
		return r;
	if (fresh)
		r = index_insert(&store->index, path, key);
	else
		index_changed(&store->index, path, was_live);
	if (!r && !tombstone)
		r = cache_set(store, key, kv);
	store->txn.sub++;
	store->revisions++;
	return r;
}

/* Asks memory for what change() will write to. */
static void change_fetch(struct index_path *path, const struct key *key)
{
	index_path_fetch(path);
	if (!key)
		return;
	__builtin_prefetch(key->value, 1);
	__builtin_prefetch(key->history, 1);
}

/* Room for the value of a put, which is guessed to be on a key like that of the one before. */
static struct blob *put_room(struct mvcc *store, const struct mvcc_kv *now)
{
	struct mvcc_kv like = *now;
	struct blob *room;

	like.create_revision = MAX(store->like.create_revision, 1);
	like.version = MAX(store->like.version, 1);
	room = kv_room(&like);
	if (!room)
		return NULL;
	for (size_t i = 0; i < blob_cost(room); i += 64)
		__builtin_prefetch((const uint8_t *)room + i, 1);
	ring_make_room(&store->ring, blob_cost(room));
	return room;
}

/* The index is asked first, for the leaf; while memory brings that, room is made for what
 * the put will write. */
int mvcc_put(struct mvcc *store, const struct mvcc_put *put)
{
	struct mvcc_kv now = {
		.key = put->key,
		.value = put->value,
		.lease = put->lease,
		.create_revision = store->txn.main,
		.mod_revision = store->txn.main,
		.version = 1,
	};
	struct index_path path;
	struct blob *kv;
	struct key *key;
	int r;

	BUG_ON(!store->txn.open);
	index_approach(&store->index, put->key, &path);
	kv = put_room(store, &now);
	if (!kv)
		return -ENOMEM;
	key = index_arrive(&store->index, put->key, &path);
	change_fetch(&path, key);
	if (key && key_live(key)) {
		now.create_revision = key->create;
		now.version = key->version + 1;
	}
	kv = kv_encode_into(&kv, &now);
	if (!kv)
		return -ENOMEM;
	store->like.create_revision = now.create_revision;
	store->like.version = now.version;
	r = change(store, &path, key, &now, kv);
	blob_put(kv);
	return r;
}

/* --- deletion ------------------------------------------------------------- */

struct keys {
	struct key **keys;
	size_t n, cap;
};

static int keys_add(void *arg, struct key *key)
{
	struct keys *keys = arg;
	int r = vec_grow(&keys->keys, &keys->cap, keys->n);

	if (!r)
		keys->keys[keys->n++] = key;
	return r;
}

static int keys_collect(const struct mvcc *store, struct mvcc_key_range range, struct keys *keys)
{
	struct index_walk walk = { .live = true, .fn = keys_add, .arg = keys };
	struct key *key;

	if (!range_is_key(range)) {
		index_walk_range(&walk, range);
		return index_walk(&store->index, &walk);
	}
	key = index_find(&store->index, range.key);
	return key && key_live(key) ? keys_add(keys, key) : 0;
}

static int delete_key(struct mvcc *store, struct key *key, struct mvcc_result *out)
{
	struct mvcc_kv now = { .key = key_slice(key) };
	struct blob *kv = kv_encode(&now);
	struct index_path path;
	int r;

	if (!kv)
		return -ENOMEM;
	BUG_ON(index_seek(&store->index, now.key, &path) != key);
	r = change(store, &path, key, &now, kv);
	if (!r && out)
		r = result_add(out, kv);
	blob_put(kv);
	return r;
}

int mvcc_delete_range(struct mvcc *store, struct mvcc_key_range range, struct mvcc_result *out)
{
	struct keys keys = { 0 };
	int r;

	BUG_ON(!store->txn.open);
	if (out)
		result_clear(out);
	r = keys_collect(store, range, &keys);
	for (size_t i = 0; i < keys.n && !r; i++)
		r = delete_key(store, keys.keys[i], out);
	if (!r && out)
		out->count = (int64_t)keys.n;
	free(keys.keys);
	return r;
}
