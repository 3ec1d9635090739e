/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP/2 connection (RFC 9113), either side: nghttp2 behind a small interface.
 * No other file knows nghttp2. There are no sockets here: bytes that came go into
 * http2_recv(), bytes to be sent come out of http2_fill().
 *
 * A stream is embedded in what owns it. It begins with ops->open (server) or
 * http2_request() (client) and ends with ops->close, which comes exactly once for
 * each, at the latest from http2_release(); then its memory may go. ops->close may
 * be called from http2_recv(), http2_fill() and http2_release() alone, so a stream
 * is safe to use in the other operations.
 *
 * Sending: what is to be sent is appended to stream->body; http2_wake() says that
 * there is more. stream->ended says that nothing follows: then the trailers that
 * ops->trailers gives end the stream.
 *
 * From within the operations everything may be called except http2_recv(),
 * http2_fill() and http2_release().
 */
#ifndef LIB_HTTP2_I_H
#define LIB_HTTP2_I_H

#include "lib/chain.h"

#define HTTP2_HEADER_LIST_MAX	16384	/* bytes of a header list, as RFC 9113 counts them */
#define HTTP2_HEADERS_MAX	12	/* headers sent at once */
#define HTTP2_STREAM_WINDOW	(1u << 20)
#define HTTP2_CONN_WINDOW	(16u << 20)
/* Streams that the other side may reset: at once, and per second from then on. */
#define HTTP2_RESET_BURST	10000
#define HTTP2_RESET_RATE	1000

/* RFC 9113, section 7. */
enum http2_error {
	HTTP2_NO_ERROR, HTTP2_PROTOCOL_ERROR, HTTP2_INTERNAL_ERROR, HTTP2_FLOW_CONTROL_ERROR,
	HTTP2_SETTINGS_TIMEOUT, HTTP2_STREAM_CLOSED, HTTP2_FRAME_SIZE_ERROR,
	HTTP2_REFUSED_STREAM, HTTP2_CANCEL, HTTP2_COMPRESSION_ERROR, HTTP2_CONNECT_ERROR,
	HTTP2_ENHANCE_YOUR_CALM, HTTP2_INADEQUATE_SECURITY, HTTP2_HTTP_1_1_REQUIRED,
	HTTP2_ERRORS
};

struct nghttp2_session;
struct http2;

struct http2_stream {
	struct http2 *http2;
	struct list node;
	struct list writable;	/* in http2->writable while ops->writable is owed */
	struct chain body;
	int32_t id;
	uint32_t header_bytes;	/* of the headers that came */
	bool too_large;		/* more than HTTP2_HEADER_LIST_MAX came; not all delivered */
	bool ended;		/* nothing is appended to body any more */
	bool deferred;		/* nghttp2 waits for http2_wake() */
	bool sent;		/* client: its headers have left the session */
	bool peer_ended;	/* END_STREAM came */
	bool want_writable;	/* body was longer than HTTP2_LOW_WATER */
	bool incremental;	/* shares the connection with others */
};

#define HTTP2_LOW_WATER 262144	/* below it ops->writable is called */

/* A header to be sent. The name is a literal; the value lives until the stream is
 * closed unless @copy says that it does not. */
struct http2_header {
	const char *name;
	struct slice value;
	bool copy;
};

/* The value of a header that came; http2_value_get() makes it outlive the call. */
struct http2_value {
	struct slice bytes;
	void *ref;
};

struct http2_value http2_value_get(const struct http2_value *value);
void http2_value_put(struct http2_value *value);

struct http2_ops {
	/* Server: a stream begins. NULL: no memory, it is refused. */
	struct http2_stream *(*open)(struct http2 *http2);
	void (*header)(struct http2_stream *stream, struct slice name,
		       const struct http2_value *value);
	/* The headers, or the trailers, are complete. */
	void (*headers)(struct http2_stream *stream);
	void (*data)(struct http2_stream *stream, struct slice bytes);
	void (*end)(struct http2_stream *stream);
	/* Server: fills @out and returns how many. NULL: no trailers. */
	size_t (*trailers)(struct http2_stream *stream, struct http2_header *out);
	void (*writable)(struct http2_stream *stream);
	void (*close)(struct http2_stream *stream, uint32_t error);
	/* The first SETTINGS came. May be NULL, as may goaway. */
	void (*ready)(struct http2 *http2);
	void (*goaway)(struct http2 *http2, uint32_t error, struct slice debug);
};

struct http2 {
	struct nghttp2_session *session;
	const struct http2_ops *ops;
	struct list streams;
	struct list writable;
	struct http2_stream *last;	/* found */
	struct chain *out;	/* during http2_fill() */
	bool server;
	bool settled;		/* the other side's SETTINGS came */
	bool dead;		/* stopped: nothing is delivered or sent any more */
	size_t out_max;
};

struct http2_config {
	const struct http2_ops *ops;
	bool server;
	uint32_t max_concurrent_streams;	/* of the other side; 0: no limit */
};

int http2_init(struct http2 *http2, const struct http2_config *config);
/* Nothing is delivered or sent any more; for a connection about to be released. */
void http2_stop(struct http2 *http2);
/* Closes every stream that is left with @error. */
void http2_release(struct http2 *http2, uint32_t error);

/* Negative errno: the connection is broken; what http2_fill() gives may say why. */
int http2_recv(struct http2 *http2, struct slice bytes);
/* Appends to @out until it holds @max bytes or there is no more. */
int http2_fill(struct http2 *http2, struct chain *out, size_t max);
bool http2_wants_write(const struct http2 *http2);
/* True where nothing more is to be read or written: close. */
bool http2_finished(const struct http2 *http2);
/* Calls ops->writable where it is owed; not from within an operation. */
void http2_call_writable(struct http2 *http2);

void http2_stream_init(struct http2_stream *stream);
/* -ESHUTDOWN: the connection takes no more. */
int http2_request(struct http2 *http2, struct http2_stream *stream,
		  const struct http2_header *headers, size_t n);
/* @only: no body and no trailers follow. */
int http2_respond(struct http2_stream *stream, const struct http2_header *headers, size_t n,
		  bool only);
void http2_wake(struct http2_stream *stream);
void http2_reset(struct http2_stream *stream, enum http2_error error);
/* New streams of the other side are ignored from now on. */
int http2_goaway(struct http2 *http2);

const char *http2_error_text(uint32_t error);	/* as Go writes them */

#endif
