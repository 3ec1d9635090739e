// SPDX-License-Identifier: Apache-2.0

/*
 * The core without a loop, a disk or a socket: the test is its clock, its log thread
 * and its store thread, and decides when each of them is done.
 */

#include "kvd/core_i.h"
#include "tests/unit/core_rig.h"

/* --- tests ---------------------------------------------------------------- */

static void test_alone_it_leads_and_publishes(void **state)
{
	struct rig *rig = *state;
	struct core_status status;

	core_status(rig->core, &status);
	assert_true(core_is_leader(rig->core));
	assert_true(status.published);
	assert_int_equal(core_state(rig->core)->cluster.n_members, 1);
	assert_string_equal(core_state(rig->core)->cluster.members[0].name, "one");
	assert_string_equal(core_state(rig->core)->cluster.version, "3.7.0");
}

static void test_put_is_done_when_it_is_logged(void **state)
{
	struct rig *rig = *state;

	rig->stuck = true;
	do_put(rig, "a", "1", 0);
	assert_int_equal(rig->finished, 0);
	rig->stuck = false;
	settle(rig);
	assert_int_equal(rig->finished, 1);
	assert_null(rig->last_error);
	assert_int_equal(rig->last_revision, 2);
	assert_value(rig, "a", "1");
}

static void test_one_turn_is_one_append(void **state)
{
	struct rig *rig = *state;
	struct core_append *a;
	char key[16];

	for (int i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		core_submit(rig->core, make_put(rig, key, "v", 0, false));
	}
	assert_int_equal(core_turn(rig->core, rig->now), 0);
	a = core_take_append(rig->core);
	assert_int_equal(a->n_entries, 100);
	assert_true(a->sync);
	append(rig, a);
	settle(rig);
	assert_int_equal(rig->finished, 100);
}

/* What one append commits is applied in the next turn: that is no backlog. */
static void test_large_append_refuses_nobody(void **state)
{
	struct rig *rig = *state;
	struct core_append *a;

	for (int i = 0; i < 6000; i++)
		core_submit(rig->core, make_put(rig, "k", "v", 0, false));
	assert_int_equal(core_turn(rig->core, rig->now), 0);
	a = core_take_append(rig->core);
	assert_int_equal(a->n_entries, 6000);
	append(rig, a);
	core_submit(rig->core, make_put(rig, "k", "last", 0, false));
	assert_int_equal(rig->finished, 0);
	settle(rig);
	assert_int_equal(rig->finished, 6001);
	assert_value(rig, "k", "last");
}

static void test_late_put_times_out_and_is_applied_all_the_same(void **state)
{
	struct rig *rig = *state;

	rig->stuck = true;
	do_put(rig, "a", "late", 0);
	pass(rig, 10 * SECOND);
	assert_int_equal(rig->finished, 1);
	assert_ptr_equal(rig->last_error, &status_timeout);
	rig->stuck = false;
	settle(rig);
	assert_value(rig, "a", "late");
}

/* A read never sees a put that is not logged, and always one that was answered. */
static void test_reads_see_what_is_logged(void **state)
{
	struct rig *rig = *state;

	do_put(rig, "a", "1", 0);
	rig->stuck = true;
	do_put(rig, "a", "2", 0);
	assert_value(rig, "a", "1");
	rig->stuck = false;
	settle(rig);
	assert_value(rig, "a", "2");
}

/* With a cache of one byte a value leaves memory as soon as it is stored. */
static void test_cold_values_are_fetched(void **state)
{
	struct rig *rig = *state;
	struct mvcc_kv kv;

	do_put(rig, "a", "first", 0);
	pass(rig, SECOND);
	assert_value(rig, "a", "first");
	core_submit(rig->core, make_put(rig, "a", "second", 0, true));
	settle(rig);
	assert_null(rig->last_error);
	assert_non_null(rig->last.prev);
	assert_int_equal(mvcc_kv_decode(blob_slice(rig->last.prev), &kv), 0);
	assert_true(slice_eq(kv.value, SLICE_LIT("first")));
}

static void test_expired_lease_takes_its_keys_along(void **state)
{
	struct rig *rig = *state;

	grant(rig, 42, 5);
	assert_null(rig->last_error);
	do_put(rig, "leased", "x", 42);
	pass(rig, 4 * SECOND);
	assert_value(rig, "leased", "x");
	pass(rig, 2 * SECOND);
	assert_value(rig, "leased", NULL);
	do_put(rig, "leased", "x", 42);
	assert_ptr_equal(rig->last_error, &status_lease_not_found);
}

static void renew(struct rig *rig, int64_t id)
{
	Etcdserverpb__LeaseKeepAliveRequest k = ETCDSERVERPB__LEASE_KEEP_ALIVE_REQUEST__INIT;
	struct request *r = make(rig, REQUEST_LEASE_RENEW, &k.base);

	r->lease_id = id;
	core_submit(rig->core, r);
	settle(rig);
}

static void test_renewed_lease_lives_on(void **state)
{
	struct rig *rig = *state;

	grant(rig, 42, 5);
	do_put(rig, "leased", "x", 42);
	for (int i = 0; i < 4; i++) {
		pass(rig, 3 * SECOND);
		renew(rig, 42);
	}
	assert_value(rig, "leased", "x");
	grant(rig, 42, 5);
	assert_ptr_equal(rig->last_error, &status_lease_exists);
	grant(rig, 43, LEASE_TTL_MAX + 1);
	assert_ptr_equal(rig->last_error, &status_lease_ttl_too_large);
}

/* Everything again from the store and the log after it. */
static void test_restart_keeps_all(void **state)
{
	struct rig *rig = *state;
	int64_t revision;
	char key[16];

	grant(rig, 42, 100);
	for (int i = 0; i < 300; i++) {
		snprintf(key, sizeof(key), "k%d", i % 50);
		do_put(rig, key, "v", i % 2 ? 42 : 0);
		if (i == 200)
			pass(rig, SECOND);
	}
	revision = mvcc_revision(rig->store);
	close_core(rig);
	open_core(rig);
	settle(rig);
	assert_int_equal(mvcc_revision(rig->store), revision);
	assert_int_equal(lessor_find(&core_state(rig->core)->lessor, 42)->n_keys, 25);
	assert_value(rig, "k49", "v");
	do_put(rig, "k49", "again", 0);
	assert_int_equal(rig->last_revision, revision + 1);
}

/* Turns and the log alone: the store's disk does not answer. */
static void settle_log(struct rig *rig)
{
	struct core_append *a;

	for (int i = 0; i < 200; i++) {
		assert_int_equal(core_turn(rig->core, rig->now), 0);
		while ((a = core_take_append(rig->core)))
			append(rig, a);
	}
}

static void test_one_put_is_one_append(void **state)
{
	struct rig *rig = *state;
	struct core_append *a;

	core_submit(rig->core, make_put(rig, "a", "1", 0, false));
	assert_int_equal(core_turn(rig->core, rig->now), 0);
	a = core_take_append(rig->core);
	assert_non_null(a);
	append(rig, a);
	assert_int_equal(core_turn(rig->core, rig->now), 0);
	assert_int_equal(rig->finished, 1);
	/* the commit index moved; it goes with the next put */
	assert_null(core_take_append(rig->core));
}

/* 70 values of 1 MiB: more than may be applied without being stored. */
static void test_slow_store_holds_puts_back(void **state)
{
	struct rig *rig = *state;
	char *value = malloc((1 << 20) + 1);

	memset(value, 'x', 1 << 20);
	value[1 << 20] = 0;
	for (int i = 0; i < 70; i++)
		core_submit(rig->core, make_put(rig, "a", value, 0, false));
	settle_log(rig);
	assert_in_range(rig->finished, 60, 69);
	settle(rig);
	assert_int_equal(rig->finished, 70);
	free(value);
}

static void test_compaction(void **state)
{
	struct rig *rig = *state;

	for (int i = 0; i < 50; i++)
		do_put(rig, "a", "v", 0);
	compact(rig, 40, true);
	assert_null(rig->last_error);
	compact(rig, 40, false);
	assert_ptr_equal(rig->last_error, &status_compacted);
	compact(rig, 1000, false);
	assert_ptr_equal(rig->last_error, &status_future_revision);
	assert_int_equal(mvcc_compact_revision(rig->store), 40);
}

static int64_t revisions(const struct rig *rig)
{
	struct mvcc_stats stats;

	mvcc_stats(rig->store, &stats);
	return stats.revisions;
}

/* A member that stops does not wait for history to be freed; the next start does that. */
static void test_compaction_goes_on_after_a_restart(void **state)
{
	Etcdserverpb__CompactionRequest c = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
	struct rig *rig = *state;
	struct core_append *a;
	char key[16];

	for (int i = 0; i < 6000; i++) {
		snprintf(key, sizeof(key), "k%04d", i % 3000);
		core_submit(rig->core, make_put(rig, key, "v", 0, false));
	}
	settle(rig);
	c.revision = mvcc_revision(rig->store);
	core_submit(rig->core, make(rig, REQUEST_COMPACT, &c.base));
	assert_int_equal(core_turn(rig->core, rig->now), 0);
	a = core_take_append(rig->core);
	append(rig, a);
	assert_int_equal(core_turn(rig->core, rig->now), 0);
	/* the compaction's hash comes before the freeing */
	assert_true(store_batch(rig));
	rig->hash_held = core_take_hash(rig->core);
	assert_true(hash_slice(rig));
	assert_int_equal(core_turn(rig->core, rig->now), 0);
	assert_true(core_busy(rig->core));
	core_wind_down(rig->core);
	assert_false(core_busy(rig->core));
	pass(rig, SECOND);
	assert_true(revisions(rig) > 3000);
	close_core(rig);
	open_core(rig);
	settle(rig);
	assert_int_equal(revisions(rig), 3000);
}

/* What is applied is not kept in the log for long where entries are large. */
static void test_log_in_memory_is_bounded_by_bytes(void **state)
{
	struct rig *rig = *state;
	char *value = malloc((1 << 20) + 1);
	struct core_status status;
	uint64_t held;

	memset(value, 'x', 1 << 20);
	value[1 << 20] = 0;
	for (int i = 0; i < 3 * (UNSYNCED_BYTES_MAX >> 20); i++) {
		do_put(rig, "a", value, 0);
		core_status(rig->core, &status);
		held = status.raft.last_index - status.raft.first_index + 1;
		assert_true(held <= (UNSYNCED_BYTES_MAX >> 20) + 8);
	}
	/* it is the bytes that do it */
	assert_true(status.raft.last_index < core_config(rig->core)->snapshot_count);
	free(value);
}

static uint64_t first_index(const struct rig *rig)
{
	struct core_status status;

	core_status(rig->core, &status);
	return status.raft.first_index;
}

/* However much the store has taken at once, a turn forgets a slice of it. */
static void test_log_is_forgotten_in_slices(void **state)
{
	struct rig *rig = *state;
	uint64_t before, moved;
	size_t turns = 0;

	for (int i = 0; i < 5000; i++)
		core_submit(rig->core, make_put(rig, "a", "v", 0, false));
	settle_log(rig);
	assert_int_equal(rig->finished, 5000);
	before = first_index(rig);
	assert_true(store_batch(rig));
	assert_int_equal(first_index(rig), before);
	do {
		assert_int_equal(core_turn(rig->core, rig->now), 0);
		moved = first_index(rig) - before;
		assert_in_range(moved, 1, TRIM_SLICE);
		before += moved;
		turns++;
	} while (core_busy(rig->core));
	assert_true(turns >= 5000 / TRIM_SLICE);
	assert_int_equal(before, rig->n_log + 1);
}

/* Turns that bring more than a slice leave no more from one to the next. */
static void test_busy_turns_leave_nothing_behind(void **state)
{
	const size_t each = 2 * TRIM_SLICE, turns = 18;
	struct rig *rig = *state;
	struct mvcc_stats stats;
	struct core_append *a;
	char key[32];

	for (size_t turn = 0; turn < turns; turn++) {
		for (size_t i = 0; i < each; i++) {
			snprintf(key, sizeof(key), "%zu/%zu", turn, i);
			core_submit(rig->core, make_put(rig, key, "v", 0, false));
		}
		assert_int_equal(core_turn(rig->core, rig->now), 0);
		while ((a = core_take_append(rig->core)))
			append(rig, a);
		store_batch(rig);
		/* what is under way, and what the turns before the last few left */
		assert_true(rig->n_log + 1 - first_index(rig) <= 4 * each);
		mvcc_stats(rig->store, &stats);
		assert_true(stats.cache_bytes <= 4 * (int64_t)each * 100);
	}
	assert_true(rig->finished >= (turns - 2) * each);
}

/* Who waits for the space learns that it is not free. */
static void test_stopping_ends_physical_compactions(void **state)
{
	struct rig *rig = *state;

	for (int i = 0; i < 50; i++)
		do_put(rig, "a", "v", 0);
	rig->hold_hashes = true;
	compact(rig, 40, true);
	rig->finished = 0;
	core_wind_down(rig->core);
	assert_int_equal(rig->finished, 1);
	assert_ptr_equal(rig->last_error, &status_stopped);
	rig->hold_hashes = false;
	hash_slice(rig);
}

static size_t pending(const struct rig *rig)
{
	struct core_status status;

	core_status(rig->core, &status);
	return status.pending;
}

/* Every request that finds no room asks for the alarm. */
static void test_alarm_is_proposed_once_a_second(void **state)
{
	const int type = ETCDSERVERPB__ALARM_TYPE__NOSPACE;
	struct rig *rig = *state;

	rig->stuck = true;
	for (int i = 0; i < 1000; i++)
		core_raise_alarm(rig->core, type);
	assert_int_equal(pending(rig), 1);
	pass(rig, SECOND / 2);
	core_raise_alarm(rig->core, type);
	assert_int_equal(pending(rig), 1);
	pass(rig, SECOND / 2);
	core_raise_alarm(rig->core, type);
	core_raise_alarm(rig->core, type);
	assert_int_equal(pending(rig), 2);
	/* another kind does not wait for it */
	core_raise_alarm(rig->core, ETCDSERVERPB__ALARM_TYPE__CORRUPT);
	assert_int_equal(pending(rig), 3);
	rig->stuck = false;
	settle(rig);
	assert_int_equal(pending(rig), 0);
	assert_int_equal(core_state(rig->core)->n_alarms, 2);
	/* nor is one proposed that is set */
	pass(rig, 2 * SECOND);
	core_raise_alarm(rig->core, type);
	assert_int_equal(pending(rig), 0);
}

static void test_alarm_refuses_what_adds(void **state)
{
	Etcdserverpb__AlarmRequest a = ETCDSERVERPB__ALARM_REQUEST__INIT;
	Etcdserverpb__DeleteRangeRequest d = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
	struct rig *rig = *state;

	do_put(rig, "a", "1", 0);
	a.action = ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE;
	a.alarm = ETCDSERVERPB__ALARM_TYPE__NOSPACE;
	a.memberid = 7;
	core_submit(rig->core, make(rig, REQUEST_ALARM, &a.base));
	do_put(rig, "a", "2", 0);
	assert_ptr_equal(rig->last_error, &status_no_space);
	grant(rig, 1, 10);
	assert_ptr_equal(rig->last_error, &status_no_space);
	assert_value(rig, "a", "1");
	d.key = bytes("a");
	core_submit(rig->core, make(rig, REQUEST_DELETE_RANGE, &d.base));
	settle(rig);
	assert_null(rig->last_error);
	/* it outlives a restart */
	pass(rig, SECOND);
	close_core(rig);
	open_core(rig);
	settle(rig);
	do_put(rig, "a", "2", 0);
	assert_ptr_equal(rig->last_error, &status_no_space);
	a.action = ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__DEACTIVATE;
	core_submit(rig->core, make(rig, REQUEST_ALARM, &a.base));
	do_put(rig, "a", "2", 0);
	assert_null(rig->last_error);
}

/* No more is written then, but everything can be read, and the alarm be ended. */
static void test_corrupt_refuses_writes_alone(void **state)
{
	Etcdserverpb__AlarmRequest a = ETCDSERVERPB__ALARM_REQUEST__INIT;
	struct rig *rig = *state;

	grant(rig, 1, 100);
	do_put(rig, "a", "1", 1);
	a.action = ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE;
	a.alarm = ETCDSERVERPB__ALARM_TYPE__CORRUPT;
	a.memberid = 7;
	core_submit(rig->core, make(rig, REQUEST_ALARM, &a.base));
	do_put(rig, "a", "2", 0);
	assert_ptr_equal(rig->last_error, &status_corrupt);
	assert_value(rig, "a", "1");
	renew(rig, 1);
	assert_null(rig->last_error);
	a.action = ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__DEACTIVATE;
	core_submit(rig->core, make(rig, REQUEST_ALARM, &a.base));
	do_put(rig, "a", "2", 0);
	assert_null(rig->last_error);
}

/* --- transactions --------------------------------------------------------- */

struct txn_case {
	const char *title;
	/* one operation a letter and its key: p put, i put that keeps the value, d delete,
	 * D delete every key from here on */
	const char *ops;
	const struct status *refused;	/* when it comes in */
	const struct status *failed;	/* when it is applied */
};

static Etcdserverpb__RequestOp *make_op(struct pb_arena *arena, const char *op)
{
	Etcdserverpb__RequestOp *out = pb_arena_alloc(arena, sizeof(*out));
	Etcdserverpb__PutRequest *put = pb_arena_alloc(arena, sizeof(*put));
	Etcdserverpb__DeleteRangeRequest *del = pb_arena_alloc(arena, sizeof(*del));
	ProtobufCBinaryData key = { 1, (uint8_t *)op + 1 };

	*out = (Etcdserverpb__RequestOp)ETCDSERVERPB__REQUEST_OP__INIT;
	*put = (Etcdserverpb__PutRequest)ETCDSERVERPB__PUT_REQUEST__INIT;
	*del = (Etcdserverpb__DeleteRangeRequest)ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
	if (*op == 'p' || *op == 'i') {
		put->key = key;
		put->ignore_value = *op == 'i';
		out->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
		out->request_put = put;
	} else {
		del->key = key;
		if (*op == 'D')
			del->range_end = (ProtobufCBinaryData){ 1, (uint8_t *)"" };
		out->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
		out->request_delete_range = del;
	}
	return out;
}

static void run_txn_case(struct rig *rig, const struct txn_case *c)
{
	Etcdserverpb__TxnRequest txn = ETCDSERVERPB__TXN_REQUEST__INIT;
	Etcdserverpb__RequestOp *ops[16];
	const struct status *refused;
	struct pb_arena arena;

	pb_arena_init(&arena);
	txn.success = ops;
	for (const char *op = c->ops; *op; op += 2)
		ops[txn.n_success++] = make_op(&arena, op);
	refused = validate_txn(&txn, 128, &arena);
	if (refused != c->refused)
		fail_msg("%s: %s", c->title, refused ? refused->text : "accepted");
	if (!refused) {
		core_submit(rig->core, make(rig, REQUEST_TXN, &txn.base));
		settle(rig);
		if (rig->last_error != c->failed)
			fail_msg("%s: %s", c->title,
				 rig->last_error ? rig->last_error->text : "done");
	}
	pb_arena_release(&arena);
}

static void test_txn_overlaps(void **state)
{
	static const struct txn_case cases[] = {
		{ "two puts of one key", "papa", &status_duplicate_key, NULL },
		{ "a put and a delete of one key", "dapa", &status_duplicate_key, NULL },
		{ "two deletes may overlap", "dada", NULL, NULL },
		{ "different keys", "papbdc", NULL, NULL },
		/* etcd 3.7.1 dies of this one, and again at every start */
		{ "a kept value after a delete of every key", "Daib", NULL,
		  &status_key_not_found },
		{ "the same with the keys the other way round", "Dbia", NULL, NULL },
		{ "a put after a delete of every key", "Dapb", NULL, NULL },
		{ "a kept value of no key", "iz", NULL, &status_key_not_found },
	};
	struct rig *rig = *state;
	int64_t before;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		do_put(rig, "a", "1", 0);
		do_put(rig, "b", "2", 0);
		before = mvcc_revision(rig->store);
		run_txn_case(rig, &cases[i]);
		if (cases[i].failed)
			assert_int_equal(mvcc_revision(rig->store), before);
	}
	assert_value(rig, "a", "1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
		TEST(alone_it_leads_and_publishes),
		TEST(put_is_done_when_it_is_logged),
		TEST(one_turn_is_one_append),
		TEST(large_append_refuses_nobody),
		TEST(late_put_times_out_and_is_applied_all_the_same),
		TEST(reads_see_what_is_logged),
		TEST(cold_values_are_fetched),
		TEST(expired_lease_takes_its_keys_along),
		TEST(renewed_lease_lives_on),
		TEST(restart_keeps_all),
		TEST(one_put_is_one_append),
		TEST(slow_store_holds_puts_back),
		TEST(compaction),
		TEST(compaction_goes_on_after_a_restart),
		TEST(log_in_memory_is_bounded_by_bytes),
		TEST(log_is_forgotten_in_slices),
		TEST(busy_turns_leave_nothing_behind),
		TEST(stopping_ends_physical_compactions),
		TEST(alarm_is_proposed_once_a_second),
		TEST(alarm_refuses_what_adds),
		TEST(corrupt_refuses_writes_alone),
		TEST(txn_overlaps),
	};

	return cmocka_run_group_tests_name("core", tests, NULL, NULL);
}
