// SPDX-License-Identifier: Apache-2.0
/*
 * What waits to be stored. Changes collect in the pending batch; the store thread
 * has at most one other. Both are in order of revision and hold every value that
 * the backend does not have yet.
 */
#include "libmvcc/mvcc_i.h"

#define KEEP_MAX 32768			/* elements of an array that an empty batch keeps */

int batch_put(struct mvcc *store, int64_t main, uint32_t sub, struct blob *kv)
{
	struct mvcc_batch *b = store->pending;
	int r = vec_grow(&b->puts, &b->cap_puts, b->n_puts);

	if (r)
		return r;
	b->puts[b->n_puts++] = (struct batch_put){ main, sub, blob_get(kv) };
	b->bytes += blob_cost(kv);
	return 0;
}

int batch_drop(struct mvcc *store, int64_t main, uint32_t sub)
{
	struct mvcc_batch *b = store->pending;
	int r = vec_grow(&b->drops, &b->cap_drops, b->n_drops);

	if (r)
		return r;
	b->drops[b->n_drops++] = (struct batch_drop){ main, sub };
	return 0;
}

static struct blob *find_in(const struct mvcc_batch *b, int64_t main, uint32_t sub)
{
	size_t lo = 0, hi = b ? b->n_puts : 0;

	sub &= ~SUB_TOMBSTONE;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct batch_put *p = &b->puts[mid];
		uint32_t s = p->sub & ~SUB_TOMBSTONE;

		if (p->main == main && s == sub)
			return p->kv;
		if (p->main < main || (p->main == main && s < sub))
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

struct blob *batch_find(const struct mvcc *store, int64_t main, uint32_t sub)
{
	struct blob *b;

	if (main <= store->stored)
		return NULL;
	b = find_in(store->pending, main, sub);
	return b ? b : find_in(store->out, main, sub);
}

/* Lets go of what a batch held, at most @n blobs. True while there is more. */
static bool batch_empty(struct mvcc_batch *b, size_t n)
{
	for (; b->n_puts && n; n--) {
		if (b->n_puts > AHEAD)
			__builtin_prefetch(b->puts[b->n_puts - AHEAD - 1].kv, 1);
		blob_put(b->puts[--b->n_puts].kv);
	}
	for (; b->n_records && n; n--) {
		blob_put(b->records[--b->n_records].key);
		blob_put(b->records[b->n_records].value);
	}
	return b->n_puts || b->n_records;
}

/* An empty one has arrays as the next one needs them, unless they are uncommonly large. */
static void batch_reuse(struct mvcc_batch *b)
{
	b->n_drops = 0;
	b->bytes = 0;
	if (b->cap_puts > KEEP_MAX || b->cap_drops > KEEP_MAX || b->cap_records > KEEP_MAX) {
		free(b->puts);
		free(b->drops);
		free(b->records);
		*b = (struct mvcc_batch){ 0 };
	}
}

/* The same for the batch that was stored last. */
static bool spare_empty(struct mvcc *store, size_t n)
{
	if (!store->spare)
		return false;
	if (batch_empty(store->spare, n))
		return true;
	batch_reuse(store->spare);
	return false;
}

void batch_free(struct mvcc_batch *b)
{
	if (!b)
		return;
	batch_empty(b, SIZE_MAX);
	free(b->puts);
	free(b->drops);
	free(b->records);
	free(b);
}

size_t mvcc_batch_pending(const struct mvcc *store)
{
	const struct mvcc_batch *b = store->pending;

	return b->n_puts + b->n_drops + b->n_records;
}

struct mvcc_batch *mvcc_batch_take(struct mvcc *store)
{
	BUG_ON(store->out || !store->spare || store->txn.open);
	if (!mvcc_batch_pending(store))
		return NULL;
	spare_empty(store, SIZE_MAX);
	store->spare->id = store->pending->id + 1;
	store->out = store->pending;
	store->pending = store->spare;
	store->spare = NULL;
	return store->out;
}

void mvcc_batch_done(struct mvcc *store, struct mvcc_batch *batch)
{
	BUG_ON(!batch || batch != store->out);
	if (batch->n_puts)
		store->stored = batch->puts[batch->n_puts - 1].main;
	store->out = NULL;
	store->spare = batch;
	store->cache.tried = 0;
}

bool mvcc_trim(struct mvcc *store, size_t n)
{
	bool more = spare_empty(store, n);

	return cache_trim(store, n) || more;
}
