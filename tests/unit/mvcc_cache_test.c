// SPDX-License-Identifier: Apache-2.0
/* The read cache: what stays in it, and what goes. */
#include "tests/unit/mvcc_util.h"

#define KEYS 400
#define VALUE 1000
#define CACHE_BYTES 65536
#define NEWEST 50		/* of about 60 that have room; a batch is 10 */

static void put_unstored(struct rig *rig, int i)
{
	uint8_t value[VALUE] = { 0 };
	char key[16];
	const struct mvcc_put put = {
		.key = slice_of(key, (size_t)snprintf(key, sizeof(key), "%04d", i)),
		.value = slice_of(value, sizeof(value)),
	};

	mvcc_begin(rig->store);
	assert_int_equal(mvcc_put(rig->store, &put), 0);
	mvcc_end(rig->store);
}

static void put(struct rig *rig, int i)
{
	put_unstored(rig, i);
	if (i % 10 == 9)
		rig_store(rig);
}

/* Whether the value of a key is in memory; it is not fetched where it is not. */
static bool in_memory(struct rig *rig, int i)
{
	char key[16];
	const struct mvcc_read read = {
		.range.key = slice_of(key, (size_t)snprintf(key, sizeof(key), "%04d", i)),
	};
	struct mvcc_result result;
	struct mvcc_fetch fetch;
	int r;

	mvcc_result_init(&result);
	mvcc_fetch_init(&fetch);
	r = mvcc_range(rig->store, &read, &fetch, &result);
	assert_true(r == 0 || r == MVCC_COLD);
	mvcc_result_release(&result);
	mvcc_fetch_release(&fetch);
	return !r;
}

static int64_t cached_bytes(const struct rig *rig)
{
	struct mvcc_stats stats;

	mvcc_stats(rig->store, &stats);
	return stats.cache_bytes;
}

static void open_full(struct rig *rig)
{
	const struct mvcc_args args = { .cache_bytes = CACHE_BYTES, .ring_events = 1 };

	rig_open(rig, false, &args);
	for (int i = 0; i < KEYS; i++)
		put(rig, i);
	rig_store(rig);
	mvcc_check(rig->store);
	assert_true(cached_bytes(rig) <= CACHE_BYTES);
}

static void the_newest_stay(void **state)
{
	struct rig rig;
	int n = 0;

	open_full(&rig);
	for (int i = KEYS - NEWEST; i < KEYS; i++)
		n += in_memory(&rig, i);
	/* where the hand begins a new round it meets a batch of the newest */
	assert_true(n >= NEWEST - 10);
	for (int i = 0; i < KEYS - 2 * NEWEST; i++)
		assert_false(in_memory(&rig, i));
	rig_close(&rig);
}

/* What is read between any two rounds of the hand outlives what is not. */
static void what_is_read_stays(void **state)
{
	const int read[] = { KEYS - 3, KEYS - 20, KEYS - 31 };
	struct rig rig;

	open_full(&rig);
	for (int i = KEYS; i < 3 * KEYS; i++) {
		for (size_t k = 0; k < ARRAY_SIZE(read); k++)
			assert_true(in_memory(&rig, read[k]));
		put(&rig, i);
	}
	assert_false(in_memory(&rig, KEYS - 4));
	mvcc_check(rig.store);
	rig_close(&rig);
}

/* The value of a key that is overwritten takes the old one's place. */
static void overwriting_adds_nothing(void **state)
{
	int64_t before;
	struct rig rig;

	open_full(&rig);
	before = cached_bytes(&rig);
	for (int round = 0; round < 20; round++) {
		put(&rig, KEYS - 9);
		rig_store(&rig);
	}
	/* a revision and a version may take a byte more each */
	assert_in_range(cached_bytes(&rig), before, before + 8);
	mvcc_check(rig.store);
	rig_close(&rig);
}

/* However much a batch held, what it leaves goes in steps of the size that was asked. */
static void go_back_in_slices(size_t cache_bytes)
{
	const struct mvcc_args args = { .cache_bytes = cache_bytes, .ring_events = 1 };
	const size_t slice = 10;
	int64_t before, after;
	struct mvcc_batch *batch;
	struct rig rig;
	size_t steps = 0;
	bool more = true;

	rig_open(&rig, false, &args);
	for (int i = 0; i < KEYS; i++)
		put_unstored(&rig, i);
	/* what is not stored stays, and is no reason to go on looking */
	assert_false(mvcc_trim(rig.store, slice));
	before = cached_bytes(&rig);
	assert_true(before > KEYS * VALUE);
	batch = mvcc_batch_take(rig.store);
	assert_int_equal(mvcc_backend_write(rig.backend, batch), 0);
	mvcc_batch_done(rig.store, batch);
	assert_int_equal(cached_bytes(&rig), before);
	for (; more; steps++) {
		more = mvcc_trim(rig.store, slice);
		after = cached_bytes(&rig);
		assert_in_range(before - after, 0, (int64_t)slice * (VALUE + 100));
		before = after;
		mvcc_check(rig.store);
	}
	assert_true(steps >= KEYS / slice);
	assert_in_range(after, 1, cache_bytes);
	rig_close(&rig);
}

/* Of the batch and of the cache; of the batch alone. */
static void memory_goes_back_in_slices(void **state)
{
	go_back_in_slices(CACHE_BYTES);
	go_back_in_slices(KEYS * 2 * VALUE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_newest_stay),
		cmocka_unit_test(what_is_read_stays),
		cmocka_unit_test(overwriting_adds_nothing),
		cmocka_unit_test(memory_goes_back_in_slices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
