/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's side of one HTTP/1.x connection (RFC 9112), by http_parser: bytes go
 * in, the answers are appended to a chain in the order of the requests. No sockets
 * here, and no other file knows the parser.
 *
 * A client may send many requests before it reads an answer. Once HTTP1_OUT_MAX
 * bytes of answers wait, the rest of the input is held: read no more, and call
 * http1_resume() when the answers have left.
 */
#ifndef LIB_HTTP1_I_H
#define LIB_HTTP1_I_H

#include "lib/grpc.h"

#define HTTP1_HEADERS_MAX	16384	/* bytes of the request line and the headers */
#define HTTP1_OUT_MAX		262144

struct http1;

int http1_new(const struct grpc_server_config *config, struct http1 **out);
void http1_free(struct http1 *http1);

enum http1_state {
	HTTP1_READING,	/* wants more input */
	HTTP1_HELD,	/* has input that waits for http1_resume() */
	HTTP1_LAST,	/* close in order once the answers are written */
	HTTP1_REFUSED,	/* the same, and what still comes is to be thrown away */
};

enum http1_state http1_recv(struct http1 *http1, struct slice bytes, struct chain *out);
enum http1_state http1_resume(struct http1 *http1, struct chain *out);

#endif
