/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 by nghttp2: see http2_i.h. The only file that knows nghttp2; its errors
 * become errno in session_errno().
 *
 * DATA frames are sent without a copy through nghttp2: it asks how many bytes a
 * stream has (on_read_body), frames them, and on_send_data moves them from the
 * stream's chain to the connection's.
 */
#include "lib/http2_i.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdlib.h>

#include "lib/pool_i.h"

/* A stream with a body longer than this takes turns with the others. */
#define INCREMENTAL_MIN 65536

static int session_errno(ssize_t err)
{
	switch (err) {
	case NGHTTP2_ERR_NOMEM:
		return -ENOMEM;
	case NGHTTP2_ERR_BAD_CLIENT_MAGIC:
		return -EBADMSG;
	case NGHTTP2_ERR_FLOODED:
		return -ECONNABORTED;
	case NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE:
		return -ESHUTDOWN;
	case NGHTTP2_ERR_CALLBACK_FAILURE:
		return -ECANCELED;
	default:
		return -EPROTO;
	}
}

/* --- nghttp2's memory: from the pool, each piece with its size before it -------- */

struct sized {
	size_t size;
	_Alignas(16) uint8_t bytes[];
};

static void *mem_alloc(size_t size, void *user)
{
	struct sized *m = pool_alloc(sizeof(*m) + size);

	if (!m)
		return NULL;
	m->size = sizeof(*m) + size;
	return m->bytes;
}

static void mem_free(void *bytes, void *user)
{
	struct sized *m = bytes ? container_of(bytes, struct sized, bytes) : NULL;

	if (m)
		pool_free(m, m->size);
}

static void *mem_calloc(size_t n, size_t size, void *user)
{
	void *bytes;

	if (size && n > SIZE_MAX / 2 / size)
		return NULL;
	bytes = mem_alloc(n * size, user);
	return bytes ? memset(bytes, 0, n * size) : NULL;
}

static void *mem_realloc(void *bytes, size_t size, void *user)
{
	void *grown = mem_alloc(size, user);
	size_t old;

	if (!grown || !bytes)
		return grown;
	old = container_of(bytes, struct sized, bytes)->size - sizeof(struct sized);
	memcpy(grown, bytes, MIN(old, size));
	mem_free(bytes, user);
	return grown;
}

static nghttp2_mem session_mem = {
	.malloc = mem_alloc, .free = mem_free, .calloc = mem_calloc, .realloc = mem_realloc,
};

/* RFC 9113 names, as Go prints them. */
const char *http2_error_text(uint32_t error)
{
	static const char *const names[HTTP2_ERRORS] = {
		"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR",
		"SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM",
		"CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
		"INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
	};

	return error < HTTP2_ERRORS ? names[error] : "unknown error code";
}

struct http2_value http2_value_get(const struct http2_value *value)
{
	nghttp2_rcbuf_incref(value->ref);
	return *value;
}

void http2_value_put(struct http2_value *value)
{
	if (value->ref)
		nghttp2_rcbuf_decref(value->ref);
	*value = (struct http2_value){ 0 };
}

/* What comes for one stream mostly comes in a row. */
static struct http2_stream *find_stream(struct http2 *http2, int32_t id)
{
	struct http2_stream *stream = http2->last;

	if (stream && stream->id == id)
		return stream;
	stream = nghttp2_session_get_stream_user_data(http2->session, id);
	http2->last = stream;
	return stream;
}

void http2_stream_init(struct http2_stream *stream)
{
	*stream = (struct http2_stream){ 0 };
	list_init(&stream->node);
	list_init(&stream->writable);
	chain_init(&stream->body);
}

static void add_stream(struct http2 *http2, struct http2_stream *stream, int32_t id)
{
	stream->http2 = http2;
	stream->id = id;
	list_add_tail(&http2->streams, &stream->node);
}

static void drop_stream(struct http2_stream *stream, uint32_t error)
{
	if (stream->http2->last == stream)
		stream->http2->last = NULL;
	list_del(&stream->node);
	list_del(&stream->writable);
	chain_release(&stream->body);
	stream->http2->ops->close(stream, error);
}

/* --- what comes in -------------------------------------------------------------- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct http2 *http2 = user;
	struct http2_stream *stream;

	if (http2->dead)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	stream = http2->ops->open(http2);
	if (!stream)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	add_stream(http2, stream, frame->hd.stream_id);
	nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, stream);
	return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
		     nghttp2_rcbuf *value, uint8_t flags, void *user)
{
	struct http2 *http2 = user;
	struct http2_stream *stream = find_stream(http2, frame->hd.stream_id);
	nghttp2_vec n = nghttp2_rcbuf_get_buf(name), v = nghttp2_rcbuf_get_buf(value);
	struct http2_value out = { slice_of(v.base, v.len), value };

	if (http2->dead)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (!stream)
		return 0;
	/* RFC 9113, section 6.5.2: a field counts 32 bytes beside its own */
	stream->header_bytes += (uint32_t)(n.len + v.len) + 32;
	if (stream->header_bytes > HTTP2_HEADER_LIST_MAX)
		stream->too_large = true;
	else
		http2->ops->header(stream, slice_of(n.base, n.len), &out);
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
		   size_t len, void *user)
{
	struct http2 *http2 = user;
	struct http2_stream *stream = find_stream(http2, id);

	if (http2->dead)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (stream)
		http2->ops->data(stream, slice_of(data, len));
	return 0;
}

static void stream_frame(struct http2 *http2, struct http2_stream *stream,
			 const nghttp2_frame *frame)
{
	if (frame->hd.type == NGHTTP2_HEADERS) {
		stream->peer_ended |= !!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
		http2->ops->headers(stream);
	}
	if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
		stream->peer_ended = true;
		http2->ops->end(stream);
	}
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct http2 *http2 = user;
	struct http2_stream *stream;

	if (http2->dead)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
	case NGHTTP2_DATA:
		stream = find_stream(http2, frame->hd.stream_id);
		if (stream)
			stream_frame(http2, stream, frame);
		break;
	case NGHTTP2_SETTINGS:
		if (http2->settled || (frame->hd.flags & NGHTTP2_FLAG_ACK))
			break;
		http2->settled = true;
		if (http2->ops->ready)
			http2->ops->ready(http2);
		break;
	case NGHTTP2_GOAWAY:
		if (http2->ops->goaway)
			http2->ops->goaway(http2, frame->goaway.error_code,
					   slice_of(frame->goaway.opaque_data,
						    frame->goaway.opaque_data_len));
		break;
	}
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error, void *user)
{
	struct http2 *http2 = user;
	struct http2_stream *stream = find_stream(http2, id);

	if (http2->dead)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (stream)
		drop_stream(stream, error);
	return 0;
}

/* --- what goes out -------------------------------------------------------------- */

static void make_nv(nghttp2_nv *nv, const struct http2_header *headers, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct http2_header *h = &headers[i];

		nv[i] = (nghttp2_nv){
			.name = (uint8_t *)h->name, .namelen = strlen(h->name),
			.value = (uint8_t *)h->value.data, .valuelen = h->value.len,
			.flags = NGHTTP2_NV_FLAG_NO_COPY_NAME,
		};
		if (!h->copy)
			nv[i].flags |= NGHTTP2_NV_FLAG_NO_COPY_VALUE;
	}
}

/* The body is at its end: trailers follow, or END_STREAM is set. */
static int end_body(struct http2_stream *stream, uint32_t *flags)
{
	struct http2_header headers[HTTP2_HEADERS_MAX];
	nghttp2_nv nv[HTTP2_HEADERS_MAX];
	struct http2 *http2 = stream->http2;
	size_t n;

	*flags |= NGHTTP2_DATA_FLAG_EOF;
	if (!http2->ops->trailers)
		return 0;
	n = http2->ops->trailers(stream, headers);
	BUG_ON(n > HTTP2_HEADERS_MAX);
	make_nv(nv, headers, n);
	*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
	return nghttp2_submit_trailer(http2->session, stream->id, nv, n);
}

static ssize_t on_read_body(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
			    uint32_t *flags, nghttp2_data_source *source, void *user)
{
	struct http2_stream *stream = source->ptr;
	size_t n = MIN(length, stream->body.len);

	if (!n && !stream->ended) {
		stream->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (stream->ended && n == stream->body.len && end_body(stream, flags))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	return (ssize_t)n;
}

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
			size_t length, nghttp2_data_source *source, void *user)
{
	struct http2_stream *stream = source->ptr;
	struct http2 *http2 = user;

	if (http2->out->len >= http2->out_max)
		return NGHTTP2_ERR_WOULDBLOCK;
	BUG_ON(length > stream->body.len);
	chain_append(http2->out, slice_of(head, 9));
	chain_move(http2->out, &stream->body, length);
	if (stream->want_writable && stream->body.len < HTTP2_LOW_WATER) {
		stream->want_writable = false;
		list_add_tail(&http2->writable, &stream->writable);
	}
	return chain_failed(http2->out) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* A server that answered before the request ended does not want the rest of it. */
static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct http2 *http2 = user;
	struct http2_stream *stream;

	if (frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	if (http2->server && !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	stream = find_stream(http2, frame->hd.stream_id);
	if (!stream)
		return 0;
	stream->sent = true;
	if (http2->server && !stream->peer_ended)
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id,
					  NGHTTP2_NO_ERROR);
	return 0;
}

static struct http2_stream *unsent_stream(struct http2 *http2, int32_t id)
{
	struct http2_stream *stream;

	list_for_each(stream, &http2->streams, node)
		if (stream->id == id)
			return stream;
	return NULL;
}

/*
 * A request that could not leave, after GOAWAY came for one, has perhaps no stream in
 * the session and then no close either: it is closed here.
 */
static int on_frame_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int err,
			     void *user)
{
	struct http2 *http2 = user;
	struct http2_stream *stream;

	if (http2->server || frame->hd.type != NGHTTP2_HEADERS || http2->dead)
		return 0;
	stream = unsent_stream(http2, frame->hd.stream_id);
	if (!stream)
		return 0;
	nghttp2_session_set_stream_user_data(session, stream->id, NULL);
	drop_stream(stream, HTTP2_REFUSED_STREAM);
	return 0;
}

int http2_request(struct http2 *http2, struct http2_stream *stream,
		  const struct http2_header *headers, size_t n)
{
	nghttp2_data_provider body = { .source.ptr = stream, .read_callback = on_read_body };
	nghttp2_nv nv[HTTP2_HEADERS_MAX];
	int32_t id;

	BUG_ON(n > HTTP2_HEADERS_MAX || http2->server);
	if (http2->dead)
		return -ESHUTDOWN;
	make_nv(nv, headers, n);
	id = nghttp2_submit_request(http2->session, NULL, nv, n, &body, stream);
	if (id < 0)
		return session_errno(id);
	add_stream(http2, stream, id);
	return 0;
}

int http2_respond(struct http2_stream *stream, const struct http2_header *headers, size_t n,
		  bool only)
{
	nghttp2_data_provider body = { .source.ptr = stream, .read_callback = on_read_body };
	struct http2 *http2 = stream->http2;
	nghttp2_nv nv[HTTP2_HEADERS_MAX];
	int err;

	BUG_ON(n > HTTP2_HEADERS_MAX || !http2->server);
	if (http2->dead)
		return -ESHUTDOWN;
	make_nv(nv, headers, n);
	err = nghttp2_submit_response(http2->session, stream->id, nv, n, only ? NULL : &body);
	return err ? session_errno(err) : 0;
}

/* So that the answers on other streams need not wait for the end of a long one. */
static void share(struct http2_stream *stream)
{
	nghttp2_extpri priority = { .urgency = NGHTTP2_EXTPRI_DEFAULT_URGENCY, .inc = 1 };

	stream->incremental = true;
	nghttp2_session_change_extpri_stream_priority(stream->http2->session, stream->id,
						      &priority, 1);
}

void http2_wake(struct http2_stream *stream)
{
	struct http2 *http2 = stream->http2;

	if (http2->dead)
		return;
	if (stream->body.len >= HTTP2_LOW_WATER)
		stream->want_writable = true;
	if (http2->server && !stream->incremental && stream->body.len > INCREMENTAL_MIN)
		share(stream);
	if (stream->deferred) {
		stream->deferred = false;
		nghttp2_session_resume_data(http2->session, stream->id);
	}
}

void http2_reset(struct http2_stream *stream, enum http2_error error)
{
	if (!stream->http2->dead)
		nghttp2_submit_rst_stream(stream->http2->session, NGHTTP2_FLAG_NONE, stream->id,
					  error);
}

int http2_goaway(struct http2 *http2)
{
	int err;

	if (http2->dead)
		return 0;
	err = nghttp2_submit_goaway(http2->session, NGHTTP2_FLAG_NONE,
				    nghttp2_session_get_last_proc_stream_id(http2->session),
				    NGHTTP2_NO_ERROR, NULL, 0);
	return err ? session_errno(err) : 0;
}

/* --- the connection ------------------------------------------------------------- */

static int submit_settings(struct http2 *http2, uint32_t max_streams)
{
	nghttp2_settings_entry server[] = {
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP2_STREAM_WINDOW },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP2_HEADER_LIST_MAX },
		{ NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1 },
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, max_streams },
	};
	nghttp2_settings_entry client[] = {
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP2_STREAM_WINDOW },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP2_HEADER_LIST_MAX },
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
	};
	int err;

	if (http2->server)
		err = nghttp2_submit_settings(http2->session, NGHTTP2_FLAG_NONE, server,
					      ARRAY_SIZE(server) - !max_streams);
	else
		err = nghttp2_submit_settings(http2->session, NGHTTP2_FLAG_NONE, client,
					      ARRAY_SIZE(client));
	if (!err)
		err = nghttp2_session_set_local_window_size(http2->session, NGHTTP2_FLAG_NONE, 0,
							    HTTP2_CONN_WINDOW);
	return err;
}

static void set_callbacks(nghttp2_session_callbacks *cb)
{
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback2(cb, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_sent);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(cb, on_frame_not_sent);
	nghttp2_session_callbacks_set_send_data_callback(cb, on_send_data);
}

static int new_session(struct http2 *http2)
{
	nghttp2_session_callbacks *cb = NULL;
	nghttp2_option *option = NULL;
	int err;

	err = nghttp2_session_callbacks_new(&cb);
	if (!err)
		err = nghttp2_option_new(&option);
	if (err)
		goto out;
	set_callbacks(cb);
	nghttp2_option_set_stream_reset_rate_limit(option, HTTP2_RESET_BURST, HTTP2_RESET_RATE);
	nghttp2_option_set_no_closed_streams(option, 1);
	/* Older Go clients put a whole URL into :authority, which nghttp2 would refuse. What
	 * a request must have is checked where it is read (grpc_call.c). */
	nghttp2_option_set_no_http_messaging(option, http2->server);
	if (http2->server)
		err = nghttp2_session_server_new3(&http2->session, cb, http2, option,
						  &session_mem);
	else
		err = nghttp2_session_client_new3(&http2->session, cb, http2, option,
						  &session_mem);
out:
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(cb);
	return err;
}

int http2_init(struct http2 *http2, const struct http2_config *config)
{
	int err;

	*http2 = (struct http2){ .ops = config->ops, .server = config->server };
	list_init(&http2->streams);
	list_init(&http2->writable);
	err = new_session(http2);
	if (err)
		return session_errno(err);
	err = submit_settings(http2, config->max_concurrent_streams);
	if (!err)
		return 0;
	nghttp2_session_del(http2->session);
	http2->session = NULL;
	return session_errno(err);
}

void http2_stop(struct http2 *http2)
{
	http2->dead = true;
}

void http2_release(struct http2 *http2, uint32_t error)
{
	http2->dead = true;
	nghttp2_session_del(http2->session);
	http2->session = NULL;
	while (!list_empty(&http2->streams))
		drop_stream(list_first(&http2->streams, struct http2_stream, node), error);
}

int http2_recv(struct http2 *http2, struct slice bytes)
{
	ssize_t n = nghttp2_session_mem_recv(http2->session, bytes.data, bytes.len);

	if (n >= 0)
		return 0;
	if (!http2->dead)
		nghttp2_session_terminate_session(http2->session, NGHTTP2_PROTOCOL_ERROR);
	return session_errno(n);
}

int http2_fill(struct http2 *http2, struct chain *out, size_t max)
{
	const uint8_t *data;
	ssize_t n = 0;

	if (http2->dead)
		return 0;
	http2->out = out;
	http2->out_max = max;
	while (out->len < max) {
		n = nghttp2_session_mem_send(http2->session, &data);
		if (n <= 0)
			break;
		chain_append(out, slice_of(data, (size_t)n));
	}
	http2->out = NULL;
	return n < 0 ? session_errno(n) : 0;
}

bool http2_wants_write(const struct http2 *http2)
{
	return !http2->dead && nghttp2_session_want_write(http2->session);
}

bool http2_finished(const struct http2 *http2)
{
	return http2->dead || (!nghttp2_session_want_read(http2->session) &&
			       !nghttp2_session_want_write(http2->session));
}

void http2_call_writable(struct http2 *http2)
{
	while (!list_empty(&http2->writable) && !http2->dead) {
		struct http2_stream *stream = list_first(&http2->writable, struct http2_stream,
							 writable);

		list_del(&stream->writable);
		http2->ops->writable(stream);
	}
}
