/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request on its way through the core, and what came of it.
 *
 * The edge that made it (api_kv.c and its sisters) fills the upper part and hands
 * it to core_submit(); the core fills result and calls done(), once, during a turn.
 * From then on it belongs to the edge again, which frees it with request_free().
 */
#ifndef KVD_REQUEST_H
#define KVD_REQUEST_H

#include "include/htable.h"
#include "include/list.h"
#include "kvd/status.h"
#include "lib/pb.h"
#include "libmvcc/mvcc.h"

enum request_op {
	/* through the log: the members of InternalRaftRequest */
	REQUEST_PUT,
	REQUEST_DELETE_RANGE,
	REQUEST_TXN,
	REQUEST_COMPACT,
	REQUEST_LEASE_GRANT,
	REQUEST_LEASE_REVOKE,
	REQUEST_ALARM,
	REQUEST_MEMBER_ATTR,
	REQUEST_CLUSTER_VERSION,
	/* reads: nothing is logged; linearizable unless said otherwise */
	REQUEST_RANGE,
	REQUEST_TXN_READ,
	REQUEST_LEASE_RENEW,
	REQUEST_LEASE_TTL,
	REQUEST_BARRIER,	/* done when everything before it is applied */
	REQUEST_HASH_KV,	/* of the keys that this member has stored */
	REQUEST_HASH,		/* of all that it has stored */
	REQUEST_DEFRAGMENT,	/* done when space is given back */
	REQUEST_OPS
};

static inline bool request_is_read(enum request_op op)
{
	return op >= REQUEST_RANGE;
}

/* The outcome of one operation: of a whole request, or of one within a transaction. */
struct op_result {
	enum request_op op;
	int64_t revision;		/* of its header */
	struct mvcc_result kvs;		/* Range: the keys; DeleteRange: what was there */
	struct blob *prev;		/* Put with prev_kv */
	int64_t deleted;
	bool prev_kv;			/* DeleteRange was asked for what was there */
	bool succeeded;			/* Txn */
	struct op_result *ops;		/* Txn: one for each operation of the branch taken */
	size_t n_ops;
};

/* HashKV's answer, or Hash's; the revision is first the one that is asked for. */
struct hash_answer {
	int64_t revision, compact_revision;
	uint32_t hash;
};

/* A fetch that the store thread carries out; done() follows on the core's thread. */
struct core;

struct fetch_job {
	struct list node;
	struct mvcc_fetch *fetch;
	void (*done)(struct fetch_job *job);
};

struct request {
	struct list node;
	struct htable_node by_id;	/* in the core's table of proposals */
	bool in_table;
	enum request_op op;
	bool serializable;		/* a read that takes what is applied here */
	bool physical;			/* Compact: done when the space is free */
	bool part;			/* of a stream of answers: no request of its own */
	uint64_t id;			/* RequestHeader.ID; given by core_request_id() */
	uint64_t deadline;		/* nanoseconds; 0: the core sets its own */
	uint64_t began;			/* when it was submitted; nanoseconds */
	uint64_t index;			/* a read: the applied index it waits for */
	struct pb_arena arena;
	const ProtobufCMessage *message;	/* in arena: PutRequest, TxnRequest, ... */
	struct blob *payload;		/* a proposal: the log entry */
	struct mvcc_fetch fetch;
	struct fetch_job job;		/* of fetch */

	const struct status *error;	/* NULL: success */
	struct op_result result;
	int64_t lease_id, lease_ttl, lease_granted_ttl;
	struct slice *lease_keys;	/* in arena */
	size_t n_lease_keys;
	uint64_t alarm_member;		/* Alarm: what changed; 0 nothing */
	struct hash_answer hash;	/* HashKV, Hash */

	void (*done)(struct request *request);
	void *owner;			/* the edge's; NULL where nobody waits any more */
	struct core *owner_core;	/* while a fetch is under way */
};

struct request *request_new(enum request_op op);
/* Makes the log entry: an InternalRaftRequest of a header with request->id and, as
 * the member that goes with request->op, @body as it is. -ENOMEM. */
int request_encode(struct request *request, struct slice body);
/* Takes a log entry apart: fills id, op and message. -EBADMSG: it is damaged;
 * -ENOTSUP: a request that this version does not know. */
int request_decode(struct request *request, struct slice payload);
/* The id in a log entry's header; 0 where it has none. */
uint64_t request_id_of(struct slice payload);
void request_free(struct request *request);
void op_result_release(struct op_result *result);

#endif
