// SPDX-License-Identifier: Apache-2.0
/* A fault at each point of a history: see points.h. */
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "include/bug.h"
#include "tests/fault/image.h"
#include "tests/fault/points.h"

#define FAILED_MAX 20		/* of one kind; then there is no point in going on */
#define POINTS_MAX 10000000

void points_begin(struct points *p, int argc, char **argv)
{
	if (argc > 1)
		p->stride = strtol(argv[1], NULL, 10);
	BUG_ON(p->stride < 1);
	p->random = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
	p->first = argc > 3 ? strtol(argv[3], NULL, 10) : 0;
	p->model = model_new(p->random, p->batches);
	test_dir();
}

/* --- a run ----------------------------------------------------------------- */

static int after_batch(struct session *s, size_t batch)
{
	struct attempt *a = s->owner;
	const struct points *p = a->points;
	int r = looks_after(&a->looks, s, batch);

	return r || !p->after_batch ? r : p->after_batch(s, batch);
}

static void run(void *arg)
{
	struct attempt *a = arg;
	struct session s = {
		.trace = -1, .progress = &a->trace->progress, .after_batch = after_batch,
		.owner = a,
	};
	bool disk = !a->kind->in_memory;
	int r;

	a->looks = (struct looks){ .store = disk ? a->store : NULL, .copy = a->copy };
	a->points->begin(a);
	r = session_open(&s, a->points->model, a->looks.store);
	if (!r)
		r = model_run(&s, 0, a->points->batches);
	/* a store on disk is not closed after an error */
	if (!r || !disk) {
		s.progress->what = "closing";
		looks_end(&a->looks);
		session_close(&s);
	}
	a->points->end(a);
	a->trace->copied = a->looks.copied;
	/* Berkeley DB does not free all that it has where something failed */
	if (disk && (r || a->trace->met))
		_exit(0);
}

/* --- what came of it -------------------------------------------------------- */

__printf(3, 4)
static bool complain(const struct attempt *a, const struct verdict *v, const char *format, ...)
{
	const struct trace *t = a->trace;
	const struct progress *p = &t->progress;
	char text[128];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	printf("# %s at %ld (%s): %s; %s; synced %zu, started %zu; the run said %d while %s (%s)\n",
	       a->kind->name, a->at, t->which, text, v->text, p->synced, p->started, p->error,
	       p->what, p->why);
	return false;
}

/* The copy is of one batch, and nothing that happened later may hurt it. */
static bool copy_right(const struct attempt *a, struct verdict *v)
{
	if (!a->trace->copied)
		return true;
	verify(a->points->model, a->copy, false, v);
	return v->kind == RIGHT && v->batch == a->trace->copied;
}

static bool judge(const struct attempt *a, int status)
{
	const struct trace *t = a->trace;
	const struct progress *p = &t->progress;
	struct verdict v = { 0 };

	if (status && !(a->points->ends_well && a->points->ends_well(a, status)))
		return complain(a, &v, "crashed with status %#x", status);
	if (t->wrong[0])
		return complain(a, &v, "%s", t->wrong);
	if (p->error && a->points->error && p->error != a->points->error)
		return complain(a, &v, "the error is another one");
	if (a->kind->in_memory)
		return true;
	verify(a->points->model, a->store, true, &v);
	if (v.kind != RIGHT || v.batch < p->synced || v.batch > p->started)
		return complain(a, &v, "%s after batch %zu",
				v.kind == REFUSED ? "refused" : "wrong", v.batch);
	return copy_right(a, &v) || complain(a, &v, "the copy of batch %zu is wrong", t->copied);
}

/* Whether there was a fault at all at this point. */
static bool try(struct attempt *a, struct tally *tally)
{
	int status;
	bool met;

	BUG_ON(remove_below(a->dir, false));
	BUG_ON(mkdir(a->store, 0700) || mkdir(a->copy, 0700));
	memset(a->trace, 0, sizeof(*a->trace));
	status = in_child(run, a);
	met = status || a->trace->met;
	tally->points += met;
	tally->failed += !judge(a, status);
	tally->said += a->trace->progress.error != 0;
	tally->excused += a->trace->excused;
	if (a->trace->excused)
		printf("# %s at %ld: crashed %s\n", a->kind->name, a->at, a->trace->which);
	fflush(stdout);
	return met;
}

/* --- all of them ------------------------------------------------------------ */

/* One of @workers: each takes every so-manieth point. */
static void work(const struct points *p, const struct fault_kind *kind, long first, long workers,
		 struct tally *tally)
{
	struct attempt a = { .points = p, .kind = kind, .at = first };

	a.trace = shared_memory(sizeof(*a.trace));
	snprintf(a.dir, sizeof(a.dir), "%s/%d", test_dir(), (int)getpid());
	snprintf(a.store, sizeof(a.store), "%s/store", a.dir);
	snprintf(a.copy, sizeof(a.copy), "%s/copy", a.dir);
	BUG_ON(mkdir(a.dir, 0700));
	while (try(&a, tally) && tally->failed < FAILED_MAX) {
		a.at += p->stride * workers;
		BUG_ON(a.at > POINTS_MAX);
	}
	remove_below(a.dir, true);
	munmap(a.trace, sizeof(*a.trace));
}

unsigned long points_try(struct points *p, const struct fault_kind *kind)
{
	long workers = sysconf(_SC_NPROCESSORS_ONLN);
	long at = 1 + (long)(random_next(&p->random) % (uint64_t)p->stride);
	struct tally *tallies = shared_memory((size_t)workers * sizeof(*tallies));
	unsigned long points = 0;
	int status;

	if (p->first)
		at = p->first;
	fflush(NULL);
	for (long i = 0; i < workers; i++) {
		pid_t pid = fork();

		BUG_ON(pid < 0);
		if (!pid) {
			work(p, kind, at + i * p->stride, workers, &tallies[i]);
			exit(0);
		}
	}
	while (wait(&status) > 0)
		p->sum.failed += status != 0;
	for (long i = 0; i < workers; i++) {
		points += tallies[i].points;
		p->sum.failed += tallies[i].failed;
		p->sum.said += tallies[i].said;
		p->sum.excused += tallies[i].excused;
	}
	p->sum.points += points;
	munmap(tallies, (size_t)workers * sizeof(*tallies));
	return points;
}

int points_end(struct points *p)
{
	const struct tally *s = &p->sum;

	printf("# %lu points, %lu times the store reported the error", s->points, s->said);
	if (s->excused)
		printf(", %lu times it crashed as above", s->excused);
	printf("\n%lu passed, %lu failed\n", s->points - MIN(s->points, s->failed), s->failed);
	model_free(p->model);
	return s->failed != 0;
}
