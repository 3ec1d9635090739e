// SPDX-License-Identifier: Apache-2.0
/* mvcc_check(): everything the structures say about each other, proved. For tests. */
#include "libmvcc/mvcc_i.h"

struct tally {
	const struct mvcc *store;
	int64_t revisions;
	size_t values, bytes;
};

static void check_revs(const struct mvcc *store, const struct key *key)
{
	size_t n = key_revs(key);
	struct batch_drop prev = { 0, 0 };

	for (size_t i = 0; i < n; i++) {
		struct batch_drop rev = key_rev(key, i);

		BUG_ON(rev.main < prev.main || rev.main > store->revision);
		BUG_ON(rev.main == prev.main &&
		       (rev.sub & ~SUB_TOMBSTONE) <= (prev.sub & ~SUB_TOMBSTONE));
		BUG_ON(i && rev.sub & prev.sub & SUB_TOMBSTONE);
		/* what is not stored is in memory */
		BUG_ON(rev.main > store->stored && !batch_find(store, rev.main, rev.sub));
		prev = rev;
	}
}

static int check_key(void *arg, struct key *key)
{
	struct tally *t = arg;
	const struct cache *c = &t->store->cache;
	struct mvcc_kv kv;

	check_revs(t->store, key);
	BUG_ON(!key_live(key) != !!(key->sub & SUB_TOMBSTONE));
	t->revisions += (int64_t)key_revs(key);
	if (!key->value)
		return 0;
	BUG_ON(key->slot >= c->n || c->slots[key->slot] != key);
	BUG_ON(mvcc_kv_decode(blob_slice(key->value), &kv));
	BUG_ON(kv.mod_revision != key->mod || kv.create_revision != key->create ||
	       kv.version != key->version || !slice_eq(kv.key, key_slice(key)));
	t->values++;
	t->bytes += value_cost(key->value);
	return 0;
}

static void check_ring(const struct mvcc *store)
{
	const struct ring *ring = &store->ring;
	int64_t last = ring->first;
	size_t bytes = 0;

	for (uint64_t pos = ring->head; pos < ring->tail; pos++) {
		const struct ring_event *e = ring_at(ring, pos);

		BUG_ON(e->main < ring->first - 1 || e->main < last - 1);
		last = e->main;
		bytes += blob_cost(e->kv) + (e->prev ? blob_cost(e->prev) : 0);
	}
	BUG_ON(bytes != ring->bytes);
}

void mvcc_check(const struct mvcc *store)
{
	struct tally t = { .store = store };
	struct index_walk walk = { .unbounded = true, .fn = check_key, .arg = &t };

	BUG_ON(store->txn.open);
	index_check(&store->index);
	index_walk(&store->index, &walk);
	BUG_ON(t.revisions != store->revisions);
	BUG_ON(t.values != store->cache.n || t.bytes != store->cache.bytes);
	check_ring(store);
	watch_check(store);
	avl_check(&store->records);
}
