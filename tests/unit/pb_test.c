/* SPDX-License-Identifier: Apache-2.0 */
/* lib/pb: unpacking into an arena, and how deep it lets messages nest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

#include "include/wire.h"
#include "lib/pb.h"
#include "lib/proto/rpc.pb-c.h"

/* Field numbers that the nesting is made of (lib/proto/rpc.proto). */
#define TXN_SUCCESS 2
#define TXN_FAILURE 3
#define OP_TXN 4

/* A TxnRequest in which requests and transactions nest @depth deep. */
static struct blob *nested(unsigned depth)
{
	size_t size = 0;
	struct blob *blob;
	uint8_t *p;

	for (unsigned i = 1; i < depth; i++)
		size += wire_len_field_size(1, size);
	blob = blob_new(size);
	assert_non_null(blob);
	/* from the innermost out, so from the end of the buffer to its beginning */
	p = blob->data + size;
	for (unsigned level = depth; level > 1; level--) {
		size_t inner = (size_t)(blob->data + size - p);

		p -= wire_len_field_size(1, inner);
		wire_put_len_field(p, level % 2 ? OP_TXN : TXN_SUCCESS, inner);
	}
	assert_ptr_equal(p, blob->data);
	return blob;
}

static void test_depth(void **state)
{
	static const struct {
		unsigned depth;
		int unpack;
	} cases[] = {
		{ 1, 0 }, { 2, 0 }, { 3, 0 }, { 16, 0 }, { 17, 0 }, { 33, 0 },
		{ PB_DEPTH_UNPACK, 0 },
		{ PB_DEPTH_UNPACK + 1, PB_TOO_DEEP },
		{ PB_DEPTH_MAX, PB_TOO_DEEP },
		{ PB_DEPTH_MAX + 1, PB_MUCH_TOO_DEEP },
		{ 2 * PB_DEPTH_MAX, PB_MUCH_TOO_DEEP },
	};
	const ProtobufCMessageDescriptor *type = &etcdserverpb__txn_request__descriptor;
	ProtobufCMessage *message;
	struct pb_arena arena;

	pb_arena_init(&arena);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct blob *blob = nested(cases[i].depth);
		struct slice bytes = blob_slice(blob);

		assert_int_equal(pb_depth(type, bytes), MIN(cases[i].depth, PB_DEPTH_MAX + 1u));
		message = NULL;
		assert_int_equal(pb_unpack(type, bytes, &arena, &message), cases[i].unpack);
		assert_int_equal(!message, cases[i].unpack != 0);
		pb_arena_reset(&arena);
		blob_put(blob);
	}
	pb_arena_release(&arena);
}

/* The deepest branch counts, wherever it stands. */
static void test_depth_of_siblings(void **state)
{
	static const uint8_t bytes[] = {
		TXN_SUCCESS << 3 | WIRE_LEN, 4,
			OP_TXN << 3 | WIRE_LEN, 2,
				TXN_FAILURE << 3 | WIRE_LEN, 0,
		TXN_FAILURE << 3 | WIRE_LEN, 0,
	};

	assert_int_equal(pb_depth(&etcdserverpb__txn_request__descriptor,
				  slice_of(bytes, sizeof(bytes))), 4);
}

static void test_refuses_what_is_no_message(void **state)
{
	static const char *const cases[] = {
		"\x80",				/* half a tag */
		"\x0a",				/* a tag without its length */
		"\x0a\x05" "abc",		/* runs past the end */
		"\x12\x02\x22\x05",		/* so does one inside */
		"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"\x02\x01",			/* field number 0 */
		"\x0b",				/* a group */
	};
	const ProtobufCMessageDescriptor *type = &etcdserverpb__txn_request__descriptor;
	ProtobufCMessage *message = NULL;
	struct pb_arena arena;

	pb_arena_init(&arena);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct slice s = slice_str(cases[i]);

		assert_int_equal(pb_depth(type, s), -EBADMSG);
		assert_int_equal(pb_unpack(type, s, &arena, &message), -EBADMSG);
		assert_null(message);
		pb_arena_reset(&arena);
	}
	pb_arena_release(&arena);
}

/* Packs a put, unpacks it and compares; the bytes may go before the message does. */
static void put_round_trip(size_t value_len, struct pb_arena *arena)
{
	Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT, *got;
	uint8_t *value = calloc(1, value_len + 1);
	ProtobufCMessage *message = NULL;
	struct blob *blob;

	assert_non_null(value);
	memset(value, 'v', value_len);
	put.key.data = (uint8_t *)"key";
	put.key.len = 3;
	put.value.data = value;
	put.value.len = value_len;
	put.lease = -1;
	blob = pb_pack_blob(&put.base);
	assert_non_null(blob);
	assert_int_equal(pb_unpack(put.base.descriptor, blob_slice(blob), arena, &message), 0);
	memset(blob->data, 0, blob->len);
	blob_put(blob);
	got = (Etcdserverpb__PutRequest *)message;
	assert_int_equal(got->lease, -1);
	assert_true(slice_eq(slice_of(got->key.data, got->key.len), SLICE_LIT("key")));
	assert_int_equal(got->value.len, value_len);
	assert_memory_equal(got->value.data, value, value_len);
	free(value);
}

/* A type that holds no messages is not walked: protobuf-c itself must refuse. */
static void test_refuses_a_bad_flat_message(void **state)
{
	ProtobufCMessage *message = NULL;
	struct pb_arena arena;

	pb_arena_init(&arena);
	assert_int_equal(pb_unpack(&etcdserverpb__put_request__descriptor,
				   SLICE_LIT("\x0a\x05" "abc"), &arena, &message), -EBADMSG);
	assert_null(message);
	pb_arena_release(&arena);
}

static void test_round_trip(void **state)
{
	static const size_t lengths[] = {
		0, 1, 256, PB_ARENA_INLINE - 1, PB_ARENA_INLINE, PB_ARENA_INLINE + 1,
		PB_ARENA_BLOCK / 4, PB_ARENA_BLOCK, PB_ARENA_BLOCK + 1, 1 << 20,
	};
	struct pb_arena arena;

	pb_arena_init(&arena);
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		put_round_trip(lengths[i], &arena);
		put_round_trip(lengths[i], &arena);	/* two live in one arena */
		pb_arena_reset(&arena);
	}
	pb_arena_release(&arena);
	pb_arena_release(&arena);	/* an empty one too */
}

/* The request that is sent most takes no memory beyond the arena itself. */
static void test_small_request_is_inline(void **state)
{
	struct pb_arena arena;

	pb_arena_init(&arena);
	for (int i = 0; i < 1000; i++) {
		put_round_trip(256, &arena);
		assert_null(arena.blocks);
		pb_arena_reset(&arena);
	}
	pb_arena_release(&arena);
}

static void test_arena_memory_is_aligned(void **state)
{
	struct pb_arena arena;

	pb_arena_init(&arena);
	for (size_t n = 0; n < 3 * PB_ARENA_BLOCK; n += 37) {
		uint8_t *p = arena.allocator.alloc(arena.allocator.allocator_data, n);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % PB_ALIGN, 0);
		memset(p, 0xff, n);
	}
	assert_null(arena.allocator.alloc(arena.allocator.allocator_data, SIZE_MAX));
	assert_null(arena.allocator.alloc(arena.allocator.allocator_data, SIZE_MAX - PB_ALIGN + 2));
	assert_true(arena.failed);
	pb_arena_release(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_depth_of_siblings),
		cmocka_unit_test(test_refuses_what_is_no_message),
		cmocka_unit_test(test_refuses_a_bad_flat_message),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_small_request_is_inline),
		cmocka_unit_test(test_arena_memory_is_aligned),
	};

	return cmocka_run_group_tests_name("pb", tests, NULL, NULL);
}
