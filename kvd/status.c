// SPDX-License-Identifier: Apache-2.0

/* The texts are those of etcd's api/v3rpc/rpctypes. */

#include "kvd/status.h"

#define STATUS(name, code, text) const struct status status_##name = { code, text }

STATUS(empty_key, GRPC_INVALID_ARGUMENT, "etcdserver: key is not provided");
STATUS(key_not_found, GRPC_INVALID_ARGUMENT, "etcdserver: key not found");
STATUS(value_provided, GRPC_INVALID_ARGUMENT, "etcdserver: value is provided");
STATUS(lease_provided, GRPC_INVALID_ARGUMENT, "etcdserver: lease is provided");
STATUS(too_many_ops, GRPC_INVALID_ARGUMENT, "etcdserver: too many operations in txn request");
STATUS(duplicate_key, GRPC_INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request");
STATUS(invalid_sort_option, GRPC_INVALID_ARGUMENT, "etcdserver: invalid sort option");
STATUS(compacted, GRPC_OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted");
STATUS(future_revision, GRPC_OUT_OF_RANGE,
       "etcdserver: mvcc: required revision is a future revision");
STATUS(no_space, GRPC_RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded");
STATUS(lease_not_found, GRPC_NOT_FOUND, "etcdserver: requested lease not found");
STATUS(lease_exists, GRPC_FAILED_PRECONDITION, "etcdserver: lease already exists");
STATUS(lease_ttl_too_large, GRPC_OUT_OF_RANGE, "etcdserver: too large lease TTL");
STATUS(request_too_large, GRPC_INVALID_ARGUMENT, "etcdserver: request is too large");
STATUS(too_many_requests, GRPC_RESOURCE_EXHAUSTED, "etcdserver: too many requests");
STATUS(no_leader, GRPC_UNAVAILABLE, "etcdserver: no leader");
STATUS(stopped, GRPC_UNAVAILABLE, "etcdserver: server stopped");
STATUS(timeout, GRPC_UNAVAILABLE, "etcdserver: request timed out");
STATUS(corrupt, GRPC_DATA_LOSS, "etcdserver: corrupt cluster");
STATUS(stream_sort, GRPC_UNIMPLEMENTED, "RangeStream does not support custom sort orders");
STATUS(stream_filter, GRPC_UNIMPLEMENTED, "RangeStream does not support revision filters");
