/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gRPC over HTTP/2 (nghttp2) on a libuv loop, both sides. Everything here belongs
 * to the loop's thread.
 *
 * One listening socket serves HTTP/2 with prior knowledge (gRPC) and HTTP/1.1
 * (/health and the like): the first bytes of a connection tell them apart.
 *
 * Output is batched: what is sent during one turn of the loop is written to each
 * socket once, by grpc_server_flush() or, where nobody calls it, at the end of the
 * turn (uv_check).
 *
 * Calls. A server's struct grpc_call is one open stream. Its callbacks come in the
 * order open, message*, half_close?, closed. After closed the call is gone: who
 * keeps a pointer to it (a request that is under way) clears it there.
 * grpc_call_finish() ends the call; closed follows, possibly before it returns.
 *
 * Source: grpc/grpc doc/PROTOCOL-HTTP2.md; RFC 9113.
 */
#ifndef LIB_GRPC_H
#define LIB_GRPC_H

#include <uv.h>

#include "lib/chain.h"

/* google.golang.org/grpc/codes, by number. */
enum grpc_code {
	GRPC_OK = 0, GRPC_CANCELED = 1, GRPC_UNKNOWN = 2, GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4, GRPC_NOT_FOUND = 5, GRPC_ALREADY_EXISTS = 6,
	GRPC_PERMISSION_DENIED = 7, GRPC_RESOURCE_EXHAUSTED = 8, GRPC_FAILED_PRECONDITION = 9,
	GRPC_ABORTED = 10, GRPC_OUT_OF_RANGE = 11, GRPC_UNIMPLEMENTED = 12, GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14, GRPC_DATA_LOSS = 15, GRPC_UNAUTHENTICATED = 16,
};

#define GRPC_CODES 17

const char *grpc_code_name(enum grpc_code code);	/* "InvalidArgument" */

/* --- server --------------------------------------------------------------- */

struct grpc_server;
struct grpc_call;

struct grpc_method {
	const char *path;		/* "/etcdserverpb.KV/Put" */
	void (*open)(struct grpc_call *call);				/* may be NULL */
	void (*message)(struct grpc_call *call, struct slice message);	/* borrowed */
	void (*half_close)(struct grpc_call *call);			/* may be NULL */
	void (*closed)(struct grpc_call *call);				/* may be NULL */
	void (*writable)(struct grpc_call *call);			/* may be NULL: what
				was queued fell below grpc_call_queued()'s low-water mark */
	bool unary;			/* one message in, one out: a second is an error */
	void *user;			/* the method's own: grpc_call_method(call)->user */
};

/* A HTTP/1.1 request; the slices live during the call. */
struct http_request {
	const char *method;		/* "GET" */
	struct slice path, query, body;
};

struct http_response {
	int status;
	const char *content_type;
	struct chain body;		/* empty at first; taken */
};

struct grpc_server_config {
	const struct grpc_method *methods;	/* terminated by path NULL; must outlive */
	size_t max_message;		/* bytes of one request message; a larger one is
					   answered RESOURCE_EXHAUSTED as grpc-go words it */
	uint32_t max_concurrent_streams;	/* of one connection; 0: no limit */
	/* Answers @request by filling @response at once (status 0: no such path). */
	void (*http)(void *user, const struct http_request *request,
		     struct http_response *response);
	void *user;
};

struct grpc_server_stats {
	uint64_t bytes_in, bytes_out;
	uint64_t connections;		/* open now */
};

int grpc_server_new(uv_loop_t *loop, const struct grpc_server_config *config,
		    struct grpc_server **out);
/* @url: http://host:port, unix://path or unix:/path. Port 0 picks one. Errors are
 * negative errno, and @why (of @why_size bytes) says which address and what to do. */
int grpc_server_listen(struct grpc_server *server, const char *url, char *why, size_t why_size);
/* The TCP port that the last grpc_server_listen() got; 0 for a unix socket. */
uint16_t grpc_server_port(const struct grpc_server *server);
/* Writes what was sent, except to the connection whose callback this is called from. */
void grpc_server_flush(struct grpc_server *server);
void grpc_server_stats(const struct grpc_server *server, struct grpc_server_stats *out);
/* How many calls of the i-th method ended, by code. One that the client left counts as
 * CANCELED. */
const uint64_t *grpc_server_handled(const struct grpc_server *server, size_t i);
/* Also of a server that never listened. Stops accepting, sends GOAWAY, lets calls that
 * are being answered finish, closes after @grace_ms at the latest, then calls @done
 * once; free only after that. */
void grpc_server_shutdown(struct grpc_server *server, unsigned grace_ms,
			  void (*done)(void *arg), void *arg);
void grpc_server_free(struct grpc_server *server);

const struct grpc_method *grpc_call_method(const struct grpc_call *call);
void *grpc_call_user(const struct grpc_call *call);
void grpc_call_set_user(struct grpc_call *call, void *user);
/* The value of a request header (metadata), NULL data where absent; only
 * "authorization", "token", "hasleader" and "grpc-timeout" are kept. */
struct slice grpc_call_metadata(const struct grpc_call *call, const char *name);
/* The deadline of grpc-timeout as uv_hrtime() nanoseconds; 0: none. */
uint64_t grpc_call_deadline(const struct grpc_call *call);

/* Sends @message (taken, framed here). On a unary call grpc_call_finish() follows. */
void grpc_call_send(struct grpc_call *call, struct chain *message);
/* @text NULL or "" for none; it is percent-encoded here. */
void grpc_call_finish(struct grpc_call *call, enum grpc_code code, const char *text);
/* Bytes sent that wait for the client or the kernel to take what came before them.
 * Above GRPC_HIGH_WATER stop sending and wait for writable. */
size_t grpc_call_queued(const struct grpc_call *call);
#define GRPC_HIGH_WATER (1u << 20)

/* --- client --------------------------------------------------------------- */

struct grpc_conn;
struct grpc_client_call;

struct grpc_conn_callbacks {
	void (*connected)(struct grpc_conn *conn);
	/* Once, also when connecting failed: @error negative errno and a text. Every
	 * open call has had its done before. The conn is freed after it returns. */
	void (*closed)(struct grpc_conn *conn, int error, const char *text);
	void *user;
};

/* @url as for grpc_server_listen(), also host:port alone. Calls may be started at
 * once; they wait until it is connected. The authority header is made from the url. */
int grpc_conn_open(uv_loop_t *loop, const char *url, const struct grpc_conn_callbacks *callbacks,
		   struct grpc_conn **out);
void *grpc_conn_user(const struct grpc_conn *conn);
/* The calls are done as CANCELED and closed follows, both from the loop, not from here. */
void grpc_conn_close(struct grpc_conn *conn);

struct grpc_client_callbacks {
	void (*message)(struct grpc_client_call *call, struct slice message);	/* borrowed */
	/* Once, always, unless cancelled; the call is freed after it returns. */
	void (*done)(struct grpc_client_call *call, enum grpc_code code, const char *text);
	void *user;
};

/* @timeout_ms 0: none. -ESHUTDOWN: the connection takes no more calls. */
int grpc_client_call_open(struct grpc_conn *conn, const char *path,
			  const struct grpc_client_callbacks *callbacks, uint64_t timeout_ms,
			  struct grpc_client_call **out);
void *grpc_client_call_user(const struct grpc_client_call *call);
/* In done: true where the server certainly did not handle the call (it never left, or
 * the server refused the stream), so that even a write may be sent again. */
bool grpc_client_call_unprocessed(const struct grpc_client_call *call);
void grpc_client_call_send(struct grpc_client_call *call, struct chain *message);
void grpc_client_call_half_close(struct grpc_client_call *call);
/* Resets the stream; no callback follows; the call is gone. */
void grpc_client_call_cancel(struct grpc_client_call *call);

#endif
