// SPDX-License-Identifier: Apache-2.0
/*
 * The n-th call that touches a file fails, or is the last one.
 *
 *	error [STRIDE [SEED]]
 *
 * Carries out a history on a store on disk again and again, in a process of its own,
 * and each time lets a later call fail, for every kind of call and of failure, until
 * a run meets no failure any more; with a STRIDE, only every so many calls. The first
 * error that the store reports ends the process without closing anything, as kvd does;
 * then the store is opened with a disk that works. All up to the last sync must be
 * there, the whole must be as after some batch, and the rest of the history can be
 * carried out on it.
 */
#include <errno.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "include/bug.h"
#include "tests/fault/image.h"
#include "tests/fault/model.h"
#include "tests/fault/shim.h"

#define BATCHES 40
#define STRIDE_DEFAULT 61

struct kind {
	const char *name;
	enum shim_what what;
	int error;
	bool sticky;
	unsigned int classes;		/* of each of which it can be */
};

#define CHANGES (SHIM_WRITE | SHIM_OPEN | SHIM_RENAME)

static const struct kind kinds[] = {
	{ "EIO once", SHIM_FAIL, EIO, false, SHIM_ALL },
	{ "EIO from then on", SHIM_FAIL, EIO, true, SHIM_ALL },
	{ "ENOSPC once", SHIM_FAIL, ENOSPC, false, CHANGES },
	{ "ENOSPC from then on", SHIM_FAIL, ENOSPC, true, CHANGES },
	{ "half a write", SHIM_SHORT, 0, false, SHIM_WRITE },
	{ "half writes from then on", SHIM_SHORT, 0, true, SHIM_WRITE },
	{ "the end", SHIM_EXIT, 0, false, SHIM_ALL },
};

static const struct { unsigned int class; const char *name; } classes[] = {
	{ SHIM_READ, "read" }, { SHIM_WRITE, "write" }, { SHIM_SYNC, "sync" },
	{ SHIM_OPEN, "open" }, { SHIM_RENAME, "rename" }, { SHIM_UNLINK, "unlink" },
	{ SHIM_TRUNCATE, "truncate" },
};

/* What the process that is hit leaves behind. */
struct trace {
	struct progress progress;
	long calls, failed;
	char which[256];
	bool believed;			/* a sync succeeded after one had failed */
};

struct test {
	struct model *model;
	char dir[PATH_MAX];
	struct shim_fault fault;
	struct trace *trace;
	unsigned long points, passed, failed, reported;
};

static struct trace *hit;

/* After a sync has failed, what it should have made durable may be lost for good. */
static int after_batch(struct session *s, size_t batch)
{
	hit->believed |= hit->failed < 0 && model_boundary(s->model, batch)->sync &&
			 shim_failed();
	return 0;
}

static void run(void *arg)
{
	struct test *t = arg;
	struct session s = {
		.trace = -1, .progress = &t->trace->progress, .after_batch = after_batch,
	};
	int r;

	hit = t->trace;
	/* below zero: a sync is to fail */
	hit->failed = t->fault.what == SHIM_FAIL && t->fault.classes == SHIM_SYNC ? -1 : 0;
	shim_begin(t->dir, &t->fault);
	r = session_open(&s, t->model, t->dir);
	if (!r)
		r = model_run(&s, 0, BATCHES);
	if (!r)
		session_close(&s);
	hit->calls = shim_calls();
	hit->failed = shim_failed();
	snprintf(hit->which, sizeof(hit->which), "%s", shim_which());
	_exit(0);
}

static bool complain(const struct test *t, const struct kind *kind, const struct verdict *v)
{
	const struct progress *p = &t->trace->progress;

	printf("# %s at call %ld (%s): %s after batch %zu, synced %zu, started %zu: %s; "
	       "the run said %d while %s (%s)\n", kind->name, t->fault.at, t->trace->which,
	       v->kind == REFUSED ? "refused" : "wrong", v->batch, p->synced, p->started, v->text,
	       p->error, p->what, p->why);
	return false;
}

/* One run with a fault, and what came of it. */
static bool try(struct test *t, const struct kind *kind)
{
	const struct progress *p = &t->trace->progress;
	struct verdict v;
	int status;

	BUG_ON(remove_below(t->dir, false));
	memset(t->trace, 0, sizeof(*t->trace));
	status = in_child(run, t);
	if (status && !(WIFEXITED(status) && WEXITSTATUS(status) == SHIM_EXIT_STATUS)) {
		v = (struct verdict){ .kind = WRONG };
		snprintf(v.text, sizeof(v.text), "crashed with status %#x", status);
		return complain(t, kind, &v);
	}
	t->reported += p->error != 0;
	verify(t->model, t->dir, true, &v);
	if (v.kind != RIGHT || v.batch < p->synced || v.batch > p->started)
		return complain(t, kind, &v);
	snprintf(v.text, sizeof(v.text), "a sync succeeded after one had failed");
	return !t->trace->believed || complain(t, kind, &v);
}

/* Whether the run got as far as the fault. */
static bool was_hit(const struct test *t)
{
	return t->fault.what == SHIM_EXIT ? !t->trace->calls : t->trace->failed;
}

static void try_all(struct test *t, const struct kind *kind, unsigned int class, long stride,
		    uint64_t *random)
{
	t->fault = (struct shim_fault){
		.classes = class, .sticky = kind->sticky, .what = kind->what,
		.error = kind->error,
	};
	t->fault.at = 1 + (long)(random_next(random) % (uint64_t)stride);
	for (;; t->fault.at += stride) {
		bool good = try(t, kind);

		t->passed += good;
		t->failed += !good;
		if (good && !was_hit(t))
			break;
		t->points++;
		BUG_ON(t->fault.at > 1000000);
	}
}

int main(int argc, char **argv)
{
	long stride = argc > 1 ? strtol(argv[1], NULL, 10) : STRIDE_DEFAULT;
	uint64_t random = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
	struct test t = { .model = model_new(random, BATCHES) };

	t.trace = shared_memory(sizeof(*t.trace));
	snprintf(t.dir, sizeof(t.dir), "%s/store", test_dir());
	BUG_ON(mkdir(t.dir, 0700));
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		printf("# %s:", kinds[k].name);
		for (size_t c = 0; c < ARRAY_SIZE(classes); c++) {
			unsigned long before = t.points;

			if (!(kinds[k].classes & classes[c].class))
				continue;
			try_all(&t, &kinds[k], classes[c].class, stride, &random);
			printf(" %s %lu", classes[c].name, t.points - before);
		}
		printf("\n");
	}
	printf("# %lu points, %lu times the store reported the error\n", t.points, t.reported);
	model_free(t.model);
	munmap(t.trace, sizeof(*t.trace));
	printf("%lu passed, %lu failed\n", t.passed, t.failed);
	return t.failed != 0;
}
