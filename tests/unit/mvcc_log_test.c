// SPDX-License-Identifier: Apache-2.0
/* Berkeley DB's log: its files go while the store runs, and damage to them is not served. */
#include <sys/wait.h>

#include "tests/unit/mvcc_util.h"

#define BATCHES 12
#define SYNCED 6		/* the last batch that was synced */
#define PUTS 40

static void open_small(struct rig *rig, size_t log_bytes)
{
	const struct mvcc_bdb_args args = {
		.dir = rig->dir, .cache_bytes = 1 << 20, .log_bytes = log_bytes,
	};
	char why[256] = "";

	if (mvcc_bdb_open(&args, &rig->backend, why, sizeof(why)))
		fail_msg("%s", why);
	rig_open_store(rig);
}

/* One batch, which says in a small record which one it is. */
static void write_batch(struct rig *rig, int64_t number)
{
	uint8_t value[200];
	char key[16];

	memset(value, (int)number, sizeof(value));
	for (int i = 0; i < PUTS; i++) {
		struct mvcc_put put = { .value = { value, sizeof(value) } };

		snprintf(key, sizeof(key), "key%02d", i);
		put.key = slice_str(key);
		mvcc_begin(rig->store);
		assert_int_equal(mvcc_put(rig->store, &put), 0);
		mvcc_end(rig->store);
	}
	assert_int_equal(mvcc_record_put(rig->store, "meta", SLICE_LIT("applied"),
					 slice_of(&number, sizeof(number))), 0);
	rig_store(rig);
}

/* --- log files go --------------------------------------------------------- */

static void count_logs(const char *path, int *n, int *first)
{
	const struct dirent *e;
	DIR *dir = opendir(path);
	int number;

	assert_non_null(dir);
	*n = *first = 0;
	while ((e = readdir(dir))) {
		if (strncmp(e->d_name, "log.", 4))
			continue;
		number = (int)strtol(e->d_name + 4, NULL, 10);
		if (!*first || number < *first)
			*first = number;
		++*n;
	}
	closedir(dir);
}

static void log_files_go_while_it_runs(void **state)
{
	struct rig rig = { .bdb = true };
	int n, first, most = 0;

	dir_new(rig.dir, sizeof(rig.dir));
	open_small(&rig, 64 << 10);
	for (int i = 0; i < 150; i++) {
		write_batch(&rig, i);
		if (i % 2)
			assert_int_equal(mvcc_backend_sync(rig.backend), 0);
		count_logs(rig.dir, &n, &first);
		most = MAX(most, n);
	}
	assert_true(first > 10);
	assert_true(most <= 4);
	rig_close(&rig);
}

/* --- damage --------------------------------------------------------------- */

struct file {
	char name[64];
	uint8_t *data;
	size_t len;
};

static size_t read_dir(const char *path, struct file *files, size_t max)
{
	const struct dirent *e;
	DIR *dir = opendir(path);
	size_t n = 0;

	assert_non_null(dir);
	while ((e = readdir(dir))) {
		struct stat st;
		int fd;

		if (e->d_name[0] == '.')
			continue;
		assert_true(n < max);
		fd = openat(dirfd(dir), e->d_name, O_RDONLY | O_CLOEXEC);
		assert_true(fd >= 0 && !fstat(fd, &st));
		snprintf(files[n].name, sizeof(files[n].name), "%.60s", e->d_name);
		files[n].len = (size_t)st.st_size;
		files[n].data = malloc(files[n].len + 1);
		assert_non_null(files[n].data);
		assert_int_equal(read(fd, files[n].data, files[n].len), files[n].len);
		close(fd);
		n++;
	}
	closedir(dir);
	return n;
}

static void write_dir(const char *path, const struct file *files, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char name[160];
		int fd;

		snprintf(name, sizeof(name), "%s/%.63s", path, files[i].name);
		fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
		assert_int_equal(write(fd, files[i].data, files[i].len), files[i].len);
		close(fd);
	}
}

/* In a process of its own, which ends without a word. */
static void write_and_die(struct rig *rig)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		open_small(rig, 1 << 20);
		for (int i = 1; i <= BATCHES; i++) {
			write_batch(rig, i);
			if (i == SYNCED && mvcc_backend_sync(rig->backend))
				_exit(1);
		}
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static int check_value(void *arg, const struct mvcc_stored *stored)
{
	int64_t batch = (stored->rev.main - 2) / PUTS + 1;
	struct mvcc_kv kv;

	assert_int_equal(mvcc_kv_decode(stored->kv, &kv), 0);
	assert_int_equal(kv.value.len, 200);
	assert_int_equal(kv.value.data[0], (uint8_t)batch);
	++*(int64_t *)arg;
	return 0;
}

/* What a damaged store opens to: the number of its last batch; -1: it is refused. */
static int64_t state_of(const char *dir)
{
	const struct mvcc_bdb_args args = { .dir = dir, .cache_bytes = 1 << 20 };
	struct mvcc_args store_args = { 0 };
	struct mvcc_backend *backend;
	struct mvcc *store;
	struct slice applied;
	char why[512] = "";
	int64_t batch = 0, n = 0;
	int r = mvcc_bdb_open(&args, &backend, why, sizeof(why));

	if (!r) {
		r = mvcc_open(backend, &store_args, &store, why, sizeof(why));
		if (r)
			mvcc_backend_close(backend);
	}
	if (r) {
		assert_true(why[0]);
		return -1;
	}
	applied = mvcc_record_get(store, "meta", SLICE_LIT("applied"));
	if (applied.len == sizeof(batch))
		memcpy(&batch, applied.data, sizeof(batch));
	assert_int_equal(mvcc_revision(store), 1 + batch * PUTS);
	assert_int_equal(mvcc_backend_each(backend, check_value, &n), 0);
	assert_int_equal(n, batch * PUTS);
	mvcc_free(store);
	mvcc_backend_close(backend);
	return batch;
}

/*
 * A bit in the log, here and there. The store is refused, or it is as it was after one
 * of its batches, and the record of the same batch says which: one that is older than
 * what was synced is seen by whoever keeps a log that begins after that.
 */
static void a_flip_gives_an_earlier_batch_or_none(void **state)
{
	int refused = 0, whole = 0, earlier = 0, lost = 0;
	struct rig rig = { .bdb = true };
	struct file files[8];
	size_t n;

	dir_new(rig.dir, sizeof(rig.dir));
	write_and_die(&rig);
	n = read_dir(rig.dir, files, ARRAY_SIZE(files));
	for (size_t i = 0; i < n; i++) {
		size_t used = files[i].len;

		while (used && !files[i].data[used - 1])
			used--;
		for (size_t at = 13; at < used; at += MAX(used / 40, (size_t)1)) {
			char dir[64];
			int64_t batch;

			dir_new(dir, sizeof(dir));
			files[i].data[at] ^= 4;
			write_dir(dir, files, n);
			files[i].data[at] ^= 4;
			batch = state_of(dir);
			refused += batch < 0;
			whole += batch == BATCHES;
			earlier += batch >= SYNCED && batch < BATCHES;
			lost += batch >= 0 && batch < SYNCED;
			dir_remove(dir);
		}
	}
	print_message("%d refused, %d right, %d earlier, %d before the last sync\n", refused,
		      whole, earlier, lost);
	assert_true(refused + earlier > 0);
	for (size_t i = 0; i < n; i++)
		free(files[i].data);
	dir_remove(rig.dir);
}

/* Berkeley DB frees nothing of an environment that it has found damaged. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libdb-5.3.so";
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(log_files_go_while_it_runs),
		cmocka_unit_test(a_flip_gives_an_earlier_batch_or_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
