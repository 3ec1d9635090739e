// SPDX-License-Identifier: Apache-2.0
/*
 * Whether all revisions are there, and no others. A checksum says that a page is as it
 * was written once; it does not say that it is this page, nor that it was not written
 * again since, and Berkeley DB takes a page of zeroes for a new one. So the sum of all
 * revisions, each as a number that is mixed well, is a small record that every batch
 * writes, and a scan from the first revision to the last must come to it. What a
 * revision holds never changes: if each is there, each is right.
 */
#include "libmvcc/bdb_i.h"

static uint64_t mix(int64_t main, uint32_t sub)
{
	uint64_t z = (uint64_t)main * UINT64_C(0x9e3779b97f4a7c15) + sub;

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* A store to which nothing was written has none. */
static int sum_load(struct bdb *bdb)
{
	int r = bdb_number_get(bdb, SLICE_LIT(SUM_RECORD), &bdb->sum);

	bdb->sum_known = !r;
	return r;
}

int sum_write(struct bdb *bdb, DB_TXN *txn, const struct mvcc_batch *batch)
{
	int r = bdb->sum_known ? 0 : sum_load(bdb);

	if (r || !(batch->n_puts + batch->n_drops))
		return r;
	for (size_t i = 0; i < batch->n_puts; i++)
		bdb->sum += mix(batch->puts[i].main, batch->puts[i].sub);
	for (size_t i = 0; i < batch->n_drops; i++)
		bdb->sum -= mix(batch->drops[i].main, batch->drops[i].sub);
	return bdb_number_put(bdb, txn, SLICE_LIT(SUM_RECORD), bdb->sum);
}

struct sum_scan {
	uint64_t sum;
	backend_scan_fn fn;
	void *arg;
};

static int sum_add(void *arg, int64_t main, uint32_t sub, struct slice kv)
{
	struct sum_scan *s = arg;

	s->sum += mix(main, sub);
	return s->fn(s->arg, main, sub, kv);
}

int sum_scan(struct bdb *bdb, backend_scan_fn fn, void *arg)
{
	struct sum_scan s = { .fn = fn, .arg = arg };
	int r = bdb->sum_known ? 0 : sum_load(bdb);

	if (!r)
		r = segments_scan(bdb, (struct mvcc_rev){ 0 }, sum_add, &s);
	if (r || s.sum == bdb->sum)
		return r;
	return bdb_refuse(bdb, -EBADMSG, "%s: the store is damaged: it does not hold the "
			  "revisions that were written; restore it from a snapshot or from "
			  "another member", bdb->path);
}
