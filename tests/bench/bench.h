/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of mvcc_bench share: laps, the table, and the keys. */
#ifndef TESTS_BENCH_H
#define TESTS_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/bug.h"
#include "include/slice.h"

#define NAME_LEN 32
#define VALUE_LEN 256
#define BATCH 10000			/* changes in one transaction of the disk */

struct bench {
	size_t n;			/* keys */
	const char *dir;		/* for what goes to disk; empty when a row begins */
	uint32_t *order;		/* a permutation of the keys */
	uint8_t value[VALUE_LEN];
};

#define TICKS 50

/*
 * A measured loop: time of the wall and of the processor (user and system), in
 * seconds; and when each fiftieth of it began, to find the quietest ones.
 */
struct lap {
	double wall, cpu;
	size_t ops, n_ticks;
	double ticks[TICKS + 2];
};

struct lap lap_begin(size_t ops);
void lap_mark(struct lap *lap);
/* Prints one line of the table: all operations took from lap_begin() until now. */
void lap_end(struct lap *lap, const char *title);
/* Prints one line: a figure that is not a time. */
void print_bytes(const char *title, double bytes, const char *unit);

/* At the head of the loop: the i-th operation begins. */
static inline void lap_tick(struct lap *lap, size_t i)
{
	if (lap->ops >= TICKS && i % (lap->ops / TICKS) == 0)
		lap_mark(lap);
}

/* Ends the program where @result is no success. */
void must(int result, const char *what);

/* The name of the i-th key in order; and of the i-th in the order of the run. */
struct slice key_name(uint8_t buf[NAME_LEN], size_t i);
struct slice key_mixed(const struct bench *b, uint8_t buf[NAME_LEN], size_t i);
uint64_t bench_random(uint64_t *state);

/* The machine's own limits: tests/bench/mvcc_bench_limits.c */
void bench_limits(struct bench *b);
void bench_bdb(struct bench *b);

#endif
