/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One call of a client. A call that is done or cancelled lives on without its user
 * until the stream is closed. Errors are coded and worded as grpc-go has them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/grpc_client_i.h"

/* Longer timeouts are cut to this: 34 years. */
#define TIMEOUT_MAX_MS (UINT64_C(1) << 40)

struct grpc_client_call {
	struct http2_stream stream;
	struct grpc_conn *conn;
	struct grpc_client_callbacks callbacks;
	struct list node;		/* in conn->deadlines */
	uint64_t deadline;		/* in the loop's milliseconds; 0: none */
	char timeout[GRPC_TIMEOUT_MAX];
	struct grpc_reader reader;
	int http_status;
	int status;			/* grpc-status; -1: none came */
	char *text;			/* grpc-message */
	bool is_grpc;			/* its content-type */
	bool gone;			/* done was called, or it was cancelled */
	bool unprocessed;
	bool no_memory;			/* a message could not be sent */
};

static struct grpc_client_call *call_of(struct http2_stream *stream)
{
	return container_of(stream, struct grpc_client_call, stream);
}

/* Ends the call for its user, and the stream where it is still open. */
static void call_done(struct grpc_client_call *call, enum grpc_code code, const char *text)
{
	bool sent_all = call->stream.ended && !call->stream.body.len;

	call->gone = true;
	list_del(&call->node);
	if (!call->stream.peer_ended || !sent_all) {
		http2_reset(&call->stream, call->stream.peer_ended ? HTTP2_NO_ERROR : HTTP2_CANCEL);
		socket_dirty(&call->conn->socket);
	}
	call->callbacks.done(call, code, text);
}

/* --- what comes in -------------------------------------------------------------- */

static int parse_number(struct slice value)
{
	int v = 0;

	if (!value.len || value.len > 4)
		return -1;
	for (size_t i = 0; i < value.len; i++) {
		if (value.data[i] < '0' || value.data[i] > '9')
			return -1;
		v = v * 10 + value.data[i] - '0';
	}
	return v;
}

static void call_header(struct http2_stream *stream, struct slice name,
			const struct http2_value *value)
{
	struct grpc_client_call *call = call_of(stream);
	struct slice v = value->bytes;

	if (slice_eq(name, SLICE_LIT(":status"))) {
		call->http_status = parse_number(v);
	} else if (slice_eq(name, SLICE_LIT("content-type"))) {
		call->is_grpc = grpc_is_content_type(v);
	} else if (slice_eq(name, SLICE_LIT("grpc-status"))) {
		call->status = parse_number(v);
		if (call->status < 0 || call->status > GRPC_UNAUTHENTICATED)
			call->status = GRPC_UNKNOWN;
	} else if (slice_eq(name, SLICE_LIT("grpc-message")) && !call->text) {
		call->text = strndup((const char *)v.data, v.len);
		if (call->text)
			grpc_text_decode(call->text);
	}
}

static void call_headers(struct http2_stream *stream)
{
	struct grpc_client_call *call = call_of(stream);

	if (call->stream.too_large && !call->gone)
		call_done(call, GRPC_INTERNAL, "peer header list size exceeded limit");
}

static void call_data(struct http2_stream *stream, struct slice bytes)
{
	struct grpc_client_call *call = call_of(stream);
	struct slice message;
	char text[128];
	enum grpc_code code;
	int got;

	while (!call->gone && call->is_grpc) {
		got = grpc_reader_next(&call->reader, &bytes, GRPC_CLIENT_MESSAGE_MAX, &message);
		if (got < 0) {
			code = grpc_reader_error(&call->reader, got, GRPC_CLIENT_MESSAGE_MAX,
						 text, sizeof(text));
			call_done(call, code, text);
		}
		if (got <= 0)
			return;
		call->callbacks.message(call, message);
	}
}

static void call_end(struct http2_stream *stream)
{
	struct grpc_client_call *call = call_of(stream);
	char text[URL_ADDRESS_MAX + 128];

	if (call->gone)
		return;
	if (!call->is_grpc) {
		snprintf(text, sizeof(text), "unexpected HTTP status code received from server %s: "
			 "%d; it does not answer as gRPC", call->conn->address, call->http_status);
		call_done(call, grpc_code_of_status(call->http_status), text);
	} else if (call->status < 0) {
		call_done(call, GRPC_INTERNAL, "server closed the stream without sending trailers");
	} else if (call->status == GRPC_OK && !grpc_reader_idle(&call->reader)) {
		call_done(call, GRPC_INTERNAL, "unexpected EOF");
	} else {
		call_done(call, (enum grpc_code)call->status, call->text ? call->text : "");
	}
}

/* --- the end -------------------------------------------------------------------- */

/* The stream ended without an answer. */
static void call_lost(struct grpc_client_call *call, uint32_t error)
{
	struct grpc_conn *conn = call->conn;
	enum grpc_code code = grpc_code_of_http2(error);
	char text[96];

	call->unprocessed = !call->stream.sent || error == HTTP2_REFUSED_STREAM;
	call->stream.peer_ended = call->stream.ended = true;	/* nothing is left to reset */
	if (conn->closing) {
		call_done(call, conn->code, conn->text);
		return;
	}
	if (call->no_memory) {
		call_done(call, GRPC_RESOURCE_EXHAUSTED, "grpc: no memory to send a message");
		return;
	}
	if (code == GRPC_CANCELED && call->deadline && uv_now(conn->set.loop) >= call->deadline)
		code = GRPC_DEADLINE_EXCEEDED;
	snprintf(text, sizeof(text), "stream terminated by RST_STREAM with error code: %s",
		 http2_error_text(error));
	call_done(call, code, text);
}

static void call_close(struct http2_stream *stream, uint32_t error)
{
	struct grpc_client_call *call = call_of(stream);

	if (!call->gone)
		call_lost(call, error);
	grpc_reader_release(&call->reader);
	free(call->text);
	free(call);
}

const struct http2_ops grpc_client_ops = {
	.header = call_header, .headers = call_headers, .data = call_data, .end = call_end,
	.close = call_close, .ready = grpc_conn_ready, .goaway = grpc_conn_goaway,
};

/* --- deadlines ------------------------------------------------------------------ */

static void on_timer(uv_timer_t *timer)
{
	grpc_client_expire(timer->data);
}

static void call_expired(struct grpc_client_call *call)
{
	char text[URL_ADDRESS_MAX + 80];

	if (call->conn->http2.settled) {
		call_done(call, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
		return;
	}
	call->unprocessed = true;
	snprintf(text, sizeof(text),
		 "context deadline exceeded while waiting for the connection to %s",
		 call->conn->address);
	call_done(call, GRPC_DEADLINE_EXCEEDED, text);
}

void grpc_client_expire(struct grpc_conn *conn)
{
	uint64_t now = uv_now(conn->set.loop);
	struct grpc_client_call *call;

	while (!conn->closing && !list_empty(&conn->deadlines)) {
		call = list_first(&conn->deadlines, struct grpc_client_call, node);
		if (call->deadline > now) {
			uv_timer_start(&conn->timer, on_timer, call->deadline - now, 0);
			return;
		}
		call_expired(call);
	}
}

/* Most calls have the same timeout: the place is at the end or near it. */
static void set_deadline(struct grpc_client_call *call, uint64_t timeout_ms)
{
	struct grpc_conn *conn = call->conn;
	struct list *at = conn->deadlines.prev;

	uv_update_time(conn->set.loop);
	call->deadline = uv_now(conn->set.loop) + timeout_ms;
	while (at != &conn->deadlines &&
	       list_entry(at, struct grpc_client_call, node)->deadline > call->deadline)
		at = at->prev;
	list_add(at, &call->node);
	if (at == &conn->deadlines)
		uv_timer_start(&conn->timer, on_timer, timeout_ms, 0);
}

/* --- what the user calls -------------------------------------------------------- */

static int send_headers(struct grpc_client_call *call, const char *path)
{
	struct http2_header headers[] = {
		{ ":method", SLICE_LIT("POST"), false },
		{ ":scheme", SLICE_LIT("http"), false },
		{ ":path", slice_str(path), true },
		{ ":authority", slice_str(call->conn->authority), true },
		{ "content-type", SLICE_LIT("application/grpc"), false },
		{ "user-agent", SLICE_LIT("grpc-c-kvd/" KVD_VERSION), false },
		{ "te", SLICE_LIT("trailers"), false },
		{ "grpc-timeout", slice_str(call->timeout), true },
	};

	return http2_request(&call->conn->http2, &call->stream, headers,
			     ARRAY_SIZE(headers) - !*call->timeout);
}

int grpc_client_call_open(struct grpc_conn *conn, const char *path,
			  const struct grpc_client_callbacks *callbacks, uint64_t timeout_ms,
			  struct grpc_client_call **out)
{
	struct grpc_client_call *call = calloc(1, sizeof(*call));
	int err;

	if (!call)
		return -ENOMEM;
	http2_stream_init(&call->stream);
	list_init(&call->node);
	call->conn = conn;
	call->callbacks = *callbacks;
	call->status = -1;
	timeout_ms = MIN(timeout_ms, TIMEOUT_MAX_MS);
	if (timeout_ms)
		grpc_timeout_format(timeout_ms, call->timeout);
	err = send_headers(call, path);
	if (err) {
		free(call);
		return err;
	}
	if (timeout_ms)
		set_deadline(call, timeout_ms);
	socket_dirty(&conn->socket);
	*out = call;
	return 0;
}

void *grpc_client_call_user(const struct grpc_client_call *call)
{
	return call->callbacks.user;
}

bool grpc_client_call_unprocessed(const struct grpc_client_call *call)
{
	return call->unprocessed;
}

void grpc_client_call_send(struct grpc_client_call *call, struct chain *message)
{
	BUG_ON(call->gone || call->stream.ended);
	if (grpc_frame(&call->stream.body, message)) {
		http2_wake(&call->stream);
	} else {
		chain_release(message);
		call->no_memory = true;
		http2_reset(&call->stream, HTTP2_INTERNAL_ERROR);
	}
	socket_dirty(&call->conn->socket);
}

void grpc_client_call_half_close(struct grpc_client_call *call)
{
	BUG_ON(call->gone);
	call->stream.ended = true;
	http2_wake(&call->stream);
	socket_dirty(&call->conn->socket);
}

void grpc_client_call_cancel(struct grpc_client_call *call)
{
	BUG_ON(call->gone);
	call->gone = true;
	list_del(&call->node);
	http2_reset(&call->stream, HTTP2_CANCEL);
	socket_dirty(&call->conn->socket);
}
