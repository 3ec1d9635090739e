/* SPDX-License-Identifier: Apache-2.0 */
/* kvd/wal: what was appended comes back, what was torn is cut, what is damaged is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "include/endian_bytes.h"
#include "kvd/wal.h"

#define SMALL_SEGMENT 4096
#define FRAME 8

static char top[64];		/* the test's directory */
static char dir[80];		/* the log's, in it */
static char why[512];

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int setup(void **state)
{
	snprintf(top, sizeof(top), "/tmp/kvd-wal-test-XXXXXX");
	if (!mkdtemp(top))
		return -1;
	snprintf(dir, sizeof(dir), "%s/wal", top);
	return 0;
}

static int teardown(void **state)
{
	return nftw(top, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static struct wal_args args_of(size_t segment_bytes)
{
	return (struct wal_args){ .dir = dir, .segment_bytes = segment_bytes };
}

static struct wal *create(size_t segment_bytes)
{
	struct wal_args args = args_of(segment_bytes);
	struct wal *wal = NULL;

	if (wal_create(&args, SLICE_LIT("metadata"), &wal, why, sizeof(why)) != 0)
		fail_msg("%s", why);
	return wal;
}

static int try_open(uint64_t start, struct wal_contents *contents, struct wal **wal)
{
	struct wal_args args = args_of(SMALL_SEGMENT);

	why[0] = '\0';
	return wal_open(&args, start, contents, wal, why, sizeof(why));
}

static struct wal *open_log(uint64_t start, struct wal_contents *contents)
{
	struct wal *wal = NULL;

	if (try_open(start, contents, &wal) != 0)
		fail_msg("%s", why);
	return wal;
}

/* The payload of an entry follows from its term and index. */
static struct blob *payload_of(uint64_t term, uint64_t index, size_t len)
{
	struct blob *blob = blob_new(len);

	assert_non_null(blob);
	for (size_t i = 0; i < len; i++)
		blob->data[i] = (uint8_t)(term * 31 + index * 7 + i) | 1;
	return blob;
}

static void append_at(struct wal *wal, uint64_t term, uint64_t first, size_t n, size_t len,
		      uint64_t commit)
{
	const struct raft_hard_state hs = { .term = term, .vote = 3, .commit = commit };
	struct raft_entry *entries = calloc(n, sizeof(*entries));

	assert_non_null(entries);
	for (size_t i = 0; i < n; i++)
		entries[i] = (struct raft_entry){
			.term = term, .index = first + i,
			.payload = len ? payload_of(term, first + i, len) : NULL,
		};
	assert_int_equal(wal_append(wal, entries, n, &hs), 0);
	raft_entries_free(entries, n);
}

/* The same, when all before it is committed. */
static void append(struct wal *wal, uint64_t term, uint64_t first, size_t n, size_t len)
{
	append_at(wal, term, first, n, len, first - 1);
}

static void check_entry(const struct raft_entry *e, uint64_t term, uint64_t index, size_t len)
{
	struct blob *want;

	assert_int_equal(e->term, term);
	assert_int_equal(e->index, index);
	assert_int_equal(e->type, RAFT_ENTRY_NORMAL);
	if (!len) {
		assert_null(e->payload);
		return;
	}
	want = payload_of(term, index, len);
	assert_true(slice_eq(blob_slice(e->payload), blob_slice(want)));
	blob_put(want);
}

/* --- files ---------------------------------------------------------------------- */

struct bytes {
	uint8_t *data;
	size_t len;
};

static struct bytes load(const char *name)
{
	struct bytes b;
	char path[256];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	b.len = (size_t)st.st_size;
	b.data = malloc(b.len + 1);
	assert_non_null(b.data);
	assert_int_equal(read(fd, b.data, b.len), b.len);
	close(fd);
	return b;
}

static void store(const char *name, const uint8_t *data, size_t len)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	assert_int_equal(close(fd), 0);
}

#define FIRST "0000000000000000-0000000000000000.wal"

/* Where each frame begins, with the end of the last one after them. */
static size_t frames(const struct bytes *b, size_t *at, size_t max)
{
	size_t n = 0, pos = 0;

	while (pos + FRAME <= b->len && get_le64(b->data + pos)) {
		assert_true(n < max - 1);
		at[n++] = pos;
		pos += FRAME + ((get_le64(b->data + pos) & 0xffffffff) + 7) / 8 * 8;
	}
	at[n] = pos;
	return n;
}

static size_t count_files(const char *suffix)
{
	struct dirent *e;
	size_t n = 0;
	DIR *d = opendir(dir);

	assert_non_null(d);
	while ((e = readdir(d))) {
		size_t len = strlen(e->d_name);

		if (len > strlen(suffix) && !strcmp(e->d_name + len - strlen(suffix), suffix))
			n++;
	}
	closedir(d);
	return n;
}

/* The name of the second segment. */
static void find_second(char name[64])
{
	struct dirent *e;
	DIR *d = opendir(dir);

	assert_non_null(d);
	name[0] = '\0';
	while ((e = readdir(d)))
		if (!strncmp(e->d_name, "0000000000000001-", 17) && strlen(e->d_name) < 64)
			memcpy(name, e->d_name, strlen(e->d_name) + 1);
	closedir(d);
	assert_true(name[0]);
}

/* --- tests ---------------------------------------------------------------------- */

static void test_round_trip(void **state)
{
	static const size_t lengths[] = { 0, 1, 7, 8, 500, 512, 4096, 1572864, 0, 3 };
	const struct raft_hard_state hs = { .term = 9, .vote = UINT64_MAX, .commit = 8 };
	struct wal_contents c;
	struct wal *wal = create(0);

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++)
		append(wal, i + 1, i + 1, 1, lengths[i]);
	assert_int_equal(wal_append(wal, NULL, 0, NULL), 0);
	assert_int_equal(wal_append(wal, NULL, 0, &(struct raft_hard_state){
			 .term = 10, .vote = UINT64_MAX, .commit = 10 }), 0);
	assert_int_equal(wal_sync(wal), 0);
	wal_close(wal);
	for (uint64_t start = 0; start <= ARRAY_SIZE(lengths) + 1; start++) {
		wal = open_log(start, &c);
		assert_true(slice_eq(blob_slice(c.metadata), SLICE_LIT("metadata")));
		assert_int_equal(c.hard_state.term, 10);
		assert_true(c.hard_state.vote == hs.vote);
		assert_int_equal(c.hard_state.commit, 10);
		assert_int_equal(c.torn_bytes, 0);
		assert_int_equal(c.n_entries, start < 10 ? 10 - start : 0);
		for (size_t i = 0; i < c.n_entries; i++)
			check_entry(&c.entries[i], start + i + 1, start + i + 1,
				    lengths[start + i]);
		wal_contents_release(&c);
		wal_close(wal);
	}
}

static void test_entry_types_and_limits(void **state)
{
	struct raft_entry e[] = {
		{ .type = RAFT_ENTRY_CONF_CHANGE, .term = 1, .index = 1 },
		{ .type = RAFT_ENTRY_CONF_CHANGE_V2, .term = UINT64_MAX, .index = 2 },
	};
	struct wal *wal = create(0);
	struct wal_contents c;

	assert_int_equal(wal_append(wal, e, 2, NULL), 0);
	wal_close(wal);
	wal = open_log(0, &c);
	assert_int_equal(c.n_entries, 2);
	assert_int_equal(c.entries[0].type, RAFT_ENTRY_CONF_CHANGE);
	assert_int_equal(c.entries[1].type, RAFT_ENTRY_CONF_CHANGE_V2);
	assert_true(c.entries[1].term == UINT64_MAX);
	/* the hard state of that term was not written: the term counts all the same */
	assert_true(c.hard_state.term == UINT64_MAX);
	assert_int_equal(c.hard_state.vote, 0);
	wal_contents_release(&c);
	wal_close(wal);
}

static void test_segments(void **state)
{
	const uint64_t n = 300;
	struct wal_contents c;
	struct wal *wal = create(SMALL_SEGMENT);
	uint64_t bytes;

	for (uint64_t i = 1; i <= n; i++) {
		append(wal, 1 + i / 100, i, 1, 100);
		assert_int_equal(wal_sync(wal), 0);
	}
	assert_true(count_files(".wal") > 8);
	assert_int_equal(count_files(".tmp"), 0);
	wal_close(wal);
	for (uint64_t start = 0; start <= n; start += 23) {
		wal = open_log(start, &c);
		assert_int_equal(c.n_entries, n - start);
		for (size_t i = 0; i < c.n_entries; i++)
			check_entry(&c.entries[i], 1 + (start + i + 1) / 100, start + i + 1, 100);
		assert_int_equal(c.hard_state.commit, n - 1);
		wal_contents_release(&c);
		wal_close(wal);
	}
	/* old segments go, and what is after the index stays */
	for (uint64_t index = 10; index <= n; index += 29) {
		size_t files = count_files(".wal");

		wal = open_log(index, &c);
		wal_contents_release(&c);
		bytes = wal_bytes(wal);
		assert_int_equal(wal_release(wal, index), 0);
		assert_int_equal(wal_bytes(wal) < bytes, count_files(".wal") < files);
		wal_close(wal);
		wal = open_log(index, &c);
		assert_int_equal(c.n_entries, n - index);
		wal_contents_release(&c);
		wal_close(wal);
	}
	assert_true(count_files(".wal") <= 2);
	assert_int_equal(try_open(9, &c, &wal), -ENODATA);
	assert_non_null(strstr(why, "the log begins at entry"));
}

/* The tail of a log is replaced, also where the old one is in an earlier segment. */
static void test_replace(void **state)
{
	const struct raft_entry older = { .term = 3, .index = 20 };
	const struct raft_hard_state hs = { .term = 5, .vote = 1, .commit = 10 };
	struct wal_contents c;
	struct wal *wal = create(SMALL_SEGMENT);

	append_at(wal, 1, 1, 100, 100, 10);
	append_at(wal, 4, 90, 5, 100, 10);
	/* a leader of a later term may bring entries of an earlier one */
	assert_int_equal(wal_append(wal, &older, 1, &hs), 0);
	append_at(wal, 5, 20, 100, 100, 19);
	append_at(wal, 5, 60, 1, 50, 59);
	wal_close(wal);
	wal = open_log(0, &c);
	assert_int_equal(c.n_entries, 60);
	for (uint64_t i = 1; i <= 60; i++)
		check_entry(&c.entries[i - 1], i < 20 ? 1 : 5, i, i == 60 ? 50 : 100);
	wal_contents_release(&c);
	wal_close(wal);
}

static void test_snapshot_record(void **state)
{
	uint64_t voters[] = { 1, 2, UINT64_MAX }, learners[] = { 4 };
	const struct raft_snapshot_meta meta = {
		.index = 1000, .term = 3,
		.conf = { .voters = voters, .n_voters = 3, .learners = learners, .n_learners = 1 },
	};
	struct wal_contents c;
	struct wal *wal = create(SMALL_SEGMENT);

	append(wal, 1, 1, 10, 10);
	assert_int_equal(wal_snapshot(wal, &meta), 0);
	append(wal, 3, 1001, 5, 10);
	wal_close(wal);
	wal = open_log(1000, &c);
	assert_int_equal(c.n_entries, 5);
	check_entry(&c.entries[0], 3, 1001, 10);
	wal_contents_release(&c);
	wal_close(wal);
	assert_int_equal(try_open(5, &c, &wal), -ENODATA);
	assert_non_null(strstr(why, "no entries from 11 to 1000"));
}

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
	struct bytes other;
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

static void test_foreign_files(void **state)
{
	struct wal_contents c;
	struct wal *wal = create(SMALL_SEGMENT);
	char path[256], target[256];

	append(wal, 1, 1, 3, 10);
	wal_close(wal);
	store("README", (const uint8_t *)"x", 1);
	store("x.wal", (const uint8_t *)"x", 1);
	store("0.tmp", (const uint8_t *)"x", 1);
	store("0000000000000001-000000000000000G.wal", (const uint8_t *)"x", 1);
	store("0000000000000001-0000000000000004.wal.tmp", (const uint8_t *)"x", 1);
	snprintf(path, sizeof(path), "%s/directory.wal", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	wal = open_log(0, &c);
	assert_int_equal(c.n_entries, 3);
	wal_contents_release(&c);
	wal_close(wal);
	assert_int_equal(count_files("README"), 0);	/* is longer than its suffix: none */
	assert_int_equal(count_files("EADME"), 1);
	assert_int_equal(count_files(".wal.tmp"), 0);
	/* what has a segment's name must be a file of its own */
	snprintf(path, sizeof(path), "%s/0000000000000001-0000000000000004.wal", dir);
	snprintf(target, sizeof(target), "%s/README", dir);
	assert_int_equal(symlink(target, path), 0);
	assert_int_equal(try_open(0, &c, &wal), -ELOOP);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(try_open(0, &c, &wal), -EINVAL);
}

static void test_create(void **state)
{
	struct wal_args args = args_of(0);
	char tmp[128], path[256];
	struct wal_contents c;
	struct wal *wal;
	struct stat st;

	assert_int_equal(try_open(0, &c, &wal), -ENOENT);
	/* what an earlier attempt left is no obstacle */
	snprintf(tmp, sizeof(tmp), "%s.tmp", dir);
	assert_int_equal(mkdir(tmp, 0700), 0);
	snprintf(path, sizeof(path), "%s/" FIRST, tmp);
	assert_int_equal(close(open(path, O_CREAT | O_WRONLY, 0600)), 0);
	wal = create(0);
	assert_int_equal(stat(tmp, &st), -1);
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	snprintf(path, sizeof(path), "%s/" FIRST, dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(st.st_size, 64 << 20);
	assert_int_equal(wal_create(&args, SLICE_LIT("x"), &wal, why, sizeof(why)), -EEXIST);
	wal_close(wal);
	snprintf(dir, sizeof(dir), "%s/no/wal", top);
	assert_int_equal(wal_create(&args, SLICE_LIT("x"), &wal, why, sizeof(why)), -ENOENT);
	assert_non_null(strstr(why, "cannot make the directory"));
	wal_close(NULL);
}

static void test_one_process_at_a_time(void **state)
{
	struct flock lock = { .l_type = F_WRLCK };
	struct wal_contents c;
	struct wal *wal = create(SMALL_SEGMENT), *other;
	char path[256];
	int fd, status;
	pid_t pid;

	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(try_open(0, &c, &other) == -EBUSY ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(try_open(0, &c, &other), -EBUSY);
	assert_non_null(strstr(why, "in use by another process"));
	wal_close(wal);
	/* etcd does not lock the directory, but the segments */
	snprintf(path, sizeof(path), "%s/" FIRST, dir);
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	assert_int_equal(try_open(0, &c, &other), -EBUSY);
	close(fd);
	/* and kvd locks the directory */
	fd = open(dir, O_RDONLY | O_DIRECTORY);
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(try_open(0, &c, &other), -EBUSY);
	close(fd);
	wal = open_log(0, &c);
	wal_contents_release(&c);
	wal_close(wal);
}

/* The first failure is the last word. */
static void test_write_failure_is_final(void **state)
{
	struct raft_entry e = { .term = 1, .index = 1, .payload = payload_of(1, 1, 1 << 20) };
	struct rlimit old, limit;
	struct wal *wal = create(SMALL_SEGMENT);

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = SMALL_SEGMENT + 100;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(wal_append(wal, &e, 1, NULL), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_DFL);
	assert_int_equal(wal_append(wal, &e, 1, NULL), -EFBIG);
	assert_int_equal(wal_sync(wal), -EFBIG);
	assert_int_equal(wal_snapshot(wal, &(struct raft_snapshot_meta){ 0 }), -EFBIG);
	assert_int_equal(wal_release(wal, 1), -EFBIG);
	wal_close(wal);
	blob_put(e.payload);
}

static void test_no_sync(void **state)
{
	struct wal_args args = { .dir = dir, .segment_bytes = SMALL_SEGMENT, .no_sync = true };
	struct wal_contents c;
	struct wal *wal;

	assert_int_equal(wal_create(&args, SLICE_LIT("m"), &wal, why, sizeof(why)), 0);
	for (uint64_t i = 1; i <= 100; i++) {
		append(wal, 1, i, 1, 100);
		assert_int_equal(wal_sync(wal), 0);
	}
	wal_close(wal);
	wal = open_log(0, &c);
	assert_int_equal(c.n_entries, 100);
	wal_contents_release(&c);
	wal_close(wal);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_round_trip),
		TEST(test_entry_types_and_limits),
		TEST(test_segments),
		TEST(test_replace),
		TEST(test_snapshot_record),
		TEST(test_torn_tail),
		TEST(test_lost_sector),
		TEST(test_flipped_bits),
		TEST(test_lengths),
		TEST(test_random_bytes),
		TEST(test_missing_segment),
		TEST(test_foreign_segment),
		TEST(test_impossible_logs),
		TEST(test_foreign_files),
		TEST(test_create),
		TEST(test_one_process_at_a_time),
		TEST(test_write_failure_is_final),
		TEST(test_no_sync),
	};

	return cmocka_run_group_tests_name("wal", tests, NULL, NULL);
}
