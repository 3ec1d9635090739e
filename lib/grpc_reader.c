/* SPDX-License-Identifier: Apache-2.0 */
/* Length-prefixed messages: see grpc_i.h. The texts are grpc-go's. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "include/endian_bytes.h"
#include "lib/grpc_i.h"

/* What a message that comes in parts is given room for at first. */
#define READER_FIRST 65536

static int take_head(struct grpc_reader *reader, struct slice *in, size_t max)
{
	size_t n = MIN((size_t)GRPC_HEAD - reader->have, in->len);

	if (n)
		memcpy(reader->head + reader->have, in->data, n);
	reader->have = (uint8_t)(reader->have + n);
	in->data += n;
	in->len -= n;
	if (reader->have < GRPC_HEAD)
		return 0;
	reader->size = get_be32(reader->head + 1);
	if (reader->head[0])
		return -EBADMSG;
	return reader->size > max ? -EMSGSIZE : 1;
}

static int grow(struct grpc_reader *reader, size_t n)
{
	size_t room = MAX(reader->room, (size_t)READER_FIRST);
	uint8_t *buf;

	if (n <= reader->room)
		return 0;
	while (room < n)
		room *= 2;
	room = MIN(room, (size_t)reader->size);
	buf = realloc(reader->buf, room);
	if (!buf)
		return -ENOMEM;
	reader->buf = buf;
	reader->room = room;
	return 0;
}

/* Adds to the message that comes in parts. */
static int gather(struct grpc_reader *reader, struct slice *in)
{
	size_t n = MIN(reader->size - reader->len, in->len);
	int err;

	if (!n)
		return reader->len == reader->size;
	err = grow(reader, reader->len + n);
	if (err)
		return err;
	memcpy(reader->buf + reader->len, in->data, n);
	reader->len += n;
	in->data += n;
	in->len -= n;
	return reader->len == reader->size;
}

int grpc_reader_next(struct grpc_reader *reader, struct slice *in, size_t max,
		     struct slice *message)
{
	int ret;

	if (reader->handed_out)
		grpc_reader_release(reader);
	if (reader->have < GRPC_HEAD) {
		ret = take_head(reader, in, max);
		if (ret <= 0)
			return ret;
	}
	if (!reader->len && in->len >= reader->size) {
		*message = slice_of(in->data, reader->size);
		in->data += reader->size;
		in->len -= reader->size;
		reader->have = 0;
		return 1;
	}
	ret = gather(reader, in);
	if (ret <= 0)
		return ret;
	*message = slice_of(reader->buf, reader->size);
	reader->handed_out = true;
	return 1;
}

enum grpc_code grpc_reader_error(const struct grpc_reader *reader, int err, size_t max,
				 char *text, size_t text_size)
{
	switch (err) {
	case -EMSGSIZE:
		snprintf(text, text_size,
			 "grpc: received message larger than max (%" PRIu32 " vs. %zu)",
			 reader->size, max);
		return GRPC_RESOURCE_EXHAUSTED;
	case -EBADMSG:
		if (reader->head[0] == 1)
			snprintf(text, text_size,
				 "grpc: compressed flag set with identity or empty encoding");
		else
			snprintf(text, text_size, "grpc: received unexpected payload format %u",
				 reader->head[0]);
		return GRPC_INTERNAL;
	default:
		snprintf(text, text_size, "grpc: no memory for a message of %" PRIu32 " bytes",
			 reader->size);
		return GRPC_RESOURCE_EXHAUSTED;
	}
}

bool grpc_reader_idle(const struct grpc_reader *reader)
{
	return !reader->have || reader->handed_out;
}

void grpc_reader_release(struct grpc_reader *reader)
{
	free(reader->buf);
	*reader = (struct grpc_reader){ 0 };
}

bool grpc_frame(struct chain *out, struct chain *message)
{
	uint8_t head[GRPC_HEAD] = { 0 };

	if (chain_failed(message) || message->len > UINT32_MAX)
		return false;
	put_be32(head + 1, (uint32_t)message->len);
	chain_append(out, slice_of(head, sizeof(head)));
	chain_splice(out, message);
	return !chain_failed(out);
}
