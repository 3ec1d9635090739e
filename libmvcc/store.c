// SPDX-License-Identifier: Apache-2.0
/* The store as a whole: opening it from a backend, its figures, its end. */
#include "libmvcc/mvcc_i.h"

#define CACHE_BYTES_DEFAULT ((size_t)64 << 20)
#define RING_EVENTS_DEFAULT 65536

int vec_grow_(void **items, size_t *cap, size_t n, size_t size)
{
	size_t want = *cap ? *cap * 2 : 4;
	void *p;

	if (n < *cap)
		return 0;
	p = realloc(*items, want * size);
	if (!p)
		return -ENOMEM;
	*items = p;
	*cap = want;
	return 0;
}

/* --- opening -------------------------------------------------------------- */

/* Copies a message; the caller gave us room for an error, not for a report. */
static int fail(int error, const char *message, char *why, size_t why_size)
{
	size_t n = strlen(message);

	if (why_size) {
		n = MIN(n, why_size - 1);
		memcpy(why, message, n);
		why[n] = '\0';
	}
	return error;
}

static struct mvcc *store_new(struct mvcc_backend *backend, const struct mvcc_args *args)
{
	struct mvcc *store = calloc(1, sizeof(*store));

	if (!store)
		return NULL;
	store->backend = backend;
	store->revision = 1;
	store->compact_revision = -1;
	store->cache.limit = args->cache_bytes ? args->cache_bytes : CACHE_BYTES_DEFAULT;
	store->ring.max = args->ring_events ? args->ring_events : RING_EVENTS_DEFAULT;
	store->ring.max_bytes = store->cache.limit / 4;
	record_init(store);
	watch_init(store);
	store->pending = calloc(1, sizeof(*store->pending));
	store->spare = calloc(1, sizeof(*store->spare));
	if (!store->pending || !store->spare || index_init(&store->index)) {
		mvcc_free(store);
		return NULL;
	}
	store->pending->id = 1;
	return store;
}

int mvcc_open(struct mvcc_backend *backend, const struct mvcc_args *args,
	      struct mvcc **out, char *why, size_t why_size)
{
	struct mvcc *store = store_new(backend, args);
	const char *message;
	int r;

	if (!store)
		return fail(-ENOMEM, "not enough memory for the store", why, why_size);
	r = load(store);
	if (r) {
		message = backend->ops->why(backend);
		if (!*message)
			message = r == -ENOMEM ? "not enough memory for the index of the store" :
				  "the store holds a record that is damaged";
		mvcc_free(store);
		return fail(r, message, why, why_size);
	}
	*out = store;
	return 0;
}

void mvcc_free(struct mvcc *store)
{
	if (!store)
		return;
	watch_release(store);
	ring_release(&store->ring);
	index_release(&store->index);
	free(store->cache.slots);
	record_release(store);
	batch_free(store->pending);
	batch_free(store->out);
	batch_free(store->spare);
	blob_put(store->compaction.after);
	free(store->leased);
	free(store);
}

void store_touch(struct mvcc *store)
{
	if (store->changed)
		return;
	store->changed = true;
	free(store->leased);
	store->leased = NULL;
	store->n_leased = 0;
}

int mvcc_each_leased(struct mvcc *store,
		     int (*fn)(void *arg, struct slice key, int64_t lease), void *arg)
{
	BUG_ON(store->changed);
	for (size_t i = 0; i < store->n_leased; i++) {
		const struct leased *l = &store->leased[i];
		int r;

		if (l->key->mod != l->main || l->key->sub != l->sub)
			continue;
		r = fn(arg, key_slice(l->key), l->lease);
		if (r)
			return r;
	}
	return 0;
}

/* --- figures -------------------------------------------------------------- */

int64_t mvcc_revision(const struct mvcc *store)
{
	return store->revision;
}

int64_t mvcc_compact_revision(const struct mvcc *store)
{
	return store->compact_revision;
}

void mvcc_stats(const struct mvcc *store, struct mvcc_stats *out)
{
	*out = (struct mvcc_stats){
		.keys = store->index.live,
		.revisions = store->revisions,
		.watchers = store->watch.n,
		.watchers_lagging = store->watch.n_lagging,
		.cache_bytes = (int64_t)store->cache.bytes,
		.cache_hits = store->cache.hits,
		.cache_misses = store->cache.misses,
		.pending_bytes = (int64_t)(store->pending->bytes +
					   (store->out ? store->out->bytes : 0)),
	};
}
