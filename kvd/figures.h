/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a member counts of itself, in etcd's terms: metrics.c says it to Prometheus.
 * Belongs to the loop's thread.
 *
 * A histogram is of one of a few shapes, all of which double from bound to bound; who
 * adds to it and who prints it name the same one.
 */
#ifndef KVD_FIGURES_H
#define KVD_FIGURES_H

#include "kvd/request.h"

/* The unit of what is added, then that of what is printed. */
enum histogram_shape {
	HISTOGRAM_SECONDS,		/* ns; 1 ms to 8.192 s */
	HISTOGRAM_SECONDS_APPLY,	/* ns; 100 us to 52 s */
	HISTOGRAM_SECONDS_HASH,		/* ns; 10 ms to 164 s */
	HISTOGRAM_SECONDS_DEFRAG,	/* ns; 100 ms to 410 s */
	HISTOGRAM_MS_PAUSE,		/* ns, milliseconds; 0.5 ms to 4 s */
	HISTOGRAM_MS_TOTAL,		/* ns, milliseconds; 100 ms to 819 s */
	HISTOGRAM_TTL,			/* seconds; 1 s to 97 days */
};

#define HISTOGRAM_BOUNDS_MAX 24

struct histogram {
	uint64_t counts[HISTOGRAM_BOUNDS_MAX + 1];	/* the last: longer than all bounds */
	uint64_t sum;
};

struct histogram_bounds {
	uint64_t first;			/* the upper bound of the first, which is in it */
	size_t n;
	double unit;			/* what is added in one of what is printed */
};

extern const struct histogram_bounds histogram_bounds[];

void histogram_add(struct histogram *h, enum histogram_shape shape, uint64_t value);
uint64_t histogram_count(const struct histogram *h);

struct figures {
	/* what is done to the keys, here and on behalf of the other members */
	uint64_t ranges, puts, deletes, txns;	/* txns: with more than one operation */
	uint64_t put_bytes, events;
	uint64_t leases_granted, leases_revoked, leases_renewed, leases_expired;
	struct histogram lease_ttls;

	uint64_t compacted_revisions, compaction_ended;	/* when: the loop's clock; 0 never */
	struct histogram compaction_pauses, compactions;
	struct histogram hashes, key_hashes, defrags;
	bool defragmenting;

	uint64_t slow_applies, failed_reads, health_good, health_bad;

	/* by what they were and whether they succeeded */
	struct histogram applies[REQUEST_OPS][2], requests[REQUEST_OPS][2];
	struct histogram range_times[2];	/* of reading alone */
};

/* Counts the operations of a request that was carried out. */
void figures_count_result(struct figures *f, const struct op_result *result);
/* How long it took, and whether it succeeded: as in etcd, a request that went through the
 * log did so where it was applied, whatever the answer was. */
void figures_count_request(struct figures *f, const struct request *request, uint64_t ns);
void figures_count_range(struct figures *f, const struct request *request, uint64_t ns);
void figures_count_apply(struct figures *f, const struct request *request, uint64_t ns);
/* etcd's word for it; NULL: it is not counted. */
const char *figures_op_name(enum request_op op);

#endif
