/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that writes HTTP/2 by hand: frames put into a buffer byte by byte, and a
 * socket whose answers are looked through frame by frame.
 */
#ifndef TESTS_UNIT_GRPC_RAW_H
#define TESTS_UNIT_GRPC_RAW_H

#include "grpc_env.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE };

static uint32_t seed;

static inline uint32_t rnd(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)(((uint64_t)seed * n) >> 32);
}

/* --- bytes ---------------------------------------------------------------------- */

struct bytes {
	uint8_t data[8192];
	size_t len;
};

static inline void put(struct bytes *b, const void *data, size_t n)
{
	assert_true(b->len + n <= sizeof(b->data));
	memcpy(b->data + b->len, data, n);
	b->len += n;
}

static inline void put_frame(struct bytes *b, uint8_t type, uint8_t flags, uint32_t stream,
		      struct slice payload)
{
	uint8_t head[9];

	put_be32(head, (uint32_t)payload.len << 8);
	head[3] = type;
	head[4] = flags;
	put_be32(head + 5, stream);
	put(b, head, 9);
	put(b, payload.data, payload.len);
}

/* A header as a literal that is not indexed, without Huffman coding. */
static inline void put_header(struct bytes *b, const char *name, const char *value)
{
	uint8_t n = (uint8_t)strlen(name), v = (uint8_t)strlen(value);

	put(b, "", 1);
	put(b, &n, 1);
	put(b, name, n);
	put(b, &v, 1);
	put(b, value, v);
}

static inline void put_request_on(struct bytes *b, uint32_t stream, const char *method,
			   const char *path, const char *type)
{
	struct bytes headers = { .len = 0 };

	put_header(&headers, ":method", method);
	put_header(&headers, ":scheme", "http");
	put_header(&headers, ":path", path);
	put_header(&headers, ":authority", "test");
	put_header(&headers, "content-type", type);
	put_header(&headers, "token", "secret.1");
	put_header(&headers, "hasleader", "true");
	put_frame(b, HEADERS, 4, stream, slice_of(headers.data, headers.len));
}

static inline void put_request(struct bytes *b, const char *method, const char *path,
			       const char *type)
{
	put_request_on(b, 1, method, path, type);
}

static inline void put_message(struct bytes *b, struct slice message, bool end)
{
	struct bytes data = { .len = 0 };
	uint8_t head[5] = { 0 };

	put_be32(head + 1, (uint32_t)message.len);
	put(&data, head, 5);
	put(&data, message.data, message.len);
	put_frame(b, DATA, end, 1, slice_of(data.data, data.len));
}

static inline void put_unary(struct bytes *b, struct slice message)
{
	put(b, PREFACE, strlen(PREFACE));
	put_frame(b, SETTINGS, 0, 0, slice_of("", 0));
	put_request(b, "POST", "/test.Echo/Unary", "application/grpc");
	put_message(b, message, true);
}

/* --- a client made of a bare socket --------------------------------------------- */

struct raw {
	int fd;
	bool eof;
	uint8_t *in;
	size_t len, room;
};

static inline void raw_open(struct raw *raw)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_port = htons(grpc_server_port(env->server)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	*raw = (struct raw){ .fd = socket(AF_INET, SOCK_STREAM, 0) };
	assert_int_equal(connect(raw->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	fcntl(raw->fd, F_SETFL, O_NONBLOCK);
	setsockopt(raw->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
}

static inline void raw_close(struct raw *raw)
{
	close(raw->fd);
	free(raw->in);
}

/* Reads what there is; true at the end of the connection. */
static inline bool raw_read(struct raw *raw)
{
	ssize_t n;

	do {
		if (raw->len + 65536 > raw->room) {
			raw->room = 2 * raw->room + 131072;
			raw->in = realloc(raw->in, raw->room);
		}
		n = recv(raw->fd, raw->in + raw->len, 65536, 0);
		if (n > 0)
			raw->len += (size_t)n;
	} while (n > 0);
	raw->eof |= n == 0 || (errno != EAGAIN && errno != EINTR);
	return raw->eof;
}

static inline void raw_write(struct raw *raw, struct slice s)
{
	ssize_t n;

	while (s.len && !raw->eof) {
		n = send(raw->fd, s.data, s.len, MSG_NOSIGNAL);
		if (n > 0) {
			s.data += n;
			s.len -= (size_t)n;
		} else if (errno != EAGAIN) {
			raw->eof = true;
		} else {
			uv_run(&env->loop, UV_RUN_NOWAIT);
		}
	}
}

static inline bool raw_has(const struct raw *raw, const char *text)
{
	return memmem(raw->in, raw->len, text, strlen(text)) != NULL;
}

/* The first frame of @type at or after @*at with all bits of @flags; its payload. */
static inline bool raw_frame(const struct raw *raw, size_t *at, uint8_t type, uint8_t flags,
		      struct slice *payload)
{
	while (*at + 9 <= raw->len) {
		const uint8_t *head = raw->in + *at;
		size_t len = get_be32(head) >> 8;

		if (*at + 9 + len > raw->len)
			return false;
		*at += 9 + len;
		if (head[3] == type && (head[4] & flags) == flags) {
			*payload = slice_of(head + 9, len);
			return true;
		}
	}
	return false;
}

/* The trailers of stream 1 came. */
static inline bool raw_answered(struct raw *raw)
{
	struct slice payload;
	size_t at = 0;

	raw_read(raw);
	return raw_frame(raw, &at, HEADERS, 1, &payload);
}

/* --- HTTP/2 by hand ------------------------------------------------------------- */

static inline void assert_echoed(struct raw *raw, struct slice message)
{
	struct slice payload = { 0 };
	size_t at = 0;

	run_until(raw_answered(raw));
	assert_true(raw_frame(raw, &at, DATA, 0, &payload));
	assert_int_equal(payload.len, message.len + 5);
	assert_memory_equal(payload.data + 5, message.data, message.len);
}

#endif
