// SPDX-License-Identifier: Apache-2.0
/*
 * Watching at sizes and in situations that the scripts do not have: histories longer
 * than one list, transactions larger than the ring, many watchers, and what becomes
 * of a watcher when compaction passes it.
 */
#include <malloc.h>

#include "libmvcc/mvcc_i.h"
#include "tests/unit/mvcc_util.h"

static void put_key(struct rig *rig, const char *key, const char *value)
{
	const struct mvcc_put put = { .key = slice_str(key), .value = slice_str(value) };

	mvcc_begin(rig->store);
	assert_int_equal(mvcc_put(rig->store, &put), 0);
	mvcc_end(rig->store);
}

/* @end NULL: the one key; "": everything from it on. */
static struct mvcc_watcher *watch(struct rig *rig, const char *key, const char *end,
				  int64_t start)
{
	struct mvcc_watch_args args = { .range.key = slice_str(key), .start_revision = start };
	struct mvcc_watcher *w;

	if (end)
		args.range.end = *end ? slice_str(end) : slice_of("", 1);
	assert_int_equal(mvcc_watch(rig->store, &args, &w), 0);
	return w;
}

/* Reads to the end; every revision from @next on must come, with @per events each. */
static void expect_all(struct rig *rig, struct mvcc_watcher *w, int64_t next, size_t per,
		       size_t max)
{
	struct mvcc_events events;
	size_t n;

	mvcc_events_init(&events);
	do {
		assert_int_equal(rig_next(rig, w, max, &events), 0);
		n = events.n;
		assert_int_equal(n % per, 0);
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(events.events[i].mod_revision, next);
			next += (i + 1) % per == 0;
		}
		assert_true(!n || events.revision == next - 1);
	} while (n);
	assert_int_equal(next, mvcc_revision(rig->store) + 1);
	assert_true(mvcc_watcher_synced(rig->store, w));
	mvcc_events_release(&events);
}

/* More than four lists of the past, over one key and over many. */
static void reads_a_long_history(void **state)
{
	const struct mvcc_args args = { .ring_events = 100 };
	char key[16];
	struct rig rig;

	rig_open(&rig, false, &args);
	for (int i = 0; i < 80000; i++) {
		snprintf(key, sizeof(key), "k%d", i % 5 ? i * 37 % 9000 : 0);
		put_key(&rig, key, "v");
		if (i % 1000 == 999)
			rig_store(&rig);
	}
	expect_all(&rig, watch(&rig, "a", "", 1), 2, 1, 1000);
	expect_all(&rig, watch(&rig, "a", "z", 40000), 40000, 1, 333);
	expect_all(&rig, watch(&rig, "a", "z", 79990), 79990, 1, 7);
	mvcc_check(rig.store);
	rig_close(&rig);
}

/* Transactions with more changes than the ring holds, or than fit evenly into a list
 * of the past, are still told whole. */
static void tells_a_large_transaction(void **state)
{
	const struct mvcc_args args = { .ring_events = 64 };
	struct mvcc_put put = { 0 };
	struct mvcc_watcher *w;
	char key[16];
	struct rig rig;

	rig_open(&rig, true, &args);
	w = watch(&rig, "a", "z", 0);
	for (int round = 0; round < 60; round++) {
		mvcc_begin(rig.store);
		for (int i = 0; i < 300; i++) {
			snprintf(key, sizeof(key), "k%03d", i);
			put.key = slice_str(key);
			assert_int_equal(mvcc_put(rig.store, &put), 0);
		}
		mvcc_end(rig.store);
	}
	assert_ptr_equal(mvcc_watch_ready(rig.store), w);
	expect_all(&rig, w, 2, 300, 1);
	mvcc_check(rig.store);
	rig_close(&rig);
}

/* Who had caught up is told what the ring still has, compacted or not; who began in
 * the past is not. */
static void compaction_spares_who_had_caught_up(void **state)
{
	const struct mvcc_args args = { 0 };
	struct mvcc_watcher *caught_up, *late;
	struct mvcc_events events;
	struct rig rig;

	rig_open(&rig, false, &args);
	caught_up = watch(&rig, "k", NULL, 0);
	put_key(&rig, "k", "1");
	put_key(&rig, "k", "2");
	put_key(&rig, "k", "3");
	assert_int_equal(mvcc_compact(rig.store, 4), 0);
	while (mvcc_compact_step(rig.store, 1) > 0)
		;
	late = watch(&rig, "k", NULL, 2);
	mvcc_events_init(&events);
	assert_int_equal(rig_next(&rig, late, 10, &events), MVCC_COMPACTED);
	assert_int_equal(events.compact_revision, 4);
	mvcc_events_release(&events);
	expect_all(&rig, caught_up, 2, 1, 1);
	rig_close(&rig);
}

/* A watcher that nothing happened to for long is not behind when something does. */
static void idle_watchers_do_not_age(void **state)
{
	const struct mvcc_args args = { .ring_events = 64 };
	struct mvcc_watcher *w;
	struct rig rig;

	rig_open(&rig, false, &args);
	put_key(&rig, "mine", "0");
	w = watch(&rig, "mine", "mine0", 0);
	for (int i = 0; i < 1000; i++)
		put_key(&rig, "other", "x");
	assert_int_equal(mvcc_compact(rig.store, mvcc_revision(rig.store)), 0);
	while (mvcc_compact_step(rig.store, 1) > 0)
		;
	assert_true(mvcc_watcher_synced(rig.store, w));
	put_key(&rig, "mine", "1");
	assert_ptr_equal(mvcc_watch_ready(rig.store), w);
	expect_all(&rig, w, mvcc_revision(rig.store), 1, 10);
	rig_close(&rig);
}

#define MANY 5000

/* Each key has its watchers, single ones and ranges, and wakes these alone. */
static void wakes_the_right_ones_of_many(void **state)
{
	static struct mvcc_watcher *keys[MANY], *ranges[MANY];
	const struct mvcc_args args = { 0 };
	char key[16], end[16];
	struct rig rig;

	rig_open(&rig, false, &args);
	for (int i = 0; i < MANY; i++) {
		snprintf(key, sizeof(key), "%05d", i * 7 % MANY);
		keys[i * 7 % MANY] = watch(&rig, key, NULL, 0);
		/* [i, i + 3) */
		snprintf(end, sizeof(end), "%05d", i * 7 % MANY + 3);
		ranges[i * 7 % MANY] = watch(&rig, key, end, 0);
	}
	mvcc_check(rig.store);
	for (int i = 2; i < MANY; i += 61) {
		struct mvcc_watcher *w;
		int n = 0;

		snprintf(key, sizeof(key), "%05d", i);
		put_key(&rig, key, "");
		while ((w = mvcc_watch_ready(rig.store))) {
			assert_true(w == keys[i] || w == ranges[i] || w == ranges[i - 1] ||
				    w == ranges[i - 2]);
			expect_all(&rig, w, mvcc_revision(rig.store), 1, 10);
			n++;
		}
		assert_int_equal(n, 4);
	}
	for (int i = 0; i < MANY; i += 2) {
		mvcc_unwatch(rig.store, keys[i]);
		mvcc_unwatch(rig.store, ranges[MANY - 1 - i]);
		if (i % 1000 == 0)
			mvcc_check(rig.store);
	}
	rig_close(&rig);
}

/* The ring obeys both of its limits, and forgets no more than it must. */
static void ring_keeps_its_limits(void **state)
{
	struct ring ring = { .max = 100, .max_bytes = 100000, .first = 1 };
	struct blob *kv;

	for (int64_t rev = 1; rev < 1000; rev++) {
		struct ring_event e = { .main = rev };

		kv = blob_new(rev < 500 ? 100 : 3000);
		assert_non_null(kv);
		e.kv = kv;
		assert_int_equal(ring_push(&ring, &e), 0);
		assert_true(ring.tail - ring.head <= 100);
		assert_true(ring.bytes <= 100000);
		assert_ptr_equal(ring_find(&ring, rev, 0), kv);
		assert_int_equal(ring_at(&ring, ring.head)->main, ring.first);
	}
	assert_int_equal(ring.tail - ring.head, 100000 / (3000 + sizeof(*kv)));
	kv = blob_new(200000);
	assert_non_null(kv);
	assert_int_equal(ring_push(&ring, &(struct ring_event){ .main = 1000, .kv = kv }), 0);
	assert_int_equal(ring.tail - ring.head, 1);
	ring_release(&ring);
}

/* However often a record changes it is written once. */
static void records_are_written_once(void **state)
{
	const struct mvcc_args args = { 0 };
	struct rig rig;

	rig_open(&rig, false, &args);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(mvcc_record_put(rig.store, "meta", SLICE_LIT("applied"),
						 slice_of(&i, sizeof(i))), 0);
		assert_int_equal(mvcc_batch_pending(rig.store), 1);
	}
	rig_store(&rig);
	assert_int_equal(mvcc_batch_pending(rig.store), 0);
	rig_close(&rig);
}

/* --- what a watcher costs -------------------------------------------------- */

#define COST_WATCHERS 70000		/* right after the hash table has grown */
#define COST_MAX 128
#define COST_NAME 32

enum cost_shape { ON_KEYS, ON_ONE_KEY, ON_RANGES, N_COST_SHAPES };

/* Bytes for each watcher, its group and what malloc adds included, the names not. */
static double cost(enum cost_shape shape)
{
	size_t names = shape == ON_KEYS ? COST_NAME : shape == ON_RANGES ? 2 * COST_NAME : 0;
	const struct mvcc_args args = { 0 };
	struct mallinfo2 before, after;
	char key[COST_NAME + 1], end[COST_NAME + 1];
	struct rig rig;

	rig_open(&rig, false, &args);
	before = mallinfo2();
	for (int i = 0; i < COST_WATCHERS; i++) {
		snprintf(key, sizeof(key), "%0*d", COST_NAME, shape == ON_ONE_KEY ? 7 : i);
		snprintf(end, sizeof(end), "%0*d", COST_NAME, i + 10);
		watch(&rig, key, shape == ON_RANGES ? end : NULL, 0);
	}
	after = mallinfo2();
	mvcc_check(rig.store);
	rig_close(&rig);
	return (double)(after.uordblks + after.hblkhd - before.uordblks - before.hblkhd) /
	       COST_WATCHERS - (double)names;
}

static void costs_no_more_than_its_limit(void **state)
{
	static const char *const titles[N_COST_SHAPES] = { "keys", "one key", "ranges" };

	for (int shape = 0; shape < N_COST_SHAPES; shape++) {
		double bytes = cost((enum cost_shape)shape);

		print_message("a watcher, of %d on %s: %.1f bytes\n", COST_WATCHERS,
			      titles[shape], bytes);
#ifndef __SANITIZE_ADDRESS__
		assert_true(bytes <= COST_MAX + 0.1);
#endif
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_a_long_history),
		cmocka_unit_test(tells_a_large_transaction),
		cmocka_unit_test(compaction_spares_who_had_caught_up),
		cmocka_unit_test(idle_watchers_do_not_age),
		cmocka_unit_test(wakes_the_right_ones_of_many),
		cmocka_unit_test(ring_keeps_its_limits),
		cmocka_unit_test(records_are_written_once),
		cmocka_unit_test(costs_no_more_than_its_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
