// SPDX-License-Identifier: Apache-2.0

/* What respond.c encodes by hand, decoded by protobuf-c; packed again by it, each
 * response must come to the same number of bytes. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kvd/respond.h"
#include "lib/proto/rpc.pb-c.h"

static const struct response_header header = { 1, UINT64_MAX, 300, 2 };

static struct blob *make_kv(const char *key)
{
	Mvccpb__KeyValue kv = MVCCPB__KEY_VALUE__INIT;

	kv.key = (ProtobufCBinaryData){ strlen(key), (uint8_t *)(uintptr_t)key };
	kv.mod_revision = 300;
	return pb_pack_blob(&kv.base);
}

/* One in, as a response has them; the array and the blob are the result's. */
static void fill_kvs(struct mvcc_result *kvs, const char *key)
{
	kvs->kvs = calloc(1, sizeof(*kvs->kvs));
	kvs->kvs[0] = make_kv(key);
	kvs->n = kvs->cap = 1;
	kvs->count = 1000;
	kvs->more = true;
}

static void *decode(struct chain *chain, const ProtobufCMessageDescriptor *type,
		    struct pb_arena *arena)
{
	uint8_t *bytes = pb_arena_alloc(arena, chain->len + 1);
	ProtobufCMessage *message;
	size_t len = chain->len;

	assert_false(chain_failed(chain));
	chain_copy(chain, bytes);
	chain_release(chain);
	assert_int_equal(pb_unpack(type, slice_of(bytes, len), arena, &message), 0);
	assert_int_equal(protobuf_c_message_get_packed_size(message), len);
	return message;
}

static void assert_key(const Mvccpb__KeyValue *kv, const char *key)
{
	assert_int_equal(kv->key.len, strlen(key));
	assert_memory_equal(kv->key.data, key, kv->key.len);
	assert_int_equal(kv->mod_revision, 300);
}

/* txn { range, txn { put with prev, delete with prev } } */
static void make_txn(struct op_result *txn)
{
	struct op_result *inner;

	*txn = (struct op_result){ .op = REQUEST_TXN, .revision = 300, .succeeded = true,
				   .ops = calloc(2, sizeof(*txn->ops)), .n_ops = 2 };
	txn->ops[0] = (struct op_result){ .op = REQUEST_RANGE, .revision = 299 };
	fill_kvs(&txn->ops[0].kvs, "ranged");
	inner = &txn->ops[1];
	*inner = (struct op_result){ .op = REQUEST_TXN, .ops = calloc(2, sizeof(*inner->ops)),
				     .n_ops = 2 };
	inner->ops[0] = (struct op_result){ .op = REQUEST_PUT, .prev = make_kv("before") };
	inner->ops[1] = (struct op_result){ .op = REQUEST_DELETE_RANGE, .deleted = 77 };
	fill_kvs(&inner->ops[1].kvs, "deleted");
}

static void test_nested_txn(void **state)
{
	Etcdserverpb__TxnResponse *r, *inner;
	struct op_result txn;
	struct pb_arena arena;
	struct chain out;

	pb_arena_init(&arena);
	chain_init(&out);
	make_txn(&txn);
	respond_op(&txn, &header, &out);
	r = decode(&out, &etcdserverpb__txn_response__descriptor, &arena);
	assert_true(r->header->member_id == UINT64_MAX);
	assert_int_equal(r->header->revision, 300);
	assert_true(r->succeeded);
	assert_int_equal(r->n_responses, 2);
	assert_int_equal(r->responses[0]->response_range->header->revision, 299);
	assert_int_equal(r->responses[0]->response_range->count, 1000);
	assert_true(r->responses[0]->response_range->more);
	assert_key(r->responses[0]->response_range->kvs[0], "ranged");
	inner = r->responses[1]->response_txn;
	assert_false(inner->succeeded);
	assert_key(inner->responses[0]->response_put->prev_kv, "before");
	assert_int_equal(inner->responses[1]->response_delete_range->deleted, 77);
	assert_key(inner->responses[1]->response_delete_range->prev_kvs[0], "deleted");
	op_result_release(&txn);
	pb_arena_release(&arena);
}

static void test_watch(void **state)
{
	struct mvcc_event events[] = {
		{ MVCC_PUT, 300, make_kv("put"), NULL },
		{ MVCC_DELETE, 300, make_kv("gone"), make_kv("was") },
	};
	struct respond_watch w = { .header = header, .watch_id = -1, .created = true,
				   .canceled = true, .fragment = true, .compact_revision = 5,
				   .cancel_reason = "why", .events = events, .n_events = 2 };
	Etcdserverpb__WatchResponse *r;
	struct pb_arena arena;
	struct chain out;

	pb_arena_init(&arena);
	chain_init(&out);
	respond_watch(&w, &out);
	r = decode(&out, &etcdserverpb__watch_response__descriptor, &arena);
	assert_int_equal(r->watch_id, -1);
	assert_true(r->created && r->canceled && r->fragment);
	assert_int_equal(r->compact_revision, 5);
	assert_string_equal(r->cancel_reason, "why");
	assert_int_equal(r->n_events, 2);
	assert_int_equal(r->events[0]->type, 0);
	assert_key(r->events[0]->kv, "put");
	assert_null(r->events[0]->prev_kv);
	assert_int_equal(r->events[1]->type, 1);
	assert_key(r->events[1]->prev_kv, "was");
	for (size_t i = 0; i < 2; i++) {
		blob_put(events[i].kv);
		blob_put(events[i].prev);
	}
	pb_arena_release(&arena);
}

static void test_range_chunks(void **state)
{
	Etcdserverpb__RangeStreamResponse *r;
	struct mvcc_result kvs = { 0 };
	struct pb_arena arena;
	struct chain out;

	pb_arena_init(&arena);
	fill_kvs(&kvs, "k");
	for (int last = 0; last < 2; last++) {
		chain_init(&out);
		respond_range_chunk(&kvs, last ? &header : NULL, &out);
		r = decode(&out, &etcdserverpb__range_stream_response__descriptor, &arena);
		assert_key(r->range_response->kvs[0], "k");
		assert_int_equal(r->range_response->header != NULL, last);
		assert_int_equal(r->range_response->count, last ? 1000 : 0);
	}
	mvcc_result_release(&kvs);
	pb_arena_release(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nested_txn),
		cmocka_unit_test(test_watch),
		cmocka_unit_test(test_range_chunks),
	};

	return cmocka_run_group_tests_name("respond", tests, NULL, NULL);
}
