// SPDX-License-Identifier: Apache-2.0

/* Automatic compaction against a clock that the test moves, a revision a minute. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kvd/compactor.h"

#define SECOND 1000000000ull
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

struct retention_case {
	const char *title;
	uint64_t retention, step, run;
	uint64_t first;			/* the first compaction comes then */
	uint64_t every;			/* and the next ones so much later */
	uint64_t slack;			/* what is compacted may be so much older */
};

/* The revision is the time in steps, so that it says how old it is. */
static void run_case(const struct retention_case *c)
{
	uint64_t last = 0;
	struct compactor compactor;

	compactor_init(&compactor, false, (int64_t)c->retention, 0);
	for (uint64_t now = 0; now <= c->run; now += c->step) {
		int64_t to = compactor_due(&compactor, now, (int64_t)(now / c->step) + 1);
		uint64_t age;

		if (!to)
			continue;
		age = now - ((uint64_t)to - 1) * c->step;
		if (age < c->retention || age > c->retention + c->slack)
			fail_msg("%s: compacted what is %llu s old", c->title,
				 (unsigned long long)(age / SECOND));
		if (now != (last ? last + c->every : c->first))
			fail_msg("%s: compacted at %llu s", c->title,
				 (unsigned long long)(now / SECOND));
		last = now;
	}
	if (!last)
		fail_msg("%s: never compacted", c->title);
}

static void test_periodic(void **state)
{
	static const struct retention_case cases[] = {
		{ "five minutes", 5 * MINUTE, SECOND, HOUR, 5 * MINUTE, 5 * MINUTE, SECOND },
		{ "an hour", HOUR, SECOND, 5 * HOUR, HOUR, HOUR, SECOND },
		{ "a day", DAY, MINUTE, 3 * DAY, DAY, HOUR, MINUTE },
		{ "90 days", 90 * DAY, MINUTE, 100 * DAY, 90 * DAY + HOUR, HOUR, 2 * HOUR },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		run_case(&cases[i]);
}

static void test_tiny_retention(void **state)
{
	struct compactor c;

	compactor_init(&c, false, 5, 0);
	for (uint64_t now = 0; now < SECOND; now += SECOND / 10)
		compactor_due(&c, now, (int64_t)(now / SECOND) + 1);
}

static void test_revision(void **state)
{
	struct compactor c;

	compactor_init(&c, true, 1000, 0);
	assert_int_equal(compactor_due(&c, 5 * MINUTE - 1, 5000), 0);
	assert_int_equal(compactor_due(&c, 5 * MINUTE, 5000), 4000);
	assert_int_equal(compactor_due(&c, 6 * MINUTE, 9000), 0);
	/* nothing new */
	assert_int_equal(compactor_due(&c, 10 * MINUTE, 5000), 0);
	assert_int_equal(compactor_due(&c, 15 * MINUTE, 5001), 4001);
}

static void test_never(void **state)
{
	struct compactor c;

	compactor_init(&c, false, 0, 0);
	assert_int_equal(compactor_due(&c, DAY, 5000), 0);
	compactor_init(&c, true, 1000, 0);
	assert_int_equal(compactor_due(&c, DAY, 1000), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_periodic),
		cmocka_unit_test(test_tiny_retention),
		cmocka_unit_test(test_revision),
		cmocka_unit_test(test_never),
	};

	return cmocka_run_group_tests_name("compactor", tests, NULL, NULL);
}
