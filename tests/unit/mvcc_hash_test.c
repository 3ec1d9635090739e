// SPDX-License-Identifier: Apache-2.0
/*
 * HashKV against the answers that etcd 3.7.1 gave to the same requests, at revisions
 * old and new, before and after compactions, with their work done or not. The hash
 * is over every byte that is stored, so this is the proof that the records are
 * etcd's.
 */
#include "tests/unit/mvcc_util.h"

static void crc32c(void *arg, struct slice bytes)
{
	uint32_t *crc = arg, c = ~*crc;

	for (size_t i = 0; i < bytes.len; i++) {
		c ^= bytes.data[i];
		for (int bit = 0; bit < 8; bit++)
			c = c >> 1 ^ (c & 1 ? 0x82f63b78 : 0);
	}
	*crc = ~c;
}

static void put(struct rig *rig, const char *key, const char *value)
{
	const struct mvcc_put put = { .key = slice_str(key), .value = slice_str(value) };

	assert_int_equal(mvcc_put(rig->store, &put), 0);
}

static void put_alone(struct rig *rig, const char *key, const char *value)
{
	mvcc_begin(rig->store);
	put(rig, key, value);
	mvcc_end(rig->store);
}

static void delete(struct rig *rig, struct mvcc_key_range range)
{
	bool alone = range.end.len;

	if (alone)
		mvcc_begin(rig->store);
	assert_int_equal(mvcc_delete_range(rig->store, range, NULL), 0);
	if (alone)
		mvcc_end(rig->store);
}

/* In slices of one key and one record, and in one piece; batches are stored meanwhile. */
static void expect(struct rig *rig, struct mvcc_hash *hash, size_t slice, uint32_t want)
{
	uint32_t crc = 0;
	int r;

	while ((r = mvcc_hash_step(rig->store, hash, slice)) > 0)
		rig_store(rig);
	assert_int_equal(r, 0);
	rig_store(rig);
	while ((r = mvcc_backend_hash(rig->backend, hash, slice, crc32c, &crc)) > 0)
		;
	assert_int_equal(r, 0);
	mvcc_hash_release(hash);
	assert_int_equal(crc, want);
}

static void expect_hash(struct rig *rig, int64_t revision, uint32_t want)
{
	static const size_t slices[] = { 1, 2, 1 << 20 };
	struct mvcc_hash hash;

	for (size_t i = 0; i < ARRAY_SIZE(slices); i++) {
		assert_int_equal(mvcc_hash_begin(rig->store, revision, &hash), 0);
		assert_int_equal(hash.compact_revision, mvcc_compact_revision(rig->store));
		assert_int_equal(hash.current, mvcc_revision(rig->store));
		expect(rig, &hash, slices[i], want);
	}
}

static void compact(struct rig *rig, int64_t revision)
{
	assert_int_equal(mvcc_compact(rig->store, revision), 0);
}

static void work(struct rig *rig)
{
	while (mvcc_compact_step(rig->store, 1) > 0)
		rig_store(rig);
	rig_store(rig);
}

static const struct mvcc_key_range key_b = { SLICE_LIT("b"), SLICE_LIT("b\0") };
static const struct mvcc_key_range everything = { SLICE_LIT("\0"), SLICE_LIT("\0") };

static void equals_etcd(bool bdb)
{
	const struct mvcc_args args = { 0 };
	struct mvcc_hash hash;
	struct rig rig;

	rig_open(&rig, bdb, &args);
	expect_hash(&rig, 0, 1084519789);
	put_alone(&rig, "a", "1");
	put_alone(&rig, "b", "2");
	put_alone(&rig, "a", "3");
	expect_hash(&rig, 0, 2069675932);
	delete(&rig, key_b);
	put_alone(&rig, "c", "xyz");
	expect_hash(&rig, 0, 1160095598);
	expect_hash(&rig, 3, 1827592406);
	mvcc_begin(rig.store);
	put(&rig, "d", "1");
	put(&rig, "e", "2");
	delete(&rig, (struct mvcc_key_range){ .key = SLICE_LIT("a") });
	mvcc_end(rig.store);
	put_alone(&rig, "b", "again");
	expect_hash(&rig, 0, 4294171843);
	expect_hash(&rig, 5, 1125682900);
	compact(&rig, 5);
	expect_hash(&rig, 0, 4185907638);
	work(&rig);
	expect_hash(&rig, 0, 4185907638);
	expect_hash(&rig, 6, 2611615668);
	assert_int_equal(mvcc_hash_begin(rig.store, 4, &hash), MVCC_COMPACTED);
	assert_int_equal(mvcc_hash_begin(rig.store, 9, &hash), MVCC_FUTURE);
	compact(&rig, 7);
	delete(&rig, everything);
	work(&rig);
	expect_hash(&rig, 0, 4294428783);
	expect_hash(&rig, 9, 4294428783);
	compact(&rig, 9);
	work(&rig);
	expect_hash(&rig, 0, 1084519789);
	put_alone(&rig, "z", "1");
	expect_hash(&rig, 0, 3221892700);
	rig_restart(&rig);
	expect_hash(&rig, 10, 3221892700);
	rig_close(&rig);
}

static void equals_etcd_in_memory(void **state)
{
	equals_etcd(false);
}

static void equals_etcd_on_berkeley_db(void **state)
{
	equals_etcd(true);
}

/* The hash that etcd keeps of a compaction, whose removals may not have begun, nor those
 * of the compaction before: all of them only wait for @late. */
static void compact_hashed(struct rig *rig, int64_t revision, uint32_t want, bool late)
{
	int64_t previous = mvcc_compact_revision(rig->store);
	struct mvcc_hash hash;

	compact(rig, revision);
	mvcc_hash_begin_compaction(rig->store, previous, &hash);
	assert_int_equal(hash.revision, revision);
	assert_int_equal(hash.compact_revision, previous);
	expect(rig, &hash, 1, want);
	if (!late)
		work(rig);
}

static void compactions_equal_etcd(void **state)
{
	const struct mvcc_args args = { 0 };
	struct rig rig;

	for (int late = 0; late < 2; late++) {
		rig_open(&rig, true, &args);
		put_alone(&rig, "a", "1");
		put_alone(&rig, "b", "2");
		put_alone(&rig, "a", "3");
		delete(&rig, key_b);
		put_alone(&rig, "c", "xyz");
		mvcc_begin(rig.store);
		put(&rig, "d", "1");
		put(&rig, "e", "2");
		delete(&rig, (struct mvcc_key_range){ .key = SLICE_LIT("a") });
		mvcc_end(rig.store);
		put_alone(&rig, "b", "again");
		compact_hashed(&rig, 5, 1125682900, late);
		compact_hashed(&rig, 7, 1888004463, late);
		expect_hash(&rig, 0, 1209239405);
		delete(&rig, everything);
		expect_hash(&rig, 0, 4294428783);
		compact_hashed(&rig, 9, 361515616, late);
		expect_hash(&rig, 0, 1084519789);
		put_alone(&rig, "z", "1");
		compact_hashed(&rig, 10, 3221892700, late);
		expect_hash(&rig, 10, 3221892700);
		expect_hash(&rig, -3, 1084519789);
		rig_close(&rig);
	}
}

struct seen {
	int n;
	int64_t last;
};

static int see(void *arg, const struct mvcc_stored *stored)
{
	struct seen *seen = arg;
	struct mvcc_kv kv;

	assert_int_equal(mvcc_kv_decode(stored->kv, &kv), 0);
	assert_int_equal(kv.mod_revision, stored->tombstone ? 0 : stored->rev.main);
	assert_true(stored->rev.main >= seen->last);
	seen->last = stored->rev.main;
	return ++seen->n == 3 ? 42 : 0;
}

/* Every revision can be read from the backend, as for a snapshot. */
static void gives_every_revision(void **state)
{
	const struct mvcc_args args = { 0 };
	struct seen seen;
	struct rig rig;

	for (int bdb = 0; bdb < 2; bdb++) {
		rig_open(&rig, bdb, &args);
		put_alone(&rig, "a", "1");
		delete(&rig, everything);
		rig_store(&rig);
		seen = (struct seen){ 0 };
		assert_int_equal(mvcc_backend_each(rig.backend, see, &seen), 0);
		assert_int_equal(seen.n, 2);
		put_alone(&rig, "a", "1");
		put_alone(&rig, "a", "2");
		rig_store(&rig);
		seen = (struct seen){ 0 };
		assert_int_equal(mvcc_backend_each(rig.backend, see, &seen), 42);
		rig_close(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equals_etcd_in_memory),
		cmocka_unit_test(equals_etcd_on_berkeley_db),
		cmocka_unit_test(compactions_equal_etcd),
		cmocka_unit_test(gives_every_revision),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
