/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protobuf-c with an arena: a message is unpacked into one growing block that is
 * given back whole. protobuf-c 1.4.1 recurses without a limit, so pb_unpack() first
 * walks the bytes, without recursion, and refuses what nests deeper than
 * PB_DEPTH_MAX.
 */
#ifndef LIB_PB_H
#define LIB_PB_H

#include <protobuf-c/protobuf-c.h>

#include "include/blob.h"
#include "include/slice.h"
#include "lib/chain.h"

#define PB_DEPTH_MAX 10000	/* as Go's protobuf: beyond it nothing is read */
#define PB_DEPTH_UNPACK 512	/* beyond it nothing is unpacked */

struct pb_arena {
	ProtobufCAllocator allocator;
	struct pb_arena_block *blocks;
};

void pb_arena_init(struct pb_arena *arena);
void pb_arena_release(struct pb_arena *arena);

enum pb_outcome {
	PB_TOO_DEEP = 1,	/* deeper than PB_DEPTH_UNPACK, up to PB_DEPTH_MAX */
	PB_MUCH_TOO_DEEP,	/* deeper than PB_DEPTH_MAX */
};

/* How deep the messages in @bytes nest according to @type; the outer one is 1.
 * -EBADMSG where the bytes are no such message. */
int pb_depth(const ProtobufCMessageDescriptor *type, struct slice bytes);

/* 0 and *@out, which lives in @arena and refers to none of @bytes; -EBADMSG,
 * -ENOMEM, or an outcome. */
int pb_unpack(const ProtobufCMessageDescriptor *type, struct slice bytes, struct pb_arena *arena,
	      ProtobufCMessage **out);
struct blob *pb_pack_blob(const ProtobufCMessage *message);	/* NULL: no memory */
void pb_pack_chain(const ProtobufCMessage *message, struct chain *out);

#endif
