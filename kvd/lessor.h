/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases: which there are, which keys hang on them, and when they expire.
 *
 * Granting, revoking, attaching and detaching happen when log entries are applied,
 * so they are the same on every member. Expiry is the leader's alone: it watches
 * the clock (handed in as monotonic nanoseconds) and proposes a revoke; nothing
 * here ends a lease by itself. A lessor that is not primary knows no expiries.
 *
 * Source: etcd server/lease.
 */
#ifndef KVD_LESSOR_H
#define KVD_LESSOR_H

#include <stdbool.h>

#include "include/htable.h"
#include "include/list.h"
#include "include/slice.h"

#define LEASE_TTL_MAX 9000000000	/* seconds */
#define LEASE_FOREVER UINT64_MAX

struct lease {
	struct htable_node node;
	int64_t id;
	int64_t ttl;			/* seconds, as granted */
	uint64_t expiry;		/* nanoseconds; LEASE_FOREVER unless primary */
	size_t heap_at;			/* place in lessor.heap */
	bool revoking;			/* expired; its revoke is under way */
	struct list keys;		/* of lease_key.list */
	size_t n_keys;
};

struct lessor {
	struct htable leases;		/* by id */
	struct htable keys;		/* lease_key by key */
	struct lease **heap;		/* by expiry, earliest first; primary only */
	size_t heap_n, heap_cap;
	int64_t min_ttl;
	bool primary;
};

enum lessor_outcome { LESSOR_EXISTS = 1, LESSOR_TTL_TOO_LARGE, LESSOR_NO_LEASE };

void lessor_init(struct lessor *lessor, int64_t min_ttl);
void lessor_release(struct lessor *lessor);

/* The leader's turn begins: every lease lives its TTL from now, and @extend longer. */
int lessor_promote(struct lessor *lessor, uint64_t now, uint64_t extend);
void lessor_demote(struct lessor *lessor);

/* 0, -ENOMEM or an outcome. */
int lessor_grant(struct lessor *lessor, int64_t id, int64_t ttl, uint64_t now,
		 struct lease **out);
struct lease *lessor_find(const struct lessor *lessor, int64_t id);
/* Forgets the lease and lets its keys go; the keys themselves are the caller's. */
void lessor_remove(struct lessor *lessor, struct lease *lease);
void lessor_renew(struct lessor *lessor, struct lease *lease, uint64_t now);
/* Whole seconds left, never negative; INT64_MAX where it does not expire. */
int64_t lease_remaining(const struct lease *lease, uint64_t now);

/* Hangs @key on @lease and off any other. */
int lessor_attach(struct lessor *lessor, struct lease *lease, struct slice key);
void lessor_detach(struct lessor *lessor, struct slice key);
/* 0: the key has no lease. */
int64_t lessor_lease_of(const struct lessor *lessor, struct slice key);
/* The keys of @lease in order, into @out, which has room for lease->n_keys. They
 * live until the next change of the lessor. */
void lessor_keys(const struct lease *lease, struct slice *out);

/* The lease that expired first, or NULL. Marks it revoking and pushes its expiry back
 * by @retry, so that it is given again only where the revoke did not come about. */
struct lease *lessor_expired(struct lessor *lessor, uint64_t now, uint64_t retry);
/* Every lease, ordered by expiry then id; the array is the caller's to free. */
int lessor_all(const struct lessor *lessor, struct lease ***out, size_t *n);

#endif
