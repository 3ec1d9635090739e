// SPDX-License-Identifier: Apache-2.0

/* The first start of a member, also after one that was cut short. */

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "include/endian_bytes.h"
#include "kvd/disk.h"

static char url[] = "http://127.0.0.1:2380";
static const char *peers[] = { url };

static char *path_in(const char *dir, const char *name)
{
	char *out;

	assert_true(asprintf(&out, "%s/%s", dir, name) > 0);
	return out;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

/* What is in the log of a member that starts in @dir for the first time. */
static void first_start(char *dir)
{
	struct raft_entry entry = { .term = 1, .index = 1, .type = RAFT_ENTRY_CONF_CHANGE };
	struct disk_first first = { { 7, 9 }, &entry, 1 };
	struct kvd_config config = { .data_dir = dir, .wal_dir = (char *)"" };
	struct wal_contents contents = { 0 };
	struct disk_identity identity;
	struct disk disk = { 0 };
	char why[512] = "";

	entry.payload = cluster_encode_add(1, 7, peers, 1, "one");
	assert_int_equal(disk_probe(&config, why, sizeof(why)), 0);
	if (disk_open(&disk, &config, &first, &contents, &identity, why, sizeof(why)))
		fail_msg("%s", why);
	assert_int_equal(identity.member_id, 7);
	assert_int_equal(contents.n_entries, 1);
	assert_int_equal(contents.hard_state.commit, 1);
	wal_contents_release(&contents);
	disk_close(&disk);
	assert_true(disk_probe(&config, why, sizeof(why)) > 0);
	blob_put(entry.payload);
}

static void test_first_start(void **state)
{
	first_start(*state);
}

static void test_directories_above_are_made(void **state)
{
	char *deep = path_in(*state, "not/there//yet/");
	struct stat st;

	first_start(deep);
	assert_int_equal(stat(deep, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	free(deep);
}

/* Killed after the log was made and before its first entries were in it. */
static void test_first_start_cut_short(void **state)
{
	char *member = path_in(*state, "member"), *log = path_in(*state, "member/wal.new");
	struct wal_args args = { .dir = log };
	struct wal *wal;
	char why[512];

	assert_int_equal(mkdir(member, 0700), 0);
	assert_int_equal(wal_create(&args, SLICE_LIT("\x08\x07\x10\x09"), &wal, why, sizeof(why)),
			 0);
	wal_close(wal);
	first_start(*state);
	assert_int_not_equal(access(log, F_OK), 0);
	free(member);
	free(log);
}

/* The store says that it holds everything up to entry @index of a cluster's log. */
static void store_applied(char *dir, uint64_t cluster_id, uint64_t index)
{
	struct mvcc_bdb_args args = { .dir = path_in(dir, "member/kv") };
	struct mvcc_backend *backend;
	struct mvcc_batch *batch;
	struct mvcc *store;
	uint8_t value[24];
	char why[512];

	put_be64(value, index);
	put_be64(value + 8, 1);
	put_be64(value + 16, cluster_id);
	assert_int_equal(mvcc_bdb_open(&args, &backend, why, sizeof(why)), 0);
	assert_int_equal(mvcc_open(backend, &(struct mvcc_args){ 0 }, &store, why, sizeof(why)),
			 0);
	assert_int_equal(mvcc_record_put(store, BUCKET_META, SLICE_LIT("applied"),
					 slice_of(value, sizeof(value))), 0);
	batch = mvcc_batch_take(store);
	assert_int_equal(mvcc_backend_write(backend, batch), 0);
	mvcc_batch_done(store, batch);
	assert_int_equal(mvcc_backend_sync(backend), 0);
	mvcc_free(store);
	mvcc_backend_close(backend);
	free((char *)args.dir);
}

/* What is put back from a copy may be an older log than the store's, or another's. */
static void test_store_of_another_log(void **state)
{
	const struct { uint64_t cluster_id, index; int err; const char *why; } cases[] = {
		{ 9, 1, 0, "" },
		{ 9, 2, -ENODATA, "ends at entry 1, though the store holds 2" },
		{ 8, 1, -EINVAL, "the store is of cluster 8, and the log " },
		{ 8, 2, -EINVAL, "of cluster 9: put the store back that goes with the log" },
	};
	struct kvd_config config = { .data_dir = *state, .wal_dir = (char *)"" };

	first_start(*state);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct wal_contents contents = { 0 };
		struct disk_identity identity;
		struct disk disk = { 0 };
		char why[512] = "";

		store_applied(*state, cases[i].cluster_id, cases[i].index);
		assert_int_equal(disk_open(&disk, &config, NULL, &contents, &identity, why,
					   sizeof(why)), cases[i].err);
		assert_non_null(strstr(why, cases[i].why));
		wal_contents_release(&contents);
		disk_close(&disk);
	}
}

static int setup(void **state)
{
	char *dir = strdup("/tmp/kvd-disk-test.XXXXXX");

	*state = dir;
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	int err = nftw(*state, remove_one, 8, FTW_DEPTH | FTW_PHYS);

	free(*state);
	return err;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_first_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_directories_above_are_made, setup, teardown),
		cmocka_unit_test_setup_teardown(test_first_start_cut_short, setup, teardown),
		cmocka_unit_test_setup_teardown(test_store_of_another_log, setup, teardown),
	};

	return cmocka_run_group_tests_name("disk", tests, NULL, NULL);
}
