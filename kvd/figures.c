// SPDX-License-Identifier: Apache-2.0

#include "kvd/figures.h"

#define MS UINT64_C(1000000)
#define SLOW_APPLY (100 * MS)	/* etcd's --warning-apply-duration */

const struct histogram_bounds histogram_bounds[] = {
	[HISTOGRAM_SECONDS] = { MS, 14, 1e9 },
	[HISTOGRAM_SECONDS_APPLY] = { MS / 10, 20, 1e9 },
	[HISTOGRAM_SECONDS_HASH] = { 10 * MS, 15, 1e9 },
	[HISTOGRAM_SECONDS_DEFRAG] = { 100 * MS, 13, 1e9 },
	[HISTOGRAM_MS_PAUSE] = { MS / 2, 14, 1e6 },
	[HISTOGRAM_MS_TOTAL] = { 100 * MS, 14, 1e6 },
	[HISTOGRAM_TTL] = { 1, 24, 1 },
};

void histogram_add(struct histogram *h, enum histogram_shape shape, uint64_t value)
{
	const struct histogram_bounds *b = &histogram_bounds[shape];
	size_t i = 0;

	while (i < b->n && value > b->first << i)
		i++;
	/* beyond all bounds of this shape */
	if (i == b->n)
		i = HISTOGRAM_BOUNDS_MAX;
	h->counts[i]++;
	h->sum += value;
}

uint64_t histogram_count(const struct histogram *h)
{
	uint64_t n = 0;

	for (size_t i = 0; i <= HISTOGRAM_BOUNDS_MAX; i++)
		n += h->counts[i];
	return n;
}

/* --- requests ------------------------------------------------------------- */

static const char *const op_names[REQUEST_OPS] = {
	[REQUEST_PUT] = "Put",
	[REQUEST_DELETE_RANGE] = "DeleteRange",
	[REQUEST_TXN] = "Txn",
	[REQUEST_COMPACT] = "Compaction",
	[REQUEST_LEASE_GRANT] = "LeaseGrant",
	[REQUEST_LEASE_REVOKE] = "LeaseRevoke",
	[REQUEST_ALARM] = "Alarm",
	[REQUEST_MEMBER_ATTR] = "ClusterMemberAttrSet",
	[REQUEST_CLUSTER_VERSION] = "ClusterVersionSet",
	[REQUEST_RANGE] = "Range",
	[REQUEST_TXN_READ] = "ReadonlyTxn",
};

const char *figures_op_name(enum request_op op)
{
	return op_names[op];
}

/* How many operations it had. */
static size_t count_result(struct figures *f, const struct op_result *result)
{
	size_t n = 0;

	switch (result->op) {
	case REQUEST_RANGE:
		f->ranges++;
		return 1;
	case REQUEST_PUT:
		f->puts++;
		return 1;
	case REQUEST_DELETE_RANGE:
		f->deletes++;
		return 1;
	default:
		for (size_t i = 0; i < result->n_ops; i++)
			n += count_result(f, &result->ops[i]);
		return n;
	}
}

void figures_count_result(struct figures *f, const struct op_result *result)
{
	f->txns += count_result(f, result) > 1;
}

/* It never came to being carried out. */
static bool gave_up(const struct status *error)
{
	return error == &status_timeout || error == &status_stopped ||
	       error == &status_too_many_requests || error == &status_no_leader;
}

void figures_count_request(struct figures *f, const struct request *request, uint64_t ns)
{
	bool read = request->op == REQUEST_RANGE || request->op == REQUEST_TXN_READ;
	bool good = read ? !request->error : !gave_up(request->error);

	histogram_add(&f->requests[request->op][good], HISTOGRAM_SECONDS, ns);
}

void figures_count_range(struct figures *f, const struct request *request, uint64_t ns)
{
	histogram_add(&f->range_times[!request->error], HISTOGRAM_SECONDS_APPLY, ns);
}

void figures_count_apply(struct figures *f, const struct request *request, uint64_t ns)
{
	bool good = !request->error || request->error == &status_compacted;

	histogram_add(&f->applies[request->op][good], HISTOGRAM_SECONDS_APPLY, ns);
	f->slow_applies += ns > SLOW_APPLY;
}
