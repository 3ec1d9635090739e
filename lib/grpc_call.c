/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One call on the server: an HTTP/2 stream from its headers to its trailers.
 *
 * A call that was finished, or never came to be open, lives on without its user
 * until the stream is closed. Refusals are worded as grpc-go words them.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/grpc_server_i.h"
#include "lib/pool_i.h"

#define CALL_TEXT_MAX 512	/* of a refusal */

/* Request headers that are looked at. */
enum {
	H_PATH, H_METHOD, H_CONTENT_TYPE, H_ENCODING, H_TIMEOUT, H_AUTHORIZATION, H_TOKEN,
	H_HASLEADER, N_HEADERS
};

struct grpc_call {
	struct http2_stream stream;
	struct server_conn *conn;
	const struct grpc_method *method;	/* NULL until open */
	void *user;
	struct list node;		/* in server->deadlines */
	uint64_t deadline;
	struct grpc_reader reader;
	struct http2_value headers[N_HEADERS];
	char *text;			/* grpc-message, encoded */
	enum grpc_code code;
	bool got_message;
	bool responded;			/* the response's headers were sent */
	bool finished;			/* the user has been told closed, or never knew */
	bool failed;			/* no memory for a message: an error follows */
};

static struct grpc_call *call_of(struct http2_stream *stream)
{
	return container_of(stream, struct grpc_call, stream);
}

static const struct grpc_server_config *config_of(const struct grpc_call *call)
{
	return &call->conn->server->config;
}

/* --- headers in ----------------------------------------------------------------- */

static int header_index(struct slice name)
{
	static const struct { const char *name; int index; } known[16][2] = {
		[5] = { { ":path", H_PATH }, { "token", H_TOKEN } },
		[7] = { { ":method", H_METHOD } },
		[9] = { { "hasleader", H_HASLEADER } },
		[12] = { { "content-type", H_CONTENT_TYPE }, { "grpc-timeout", H_TIMEOUT } },
		[13] = { { "grpc-encoding", H_ENCODING }, { "authorization", H_AUTHORIZATION } },
	};

	if (name.len >= ARRAY_SIZE(known))
		return -1;
	for (int i = 0; i < 2 && known[name.len][i].name; i++)
		if (!memcmp(known[name.len][i].name, name.data, name.len))
			return known[name.len][i].index;
	return -1;
}

static struct http2_stream *call_open(struct http2 *http2)
{
	struct server_conn *conn = container_of(http2, struct server_conn, http2);
	struct grpc_call *call = pool_alloc(sizeof(*call));

	if (!call)
		return NULL;
	memset(call, 0, sizeof(*call));
	call->conn = conn;
	http2_stream_init(&call->stream);
	list_init(&call->node);
	return &call->stream;
}

static void call_header(struct http2_stream *stream, struct slice name,
			const struct http2_value *value)
{
	struct grpc_call *call = call_of(stream);
	int i = header_index(name);

	if (i >= 0 && !call->headers[i].ref && !call->method)
		call->headers[i] = http2_value_get(value);
}

/* --- refusing ------------------------------------------------------------------- */

static struct slice status_value(enum grpc_code code)
{
	static const char *const values[] = {
		"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14",
		"15", "16",
	};

	BUG_ON((unsigned)code >= ARRAY_SIZE(values));
	return slice_str(values[code]);
}

static size_t call_trailers(struct http2_stream *stream, struct http2_header *out)
{
	struct grpc_call *call = call_of(stream);

	out[0] = (struct http2_header){ "grpc-status", status_value(call->code), false };
	if (!call->text)
		return 1;
	out[1] = (struct http2_header){ "grpc-message", slice_str(call->text), true };
	return 2;
}

/* Sends the headers of the response; @only: with the trailers, and nothing else. */
static void respond(struct grpc_call *call, const char *http_status, bool only)
{
	struct http2_header headers[4] = {
		{ ":status", slice_str(http_status), false },
		{ "content-type", SLICE_LIT("application/grpc"), false },
	};
	size_t n = 2;

	call->responded = true;
	if (only)
		n += call_trailers(&call->stream, headers + n);
	if (http2_respond(&call->stream, headers, n, only))
		http2_reset(&call->stream, HTTP2_INTERNAL_ERROR);
}

/* Takes the call from its user; closed is called where open was. */
static void detach(struct grpc_call *call)
{
	BUG_ON(call->finished);
	call->finished = true;
	list_del(&call->node);
	if (call->method && call->method->closed)
		call->method->closed(call);
}

static void refuse(struct grpc_call *call, const char *http_status, enum grpc_code code,
		   const char *text)
{
	call->code = code;
	call->text = grpc_text_encode(text);
	call->finished = true;
	respond(call, http_status, true);
	socket_dirty(&call->conn->socket);
}

static void refuse_path(struct grpc_call *call)
{
	struct slice path = call->headers[H_PATH].bytes;
	const uint8_t *slash = path.len > 1 ? memrchr(path.data + 1, '/', path.len - 1) : NULL;
	char text[CALL_TEXT_MAX];
	struct slice service, name;

	if (!slash || path.data[0] != '/') {
		snprintf(text, sizeof(text), "malformed method name: \"%.*s\"", (int)path.len,
			 (const char *)path.data);
		refuse(call, "200", GRPC_UNIMPLEMENTED, text);
		return;
	}
	service = slice_of(path.data + 1, (size_t)(slash - path.data) - 1);
	name = slice_of(slash + 1, path.len - service.len - 2);
	if (method_table_has_service(&call->conn->server->methods, service))
		snprintf(text, sizeof(text), "unknown method %.*s for service %.*s",
			 (int)name.len, (const char *)name.data, (int)service.len,
			 (const char *)service.data);
	else
		snprintf(text, sizeof(text), "unknown service %.*s", (int)service.len,
			 (const char *)service.data);
	refuse(call, "200", GRPC_UNIMPLEMENTED, text);
}

static void refuse_quoted(struct grpc_call *call, const char *http_status, enum grpc_code code,
			  const char *format, int header)
{
	struct slice value = call->headers[header].bytes;
	char text[CALL_TEXT_MAX], quoted[CALL_TEXT_MAX / 2];

	snprintf(quoted, sizeof(quoted), "\"%.*s\"", (int)value.len, (const char *)value.data);
	snprintf(text, sizeof(text), "%s%s", format, quoted);
	refuse(call, http_status, code, text);
}

/* In the order of grpc-go; true where the call may go on. */
static bool check_headers(struct grpc_call *call)
{
	struct slice encoding = call->headers[H_ENCODING].bytes;
	uint64_t timeout;

	if (call->stream.too_large)
		refuse(call, "431", GRPC_RESOURCE_EXHAUSTED,
		       "the header list is larger than 16384 bytes");
	else if (!grpc_is_content_type(call->headers[H_CONTENT_TYPE].bytes))
		refuse_quoted(call, "415", GRPC_INVALID_ARGUMENT,
			      "invalid gRPC request content-type ", H_CONTENT_TYPE);
	else if (call->headers[H_TIMEOUT].ref &&
		 grpc_timeout_parse(call->headers[H_TIMEOUT].bytes, &timeout))
		refuse_quoted(call, "400", GRPC_INTERNAL,
			      "malformed grpc-timeout: transport: timeout is not valid: ",
			      H_TIMEOUT);
	else if (!slice_eq(call->headers[H_METHOD].bytes, SLICE_LIT("POST")))
		refuse_quoted(call, "405", GRPC_INTERNAL,
			      "Received a HEADERS frame that should be POST: :method ", H_METHOD);
	else if (call->headers[H_TIMEOUT].ref && !timeout)
		refuse(call, "200", GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
	else if (encoding.len && !slice_eq(encoding, SLICE_LIT("identity")))
		refuse_quoted(call, "200", GRPC_UNIMPLEMENTED,
			      "grpc: Decompressor is not installed for grpc-encoding ",
			      H_ENCODING);
	else
		return true;
	return false;
}

/* Ends the calls whose deadline is over: nobody waits for them any more. */
static void on_deadlines(uv_timer_t *timer)
{
	struct list overdue = LIST_INIT(overdue);
	struct grpc_server *server = timer->data;
	uint64_t now = uv_hrtime();
	struct grpc_call *call, *next;

	list_for_each_safe(call, next, &server->deadlines, node) {
		if (call->deadline > now)
			continue;
		list_del(&call->node);
		list_add_tail(&overdue, &call->node);
	}
	while (!list_empty(&overdue)) {
		call = list_first(&overdue, struct grpc_call, node);
		http2_reset(&call->stream, HTTP2_CANCEL);
		socket_dirty(&call->conn->socket);
		detach(call);
	}
	if (list_empty(&server->deadlines))
		uv_timer_stop(timer);
}

static void set_deadline(struct grpc_call *call)
{
	struct grpc_server *server = call->conn->server;
	uint64_t timeout;

	if (!call->headers[H_TIMEOUT].ref ||
	    grpc_timeout_parse(call->headers[H_TIMEOUT].bytes, &timeout))
		return;
	call->deadline = uv_hrtime() + timeout;
	list_add_tail(&server->deadlines, &call->node);
	if (!uv_is_active((uv_handle_t *)&server->deadline_timer))
		uv_timer_start(&server->deadline_timer, on_deadlines, SERVER_DEADLINE_MS,
			       SERVER_DEADLINE_MS);
}

static void call_headers(struct http2_stream *stream)
{
	struct grpc_call *call = call_of(stream);
	const struct grpc_method *method;

	if (call->finished || call->method || !check_headers(call))
		return;
	method = method_table_find(&call->conn->server->methods, call->headers[H_PATH].bytes);
	if (!method) {
		refuse_path(call);
		return;
	}
	call->method = method;
	set_deadline(call);
	if (method->open)
		method->open(call);
}

/* --- messages in ---------------------------------------------------------------- */

static void reader_failed(struct grpc_call *call, int err)
{
	size_t max = config_of(call)->max_message;
	char text[CALL_TEXT_MAX];
	enum grpc_code code;

	code = grpc_reader_error(&call->reader, err, max, text, sizeof(text));
	grpc_call_finish(call, code, text);
}

static void call_data(struct http2_stream *stream, struct slice bytes)
{
	struct grpc_call *call = call_of(stream);
	size_t max = config_of(call)->max_message;
	struct slice message;
	int got;

	while (!call->finished) {
		got = grpc_reader_next(&call->reader, &bytes, max, &message);
		if (got < 0)
			reader_failed(call, got);
		if (got <= 0)
			return;
		if (call->method->unary && call->got_message) {
			grpc_call_finish(call, GRPC_INTERNAL,
					 "cardinality violation: received multiple request "
					 "messages for non-client-streaming RPC");
			return;
		}
		call->got_message = true;
		call->method->message(call, message);
	}
}

static void call_end(struct http2_stream *stream)
{
	struct grpc_call *call = call_of(stream);

	if (call->finished)
		return;
	if (!grpc_reader_idle(&call->reader))
		grpc_call_finish(call, GRPC_INTERNAL, "unexpected EOF");
	else if (call->method->unary && !call->got_message)
		grpc_call_finish(call, GRPC_INTERNAL,
				 "cardinality violation: received no request message from "
				 "non-client-streaming RPC");
	else if (call->method->half_close)
		call->method->half_close(call);
}

static void call_writable(struct http2_stream *stream)
{
	struct grpc_call *call = call_of(stream);

	if (!call->finished && call->method->writable)
		call->method->writable(call);
}

/* --- the end -------------------------------------------------------------------- */

static void count_handled(const struct grpc_call *call, enum grpc_code code)
{
	const struct grpc_server *server = call->conn->server;

	if (call->method)
		server->methods.handled[call->method - server->config.methods][code]++;
}

static void call_close(struct http2_stream *stream, uint32_t error)
{
	struct grpc_call *call = call_of(stream);

	if (!call->finished) {
		count_handled(call, GRPC_CANCELED);
		detach(call);
	}
	grpc_reader_release(&call->reader);
	for (size_t i = 0; i < N_HEADERS; i++)
		http2_value_put(&call->headers[i]);
	free(call->text);
	pool_free(call, sizeof(*call));
}

const struct http2_ops grpc_call_ops = {
	.open = call_open, .header = call_header, .headers = call_headers, .data = call_data,
	.end = call_end, .trailers = call_trailers, .writable = call_writable,
	.close = call_close,
};

/* --- what the user calls -------------------------------------------------------- */

const struct grpc_method *grpc_call_method(const struct grpc_call *call)
{
	return call->method;
}

void *grpc_call_user(const struct grpc_call *call)
{
	return call->user;
}

void grpc_call_set_user(struct grpc_call *call, void *user)
{
	call->user = user;
}

struct slice grpc_call_metadata(const struct grpc_call *call, const char *name)
{
	static const struct { const char *name; int index; } known[] = {
		{ "authorization", H_AUTHORIZATION }, { "token", H_TOKEN },
		{ "hasleader", H_HASLEADER }, { "grpc-timeout", H_TIMEOUT },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (!strcasecmp(known[i].name, name))
			return call->headers[known[i].index].bytes;
	return slice_of(NULL, 0);
}

uint64_t grpc_call_deadline(const struct grpc_call *call)
{
	return call->deadline;
}

size_t grpc_call_queued(const struct grpc_call *call)
{
	return call->stream.body.len;
}

void grpc_call_send(struct grpc_call *call, struct chain *message)
{
	BUG_ON(call->finished);
	if (call->failed || !grpc_frame(&call->stream.body, message)) {
		chain_release(message);
		call->failed = true;
		if (call->responded)
			http2_reset(&call->stream, HTTP2_INTERNAL_ERROR);
		return;
	}
	if (call->method->unary)
		return;
	if (!call->responded)
		respond(call, "200", false);
	http2_wake(&call->stream);
	socket_dirty(&call->conn->socket);
}

void grpc_call_finish(struct grpc_call *call, enum grpc_code code, const char *text)
{
	struct http2_stream *stream = &call->stream;

	BUG_ON(call->finished);
	if (call->failed) {
		code = GRPC_RESOURCE_EXHAUSTED;
		text = "grpc: no memory to send a message";
	}
	call->code = code;
	count_handled(call, code);
	if (text && *text)
		call->text = grpc_text_encode(text);
	/* a message that failed half-way, or that an error takes the place of */
	if (!call->responded && code != GRPC_OK)
		chain_release(&stream->body);
	stream->ended = true;
	if (!call->responded)
		respond(call, "200", !stream->body.len);
	http2_wake(stream);
	socket_dirty(&call->conn->socket);
	detach(call);
}
