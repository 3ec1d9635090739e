// SPDX-License-Identifier: Apache-2.0
/*
 * The backend on disk: what it refuses, what survives the end of a process, what it
 * says of damage.
 */
#include <sys/mman.h>
#include <sys/wait.h>

#include "libmvcc/backend.h"
#include "tests/unit/mvcc_util.h"

#define PAGE 16384
#define BIG (3 << 19)		/* 1.5 MiB: the largest request there is */

static void put_key(struct rig *rig, const char *key, struct slice value)
{
	const struct mvcc_put put = { .key = slice_str(key), .value = value };

	mvcc_begin(rig->store);
	assert_int_equal(mvcc_put(rig->store, &put), 0);
	mvcc_end(rig->store);
}

static void expect_read(struct rig *rig, const char *key, int64_t revision, struct slice value)
{
	const struct mvcc_read read = { .range.key = slice_str(key), .revision = revision };
	struct mvcc_result result;
	struct mvcc_kv kv;

	mvcc_result_init(&result);
	assert_int_equal(rig_range(rig, &read, &result), 0);
	assert_int_equal(result.n, 1);
	assert_int_equal(mvcc_kv_decode(blob_slice(result.kvs[0]), &kv), 0);
	assert_true(slice_eq(kv.value, value));
	mvcc_result_release(&result);
}

/* --- refusals ------------------------------------------------------------- */

static void expect_refusal(const char *dir, int error, const char *words)
{
	const struct mvcc_bdb_args args = { .dir = dir, .cache_bytes = 1 << 20 };
	struct mvcc_backend *backend = NULL;
	char why[256] = "";

	assert_int_equal(mvcc_bdb_open(&args, &backend, why, sizeof(why)), error);
	assert_null(backend);
	assert_non_null(strstr(why, dir));
	if (!strstr(why, words))
		fail_msg("\"%s\" does not say \"%s\"", why, words);
}

static void file_make(const char *dir, const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
}

static void refuses_what_is_not_its_own(void **state)
{
	static const struct {
		const char *file;
		int error;
		const char *words;
	} cases[] = {
		{ "DB_CONFIG", -EINVAL, "DB_CONFIG" },
		{ "notes.txt", -ENOTEMPTY, "notes.txt" },
		{ "log.old", -ENOTEMPTY, "log.old" },
		{ "log.00000000x1", -ENOTEMPTY, "log.00000000x1" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char dir[64];

		dir_new(dir, sizeof(dir));
		file_make(dir, cases[i].file);
		expect_refusal(dir, cases[i].error, cases[i].words);
		dir_remove(dir);
	}
	expect_refusal("/nonexistent/store", -ENOENT, "No such file");
}

/* What Berkeley DB leaves behind when it is killed while it creates a file. */
static void takes_leftovers_for_its_own(void **state)
{
	struct rig rig = { .bdb = true };

	dir_new(rig.dir, sizeof(rig.dir));
	file_make(rig.dir, "__db.00000001.5f2d");
	rig_open_backend(&rig);
	rig_open_store(&rig);
	rig_close(&rig);
}

/* Pages go by way of their own file, however the directory is named. */
static void slashes_at_the_end_are_the_same(void **state)
{
	static const uint8_t value[BIG];
	struct rig rig = { .bdb = true };
	struct stat st;
	char path[96];
	size_t len;

	dir_new(rig.dir, sizeof(rig.dir));
	len = strlen(rig.dir);
	snprintf(rig.dir + len, sizeof(rig.dir) - len, "//");
	rig_open_backend(&rig);
	rig_open_store(&rig);
	/* enough for a checkpoint */
	put_key(&rig, "k", slice_of(value, sizeof(value)));
	rig_store(&rig);
	assert_int_equal(mvcc_backend_sync(rig.backend), 0);
	snprintf(path, sizeof(path), "%spages", rig.dir);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size > 0);
	rig_close(&rig);
}

static void refuses_a_second_process(void **state)
{
	const struct mvcc_args args = { 0 };
	struct rig rig;

	rig_open(&rig, true, &args);
	expect_refusal(rig.dir, -EBUSY, "in use");
	rig_close(&rig);
}

/* Writes the format through the interface that the store itself uses; 0: none. */
static void write_format(struct rig *rig, uint64_t format)
{
	struct blob *key = blob_copy(SLICE_LIT("\0format")), *value = blob_new(8);
	struct batch_record record = { key, format ? value : NULL };
	const struct mvcc_batch batch = { .records = &record, .n_records = 1 };

	assert_true(key && value);
	put_be64(value->data, format);
	assert_int_equal(mvcc_backend_write(rig->backend, &batch), 0);
	blob_put(key);
	blob_put(value);
}

static void refuses_a_newer_format(void **state)
{
	const struct mvcc_args args = { 0 };
	struct rig rig;

	rig_open(&rig, true, &args);
	write_format(&rig, 3);
	mvcc_backend_close(rig.backend);
	expect_refusal(rig.dir, -EPROTONOSUPPORT, "newer version");
	mvcc_mem_open(&rig.backend);
	rig_close(&rig);
}

static void refuses_data_without_a_format(void **state)
{
	const struct mvcc_args args = { 0 };
	struct rig rig;

	rig_open(&rig, true, &args);
	write_format(&rig, 0);
	rig_restart(&rig);
	put_key(&rig, "a", SLICE_LIT("1"));
	rig_store(&rig);
	write_format(&rig, 0);
	mvcc_backend_close(rig.backend);
	expect_refusal(rig.dir, -EPROTONOSUPPORT, "does not say in which format");
	mvcc_mem_open(&rig.backend);
	rig_close(&rig);
}

/* --- what is kept --------------------------------------------------------- */

static void files_are_private(void **state)
{
	const struct mvcc_args args = { 0 };
	const struct dirent *e;
	struct stat st;
	struct rig rig;
	DIR *dir;
	int n = 0;

	rig_open(&rig, true, &args);
	put_key(&rig, "a", SLICE_LIT("1"));
	rig_store(&rig);
	assert_int_equal(mvcc_backend_sync(rig.backend), 0);
	dir = opendir(rig.dir);
	assert_non_null(dir);
	while ((e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		assert_int_equal(fstatat(dirfd(dir), e->d_name, &st, 0), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
		n++;
	}
	closedir(dir);
	assert_int_equal(n, 4);
	rig_close(&rig);
}

/* In a process of its own: stores @n keys and ends without closing anything. */
static void write_and_die(struct rig *rig, int n)
{
	char key[16];
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		rig_open_backend(rig);
		rig_open_store(rig);
		for (int i = 0; i < n; i++) {
			snprintf(key, sizeof(key), "%06d", i);
			put_key(rig, key, slice_str(key));
			if (i % 100 == 99)
				rig_store(rig);
		}
		rig_store(rig);
		put_key(rig, "not stored", SLICE_LIT(""));
		_exit(mvcc_backend_sync(rig->backend) != 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void survives_a_kill(void **state)
{
	struct rig rig = { .bdb = true };

	dir_new(rig.dir, sizeof(rig.dir));
	write_and_die(&rig, 2000);
	rig_open_backend(&rig);
	rig_open_store(&rig);
	assert_int_equal(mvcc_revision(rig.store), 2001);
	expect_read(&rig, "000000", 0, SLICE_LIT("000000"));
	expect_read(&rig, "001999", 0, SLICE_LIT("001999"));
	mvcc_check(rig.store);
	rig_close(&rig);
}

static void keeps_values_of_any_size(void **state)
{
	static const size_t sizes[] = { 0, 1, 4000, 16384, 100000, BIG };
	const struct mvcc_args args = { .cache_bytes = 1 };
	uint8_t *bytes = malloc(BIG);
	struct rig rig;
	char key[16];

	assert_non_null(bytes);
	for (size_t i = 0; i < BIG; i++)
		bytes[i] = (uint8_t)(i * 31 >> 3);
	rig_open(&rig, true, &args);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		snprintf(key, sizeof(key), "k%zu", i);
		put_key(&rig, key, slice_of(bytes, sizes[i]));
		put_key(&rig, key, slice_of(bytes + 1, sizes[i] ? sizes[i] - 1 : 0));
	}
	rig_store(&rig);
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			snprintf(key, sizeof(key), "k%zu", i);
			expect_read(&rig, key, 2 * (int64_t)i + 2, slice_of(bytes, sizes[i]));
			expect_read(&rig, key, 0,
				     slice_of(bytes + 1, sizes[i] ? sizes[i] - 1 : 0));
		}
		rig_restart(&rig);
	}
	mvcc_check(rig.store);
	rig_close(&rig);
	free(bytes);
}

static void size_follows_what_is_kept(void **state)
{
	const struct mvcc_args args = { 0 };
	struct mvcc_backend_size empty, full, reopened, compacted;
	uint8_t *bytes = calloc(1, 100000);
	struct rig rig;

	assert_non_null(bytes);
	rig_open(&rig, true, &args);
	assert_int_equal(mvcc_backend_size(rig.backend, &empty), 0);
	for (int i = 0; i < 20; i++)
		put_key(&rig, "k", slice_of(bytes, 100000));
	rig_store(&rig);
	/* most of it is in Berkeley DB's cache alone */
	assert_int_equal(mvcc_backend_size(rig.backend, &full), 0);
	assert_true(full.total > full.in_use);
	rig_restart(&rig);
	assert_int_equal(mvcc_backend_size(rig.backend, &full), 0);
	assert_true(full.in_use > 2000000 && full.in_use < 2010000);
	assert_true(full.total > full.in_use);
	assert_int_equal(mvcc_compact(rig.store, mvcc_revision(rig.store)), 0);
	while (mvcc_compact_step(rig.store, 10) > 0)
		;
	rig_store(&rig);
	assert_int_equal(mvcc_backend_size(rig.backend, &compacted), 0);
	assert_true(compacted.in_use > 100000 && compacted.in_use < 101000);
	rig_restart(&rig);
	assert_int_equal(mvcc_backend_size(rig.backend, &reopened), 0);
	assert_int_equal(reopened.in_use, compacted.in_use);
	rig_close(&rig);
	free(bytes);
}

/* Space that compaction frees is given back: the files do not grow for ever. */
static void space_is_given_back(void **state)
{
	const struct mvcc_args args = { 0 };
	struct mvcc_backend_size size;
	uint8_t bytes[1000] = { 0 };
	int64_t limit = 0;
	struct rig rig;
	int r;

	rig_open(&rig, true, &args);
	for (int round = 0; round < 12; round++) {
		for (int i = 0; i < 2000; i++)
			put_key(&rig, i % 2 ? "a" : "b", slice_of(bytes, sizeof(bytes)));
		rig_store(&rig);
		assert_int_equal(mvcc_compact(rig.store, mvcc_revision(rig.store)), 0);
		while (mvcc_compact_step(rig.store, 10) > 0)
			;
		rig_store(&rig);
		while ((r = mvcc_backend_reclaim(rig.backend, 1 << 20)) > 0)
			;
		assert_int_equal(r, 0);
		assert_int_equal(mvcc_backend_sync(rig.backend), 0);
		assert_int_equal(mvcc_backend_size(rig.backend, &size), 0);
		if (round == 2)
			limit = size.total;
		assert_true(!limit || size.total <= limit + limit / 4);
	}
	rig_close(&rig);
}

/*
 * Berkeley DB frees nothing of an environment that it has found damaged. The leak
 * checker is told so; leaks of ours show in the model test, where nothing is.
 */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libdb-5.3.so";
}

/* --- damage --------------------------------------------------------------- */

static void flip(const char *dir, const char *name, off_t at)
{
	char path[128];
	uint8_t byte;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

static off_t file_size(const char *dir, const char *name)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

static void expect_damage(const struct rig *rig, int error, const char *why)
{
	assert_int_equal(error, -EBADMSG);
	assert_non_null(strstr(why, rig->dir));
	assert_non_null(strstr(why, "damaged"));
}

/* Opens what was damaged. False: it is refused, with an error that says so. */
static bool open_damaged(struct rig *rig)
{
	const struct mvcc_bdb_args args = { .dir = rig->dir, .cache_bytes = 1 << 20 };
	struct mvcc_args store_args = { .cache_bytes = 1 };
	char why[256] = "";
	int r = mvcc_bdb_open(&args, &rig->backend, why, sizeof(why));

	if (!r) {
		r = mvcc_open(rig->backend, &store_args, &rig->store, why, sizeof(why));
		if (r)
			mvcc_backend_close(rig->backend);
	}
	if (r)
		expect_damage(rig, r, why);
	return !r;
}

/* It is refused, or else everything is right. */
static bool damage_is_noticed(struct rig *rig, int n)
{
	char key[16];

	if (!open_damaged(rig))
		return true;
	for (int i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "%06d", i);
		expect_read(rig, key, 0, slice_str(key));
	}
	mvcc_free(rig->store);
	mvcc_backend_close(rig->backend);
	return false;
}

/* A bit in every page of the revisions, one after the other. */
static void damage_is_an_error(void **state)
{
	struct rig rig = { .bdb = true };
	int noticed = 0, pages = 0;
	off_t size;

	dir_new(rig.dir, sizeof(rig.dir));
	write_and_die(&rig, 2000);
	rig_open_backend(&rig);
	mvcc_backend_close(rig.backend);
	size = file_size(rig.dir, "revisions.0000000001");
	assert_true(size >= 5 * PAGE);
	for (off_t at = 100; at < size; at += PAGE) {
		flip(rig.dir, "revisions.0000000001", at);
		noticed += damage_is_noticed(&rig, 2000);
		flip(rig.dir, "revisions.0000000001", at);
		pages++;
	}
	print_message("%d of %d damaged pages noticed\n", noticed, pages);
	assert_int_equal(noticed, pages);
	assert_false(damage_is_noticed(&rig, 2000));
	dir_remove(rig.dir);
}

/* Damage that arises while the store runs: the fetch says so. */
static void damaged_value_is_not_read(void **state)
{
	const struct mvcc_args args = { .cache_bytes = 1 };
	const struct mvcc_read read = { .range.key = SLICE_LIT("001500") };
	struct rig rig = { .bdb = true, .args = args };
	struct mvcc_result result;
	struct mvcc_fetch fetch;
	off_t size;

	dir_new(rig.dir, sizeof(rig.dir));
	write_and_die(&rig, 2000);
	rig_open_backend(&rig);
	rig_open_store(&rig);
	rig_restart(&rig);
	mvcc_fetch_init(&fetch);
	mvcc_result_init(&result);
	assert_int_equal(mvcc_range(rig.store, &read, &fetch, &result), MVCC_COLD);
	mvcc_backend_close(rig.backend);
	size = file_size(rig.dir, "revisions.0000000001");
	rig_open_backend(&rig);
	for (off_t at = 9000; at < size; at += PAGE)
		flip(rig.dir, "revisions.0000000001", at);
	assert_int_equal(mvcc_backend_fetch(rig.backend, &fetch), -EBADMSG);
	assert_null(fetch.items[0].blob);
	mvcc_fetch_release(&fetch);
	mvcc_result_release(&result);
	rig_close(&rig);
}

#define LONG_VALUES 12

/* Reads a page of the first segment, or writes it. */
static void page_move(const char *dir, off_t at, uint8_t page[PAGE], bool write)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/revisions.0000000001", dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write ? pwrite(fd, page, PAGE, at) : pread(fd, page, PAGE, at), PAGE);
	close(fd);
}

/* The i-th value takes several pages, which hold nothing else. */
static struct slice long_value(uint8_t *buf, int i)
{
	memset(buf, 'a' + i, 3 * PAGE);
	return slice_of(buf, 3 * PAGE);
}

/* Reads all of the long values: each is right, or an error. How many are an error. */
static int read_long_values(struct rig *rig, uint8_t *buf)
{
	int noticed = 0;

	for (int i = 0; i < LONG_VALUES; i++) {
		char key[16];
		struct mvcc_read read = { .range.key = { (const uint8_t *)key, 3 } };
		struct mvcc_result result;
		struct mvcc_fetch fetch;
		struct mvcc_kv kv;
		int r;

		snprintf(key, sizeof(key), "k%02d", i);
		mvcc_fetch_init(&fetch);
		mvcc_result_init(&result);
		while ((r = mvcc_range(rig->store, &read, &fetch, &result)) == MVCC_COLD) {
			r = mvcc_backend_fetch(rig->backend, &fetch);
			if (r)
				break;
		}
		if (r) {
			assert_int_equal(r, -EBADMSG);
			noticed++;
		} else {
			assert_int_equal(mvcc_kv_decode(blob_slice(result.kvs[0]), &kv), 0);
			assert_true(slice_eq(kv.value, long_value(buf, i)));
		}
		mvcc_result_release(&result);
		mvcc_fetch_release(&fetch);
	}
	return noticed;
}

/* Whether a store with a misplaced page is refused, or what is in it is. */
static bool misplaced_is_noticed(struct rig *rig, uint8_t *buf)
{
	bool noticed;

	if (!open_damaged(rig))
		return true;
	noticed = read_long_values(rig, buf);
	mvcc_free(rig->store);
	mvcc_backend_close(rig->backend);
	return noticed;
}

/* A page that is whole, and has a checksum that is right, but is another one. */
static void misplaced_page_is_not_a_value(void **state)
{
	struct rig rig = { .bdb = true, .args.cache_bytes = 1 };
	uint8_t *buf = malloc(3 * PAGE), page[PAGE], next[PAGE];
	int noticed = 0, pages = 0;
	char key[16];
	off_t size;

	assert_non_null(buf);
	rig_open(&rig, true, &rig.args);
	for (int i = 0; i < LONG_VALUES; i++) {
		snprintf(key, sizeof(key), "k%02d", i);
		put_key(&rig, key, long_value(buf, i));
	}
	rig_store(&rig);
	assert_int_equal(mvcc_backend_sync(rig.backend), 0);
	mvcc_free(rig.store);
	mvcc_backend_close(rig.backend);
	size = file_size(rig.dir, "revisions.0000000001");
	assert_true(size > LONG_VALUES * 3 * PAGE);
	for (off_t at = PAGE; at + PAGE < size; at += PAGE) {
		page_move(rig.dir, at, page, false);
		page_move(rig.dir, at + PAGE, next, false);
		page_move(rig.dir, at, next, true);
		noticed += misplaced_is_noticed(&rig, buf);
		page_move(rig.dir, at, page, true);
		pages++;
	}
	print_message("%d of %d misplaced pages noticed\n", noticed, pages);
	assert_int_equal(noticed, pages);
	assert_false(misplaced_is_noticed(&rig, buf));
	dir_remove(rig.dir);
	free(buf);
}

/* A record that is gone from under the index is damage, not an endless wish for it. */
static void lost_record_is_an_error(void **state)
{
	const struct mvcc_args args = { .cache_bytes = 1 };
	const struct mvcc_read read = { .range.key = SLICE_LIT("a") };
	struct batch_drop drop = { 2, 0 };
	const struct mvcc_batch batch = { .drops = &drop, .n_drops = 1 };
	struct mvcc_result result;
	struct rig rig;

	for (int bdb = 0; bdb < 2; bdb++) {
		rig_open(&rig, bdb, &args);
		put_key(&rig, "a", SLICE_LIT("1"));
		put_key(&rig, "b", SLICE_LIT("2"));
		rig_store(&rig);
		rig_restart(&rig);
		mvcc_result_init(&result);
		assert_int_equal(mvcc_backend_write(rig.backend, &batch), 0);
		assert_int_equal(rig_range(&rig, &read, &result), -EBADMSG);
		expect_read(&rig, "b", 0, SLICE_LIT("2"));
		rig_close(&rig);
	}
}

/* Records that contradict their keys. */
static void nonsense_is_refused(void **state)
{
	static const struct {
		int64_t main;
		uint32_t sub;
		struct slice kv;
	} cases[] = {
		{ 2, 0, { (const uint8_t *)"\xff", 1 } },
		{ 2, 0, { (const uint8_t *)"\x0a\x01" "a", 3 } },
		{ 2, 0, { (const uint8_t *)"\x0a\x01" "a\x10\x02\x18\x03\x20\x01", 9 } },
		{ 2, 0, { (const uint8_t *)"\x0a\x01" "a\x10\x03\x18\x02\x20\x01", 9 } },
		{ 2, 0, { (const uint8_t *)"\x0a\x01" "a\x10\x02\x18\x02\x20\x00", 9 } },
		{ 2, 0, { (const uint8_t *)"\x0a\x05" "a", 3 } },
	};
	struct mvcc_args args = { 0 };
	struct mvcc *store = NULL;
	char why[128] = "";

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct blob *kv = blob_copy(cases[i].kv);
		struct batch_put put = { cases[i].main, cases[i].sub, kv };
		const struct mvcc_batch batch = { .puts = &put, .n_puts = 1 };
		struct mvcc_backend *backend;

		assert_int_equal(mvcc_mem_open(&backend), 0);
		assert_int_equal(mvcc_backend_write(backend, &batch), 0);
		assert_int_equal(mvcc_open(backend, &args, &store, why, sizeof(why)), -EBADMSG);
		assert_string_equal(why, "the store holds a record that is damaged");
		assert_null(store);
		mvcc_backend_close(backend);
		blob_put(kv);
	}
}

/* Nothing that went wrong above was printed by Berkeley DB itself. */
static int stderr_copy = -1, stderr_file = -1;

static int capture_stderr(void **state)
{
	fflush(stderr);
	stderr_copy = dup(STDERR_FILENO);
	stderr_file = memfd_create("stderr", MFD_CLOEXEC);
	return stderr_copy < 0 || stderr_file < 0 || dup2(stderr_file, STDERR_FILENO) < 0;
}

static int expect_silence(void **state)
{
	char text[256] = "";
	ssize_t n;

	fflush(stderr);
	n = pread(stderr_file, text, sizeof(text) - 1, 0);
	dup2(stderr_copy, STDERR_FILENO);
	close(stderr_copy);
	close(stderr_file);
	if (n > 0)
		fprintf(stderr, "printed: %s\n", text);
	return n != 0;
}

#define SILENT(f) cmocka_unit_test_setup_teardown(f, capture_stderr, expect_silence)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SILENT(refuses_what_is_not_its_own),
		SILENT(takes_leftovers_for_its_own),
		SILENT(slashes_at_the_end_are_the_same),
		SILENT(refuses_a_second_process),
		SILENT(refuses_a_newer_format),
		SILENT(refuses_data_without_a_format),
		SILENT(files_are_private),
		SILENT(survives_a_kill),
		SILENT(keeps_values_of_any_size),
		SILENT(size_follows_what_is_kept),
		SILENT(space_is_given_back),
		SILENT(damage_is_an_error),
		SILENT(damaged_value_is_not_read),
		SILENT(misplaced_page_is_not_a_value),
		SILENT(lost_record_is_an_error),
		SILENT(nonsense_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
