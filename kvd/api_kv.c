// SPDX-License-Identifier: Apache-2.0

/* etcdserverpb.KV */

#include <stdlib.h>

#include "kvd/server.h"
#include "kvd/validate.h"

/* --- answers -------------------------------------------------------------- */

static void reply_op(struct request *request)
{
	struct grpc_call *call = api_waiting(request);
	struct response_header header;
	struct chain out;

	if (call) {
		server_header(call_server(call), request->result.revision, &header);
		chain_init(&out);
		respond_op(&request->result, &header, &out);
		api_reply(call, &out);
	}
	request_free(request);
}

static void reply_compact(struct request *request)
{
	struct grpc_call *call = api_waiting(request);
	struct response_header header;
	struct chain out;

	if (call) {
		server_header(call_server(call), request->result.revision, &header);
		chain_init(&out);
		respond_header(&header, &out);
		api_reply(call, &out);
	}
	request_free(request);
}

/* --- requests ------------------------------------------------------------- */

/* Refuses @request where @error says so. */
static bool refused(struct grpc_call *call, struct request *request, const struct status *error)
{
	if (!error)
		return false;
	request_free(request);
	api_fail(call, error);
	return true;
}

static bool over_quota(struct grpc_call *call, struct request *request, int64_t cost)
{
	if (!api_over_quota(call, cost))
		return false;
	request_free(request);
	return true;
}

static void kv_range(struct grpc_call *call, struct slice message)
{
	struct request *r = api_request(call, REQUEST_RANGE,
					&etcdserverpb__range_request__descriptor, message);
	const Etcdserverpb__RangeRequest *range;

	if (!r)
		return;
	range = (const void *)r->message;
	if (refused(call, r, validate_range(range)))
		return;
	r->serializable = range->serializable;
	api_submit(call, r, message, reply_op);
}

static void kv_put(struct grpc_call *call, struct slice message)
{
	struct request *r = api_request(call, REQUEST_PUT,
					&etcdserverpb__put_request__descriptor, message);
	const Etcdserverpb__PutRequest *put;

	if (!r)
		return;
	put = (const void *)r->message;
	if (over_quota(call, r, put_cost(put)) || refused(call, r, validate_put(put)))
		return;
	api_submit(call, r, message, reply_op);
}

static void kv_delete_range(struct grpc_call *call, struct slice message)
{
	struct request *r = api_request(call, REQUEST_DELETE_RANGE,
					&etcdserverpb__delete_range_request__descriptor, message);

	if (!r || refused(call, r, validate_delete((const void *)r->message)))
		return;
	api_submit(call, r, message, reply_op);
}

static void kv_txn(struct grpc_call *call, struct slice message)
{
	struct request *r = api_request(call, REQUEST_TXN,
					&etcdserverpb__txn_request__descriptor, message);
	const Etcdserverpb__TxnRequest *txn;

	if (!r)
		return;
	txn = (const void *)r->message;
	if (over_quota(call, r, txn_cost(txn)) ||
	    refused(call, r, validate_txn(txn, call_server(call)->config->max_txn_ops, &r->arena)))
		return;
	if (txn_is_read_only(txn)) {
		r->op = REQUEST_TXN_READ;
		r->serializable = txn_is_serializable(txn);
	}
	api_submit(call, r, message, reply_op);
}

static void kv_compact(struct grpc_call *call, struct slice message)
{
	struct request *r = api_request(call, REQUEST_COMPACT,
					&etcdserverpb__compaction_request__descriptor, message);

	if (!r)
		return;
	r->physical = ((const Etcdserverpb__CompactionRequest *)r->message)->physical;
	api_submit(call, r, message, reply_compact);
}

/* --- RangeStream: chunks at a pinned revision ----------------------------- */

#define STREAM_FIRST_CHUNK 10

struct range_stream {
	struct grpc_call *call;			/* NULL: gone */
	struct server *server;
	struct request *request;		/* owns the message; its range moves on */
	Etcdserverpb__RangeRequest range;	/* the chunk being read */
	uint8_t *key;				/* of range, after the first chunk */
	int64_t left;				/* of the limit */
	int64_t header_revision, chunk, count;
	bool reading;
};

static void stream_free(struct range_stream *st)
{
	request_free(st->request);
	free(st->key);
	free(st);
}

static void stream_fail(struct range_stream *st, const struct status *status)
{
	struct grpc_call *call = st->call;

	st->call = NULL;
	if (call)
		api_fail(call, status);
	stream_free(st);
}

static void stream_done(struct request *request);

static void stream_read(struct range_stream *st)
{
	struct request *r = st->request;

	st->reading = true;
	st->range.limit = MIN(st->chunk, st->left);
	op_result_release(&r->result);
	mvcc_result_init(&r->result.kvs);
	mvcc_fetch_release(&r->fetch);
	mvcc_fetch_init(&r->fetch);
	r->message = &st->range.base;
	r->deadline = 0;
	r->done = stream_done;
	core_submit(st->server->core, r);
}

/* Bytes of what was read, as the next chunk's size is decided by. */
static int64_t stream_bytes(const struct mvcc_result *kvs)
{
	int64_t bytes = 0;

	for (size_t i = 0; i < kvs->n; i++)
		bytes += kvs->kvs[i]->len;
	return bytes;
}

static void stream_adjust(struct range_stream *st, int64_t bytes)
{
	int64_t target = st->server->config->max_request_bytes;

	if (bytes < target / 2)
		st->chunk *= 2;
	else if (bytes > target * 2)
		st->chunk = MAX(st->chunk / 2, 1);
}

/* The next chunk begins right after the last key of this one. */
static int stream_next_key(struct range_stream *st, const struct mvcc_result *kvs)
{
	struct mvcc_kv kv;
	uint8_t *key;
	int err = mvcc_kv_decode(blob_slice(kvs->kvs[kvs->n - 1]), &kv);

	if (err)
		return err;
	key = malloc(kv.key.len + 1);
	if (!key)
		return -ENOMEM;
	memcpy(key, kv.key.data, kv.key.len);
	key[kv.key.len] = 0;
	st->range.key = (ProtobufCBinaryData){ kv.key.len + 1, key };
	free(st->key);
	st->key = key;
	return 0;
}

/* What the last chunk says of the whole: what was sent, and, where the limit cut it, the
 * keys after the last one sent. With a sort target and no order a chunk is sorted, so
 * that these need not be all the others; clients of etcd see it so. */
static int stream_count(struct range_stream *st, struct mvcc_result *kvs)
{
	struct mvcc_read read;
	struct mvcc_result rest;
	int err = 0;

	if (kvs->more) {
		err = stream_next_key(st, kvs);
		if (err)
			return err;
		read = state_read_of(&st->range);
		read.count_only = true;
		mvcc_result_init(&rest);
		err = mvcc_range(core_state(st->server->core)->store, &read, &st->request->fetch,
				 &rest);
		kvs->count = rest.count;
		mvcc_result_release(&rest);
	} else {
		kvs->count = 0;
	}
	kvs->count += st->count;
	return err;
}

static void stream_send(struct range_stream *st, const struct mvcc_result *kvs, bool last)
{
	struct response_header header;
	struct chain out;

	chain_init(&out);
	server_header(st->server, st->header_revision, &header);
	respond_range_chunk(kvs, last ? &header : NULL, &out);
	grpc_call_send(st->call, &out);
}

static void stream_finish(struct range_stream *st)
{
	struct grpc_call *call = st->call;

	st->call = NULL;
	grpc_call_set_user(call, NULL);
	grpc_call_finish(call, GRPC_OK, NULL);
	stream_free(st);
}

static void stream_done(struct request *request)
{
	struct range_stream *st = request->owner;
	struct mvcc_result *kvs = &request->result.kvs;
	int err = 0;
	bool last;

	st->reading = false;
	if (!st->call || request->error) {
		stream_fail(st, request->error ? request->error : &status_stopped);
		return;
	}
	if (!st->header_revision) {
		st->header_revision = request->result.revision;
		if (!st->range.revision)
			st->range.revision = st->header_revision;
	}
	request->serializable = true;		/* the revision is pinned now */
	st->left -= (int64_t)kvs->n;
	last = !kvs->more || !st->left;
	st->count += (int64_t)kvs->n;
	if (last && !st->range.count_only)
		err = stream_count(st, kvs);
	if (err) {
		stream_fail(st, err > 0 ? state_status_of(err) : &status_too_many_requests);
		return;
	}
	stream_send(st, kvs, last);
	if (last) {
		stream_finish(st);
		return;
	}
	stream_adjust(st, stream_bytes(kvs));
	if (stream_next_key(st, kvs))
		stream_fail(st, &status_too_many_requests);
	else if (grpc_call_queued(st->call) < GRPC_HIGH_WATER)
		stream_read(st);
}

static void stream_writable(struct grpc_call *call)
{
	struct range_stream *st = grpc_call_user(call);

	if (st && !st->reading && st->header_revision)
		stream_read(st);
}

static void stream_closed(struct grpc_call *call)
{
	struct range_stream *st = grpc_call_user(call);

	if (!st)
		return;
	st->call = NULL;
	if (!st->reading)
		stream_free(st);
}

static void stream_half_close(struct grpc_call *call)
{
	if (!grpc_call_user(call))
		grpc_call_finish(call, GRPC_INTERNAL, "cardinality violation: received no request "
				 "message from non-client-streaming RPC");
}

static void kv_range_stream(struct grpc_call *call, struct slice message)
{
	struct request *r = api_request(call, REQUEST_RANGE,
					&etcdserverpb__range_request__descriptor, message);
	const Etcdserverpb__RangeRequest *range;
	struct range_stream *st;

	if (!r)
		return;
	range = (const void *)r->message;
	if (grpc_call_user(call)) {
		request_free(r);
		grpc_call_finish(call, GRPC_INTERNAL, "cardinality violation: received multiple "
				 "request messages for non-client-streaming RPC");
		return;
	}
	if (refused(call, r, validate_range_stream(range)))
		return;
	st = calloc(1, sizeof(*st));
	if (!st) {
		refused(call, r, &status_too_many_requests);
		return;
	}
	st->call = call;
	st->server = call_server(call);
	st->request = r;
	st->range = *range;
	st->chunk = STREAM_FIRST_CHUNK;
	/* a negative limit is none, and the whole range is then one chunk, as in etcd */
	st->left = range->limit ? MAX(range->limit, -1) : INT64_MAX;
	r->serializable = range->serializable;
	r->part = true;
	r->owner = st;
	grpc_call_set_user(call, st);
	stream_read(st);
}

void api_kv_methods(struct method_table *table)
{
	static const struct grpc_method methods[] = {
		{ .path = "/etcdserverpb.KV/Range", .message = kv_range, .unary = true },
		{ .path = "/etcdserverpb.KV/Put", .message = kv_put, .unary = true },
		{ .path = "/etcdserverpb.KV/DeleteRange", .message = kv_delete_range,
		  .unary = true },
		{ .path = "/etcdserverpb.KV/Txn", .message = kv_txn, .unary = true },
		{ .path = "/etcdserverpb.KV/Compact", .message = kv_compact, .unary = true },
	};
	struct grpc_method m;

	for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
		m = methods[i];
		m.closed = api_closed;
		method_add(table, &m);
	}
	method_add(table, &(struct grpc_method){
		.path = "/etcdserverpb.KV/RangeStream", .message = kv_range_stream,
		.half_close = stream_half_close, .closed = stream_closed,
		.writable = stream_writable });
}
