// SPDX-License-Identifier: Apache-2.0
/*
 * Small records: the caller's, and two of the library's own, which say up to where
 * the store is compacted and whether that work is done. All are in memory; a
 * change goes into the pending batch, once however often the record changes.
 */
#include "include/endian_bytes.h"
#include "libmvcc/mvcc_i.h"

static int record_cmp(const struct avl_node *a, const struct avl_node *b)
{
	return slice_cmp(blob_slice(container_of(a, struct record, node)->key),
			 blob_slice(container_of(b, struct record, node)->key));
}

/* The bucket's name, a zero byte, the key. */
static struct blob *full_key(const char *bucket, struct slice key)
{
	size_t n = strlen(bucket) + 1;
	struct blob *b = blob_new(n + key.len);

	if (!b)
		return NULL;
	memcpy(b->data, bucket, n);
	if (key.len)
		memcpy(b->data + n, key.data, key.len);
	return b;
}

static struct record *record_find(const struct mvcc *store, struct blob *key)
{
	struct record like = { .key = key };
	struct avl_node *node = avl_find(&store->records, &like.node);

	return node ? container_of(node, struct record, node) : NULL;
}

static struct record *record_add(struct mvcc *store, struct blob *key)
{
	struct record *rec = calloc(1, sizeof(*rec));

	if (!rec)
		return NULL;
	rec->key = blob_get(key);
	avl_insert(&store->records, &rec->node);
	return rec;
}

static void record_free(struct record *rec)
{
	blob_put(rec->key);
	blob_put(rec->value);
	free(rec);
}

/* Puts the state of @rec into the pending batch, over what is there of it. */
static int record_batch(struct mvcc *store, struct record *rec)
{
	struct mvcc_batch *b = store->pending;
	int r;

	if (rec->batch == b->id) {
		blob_put(b->records[rec->at].value);
		b->records[rec->at].value = rec->value ? blob_get(rec->value) : NULL;
		return 0;
	}
	r = vec_grow(&b->records, &b->cap_records, b->n_records);
	if (r)
		return r;
	rec->batch = b->id;
	rec->at = b->n_records;
	b->records[b->n_records++] = (struct batch_record){
		blob_get(rec->key), rec->value ? blob_get(rec->value) : NULL,
	};
	return 0;
}

/* @value NULL removes the record; else its reference is taken over. */
static int record_set(struct mvcc *store, struct blob *key, struct blob *value)
{
	struct record *rec = record_find(store, key);
	int r;

	if (!rec && !value)
		return 0;
	if (!rec)
		rec = record_add(store, key);
	if (!rec) {
		blob_put(value);
		return -ENOMEM;
	}
	blob_put(rec->value);
	rec->value = value;
	r = record_batch(store, rec);
	if (!value) {
		avl_remove(&store->records, &rec->node);
		record_free(rec);
	}
	return r;
}

static int put(struct mvcc *store, const char *bucket, struct slice key, struct slice value)
{
	struct blob *k = full_key(bucket, key), *v = blob_copy(value);
	int r = -ENOMEM;

	if (k && v) {
		r = record_set(store, k, v);
		v = NULL;
	}
	blob_put(v);
	blob_put(k);
	return r;
}

/* As slice_cmp() of the full key of (@bucket, @key) and @full, without making it. */
static int full_key_cmp(const char *bucket, struct slice key, struct slice full)
{
	size_t n = strlen(bucket) + 1;
	int c = slice_cmp(slice_of(bucket, n), slice_of(full.data, MIN(n, full.len)));

	return c ? c : slice_cmp(key, slice_of(full.data + n, full.len - n));
}

/* Needs no memory, so that it cannot fail. */
static struct slice get(const struct mvcc *store, const char *bucket, struct slice key)
{
	const struct avl_node *node = store->records.root;

	while (node) {
		const struct record *rec = container_of(node, struct record, node);
		int c = full_key_cmp(bucket, key, blob_slice(rec->key));

		if (!c)
			return blob_slice(rec->value);
		node = c < 0 ? node->left : node->right;
	}
	return slice_of(NULL, 0);
}

int mvcc_record_put(struct mvcc *store, const char *bucket, struct slice key, struct slice value)
{
	BUG_ON(!*bucket);
	return put(store, bucket, key, value);
}

int mvcc_record_delete(struct mvcc *store, const char *bucket, struct slice key)
{
	struct blob *k = full_key(bucket, key);
	int r;

	BUG_ON(!*bucket);
	if (!k)
		return -ENOMEM;
	r = record_set(store, k, NULL);
	blob_put(k);
	return r;
}

struct slice mvcc_record_get(const struct mvcc *store, const char *bucket, struct slice key)
{
	BUG_ON(!*bucket);
	return get(store, bucket, key);
}

struct each {
	struct slice prefix;
	int (*fn)(void *arg, struct slice key, struct slice value);
	void *arg;
	int result;
};

static int each_one(void *arg, struct avl_node *node)
{
	const struct record *rec = container_of(node, struct record, node);
	struct slice key = blob_slice(rec->key);
	struct each *e = arg;

	if (!slice_has_prefix(key, e->prefix))
		return 1;
	e->result = e->fn(e->arg, slice_of(key.data + e->prefix.len, key.len - e->prefix.len),
			  blob_slice(rec->value));
	return e->result;
}

int mvcc_record_each(const struct mvcc *store, const char *bucket,
		     int (*fn)(void *arg, struct slice key, struct slice value), void *arg)
{
	struct blob *prefix = full_key(bucket, slice_of(NULL, 0));
	struct record from = { .key = prefix };
	struct each e = { .fn = fn, .arg = arg };

	if (!prefix)
		return -ENOMEM;
	e.prefix = blob_slice(prefix);
	avl_each(&store->records, &from.node, each_one, &e);
	blob_put(prefix);
	return e.result;
}

int record_put_own(struct mvcc *store, const char *name, int64_t value)
{
	uint8_t bytes[8];

	put_be64(bytes, (uint64_t)value);
	return put(store, "", slice_str(name), slice_of(bytes, sizeof(bytes)));
}

int64_t record_get_own(const struct mvcc *store, const char *name, int64_t missing)
{
	struct slice v = get(store, "", slice_str(name));

	return v.len == 8 ? (int64_t)get_be64(v.data) : missing;
}

int record_load(struct mvcc *store, struct slice key, struct slice value)
{
	struct blob *k = blob_copy(key);
	struct record *rec = k ? record_add(store, k) : NULL;

	blob_put(k);
	if (!rec)
		return -ENOMEM;
	rec->value = blob_copy(value);
	return rec->value ? 0 : -ENOMEM;
}

void record_init(struct mvcc *store)
{
	store->records = (struct avl){ .cmp = record_cmp };
}

void record_release(struct mvcc *store)
{
	struct avl_node *node;

	while ((node = avl_pop(&store->records)))
		record_free(container_of(node, struct record, node));
}
