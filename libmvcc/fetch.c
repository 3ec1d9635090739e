// SPDX-License-Identifier: Apache-2.0
/*
 * The revisions that a read wants from the backend. They are kept in order of
 * revision between one read and the next: the backend reads them in the order of
 * its pages, and the read finds each by bisection.
 */
#include "libmvcc/mvcc_i.h"

void mvcc_fetch_init(struct mvcc_fetch *fetch)
{
	*fetch = (struct mvcc_fetch){ 0 };
}

void mvcc_fetch_release(struct mvcc_fetch *fetch)
{
	for (size_t i = 0; i < fetch->n; i++)
		blob_put(fetch->items[i].blob);
	free(fetch->items);
	mvcc_fetch_init(fetch);
}

static bool rev_less(struct mvcc_rev a, struct mvcc_rev b)
{
	return a.main < b.main || (a.main == b.main && a.sub < b.sub);
}

static bool item_less(const void *a, const void *b)
{
	return rev_less(((const struct mvcc_fetched *)a)->rev,
			((const struct mvcc_fetched *)b)->rev);
}

int fetch_sort(struct mvcc_fetch *fetch)
{
	sort_items(fetch->items, fetch->n, sizeof(fetch->items[0]), item_less);
	return 0;
}

static struct mvcc_fetched *find(struct mvcc_fetch *fetch, size_t known, struct mvcc_rev rev)
{
	size_t lo = 0, hi = known;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (rev_less(fetch->items[mid].rev, rev))
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < known && !rev_less(rev, fetch->items[lo].rev))
		return &fetch->items[lo];
	return NULL;
}

int fetch_keep(struct mvcc_fetch *fetch, size_t known, struct mvcc_rev rev, struct blob *blob)
{
	int r;

	if (find(fetch, known, rev))
		return 0;
	r = vec_grow(&fetch->items, &fetch->cap, fetch->n);
	if (!r)
		fetch->items[fetch->n++] = (struct mvcc_fetched){ rev, blob_get(blob), true };
	return r;
}

int fetch_find(struct mvcc_fetch *fetch, size_t known, struct mvcc_rev rev, struct blob **out)
{
	struct mvcc_fetched *item = find(fetch, known, rev);
	int r;

	if (item && !item->asked)
		return MVCC_COLD;
	if (item) {
		*out = item->blob;
		return 0;
	}
	r = vec_grow(&fetch->items, &fetch->cap, fetch->n);
	if (r)
		return r;
	fetch->items[fetch->n++] = (struct mvcc_fetched){ .rev = rev };
	return MVCC_COLD;
}
