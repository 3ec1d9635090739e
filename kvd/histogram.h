/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long something took, counted in etcd's buckets: up to 1 ms, 2 ms, 4 ms ... 8.192 s,
 * and longer. Belongs to one thread.
 */
#ifndef KVD_HISTOGRAM_H
#define KVD_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_BOUNDS 14

struct histogram {
	uint64_t counts[HISTOGRAM_BOUNDS + 1];	/* the last one: longer than all bounds */
	uint64_t sum;				/* nanoseconds */
};

/* The i-th upper bound in nanoseconds; it belongs to its bucket. */
static inline uint64_t histogram_bound(size_t i)
{
	return UINT64_C(1000000) << i;
}

static inline void histogram_add(struct histogram *h, uint64_t ns)
{
	size_t i = 0;

	while (i < HISTOGRAM_BOUNDS && ns > histogram_bound(i))
		i++;
	h->counts[i]++;
	h->sum += ns;
}

#endif
