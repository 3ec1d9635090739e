// SPDX-License-Identifier: Apache-2.0
/*
 * The order of keys that compare equal. A range sorted by value must give the keys in
 * the order in which etcd gives them, whose sort is Go's and not stable. What Go 1.26
 * made of the same values was recorded: for every pattern, and both directions, a
 * checksum for each twenty numbers of keys (1 to 20, 21 to 40, ..., 281 to 300).
 *
 * The checksum is FNV-1a, 32 bits, over where each key of the answer stood before,
 * two bytes each, low byte first.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "include/bug.h"
#include "libmvcc/mvcc.h"

#define KEYS 300
#define STEP 20

/* --- patterns: the value of key i of n ------------------------------------------------- */

/* Made by an adversary that answers comparisons so as to spoil every pivot: with 100
 * keys the sort gives up on pivots and takes its way out, heap sort. */
static const uint8_t hostile[100] = {
	7, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
	26, 27, 28, 29, 0, 1, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
	44, 45, 46, 47, 48, 49, 50, 51, 52, 2, 3, 53, 61, 88, 68, 85, 94, 57, 92, 97,
	84, 89, 90, 96, 54, 65, 56, 58, 86, 55, 62, 75, 64, 66, 4, 5, 87, 59, 93, 60,
	99, 63, 98, 67, 91, 95, 81, 82, 80, 79, 77, 78, 83, 76, 74, 73, 72, 71, 70, 69,
};

static uint32_t seed;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)(((uint64_t)seed * n) >> 32);
}

static uint32_t fill_equal(uint32_t i, uint32_t n)
{
	return 0;
}

static uint32_t fill_sawtooth(uint32_t i, uint32_t n)
{
	return i % 7;
}

static uint32_t fill_organ_pipe(uint32_t i, uint32_t n)
{
	return MIN(i, n - 1 - i) / 3;
}

static uint32_t fill_rising(uint32_t i, uint32_t n)
{
	return i / 5;
}

static uint32_t fill_falling(uint32_t i, uint32_t n)
{
	return (n - i) / 4;
}

static uint32_t fill_nearly_rising(uint32_t i, uint32_t n)
{
	return rnd(24) ? i / 3 : rnd(n) / 3;
}

static uint32_t fill_few(uint32_t i, uint32_t n)
{
	return rnd(5);
}

static uint32_t fill_many(uint32_t i, uint32_t n)
{
	return rnd(n);
}

static uint32_t fill_hostile(uint32_t i, uint32_t n)
{
	return hostile[i % 100] / 2;
}

static uint32_t fill_hostile_falling(uint32_t i, uint32_t n)
{
	return (99 - hostile[i % 100]) / 2;
}

/* --- what Go made of them --------------------------------------------------------------- */

static const struct pattern {
	const char *name;
	uint32_t (*fill)(uint32_t i, uint32_t n);
	uint32_t sums[2][KEYS / STEP];		/* ascending, descending */
} patterns[] = {
	{ "equal", fill_equal, {
		{ 0xb9eed3f7, 0x5c60afd7, 0x4c583067, 0x6687e387, 0xd6a208d7,
		  0x881e3337, 0x97695ee7, 0x2b022a07, 0x23073d77, 0x0567e997,
		  0xb5d1ac67, 0x0015a187, 0x4e171bd7, 0x15fe91cf, 0xd46ee217, },
		{ 0xb9eed3f7, 0x5c60afd7, 0x4c583067, 0x6687e387, 0xd6a208d7,
		  0x881e3337, 0x97695ee7, 0x2b022a07, 0x23073d77, 0x0567e997,
		  0xb5d1ac67, 0x0015a187, 0x4e171bd7, 0x15fe91cf, 0xd46ee217, },
	} },
	{ "sawtooth", fill_sawtooth, {
		{ 0x9f815f3f, 0x75c7664f, 0x5c0d6537, 0xd6eea8af, 0x3b77108f,
		  0xc533d27f, 0x24bc6d47, 0xd3a1a277, 0x6bd01c4f, 0x015db51f,
		  0xab6756ff, 0x0cb41f8f, 0x4bcf9d63, 0xb3e53bc3, 0x2104803f, },
		{ 0x053db8b7, 0xe0f14267, 0x08cf86cf, 0xfed972bf, 0x6c918d2f,
		  0x66509057, 0x72333e0f, 0x9c516ad7, 0xa0cd4197, 0x7857f497,
		  0x6e08555f, 0x44c04e8f, 0xf5235343, 0x36b1331b, 0xf8b52bcf, },
	} },
	{ "organ pipe", fill_organ_pipe, {
		{ 0x27037f87, 0x300543d7, 0x6fcba1df, 0x7b33bd9f, 0x88ccd51f,
		  0xa4d887e7, 0x66a5f4a7, 0x54229adf, 0x881cd717, 0x66a9e75f,
		  0x07f90237, 0x2369430f, 0xa86d8f7b, 0xc127a38f, 0x196730bf, },
		{ 0xf9f5ca57, 0x20aa93b7, 0xf75075e7, 0xc83909ff, 0xdbec828f,
		  0xcbeeca07, 0xcd3204a7, 0x940158e7, 0x37aa15af, 0xb7d4168f,
		  0x5c3ff047, 0x3447a93f, 0x9daeba47, 0x9107d38b, 0x1a21e3bf, },
	} },
	{ "rising", fill_rising, {
		{ 0xb9eed3f7, 0x5c60afd7, 0x4c583067, 0x6687e387, 0xd6a208d7,
		  0x881e3337, 0x97695ee7, 0x2b022a07, 0x23073d77, 0x0567e997,
		  0xb5d1ac67, 0x0015a187, 0x4e171bd7, 0x15fe91cf, 0xd46ee217, },
		{ 0x9d80a1d7, 0x0792e7c7, 0x58b51127, 0x3bf9a207, 0x4189151f,
		  0x4bbf0067, 0xfbddcd4f, 0xc4f0d1ef, 0x4e1732d7, 0x5d3a4a9f,
		  0x08bfe87f, 0xdeafc47f, 0x361585cb, 0x347c0e4b, 0x357209d3, },
	} },
	{ "falling", fill_falling, {
		{ 0x9766539f, 0x05ba2f47, 0x84f2c8ff, 0x745501b7, 0x483ae3d7,
		  0xb648cd4f, 0xbff13d97, 0x116b0997, 0x9d1c302f, 0xc87b0acf,
		  0x89735fdf, 0x96cb893f, 0x90b26b93, 0x4a3a7ea3, 0xa5cce043, },
		{ 0xb9eed3f7, 0x5c60afd7, 0x4c583067, 0x6687e387, 0xd6a208d7,
		  0x881e3337, 0x97695ee7, 0x2b022a07, 0x23073d77, 0x0567e997,
		  0xb5d1ac67, 0x0015a187, 0x4e171bd7, 0x15fe91cf, 0xd46ee217, },
	} },
	{ "nearly rising", fill_nearly_rising, {
		{ 0x8df21c57, 0x123ed5af, 0x3dca02ff, 0x46cb6d6f, 0x6fc09c0f,
		  0xc1fe8ecf, 0xcae7bd17, 0x73910b77, 0x3a89916f, 0x8fc2717f,
		  0x8189d94f, 0x52ee4a07, 0x0173aa7f, 0xa9db5b6b, 0x868b6c0b, },
		{ 0xc4cec8d7, 0x15137d1f, 0x1c6f156f, 0x6a597dc7, 0x7819ba57,
		  0x5f2e69c7, 0x89e1e357, 0xcfda370f, 0xa8bbc027, 0xeb70c817,
		  0xd39efaf7, 0x7bde0f0f, 0xda7feccf, 0xc2612b4b, 0x1a9d5207, },
	} },
	{ "few", fill_few, {
		{ 0x4a486557, 0xfda5bbb7, 0x6d5aa3c7, 0xcaa9f8af, 0xd023c7bf,
		  0xdef980bf, 0x24ac94b7, 0x819d1777, 0x79b2174f, 0x30fcb717,
		  0x3d1a9367, 0x0ddf356f, 0x8c74f333, 0x94440323, 0x0adbdafb, },
		{ 0xa1ca175f, 0x51f91f6f, 0x10bdf2b7, 0x52063fbf, 0x4039dce7,
		  0x87ff271f, 0x8561aef7, 0x1af30a37, 0x17ef1a1f, 0x32486e9f,
		  0x0a256517, 0x1a7f95cf, 0x1efa26e7, 0x2bb38a9f, 0x4a64216b, },
	} },
	{ "many", fill_many, {
		{ 0x80fc0b37, 0xb4fc0b67, 0x0cd3a08f, 0x431528c7, 0xa2c10487,
		  0x613eeedf, 0xf05384a7, 0x35e4aff7, 0xc47ea64f, 0x9df3e397,
		  0xa80e3397, 0x06dd50cf, 0x2b915bc3, 0x33995d0b, 0x1f8e7e0f, },
		{ 0xe05c9e9f, 0xbcd855af, 0x27529c77, 0x64a9c35f, 0xb07fc2ff,
		  0x2af4672f, 0x9c06e6af, 0x343c025f, 0x4c2b871f, 0x7105c2e7,
		  0x72f6d367, 0x7f87a3bf, 0x96c7730f, 0x4f3c0eab, 0x35571faf, },
	} },
	{ "hostile", fill_hostile, {
		{ 0xb9eed3f7, 0xc3d3936f, 0x9c9bf587, 0x08b7a337, 0x4bde9bb7,
		  0x23c9bdef, 0xf5ac9c27, 0xd8821387, 0x63728d17, 0x8e098da7,
		  0x1e314f9f, 0xa0eb1ba7, 0xcb6c3e0f, 0x7c218473, 0xab5ebbe7, },
		{ 0xd7e7ba4f, 0x4b2c703f, 0x16d32aaf, 0xf6962a67, 0x70f2545f,
		  0x31609ae7, 0x0eec9737, 0x38aa2f8f, 0xaddaece7, 0xb0450a7f,
		  0x84d29257, 0x1188c807, 0x7a28a463, 0x4f7f2f5f, 0x2bf7a04b, },
	} },
	{ "hostile, falling", fill_hostile_falling, {
		{ 0xd7e7ba4f, 0x4b2c703f, 0x16d32aaf, 0xf6962a67, 0x70f2545f,
		  0x31609ae7, 0x0eec9737, 0x38aa2f8f, 0xaddaece7, 0xb0450a7f,
		  0x84d29257, 0x1188c807, 0x7a28a463, 0x4f7f2f5f, 0x2bf7a04b, },
		{ 0xb9eed3f7, 0xc3d3936f, 0x9c9bf587, 0x08b7a337, 0x4bde9bb7,
		  0x23c9bdef, 0xf5ac9c27, 0xd8821387, 0x63728d17, 0x8e098da7,
		  0x1e314f9f, 0xa0eb1ba7, 0xcb6c3e0f, 0x7c218473, 0xab5ebbe7, },
	} },
};

/* --- the test ------------------------------------------------------------------------------ */

struct rig {
	struct mvcc_backend *backend;
	struct mvcc *store;
};

static void rig_open(struct rig *rig)
{
	const struct mvcc_args args = { 0 };
	char why[256] = "";

	assert_int_equal(mvcc_mem_open(&rig->backend), 0);
	if (mvcc_open(rig->backend, &args, &rig->store, why, sizeof(why)))
		fail_msg("%s", why);
}

static void rig_close(struct rig *rig)
{
	mvcc_free(rig->store);
	mvcc_backend_close(rig->backend);
}

static void put_pattern(struct mvcc *store, const struct pattern *p, uint32_t n)
{
	char key[16], value[16];

	seed = n;
	mvcc_begin(store);
	for (uint32_t i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "%03u", i);
		snprintf(value, sizeof(value), "%03u", p->fill(i, n));
		assert_int_equal(mvcc_put(store, &(struct mvcc_put){
			.key = slice_str(key), .value = slice_str(value),
		}), 0);
	}
	mvcc_end(store);
}

static void sort_pattern(struct mvcc *store, enum mvcc_sort_order order, int64_t limit,
			 struct mvcc_result *out)
{
	const struct mvcc_read read = {
		.range = { slice_str("0"), slice_str("9") }, .limit = limit,
		.sort_target = MVCC_SORT_VALUE, .sort_order = order,
	};
	struct mvcc_fetch fetch;

	mvcc_fetch_init(&fetch);
	mvcc_result_init(out);
	assert_int_equal(mvcc_range(store, &read, &fetch, out), 0);
	mvcc_fetch_release(&fetch);
}

static uint32_t place(const struct blob *blob)
{
	struct mvcc_kv kv;

	assert_int_equal(mvcc_kv_decode(blob_slice(blob), &kv), 0);
	assert_int_equal(kv.key.len, 3);
	return (kv.key.data[0] - '0') * 100u + (kv.key.data[1] - '0') * 10u +
	       (kv.key.data[2] - '0');
}

static uint32_t checksum(uint32_t sum, const struct mvcc_result *result)
{
	for (size_t i = 0; i < result->n; i++) {
		uint32_t at = place(result->kvs[i]);

		sum = (sum ^ (at & 255)) * 16777619u;
		sum = (sum ^ (at >> 8)) * 16777619u;
	}
	return sum;
}

static void check_step(struct mvcc *store, const struct pattern *p, uint32_t step)
{
	uint32_t sums[2] = { 2166136261u, 2166136261u };

	for (uint32_t n = step * STEP + 1; n <= (step + 1) * STEP; n++) {
		put_pattern(store, p, n);
		for (int down = 0; down < 2; down++) {
			struct mvcc_result all;

			sort_pattern(store, down ? MVCC_SORT_DESCEND : MVCC_SORT_ASCEND, 0, &all);
			assert_int_equal(all.n, n);
			sums[down] = checksum(sums[down], &all);
			mvcc_result_release(&all);
		}
	}
	for (int down = 0; down < 2; down++)
		if (sums[down] != p->sums[down][step])
			fail_msg("%s, %s, %u to %u keys: checksum 0x%08x, Go has 0x%08x", p->name,
				 down ? "descending" : "ascending", step * STEP + 1,
				 (step + 1) * STEP, sums[down], p->sums[down][step]);
}

static void test_order_of_ties(void **state)
{
	struct rig rig;

	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
		rig_open(&rig);
		for (uint32_t step = 0; step < KEYS / STEP; step++)
			check_step(rig.store, &patterns[i], step);
		rig_close(&rig);
	}
}

/* The limit applies to the sorted answer: it is the beginning of the whole one. */
static void test_limit_cuts_sorted(void **state)
{
	struct mvcc_result all, some;
	struct rig rig;

	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
		rig_open(&rig);
		put_pattern(rig.store, &patterns[i], KEYS);
		sort_pattern(rig.store, MVCC_SORT_DESCEND, 0, &all);
		sort_pattern(rig.store, MVCC_SORT_DESCEND, 37, &some);
		assert_int_equal(some.n, 37);
		assert_true(some.more);
		for (size_t k = 0; k < some.n; k++)
			assert_int_equal(place(some.kvs[k]), place(all.kvs[k]));
		mvcc_result_release(&all);
		mvcc_result_release(&some);
		rig_close(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_of_ties),
		cmocka_unit_test(test_limit_cuts_sorted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
