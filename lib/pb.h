/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protobuf-c with an arena: a message is unpacked into memory that is given back
 * whole. protobuf-c 1.4.1 recurses without a limit, so pb_unpack() first walks the
 * bytes, without recursion, and refuses what nests deeper than PB_DEPTH_UNPACK.
 *
 * Calling sequence, for one connection that reads message after message:
 *
 *	pb_arena_init(&arena);				once
 *	pb_unpack(&type, bytes, &arena, &message);	use the message, never free it
 *	pb_arena_reset(&arena);				the message is gone; then the next
 *	pb_arena_release(&arena);			once
 *
 * An arena begins with room inside itself, enough for the requests that are sent
 * most, so that unpacking one of those calls no malloc. It holds pointers to itself:
 * it must not be copied or moved. It belongs to one thread at a time.
 */
#ifndef LIB_PB_H
#define LIB_PB_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

#include "include/blob.h"
#include "include/slice.h"
#include "lib/chain.h"

#define PB_DEPTH_MAX 10000	/* as Go's protobuf: beyond it nothing is read */
#define PB_DEPTH_UNPACK 512	/* beyond it nothing is unpacked */

#define PB_ARENA_INLINE 1024	/* bytes inside the arena itself */
#define PB_ALIGN 8		/* of what is in it: messages hold pointers and integers */
#define PB_ARENA_BLOCK 16384	/* each further block, at least */

struct pb_arena {
	ProtobufCAllocator allocator;
	struct pb_arena_block *blocks;
	uint8_t *next;			/* the first free byte */
	size_t room;			/* bytes free from there on */
	bool failed;			/* an allocation failed since the last reset */
	_Alignas(PB_ALIGN) uint8_t first[PB_ARENA_INLINE];
};

void pb_arena_init(struct pb_arena *arena);
/* Ends the life of everything in the arena, which is then as new. */
void pb_arena_reset(struct pb_arena *arena);
void pb_arena_release(struct pb_arena *arena);
/* Memory that lives as long; NULL where there is none. */
static inline void *pb_arena_alloc(struct pb_arena *arena, size_t size)
{
	return arena->allocator.alloc(arena->allocator.allocator_data, size);
}

enum pb_outcome {
	PB_TOO_DEEP = 1,	/* deeper than PB_DEPTH_UNPACK, up to PB_DEPTH_MAX */
	PB_MUCH_TOO_DEEP,	/* deeper than PB_DEPTH_MAX */
};

/* How deep the messages in @bytes nest according to @type; the outer one is 1. The
 * walk ends at the first that is deeper than PB_DEPTH_MAX, with PB_DEPTH_MAX + 1.
 * -EBADMSG where the bytes are no such message, -ENOMEM. */
int pb_depth(const ProtobufCMessageDescriptor *type, struct slice bytes);

/* 0 and *@out, which lives in @arena and refers to none of @bytes; -EBADMSG,
 * -ENOMEM, or an outcome. */
int pb_unpack(const ProtobufCMessageDescriptor *type, struct slice bytes, struct pb_arena *arena,
	      ProtobufCMessage **out);
/* NULL: no memory, or longer than a blob can be. */
struct blob *pb_pack_blob(const ProtobufCMessage *message);
/* Appends; where memory is short @out is marked failed. */
void pb_pack_chain(const ProtobufCMessage *message, struct chain *out);

#endif
