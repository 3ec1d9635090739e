/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stream sockets (TCP and unix) on a libuv loop, with batched output.
 *
 * A socket set is what the sockets of one server, or the one of a client, share: a
 * read buffer, and the list of those with something to write. A socket that has
 * output calls socket_dirty(); the set writes each dirty socket once, in
 * socket_set_flush() or by itself before the loop waits and after it has polled.
 *
 * What cannot be written at once waits in socket->out, which holds SOCKET_OUT_MAX
 * bytes and one step of its owner more; beyond that the owner is not asked to fill.
 *
 * Everything is embedded in what owns it. socket_close() may be called at any time,
 * also from the operations; ops->closed follows from the loop, then the memory may
 * go. No other operation is called in between.
 */
#ifndef LIB_SOCKET_I_H
#define LIB_SOCKET_I_H

#include <uv.h>

#include "lib/chain.h"

#define SOCKET_READ_BUFFER	65536	/* bytes read at once, one buffer a set */
#define SOCKET_OUT_MAX		262144	/* bytes that wait for the kernel */
#define SOCKET_LINGER_MAX	(4u << 20)
#define SOCKET_TURN_MAX		1048576	/* bytes written before others have a turn */

struct socket;

struct socket_ops {
	/* Bytes came; they live during the call. */
	void (*read)(struct socket *socket, struct slice bytes);
	/* Adds to socket->out until it holds SOCKET_OUT_MAX or there is no more. */
	void (*fill)(struct socket *socket);
	/* Something was written, or there was nothing to write. */
	void (*wrote)(struct socket *socket);
	/* The other side ended (@error 0) or the socket failed (negative errno). The
	 * owner closes. */
	void (*lost)(struct socket *socket, int error);
	void (*closed)(struct socket *socket);
};

struct socket_set {
	uv_loop_t *loop;
	struct list dirty;
	uv_prepare_t prepare;
	uv_check_t check;
	uv_idle_t idle;		/* keeps the loop from waiting while there is more */
	bool flushing;
	unsigned open_handles;
	void (*closed)(struct socket_set *set);
	uint8_t *buffer;
	uint64_t bytes_in, bytes_out;
};

struct socket {
	union {
		uv_handle_t handle;
		uv_stream_t stream;
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	};
	struct socket_set *set;
	const struct socket_ops *ops;
	struct list dirty;
	struct chain out;
	uv_write_t write;
	size_t write_len;	/* bytes of out that uv_write has; 0: none */
	bool connected;		/* reads and writes may happen */
	bool reading;		/* in ops->read: the owner is busy */
	bool stopped;		/* reading is paused */
	bool ending;		/* closes when out is empty */
	bool lingering, shut;	/* see socket_linger(); the writing side is shut */
	size_t discarded;	/* bytes thrown away while lingering */
	bool closing;
};

int socket_set_init(struct socket_set *set, uv_loop_t *loop);
/* Then calls @closed from the loop. Its sockets are closed before. */
void socket_set_close(struct socket_set *set, void (*closed)(struct socket_set *set));
void socket_set_flush(struct socket_set *set);

/* Readies @socket to be accepted into or connected. */
int socket_init(struct socket *socket, struct socket_set *set, const struct socket_ops *ops,
		bool is_unix);
/* Connected: starts to read and write. */
int socket_start(struct socket *socket);
void socket_dirty(struct socket *socket);
void socket_stop_reading(struct socket *socket);
int socket_resume_reading(struct socket *socket);
/* Closes once everything in out is written. */
void socket_end(struct socket *socket);
/*
 * The same, where the other side may still be sending: what comes is thrown away until
 * it has read the answer and closes, or has sent SOCKET_LINGER_MAX bytes more. (To close
 * with unread input would reset the connection and could destroy the answer.)
 */
void socket_linger(struct socket *socket);
void socket_close(struct socket *socket);

#endif
