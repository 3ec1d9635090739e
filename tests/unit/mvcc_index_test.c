// SPDX-License-Identifier: Apache-2.0
/*
 * The index at a size where its nodes split, merge and lose their prefixes: against
 * a sorted array, in several orders of insertion and removal. And what a key costs.
 */
#include <malloc.h>

#include "libmvcc/mvcc_i.h"
#include "tests/unit/mvcc_util.h"

#define N 20000
#define NAME_MAX_LEN 48

struct name {
	char bytes[NAME_MAX_LEN];
	size_t len;
	bool there, live;
};

enum order { ASCENDING, DESCENDING, MIXED, N_ORDERS };
enum shape { NUMBERS, PATHS, NESTED, BINARY, N_SHAPES };

static struct name names[N];

static uint32_t mix(uint32_t x)
{
	x = (x ^ x >> 16) * 0x45d9f3b;
	x = (x ^ x >> 16) * 0x45d9f3b;
	return x ^ x >> 16;
}

static struct slice name(size_t i)
{
	return slice_of(names[i].bytes, names[i].len);
}

static int name_cmp(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	return slice_cmp(slice_of(x->bytes, x->len), slice_of(y->bytes, y->len));
}

/* Distinct names: long shared prefixes, names within names, zero bytes. */
static void name_make(struct name *n, enum shape shape, uint32_t i)
{
	memset(n, 0, sizeof(*n));
	switch (shape) {
	case NUMBERS:
		n->len = (size_t)snprintf(n->bytes, NAME_MAX_LEN, "%u", i);
		break;
	case PATHS:
		n->len = (size_t)snprintf(n->bytes, NAME_MAX_LEN, "/registry/%s/ns-%u/%08x",
					  i % 3 ? "pods" : "leases", i % 50, mix(i));
		break;
	case NESTED:
		/* one to 40 times the same letter, then something, or nothing */
		memset(n->bytes, 'a', i % 40);
		n->len = i % 40;
		if (i >= 40)
			n->len += (size_t)snprintf(n->bytes + n->len, 8, "%u", i / 40);
		break;
	default:
		n->len = 9 + i % 4;
		memset(n->bytes, 0, n->len);
		put_be32(n->bytes, i / 4);
	}
}

static void names_make(enum shape shape)
{
	for (uint32_t i = 0; i < N; i++)
		name_make(&names[i], shape, i);
	qsort(names, N, sizeof(names[0]), name_cmp);
	for (size_t i = 1; i < N; i++)
		assert_true(name_cmp(&names[i - 1], &names[i]) < 0);
}

/* The i-th of a permutation of all names. */
static size_t pick(enum order order, size_t i)
{
	return order == ASCENDING ? i : order == DESCENDING ? N - 1 - i : i * 7919 % N;
}

static void put(struct index *index, size_t i, bool live, int64_t revision)
{
	struct index_path path;
	struct key *key = index_seek(index, name(i), &path);
	bool was_live = key && key_live(key);

	if (!key) {
		key = key_new(name(i));
		assert_non_null(key);
		assert_int_equal(key_push(key, revision, live ? 0 : SUB_TOMBSTONE, live, live), 0);
		assert_int_equal(index_insert(index, &path, key), 0);
	} else {
		assert_int_equal(key_push(key, revision, live ? 0 : SUB_TOMBSTONE, live, live), 0);
		index_changed(index, &path, was_live);
	}
	names[i].there = true;
	names[i].live = live;
}

static void take(struct index *index, size_t i)
{
	struct index_path path;

	assert_non_null(index_seek(index, name(i), &path));
	index_remove(index, &path);
	names[i].there = false;
	names[i].live = false;
}

struct expect {
	size_t at;
	bool reverse;
};

static int expect_key(void *arg, struct key *key)
{
	struct expect *e = arg;

	while (!names[e->at].live)
		e->at += e->reverse ? -(size_t)1 : 1;
	assert_true(slice_eq(key_slice(key), name(e->at)));
	e->at += e->reverse ? -(size_t)1 : 1;
	return 0;
}

/* Counts and walks, both ways, between some pairs of names. */
static void compare(const struct index *index)
{
	index_check(index);
	for (size_t k = 0; k < 40; k++) {
		size_t from = mix((uint32_t)k) % N, to = mix((uint32_t)k + 99) % N;
		struct expect e = { .at = from };
		struct index_walk walk = {
			.from = name(from), .end = name(to), .unbounded = k == 0,
			.live = true, .fn = expect_key, .arg = &e,
		};
		int64_t live = 0;

		for (size_t i = from; i < (k ? to : N); i++)
			live += names[i].live;
		assert_int_equal(index_count(index, &walk, INT64_MAX), live);
		assert_int_equal(index_walk(index, &walk), 0);
		e = (struct expect){ .at = (k ? to : N) - 1, .reverse = true };
		walk.reverse = true;
		assert_int_equal(index_walk(index, &walk), 0);
		assert_int_equal(!!index_find(index, name(from)), names[from].there);
	}
}

static void fill_and_empty(enum shape shape, enum order in, enum order out)
{
	struct index index;
	int64_t revision = 2;

	names_make(shape);
	assert_int_equal(index_init(&index), 0);
	for (size_t i = 0; i < N; i++)
		put(&index, pick(in, i), true, revision++);
	compare(&index);
	for (size_t i = 0; i < N; i += 3)
		put(&index, pick(out, i), false, revision++);
	compare(&index);
	for (size_t i = 0; i < N; i += 3)
		take(&index, pick(out, i));
	compare(&index);
	for (size_t i = 0; i < N; i += 3)
		put(&index, pick(in, i), true, revision++);
	compare(&index);
	for (size_t i = 0; i < N; i++) {
		if (!names[pick(out, i)].there)
			continue;
		put(&index, pick(out, i), false, revision++);
		take(&index, pick(out, i));
		if (i % 4000 == 0)
			compare(&index);
	}
	assert_int_equal(index.keys, 0);
	put(&index, 0, true, revision++);
	compare(&index);
	index_release(&index);
}

static void fills_and_empties(void **state)
{
	for (int shape = 0; shape < N_SHAPES; shape++)
		for (int in = 0; in < N_ORDERS; in++)
			fill_and_empty((enum shape)shape, (enum order)in,
				       (enum order)((in + shape) % N_ORDERS));
}

/* --- what a key costs ----------------------------------------------------- */

#define COST_KEYS 200000
#define COST_MAX 100

/* Bytes that the index of COST_KEYS keys takes, beside their names, for each. */
static double cost(enum order order, size_t name_len)
{
	struct mallinfo2 before, after;
	struct index index;
	char bytes[64];

	before = mallinfo2();
	assert_int_equal(index_init(&index), 0);
	for (size_t i = 0; i < COST_KEYS; i++) {
		size_t n = order == ASCENDING ? i : i * 7919 % COST_KEYS;
		struct index_path path;
		struct key *key;

		snprintf(bytes, sizeof(bytes), "%0*zu", (int)name_len, n);
		assert_null(index_seek(&index, slice_of(bytes, name_len), &path));
		key = key_new(slice_of(bytes, name_len));
		assert_non_null(key);
		assert_int_equal(key_push(key, (int64_t)i + 2, 0, 1, 1), 0);
		assert_int_equal(index_insert(&index, &path, key), 0);
	}
	after = mallinfo2();
	index_release(&index);
	return (double)(after.uordblks - before.uordblks) / COST_KEYS - (double)name_len;
}

static void costs_less_than_its_limit(void **state)
{
	/* malloc rounds up: 16 lengths are all there are */
	for (size_t name_len = 16; name_len < 32; name_len++) {
		double a = cost(ASCENDING, name_len), m = cost(MIXED, name_len);

		print_message("names of %zu bytes: %.1f bytes beside them in order, %.1f mixed\n",
			      name_len, a, m);
#ifndef __SANITIZE_ADDRESS__
		assert_true(a <= COST_MAX && m <= COST_MAX);
#endif
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fills_and_empties),
		cmocka_unit_test(costs_less_than_its_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
