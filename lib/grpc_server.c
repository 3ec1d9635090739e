/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server: its connections, and shutdown. Listening is in grpc_listen.c, what
 * happens on a stream in grpc_call.c, HTTP/1.x in http1.c.
 *
 * Shutdown: the listeners close, each HTTP/2 connection is told GOAWAY and closes
 * after its last call, at the latest when the grace timer ends. When the last
 * connection is gone the timers and the socket set close, then done is called.
 */
#include <errno.h>
#include <stdlib.h>

#include "lib/grpc_server_i.h"

/* --- connections ---------------------------------------------------------------- */

static struct server_conn *conn_of(struct socket *socket)
{
	return container_of(socket, struct server_conn, socket);
}

static void conn_close(struct server_conn *conn)
{
	if (conn->kind == CONN_HTTP2)
		http2_stop(&conn->http2);
	socket_close(&conn->socket);
}

/*
 * The connection is over, in order or because the other side broke the protocol: its
 * calls are gone, and what HTTP/2 has to say about it is still sent.
 */
static void http2_over(struct server_conn *conn)
{
	http2_fill(&conn->http2, &conn->socket.out, SOCKET_OUT_MAX);
	http2_release(&conn->http2, HTTP2_CANCEL);
	socket_linger(&conn->socket);
}

static void read_http2(struct server_conn *conn, struct slice bytes)
{
	int err = http2_recv(&conn->http2, bytes);

	if (conn->socket.closing)
		return;
	if (err)
		http2_over(conn);
	else if (http2_wants_write(&conn->http2) || http2_finished(&conn->http2))
		socket_dirty(&conn->socket);
}

static int begin_http2(struct server_conn *conn)
{
	const struct http2_config config = {
		.ops = &grpc_call_ops, .server = true,
		.max_concurrent_streams = conn->server->config.max_concurrent_streams,
	};
	int err = http2_init(&conn->http2, &config);

	if (err)
		return err;
	conn->kind = CONN_HTTP2;
	if (conn->server->stopping)
		http2_goaway(&conn->http2);
	return 0;
}

/*
 * No method of HTTP/1.x begins with "PRI", the first bytes of HTTP/2 (RFC 9113,
 * section 3.4). Returns false while that cannot be told.
 */
static bool tell_protocol(struct server_conn *conn, struct slice bytes, int *err)
{
	static const char preface[] = "PRI";

	for (size_t i = 0; i < bytes.len && conn->n_first < 3; i++)
		conn->first[conn->n_first++] = bytes.data[i];
	*err = 0;
	if (memcmp(conn->first, preface, conn->n_first)) {
		*err = http1_new(&conn->server->config, &conn->http1);
		conn->kind = CONN_HTTP1;
		return true;
	}
	if (conn->n_first < 3)
		return false;
	*err = begin_http2(conn);
	return true;
}

static void http1_step(struct server_conn *conn, enum http1_state state)
{
	switch (state) {
	case HTTP1_READING:
		if (socket_resume_reading(&conn->socket))
			conn_close(conn);
		break;
	case HTTP1_HELD:
		socket_stop_reading(&conn->socket);
		break;
	case HTTP1_LAST:
		socket_end(&conn->socket);
		break;
	case HTTP1_REFUSED:
		socket_linger(&conn->socket);
		break;
	}
	socket_dirty(&conn->socket);
}

static void read_bytes(struct server_conn *conn, struct slice bytes)
{
	if (conn->kind == CONN_HTTP2)
		read_http2(conn, bytes);
	else
		http1_step(conn, http1_recv(conn->http1, bytes, &conn->socket.out));
}

static void on_read(struct socket *socket, struct slice bytes)
{
	struct server_conn *conn = conn_of(socket);
	uint8_t held = conn->n_first;
	int err;

	if (conn->kind == CONN_NEW) {
		if (!tell_protocol(conn, bytes, &err))
			return;
		if (err) {
			conn_close(conn);
			return;
		}
		if (held)
			read_bytes(conn, slice_of(conn->first, held));
	}
	if (!socket->closing && !socket->ending && !socket->lingering)
		read_bytes(conn, bytes);
}

static void on_fill(struct socket *socket)
{
	struct server_conn *conn = conn_of(socket);

	if (conn->kind == CONN_HTTP2 &&
	    http2_fill(&conn->http2, &socket->out, SOCKET_OUT_MAX))
		conn_close(conn);
}

/* A client that does not read its answers is not asked for more requests. */
static bool hold_back(struct server_conn *conn)
{
	if (conn->socket.write_len)
		socket_stop_reading(&conn->socket);
	else if (socket_resume_reading(&conn->socket))
		conn_close(conn);
	return conn->socket.closing;
}

static void on_wrote(struct socket *socket)
{
	struct server_conn *conn = conn_of(socket);

	if (conn->kind == CONN_HTTP1 && socket->stopped && !socket->out.len)
		http1_step(conn, http1_resume(conn->http1, &socket->out));
	if (conn->kind != CONN_HTTP2)
		return;
	if (hold_back(conn))
		return;
	http2_call_writable(&conn->http2);
	if (!socket->closing && http2_finished(&conn->http2))
		http2_over(conn);
}

/* A client of HTTP/1.x may end its side before it reads the answers. */
static void on_lost(struct socket *socket, int error)
{
	struct server_conn *conn = conn_of(socket);

	if (!error && conn->kind == CONN_HTTP1 && socket->out.len)
		socket_end(socket);
	else
		conn_close(conn);
}

static void on_closed(struct socket *socket)
{
	struct server_conn *conn = conn_of(socket);
	struct grpc_server *server = conn->server;

	if (conn->kind == CONN_HTTP2)
		http2_release(&conn->http2, HTTP2_CANCEL);
	http1_free(conn->http1);
	list_del(&conn->node);
	server->n_conns--;
	free(conn);
	grpc_server_try_end(server);
}

static const struct socket_ops conn_ops = {
	.read = on_read, .fill = on_fill, .wrote = on_wrote, .lost = on_lost,
	.closed = on_closed,
};

void grpc_on_accept(uv_stream_t *stream, int status)
{
	struct listener *listener = stream->data;
	struct grpc_server *server = listener->server;
	struct server_conn *conn;

	if (status < 0)
		return;
	conn = calloc(1, sizeof(*conn));
	if (!conn)
		return;
	conn->server = server;
	if (socket_init(&conn->socket, &server->set, &conn_ops, listener->is_unix)) {
		free(conn);
		return;
	}
	list_add_tail(&server->conns, &conn->node);
	server->n_conns++;
	if (uv_accept(stream, &conn->socket.stream) || socket_start(&conn->socket) ||
	    server->n_conns > SERVER_CONNS_MAX)
		conn_close(conn);
}

/* --- the server ----------------------------------------------------------------- */

int grpc_server_new(uv_loop_t *loop, const struct grpc_server_config *config,
		    struct grpc_server **out)
{
	struct grpc_server *server = calloc(1, sizeof(*server));
	int err;

	if (!server)
		return -ENOMEM;
	server->config = *config;
	list_init(&server->listeners);
	list_init(&server->conns);
	list_init(&server->deadlines);
	err = method_table_init(&server->methods, config->methods);
	if (err)
		goto free_server;
	err = socket_set_init(&server->set, loop);
	if (err)
		goto release_methods;
	uv_timer_init(loop, &server->deadline_timer);
	uv_timer_init(loop, &server->grace);
	server->deadline_timer.data = server->grace.data = server;
	uv_unref((uv_handle_t *)&server->deadline_timer);
	*out = server;
	return 0;

release_methods:
	method_table_release(&server->methods);
free_server:
	free(server);
	return err;
}

void grpc_server_flush(struct grpc_server *server)
{
	socket_set_flush(&server->set);
}

const uint64_t *grpc_server_handled(const struct grpc_server *server, size_t i)
{
	return server->methods.handled[i];
}

void grpc_server_stats(const struct grpc_server *server, struct grpc_server_stats *out)
{
	*out = (struct grpc_server_stats){
		.bytes_in = server->set.bytes_in, .bytes_out = server->set.bytes_out,
		.connections = server->n_conns,
	};
}

static void on_set_closed(struct socket_set *set)
{
	struct grpc_server *server = container_of(set, struct grpc_server, set);

	server->ended = true;
	if (server->done)
		server->done(server->done_arg);
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct grpc_server *server = handle->data;

	if (!--server->open_timers)
		socket_set_close(&server->set, on_set_closed);
}

void grpc_server_try_end(struct grpc_server *server)
{
	if (!server->stopping || server->open_timers || !list_empty(&server->conns) ||
	    !list_empty(&server->listeners))
		return;
	server->open_timers = 2;
	uv_close((uv_handle_t *)&server->deadline_timer, on_timer_closed);
	uv_close((uv_handle_t *)&server->grace, on_timer_closed);
}

static void close_conns(struct grpc_server *server)
{
	struct server_conn *conn;

	list_for_each(conn, &server->conns, node)
		conn_close(conn);
}

static void on_grace(uv_timer_t *timer)
{
	close_conns(timer->data);
}

/* Lets the calls of @conn finish. */
static void conn_retire(struct server_conn *conn)
{
	if (conn->kind != CONN_HTTP2) {
		socket_end(&conn->socket);
		return;
	}
	if (http2_goaway(&conn->http2))
		conn_close(conn);
	socket_dirty(&conn->socket);
}

void grpc_server_shutdown(struct grpc_server *server, unsigned grace_ms,
			  void (*done)(void *arg), void *arg)
{
	struct server_conn *conn;

	BUG_ON(server->stopping);
	server->stopping = true;
	server->done = done;
	server->done_arg = arg;
	grpc_listeners_close(server);
	list_for_each(conn, &server->conns, node)
		conn_retire(conn);
	if (!grace_ms)
		close_conns(server);
	else
		uv_timer_start(&server->grace, on_grace, grace_ms, 0);
	grpc_server_try_end(server);
}

void grpc_server_free(struct grpc_server *server)
{
	if (!server)
		return;
	BUG_ON(!server->ended);
	method_table_release(&server->methods);
	free(server);
}
