// SPDX-License-Identifier: Apache-2.0

/*
 * HashKV through the core: the answers are those that etcd 3.7.1 gave to the same
 * requests. The test is the store thread, and holds a hash where it likes.
 */

#include "tests/unit/core_rig.h"

static void ask_hash(struct rig *rig, int64_t revision)
{
	Etcdserverpb__HashKVRequest hash = ETCDSERVERPB__HASH_KVREQUEST__INIT;
	struct request *r = make(rig, REQUEST_HASH_KV, &hash.base);

	r->hash.revision = revision;
	core_submit(rig->core, r);
}

struct want {
	int64_t asked, revision, compacted, current;
	uint32_t hash;
};

static void expect(struct rig *rig, const struct want *want)
{
	size_t before = rig->finished;

	ask_hash(rig, want->asked);
	settle(rig);
	assert_int_equal(rig->finished, before + 1);
	assert_null(rig->last_error);
	assert_int_equal(rig->last_hash.revision, want->revision);
	assert_int_equal(rig->last_hash.compact_revision, want->compacted);
	assert_int_equal(rig->last_revision, want->current);
	assert_int_equal(rig->last_hash.hash, want->hash);
}

static void expect_error(struct rig *rig, int64_t asked, const struct status *error)
{
	ask_hash(rig, asked);
	settle(rig);
	assert_ptr_equal(rig->last_error, error);
}

static void do_delete(struct rig *rig, const char *key, bool all)
{
	Etcdserverpb__DeleteRangeRequest del = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;

	del.key = all ? (ProtobufCBinaryData){ 1, (uint8_t *)"" } : bytes(key);
	if (all)
		del.range_end = (ProtobufCBinaryData){ 1, (uint8_t *)"" };
	core_submit(rig->core, make(rig, REQUEST_DELETE_RANGE, &del.base));
	settle(rig);
}

/* Revisions 2 to 6. */
static void fill(struct rig *rig)
{
	do_put(rig, "a", "1", 0);
	do_put(rig, "b", "2", 0);
	do_put(rig, "a", "3", 0);
	do_delete(rig, "b", false);
	do_put(rig, "c", "xyz", 0);
}

static void restart(struct rig *rig)
{
	pass(rig, SECOND);
	close_core(rig);
	open_core(rig);
	settle(rig);
}

static void test_hash_is_etcds(void **state)
{
	struct rig *rig = *state;

	expect(rig, &(struct want){ 0, 1, -1, 1, 1084519789 });
	fill(rig);
	expect(rig, &(struct want){ 0, 6, -1, 6, 1160095598 });
	expect(rig, &(struct want){ 3, 3, -1, 6, 1827592406 });
	expect(rig, &(struct want){ -3, -3, -1, 6, 1084519789 });
	expect_error(rig, 7, &status_future_revision);
	restart(rig);
	expect(rig, &(struct want){ 3, 3, -1, 6, 1827592406 });
}

/* The hash of a compaction is kept until the member stops. */
static void test_hash_of_a_compaction_is_kept(void **state)
{
	struct rig *rig = *state;
	const uint32_t at_5 = 1125682900;

	fill(rig);
	compact(rig, 5, false);
	expect(rig, &(struct want){ 5, 5, -1, 6, at_5 });
	expect_error(rig, 4, &status_compacted);
	compact(rig, 6, true);
	expect(rig, &(struct want){ 5, 5, -1, 6, at_5 });
	restart(rig);
	expect_error(rig, 5, &status_compacted);
}

/* The ten newest. */
static void test_few_hashes_are_kept(void **state)
{
	struct rig *rig = *state;

	for (int i = 0; i < 12; i++) {
		do_put(rig, "a", "1", 0);
		compact(rig, i + 2, i & 1);
	}
	ask_hash(rig, 4);
	settle(rig);
	assert_null(rig->last_error);
	assert_int_equal(rig->last_hash.compact_revision, 3);
	expect_error(rig, 3, &status_compacted);
}

/* Puts are applied and stored, and history is compacted, while it is under way. */
static void test_hash_is_of_its_revision(void **state)
{
	struct rig *rig = *state;
	char key[8];

	rig->hash_bytes = 1;
	rig->hold_hashes = true;
	fill(rig);
	ask_hash(rig, 0);
	settle(rig);
	compact(rig, 5, false);
	rig->finished = 0;
	for (int i = 0; i < 20; i++) {
		snprintf(key, sizeof(key), "%c", 'a' + i % 4);
		do_put(rig, key, "later", 0);
		pass(rig, SECOND / 5);
		assert_int_equal(rig->finished, i + 1 + (i > 5));
		if (i == 5) {
			rig->hold_hashes = false;
			assert_true(hash_slice(rig));
			settle(rig);
			assert_int_equal(rig->last_hash.hash, 1160095598);
			assert_int_equal(rig->last_hash.compact_revision, -1);
			assert_int_equal(rig->last_revision, 6);
		}
	}
	expect(rig, &(struct want){ 5, 5, -1, 26, 1125682900 });
}

static void test_those_that_wait_are_limited(void **state)
{
	struct rig *rig = *state;

	rig->hold_hashes = true;
	ask_hash(rig, 0);
	settle(rig);
	rig->finished = 0;
	for (int i = 0; i < 100; i++)
		ask_hash(rig, 0);
	settle(rig);
	assert_int_equal(rig->finished, 0);
	expect_error(rig, 0, &status_too_many_requests);
	assert_int_equal(rig->finished, 1);
	rig->hold_hashes = false;
	assert_true(hash_slice(rig));
	settle(rig);
	assert_int_equal(rig->finished, 102);
	assert_null(rig->last_error);
}

/* A member that stops does not wait for its hashes. */
static void test_stopping_ends_them(void **state)
{
	struct rig *rig = *state;

	rig->hash_bytes = 1;
	rig->hold_hashes = true;
	fill(rig);
	ask_hash(rig, 0);
	ask_hash(rig, 0);
	settle(rig);
	rig->finished = 0;
	core_wind_down(rig->core);
	assert_int_equal(rig->finished, 1);
	assert_ptr_equal(rig->last_error, &status_stopped);
	rig->hold_hashes = false;
	assert_true(hash_slice(rig));
	assert_int_equal(rig->finished, 2);
	assert_ptr_equal(rig->last_error, &status_stopped);
	assert_null(core_take_hash(rig->core));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
		TEST(hash_is_etcds),
		TEST(hash_of_a_compaction_is_kept),
		TEST(few_hashes_are_kept),
		TEST(hash_is_of_its_revision),
		TEST(those_that_wait_are_limited),
		TEST(stopping_ends_them),
	};

	return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}
