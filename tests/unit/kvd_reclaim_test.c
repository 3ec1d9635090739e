// SPDX-License-Identifier: Apache-2.0

/*
 * Space given back, through the core: who asks for it, and when a run begins and ends.
 * The test is the store thread, and holds a slice where it likes.
 */

#include "tests/unit/core_rig.h"

static void ask(struct rig *rig)
{
	Etcdserverpb__DefragmentRequest defragment = ETCDSERVERPB__DEFRAGMENT_REQUEST__INIT;

	core_submit(rig->core, make(rig, REQUEST_DEFRAGMENT, &defragment.base));
}

/* Lets the store thread finish the slice that it was held at, and all others. */
static void let_go(struct rig *rig)
{
	rig->hold_reclaims = false;
	assert_true(reclaim_slice(rig));
	settle(rig);
}

static void fill(struct rig *rig)
{
	for (int i = 0; i < 50; i++)
		do_put(rig, "a", "value", 0);
	rig->finished = 0;
}

static size_t in_batch(const struct rig *rig)
{
	return mvcc_batch_pending(rig->store);
}

static void test_asked_for(void **state)
{
	struct rig *rig = *state;

	fill(rig);
	rig->reclaim_slices = 5;
	ask(rig);
	settle(rig);
	assert_int_equal(rig->finished, 1);
	assert_null(rig->last_error);
	assert_int_equal(rig->reclaimed, 6);
	assert_int_equal(histogram_count(&core_state(rig->core)->figures.defrags), 1);
	assert_true(core_state(rig->core)->db_size > 0);
}

/* What is pending is stored first: it may be what frees the space. */
static void test_pending_is_stored_first(void **state)
{
	struct rig *rig = *state;

	fill(rig);
	assert_true(in_batch(rig) > 0);
	rig->hold_reclaims = true;
	ask(rig);
	settle(rig);
	assert_non_null(rig->reclaim_held);
	assert_int_equal(in_batch(rig), 0);
	let_go(rig);
	assert_int_equal(rig->finished, 1);
}

/* The same where that is on its way already. */
static void test_batch_under_way(void **state)
{
	struct rig *rig = *state;
	struct core_batch *batch;

	fill(rig);
	batch = core_take_batch(rig->core, rig->now + SECOND, false);
	assert_non_null(batch);
	ask(rig);
	assert_int_equal(core_turn(rig->core, rig->now), 0);
	assert_null(core_take_reclaim(rig->core));
	assert_int_equal(mvcc_backend_write(rig->backend, batch->batch), 0);
	core_stored(rig->core, batch);
	settle(rig);
	assert_int_equal(rig->finished, 1);
}

/* Requests go on between slices. */
static void test_nobody_else_waits(void **state)
{
	struct rig *rig = *state;

	fill(rig);
	rig->reclaim_slices = 3;
	rig->hold_reclaims = true;
	ask(rig);
	settle(rig);
	do_put(rig, "a", "meanwhile", 0);
	assert_int_equal(rig->finished, 1);
	assert_value(rig, "a", "meanwhile");
	pass(rig, SECOND);
	assert_int_equal(in_batch(rig), 0);
	let_go(rig);
	assert_int_equal(rig->finished, 3);
}

/* Who has asked by the time it begins is served by one run; who asks later by the next. */
static void test_callers_share_runs(void **state)
{
	struct rig *rig = *state;

	fill(rig);
	for (int i = 0; i < 10; i++)
		ask(rig);
	rig->hold_reclaims = true;
	settle(rig);
	for (int i = 0; i < 7; i++)
		ask(rig);
	settle(rig);
	assert_int_equal(rig->finished, 0);
	rig->hold_reclaims = false;
	assert_true(reclaim_slice(rig));
	assert_int_equal(rig->finished, 10);
	settle(rig);
	assert_int_equal(rig->finished, 17);
	assert_int_equal(rig->reclaimed, 2);
}

static void test_those_that_wait_are_limited(void **state)
{
	struct rig *rig = *state;

	rig->hold_reclaims = true;
	ask(rig);
	settle(rig);
	rig->finished = 0;
	for (int i = 0; i < 100; i++)
		ask(rig);
	assert_int_equal(rig->finished, 0);
	ask(rig);
	assert_int_equal(rig->finished, 1);
	assert_ptr_equal(rig->last_error, &status_too_many_requests);
	let_go(rig);
	assert_int_equal(rig->finished, 102);
	assert_null(rig->last_error);
}

/* Nobody has to ask: it follows every compaction, when history has been freed. */
static void test_compaction_is_followed_by_a_run(void **state)
{
	struct rig *rig = *state;

	fill(rig);
	pass(rig, SECOND);
	assert_int_equal(rig->reclaimed, 0);
	rig->hold_hashes = true;	/* and so the freeing */
	compact(rig, 40, false);
	ask(rig);
	pass(rig, SECOND);
	assert_int_equal(rig->reclaimed, 0);
	rig->hold_hashes = false;
	assert_true(hash_slice(rig));
	pass(rig, SECOND);
	assert_int_equal(rig->reclaimed, 1);
	compact(rig, 45, false);
	pass(rig, SECOND);
	assert_int_equal(rig->reclaimed, 2);
}

/* A member that stops does not wait for it. */
static void test_stopping_ends_it(void **state)
{
	struct rig *rig = *state;

	fill(rig);
	rig->reclaim_slices = 5;
	rig->hold_reclaims = true;
	ask(rig);
	settle(rig);
	ask(rig);
	core_wind_down(rig->core);
	assert_int_equal(rig->finished, 1);
	assert_ptr_equal(rig->last_error, &status_stopped);
	rig->hold_reclaims = false;
	assert_true(reclaim_slice(rig));
	assert_int_equal(rig->finished, 2);
	assert_ptr_equal(rig->last_error, &status_stopped);
	settle(rig);
	assert_null(core_take_reclaim(rig->core));
	assert_int_equal(rig->reclaimed, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
		TEST(asked_for),
		TEST(pending_is_stored_first),
		TEST(batch_under_way),
		TEST(nobody_else_waits),
		TEST(callers_share_runs),
		TEST(those_that_wait_are_limited),
		TEST(compaction_is_followed_by_a_run),
		TEST(stopping_ends_it),
	};

	return cmocka_run_group_tests_name("reclaim", tests, NULL, NULL);
}
