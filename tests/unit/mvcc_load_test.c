// SPDX-License-Identifier: Apache-2.0
/*
 * A store that is opened again is the one that it was: more records than are sorted at
 * once, several for a key, and names that are hard to tell apart by a few bytes.
 */
#include "tests/unit/mvcc_util.h"

#define RECORDS 300000
#define KEYS 50000
#define NAME_BYTES 64
#define GROUP (1 << 18)		/* records that are sorted together, at first */

enum shape { NUMBERS, FAR_APART, NESTED, N_SHAPES };

struct known {
	bool live;
	struct mvcc_key_info info;
	int64_t counted;		/* one or none, at a revision of the past */
};

static uint32_t mix(uint32_t x)
{
	x = (x ^ x >> 16) * 0x45d9f3b;
	x = (x ^ x >> 16) * 0x45d9f3b;
	return x ^ x >> 16;
}

/* The i-th name: any bytes; the same beginning and the same end, the difference far from
 * the end of either; or the same byte again and again, in one of many lengths. */
static struct slice name(enum shape shape, uint32_t i, uint8_t buf[NAME_BYTES])
{
	uint32_t number = mix(i + 1);
	size_t len;

	switch (shape) {
	case NUMBERS:
		memcpy(buf, &number, sizeof(number));
		return slice_of(buf, sizeof(number));
	case FAR_APART:
		len = (size_t)snprintf((char *)buf, NAME_BYTES, "/registry/%u/namespaces/%08x/x",
				       i % 2, number);
		return slice_of(buf, len);
	default:
		memset(buf, 0, NAME_BYTES);
		memcpy(buf + 1, &number, i % 3 ? 2 : 3);
		return slice_of(buf, 1 + i % (NAME_BYTES - 1));
	}
}

static void fill(struct rig *rig, enum shape shape)
{
	uint8_t buf[NAME_BYTES];

	for (uint32_t i = 0; i < RECORDS; i++) {
		struct slice key = name(shape, mix(i) % KEYS, buf);
		struct mvcc_put put = { .key = key, .value = SLICE_LIT("v") };

		mvcc_begin(rig->store);
		if (i % 7 == 3)
			assert_int_equal(mvcc_delete_range(rig->store, (struct mvcc_key_range){
					 .key = key }, NULL), 0);
		else
			assert_int_equal(mvcc_put(rig->store, &put), 0);
		mvcc_end(rig->store);
	}
	rig_store(rig);
}

static void look(struct rig *rig, enum shape shape, struct known *known)
{
	struct mvcc_read read = { .count_only = true, .revision = RECORDS / 2 };
	struct mvcc_result result;
	uint8_t buf[NAME_BYTES];

	mvcc_result_init(&result);
	for (uint32_t i = 0; i < KEYS; i++) {
		read.range.key = name(shape, i, buf);
		known[i].live = mvcc_find(rig->store, read.range.key, &known[i].info);
		assert_int_equal(rig_range(rig, &read, &result), 0);
		known[i].counted = result.count;
	}
	mvcc_result_release(&result);
}

static void opens_as_it_was(void **state)
{
	struct known *before = calloc(KEYS, sizeof(*before)), *after = calloc(KEYS, sizeof(*after));
	struct mvcc_stats stats, again;
	struct rig rig;

	assert_true(before && after);
	for (enum shape shape = 0; shape < N_SHAPES; shape++) {
		int64_t revision;

		memset(before, 0, KEYS * sizeof(*before));
		memset(after, 0, KEYS * sizeof(*after));
		rig_open(&rig, false, &(struct mvcc_args){ 0 });
		fill(&rig, shape);
		look(&rig, shape, before);
		mvcc_stats(rig.store, &stats);
		revision = mvcc_revision(rig.store);
		rig_restart(&rig);
		mvcc_check(rig.store);
		look(&rig, shape, after);
		mvcc_stats(rig.store, &again);
		assert_int_equal(mvcc_revision(rig.store), revision);
		assert_int_equal(again.keys, stats.keys);
		assert_int_equal(again.revisions, stats.revisions);
		assert_true(stats.revisions > GROUP);
		assert_memory_equal(before, after, KEYS * sizeof(*before));
		rig_close(&rig);
	}
	free(before);
	free(after);
}

static void put(struct rig *rig, const char *beginning, uint32_t i)
{
	char buf[NAME_BYTES];
	size_t len = (size_t)snprintf(buf, sizeof(buf), "%s%05u", beginning, i);
	const struct mvcc_put put = { .key = slice_of(buf, len), .value = SLICE_LIT("v") };

	mvcc_begin(rig->store);
	assert_int_equal(mvcc_put(rig->store, &put), 0);
	mvcc_end(rig->store);
}

/*
 * A few records after those that are sorted together are far from each other in the index:
 * each is in another leaf than the one before, below nodes that all begin otherwise.
 */
static void few_come_last(void **state)
{
	static const char *const beginnings[] = { "aaaaaaaaaaaa", "b00000000000", "b0/", "c" };
	const uint32_t n = ARRAY_SIZE(beginnings);
	struct mvcc_stats stats, again;
	struct rig rig;

	for (uint32_t few = 2; few < 200; few *= 3) {
		rig_open(&rig, false, &(struct mvcc_args){ 0 });
		for (uint32_t i = 0; i < GROUP; i++)
			put(&rig, beginnings[i % n], i / n % 10000);
		for (uint32_t i = 0; i < few; i++)
			put(&rig, beginnings[mix(i) % n], mix(i * few) % 11000);
		rig_store(&rig);
		mvcc_stats(rig.store, &stats);
		rig_restart(&rig);
		mvcc_check(rig.store);
		mvcc_stats(rig.store, &again);
		assert_int_equal(again.keys, stats.keys);
		assert_int_equal(again.revisions, stats.revisions);
		rig_close(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opens_as_it_was),
		cmocka_unit_test(few_come_last),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
