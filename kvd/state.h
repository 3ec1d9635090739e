/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The replicated state: what the log, applied in order, makes. Keys, leases,
 * members and alarms. Pure: time is handed in, nothing is read or written but the
 * store's memory.
 *
 * state_apply() carries out one request; state_read() answers one. Both give 0 (the
 * request has its result or its error), MVCC_COLD (nothing was changed; fetch what
 * request->fetch names, then call again), or a negative errno, which is final; but
 * -EAGAIN from state_read() means: ask again when more is applied.
 */
#ifndef KVD_STATE_H
#define KVD_STATE_H

#include "kvd/cluster.h"
#include "kvd/figures.h"
#include "kvd/lessor.h"
#include "kvd/request.h"
#include "lib/proto/rpc.pb-c.h"

/* Buckets of the store's small records. */
#define BUCKET_META "meta"
#define BUCKET_LEASE "lease"
#define BUCKET_ALARM "alarm"
#define BUCKET_MEMBERS "members"

struct alarm {
	uint64_t member;
	int type;			/* etcdserverpb.AlarmType */
};

#define ALARMS_MAX 128			/* two for each of 64 members */

struct state {
	struct mvcc *store;		/* borrowed */
	struct lessor lessor;
	struct cluster cluster;
	struct alarm alarms[ALARMS_MAX];
	size_t n_alarms;
	int64_t quota;			/* bytes; negative: none */
	int64_t db_size, db_size_in_use;	/* as the store thread last reported */
	struct figures figures;
};

/* Builds leases, members and alarms from the store's records. */
int state_open(struct state *state, struct mvcc *store, int64_t min_lease_ttl);
void state_release(struct state *state);

int state_apply(struct state *state, struct request *request, uint64_t now);
int state_read(struct state *state, struct request *request, uint64_t now);
/* The key that a read begins at; empty where there is none. */
struct slice state_read_key(const struct request *request);

/* CRC-32C over the leases, the members and their version, and the alarms, as they are
 * stored: all that is replicated beside the keys. */
uint32_t state_hash(const struct state *state);

bool state_alarm_set(const struct state *state, int type);
/* What @cost more bytes would do: false means that the quota would be exceeded. */
bool state_has_room(const struct state *state, int64_t cost);

/* --- for txn.c: single operations, inside mvcc_begin() and mvcc_end() ----- */

struct op_args {
	struct state *state;
	struct mvcc_fetch *fetch;
	int64_t revision;		/* that the store was at when the transaction began */
	bool changed;			/* it has written something */
};

struct mvcc_read state_read_of(const Etcdserverpb__RangeRequest *r);
const struct status *state_status_of(int outcome);
int op_range(struct op_args *args, const Etcdserverpb__RangeRequest *r, struct op_result *out,
	     const struct status **error);
int op_put(struct op_args *args, const Etcdserverpb__PutRequest *r, struct op_result *out);
int op_delete(struct op_args *args, const Etcdserverpb__DeleteRangeRequest *r,
	      struct op_result *out);
/* The key's current value, which a put with prev_kv or ignore_* wants; *@out may be
 * NULL. 0, MVCC_COLD or negative. */
int op_prev(struct op_args *args, struct slice key, struct blob **out);
static inline bool put_wants_prev(const Etcdserverpb__PutRequest *r)
{
	return r->prev_kv || r->ignore_value || r->ignore_lease;
}
/* What forbids the put in this state; on 0 *@error may be set. */
int op_check_put(struct op_args *args, const Etcdserverpb__PutRequest *r,
		 const struct status **error);

/* txn.c */
int state_txn(struct state *state, struct request *request);

static inline struct slice pb_bytes(ProtobufCBinaryData b)
{
	return slice_of(b.data, b.len);
}

#endif
