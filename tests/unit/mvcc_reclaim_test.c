// SPDX-License-Identifier: Apache-2.0
/*
 * Space that compaction frees goes back to the file system, in slices, while the store
 * is written to, and whatever moment the process ends at. The store in memory, to which
 * the same is done, says what must be there.
 */
#include <sys/wait.h>

#include "tests/unit/mvcc_util.h"
#include "tests/unit/removed_files.h"

#define KEYS 60
#define VALUE_MAX 6000
#define SEGMENT_BYTES (128 << 10)
#define SLICE (8 << 10)

/* One store on disk, and its twin. */
struct pair {
	struct rig bdb, mem;
	uint64_t random;
	int64_t compacted;
};

static uint64_t next(struct pair *p, uint64_t below)
{
	p->random = p->random * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (p->random >> 33) % below;
}

static void open_bdb(struct rig *rig)
{
	const struct mvcc_bdb_args args = {
		.dir = rig->dir, .cache_bytes = 1 << 20, .log_bytes = 256 << 10,
		.segment_bytes = SEGMENT_BYTES,
	};
	char why[256] = "";

	if (mvcc_bdb_open(&args, &rig->backend, why, sizeof(why)))
		fail_msg("%s", why);
	rig_open_store(rig);
}

static void pair_open(struct pair *p, uint64_t seed)
{
	const struct mvcc_args args = { .cache_bytes = 1 };

	*p = (struct pair){ .bdb.bdb = true, .bdb.args = args, .random = seed };
	dir_new(p->bdb.dir, sizeof(p->bdb.dir));
	rig_open(&p->mem, false, &args);
}

static void pair_close(struct pair *p)
{
	rig_close(&p->bdb);
	rig_close(&p->mem);
}

/* --- the same to both ----------------------------------------------------- */

static void put_both(struct pair *p)
{
	static uint8_t value[VALUE_MAX];
	struct rig *const rigs[] = { &p->bdb, &p->mem };
	struct mvcc_put put = { .value.data = value };
	char key[16];
	uint64_t pick = next(p, 100);

	snprintf(key, sizeof(key), "key%02" PRIu64, next(p, KEYS));
	put.key = slice_str(key);
	put.value.len = pick < 80 ? next(p, 400) : next(p, VALUE_MAX);
	for (size_t i = 0; i < put.value.len; i++)
		value[i] = (uint8_t)(p->random >> (i % 7 * 8));
	for (size_t i = 0; i < ARRAY_SIZE(rigs); i++) {
		mvcc_begin(rigs[i]->store);
		assert_int_equal(mvcc_put(rigs[i]->store, &put), 0);
		if (pick % 10 == 3)
			assert_int_equal(mvcc_delete_range(rigs[i]->store,
				(struct mvcc_key_range){ .key = SLICE_LIT("key07") }, NULL), 0);
		mvcc_end(rigs[i]->store);
	}
}

static void compact_both(struct pair *p)
{
	int64_t revision = mvcc_revision(p->mem.store);

	assert_int_equal(mvcc_compact(p->bdb.store, revision), 0);
	assert_int_equal(mvcc_compact(p->mem.store, revision), 0);
}

static void sweep_both(struct pair *p, size_t keys)
{
	int r = mvcc_compact_step(p->bdb.store, keys);

	assert_int_equal(r > 0, mvcc_compact_step(p->mem.store, keys) > 0);
}

static void store_both(struct pair *p)
{
	rig_store(&p->bdb);
	rig_store(&p->mem);
}

/* --- are they the same? --------------------------------------------------- */

struct listing {
	uint64_t hash;
	int64_t n, bytes;
};

static int list_one(void *arg, const struct mvcc_stored *stored)
{
	struct listing *l = arg;

	for (size_t i = 0; i < stored->kv.len; i++)
		l->hash = (l->hash ^ stored->kv.data[i]) * UINT64_C(0x100000001b3);
	l->hash = (l->hash ^ (uint64_t)stored->rev.main) * UINT64_C(0x100000001b3);
	l->hash = (l->hash ^ (uint64_t)stored->rev.sub) * UINT64_C(0x100000001b3);
	l->n++;
	l->bytes += 17 + stored->tombstone + (int64_t)stored->kv.len;
	return 0;
}

static struct listing list(struct rig *rig)
{
	struct listing l = { 0 };

	assert_int_equal(mvcc_backend_each(rig->backend, list_one, &l), 0);
	return l;
}

static void expect_same(struct pair *p)
{
	struct listing a = list(&p->bdb), b = list(&p->mem);

	assert_int_equal(a.n, b.n);
	assert_int_equal(a.hash, b.hash);
}

static int64_t total(struct rig *rig)
{
	struct mvcc_backend_size size;

	assert_int_equal(mvcc_backend_size(rig->backend, &size), 0);
	return size.total;
}

static int64_t in_use(struct rig *rig)
{
	struct mvcc_backend_size size;

	assert_int_equal(mvcc_backend_size(rig->backend, &size), 0);
	return size.in_use;
}

/* What the files of revisions take, by the file system. */
static int64_t on_disk(const struct rig *rig)
{
	const struct dirent *e;
	int64_t bytes = 0;
	struct stat st;
	DIR *dir = opendir(rig->dir);

	assert_non_null(dir);
	while ((e = readdir(dir))) {
		if (strncmp(e->d_name, "revisions.", 10))
			continue;
		assert_int_equal(fstatat(dirfd(dir), e->d_name, &st, 0), 0);
		bytes += st.st_size;
	}
	closedir(dir);
	return bytes;
}

/* --- tests ---------------------------------------------------------------- */

/* How many calls it took. */
static int reclaim_all(struct rig *rig)
{
	int r, calls = 0;

	while ((r = mvcc_backend_reclaim(rig->backend, SLICE)) > 0)
		assert_true(calls++ < 10000);
	assert_int_equal(r, 0);
	return calls;
}

static void restart(struct rig *rig)
{
	mvcc_free(rig->store);
	mvcc_backend_close(rig->backend);
	open_bdb(rig);
}

static void fill(struct pair *p, int puts)
{
	for (int i = 0; i < puts; i++) {
		put_both(p);
		if (i % 20 == 19)
			store_both(p);
	}
	store_both(p);
}

static void files_shrink(void **state)
{
	struct pair p;
	int64_t full;

	pair_open(&p, 1);
	open_bdb(&p.bdb);
	fill(&p, 3000);
	full = total(&p.bdb);
	assert_int_equal(reclaim_all(&p.bdb), 0);
	compact_both(&p);
	sweep_both(&p, 3000);
	store_both(&p);
	expect_same(&p);
	assert_true(reclaim_all(&p.bdb) > 3);
	expect_same(&p);
	assert_int_equal(mvcc_backend_sync(p.bdb.backend), 0);
	assert_true(total(&p.bdb) < full / 8);
	assert_true(on_disk(&p.bdb) < full / 8);
	assert_int_equal(reclaim_all(&p.bdb), 0);
	restart(&p.bdb);
	expect_same(&p);
	assert_int_equal(in_use(&p.bdb), list(&p.mem).bytes);
	fill(&p, 300);
	expect_same(&p);
	pair_close(&p);
}

/* The file system is not asked to free a whole segment at once. */
static void removed_files_go_in_slices(void **state)
{
	int64_t before = removed_bytes(), last = 0, now;
	int cuts = 0;
	struct pair p;

	pair_open(&p, 2);
	open_bdb(&p.bdb);
	fill(&p, 1000);
	compact_both(&p);
	sweep_both(&p, 1000);
	store_both(&p);
	while (mvcc_backend_reclaim(p.bdb.backend, SLICE) == 1) {
		now = removed_bytes() - before;
		if (now < last) {
			assert_true(last - now <= SLICE);
			cuts++;
		}
		last = now;
	}
	assert_true(cuts > SEGMENT_BYTES / SLICE);
	assert_int_equal(removed_bytes(), before);
	expect_same(&p);
	pair_close(&p);
}

/* A copy of links, as cp -al makes them, stays whole. */
static void removed_files_with_another_name_stay(void **state)
{
	int64_t full, bytes;
	struct pair p;

	pair_open(&p, 2);
	open_bdb(&p.bdb);
	fill(&p, 1000);
	assert_int_equal(mvcc_backend_sync(p.bdb.backend), 0);
	full = on_disk(&p.bdb);
	assert_true(links_make(p.bdb.dir));
	compact_both(&p);
	sweep_both(&p, 1000);
	store_both(&p);
	reclaim_all(&p.bdb);
	assert_in_range(links_remove(p.bdb.dir, &bytes), 2, full / SEGMENT_BYTES + 1);
	assert_in_range(bytes, full / 2, full);
	expect_same(&p);
	pair_close(&p);
}

/* Puts, removals, compactions and restarts between the slices. */
static void goes_on_meanwhile(void **state)
{
	struct pair p;

	for (uint64_t seed = 1; seed <= 3; seed++) {
		pair_open(&p, seed);
		open_bdb(&p.bdb);
		fill(&p, 500);
		for (int i = 0; i < 2500; i++) {
			put_both(&p);
			if (next(&p, 100) == 0)
				compact_both(&p);
			if (next(&p, 4) == 0)
				sweep_both(&p, 1 + next(&p, 10));
			if (next(&p, 10) == 0)
				store_both(&p);
			if (next(&p, 2) == 0)
				assert_true(mvcc_backend_reclaim(p.bdb.backend, SLICE) >= 0);
			if (next(&p, 150) == 0) {
				store_both(&p);
				expect_same(&p);
			}
			if (next(&p, 300) == 0) {
				store_both(&p);
				restart(&p.bdb);
				rig_restart(&p.mem);
				expect_same(&p);
			}
		}
		store_both(&p);
		reclaim_all(&p.bdb);
		expect_same(&p);
		mvcc_check(p.bdb.store);
		pair_close(&p);
	}
}

/* A large number of small files becomes few. */
static void small_files_become_one(void **state)
{
	struct pair p;
	int64_t files;

	pair_open(&p, 3);
	open_bdb(&p.bdb);
	for (int round = 0; round < 12; round++) {
		fill(&p, 100);
		compact_both(&p);
		sweep_both(&p, KEYS + 1);
		store_both(&p);
		reclaim_all(&p.bdb);
	}
	assert_int_equal(mvcc_backend_sync(p.bdb.backend), 0);
	files = on_disk(&p.bdb);
	assert_true(files < 8 * SEGMENT_BYTES);
	expect_same(&p);
	pair_close(&p);
}

/* In a process of its own: all of it, then @calls slices, then its end without a word. */
static void reclaim_and_die(struct pair *p, int calls)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		open_bdb(&p->bdb);
		fill(p, 600);
		compact_both(p);
		sweep_both(p, KEYS + 1);
		store_both(p);
		if (mvcc_backend_sync(p->bdb.backend))
			_exit(2);
		for (int i = 0; i < calls; i++)
			if (mvcc_backend_reclaim(p->bdb.backend, SLICE / 4) <= 0)
				_exit(i < calls - 1 ? 3 : 1);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
	if (WEXITSTATUS(status))
		p->compacted = -1;
}

/* Does to the twin alone what the other process has done to both. */
static void twin_follows(struct pair *p)
{
	struct rig bdb = p->bdb;

	p->bdb = p->mem;
	p->bdb.bdb = false;
	rig_open_backend(&p->bdb);
	rig_open_store(&p->bdb);
	fill(p, 600);
	compact_both(p);
	sweep_both(p, KEYS + 1);
	store_both(p);
	mvcc_free(p->bdb.store);
	mvcc_backend_close(p->bdb.backend);
	p->bdb = bdb;
}

static void survives_a_kill_at_every_slice(void **state)
{
	int calls = 0;
	bool done = false;

	while (!done) {
		struct pair p;

		pair_open(&p, 9);
		reclaim_and_die(&p, calls);
		done = p.compacted < 0;
		p.random = 9;
		twin_follows(&p);
		open_bdb(&p.bdb);
		expect_same(&p);
		reclaim_all(&p.bdb);
		expect_same(&p);
		assert_int_equal(mvcc_backend_sync(p.bdb.backend), 0);
		assert_true(on_disk(&p.bdb) < 4 * SEGMENT_BYTES);
		pair_close(&p);
		calls++;
	}
	print_message("%d kills\n", calls);
	assert_true(calls > 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_shrink),
		cmocka_unit_test(removed_files_go_in_slices),
		cmocka_unit_test(removed_files_with_another_name_stay),
		cmocka_unit_test(goes_on_meanwhile),
		cmocka_unit_test(small_files_become_one),
		cmocka_unit_test(survives_a_kill_at_every_slice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
