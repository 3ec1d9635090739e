// SPDX-License-Identifier: Apache-2.0
/* Reading everything back, and copying a store that goes on being written to. */
#include "tests/unit/mvcc_util.h"

#define SEGMENT_BYTES (128 << 10)
#define SLICE (32 << 10)

static void open_small(struct rig *rig)
{
	const struct mvcc_bdb_args args = {
		.dir = rig->dir, .cache_bytes = 1 << 20, .log_bytes = 64 << 10,
		.segment_bytes = SEGMENT_BYTES,
	};
	char why[256] = "";

	if (mvcc_bdb_open(&args, &rig->backend, why, sizeof(why)))
		fail_msg("%s", why);
	rig_open_store(rig);
}

static void rig_new(struct rig *rig)
{
	*rig = (struct rig){ .bdb = true, .args.cache_bytes = 1 };
	dir_new(rig->dir, sizeof(rig->dir));
	open_small(rig);
}

static void fill(struct rig *rig, int from, int n)
{
	uint8_t value[5000];
	char key[16];

	for (int i = from; i < from + n; i++) {
		struct mvcc_put put = {
			.value = { value, i % 50 ? (size_t)(i * 7 % 500) : sizeof(value) },
		};

		snprintf(key, sizeof(key), "key%03d", i % 200);
		put.key = slice_str(key);
		memset(value, i, sizeof(value));
		mvcc_begin(rig->store);
		assert_int_equal(mvcc_put(rig->store, &put), 0);
		mvcc_end(rig->store);
		if (i % 50 == 49)
			rig_store(rig);
	}
	assert_int_equal(mvcc_record_put(rig->store, "meta", SLICE_LIT("applied"),
					 slice_of(&from, sizeof(from))), 0);
	rig_store(rig);
}

static void compact(struct rig *rig)
{
	assert_int_equal(mvcc_compact(rig->store, mvcc_revision(rig->store)), 0);
	while (mvcc_compact_step(rig->store, 10) > 0)
		;
	rig_store(rig);
}

static int scrub_all(struct rig *rig, struct mvcc_scrub *scrub)
{
	int r;

	*scrub = (struct mvcc_scrub){ 0 };
	while ((r = mvcc_backend_scrub(rig->backend, scrub, SLICE)) > 0)
		;
	return r;
}

static int hash_one(void *arg, const struct mvcc_stored *stored)
{
	uint64_t *h = arg;

	for (size_t i = 0; i < stored->kv.len; i++)
		*h = (*h ^ stored->kv.data[i]) * UINT64_C(0x100000001b3);
	*h = (*h ^ (uint64_t)stored->rev.main) * UINT64_C(0x100000001b3);
	return 0;
}

static uint64_t hash(struct rig *rig)
{
	uint64_t h = 0;

	assert_int_equal(mvcc_backend_each(rig->backend, hash_one, &h), 0);
	return h;
}

/* --- scrub ---------------------------------------------------------------- */

static void a_whole_store_is_right(void **state)
{
	struct mvcc_scrub scrub;
	struct rig rig;

	rig_new(&rig);
	assert_int_equal(scrub_all(&rig, &scrub), 0);
	for (int round = 0; round < 4; round++) {
		fill(&rig, round * 1000, 1000);
		if (round == 2)
			compact(&rig);
		assert_int_equal(scrub_all(&rig, &scrub), 0);
		assert_true(scrub.pages > 20 && scrub.records >= 200 && scrub.log_bytes > 1000);
		mvcc_free(rig.store);
		mvcc_backend_close(rig.backend);
		open_small(&rig);
		assert_int_equal(scrub_all(&rig, &scrub), 0);
	}
	rig_close(&rig);
}

/* Puts, compactions and reclaims between its slices. */
static void the_store_goes_on(void **state)
{
	struct mvcc_scrub scrub = { 0 };
	struct rig rig;
	int rounds = 0, r;

	rig_new(&rig);
	fill(&rig, 0, 1500);
	for (int i = 0; rounds < 3; i++) {
		r = mvcc_backend_scrub(rig.backend, &scrub, SLICE);
		if (r < 0)
			fail_msg("%s", scrub.what);
		if (!r) {
			scrub = (struct mvcc_scrub){ 0 };
			rounds++;
		}
		fill(&rig, i * 20, 20);
		if (i % 40 == 13)
			compact(&rig);
		if (i % 7 == 0)
			assert_int_equal(mvcc_backend_sync(rig.backend), 0);
		assert_true(mvcc_backend_reclaim(rig.backend, SLICE) >= 0);
	}
	rig_close(&rig);
}

static void flip(const struct rig *rig, const char *name, off_t at)
{
	char path[128];
	uint8_t byte;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", rig->dir, name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 0x20;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

static off_t file_size(const struct rig *rig, const char *name)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", rig->dir, name);
	return stat(path, &st) ? 0 : st.st_size;
}

/* One flipped bit after the other, in the files of a store that is open: none is passed
 * over, and the file is named, with the place. */
static void flips_are_found(struct rig *rig, const char *name, off_t step, const char *place)
{
	struct mvcc_scrub scrub;
	off_t size = file_size(rig, name);
	int n = 0;

	assert_int_equal(scrub_all(rig, &scrub), 0);
	/* of the one log file there is, what is used */
	if (name[0] == 'l')
		size = scrub.log_bytes;
	assert_true(size > 0);
	for (off_t at = 40; at < size; at += step) {
		flip(rig, name, at);
		if (scrub_all(rig, &scrub) != -EBADMSG)
			fail_msg("%s, byte %lld: not found", name, (long long)at);
		assert_non_null(strstr(scrub.what, name));
		assert_non_null(strstr(scrub.what, place));
		flip(rig, name, at);
		n++;
	}
	print_message("%s: %d flips found\n", name, n);
	assert_int_equal(scrub_all(rig, &scrub), 0);
}

/* The first 512 bytes of page 0 have a sum; what follows is not used. */
static void damage_on_disk_is_named(void **state)
{
	char name[64];
	struct rig rig;

	rig_new(&rig);
	fill(&rig, 0, 2000);
	assert_int_equal(mvcc_backend_sync(rig.backend), 0);
	scrub_all(&rig, &(struct mvcc_scrub){ 0 });
	assert_int_equal(mvcc_backend_sync(rig.backend), 0);
	flips_are_found(&rig, "records.db", 16384 + 100, "page");
	flips_are_found(&rig, "revisions.0000000001", 16384 + 613, "page");
	flips_are_found(&rig, "revisions.0000000002", 16384, "page");
	for (int i = 1; i < 100; i++) {
		snprintf(name, sizeof(name), "log.%010d", i);
		if (file_size(&rig, name))
			break;
	}
	flips_are_found(&rig, name, 4099, "byte");
	rig_close(&rig);
}

/* A page that is not what was written there. */
static void misplaced_pages_are_found(void **state)
{
	struct mvcc_scrub scrub;
	uint8_t page[16384], zeros[16384] = { 0 }, other[16384];
	char path[128];
	struct rig rig;
	int fd;

	rig_new(&rig);
	fill(&rig, 0, 1000);
	assert_int_equal(scrub_all(&rig, &scrub), 0);
	snprintf(path, sizeof(path), "%s/revisions.0000000001", rig.dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, page, sizeof(page), 3 * 16384), sizeof(page));
	assert_int_equal(pread(fd, other, sizeof(other), 4 * 16384), sizeof(other));
	assert_int_equal(pwrite(fd, other, sizeof(other), 3 * 16384), sizeof(other));
	assert_int_equal(scrub_all(&rig, &scrub), -EBADMSG);
	assert_non_null(strstr(scrub.what, "page 3"));
	assert_non_null(strstr(scrub.what, "another page"));
	assert_int_equal(pwrite(fd, zeros, sizeof(zeros), 3 * 16384), sizeof(zeros));
	assert_int_equal(scrub_all(&rig, &scrub), -EBADMSG);
	assert_non_null(strstr(scrub.what, "page 3"));
	assert_int_equal(pwrite(fd, page, sizeof(page), 3 * 16384), sizeof(page));
	assert_int_equal(scrub_all(&rig, &scrub), 0);
	assert_int_equal(ftruncate(fd, 5 * 16384 + 100), 0);
	assert_int_equal(scrub_all(&rig, &scrub), -EBADMSG);
	assert_non_null(strstr(scrub.what, "ends within page 5"));
	close(fd);
	rig_close(&rig);
}

/* --- backup --------------------------------------------------------------- */

struct copied {
	struct rig rig;
	struct mvcc_backup *backup;
	uint64_t hash;
	int64_t revision;
	int applied;
};

static void copy_begin(struct rig *rig, struct copied *c)
{
	char why[256] = "";
	struct slice applied = mvcc_record_get(rig->store, "meta", SLICE_LIT("applied"));

	*c = (struct copied){ .rig = { .bdb = true, .args.cache_bytes = 1 } };
	dir_new(c->rig.dir, sizeof(c->rig.dir));
	c->hash = hash(rig);
	c->revision = mvcc_revision(rig->store);
	memcpy(&c->applied, applied.data, sizeof(c->applied));
	if (mvcc_backup_begin(rig->backend, c->rig.dir, &c->backup, why, sizeof(why)))
		fail_msg("%s", why);
}

/* The copy is the store as it was, and is one of its own. */
static void copy_check(struct copied *c)
{
	struct mvcc_scrub scrub;
	struct slice applied;

	assert_int_equal(mvcc_backup_revision(c->backup), c->revision);
	mvcc_backup_end(c->backup);
	open_small(&c->rig);
	assert_int_equal(mvcc_revision(c->rig.store), c->revision);
	assert_true(hash(&c->rig) == c->hash);
	applied = mvcc_record_get(c->rig.store, "meta", SLICE_LIT("applied"));
	assert_int_equal(applied.len, sizeof(c->applied));
	assert_memory_equal(applied.data, &c->applied, sizeof(c->applied));
	assert_int_equal(scrub_all(&c->rig, &scrub), 0);
	fill(&c->rig, 0, 100);
	mvcc_check(c->rig.store);
	rig_close(&c->rig);
}

static void copies_a_live_store(void **state)
{
	struct copied c;
	struct rig rig;
	int r, steps;

	rig_new(&rig);
	fill(&rig, 0, 1000);
	for (int round = 0; round < 4; round++) {
		copy_begin(&rig, &c);
		for (steps = 0; (r = mvcc_backup_step(c.backup, SLICE)) > 0; steps++) {
			fill(&rig, steps * 20, 20);
			if (steps % 5 == 3)
				compact(&rig);
			if (round % 2)
				assert_true(mvcc_backend_reclaim(rig.backend, SLICE) >= 0);
		}
		if (r)
			fail_msg("%s", mvcc_backup_why(c.backup));
		assert_true(steps > 10);
		copy_check(&c);
		while ((r = mvcc_backend_reclaim(rig.backend, SLICE)) > 0)
			;
		assert_int_equal(r, 0);
	}
	rig_close(&rig);
}

static int files_in(const char *path)
{
	const struct dirent *e;
	DIR *dir = opendir(path);
	int n = 0;

	assert_non_null(dir);
	while ((e = readdir(dir)))
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

static void an_unfinished_copy_is_removed(void **state)
{
	struct copied c;
	struct rig rig;

	rig_new(&rig);
	fill(&rig, 0, 500);
	for (int steps = 0; steps < 6; steps++) {
		copy_begin(&rig, &c);
		for (int i = 0; i < steps; i++)
			assert_true(mvcc_backup_step(c.backup, SLICE) > 0);
		assert_true(files_in(c.rig.dir) > 0);
		mvcc_backup_end(c.backup);
		assert_int_equal(files_in(c.rig.dir), 0);
		dir_remove(c.rig.dir);
	}
	rig_close(&rig);
}

static void a_directory_with_files_is_refused(void **state)
{
	struct mvcc_backup *backup = NULL;
	char why[256] = "";
	struct rig rig;

	rig_new(&rig);
	fill(&rig, 0, 10);
	assert_int_equal(mvcc_backup_begin(rig.backend, rig.dir, &backup, why, sizeof(why)),
			 -ENOTEMPTY);
	assert_non_null(strstr(why, "empty"));
	assert_int_equal(mvcc_backup_begin(rig.backend, "/nonexistent/x", &backup, why,
					   sizeof(why)), -ENOENT);
	assert_null(backup);
	rig_close(&rig);
	assert_int_equal(mvcc_mem_open(&rig.backend), 0);
	assert_int_equal(mvcc_backup_begin(rig.backend, "/tmp", &backup, why, sizeof(why)),
			 -EOPNOTSUPP);
	mvcc_backend_close(rig.backend);
}

static void damage_is_not_copied(void **state)
{
	struct copied c;
	struct rig rig;
	int r;

	rig_new(&rig);
	fill(&rig, 0, 1000);
	assert_int_equal(mvcc_backend_sync(rig.backend), 0);
	scrub_all(&rig, &(struct mvcc_scrub){ 0 });
	flip(&rig, "revisions.0000000002", 3 * 16384 + 5000);
	copy_begin(&rig, &c);
	while ((r = mvcc_backup_step(c.backup, SLICE)) > 0)
		;
	assert_int_equal(r, -EBADMSG);
	assert_non_null(strstr(mvcc_backup_why(c.backup), "revisions.0000000002: page 3"));
	mvcc_backup_end(c.backup);
	assert_int_equal(files_in(c.rig.dir), 0);
	dir_remove(c.rig.dir);
	fill(&rig, 0, 100);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_store_is_right),
		cmocka_unit_test(the_store_goes_on),
		cmocka_unit_test(damage_on_disk_is_named),
		cmocka_unit_test(misplaced_pages_are_found),
		cmocka_unit_test(copies_a_live_store),
		cmocka_unit_test(an_unfinished_copy_is_removed),
		cmocka_unit_test(a_directory_with_files_is_refused),
		cmocka_unit_test(damage_is_not_copied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
