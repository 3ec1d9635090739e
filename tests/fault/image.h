/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk that loses power. Replays a trace of shim.c up to some record and makes the
 * directory that the machine could come up with again.
 *
 * What is sure: a file's writes before its last fsync, and the names made, changed
 * and removed before the last fsync of their directory. Of what came later, each
 * sector is there or not, whatever the order of the writes; of the names, as file
 * systems with a journal have it, the first few changes are there and the rest not.
 *
 *	image_open(trace)
 *	while (...) {
 *		image_advance(image, upto);		only ever forward
 *		image_cut(image, seed, dir);		as often as one likes
 *	}
 */
#ifndef FAULT_IMAGE_H
#define FAULT_IMAGE_H

#include "tests/fault/shim.h"

struct image;

/* What survives of that which was not synced. */
enum cut_mode {
	CUT_NONE,		/* nothing */
	CUT_PREFIX,		/* the first few writes, the last one of them torn */
	CUT_SECTORS,		/* some sectors of 512 bytes */
	CUT_BLOCKS,		/* some blocks of 4 KiB */
	CUT_LOSE_ONE,		/* all but one write */
	CUT_KILL,		/* all: the process ended, the machine did not */
	CUT_MODES,
};

struct cut {
	enum cut_mode mode;
	uint64_t seed;
	const char *dir;	/* exists, and is emptied */
};

int image_open(const char *trace, struct image **out);
void image_close(struct image *image);
/* How many records the trace has. */
size_t image_records(const struct image *image);
/* The n-th, with its data. */
const struct trace_head *image_record(const struct image *image, size_t n, const void **data);
/* Replays up to and not including record @upto. */
void image_advance(struct image *image, size_t upto);
/* How many bytes and names are not sure at this point. */
uint64_t image_volatile(const struct image *image);
/* Makes the directory. Negative errno. */
int image_cut(const struct image *image, const struct cut *cut);

/* Removes what is in a directory, or the directory too. */
int remove_below(const char *dir, bool itself);

/* splitmix64: the next number of the sequence in *@state */
uint64_t random_next(uint64_t *state);

#endif
