/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request must look like before it enters the log: the checks that need no
 * state. NULL: it may pass.
 */
#ifndef KVD_VALIDATE_H
#define KVD_VALIDATE_H

#include "kvd/status.h"
#include "lib/pb.h"
#include "lib/proto/rpc.pb-c.h"

const struct status *validate_range(const Etcdserverpb__RangeRequest *r);
const struct status *validate_range_stream(const Etcdserverpb__RangeRequest *r);
const struct status *validate_put(const Etcdserverpb__PutRequest *r);
const struct status *validate_delete(const Etcdserverpb__DeleteRangeRequest *r);
/* @arena holds the working sets. */
const struct status *validate_txn(const Etcdserverpb__TxnRequest *r, int64_t max_ops,
				  struct pb_arena *arena);
bool txn_is_read_only(const Etcdserverpb__TxnRequest *r);
/* Every operation is a serializable range. */
bool txn_is_serializable(const Etcdserverpb__TxnRequest *r);
/* Bytes that the request may add to the store, as etcd charges them; 0: none. */
int64_t txn_cost(const Etcdserverpb__TxnRequest *r);
int64_t put_cost(const Etcdserverpb__PutRequest *r);

#endif
