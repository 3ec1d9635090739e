/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client's connection: see grpc.h. It is dialled address by address; the HTTP/2
 * session exists from the start, so that calls can be made at once and leave when
 * there is a socket.
 *
 * The end: conn_fail() notes why, then what is open closes one after the other, each
 * from the loop: name look-up, socket, timer, socket set. In the last step the calls
 * are told, then the user, and the memory goes.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/grpc_client_i.h"

static void conn_step_close(struct grpc_conn *conn);
static void dial_next(struct grpc_conn *conn);

static struct grpc_conn *conn_of(struct socket *socket)
{
	return container_of(socket, struct grpc_conn, socket);
}

static void __printf(4, 5) conn_fail(struct grpc_conn *conn, int error, enum grpc_code code,
				     const char *format, ...)
{
	va_list args;

	if (conn->closing)
		return;
	conn->closing = true;
	conn->error = error < -3000 ? -EHOSTUNREACH : error;	/* a name look-up's code */
	conn->code = code;
	va_start(args, format);
	vsnprintf(conn->text, sizeof(conn->text), format, args);
	va_end(args);
	http2_stop(&conn->http2);
	if (conn->resolving)
		uv_cancel((uv_req_t *)&conn->resolve);
	else if (conn->has_socket)
		socket_close(&conn->socket);
	else
		conn_step_close(conn);
}

/* Worded as grpc-go words it. */
static void dial_failed(struct grpc_conn *conn, int err, const char *step)
{
	conn_fail(conn, err, GRPC_UNAVAILABLE,
		  "connection error: desc = \"transport: Error while dialing: "
		  "dial %s %s: %s: %s\"", conn->url.is_unix ? "unix" : "tcp", conn->address,
		  step, uv_strerror(err));
}

/* --- the session ---------------------------------------------------------------- */

void grpc_conn_ready(struct http2 *http2)
{
	struct grpc_conn *conn = container_of(http2, struct grpc_conn, http2);

	if (conn->callbacks.connected)
		conn->callbacks.connected(conn);
}

/* Kept for the text of closed; the calls that the server still answers go on. */
void grpc_conn_goaway(struct http2 *http2, uint32_t error, struct slice debug)
{
	struct grpc_conn *conn = container_of(http2, struct grpc_conn, http2);

	snprintf(conn->goaway, sizeof(conn->goaway), ", received prior goaway: code: %s%s%.*s",
		 http2_error_text(error), debug.len ? ", debug data: " : "",
		 (int)MIN(debug.len, (size_t)100), (const char *)debug.data);
}

static void conn_lost(struct grpc_conn *conn, int err, const char *cause)
{
	if (conn->http2.settled)
		conn_fail(conn, err, GRPC_UNAVAILABLE, "error reading from server %s: %s%s",
			  conn->address, cause, conn->goaway);
	else
		conn_fail(conn, err, GRPC_UNAVAILABLE,
			  "connection error: desc = \"error reading server preface from %s: %s\"",
			  conn->address, cause);
}

static void check_finished(struct grpc_conn *conn)
{
	if (!conn->closing && http2_finished(&conn->http2))
		conn_lost(conn, -ESHUTDOWN, conn->http2.settled ? "the connection is over" :
			  "the other side does not speak HTTP/2");
}

static void on_read(struct socket *socket, struct slice bytes)
{
	struct grpc_conn *conn = conn_of(socket);
	int err = http2_recv(&conn->http2, bytes);

	if (conn->closing)
		return;
	if (err)
		conn_lost(conn, err, "HTTP/2 protocol error");
	else if (http2_wants_write(&conn->http2))
		socket_dirty(socket);
	else
		check_finished(conn);
}

static void on_fill(struct socket *socket)
{
	struct grpc_conn *conn = conn_of(socket);
	int err = http2_fill(&conn->http2, &socket->out, SOCKET_OUT_MAX);

	if (err)
		conn_lost(conn, err, uv_strerror(err));
}

static void on_wrote(struct socket *socket)
{
	if (!socket->out.len)
		check_finished(conn_of(socket));
}

static void on_lost(struct socket *socket, int error)
{
	conn_lost(conn_of(socket), error ? error : -ECONNRESET, error ? uv_strerror(error) : "EOF");
}

static void on_socket_closed(struct socket *socket)
{
	struct grpc_conn *conn = conn_of(socket);

	conn->has_socket = false;
	if (conn->closing)
		conn_step_close(conn);
	else
		dial_next(conn);
}

static const struct socket_ops client_socket_ops = {
	.read = on_read, .fill = on_fill, .wrote = on_wrote, .lost = on_lost,
	.closed = on_socket_closed,
};

/* --- dialling ------------------------------------------------------------------- */

static void on_connect(uv_connect_t *connect, int status)
{
	struct grpc_conn *conn = connect->data;

	if (conn->closing)
		return;
	if (!status)
		status = socket_start(&conn->socket);
	if (!status)
		return;
	if (conn->next)
		socket_close(&conn->socket);	/* then the next address */
	else
		dial_failed(conn, status, "connect");
}

static void dial(struct grpc_conn *conn, const struct sockaddr *addr)
{
	int err = socket_init(&conn->socket, &conn->set, &client_socket_ops, conn->url.is_unix);

	if (err) {
		dial_failed(conn, err, "socket");
		return;
	}
	conn->has_socket = true;
	conn->connect.data = conn;
	if (conn->url.is_unix)
		uv_pipe_connect(&conn->connect, &conn->socket.pipe, conn->url.path, on_connect);
	else
		err = uv_tcp_connect(&conn->connect, &conn->socket.tcp, addr, on_connect);
	if (err)
		dial_failed(conn, err, "connect");
}

static void dial_next(struct grpc_conn *conn)
{
	struct addrinfo *at = conn->next;

	conn->next = at->ai_next;
	dial(conn, at->ai_addr);
}

static void on_resolved(uv_getaddrinfo_t *resolve, int status, struct addrinfo *addresses)
{
	struct grpc_conn *conn = resolve->data;

	conn->resolving = false;
	conn->addresses = conn->next = addresses;
	if (conn->closing)
		conn_step_close(conn);
	else if (status)
		dial_failed(conn, status, "lookup");
	else
		dial_next(conn);
}

static void start(struct grpc_conn *conn)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	const char *host = *conn->url.host ? conn->url.host : "localhost";
	struct sockaddr_storage addr;
	char port[8];
	int err;

	if (conn->url.is_unix) {
		dial(conn, NULL);
		return;
	}
	if (!uv_ip4_addr(host, conn->url.port, (struct sockaddr_in *)&addr) ||
	    !uv_ip6_addr(host, conn->url.port, (struct sockaddr_in6 *)&addr)) {
		dial(conn, (struct sockaddr *)&addr);
		return;
	}
	snprintf(port, sizeof(port), "%u", conn->url.port);
	conn->resolve.data = conn;
	err = uv_getaddrinfo(conn->set.loop, &conn->resolve, on_resolved, host, port, &hints);
	if (err)
		dial_failed(conn, err, "lookup");
	else
		conn->resolving = true;
}

/* --- the end -------------------------------------------------------------------- */

static void on_set_closed(struct socket_set *set)
{
	struct grpc_conn *conn = container_of(set, struct grpc_conn, set);

	http2_release(&conn->http2, HTTP2_CANCEL);
	if (conn->callbacks.closed)
		conn->callbacks.closed(conn, conn->error, conn->text);
	free(conn);
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct grpc_conn *conn = handle->data;

	socket_set_close(&conn->set, on_set_closed);
}

static void conn_step_close(struct grpc_conn *conn)
{
	uv_freeaddrinfo(conn->addresses);
	conn->addresses = conn->next = NULL;
	uv_close((uv_handle_t *)&conn->timer, on_timer_closed);
}

void grpc_conn_close(struct grpc_conn *conn)
{
	conn_fail(conn, 0, GRPC_CANCELED, "grpc: the client connection is closing");
}

/* --- the beginning -------------------------------------------------------------- */

int grpc_conn_open(uv_loop_t *loop, const char *url, const struct grpc_conn_callbacks *callbacks,
		   struct grpc_conn **out)
{
	const struct http2_config config = { .ops = &grpc_client_ops };
	struct grpc_conn *conn = calloc(1, sizeof(*conn));
	int err;

	if (!conn)
		return -ENOMEM;
	conn->callbacks = *callbacks;
	list_init(&conn->deadlines);
	err = url_parse(url, &conn->url, conn->text, sizeof(conn->text));
	if (err)
		goto free_conn;
	url_address(&conn->url, conn->address, sizeof(conn->address));
	snprintf(conn->authority, sizeof(conn->authority), "%s",
		 conn->url.is_unix ? "localhost" : conn->address);
	err = http2_init(&conn->http2, &config);
	if (err)
		goto free_conn;
	err = socket_set_init(&conn->set, loop);
	if (err)
		goto release_http2;
	uv_timer_init(loop, &conn->timer);
	conn->timer.data = conn;
	start(conn);
	*out = conn;
	return 0;

release_http2:
	http2_release(&conn->http2, HTTP2_CANCEL);
free_conn:
	free(conn);
	return err;
}

void *grpc_conn_user(const struct grpc_conn *conn)
{
	return conn->callbacks.user;
}
