/* SPDX-License-Identifier: Apache-2.0 */
/* Stream sockets with batched output: see socket_i.h. */
#include "lib/socket_i.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

/* Pieces given to one writev. */
#define WRITE_IOV 64

_Static_assert(sizeof(uv_buf_t) == sizeof(struct iovec) &&
	       offsetof(uv_buf_t, base) == offsetof(struct iovec, iov_base) &&
	       offsetof(uv_buf_t, len) == offsetof(struct iovec, iov_len),
	       "libuv's buffers are iovecs");

static struct socket_set *set_of(void *data)
{
	return data;
}

static void on_prepare(uv_prepare_t *handle)
{
	socket_set_flush(set_of(handle->data));
}

static void on_check(uv_check_t *handle)
{
	socket_set_flush(set_of(handle->data));
}

/* It only has to exist; the flush is before the poll. */
static void on_idle(uv_idle_t *handle)
{
}

int socket_set_init(struct socket_set *set, uv_loop_t *loop)
{
	*set = (struct socket_set){ .loop = loop };
	set->buffer = malloc(SOCKET_READ_BUFFER);
	if (!set->buffer)
		return -ENOMEM;
	list_init(&set->dirty);
	uv_prepare_init(loop, &set->prepare);
	uv_check_init(loop, &set->check);
	uv_idle_init(loop, &set->idle);
	set->prepare.data = set->check.data = set->idle.data = set;
	uv_prepare_start(&set->prepare, on_prepare);
	uv_check_start(&set->check, on_check);
	uv_unref((uv_handle_t *)&set->prepare);
	uv_unref((uv_handle_t *)&set->check);
	return 0;
}

static void on_set_handle_closed(uv_handle_t *handle)
{
	struct socket_set *set = handle->data;

	if (--set->open_handles)
		return;
	free(set->buffer);
	set->closed(set);
}

void socket_set_close(struct socket_set *set, void (*closed)(struct socket_set *set))
{
	BUG_ON(!list_empty(&set->dirty));
	set->closed = closed;
	set->open_handles = 3;
	uv_close((uv_handle_t *)&set->prepare, on_set_handle_closed);
	uv_close((uv_handle_t *)&set->check, on_set_handle_closed);
	uv_close((uv_handle_t *)&set->idle, on_set_handle_closed);
}

int socket_init(struct socket *socket, struct socket_set *set, const struct socket_ops *ops,
		bool is_unix)
{
	int err;

	err = is_unix ? uv_pipe_init(set->loop, &socket->pipe, 0) :
			uv_tcp_init(set->loop, &socket->tcp);
	if (err)
		return err;
	socket->handle.data = socket;
	socket->set = set;
	socket->ops = ops;
	list_init(&socket->dirty);
	chain_init(&socket->out);
	socket->write_len = 0;
	socket->connected = socket->reading = socket->stopped = false;
	socket->ending = socket->closing = false;
	socket->lingering = socket->shut = false;
	socket->discarded = 0;
	return 0;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct socket *socket = handle->data;

	*buf = uv_buf_init((char *)socket->set->buffer, SOCKET_READ_BUFFER);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct socket *socket = stream->data;

	if (n == 0 || socket->closing)
		return;
	if (n < 0) {
		uv_read_stop(stream);
		socket->ops->lost(socket, n == UV_EOF ? 0 : (int)n);
		return;
	}
	socket->set->bytes_in += (uint64_t)n;
	if (socket->lingering) {
		socket->discarded += (size_t)n;
		if (socket->discarded > SOCKET_LINGER_MAX)
			socket->ops->lost(socket, -EMSGSIZE);
		return;
	}
	socket->reading = true;
	socket->ops->read(socket, slice_of(buf->base, (size_t)n));
	socket->reading = false;
}

int socket_start(struct socket *socket)
{
	if (socket->handle.type == UV_TCP)
		uv_tcp_nodelay(&socket->tcp, 1);
	socket->connected = true;
	socket_dirty(socket);
	return uv_read_start(&socket->stream, on_alloc, on_read);
}

void socket_stop_reading(struct socket *socket)
{
	if (socket->closing || socket->stopped)
		return;
	socket->stopped = true;
	uv_read_stop(&socket->stream);
}

int socket_resume_reading(struct socket *socket)
{
	if (socket->closing || !socket->stopped)
		return 0;
	socket->stopped = false;
	return uv_read_start(&socket->stream, on_alloc, on_read);
}

void socket_dirty(struct socket *socket)
{
	if (!socket->closing && socket->connected && list_empty(&socket->dirty))
		list_add_tail(&socket->set->dirty, &socket->dirty);
}

void socket_end(struct socket *socket)
{
	socket->ending = true;
	socket_dirty(socket);
}

void socket_linger(struct socket *socket)
{
	socket->lingering = true;
	socket_dirty(socket);
}

/* Nothing is left to be written. */
static void shut(struct socket *socket)
{
	uv_os_fd_t fd;

	if (socket->shut || uv_fileno(&socket->handle, &fd))
		return;
	socket->shut = true;
	shutdown(fd, SHUT_WR);
}

static void on_closed(uv_handle_t *handle)
{
	struct socket *socket = handle->data;

	chain_release(&socket->out);
	socket->ops->closed(socket);
}

void socket_close(struct socket *socket)
{
	if (socket->closing)
		return;
	socket->closing = true;
	list_del(&socket->dirty);
	uv_close(&socket->handle, on_closed);
}

static void wrote(struct socket *socket, size_t n)
{
	socket->set->bytes_out += n;
	chain_drop(&socket->out, n);
}

static void on_written(uv_write_t *write, int status)
{
	struct socket *socket = write->data;
	size_t n = socket->write_len;

	socket->write_len = 0;
	if (socket->closing)
		return;
	if (status < 0) {
		socket->ops->lost(socket, status);
		return;
	}
	wrote(socket, n);
	socket_dirty(socket);
}

/* Hands the first pieces of out to libuv, which writes them when it can. */
static int write_later(struct socket *socket)
{
	struct iovec iov[WRITE_IOV];
	int n = chain_iov(&socket->out, iov, WRITE_IOV);
	size_t len = 0;
	int err;

	for (int i = 0; i < n; i++)
		len += iov[i].iov_len;
	socket->write.data = socket;
	err = uv_write(&socket->write, &socket->stream, (uv_buf_t *)iov, (unsigned)n, on_written);
	if (err)
		return err;
	socket->write_len = len;
	return 0;
}

/* Writes what the kernel takes now. */
static ssize_t write_now(struct socket *socket)
{
	struct iovec iov[WRITE_IOV];
	int n = chain_iov(&socket->out, iov, WRITE_IOV);
	int len = uv_try_write(&socket->stream, (uv_buf_t *)iov, (unsigned)n);

	if (len < 0)
		return len == UV_EAGAIN ? 0 : len;
	wrote(socket, (size_t)len);
	return len;
}

/*
 * Fills and writes until there is nothing more, the kernel takes no more, or it is
 * the turn of others (positive).
 */
static int pump(struct socket *socket)
{
	size_t written = 0;

	while (written < SOCKET_TURN_MAX) {
		ssize_t n;

		if (!socket->ending && !socket->lingering && socket->out.len < SOCKET_OUT_MAX)
			socket->ops->fill(socket);
		if (socket->closing || !socket->out.len)
			return 0;
		if (chain_failed(&socket->out))
			return -ENOMEM;
		n = write_now(socket);
		if (n < 0)
			return (int)n;
		if (!n)
			return write_later(socket);
		written += (size_t)n;
	}
	return 1;
}

static void flush(struct socket *socket)
{
	int err;

	if (socket->write_len)
		return;
	err = pump(socket);
	if (socket->closing)
		return;
	if (err < 0) {
		socket->ops->lost(socket, err);
		return;
	}
	if (err > 0)
		socket_dirty(socket);
	if (socket->ending && !socket->out.len)
		socket_close(socket);
	else if (!socket->lingering)
		socket->ops->wrote(socket);
	else if (!socket->out.len)
		shut(socket);
}

void socket_set_flush(struct socket_set *set)
{
	struct list batch;

	if (list_empty(&set->dirty) || set->flushing)
		return;
	set->flushing = true;
	list_init(&batch);
	list_splice_tail(&batch, &set->dirty);
	while (!list_empty(&batch)) {
		struct socket *socket = list_first(&batch, struct socket, dirty);

		list_del(&socket->dirty);
		if (socket->reading)
			socket_dirty(socket);
		else
			flush(socket);
	}
	set->flushing = false;
	if (list_empty(&set->dirty))
		uv_idle_stop(&set->idle);
	else
		uv_idle_start(&set->idle, on_idle);
}
