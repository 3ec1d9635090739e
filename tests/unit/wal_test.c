/* SPDX-License-Identifier: Apache-2.0 */
/* kvd/wal: what was appended comes back, from where it is asked for. */
#include "tests/unit/removed_files.h"
#include "tests/unit/wal_log.h"

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

/* The room of a segment that was removed comes back with the syncs after that. */
static void test_removed_segment(void **state)
{
	int64_t before = removed_bytes(), last, now;
	struct wal *wal = create(1 << 20);
	int cuts = 0;

	for (uint64_t i = 1; i <= 12; i++)
		append(wal, 1, i, 1, 100000);
	assert_int_equal(wal_release(wal, 11), 0);
	last = removed_bytes() - before;
	assert_true(last > 1 << 20);
	for (uint64_t i = 13; last; i++, cuts++) {
		append(wal, 1, i, 1, 10);
		assert_int_equal(wal_sync(wal), 0);
		now = removed_bytes() - before;
		assert_true(now < last && last - now <= 256 << 10);
		last = now;
	}
	assert_true(cuts > 3);
	wal_close(wal);
}

/* A copy of links, as cp -al makes them, stays whole. */
static void test_removed_segment_with_another_name(void **state)
{
	struct wal *wal = create(1 << 20);
	int64_t bytes;

	for (uint64_t i = 1; i <= 12; i++)
		append(wal, 1, i, 1, 100000);
	assert_true(links_make(dir));
	assert_int_equal(wal_release(wal, 11), 0);
	for (uint64_t i = 13; i < 30; i++) {
		append(wal, 1, i, 1, 10);
		assert_int_equal(wal_sync(wal), 0);
	}
	assert_int_equal(links_remove(dir, &bytes), 1);
	assert_true(bytes > 1 << 20);
	wal_close(wal);
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
	assert_int_equal(st.st_size, 16 << 20);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_round_trip),
		TEST(test_entry_types_and_limits),
		TEST(test_segments),
		TEST(test_removed_segment),
		TEST(test_removed_segment_with_another_name),
		TEST(test_replace),
		TEST(test_snapshot_record),
		TEST(test_foreign_files),
		TEST(test_create),
		TEST(test_one_process_at_a_time),
		TEST(test_write_failure_is_final),
		TEST(test_no_sync),
	};

	return cmocka_run_group_tests_name("wal", tests, NULL, NULL);
}
