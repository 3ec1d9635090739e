/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/pb.h"

#include <errno.h>
#include <stdlib.h>

#include "include/wire.h"

/* --- the arena ------------------------------------------------------------------ */

struct pb_arena_block {
	struct pb_arena_block *next;
	_Alignas(PB_ALIGN) uint8_t data[];
};

/* A block of @n bytes of its own, or NULL. */
static struct pb_arena_block *arena_block(struct pb_arena *arena, size_t n)
{
	struct pb_arena_block *block = NULL;

	if (n <= SIZE_MAX - sizeof(*block))
		block = malloc(sizeof(*block) + n);
	if (!block) {
		arena->failed = true;
		return NULL;
	}
	block->next = arena->blocks;
	arena->blocks = block;
	return block;
}

static void *arena_alloc(void *data, size_t size)
{
	const size_t align = PB_ALIGN;
	struct pb_arena *arena = data;
	struct pb_arena_block *block;
	size_t n = (size + align - 1) & ~(align - 1);
	void *p;

	if (n < size) {
		arena->failed = true;
		return NULL;
	}
	/* What is large gets a block of its own, so that the room left is not lost. */
	if (n > arena->room && n > PB_ARENA_BLOCK / 4) {
		block = arena_block(arena, n);
		return block ? block->data : NULL;
	}
	if (n > arena->room) {
		block = arena_block(arena, PB_ARENA_BLOCK);
		if (!block)
			return NULL;
		arena->next = block->data;
		arena->room = PB_ARENA_BLOCK;
	}
	p = arena->next;
	arena->next += n;
	arena->room -= n;
	return p;
}

/* Memory goes back with the arena, not piece by piece. */
static void arena_free(void *data, void *pointer)
{
}

void pb_arena_init(struct pb_arena *arena)
{
	arena->allocator = (ProtobufCAllocator){ arena_alloc, arena_free, arena };
	arena->blocks = NULL;
	arena->next = arena->first;
	arena->room = sizeof(arena->first);
	arena->failed = false;
}

void pb_arena_reset(struct pb_arena *arena)
{
	struct pb_arena_block *block, *next;

	for (block = arena->blocks; block; block = next) {
		next = block->next;
		free(block);
	}
	pb_arena_init(arena);
}

void pb_arena_release(struct pb_arena *arena)
{
	pb_arena_reset(arena);
}

/* --- nesting -------------------------------------------------------------------- */

/* A message whose fields from @rest on are still to be looked at. */
struct depth_frame {
	const ProtobufCMessageDescriptor *type;
	struct slice rest;
};

#define DEPTH_INLINE 16

struct depth_stack {
	struct depth_frame *frames;
	size_t n, size;
	struct depth_frame first[DEPTH_INLINE];
};

/* The stack grows by doubling and is bounded by PB_DEPTH_MAX frames. */
static int depth_push(struct depth_stack *stack, const ProtobufCMessageDescriptor *type,
		      struct slice bytes)
{
	struct depth_frame *frames;

	BUG_ON(stack->n >= PB_DEPTH_MAX);
	if (stack->n == stack->size) {
		frames = malloc(2 * stack->size * sizeof(*frames));
		if (!frames)
			return -ENOMEM;
		memcpy(frames, stack->frames, stack->n * sizeof(*frames));
		if (stack->frames != stack->first)
			free(stack->frames);
		stack->frames = frames;
		stack->size *= 2;
	}
	stack->frames[stack->n++] = (struct depth_frame){ type, bytes };
	return 0;
}

/* The type of the message that field @f of a @type holds; NULL where it holds none. */
static const ProtobufCMessageDescriptor *
depth_field_type(const ProtobufCMessageDescriptor *type, const struct wire_field *f)
{
	const ProtobufCFieldDescriptor *field;

	if (f->type != WIRE_LEN)
		return NULL;
	field = protobuf_c_message_descriptor_get_field(type, f->number);
	if (!field || field->type != PROTOBUF_C_TYPE_MESSAGE)
		return NULL;
	return field->descriptor;
}

static int depth_walk(struct depth_stack *stack)
{
	const ProtobufCMessageDescriptor *inner;
	struct wire_field f;
	size_t deepest = stack->n;
	int r;

	while (stack->n) {
		struct depth_frame *top = &stack->frames[stack->n - 1];

		r = wire_next(&top->rest, &f);
		if (r < 0)
			return -EBADMSG;
		if (r == 0) {
			stack->n--;
			continue;
		}
		inner = depth_field_type(top->type, &f);
		if (!inner)
			continue;
		if (stack->n == PB_DEPTH_MAX)
			return PB_DEPTH_MAX + 1;
		r = depth_push(stack, inner, f.bytes);
		if (r < 0)
			return r;
		deepest = MAX(deepest, stack->n);
	}
	return (int)deepest;
}

int pb_depth(const ProtobufCMessageDescriptor *type, struct slice bytes)
{
	struct depth_stack stack;
	int r;

	stack.frames = stack.first;
	stack.size = DEPTH_INLINE;
	stack.n = 1;
	stack.first[0] = (struct depth_frame){ type, bytes };
	r = depth_walk(&stack);
	if (stack.frames != stack.first)
		free(stack.frames);
	return r;
}

/* --- messages ------------------------------------------------------------------- */

/* False for the types that cannot nest: those are not worth a walk. */
static bool holds_messages(const ProtobufCMessageDescriptor *type)
{
	for (unsigned i = 0; i < type->n_fields; i++)
		if (type->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
			return true;
	return false;
}

int pb_unpack(const ProtobufCMessageDescriptor *type, struct slice bytes, struct pb_arena *arena,
	      ProtobufCMessage **out)
{
	ProtobufCMessage *message;
	int depth;

	if (holds_messages(type)) {
		depth = pb_depth(type, bytes);
		if (depth < 0)
			return depth;
		if (depth > PB_DEPTH_UNPACK)
			return depth > PB_DEPTH_MAX ? PB_MUCH_TOO_DEEP : PB_TOO_DEEP;
	}
	message = protobuf_c_message_unpack(type, &arena->allocator, bytes.len, bytes.data);
	if (!message)
		return arena->failed ? -ENOMEM : -EBADMSG;
	*out = message;
	return 0;
}

struct blob *pb_pack_blob(const ProtobufCMessage *message)
{
	size_t len = protobuf_c_message_get_packed_size(message);
	struct blob *blob;

	if (len > UINT32_MAX)
		return NULL;
	blob = blob_new(len);
	if (blob)
		protobuf_c_message_pack(message, blob->data);
	return blob;
}

void pb_pack_chain(const ProtobufCMessage *message, struct chain *out)
{
	size_t len = protobuf_c_message_get_packed_size(message);
	uint8_t *p;

	if (!len)
		return;
	p = chain_reserve(out, len);
	if (!p)
		return;
	protobuf_c_message_pack(message, p);
	chain_commit(out, len);
}
