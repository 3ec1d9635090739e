/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fault at each point of a history, one after the other.
 *
 * The history is carried out on a store, in a process of its own, again and again; each
 * time a later call fails, the first one, the one STRIDE further, and so on, until a run
 * meets no failure any more. As many runs are under way as there are processors. The
 * first error that the store reports ends the process without closing anything, as kvd
 * does; then the store is opened where nothing fails. All up to the last sync must be
 * there, the whole must be as after some batch, and the rest of the history can be
 * carried out on it.
 *
 *	points_begin(&points, argc, argv);	[STRIDE [SEED [FIRST]]]
 *	for each kind of fault
 *		points_try(&points, &kind);
 *	return points_end(&points);
 */
#ifndef FAULT_POINTS_H
#define FAULT_POINTS_H

#include <limits.h>

#include "tests/fault/looks.h"

/* What a run leaves behind, in memory that is shared with it. */
struct trace {
	struct progress progress;
	long met;		/* how often the fault struck, as far as is known */
	char which[256];	/* and where first */
	char wrong[128];	/* what the run itself found wrong, or empty */
	bool excused;		/* it crashed where nobody here can help it: see which */
	size_t copied;		/* the batch that there is a whole backup of; 0: none */
};

struct fault_kind {
	const char *name;
	bool in_memory;		/* the store */
	const void *fault;	/* the caller's */
};

struct points;

/* One run. */
struct attempt {
	const struct points *points;
	const struct fault_kind *kind;
	long at;		/* the fault strikes at this call */
	char dir[PATH_MAX];	/* which has both of: */
	char store[PATH_MAX + 8], copy[PATH_MAX + 8];
	struct trace *trace;
	struct looks looks;
};

struct tally {
	unsigned long points, failed;
	unsigned long said;	/* the store reported the error */
	unsigned long excused;
};

struct points {
	/* the caller's */
	size_t batches;
	long stride;		/* unless argv says another */
	void (*begin)(struct attempt *attempt);	/* in the process of the run: from now on */
	void (*end)(struct attempt *attempt);	/* no more faults; says what was met */
	int (*after_batch)(struct session *s, size_t batch);	/* or NULL */
	bool (*ends_well)(const struct attempt *attempt, int status);	/* but with 0; or NULL */
	int error;		/* which alone may be reported; 0: any */

	struct model *model;
	uint64_t random;
	long first;		/* point; 0: one of the first STRIDE */
	struct tally sum;
};

void points_begin(struct points *points, int argc, char **argv);
/* The number of points that there were. */
unsigned long points_try(struct points *points, const struct fault_kind *kind);
/* Prints the sum; the status to exit with. */
int points_end(struct points *points);

#endif
