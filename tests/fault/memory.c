// SPDX-License-Identifier: Apache-2.0
/*
 * The n-th allocation fails.
 *
 *	memory [STRIDE [SEED]]
 *
 * Carries out a history, with reads, watchers and hashes after every batch, again and
 * again, in a process of its own, and each time lets a later allocation fail, of
 * libmvcc's or of Berkeley DB's, once or for good, until a run meets no failure any
 * more. The store must say -ENOMEM, or not have needed it; and what is on disk must
 * open again and be right. In memory, all that was allocated must be free at the end,
 * which the leak sanitizer sees.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "include/bug.h"
#include "tests/fault/image.h"
#include "tests/fault/model.h"

#define BATCHES 16
#define STRIDE_DEFAULT 499

/* --- allocation ----------------------------------------------------------- */

static struct {
	bool counts, sticky;
	long calls, at;			/* which one fails; 0: none */
} heap;

static bool fails(void)
{
	if (!heap.counts)
		return false;
	heap.calls++;
	return heap.at && (heap.sticky ? heap.calls >= heap.at : heap.calls == heap.at);
}

/* The linker has all calls of libmvcc come here (--wrap), and it has those of Berkeley DB. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *s);

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return fails() ? NULL : __real_realloc(p, size);
}

char *__wrap_strdup(const char *s)
{
	char *p = __wrap_malloc(strlen(s) + 1);

	if (p)
		memcpy(p, s, strlen(s) + 1);
	return p;
}

/* --- what is done after each batch ----------------------------------------- */

static int look(struct session *s, const struct mvcc_read *read)
{
	struct mvcc_result result;
	struct mvcc_fetch fetch;
	int r;

	mvcc_fetch_init(&fetch);
	mvcc_result_init(&result);
	while ((r = mvcc_range(s->store, read, &fetch, &result)) == MVCC_COLD)
		if ((r = mvcc_backend_fetch(s->backend, &fetch)))
			break;
	mvcc_result_release(&result);
	mvcc_fetch_release(&fetch);
	return r;
}

static int look_in_all_ways(struct session *s)
{
	struct mvcc_read read = { .range = { SLICE_LIT("k"), SLICE_LIT("\0") } };
	int r = 0;

	for (int target = MVCC_SORT_KEY; target <= MVCC_SORT_VALUE && !r; target++) {
		read.sort_order = MVCC_SORT_DESCEND;
		read.sort_target = (enum mvcc_sort_target)target;
		read.keys_only = target % 2;
		read.limit = target * 5;
		r = look(s, &read);
	}
	read = (struct mvcc_read){ .range = read.range, .count_only = true };
	if (!r)
		r = look(s, &read);
	read = (struct mvcc_read){ .range = read.range, .min_mod_revision = 3 };
	return r ? r : look(s, &read);
}

static int follow(struct session *s, struct mvcc_watcher *w)
{
	struct mvcc_events ev;
	struct mvcc_fetch fetch;
	int r;

	mvcc_fetch_init(&fetch);
	mvcc_events_init(&ev);
	do {
		r = mvcc_watch_next(s->store, w, 20, &fetch, &ev);
		if (r == MVCC_COLD && !(r = mvcc_backend_fetch(s->backend, &fetch)))
			continue;
		if (r)
			break;
		mvcc_fetch_release(&fetch);
	} while (r || ev.n);
	mvcc_events_release(&ev);
	mvcc_fetch_release(&fetch);
	return MIN(r, 0);
}

static int watch(struct session *s, bool one_key)
{
	struct mvcc_watch_args args = {
		.range = { SLICE_LIT("k"), SLICE_LIT("\0") }, .prev_kv = true,
		.start_revision = MAX(mvcc_compact_revision(s->store), (int64_t)0) + 1,
	};
	struct mvcc_watcher *w;
	int r;

	if (one_key)
		args.range = (struct mvcc_key_range){ .key = SLICE_LIT("k00xxxxxxxxx") };
	r = mvcc_watch(s->store, &args, &w);
	if (r)
		return r;
	mvcc_watch_ready(s->store);
	r = follow(s, w);
	mvcc_unwatch(s->store, w);
	return r;
}

static void unheard(void *arg, struct slice bytes)
{
}

static int hash(struct session *s)
{
	struct mvcc_hash hash;
	int r = mvcc_hash_begin(s->store, 0, &hash);

	while (!r && (r = mvcc_hash_step(s->store, &hash, 10)) > 0)
		r = 0;
	while (!r && (r = mvcc_backend_hash(s->backend, &hash, 4096, unheard, NULL)) > 0)
		r = 0;
	mvcc_hash_release(&hash);
	return r;
}

static int nothing(void *arg, struct slice key, struct slice value)
{
	return 0;
}

static int after_batch(struct session *s, size_t batch)
{
	int r = look_in_all_ways(s);

	if (!r)
		r = watch(s, false);
	if (!r)
		r = watch(s, true);
	if (!r)
		r = hash(s);
	return r ? r : mvcc_record_each(s->store, "lease", nothing, NULL);
}

/* --- the loop -------------------------------------------------------------- */

struct test {
	struct model *model;
	char dir[PATH_MAX];
	bool disk;
	long at;
	bool sticky;
	struct { struct progress progress; long calls; int error; } *seen;
	unsigned long points, passed, failed, said, crashed;
};

static void run(void *arg)
{
	struct test *t = arg;
	struct session s = {
		.trace = -1, .progress = &t->seen->progress, .after_batch = after_batch,
	};
	int r;

	heap.at = t->at;
	heap.sticky = t->sticky;
	heap.counts = true;
	r = session_open(&s, t->model, t->disk ? t->dir : NULL);
	if (!r)
		r = model_run(&s, 0, BATCHES);
	heap.counts = false;
	t->seen->calls = heap.calls;
	t->seen->error = r;
	/* a store on disk is not closed after an error */
	if (r && t->disk)
		_exit(0);
	session_close(&s);
}

static bool right_on_disk(struct test *t, struct verdict *v)
{
	const struct progress *p = &t->seen->progress;

	if (!t->disk)
		return true;
	verify(t->model, t->dir, true, v);
	return v->kind == RIGHT && v->batch >= p->synced && v->batch <= p->started;
}

static void try(struct test *t)
{
	const struct progress *p = &t->seen->progress;
	struct verdict v = { 0 };
	int status;

	BUG_ON(remove_below(t->dir, false));
	memset(t->seen, 0, sizeof(*t->seen));
	status = in_child(run, t);
	t->said += t->seen->error != 0;
	/* Berkeley DB itself, where it cannot make an environment or know a new file: an end
	 * like any other, as long as the disk is right */
	if (t->disk && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) {
		t->crashed++;
		status = 0;
	}
	if (!status && (!t->seen->error || t->seen->error == -ENOMEM) && right_on_disk(t, &v)) {
		t->passed++;
		return;
	}
	t->failed++;
	printf("# %s, allocation %ld%s: status %#x, error %d while %s (%s); %s\n",
	       t->disk ? "on disk" : "in memory", t->at, t->sticky ? " and all later ones" : "",
	       status, t->seen->error, p->what, p->why, v.text);
}

static void try_all(struct test *t, long stride, uint64_t *random)
{
	unsigned long before = t->points;

	for (t->at = 1 + (long)(random_next(random) % (uint64_t)stride); ; t->at += stride) {
		try(t);
		/* the failure was not met, and nothing else went wrong */
		if (t->seen->calls && t->seen->calls < t->at && !t->seen->error)
			break;
		t->points++;
		BUG_ON(t->at > 10000000);
	}
	printf("# %s, %s: %lu points\n", t->disk ? "on disk" : "in memory",
	       t->sticky ? "for good" : "once", t->points - before);
}

int main(int argc, char **argv)
{
	long stride = argc > 1 ? strtol(argv[1], NULL, 10) : STRIDE_DEFAULT;
	uint64_t random = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
	struct test t = { .model = model_new(random, BATCHES) };

	t.seen = shared_memory(sizeof(*t.seen));
	snprintf(t.dir, sizeof(t.dir), "%s/store", test_dir());
	BUG_ON(mkdir(t.dir, 0700));
	for (int i = 0; i < 4; i++) {
		t.disk = i / 2;
		t.sticky = i % 2;
		try_all(&t, stride, &random);
	}
	printf("# %lu points, %lu times the store said so; %lu times Berkeley DB "
	       "crashed\n", t.points, t.said, t.crashed);
	model_free(t.model);
	munmap(t.seen, sizeof(*t.seen));
	printf("%lu passed, %lu failed\n", t.passed, t.failed);
	return t.failed != 0;
}
