// SPDX-License-Identifier: Apache-2.0
/*
 * mvcc_bench [-n KEYS] [-d DIR] [ROW...]: what libmvcc does a second, and what it
 * keeps in memory, beside what the machine itself does in the same run.
 *
 * Keys have 32 bytes, values 256; one thread. Each loop is timed in fifty parts, and
 * the rate is that of the quietest fifth of them, since others may use the machine;
 * beside it the processor time (user and system) and the time of the wall of one
 * operation over all of the loop. Rows: see the table at the end of the file; none
 * means all. Nothing here passes or fails.
 */
#include <dirent.h>
#include <malloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "libmvcc/mvcc_i.h"
#include "tests/bench/bench.h"

#define RANGE_KEYS 1000
#define GROUP 16			/* keys that are named ahead */
#define HOT_KEYS 1000
#define EVERYTHING ((size_t)1 << 40)	/* a cache that nothing leaves */

/* --- laps and lines ------------------------------------------------------- */

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return seconds(u.ru_utime) + seconds(u.ru_stime);
}

struct lap lap_begin(size_t ops)
{
	return (struct lap){ .wall = now(), .cpu = cpu(), .ops = ops };
}

void lap_mark(struct lap *lap)
{
	if (lap->n_ticks < ARRAY_SIZE(lap->ticks))
		lap->ticks[lap->n_ticks++] = now();
}

static int double_cmp(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* The time of one operation in the quietest fifth of the loop; of all where it was
 * too short to say. */
static double quiet(struct lap *lap, double wall)
{
	size_t n = lap->n_ticks;

	if (n < TICKS)
		return wall / (double)lap->ops;
	for (size_t i = 0; i + 1 < n; i++)
		lap->ticks[i] = lap->ticks[i + 1] - lap->ticks[i];
	qsort(lap->ticks, n - 1, sizeof(double), double_cmp);
	return lap->ticks[n / 5] / (double)(lap->ops / TICKS);
}

void lap_end(struct lap *lap, const char *title)
{
	double used = cpu() - lap->cpu, wall = now() - lap->wall, ops = (double)lap->ops;
	double fifth = quiet(lap, wall);

	printf("%-48s %11.0f %9.1f %9.1f %9.1f\n", title, 1 / fifth, fifth * 1e9,
	       used * 1e9 / ops, wall * 1e9 / ops);
	fflush(stdout);
}

void print_bytes(const char *title, double bytes, const char *unit)
{
	printf("%-48s %11.1f %s\n", title, bytes, unit);
	fflush(stdout);
}

void must(int result, const char *what)
{
	if (!result)
		return;
	fprintf(stderr, "mvcc_bench: %s: %d\n", what, result);
	exit(1);
}

/* Bytes that malloc has given out, its own overhead included. */
static double allocated(void)
{
	struct mallinfo2 m = mallinfo2();

	return (double)(m.uordblks + m.hblkhd);
}

/* --- keys ----------------------------------------------------------------- */

uint64_t bench_random(uint64_t *state)
{
	uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

struct slice key_name(uint8_t buf[NAME_LEN], size_t i)
{
	memcpy(buf, "/registry/pods/00000000000000000", NAME_LEN);
	for (unsigned int at = NAME_LEN - 1; i; at--, i /= 10)
		buf[at] = (uint8_t)('0' + i % 10);
	return slice_of(buf, NAME_LEN);
}

struct slice key_mixed(const struct bench *b, uint8_t buf[NAME_LEN], size_t i)
{
	return key_name(buf, b->order[i]);
}

static void order_make(struct bench *b)
{
	uint64_t state = 42;

	b->order = malloc(b->n * sizeof(*b->order));
	BUG_ON(!b->order);
	for (size_t i = 0; i < b->n; i++)
		b->order[i] = (uint32_t)i;
	for (size_t i = b->n - 1; i > 0; i--) {
		size_t j = bench_random(&state) % (i + 1);
		uint32_t t = b->order[i];

		b->order[i] = b->order[j];
		b->order[j] = t;
	}
}

/* --- stores --------------------------------------------------------------- */

struct rig {
	struct mvcc_backend *backend;
	struct mvcc *store;
	bool write;			/* batches go to the backend, or nowhere */
};

static void rig_open_store(struct rig *rig, size_t cache_bytes)
{
	const struct mvcc_args args = { .cache_bytes = cache_bytes };
	char why[256] = "";

	must(mvcc_open(rig->backend, &args, &rig->store, why, sizeof(why)), why);
}

static void rig_open_mem(struct rig *rig, size_t cache_bytes)
{
	*rig = (struct rig){ 0 };
	must(mvcc_mem_open(&rig->backend), "mvcc_mem_open");
	rig_open_store(rig, cache_bytes);
}

static void rig_open_bdb(struct rig *rig, const char *dir)
{
	const struct mvcc_bdb_args args = { .dir = dir };
	char why[512] = "";

	*rig = (struct rig){ .write = true };
	must(mvcc_bdb_open(&args, &rig->backend, why, sizeof(why)), why);
}

static void rig_close(struct rig *rig)
{
	mvcc_free(rig->store);
	mvcc_backend_close(rig->backend);
}

static void rig_flush(struct rig *rig)
{
	struct mvcc_batch *batch = mvcc_batch_take(rig->store);

	if (!batch)
		return;
	if (rig->write) {
		must(mvcc_backend_write(rig->backend, batch), "mvcc_backend_write");
		must(mvcc_backend_sync(rig->backend), "mvcc_backend_sync");
	}
	mvcc_batch_done(rig->store, batch);
	while (mvcc_trim(rig->store, BATCH))
		continue;
}

static void rig_put(struct rig *rig, struct slice name, struct slice value)
{
	const struct mvcc_put put = { .key = name, .value = value };

	mvcc_begin(rig->store);
	must(mvcc_put(rig->store, &put), "mvcc_put");
	mvcc_end(rig->store);
	if (mvcc_batch_pending(rig->store) >= BATCH)
		rig_flush(rig);
}

/* Every key once, in the order of the run. */
static void rig_puts(struct rig *rig, const struct bench *b, const char *title)
{
	struct lap lap = lap_begin(b->n);
	uint8_t name[NAME_LEN];

	for (size_t i = 0; i < b->n; i++) {
		lap_tick(&lap, i);
		rig_put(rig, key_mixed(b, name, i), slice_of(b->value, VALUE_LEN));
	}
	rig_flush(rig);
	if (title)
		lap_end(&lap, title);
}

/* A second permutation: no key is near the one that was near it when it was made. */
static void order_turn(struct bench *b)
{
	uint64_t state = 7;

	for (size_t i = b->n - 1; i > 0; i--) {
		size_t j = bench_random(&state) % (i + 1);
		uint32_t t = b->order[i];

		b->order[i] = b->order[j];
		b->order[j] = t;
	}
}

/* --- writing in memory ---------------------------------------------------- */

static void apply_with(struct bench *b, size_t cache_bytes, const char *const titles[3])
{
	struct rig rig;

	rig_open_mem(&rig, cache_bytes);
	for (int i = 0; i < 3; i++) {
		rig_puts(&rig, b, titles[i]);
		order_turn(b);
	}
	rig_close(&rig);
}

static void bench_apply(struct bench *b)
{
	static const char *const small[] = {
		"put: new keys, cache of 64 MiB", "put: first overwrite, cache of 64 MiB",
		"put: second overwrite, cache of 64 MiB",
	}, *const large[] = {
		"put: new keys, all cached", "put: first overwrite, all cached",
		"put: second overwrite, all cached",
	};

	apply_with(b, 0, small);
	apply_with(b, EVERYTHING, large);
}

/* --- reading -------------------------------------------------------------- */

/* The first @among keys of the order, again and again. */
static void read_points(struct bench *b, struct rig *rig, size_t among, const char *title)
{
	struct mvcc_read read = { 0 };
	struct mvcc_result result;
	struct mvcc_fetch fetch;
	uint8_t name[NAME_LEN];
	struct lap lap;

	mvcc_result_init(&result);
	mvcc_fetch_init(&fetch);
	lap = lap_begin(b->n);
	for (size_t i = 0; i < b->n; i++) {
		lap_tick(&lap, i);
		read.range.key = key_mixed(b, name, i % among);
		must(mvcc_range(rig->store, &read, &fetch, &result), "mvcc_range");
		BUG_ON(result.n != 1);
	}
	lap_end(&lap, title);
	mvcc_result_release(&result);
	mvcc_fetch_release(&fetch);
}

/* As a server does that has many requests at hand. */
static void read_points_ahead(struct bench *b, struct rig *rig)
{
	struct mvcc_read read = { 0 };
	uint8_t names[GROUP][NAME_LEN];
	struct slice keys[GROUP];
	struct mvcc_result result;
	struct mvcc_fetch fetch;
	struct lap lap;

	mvcc_result_init(&result);
	mvcc_fetch_init(&fetch);
	lap = lap_begin(b->n);
	for (size_t i = 0; i < b->n; i++) {
		lap_tick(&lap, i);
		if (i % GROUP == 0) {
			for (size_t k = 0; k < GROUP; k++)
				keys[k] = key_mixed(b, names[k], (i + k) % b->n);
			mvcc_ahead(rig->store, keys, GROUP);
		}
		read.range.key = keys[i % GROUP];
		must(mvcc_range(rig->store, &read, &fetch, &result), "mvcc_range");
		BUG_ON(result.n != 1);
	}
	lap_end(&lap, "the same, 16 named ahead");
	mvcc_result_release(&result);
	mvcc_fetch_release(&fetch);
}

static void read_ranges(struct bench *b, struct rig *rig)
{
	size_t n = b->n / 100, most = b->n - RANGE_KEYS + 1;
	uint8_t from[NAME_LEN], end[NAME_LEN];
	struct mvcc_read read = { 0 };
	struct mvcc_result result;
	struct mvcc_fetch fetch;
	struct lap lap;

	mvcc_result_init(&result);
	mvcc_fetch_init(&fetch);
	lap = lap_begin(n * RANGE_KEYS);
	for (size_t i = 0; i < n; i++) {
		size_t at = b->order[i] % most;

		lap_tick(&lap, i * RANGE_KEYS);
		read.range.key = key_name(from, at);
		read.range.end = key_name(end, at + RANGE_KEYS);
		must(mvcc_range(rig->store, &read, &fetch, &result), "mvcc_range");
		BUG_ON(result.n != RANGE_KEYS);
	}
	lap_end(&lap, "range of 1,000 keys, cached: a key");
	lap = lap_begin(b->n);
	for (size_t i = 0; i < b->n; i++) {
		lap_tick(&lap, i);
		read.count_only = true;
		read.range.key = key_name(from, b->order[i] % 1000);
		read.range.end = key_name(end, b->n - b->order[i] % 1000);
		must(mvcc_range(rig->store, &read, &fetch, &result), "mvcc_range");
		BUG_ON((size_t)result.count + 2000 < b->n);
	}
	lap_end(&lap, "count of a range of nearly all keys");
	mvcc_result_release(&result);
	mvcc_fetch_release(&fetch);
}

static void bench_read(struct bench *b)
{
	struct rig rig;

	rig_open_mem(&rig, EVERYTHING);
	rig_puts(&rig, b, NULL);
	order_turn(b);
	read_points(b, &rig, b->n, "read of one key, cached");
	order_turn(b);
	read_points_ahead(b, &rig);
	read_points(b, &rig, MIN(b->n, (size_t)HOT_KEYS), "read of one of 1,000 hot keys");
	read_ranges(b, &rig);
	rig_close(&rig);
}

/* --- what a key costs in memory ------------------------------------------- */

static void index_bytes(size_t n, const uint32_t *order)
{
	double before = allocated();
	uint8_t name[NAME_LEN];
	struct index index;
	char title[80];

	must(index_init(&index), "index_init");
	for (size_t i = 0; i < n; i++) {
		struct slice s = key_name(name, order ? order[i] : i);
		struct index_path path;
		struct key *key = index_seek(&index, s, &path);

		BUG_ON(key);
		key = key_new(s);
		BUG_ON(!key);
		must(key_push(key, (int64_t)i + 2, 0, 1, 1), "key_push");
		must(index_insert(&index, &path, key), "index_insert");
	}
	snprintf(title, sizeof(title), "index, %zu keys %s", n, order ? "in any order" :
		 "in order");
	print_bytes(title, (allocated() - before) / (double)n - NAME_LEN,
		    "bytes a key beside its name");
	index_release(&index);
}

/* All that a store has given out by malloc, and what lies idle in between. */
static void store_bytes(struct bench *b, size_t rounds)
{
	struct mvcc_stats stats;
	struct mallinfo2 m;
	char title[80];
	double before;
	struct rig rig;

	rig_open_mem(&rig, 0);
	before = allocated();
	for (size_t i = 0; i < rounds; i++) {
		rig_puts(&rig, b, NULL);
		order_turn(b);
	}
	mvcc_stats(rig.store, &stats);
	m = mallinfo2();
	snprintf(title, sizeof(title), "store, every key put %zu times, not compacted", rounds);
	print_bytes(title, (allocated() - before) / 1e6, "MB");
	print_bytes("  of that: values in the cache of 64 MiB", (double)stats.cache_bytes / 1e6,
		    "MB");
	print_bytes("  beside it: free within malloc", (double)m.fordblks / 1e6, "MB");
	rig_close(&rig);
}

static void bench_memory(struct bench *b)
{
	store_bytes(b, 1);
	store_bytes(b, 3);
}

static void bench_index(struct bench *b)
{
	index_bytes(b->n, NULL);
	index_bytes(b->n, b->order);
}

/* --- watching ------------------------------------------------------------- */

enum watch_shape { WATCH_KEYS, WATCH_ONE_KEY, WATCH_RANGES, N_WATCH_SHAPES };

static struct mvcc_key_range watch_range(enum watch_shape shape, size_t i, uint8_t *from,
					 uint8_t *end)
{
	struct mvcc_key_range range = { .key = key_name(from, shape == WATCH_ONE_KEY ? 7 : i) };

	if (shape == WATCH_RANGES)
		range.end = key_name(end, i + 10);
	return range;
}

static void watch_puts(struct rig *rig, const struct bench *b, const char *title)
{
	uint8_t name[NAME_LEN];
	struct lap lap = lap_begin(b->n);

	for (size_t i = 0; i < b->n; i++) {
		lap_tick(&lap, i);
		key_name(name, i % 1000);
		memcpy(name, "/elsewhere", 10);
		rig_put(rig, slice_of(name, NAME_LEN), slice_of(b->value, VALUE_LEN));
	}
	lap_end(&lap, title);
}

static void watch_shape(struct bench *b, enum watch_shape shape, const char *title)
{
	struct mvcc_watcher **watchers = calloc(b->n, sizeof(struct mvcc_watcher *));
	size_t names = shape == WATCH_KEYS ? NAME_LEN : shape == WATCH_RANGES ? 2 * NAME_LEN : 0;
	uint8_t from[NAME_LEN], end[NAME_LEN];
	struct rig rig;
	double before;
	struct lap lap;
	char line[80];

	BUG_ON(!watchers);
	rig_open_mem(&rig, 0);
	before = allocated();
	lap = lap_begin(b->n);
	for (size_t i = 0; i < b->n; i++) {
		const struct mvcc_watch_args args = {
			.range = watch_range(shape, b->order[i], from, end),
		};

		must(mvcc_watch(rig.store, &args, &watchers[i]), "mvcc_watch");
	}
	snprintf(line, sizeof(line), "watch %s: begin", title);
	lap_end(&lap, line);
	snprintf(line, sizeof(line), "watch %s: memory", title);
	print_bytes(line, (allocated() - before) / (double)b->n - (double)names,
		    "bytes a watcher beside its names");
	snprintf(line, sizeof(line), "put elsewhere, watched %s", title);
	watch_puts(&rig, b, line);
	lap = lap_begin(b->n);
	for (size_t i = 0; i < b->n; i++)
		mvcc_unwatch(rig.store, watchers[i]);
	snprintf(line, sizeof(line), "watch %s: end", title);
	lap_end(&lap, line);
	rig_close(&rig);
	free(watchers);
}

static void bench_watch(struct bench *b)
{
	static const char *const titles[N_WATCH_SHAPES] = {
		"on as many keys", "on one key", "on as many ranges",
	};
	struct rig rig;

	rig_open_mem(&rig, 0);
	watch_puts(&rig, b, "put elsewhere, no watchers");
	rig_close(&rig);
	for (int shape = 0; shape < N_WATCH_SHAPES; shape++)
		watch_shape(b, (enum watch_shape)shape, titles[shape]);
}

/* --- Berkeley DB below it ------------------------------------------------- */

static void bench_disk(struct bench *b)
{
	struct rig rig;

	rig_open_bdb(&rig, b->dir);
	rig_open_store(&rig, 0);
	rig_puts(&rig, b, "put with Berkeley DB: new keys");
	order_turn(b);
	rig_puts(&rig, b, "put with Berkeley DB: overwrite");
	rig_close(&rig);
}

static int no_op(void *arg, const struct mvcc_stored *stored)
{
	return 0;
}

static void bench_open(struct bench *b)
{
	double before;
	struct rig rig;
	struct lap lap;

	rig_open_bdb(&rig, b->dir);
	rig_open_store(&rig, 0);
	rig_puts(&rig, b, NULL);
	rig_close(&rig);
	lap = lap_begin(1);
	rig_open_bdb(&rig, b->dir);
	lap_end(&lap, "open Berkeley DB alone: the whole");
	lap = lap_begin(b->n);
	must(mvcc_backend_each(rig.backend, no_op, NULL), "mvcc_backend_each");
	lap_end(&lap, "read every record: a record");
	before = allocated();
	lap = lap_begin(b->n);
	rig_open_store(&rig, 0);
	lap_end(&lap, "open the store: a key");
	print_bytes("open the store: memory", (allocated() - before) / (double)b->n - NAME_LEN,
		    "bytes a key beside its name");
	rig_close(&rig);
}

/* --- the table ------------------------------------------------------------ */

static const struct {
	const char *name;
	void (*run)(struct bench *b);
} rows[] = {
	{ "limits", bench_limits },
	{ "apply", bench_apply },
	{ "read", bench_read },
	{ "index", bench_index },
	{ "memory", bench_memory },
	{ "watch", bench_watch },
	{ "bdb", bench_bdb },
	{ "disk", bench_disk },
	{ "open", bench_open },
};

/* Rows write plain files only. */
static void dir_clear(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *e;

	BUG_ON(!dir);
	while ((e = readdir(dir)))
		if (e->d_name[0] != '.')
			must(unlinkat(dirfd(dir), e->d_name, 0), e->d_name);
	closedir(dir);
}

static bool wanted(const char *name, char **names)
{
	if (!*names)
		return true;
	for (; *names; names++)
		if (!strcmp(*names, name))
			return true;
	return false;
}

/* On one processor from the first row to the last. */
static void pin(void)
{
	cpu_set_t all, one;

	CPU_ZERO(&one);
	must(sched_getaffinity(0, sizeof(all), &all), "sched_getaffinity");
	for (size_t i = CPU_SETSIZE; i-- > 0;) {
		if (CPU_ISSET(i, &all)) {
			CPU_SET(i, &one);
			break;
		}
	}
	must(sched_setaffinity(0, sizeof(one), &one), "sched_setaffinity");
}

static int usage(void)
{
	fprintf(stderr, "usage: mvcc_bench [-n KEYS] [-d DIR] [ROW...]\nrows:");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		fprintf(stderr, " %s", rows[i].name);
	fprintf(stderr, "\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct bench b = { .n = 1000000 };
	const char *tmp = getenv("TMPDIR");
	char dir[256];
	int opt;

	while ((opt = getopt(argc, argv, "n:d:")) != -1) {
		if (opt == 'n')
			b.n = strtoull(optarg, NULL, 10);
		else if (opt == 'd')
			tmp = optarg;
		else
			return usage();
	}
	if (b.n < 1000 || b.n > UINT32_MAX)
		return usage();
	snprintf(dir, sizeof(dir), "%s/mvcc_bench.XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir)) {
		perror(dir);
		return 1;
	}
	pin();
	b.dir = dir;
	memset(b.value, 'v', VALUE_LEN);
	printf("%-48s %11s %9s %9s %9s\n", "", "a second", "ns", "ns of CPU", "of wall");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (!wanted(rows[i].name, argv + optind))
			continue;
		order_make(&b);
		rows[i].run(&b);
		dir_clear(dir);
		free(b.order);
	}
	rmdir(dir);
	return 0;
}
