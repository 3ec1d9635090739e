/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server: listeners, connections, shutdown. What happens on a stream is in
 * grpc_call.c, HTTP/1.x in http1.c.
 *
 * Shutdown: the listeners close, each HTTP/2 connection is told GOAWAY and closes
 * after its last call, at the latest when the grace timer ends. When the last
 * connection is gone the timers and the socket set close, then done is called.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/grpc_server_i.h"
#include "lib/url_i.h"

#define LISTEN_BACKLOG 4096

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

static void try_end(struct grpc_server *server);

/* --- connections --------------------------------------------------------------------- */

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

static void on_wrote(struct socket *socket)
{
	struct server_conn *conn = conn_of(socket);

	if (conn->kind == CONN_HTTP1 && socket->stopped && !socket->out.len)
		http1_step(conn, http1_resume(conn->http1, &socket->out));
	if (conn->kind != CONN_HTTP2)
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
	try_end(server);
}

static const struct socket_ops conn_ops = {
	.read = on_read, .fill = on_fill, .wrote = on_wrote, .lost = on_lost,
	.closed = on_closed,
};

static void on_accept(uv_stream_t *stream, int status)
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

/* --- listening ------------------------------------------------------------------------ */

static void on_listener_closed(uv_handle_t *handle)
{
	struct listener *listener = handle->data;
	struct grpc_server *server = listener->server;

	list_del(&listener->node);
	free(listener);
	try_end(server);
}

/* A socket file whose program is gone is in the way; one that answers is not ours. */
static int remove_stale(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct stat st;
	int fd, err = 0;

	if (lstat(path, &st))
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	memcpy(addr.sun_path, path, MIN(strlen(path), sizeof(addr.sun_path) - 1));
	if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr)) || errno != ECONNREFUSED)
		err = -EADDRINUSE;
	else if (unlink(path))
		err = -errno;
	close(fd);
	return err;
}

/* libuv says EACCES for a directory that does not exist, too. */
static int bind_unix(struct listener *listener, const struct url *url)
{
	const char *slash = strrchr(url->path, '/');
	char dir[URL_PATH_MAX];
	int err = remove_stale(url->path);

	if (err)
		return err;
	err = uv_pipe_bind(&listener->pipe, url->path);
	if (err != -EACCES || !slash)
		return err;
	snprintf(dir, sizeof(dir), "%.*s", (int)(slash - url->path) + 1, url->path);
	return access(dir, F_OK) ? -errno : err;
}

static int resolve(struct grpc_server *server, const struct url *url,
		   struct sockaddr_storage *out)
{
	const struct addrinfo hints = {
		.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE,
	};
	uv_getaddrinfo_t request;
	char port[8];
	int err;

	snprintf(port, sizeof(port), "%u", url->port);
	err = uv_getaddrinfo(server->set.loop, &request, NULL, *url->host ? url->host : NULL,
			     port, &hints);
	if (err)
		return err;
	memcpy(out, request.addrinfo->ai_addr, request.addrinfo->ai_addrlen);
	uv_freeaddrinfo(request.addrinfo);
	return 0;
}

static int bind_tcp(struct listener *listener, const struct url *url)
{
	struct sockaddr_storage addr;
	int err = resolve(listener->server, url, &addr);

	return err ? err : uv_tcp_bind(&listener->tcp, (struct sockaddr *)&addr, 0);
}

static uint16_t bound_port(const struct listener *listener)
{
	struct sockaddr_storage addr;
	int len = sizeof(addr);

	if (listener->is_unix || uv_tcp_getsockname(&listener->tcp, (void *)&addr, &len))
		return 0;
	if (addr.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *)&addr)->sin6_port);
	return ntohs(((struct sockaddr_in *)&addr)->sin_port);
}

static int explain(int err, const char *url, char *why, size_t why_size)
{
	const char *advice = "";

	if (err == -EADDRINUSE)
		advice = "; stop the program that listens there, or choose another address";
	else if (err == -EACCES)
		advice = "; choose a port above 1023 or a directory that can be written";
	else if (err == -EADDRNOTAVAIL)
		advice = "; choose an address of this machine";
	else if (err == -EEXIST)
		advice = "; the path is that of a file which is no socket";
	snprintf(why, why_size, "cannot listen on %s: %s%s", url, uv_strerror(err), advice);
	/* libuv's own codes, those of name look-up, are below all of errno */
	return err < -3000 ? -EADDRNOTAVAIL : err;
}

static int new_listener(struct grpc_server *server, bool is_unix, struct listener **out)
{
	struct listener *listener = calloc(1, sizeof(*listener));
	int err;

	if (!listener)
		return -ENOMEM;
	listener->is_unix = is_unix;
	listener->server = server;
	err = is_unix ? uv_pipe_init(server->set.loop, &listener->pipe, 0) :
			uv_tcp_init(server->set.loop, &listener->tcp);
	if (err) {
		free(listener);
		return err;
	}
	listener->handle.data = listener;
	list_add_tail(&server->listeners, &listener->node);
	*out = listener;
	return 0;
}

int grpc_server_listen(struct grpc_server *server, const char *text, char *why, size_t why_size)
{
	struct listener *listener;
	struct url url;
	int err;

	BUG_ON(server->stopping);
	err = url_parse(text, &url, why, why_size);
	if (err)
		return err;
	err = new_listener(server, url.is_unix, &listener);
	if (err)
		return explain(err, text, why, why_size);
	err = url.is_unix ? bind_unix(listener, &url) : bind_tcp(listener, &url);
	if (!err)
		err = uv_listen(&listener->stream, LISTEN_BACKLOG, on_accept);
	if (err) {
		uv_close(&listener->handle, on_listener_closed);
		return explain(err, text, why, why_size);
	}
	server->port = bound_port(listener);
	return 0;
}

uint16_t grpc_server_port(const struct grpc_server *server)
{
	return server->port;
}

/* --- the server ----------------------------------------------------------------------- */

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

/* The last step of the shutdown, once nothing is left that was accepted. */
static void try_end(struct grpc_server *server)
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
	struct listener *listener;
	struct server_conn *conn;

	BUG_ON(server->stopping);
	server->stopping = true;
	server->done = done;
	server->done_arg = arg;
	list_for_each(listener, &server->listeners, node)
		if (!uv_is_closing(&listener->handle))
			uv_close(&listener->handle, on_listener_closed);
	list_for_each(conn, &server->conns, node)
		conn_retire(conn);
	if (!grace_ms)
		close_conns(server);
	else
		uv_timer_start(&server->grace, on_grace, grace_ms, 0);
	try_end(server);
}

void grpc_server_free(struct grpc_server *server)
{
	if (!server)
		return;
	BUG_ON(!server->ended);
	method_table_release(&server->methods);
	free(server);
}
