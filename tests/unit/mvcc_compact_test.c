/* SPDX-License-Identifier: Apache-2.0 */
/* Compaction in steps: how much one of them does, and what can be read meanwhile. */
#include "tests/unit/mvcc_util.h"

#define LONG 20000		/* revisions of one key */

static void put(struct rig *rig, const char *key, int number)
{
	struct mvcc_put put = { .key = slice_str(key) };
	char value[16];

	snprintf(value, sizeof(value), "%d", number);
	put.value = slice_str(value);
	mvcc_begin(rig->store);
	assert_int_equal(mvcc_put(rig->store, &put), 0);
	mvcc_end(rig->store);
}

static int64_t revisions(const struct rig *rig)
{
	struct mvcc_stats stats;

	mvcc_stats(rig->store, &stats);
	return stats.revisions;
}

/* The value of @key at @revision is @number. */
static void expect(struct rig *rig, const char *key, int64_t revision, int number)
{
	struct mvcc_read read = { .range = { .key = slice_str(key) }, .revision = revision };
	struct mvcc_fetch fetch;
	struct mvcc_result out;
	struct mvcc_kv kv;
	char value[16];
	int r;

	snprintf(value, sizeof(value), "%d", number);
	mvcc_fetch_init(&fetch);
	mvcc_result_init(&out);
	while ((r = mvcc_range(rig->store, &read, &fetch, &out)) == MVCC_COLD)
		assert_int_equal(mvcc_backend_fetch(rig->backend, &fetch), 0);
	assert_int_equal(r, 0);
	assert_int_equal(out.n, 1);
	assert_int_equal(mvcc_kv_decode(blob_slice(out.kvs[0]), &kv), 0);
	assert_true(slice_eq(kv.value, slice_str(value)));
	mvcc_result_release(&out);
	mvcc_fetch_release(&fetch);
}

/* No step removes a whole long history, and each a part of it, so that there is an end. */
static void test_long_history(void **state)
{
	struct rig rig;
	int64_t before, at, end;
	int steps = 0, r;

	rig_open(&rig, false, &(struct mvcc_args){ 0 });
	put(&rig, "a", 1);
	for (int i = 0; i < LONG; i++)
		put(&rig, "b", i);
	put(&rig, "c", 2);
	put(&rig, "c", 3);
	rig_store(&rig);
	at = mvcc_revision(rig.store);
	put(&rig, "b", LONG);
	assert_int_equal(mvcc_compact(rig.store, at), 0);
	do {
		before = revisions(&rig);
		r = mvcc_compact_step(rig.store, 10);
		assert_true(r >= 0);
		assert_true(before - revisions(&rig) <= LONG / 60);
		assert_true(!r || before > revisions(&rig));
		rig_store(&rig);
		mvcc_check(rig.store);
		if (steps++ % 7)
			continue;
		expect(&rig, "b", at, LONG - 1);
		expect(&rig, "b", 0, LONG);
	} while (r);
	assert_int_equal(revisions(&rig), 4);
	assert_in_range(steps, 60, 1000);
	end = mvcc_revision(rig.store);
	expect(&rig, "a", end, 1);
	expect(&rig, "c", end, 3);
	rig_close(&rig);
}

/* A deleted key with a long history goes as a whole in the end; a restart in between
 * goes on. */
static void test_deleted_with_a_long_history(void **state)
{
	struct rig rig;
	int r;

	rig_open(&rig, true, &(struct mvcc_args){ 0 });
	for (int i = 0; i < LONG / 10; i++)
		put(&rig, "b", i);
	mvcc_begin(rig.store);
	assert_int_equal(mvcc_delete_range(rig.store, (struct mvcc_key_range){
					   .key = SLICE_LIT("b") }, NULL), 0);
	mvcc_end(rig.store);
	put(&rig, "c", 1);
	rig_store(&rig);
	assert_int_equal(mvcc_compact(rig.store, mvcc_revision(rig.store)), 0);
	assert_true(mvcc_compact_step(rig.store, 10) > 0);
	assert_true(mvcc_compact_step(rig.store, 10) > 0);
	rig_store(&rig);
	rig_restart(&rig);
	assert_in_range(revisions(&rig), 1000, LONG / 10);
	do {
		r = mvcc_compact_step(rig.store, 10);
		mvcc_check(rig.store);
	} while (r > 0);
	assert_int_equal(r, 0);
	assert_int_equal(revisions(&rig), 1);
	rig_store(&rig);
	rig_restart(&rig);
	assert_int_equal(revisions(&rig), 1);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_long_history),
		cmocka_unit_test(test_deleted_with_a_long_history),
	};

	return cmocka_run_group_tests_name("compact", tests, NULL, NULL);
}
