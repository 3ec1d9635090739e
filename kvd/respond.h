/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Responses, encoded by hand into a chain: keys are references to the blobs that the
 * store holds, so the bytes of a value are not copied on their way out.
 */
#ifndef KVD_RESPOND_H
#define KVD_RESPOND_H

#include "kvd/request.h"
#include "lib/chain.h"

/* etcdserverpb.ResponseHeader. */
struct response_header {
	uint64_t cluster_id, member_id;
	int64_t revision;
	uint64_t raft_term;
};

/* A Range-, Put-, DeleteRange- or TxnResponse. */
void respond_op(const struct op_result *result, const struct response_header *header,
		struct chain *out);
/* A RangeStreamResponse. Without a header it is a chunk that is not the last. */
void respond_range_chunk(const struct mvcc_result *kvs, const struct response_header *header,
			 struct chain *out);

struct respond_watch {
	struct response_header header;
	int64_t watch_id, compact_revision;
	bool created, canceled, fragment;
	const char *cancel_reason;	/* NULL: none */
	const struct mvcc_event *events;
	size_t n_events;
};
void respond_watch(const struct respond_watch *w, struct chain *out);
/* The bytes that an event takes in a WatchResponse. */
size_t respond_event_size(const struct mvcc_event *event);

size_t respond_header_size(const struct response_header *header);
/* Field 1 of nearly every response. */
void respond_header(const struct response_header *header, struct chain *out);

#endif
