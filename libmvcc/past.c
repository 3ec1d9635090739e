// SPDX-License-Identifier: Apache-2.0
/*
 * What happened in a range before the ring begins, in order, from the index. The
 * walk passes over all that did not change since; a list is bounded, a watcher
 * that is further behind gets one after the other.
 */
#include "libmvcc/mvcc_i.h"

#define PAST_MAX 16384

struct past_walk {
	struct watch_past *past;
	const struct mvcc_watcher *watcher;
	int64_t from;
};

static bool rev_less(const void *a, const void *b)
{
	const struct batch_drop *x = a, *y = b;

	return x->main < y->main || (x->main == y->main && (x->sub & ~SUB_TOMBSTONE) <
							   (y->sub & ~SUB_TOMBSTONE));
}

/* Sorts, and keeps about PAST_MAX of the oldest: whole revisions only. */
static void past_cut(struct watch_past *past)
{
	size_t keep = PAST_MAX;

	sort_items(past->revs, past->n, sizeof(past->revs[0]), rev_less);
	if (past->n <= keep)
		return;
	while (keep < past->n && past->revs[keep].main == past->revs[keep - 1].main)
		keep++;
	if (keep < past->n) {
		past->n = keep;
		past->upto = past->revs[keep - 1].main;
	}
}

static int past_add(void *arg, struct key *key)
{
	struct past_walk *walk = arg;
	struct watch_past *past = walk->past;
	size_t n = key_revs(key);
	int r = 0;

	for (size_t i = key_since(key, walk->from); i < n && !r; i++) {
		struct batch_drop rev = key_rev(key, i);

		if (rev.main > past->upto)
			break;
		if (rev.sub & SUB_TOMBSTONE ? walk->watcher->no_delete : walk->watcher->no_put)
			continue;
		r = vec_grow(&past->revs, &past->cap, past->n);
		if (!r)
			past->revs[past->n++] = rev;
		if (past->n >= (size_t)4 * PAST_MAX)
			past_cut(past);
	}
	return r;
}

int past_new(struct mvcc *store, const struct mvcc_watcher *watcher, int64_t from,
	     struct watch_past **out)
{
	struct watch_past *past = calloc(1, sizeof(*past));
	struct past_walk arg = { past, watcher, from };
	struct index_walk walk = { .since = from, .fn = past_add, .arg = &arg };
	struct mvcc_key_range range = group_range(watcher->group);
	struct key *key;
	int r = 0;

	if (!past)
		return -ENOMEM;
	past->upto = store->ring.first - 1;
	if (range_is_key(range)) {
		key = index_find(&store->index, range.key);
		if (key)
			r = past_add(&arg, key);
	} else {
		index_walk_range(&walk, range);
		r = index_walk(&store->index, &walk);
	}
	if (r) {
		past_free(past);
		return r;
	}
	past_cut(past);
	*out = past;
	return 0;
}

void past_free(struct watch_past *past)
{
	if (!past)
		return;
	free(past->revs);
	free(past);
}
