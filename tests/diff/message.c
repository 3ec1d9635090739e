// SPDX-License-Identifier: Apache-2.0
#include "tests/diff/message.h"

#include <inttypes.h>
#include <stdlib.h>

#include "include/bug.h"
#include "lib/pb.h"
#include "lib/proto/rpc.pb-c.h"

#define RPC(p, q, s) { "/etcdserverpb." p, &etcdserverpb__##q##__descriptor, \
		       &etcdserverpb__##s##__descriptor }

static const struct rpc rpcs[] = {
	RPC("KV/Range", range_request, range_response),
	RPC("KV/RangeStream", range_request, range_stream_response),
	RPC("KV/Put", put_request, put_response),
	RPC("KV/DeleteRange", delete_range_request, delete_range_response),
	RPC("KV/Txn", txn_request, txn_response),
	RPC("KV/Compact", compaction_request, compaction_response),
	RPC("Watch/Watch", watch_request, watch_response),
	RPC("Lease/LeaseGrant", lease_grant_request, lease_grant_response),
	RPC("Lease/LeaseRevoke", lease_revoke_request, lease_revoke_response),
	RPC("Lease/LeaseKeepAlive", lease_keep_alive_request, lease_keep_alive_response),
	RPC("Lease/LeaseTimeToLive", lease_time_to_live_request, lease_time_to_live_response),
	RPC("Lease/LeaseLeases", lease_leases_request, lease_leases_response),
	RPC("Maintenance/HashKV", hash_kvrequest, hash_kvresponse),
};

const struct rpc *rpc_find(const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(rpcs); i++)
		if (!strcmp(rpcs[i].path, path))
			return &rpcs[i];
	return NULL;
}

/* --- the parts of a message -------------------------------------------------- */

/* One value of a field, wherever it is kept. */
struct visit {
	const ProtobufCFieldDescriptor *field;
	const void *value;
};

static size_t field_count(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
	const void *quantifier = (const char *)m + f->quantifier_offset;

	if (f->label == PROTOBUF_C_LABEL_REPEATED)
		return *(const size_t *)quantifier;
	if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
		return *(const uint32_t *)quantifier == f->id;
	if (f->type == PROTOBUF_C_TYPE_MESSAGE)
		return *(void *const *)((const char *)m + f->offset) != NULL;
	return 1;
}

static size_t field_size(const ProtobufCFieldDescriptor *f)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	case PROTOBUF_C_TYPE_MESSAGE:
	case PROTOBUF_C_TYPE_STRING:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_UINT64:
		return sizeof(uint64_t);
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	default:
		return sizeof(uint32_t);
	}
}

static struct visit field_value(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f,
				size_t i)
{
	const char *place = (const char *)m + f->offset;

	if (f->label == PROTOBUF_C_LABEL_REPEATED)
		place = *(const char *const *)place + i * field_size(f);
	return (struct visit){ f, place };
}

/* --- comparing --------------------------------------------------------------- */

static void clear_headers(ProtobufCMessage *m)
{
	const ProtobufCMessageDescriptor *type = m->descriptor;

	if (type == &etcdserverpb__response_header__descriptor) {
		Etcdserverpb__ResponseHeader *h = (Etcdserverpb__ResponseHeader *)m;

		h->cluster_id = h->member_id = h->raft_term = 0;
		return;
	}
	for (unsigned i = 0; i < type->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &type->fields[i];

		if (f->type != PROTOBUF_C_TYPE_MESSAGE)
			continue;
		for (size_t n = 0; n < field_count(m, f); n++)
			clear_headers(*(ProtobufCMessage *const *)field_value(m, f, n).value);
	}
}

static int compare_keys(const void *a, const void *b)
{
	const ProtobufCBinaryData *x = a, *y = b;

	return slice_cmp(slice_of(x->data, x->len), slice_of(y->data, y->len));
}

/* Rounds what is left of a lease to an hour of what it was granted for. */
static void clear_lease(ProtobufCMessage *m)
{
	Etcdserverpb__LeaseTimeToLiveResponse *r = (Etcdserverpb__LeaseTimeToLiveResponse *)m;

	if (m->descriptor != &etcdserverpb__lease_time_to_live_response__descriptor)
		return;
	if (r->n_keys)
		qsort(r->keys, r->n_keys, sizeof(r->keys[0]), compare_keys);
	if (r->ttl > 0 && r->ttl <= r->grantedttl && r->grantedttl - r->ttl < 3600)
		r->ttl = r->grantedttl;
}

bool message_same(const ProtobufCMessageDescriptor *type, struct slice a, struct slice b)
{
	struct slice in[2] = { a, b };
	struct blob *packed[2] = { NULL, NULL };
	struct pb_arena arena;
	bool same;

	pb_arena_init(&arena);
	for (int i = 0; i < 2; i++) {
		ProtobufCMessage *m;

		if (pb_unpack(type, in[i], &arena, &m))
			break;
		clear_headers(m);
		clear_lease(m);
		packed[i] = pb_pack_blob(m);
	}
	same = packed[0] && packed[1] && slice_eq(blob_slice(packed[0]), blob_slice(packed[1]));
	blob_put(packed[0]);
	blob_put(packed[1]);
	pb_arena_release(&arena);
	return same;
}

/* --- text -------------------------------------------------------------------- */

static void print_message(const ProtobufCMessage *m, int depth, FILE *out);

#define PRINT_MAX 200

static void print_bytes(const ProtobufCBinaryData *b, FILE *out)
{
	fputc('"', out);
	for (size_t i = 0; i < b->len && i < PRINT_MAX; i++) {
		if (b->data[i] >= ' ' && b->data[i] < 0x7f && b->data[i] != '"')
			fputc(b->data[i], out);
		else
			fprintf(out, "\\x%02x", b->data[i]);
	}
	fputc('"', out);
	if (b->len > PRINT_MAX)
		fprintf(out, " (%zu bytes)", b->len);
}

/* Zero is not printed, as it is not sent. */
static bool is_zero(struct visit v)
{
	static const uint64_t zero;

	switch (v.field->type) {
	case PROTOBUF_C_TYPE_BYTES:
		return !((const ProtobufCBinaryData *)v.value)->len;
	case PROTOBUF_C_TYPE_STRING:
		return !**(const char *const *)v.value;
	case PROTOBUF_C_TYPE_MESSAGE:
		return false;
	default:
		return !memcmp(v.value, &zero, field_size(v.field));
	}
}

static void print_value(struct visit v, int depth, FILE *out)
{
	if (v.field->label == PROTOBUF_C_LABEL_NONE && is_zero(v) &&
	    !(v.field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF))
		return;
	fprintf(out, "%*s%s", depth * 2, "", v.field->name);
	switch (v.field->type) {
	case PROTOBUF_C_TYPE_MESSAGE:
		fputs(" {\n", out);
		print_message(*(ProtobufCMessage *const *)v.value, depth + 1, out);
		fprintf(out, "%*s}\n", depth * 2, "");
		return;
	case PROTOBUF_C_TYPE_BYTES:
		fputs(": ", out);
		print_bytes(v.value, out);
		fputc('\n', out);
		return;
	case PROTOBUF_C_TYPE_STRING:
		fprintf(out, ": \"%s\"\n", *(const char *const *)v.value);
		return;
	case PROTOBUF_C_TYPE_INT64:
		fprintf(out, ": %" PRId64 "\n", *(const int64_t *)v.value);
		return;
	case PROTOBUF_C_TYPE_UINT64:
		fprintf(out, ": %" PRIu64 "\n", *(const uint64_t *)v.value);
		return;
	default:
		fprintf(out, ": %" PRId32 "\n", *(const int32_t *)v.value);
	}
}

static void print_message(const ProtobufCMessage *m, int depth, FILE *out)
{
	const ProtobufCMessageDescriptor *type = m->descriptor;

	for (unsigned i = 0; i < type->n_fields; i++)
		for (size_t n = 0; n < field_count(m, &type->fields[i]); n++)
			print_value(field_value(m, &type->fields[i], n), depth, out);
}

void message_print(const ProtobufCMessageDescriptor *type, struct slice bytes, FILE *out)
{
	struct pb_arena arena;
	ProtobufCMessage *m;

	pb_arena_init(&arena);
	if (!bytes.len)
		fputs("    (empty)\n", out);
	else if (pb_unpack(type, bytes, &arena, &m))
		fprintf(out, "    %zu bytes that are no %s\n", bytes.len, type->name);
	else
		print_message(m, 2, out);
	pb_arena_release(&arena);
}
