// SPDX-License-Identifier: Apache-2.0
/*
 * Compaction. The revision moves at once, reads below it fail from then on; the
 * removal of what it left behind is done a few keys at a time. That it began, and
 * that it is done, are records, so that an opened store carries on.
 */
#include "libmvcc/mvcc_i.h"

int mvcc_compact(struct mvcc *store, int64_t revision)
{
	int r;

	BUG_ON(store->txn.open);
	if (revision <= store->compact_revision)
		return MVCC_COMPACTED;
	if (revision > store->revision)
		return MVCC_FUTURE;
	r = record_put_own(store, RECORD_COMPACT_SCHEDULED, revision);
	if (r)
		return r;
	store_touch(store);
	store->compact_revision = revision;
	store->compaction.running = true;
	blob_put(store->compaction.after);
	store->compaction.after = NULL;
	return 0;
}

/* At mvcc_open(). The newest revision may have been a tombstone that is compacted:
 * then only the record still knows how far the store was. */
void compact_resume(struct mvcc *store)
{
	int64_t scheduled = record_get_own(store, RECORD_COMPACT_SCHEDULED, -1);
	int64_t finished = record_get_own(store, RECORD_COMPACT_FINISHED, -1);

	store->compact_revision = scheduled;
	store->compaction.running = scheduled > finished;
	store->revision = MAX(store->revision, scheduled);
}

struct stale_keys {
	struct key **keys;
	size_t n, cap, most;
};

static int stale_add(void *arg, struct key *key)
{
	struct stale_keys *s = arg;
	int r;

	if (s->n == s->most)
		return 1;
	r = vec_grow(&s->keys, &s->cap, s->n);
	if (!r)
		s->keys[s->n++] = key;
	return r;
}

/* Revisions of a key that a step removes, on an average. */
#define REVISIONS_PER_KEY 10
/* Of a longer history than a step's budget goes no less than this part of it, because what
 * stays is moved to the front each time. */
#define HISTORY_PART 64

/* How many of the keys can be done with in one step. */
static size_t keys_within(const struct mvcc *store, const struct stale_keys *s, size_t budget)
{
	size_t i, n;

	for (i = 0; i < s->n; i++) {
		n = key_superseded(s->keys[i], store->compact_revision);
		if (n > budget)
			break;
		budget -= n;
	}
	return i;
}

/* Removes what is superseded of one key, about @most of it, and the key if nothing else is
 * left. */
static int compact_key(struct mvcc *store, struct key *key, size_t most)
{
	size_t all = key_superseded(key, store->compact_revision);
	size_t n = MIN(all, MAX(most, all / HISTORY_PART));
	bool whole = n == key_revs(key);
	struct index_path path;
	int r = 0;

	for (size_t i = 0; i < n && !r; i++) {
		struct batch_drop d = key_rev(key, i);

		r = batch_drop(store, d.main, d.sub);
	}
	if (r)
		return r;
	BUG_ON(index_seek(&store->index, key_slice(key), &path) != key);
	store->revisions -= (int64_t)n;
	if (whole) {
		BUG_ON(key->value);
		index_remove(&store->index, &path);
	} else {
		key_drop(key, n);
		index_settled(&store->index, &path);
	}
	return 0;
}

/* Remembers where the next step begins. */
static int compact_mark(struct mvcc *store, const struct key *last)
{
	struct blob *after = blob_copy(key_slice(last));

	if (!after)
		return -ENOMEM;
	blob_put(store->compaction.after);
	store->compaction.after = after;
	return 0;
}

static int compact_finish(struct mvcc *store)
{
	store->compaction.running = false;
	blob_put(store->compaction.after);
	store->compaction.after = NULL;
	return record_put_own(store, RECORD_COMPACT_FINISHED, store->compact_revision);
}

static int stale_after(const struct mvcc *store, struct stale_keys *s)
{
	struct index_walk walk = {
		.unbounded = true, .stale = true, .fn = stale_add, .arg = s,
	};
	struct blob *after = store->compaction.after;
	int r;

	/* the smallest key after another one is that one and a zero byte */
	struct blob *from = blob_new(after ? after->len + (size_t)1 : 0);

	if (!from)
		return -ENOMEM;
	if (after) {
		memcpy(from->data, after->data, after->len);
		from->data[after->len] = 0;
	}
	walk.from = blob_slice(from);
	r = index_walk(&store->index, &walk);
	blob_put(from);
	return MIN(r, 0);
}

int mvcc_compact_step(struct mvcc *store, size_t keys)
{
	struct stale_keys s = { .most = keys };
	size_t budget = keys * REVISIONS_PER_KEY, n;
	int r;

	BUG_ON(store->txn.open || !keys);
	if (!store->compaction.running)
		return 0;
	store_touch(store);
	r = stale_after(store, &s);
	n = keys_within(store, &s, budget);
	if (!r && n)
		r = compact_mark(store, s.keys[n - 1]);
	for (size_t i = 0; i < n && !r; i++)
		r = compact_key(store, s.keys[i], budget);
	/* the first one alone is too much */
	if (!r && !n && s.n)
		r = compact_key(store, s.keys[0], budget);
	if (!r && n == s.n && n < keys)
		r = compact_finish(store);
	else if (!r)
		r = 1;
	free(s.keys);
	return r;
}
