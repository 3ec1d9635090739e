// SPDX-License-Identifier: Apache-2.0
/*
 * What goes into HashKV, as etcd has it (server/storage/mvcc/hash.go): every record
 * up to the revision, but of those at or below the compact revision only what was
 * current at the revision asked for; and no tombstone at the compact revision, which
 * old versions removed.
 *
 * Where no key at all was there at the revision, etcd leaves nothing out, and so
 * hashes what a compaction leaves: what was current at the compact revision.
 */
#include "include/htable.h"
#include "libmvcc/mvcc_i.h"

#define RECORD_COST 64		/* of the bytes of a slice, beside the value's */
#define HASH_END 2		/* ends a scan: what follows is newer */

/* --- which compacted revisions count --------------------------------------- */

/* The place of @rev in the set, or the free one where it belongs. */
static struct mvcc_rev *keep_find(const struct mvcc_hash *hash, struct mvcc_rev rev)
{
	uint64_t h = hash_u64((uint64_t)rev.main * 31 + (uint64_t)rev.sub);
	size_t at = (size_t)((unsigned __int128)h * hash->keep_cap >> 64);

	while (hash->keep[at].main &&
	       (hash->keep[at].main != rev.main || hash->keep[at].sub != rev.sub))
		at = at + 1 < hash->keep_cap ? at + 1 : 0;
	return &hash->keep[at];
}

/* An empty set with room for one revision of each key; it is never more than 3/4 full. */
static int keep_reset(const struct mvcc *store, struct mvcc_hash *hash)
{
	size_t cap = hash->keep ? hash->keep_cap : (size_t)store->index.keys * 4 / 3 + 8;

	free(hash->keep);
	hash->keep = calloc(cap, sizeof(hash->keep[0]));
	hash->keep_cap = hash->keep ? cap : 0;
	return hash->keep ? 0 : -ENOMEM;
}

/* The key was deleted at @revision, whether or not it was put again there. */
static bool key_ends_at(const struct key *key, int64_t revision)
{
	size_t above = key_since(key, revision + 1);

	for (size_t i = key_since(key, revision); i < above; i++)
		if (key_rev(key, i).sub & SUB_TOMBSTONE)
			return true;
	return false;
}

/*
 * Whether etcd finds something to keep of the key. A tombstone at the revision ends
 * what it looks at: to a compaction that is something, to a request it is nothing,
 * even where the same transaction put the key again.
 */
static bool key_counts(const struct key *key, const struct mvcc_hash *hash, bool there)
{
	if (key_ends_at(key, hash->revision))
		return hash->compaction;
	return there;
}

struct hash_walk {
	const struct mvcc *store;
	struct mvcc_hash *hash;
	size_t left;
	const struct key *last;
};

static int hash_key(void *arg, struct key *key)
{
	struct hash_walk *w = arg;
	struct mvcc_hash *hash = w->hash;
	struct mvcc_rev rev;
	struct found found;
	bool there;

	if (!w->left)
		return 1;
	w->left--;
	w->last = key;
	there = key_at(key, hash->revision, &found);
	if (!hash->any && key_counts(key, hash, there)) {
		/* from now on only what is current at the revision counts */
		hash->any = true;
		if (keep_reset(w->store, hash))
			return -ENOMEM;
	}
	if (!hash->any)
		there = key_at(key, hash->compact_revision, &found);
	if (!there)
		return 0;
	if (found.mod > hash->compact_revision)
		return 0;
	rev = (struct mvcc_rev){ found.mod, found.sub };
	*keep_find(hash, rev) = rev;
	return 0;
}

/* Remembers where the next step begins: the smallest key after another one is that one
 * and a zero byte. */
static int hash_mark(struct mvcc_hash *hash, const struct key *last)
{
	struct blob *after = blob_new(last->len + (size_t)1);

	if (!after)
		return -ENOMEM;
	memcpy(after->data, last->bytes, last->len);
	after->data[last->len] = 0;
	blob_put(hash->after);
	hash->after = after;
	return 0;
}

int mvcc_hash_step(const struct mvcc *store, struct mvcc_hash *hash, size_t keys)
{
	struct hash_walk w = { .store = store, .hash = hash, .left = keys };
	struct index_walk walk = { .unbounded = true, .fn = hash_key, .arg = &w };
	int r;

	BUG_ON(store->txn.open || !keys);
	if (hash->compact_revision <= 0 || hash->revision < 0)
		return 0;
	if (!hash->keep && keep_reset(store, hash))
		return -ENOMEM;
	if (hash->after)
		walk.from = blob_slice(hash->after);
	r = index_walk(&store->index, &walk);
	if (r > 0 && hash_mark(hash, w.last))
		return -ENOMEM;
	return r;
}

/* --- beginning and end ------------------------------------------------------ */

int mvcc_hash_begin(const struct mvcc *store, int64_t revision, struct mvcc_hash *out)
{
	BUG_ON(store->txn.open);
	if (revision > 0 && revision < store->compact_revision)
		return MVCC_COMPACTED;
	if (revision > store->revision)
		return MVCC_FUTURE;
	*out = (struct mvcc_hash){
		.revision = revision ? revision : store->revision,
		.compact_revision = store->compact_revision,
		.current = store->revision,
	};
	return 0;
}

void mvcc_hash_begin_compaction(const struct mvcc *store, int64_t previous,
				struct mvcc_hash *out)
{
	BUG_ON(store->txn.open || previous >= store->compact_revision);
	*out = (struct mvcc_hash){
		.revision = store->compact_revision,
		.compact_revision = previous,
		.current = store->revision,
		.compaction = true,
	};
}

void mvcc_hash_release(struct mvcc_hash *hash)
{
	free(hash->keep);
	blob_put(hash->after);
	*hash = (struct mvcc_hash){ 0 };
}

/* --- the records, on the store thread ---------------------------------------- */

struct hashing {
	struct mvcc_hash *hash;
	size_t left;
	void (*write)(void *arg, struct slice bytes);
	void *arg;
};

static bool counts(const struct mvcc_hash *hash, int64_t main, uint32_t sub)
{
	if (main > hash->compact_revision)
		return true;
	if (sub & SUB_TOMBSTONE || !hash->keep)
		return false;
	return keep_find(hash, (struct mvcc_rev){ main, sub })->main;
}

static int hash_record(void *arg, int64_t main, uint32_t sub, struct slice kv)
{
	struct hashing *h = arg;
	uint8_t key[REV_KEY_MAX];

	if (main > h->hash->revision)
		return HASH_END;
	if (!h->left) {
		h->hash->next = (struct mvcc_rev){ main, sub & ~SUB_TOMBSTONE };
		return 1;
	}
	h->left -= MIN(h->left, kv.len + RECORD_COST);
	if (!counts(h->hash, main, sub))
		return 0;
	h->write(h->arg, slice_of(key, rev_key_encode(key, main, sub)));
	h->write(h->arg, kv);
	return 0;
}

int mvcc_backend_hash(struct mvcc_backend *backend, struct mvcc_hash *hash, size_t bytes,
		      void (*write)(void *arg, struct slice bytes), void *arg)
{
	struct hashing h = { .hash = hash, .left = bytes, .write = write, .arg = arg };
	int r;

	BUG_ON(!bytes);
	if (!hash->named)
		write(arg, SLICE_LIT("key"));
	hash->named = true;
	r = backend->ops->scan(backend, hash->next, hash_record, &h);
	return r == HASH_END ? 0 : r;
}
