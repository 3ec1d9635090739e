// SPDX-License-Identifier: Apache-2.0

/* Scrubs through the core: when they begin, how fast they go, and what damage does. */

#include "tests/unit/core_rig.h"

static void restart(struct rig *rig, uint64_t period)
{
	pass(rig, SECOND);
	close_core(rig);
	rig->scrub_period = period;
	rig->scrub_slices = 3;
	open_core(rig);
	settle(rig);
}

/* The first one a period after the start, a slice a tick, the next a period later. */
static void test_now_and_then(void **state)
{
	struct rig *rig = *state;

	restart(rig, 10 * SECOND);
	pass(rig, 9 * SECOND);
	assert_int_equal(rig->scrubbed, 0);
	pass(rig, 12 * SECOND / 10);
	assert_int_equal(rig->scrubbed, 2);
	pass(rig, 9 * SECOND);
	assert_int_equal(rig->scrubbed, 3);
	pass(rig, 2 * SECOND);
	assert_int_equal(rig->scrubbed, 6);
	assert_int_equal(core_state(rig->core)->n_alarms, 0);
}

static void test_not_where_it_is_not_asked_for(void **state)
{
	struct rig *rig = *state;

	restart(rig, 0);
	pass(rig, 100 * SECOND);
	assert_int_equal(rig->scrubbed, 0);
}

static void test_damage_raises_the_alarm(void **state)
{
	struct rig *rig = *state;

	restart(rig, 10 * SECOND);
	do_put(rig, "a", "1", 0);
	rig->damaged = true;
	pass(rig, 12 * SECOND);
	assert_true(state_alarm_set(core_state(rig->core), ETCDSERVERPB__ALARM_TYPE__CORRUPT));
	do_put(rig, "a", "2", 0);
	assert_ptr_equal(rig->last_error, &status_corrupt);
	assert_value(rig, "a", "1");
}

static void test_stopping_ends_it(void **state)
{
	struct rig *rig = *state;

	restart(rig, SECOND);
	core_wind_down(rig->core);
	pass(rig, 10 * SECOND);
	assert_int_equal(rig->scrubbed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
		TEST(now_and_then),
		TEST(not_where_it_is_not_asked_for),
		TEST(damage_raises_the_alarm),
		TEST(stopping_ends_it),
	};

	return cmocka_run_group_tests_name("scrub", tests, NULL, NULL);
}
