/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request failed with: a gRPC code and a text. Clients match on the text, so
 * both are part of the interface. A status is a constant; NULL is success.
 */
#ifndef KVD_STATUS_H
#define KVD_STATUS_H

#include "lib/grpc.h"

struct status {
	enum grpc_code code;
	const char *text;
};

extern const struct status status_empty_key, status_key_not_found, status_value_provided,
	status_lease_provided, status_too_many_ops, status_duplicate_key,
	status_invalid_sort_option, status_compacted, status_future_revision, status_no_space,
	status_lease_not_found, status_lease_exists, status_lease_ttl_too_large,
	status_request_too_large, status_too_many_requests, status_no_leader, status_stopped,
	status_timeout, status_corrupt, status_stream_sort, status_stream_filter;

#endif
