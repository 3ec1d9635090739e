/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's own parts. grpc_listen.c listens; grpc_server.c accepts, tells HTTP/2
 * from HTTP/1.x and shuts down; grpc_call.c is what happens on one HTTP/2 stream.
 */
#ifndef LIB_GRPC_SERVER_I_H
#define LIB_GRPC_SERVER_I_H

#include "lib/grpc_i.h"
#include "lib/http1_i.h"
#include "lib/http2_i.h"
#include "lib/socket_i.h"

#define SERVER_CONNS_MAX 65536	/* one beyond is closed at once */
#define SERVER_DEADLINE_MS 50	/* how often deadlines are looked at */

/* The methods by path: open addressing, at most half full. */
struct method_table {
	struct method_entry {
		struct slice path;
		const struct grpc_method *method;
	} *entries;
	size_t mask;
	uint64_t (*handled)[GRPC_CODES];	/* calls that ended, of each method in order */
};

struct grpc_server {
	struct socket_set set;
	struct grpc_server_config config;
	struct method_table methods;
	struct list listeners;
	struct list conns;
	size_t n_conns;
	uint16_t port;
	struct list deadlines;	/* calls that have one */
	uv_timer_t deadline_timer;	/* runs while there are some */
	bool stopping, ended;	/* shutdown was called; done was called */
	uv_timer_t grace;
	unsigned open_timers;
	void (*done)(void *arg);
	void *done_arg;
};

struct listener {
	union {
		uv_handle_t handle;
		uv_stream_t stream;
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	};
	struct grpc_server *server;
	struct list node;
	bool is_unix;
};

struct server_conn {
	struct socket socket;
	struct grpc_server *server;
	struct list node;
	enum { CONN_NEW, CONN_HTTP1, CONN_HTTP2 } kind;
	uint8_t first[4];	/* bytes that came while new */
	uint8_t n_first;
	struct http1 *http1;
	struct http2 http2;
};

extern const struct http2_ops grpc_call_ops;

void grpc_on_accept(uv_stream_t *stream, int status);
void grpc_listeners_close(struct grpc_server *server);
/* The last step of the shutdown, once nothing is left that was accepted. */
void grpc_server_try_end(struct grpc_server *server);

int method_table_init(struct method_table *table, const struct grpc_method *methods);
void method_table_release(struct method_table *table);
const struct grpc_method *method_table_find(const struct method_table *table, struct slice path);
/* True where a method's path begins with "/" @service "/". */
bool method_table_has_service(const struct method_table *table, struct slice service);

#endif
