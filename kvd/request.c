// SPDX-License-Identifier: Apache-2.0

#include <stdlib.h>

#include "include/wire.h"
#include "kvd/request.h"
#include "lib/proto/rpc.pb-c.h"

/* Where each operation stands in InternalRaftRequest. */
static const struct {
	uint32_t field;
	const ProtobufCMessageDescriptor *type;
} ops[] = {
	[REQUEST_PUT] = { 4, &etcdserverpb__put_request__descriptor },
	[REQUEST_DELETE_RANGE] = { 5, &etcdserverpb__delete_range_request__descriptor },
	[REQUEST_TXN] = { 6, &etcdserverpb__txn_request__descriptor },
	[REQUEST_COMPACT] = { 7, &etcdserverpb__compaction_request__descriptor },
	[REQUEST_LEASE_GRANT] = { 8, &etcdserverpb__lease_grant_request__descriptor },
	[REQUEST_LEASE_REVOKE] = { 9, &etcdserverpb__lease_revoke_request__descriptor },
	[REQUEST_ALARM] = { 10, &etcdserverpb__alarm_request__descriptor },
	[REQUEST_MEMBER_ATTR] = { 1301,
		&membershippb__cluster_member_attr_set_request__descriptor },
	[REQUEST_CLUSTER_VERSION] = { 1300,
		&membershippb__cluster_version_set_request__descriptor },
};

#define FIELD_HEADER 100	/* InternalRaftRequest.header */
#define FIELD_HEADER_ID 1

struct request *request_new(enum request_op op)
{
	struct request *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	list_init(&r->node);
	r->op = op;
	pb_arena_init(&r->arena);
	mvcc_fetch_init(&r->fetch);
	mvcc_result_init(&r->result.kvs);
	r->result.op = op;
	return r;
}

void op_result_release(struct op_result *result)
{
	for (size_t i = 0; i < result->n_ops; i++)
		op_result_release(&result->ops[i]);
	free(result->ops);
	result->ops = NULL;
	result->n_ops = 0;
	mvcc_result_release(&result->kvs);
	blob_put(result->prev);
	result->prev = NULL;
}

void request_free(struct request *request)
{
	if (!request)
		return;
	BUG_ON(!list_empty(&request->node) || request->in_table);
	op_result_release(&request->result);
	mvcc_fetch_release(&request->fetch);
	blob_put(request->payload);
	pb_arena_release(&request->arena);
	free(request);
}

int request_encode(struct request *request, struct slice body)
{
	uint32_t field = ops[request->op].field;
	size_t header = wire_u64_field_size(FIELD_HEADER_ID, request->id);
	struct blob *b;
	uint8_t *p;

	BUG_ON(request_is_read(request->op) || request->payload);
	b = blob_new(wire_len_field_size(FIELD_HEADER, header) + header +
		     wire_len_field_size(field, body.len) + body.len);
	if (!b)
		return -ENOMEM;
	p = wire_put_len_field(b->data, FIELD_HEADER, header);
	p = wire_put_u64_field(p, FIELD_HEADER_ID, request->id);
	p = wire_put_len_field(p, field, body.len);
	if (body.len)
		memcpy(p, body.data, body.len);
	request->payload = b;
	return 0;
}

static uint64_t header_id(struct slice header)
{
	struct wire_field f;

	while (wire_next(&header, &f) > 0)
		if (f.number == FIELD_HEADER_ID)
			return f.value;
	return 0;
}

uint64_t request_id_of(struct slice payload)
{
	struct wire_field f;

	while (wire_next(&payload, &f) > 0)
		if (f.number == FIELD_HEADER && f.type == WIRE_LEN)
			return header_id(f.bytes);
	return 0;
}

int request_decode(struct request *request, struct slice payload)
{
	struct wire_field f;
	ProtobufCMessage *message;
	int err;

	request->id = request_id_of(payload);
	while ((err = wire_next(&payload, &f)) > 0) {
		for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
			if (ops[i].field != f.number || f.type != WIRE_LEN)
				continue;
			request->op = (enum request_op)i;
			err = pb_unpack(ops[i].type, f.bytes, &request->arena, &message);
			request->message = message;
			return err > 0 ? -EBADMSG : err;
		}
	}
	return err ? -EBADMSG : -ENOTSUP;
}
