/* SPDX-License-Identifier: Apache-2.0 */
/* kvd/wal: what was torn is cut, what is damaged is refused. */
#include "tests/unit/wal_log.h"

#include "include/htable.h"

/* The last record is cut off at every byte, by zeroes and by the end of the file. */
static void test_torn_tail(void **state)
{
	struct wal_contents c;
	struct wal *wal = create(SMALL_SEGMENT);
	struct bytes whole, torn;
	size_t at[64], n, last;

	append(wal, 1, 1, 3, 40);
	assert_int_equal(wal_sync(wal), 0);
	append(wal, 1, 4, 1, 700);
	wal_close(wal);
	whole = load(FIRST);
	n = frames(&whole, at, ARRAY_SIZE(at));
	last = at[n - 2];	/* the entry; a hard state follows */
	for (size_t cut = last; cut < at[n - 1]; cut++) {
		for (int truncated = 0; truncated < 2; truncated++) {
			torn.data = calloc(1, whole.len);
			torn.len = truncated ? cut : whole.len;
			assert_non_null(torn.data);
			memcpy(torn.data, whole.data, cut);
			store(FIRST, torn.data, torn.len);
			free(torn.data);
			wal = open_log(0, &c);
			/* only in the padding may the record still be whole */
			if (c.n_entries == 4) {
				check_entry(&c.entries[3], 1, 4, 700);
				assert_false(truncated);
			} else {
				assert_int_equal(c.n_entries, 3);
				/* the copy: what stood there but for zeroes at its end */
				assert_true(c.torn_bytes <= cut - last);
				assert_int_equal(c.torn_bytes > 0, cut > last);
			}
			if (c.torn_bytes) {
				struct bytes copy = load(FIRST ".torn");

				assert_int_equal(copy.len, c.torn_bytes);
				assert_memory_equal(copy.data, whole.data + last, copy.len);
				free(copy.data);
			}
			/* and the log goes on from there */
			append(wal, 2, c.n_entries + 1, 1, 20);
			n = c.n_entries;
			wal_contents_release(&c);
			wal_close(wal);
			wal = open_log(0, &c);
			assert_int_equal(c.n_entries, n + 1);
			assert_int_equal(c.torn_bytes, 0);
			check_entry(&c.entries[n], 2, n + 1, 20);
			wal_contents_release(&c);
			wal_close(wal);
			n = frames(&whole, at, ARRAY_SIZE(at));
		}
	}
	free(whole.data);
}

/* A sector that never reached the disk, with later ones that did: torn as long as
 * nothing says that it had been synced. */
static void test_lost_sector(void **state)
{
	for (int synced = 0; synced < 2; synced++) {
		struct wal_contents c;
		struct wal *wal = create(SMALL_SEGMENT);
		struct bytes b;

		append(wal, 1, 1, 2, 40);
		assert_int_equal(wal_sync(wal), 0);
		append(wal, 1, 3, 1, 2000);
		if (synced)
			assert_int_equal(wal_sync(wal), 0);
		append(wal, 1, 4, 1, 40);
		wal_close(wal);
		b = load(FIRST);
		memset(b.data + 1024, 0, 512);
		store(FIRST, b.data, b.len);
		free(b.data);
		if (synced) {
			assert_int_equal(try_open(0, &c, &wal), -EBADMSG);
		} else {
			wal = open_log(0, &c);
			assert_int_equal(c.n_entries, 2);
			assert_true(c.torn_bytes > 2000);
			wal_contents_release(&c);
			wal_close(wal);
		}
		assert_int_equal(teardown(state), 0);
		assert_int_equal(setup(state), 0);
	}
}

/* Whatever bit is wrong, before the last mark it is damage; after it, the log may be
 * cut there, but what it gives is right. */
static void test_flipped_bits(void **state)
{
	struct wal_contents c;
	struct wal *wal = create(SMALL_SEGMENT);
	struct bytes b;
	size_t at[64], n, tail;

	for (uint64_t i = 1; i <= 4; i++) {
		append(wal, i, 2 * i - 1, 2, i % 2 ? 30 : 0);
		assert_int_equal(wal_sync(wal), 0);
	}
	append(wal, 5, 9, 1, 9);
	wal_close(wal);
	b = load(FIRST);
	n = frames(&b, at, ARRAY_SIZE(at));
	tail = at[n - 3];	/* the last mark; an entry and a hard state follow */
	for (size_t bit = 0; bit < at[n] * 8; bit++) {
		int r;

		b.data[bit / 8] ^= 1 << bit % 8;
		store(FIRST, b.data, b.len);
		b.data[bit / 8] ^= 1 << bit % 8;
		r = try_open(0, &c, &wal);
		if (r == 0) {
			if (bit / 8 < tail)
				fail_msg("bit %zu of byte %zu is not missed", bit % 8, bit / 8);
			assert_true(c.n_entries >= 8 && c.n_entries <= 9);
			for (uint64_t i = 1; i <= 8; i++)
				check_entry(&c.entries[i - 1], (i + 1) / 2, i,
					    (i + 1) / 2 % 2 ? 30 : 0);
			wal_contents_release(&c);
			wal_close(wal);
			continue;
		}
		if (r != -EBADMSG)
			fail_msg("bit %zu of byte %zu: %d, %s", bit % 8, bit / 8, r, why);
		assert_non_null(strstr(why, FIRST " is damaged at byte"));
	}
	free(b.data);
}

/* A length field can say anything. */
static void test_lengths(void **state)
{
	static const uint64_t lengths[] = {
		1, 7, 4096, 4097, 1 << 20, UINT64_MAX, UINT64_MAX >> 8, INT64_MAX, INT64_MIN,
		0x8000000000001000, 0x87ffffffffffffff, 0x00fffffffffffff8,
	};
	struct wal_contents c;
	struct wal *wal = create(SMALL_SEGMENT);
	struct bytes b;
	size_t at[64], n;

	append(wal, 1, 1, 2, 40);
	assert_int_equal(wal_sync(wal), 0);
	append(wal, 1, 3, 2, 40);
	wal_close(wal);
	b = load(FIRST);
	n = frames(&b, at, ARRAY_SIZE(at));
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		for (size_t frame = 0; frame < n; frame++) {
			uint64_t old = get_le64(b.data + at[frame]);
			int r;

			put_le64(b.data + at[frame], lengths[i]);
			store(FIRST, b.data, b.len);
			put_le64(b.data + at[frame], old);
			r = try_open(0, &c, &wal);
			/* the last four frames are a mark and what was not synced */
			if (frame < n - 4 || r < 0) {
				assert_int_equal(r, -EBADMSG);
				continue;
			}
			assert_true(c.n_entries >= 2 && c.n_entries <= 4);
			wal_contents_release(&c);
			wal_close(wal);
		}
	}
	free(b.data);
}

/* No bytes make the reader fall over. */
static void test_random_bytes(void **state)
{
	uint64_t seed = 1;
	struct wal_contents c;
	struct wal *wal = create(SMALL_SEGMENT);
	struct bytes b;

	append(wal, 1, 1, 4, 100);
	wal_close(wal);
	b = load(FIRST);
	for (int round = 0; round < 500; round++) {
		uint8_t *copy = malloc(b.len);

		assert_non_null(copy);
		memcpy(copy, b.data, b.len);
		for (int i = 0; i < 1 + round % 9; i++) {
			seed = seed * 6364136223846793005 + 1442695040888963407;
			copy[(seed >> 33) % 800] = (uint8_t)(seed >> 24);
		}
		store(FIRST, copy, round % 2 ? b.len : (seed >> 40) % 900);
		free(copy);
		if (try_open(0, &c, &wal) < 0)
			continue;
		wal_contents_release(&c);
		wal_close(wal);
	}
	free(b.data);
}

static void test_missing_segment(void **state)
{
	struct wal_contents c;
	struct wal *wal = create(SMALL_SEGMENT);
	char second[64], path[256];

	for (uint64_t i = 1; i <= 100; i++)
		append(wal, 1, i, 1, 100);
	wal_close(wal);
	find_second(second);
	snprintf(path, sizeof(path), "%s/%s", dir, second);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(try_open(0, &c, &wal), -EBADMSG);
	assert_non_null(strstr(why, "the segment before it is missing"));
}

/* A segment of another log, with the right name and all its crcs right. */
static void test_foreign_segment(void **state)
{
	struct wal_contents c;
	struct bytes other = { 0 };
	struct wal *wal;
	char second[64];

	for (uint64_t term = 1; term <= 2; term++) {
		wal = create(SMALL_SEGMENT);
		for (uint64_t i = 1; i <= 60; i++)
			append(wal, term, i, 1, 60);
		wal_close(wal);
		find_second(second);
		if (term == 2)
			break;
		other = load(second);
		assert_int_equal(teardown(state), 0);
		assert_int_equal(setup(state), 0);
	}
	store(second, other.data, other.len);
	free(other.data);
	assert_int_equal(try_open(0, &c, &wal), -EBADMSG);
	assert_non_null(strstr(why, "records are missing before it"));
}

/* Records that are whole, in an order that raft never writes. */
static void test_impossible_logs(void **state)
{
	static const struct {
		uint64_t entry_term, index, term, commit;
	} cases[] = {
		{ 4, 11, 3, 10 },	/* the term goes back */
		{ 4, 11, 4, 9 },	/* the commit goes back */
		{ 5, 11, 4, 10 },	/* an entry of a term that has not begun */
		{ 3, 11, 4, 10 },	/* entries whose terms go back */
		{ 4, 10, 4, 10 },	/* a committed entry is replaced */
		{ 4, 12, 4, 10 },	/* one is missing */
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct raft_hard_state hs = {
			.term = cases[i].term, .commit = cases[i].commit,
		};
		const struct raft_entry e = {
			.term = cases[i].entry_term, .index = cases[i].index,
		};
		struct wal_contents c;
		struct wal *wal = create(SMALL_SEGMENT);

		append_at(wal, 4, 1, 10, 1, 10);
		assert_int_equal(wal_append(wal, &e, 1, &hs), 0);
		wal_close(wal);
		if (try_open(0, &c, &wal) != -EBADMSG)
			fail_msg("case %zu was taken", i);
		assert_int_equal(teardown(state), 0);
		assert_int_equal(setup(state), 0);
	}
}

/* --- a log of many windows ------------------------------------------------ */

#define LARGE_SEGMENT (32 << 20)

/* Sizes of entries, so that frames end anywhere in the reader's window, which some of
 * them do not fit into. */
static size_t large_len(uint64_t index)
{
	return index % 23 ? hash_u64(index) % 40000 : 700000 + 100000 * (index % 7);
}

static void check_large(const struct wal_contents *c, size_t n)
{
	assert_int_equal(c->n_entries, n);
	for (uint64_t i = 1; i <= n; i++)
		check_entry(&c->entries[i - 1], 1, i, large_len(i));
}

/* What follows entry @n is torn, or damaged where it was synced. */
static void tear_large(const struct bytes *whole, size_t cut, size_t n, bool synced)
{
	struct bytes torn = { calloc(1, whole->len), whole->len };
	struct wal_contents c;
	struct wal *wal;
	int r;

	assert_non_null(torn.data);
	memcpy(torn.data, whole->data, cut);
	if (synced)	/* only a sector is gone, marks follow it */
		memcpy(torn.data + cut + 4096, whole->data + cut + 4096, whole->len - cut - 4096);
	store(FIRST, torn.data, torn.len);
	free(torn.data);
	r = try_open(0, &c, &wal);
	assert_int_equal(r, synced ? -EBADMSG : 0);
	if (r)
		return;
	check_large(&c, n);
	wal_contents_release(&c);
	wal_close(wal);
}

static void test_larger_than_a_window(void **state)
{
	struct wal_contents c;
	struct wal *wal = create(LARGE_SEGMENT);
	struct bytes whole;
	size_t at[1024], n;

	for (uint64_t i = 1; i <= 150; i++) {
		append(wal, 1, i, 1, large_len(i));
		if (i % 10 == 0)
			assert_int_equal(wal_sync(wal), 0);
	}
	append(wal, 1, 151, 1, large_len(151));
	wal_close(wal);
	whole = load(FIRST);
	n = frames(&whole, at, ARRAY_SIZE(at));
	wal = open_log(0, &c);
	assert_int_equal(c.torn_bytes, 0);
	check_large(&c, 151);
	wal_contents_release(&c);
	wal_close(wal);
	/* in the last entry, which only a hard state follows */
	tear_large(&whole, at[n - 2] + large_len(151) / 2, 150, false);
	tear_large(&whole, at[n - 2] + 8, 150, false);
	tear_large(&whole, at[n / 2] + 4096, 0, true);
	free(whole.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_torn_tail),
		TEST(test_lost_sector),
		TEST(test_flipped_bits),
		TEST(test_lengths),
		TEST(test_random_bytes),
		TEST(test_missing_segment),
		TEST(test_foreign_segment),
		TEST(test_impossible_logs),
		TEST(test_larger_than_a_window),
	};

	return cmocka_run_group_tests_name("wal damage", tests, NULL, NULL);
}
