// SPDX-License-Identifier: Apache-2.0
/*
 * The limits of a segment. It counts revisions from its first one in 32 bits, while what
 * was between two that are left may be more, compacted long ago, and asked for all the
 * same. And a slice of reclaiming is bounded by what it reads, not by what it copies.
 */
#include "tests/unit/mvcc_util.h"

#include "libmvcc/backend.h"

#define FAR (INT64_C(1) << 32)
#define BIG 30000		/* bytes; in two pages, and MANY of them fill a segment */
#define MANY 12

static struct mvcc_backend *open_dir(const char *dir)
{
	const struct mvcc_bdb_args args = {
		.dir = dir, .cache_bytes = 1 << 20, .segment_bytes = MANY * (2 << 14),
	};
	struct mvcc_backend *b;
	char why[256] = "";

	if (mvcc_bdb_open(&args, &b, why, sizeof(why)))
		fail_msg("%s", why);
	return b;
}

static void put(struct mvcc_backend *b, int64_t main, size_t len)
{
	struct batch_put p = { .main = main, .kv = blob_new(len) };
	const struct mvcc_batch batch = { .puts = &p, .n_puts = 1 };

	assert_non_null(p.kv);
	memset(p.kv->data, 'v', len);
	assert_int_equal(mvcc_backend_write(b, &batch), 0);
	blob_put(p.kv);
}

static void drop(struct mvcc_backend *b, int64_t main)
{
	struct batch_drop d = { .main = main };
	const struct mvcc_batch batch = { .drops = &d, .n_drops = 1 };

	assert_int_equal(mvcc_backend_write(b, &batch), 0);
}

/* How many calls it took. */
static int reclaim_all(struct mvcc_backend *b)
{
	int r, calls = 0;

	while ((r = mvcc_backend_reclaim(b, 4096)) > 0)
		assert_true(calls++ < 1000);
	assert_int_equal(r, 0);
	return calls;
}

static bool has(struct mvcc_backend *b, int64_t main)
{
	struct blob *blob = NULL;
	bool there;

	assert_int_equal(b->ops->get(b, (struct mvcc_rev){ main, 0 }, &blob), 0);
	there = blob;
	blob_put(blob);
	return there;
}

static int count(void *arg, int64_t main, uint32_t sub, struct slice kv)
{
	++*(int *)arg;
	return 0;
}

static int count_from(struct mvcc_backend *b, int64_t main)
{
	int n = 0;

	assert_int_equal(b->ops->scan(b, (struct mvcc_rev){ main, 0 }, count, &n), 0);
	return n;
}

/* A segment in the middle goes; the one before it is now where its revisions belong. */
static void in_a_gap(void **state)
{
	struct mvcc_backend *b;
	char dir[64];

	dir_new(dir, sizeof(dir));
	b = open_dir(dir);
	put(b, 2, 10);
	put(b, 2 + FAR, 10);
	put(b, 2 + 2 * FAR, 10);
	drop(b, 2 + FAR);
	reclaim_all(b);
	assert_false(has(b, 2 + FAR));
	assert_int_equal(count_from(b, 2 + FAR), 1);
	drop(b, 2 + FAR);
	assert_true(has(b, 2) && has(b, 2 + 2 * FAR));
	mvcc_backend_close(b);
	dir_remove(dir);
}

/* Sparse neighbours, which together reach further than one segment can. */
static void merged(void **state)
{
	const int64_t at = 2 + FAR / 4, end = at + FAR - 2;
	struct mvcc_backend *b;
	char dir[64];

	dir_new(dir, sizeof(dir));
	b = open_dir(dir);
	put(b, 2, 10);
	for (int64_t i = 1; i <= MANY; i++)
		put(b, 2 + i, BIG);
	put(b, at, 10);
	for (int64_t i = 1; i < MANY; i++)
		put(b, at + i, BIG);
	put(b, end, 10);
	put(b, end + FAR, 10);
	for (int64_t i = 1; i <= MANY; i++)
		drop(b, 2 + i);
	for (int64_t i = 1; i < MANY; i++)
		drop(b, at + i);
	reclaim_all(b);
	assert_int_equal(count_from(b, 1), 4);
	assert_true(has(b, 2) && has(b, at) && has(b, end) && has(b, end + FAR));
	mvcc_backend_close(b);
	b = open_dir(dir);
	assert_int_equal(count_from(b, 0), 4);
	mvcc_backend_close(b);
	dir_remove(dir);
}

/* One small record is left, behind all that is dropped. */
static void nearly_dead(void **state)
{
	struct mvcc_backend *b;
	char dir[64];

	dir_new(dir, sizeof(dir));
	b = open_dir(dir);
	for (int64_t i = 0; i < MANY - 1; i++)
		put(b, 2 + i, BIG);
	put(b, 2 + MANY, 10);
	for (int64_t i = 0; i < MANY - 1; i++)
		drop(b, 2 + i);
	assert_true(reclaim_all(b) >= MANY);
	assert_true(has(b, 2 + MANY));
	assert_int_equal(count_from(b, 0), 1);
	mvcc_backend_close(b);
	dir_remove(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_a_gap),
		cmocka_unit_test(merged),
		cmocka_unit_test(nearly_dead),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
