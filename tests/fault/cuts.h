/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cuts of power at points of a trace (image.h), of each kind in its turn, and what came
 * of them. Where all is durable there is nothing to lose, so most are where it is not.
 */
#ifndef FAULT_CUTS_H
#define FAULT_CUTS_H

#include "tests/fault/image.h"

struct cuts {
	/* the caller's */
	struct image *image;
	const char *dir;	/* which is made as the machine could find it */
	uint64_t random;
	/* A mark of the test's own that the trace passes. */
	void (*mark)(struct cuts *cuts, const void *data, size_t len);
	/* Whether what is in the directory is right; *@why says why not. */
	bool (*right)(struct cuts *cuts, char *why, size_t why_size);

	unsigned long made, unsure;	/* of all; of those that had something to lose */
	unsigned long passed[CUT_MODES], failed[CUT_MODES];
};

void cuts_make(struct cuts *cuts, size_t n);
/* Prints the sums; the number that failed. */
unsigned long cuts_end(const struct cuts *cuts);

#endif
