// SPDX-License-Identifier: Apache-2.0
/*
 * The n-th call that touches a file fails, or is the last one.
 *
 *	error [STRIDE [SEED [FIRST]]]
 *
 * For every kind of call and of failure, at each point of a history; see points.h. No
 * sync may succeed after one has failed.
 */
#include <errno.h>
#include <sys/wait.h>

#include "include/bug.h"
#include "tests/fault/points.h"
#include "tests/fault/shim.h"

#define BATCHES 24
#define STRIDE 61

#define CHANGES (SHIM_WRITE | SHIM_OPEN | SHIM_RENAME)

/* The classes: of each of which it can be. */
static const struct { const char *name; struct shim_fault fault; } kinds[] = {
	{ "EIO once", { SHIM_ALL, .what = SHIM_FAIL, .error = EIO } },
	{ "EIO from then on", { SHIM_ALL, .what = SHIM_FAIL, .error = EIO, .sticky = true } },
	{ "ENOSPC once", { CHANGES, .what = SHIM_FAIL, .error = ENOSPC } },
	{ "ENOSPC from then on", { CHANGES, .what = SHIM_FAIL, .error = ENOSPC, .sticky = true } },
	{ "half a write", { SHIM_WRITE, .what = SHIM_SHORT } },
	{ "half writes from then on", { SHIM_WRITE, .what = SHIM_SHORT, .sticky = true } },
	{ "the end", { SHIM_ALL, .what = SHIM_EXIT } },
};

static const struct { unsigned int class; const char *name; } classes[] = {
	{ SHIM_READ, "read" }, { SHIM_WRITE, "write" }, { SHIM_SYNC, "sync" },
	{ SHIM_OPEN, "open" }, { SHIM_RENAME, "rename" }, { SHIM_UNLINK, "unlink" },
	{ SHIM_TRUNCATE, "truncate" },
};

static void begin(struct attempt *a)
{
	struct shim_fault fault = *(const struct shim_fault *)a->kind->fault;

	fault.at = a->at;
	shim_begin(a->dir, &fault);
}

/* After a sync has failed, what it should have made durable may be lost for good. */
static int after_batch(struct session *s, size_t batch)
{
	struct attempt *a = s->owner;
	const struct shim_fault *f = a->kind->fault;

	if (f->what == SHIM_FAIL && f->classes == SHIM_SYNC && shim_failed() &&
	    model_boundary(s->model, batch)->sync)
		snprintf(a->trace->wrong, sizeof(a->trace->wrong),
			 "a sync succeeded after one had failed");
	return 0;
}

static void end(struct attempt *a)
{
	a->trace->met = shim_failed();
	if (a->trace->met)
		snprintf(a->trace->which, sizeof(a->trace->which), "%s", shim_which());
}

static bool ends_well(const struct attempt *a, int status)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == SHIM_EXIT_STATUS;
}

int main(int argc, char **argv)
{
	struct points points = {
		.batches = BATCHES, .stride = STRIDE, .begin = begin, .end = end,
		.after_batch = after_batch, .ends_well = ends_well,
	};

	points_begin(&points, argc, argv);
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		printf("# %s:", kinds[k].name);
		for (size_t c = 0; c < ARRAY_SIZE(classes); c++) {
			struct shim_fault fault = kinds[k].fault;
			const struct fault_kind kind = { kinds[k].name, .fault = &fault };

			fault.classes &= classes[c].class;
			if (fault.classes)
				printf(" %s %lu", classes[c].name, points_try(&points, &kind));
		}
		printf("\n");
	}
	return points_end(&points);
}
