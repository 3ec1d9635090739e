// SPDX-License-Identifier: Apache-2.0
/*
 * What goes into HashKV, as etcd has it (server/storage/mvcc/hash.go): every record
 * up to the revision, but of those at or below the compact revision only what was
 * current at the revision asked for, so that it does not matter how far the removal
 * has come; and no tombstone at the compact revision, which old versions removed.
 */
#include "libmvcc/mvcc_i.h"

static int keep_key(void *arg, struct key *key)
{
	struct mvcc_hash *hash = arg;
	struct found found;
	int r;

	if (!key_at(key, hash->revision, &found))
		return 0;
	hash->any = true;
	if (found.mod > hash->compact_revision)
		return 0;
	r = vec_grow(&hash->keep, &hash->cap_keep, hash->n_keep);
	if (!r)
		hash->keep[hash->n_keep++] = (struct mvcc_rev){ found.mod, found.sub };
	return r;
}

static bool rev_less(const void *a, const void *b)
{
	const struct mvcc_rev *x = a, *y = b;

	return x->main < y->main || (x->main == y->main && x->sub < y->sub);
}

int mvcc_hash_begin(const struct mvcc *store, int64_t revision, struct mvcc_hash *out)
{
	struct mvcc_hash hash = {
		.revision = revision ? revision : store->revision,
		.compact_revision = store->compact_revision,
	};
	struct index_walk walk = { .unbounded = true, .fn = keep_key, .arg = &hash };
	int r;

	BUG_ON(store->txn.open);
	if (hash.revision < hash.compact_revision)
		return MVCC_COMPACTED;
	if (hash.revision > store->revision)
		return MVCC_FUTURE;
	r = index_walk(&store->index, &walk);
	if (r) {
		mvcc_hash_release(&hash);
		return r;
	}
	sort_items(hash.keep, hash.n_keep, sizeof(hash.keep[0]), rev_less);
	*out = hash;
	return 0;
}

void mvcc_hash_release(struct mvcc_hash *hash)
{
	free(hash->keep);
	*hash = (struct mvcc_hash){ 0 };
}

struct hashing {
	const struct mvcc_hash *hash;
	size_t at;			/* the first in keep that is not passed */
	void (*write)(void *arg, struct slice bytes);
	void *arg;
};

/* Records come in order, and so does what is kept. */
static bool is_kept(struct hashing *h, struct mvcc_rev rev)
{
	const struct mvcc_hash *hash = h->hash;

	while (h->at < hash->n_keep && rev_less(&hash->keep[h->at], &rev))
		h->at++;
	return h->at < hash->n_keep && !rev_less(&rev, &hash->keep[h->at]);
}

static int hash_record(void *arg, int64_t main, uint32_t sub, struct slice kv)
{
	struct hashing *h = arg;
	const struct mvcc_hash *hash = h->hash;
	uint8_t key[REV_KEY_MAX];

	if (main > hash->revision)
		return 0;
	if (main <= hash->compact_revision && hash->any &&
	    !is_kept(h, (struct mvcc_rev){ main, sub & ~SUB_TOMBSTONE }))
		return 0;
	if (main == hash->compact_revision && sub & SUB_TOMBSTONE)
		return 0;
	h->write(h->arg, slice_of(key, rev_key_encode(key, main, sub)));
	h->write(h->arg, kv);
	return 0;
}

int mvcc_backend_hash(struct mvcc_backend *backend, const struct mvcc_hash *hash,
		      void (*write)(void *arg, struct slice bytes), void *arg)
{
	struct hashing h = { .hash = hash, .write = write, .arg = arg };

	write(arg, SLICE_LIT("key"));
	return backend->ops->scan(backend, hash_record, &h);
}
