/* SPDX-License-Identifier: Apache-2.0 */
/* What the two sides of gRPC share: message framing, status texts, timeouts. */
#ifndef LIB_GRPC_I_H
#define LIB_GRPC_I_H

#include "lib/grpc.h"

/* A message is one byte of flags, four of length (big-endian), and its bytes. */
#define GRPC_HEAD 5

/*
 * Cuts the bytes of a stream into messages. A message that came whole is handed out
 * where it lies; others are put together in a buffer that grows with what came, not
 * with what was announced.
 */
struct grpc_reader {
	uint8_t head[GRPC_HEAD];
	uint8_t have;		/* bytes of head */
	bool handed_out;	/* buf was the last message */
	uint8_t *buf;
	size_t len, room;
	uint32_t size;		/* of the message */
};

/*
 * Takes bytes off @in. 1: @message is whole; it lives until the next call, as @in
 * does. 0: @in is used up. -EMSGSIZE, -EBADMSG, -ENOMEM: grpc_reader_error() words it.
 */
int grpc_reader_next(struct grpc_reader *reader, struct slice *in, size_t max,
		     struct slice *message);
enum grpc_code grpc_reader_error(const struct grpc_reader *reader, int err, size_t max,
				 char *text, size_t text_size);
/* True between two messages. */
bool grpc_reader_idle(const struct grpc_reader *reader);
void grpc_reader_release(struct grpc_reader *reader);

/* Moves @message, with its head before it, to @out. False: it is too long or failed. */
bool grpc_frame(struct chain *out, struct chain *message);

/* grpc-message. The encoded text is malloc()ed; NULL: no memory. Decoding is in place. */
char *grpc_text_encode(const char *text);
void grpc_text_decode(char *text);
/* What a call that ended with this HTTP/2 error or HTTP status means. */
enum grpc_code grpc_code_of_http2(uint32_t error);
enum grpc_code grpc_code_of_status(int status);

/* grpc-timeout: -EINVAL, or nanoseconds. Writes at most GRPC_TIMEOUT_MAX bytes with NUL. */
#define GRPC_TIMEOUT_MAX 10
int grpc_timeout_parse(struct slice text, uint64_t *ns);
void grpc_timeout_format(uint64_t ms, char *out);

bool grpc_is_content_type(struct slice value);

#endif
