/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_BENCH_WITNESS_H
#define TESTS_BENCH_WITNESS_H
/*
 * When the machine itself stood still.
 *
 * A virtual machine's processors are taken from it at times, for milliseconds, also
 * when they are idle and are to wake. A thread on each of them, before which no other
 * comes (SCHED_FIFO), asks to be woken every half a millisecond and notes by how much
 * that was late: what is measured at that time says nothing of the program measured.
 */
#include <stdbool.h>
#include <stdint.h>

/* False: no thread may come before all others here (it takes CAP_SYS_NICE). */
bool witness_start(void);

/* Whether a processor stood still for a millisecond within @from to @to, of uv_hrtime(). */
bool witness_late(uint64_t from, uint64_t to);

/* By how much the latest was late since the last call, in nanoseconds. */
uint64_t witness_latest(void);

#endif
