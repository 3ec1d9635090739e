// SPDX-License-Identifier: Apache-2.0

/*
 * HashKV and Hash through the core: HashKV's answers are those that etcd 3.7.1 gave to
 * the same requests. The test is the store thread, and holds a hash where it likes.
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

/* --- Hash: of all that is stored ------------------------------------------- */

static uint32_t hash_all(struct rig *rig)
{
	Etcdserverpb__HashRequest hash = ETCDSERVERPB__HASH_REQUEST__INIT;
	size_t before = rig->finished;

	core_submit(rig->core, make(rig, REQUEST_HASH, &hash.base));
	settle(rig);
	assert_int_equal(rig->finished, before + 1);
	assert_null(rig->last_error);
	assert_int_equal(rig->last_revision, mvcc_revision(rig->store));
	return rig->last_hash.hash;
}

static void raise_alarm(struct rig *rig)
{
	core_raise_alarm(rig->core, ETCDSERVERPB__ALARM_TYPE__CORRUPT);
	settle(rig);
	assert_true(state_alarm_set(core_state(rig->core), ETCDSERVERPB__ALARM_TYPE__CORRUPT));
}

/* Whatever changes what is stored changes it; what leaves that alone does not. */
static void test_hash_is_of_everything(void **state)
{
	struct rig *rig = *state;
	uint32_t seen[6];

	seen[0] = hash_all(rig);
	do_put(rig, "a", "1", 0);
	seen[1] = hash_all(rig);
	do_put(rig, "a", "1", 0);
	seen[2] = hash_all(rig);
	grant(rig, 42, 100);
	seen[3] = hash_all(rig);
	compact(rig, 3, true);
	seen[4] = hash_all(rig);
	raise_alarm(rig);
	seen[5] = hash_all(rig);
	for (size_t i = 0; i < ARRAY_SIZE(seen); i++)
		for (size_t j = 0; j < i; j++)
			assert_int_not_equal(seen[i], seen[j]);
	pass(rig, SECOND);
	assert_int_equal(hash_all(rig), seen[5]);
	/* the log goes on: a request that fails */
	do_put(rig, "a", "1", 99);
	assert_ptr_equal(rig->last_error, &status_corrupt);
	assert_int_equal(hash_all(rig), seen[5]);
	restart(rig);
	assert_int_equal(hash_all(rig), seen[5]);
}

/* Two members that came by the same content on different ways: one has compacted with
 * its history freed at once, the other has not begun with that. */
static void test_equal_content_has_equal_hashes(void **state)
{
	struct rig *rig = *state;
	uint32_t hashes[2];
	void *other = NULL;

	assert_int_equal(setup(&other), 0);
	for (int i = 0; i < 2; i++) {
		struct rig *r = i ? other : rig;

		fill(r);
		grant(r, 42, 100);
		if (i)
			pass(r, SECOND);
		r->hold_hashes = i;
		compact(r, 4, false);
		if (i) {	/* the freeing waits for the compaction's hash */
			core_wind_down(r->core);
			r->hold_hashes = false;
			hash_slice(r);
			close_core(r);
			open_core(r);
		}
		settle(r);
		hashes[i] = hash_all(r);
	}
	assert_int_equal(hashes[0], hashes[1]);
	teardown(&other);
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
		TEST(hash_is_of_everything),
		TEST(equal_content_has_equal_hashes),
	};

	return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}
