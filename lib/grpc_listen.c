/* SPDX-License-Identifier: Apache-2.0 */
/* The addresses that a server listens on. */
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

static void on_listener_closed(uv_handle_t *handle)
{
	struct listener *listener = handle->data;
	struct grpc_server *server = listener->server;

	list_del(&listener->node);
	free(listener);
	grpc_server_try_end(server);
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
		err = uv_listen(&listener->stream, LISTEN_BACKLOG, grpc_on_accept);
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

void grpc_listeners_close(struct grpc_server *server)
{
	struct listener *listener;

	list_for_each(listener, &server->listeners, node)
		if (!uv_is_closing(&listener->handle))
			uv_close(&listener->handle, on_listener_closed);
}
