// SPDX-License-Identifier: Apache-2.0

/* Leases against a clock that the test moves. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kvd/lessor.h"

#define SECOND 1000000000ull
#define MIN_TTL 2

static int setup(void **state)
{
	struct lessor *l = malloc(sizeof(*l));

	lessor_init(l, MIN_TTL);
	*state = l;
	return 0;
}

static int teardown(void **state)
{
	lessor_release(*state);
	free(*state);
	return 0;
}

static struct lease *grant(struct lessor *l, int64_t id, int64_t ttl, uint64_t now)
{
	struct lease *lease;

	assert_int_equal(lessor_grant(l, id, ttl, now, &lease), 0);
	return lease;
}

static void test_grant(void **state)
{
	static const struct {
		int64_t id, ttl;
		int outcome;
		int64_t granted;
	} cases[] = {
		{ 0, 10, LESSOR_NO_LEASE, 0 },
		{ 1, LEASE_TTL_MAX + 1, LESSOR_TTL_TOO_LARGE, 0 },
		{ 1, LEASE_TTL_MAX, 0, LEASE_TTL_MAX },
		{ 1, 10, LESSOR_EXISTS, 0 },
		{ 2, 0, 0, MIN_TTL },
		{ 3, -5, 0, MIN_TTL },
		{ -4, 10, 0, 10 },
	};
	struct lease *lease;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int outcome = lessor_grant(*state, cases[i].id, cases[i].ttl, 0, &lease);

		assert_int_equal(outcome, cases[i].outcome);
		if (!outcome)
			assert_int_equal(lease->ttl, cases[i].granted);
	}
}

static void test_expiry_is_the_primarys(void **state)
{
	struct lessor *l = *state;
	struct lease *lease = grant(l, 1, 10, 0);

	assert_null(lessor_expired(l, 1000 * SECOND, SECOND));
	assert_int_equal(lease_remaining(lease, 1000 * SECOND), INT64_MAX);
	assert_int_equal(lessor_promote(l, 1000 * SECOND, SECOND), 0);
	assert_int_equal(lease_remaining(lease, 1000 * SECOND), 11);
	assert_null(lessor_expired(l, 1011 * SECOND - 1, SECOND));
	assert_ptr_equal(lessor_expired(l, 1011 * SECOND, 3 * SECOND), lease);
	lessor_demote(l);
	assert_null(lessor_expired(l, 9999 * SECOND, SECOND));
}

/* Once given out it comes again only after the retry, and has no time left meanwhile. */
static void test_revoking(void **state)
{
	struct lessor *l = *state;
	struct lease *lease;

	assert_int_equal(lessor_promote(l, 0, 0), 0);
	lease = grant(l, 1, 10, 0);
	assert_ptr_equal(lessor_expired(l, 10 * SECOND, 3 * SECOND), lease);
	assert_int_equal(lease_remaining(lease, 11 * SECOND), 0);
	assert_null(lessor_expired(l, 13 * SECOND - 1, 3 * SECOND));
	assert_ptr_equal(lessor_expired(l, 13 * SECOND, 3 * SECOND), lease);
	lessor_remove(l, lease);
	assert_null(lessor_find(l, 1));
	assert_null(lessor_expired(l, 9999 * SECOND, SECOND));
}

/* The heap against the plain order of many leases, some renewed and some removed. */
static void test_order_of_expiry(void **state)
{
	enum { N = 500 };
	struct lessor *l = *state;
	struct lease *lease;
	uint64_t last = 0;
	int seen = 0;

	assert_int_equal(lessor_promote(l, 0, 0), 0);
	for (int i = 1; i <= N; i++)
		grant(l, i, 2 + i * 7919 % N, 0);
	for (int i = 1; i <= N; i += 3)
		lessor_renew(l, lessor_find(l, i), (uint64_t)(i * 31 % N) * SECOND);
	for (int i = 2; i <= N; i += 5)
		lessor_remove(l, lessor_find(l, i));
	for (uint64_t now = 0; now <= 2 * (N + 2) * SECOND; now += SECOND) {
		while ((lease = lessor_expired(l, now, LEASE_TTL_MAX))) {
			assert_true(now >= last);
			last = now;
			seen++;
			lessor_remove(l, lease);
		}
	}
	assert_int_equal(seen, N - N / 5);
	assert_int_equal(l->leases.count, 0);
}

static void test_keys(void **state)
{
	struct lessor *l = *state;
	struct lease *one = grant(l, 1, 10, 0), *two = grant(l, 2, 10, 0);
	struct slice keys[3];

	assert_int_equal(lessor_attach(l, one, SLICE_LIT("b")), 0);
	assert_int_equal(lessor_attach(l, one, SLICE_LIT("a")), 0);
	assert_int_equal(lessor_attach(l, one, SLICE_LIT("c")), 0);
	assert_int_equal(lessor_attach(l, one, SLICE_LIT("a")), 0);
	assert_int_equal(one->n_keys, 3);
	assert_int_equal(lessor_attach(l, two, SLICE_LIT("b")), 0);
	assert_int_equal(lessor_lease_of(l, SLICE_LIT("b")), 2);
	assert_int_equal(one->n_keys, 2);
	lessor_keys(one, keys);
	assert_true(slice_eq(keys[0], SLICE_LIT("a")) && slice_eq(keys[1], SLICE_LIT("c")));
	lessor_detach(l, SLICE_LIT("a"));
	lessor_detach(l, SLICE_LIT("nothing"));
	assert_int_equal(lessor_lease_of(l, SLICE_LIT("a")), 0);
	lessor_remove(l, one);
	assert_int_equal(lessor_lease_of(l, SLICE_LIT("c")), 0);
	assert_int_equal(lessor_lease_of(l, SLICE_LIT("b")), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
		TEST(grant),
		TEST(expiry_is_the_primarys),
		TEST(revoking),
		TEST(order_of_expiry),
		TEST(keys),
	};

	return cmocka_run_group_tests_name("lessor", tests, NULL, NULL);
}
