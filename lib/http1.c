/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.x for /health and its like: see http1_i.h. */
#include "lib/http1_i.h"

#include <errno.h>
#include <http_parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Longer names and values of headers are of no interest. */
#define WORD_MAX 16

/* The first bytes of a name or a value, in lower case; len counts all. */
struct word {
	char text[WORD_MAX];
	size_t len;
};

struct buffer {
	uint8_t *data;
	size_t len, room;
};

struct http1 {
	http_parser parser;
	const struct grpc_server_config *config;
	struct chain *out;		/* during http1_recv() */
	enum http1_state state;
	int refusal;			/* the status of an error found in a callback */
	struct buffer url, body, held;
	size_t header_bytes;
	struct word name, value;	/* of the header being read */
	bool in_value;
	bool expects;			/* Expect: 100-continue */
};

static int buffer_add(struct buffer *buffer, const void *data, size_t n)
{
	size_t room = MAX(buffer->room, (size_t)256);
	uint8_t *grown;

	while (room < buffer->len + n)
		room *= 2;
	if (room != buffer->room) {
		grown = realloc(buffer->data, room);
		if (!grown)
			return -ENOMEM;
		buffer->data = grown;
		buffer->room = room;
	}
	memcpy(buffer->data + buffer->len, data, n);
	buffer->len += n;
	return 0;
}

static void buffer_release(struct buffer *buffer)
{
	free(buffer->data);
	*buffer = (struct buffer){ 0 };
}

static struct http1 *http1_of(http_parser *parser)
{
	return parser->data;
}

/* Ends the connection with @status; for the parser's callbacks to return. */
static int refuse(struct http1 *http1, int status)
{
	http1->refusal = status;
	return -1;
}

/* --- answers -------------------------------------------------------------------- */

static const char *reason(int status)
{
	static const struct { int status; const char *text; } reasons[] = {
		{ 200, "OK" }, { 204, "No Content" }, { 400, "Bad Request" },
		{ 401, "Unauthorized" }, { 403, "Forbidden" }, { 404, "Not Found" },
		{ 405, "Method Not Allowed" }, { 408, "Request Timeout" }, { 409, "Conflict" },
		{ 413, "Content Too Large" }, { 414, "URI Too Long" },
		{ 415, "Unsupported Media Type" }, { 429, "Too Many Requests" },
		{ 431, "Request Header Fields Too Large" }, { 500, "Internal Server Error" },
		{ 501, "Not Implemented" }, { 503, "Service Unavailable" },
		{ 504, "Gateway Timeout" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
		if (reasons[i].status == status)
			return reasons[i].text;
	return "Status";
}

static void add_head(struct http1 *http1, const struct http_response *response,
		     const char *connection)
{
	const char *type = response->content_type;
	char head[512], date[40];
	time_t now = time(NULL);
	struct tm tm;
	int n;

	gmtime_r(&now, &tm);
	strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	n = snprintf(head, sizeof(head),
		     "HTTP/1.1 %d %s\r\nContent-Type: %.200s\r\nContent-Length: %zu\r\n"
		     "Date: %s\r\n%s\r\n", response->status, reason(response->status),
		     type ? type : "text/plain; charset=utf-8", response->body.len, date,
		     connection);
	chain_append(http1->out, slice_of(head, (size_t)n));
}

static void not_found(struct http_response *response)
{
	response->status = 404;
	response->content_type = "text/plain; charset=utf-8";
	chain_release(&response->body);
	chain_append(&response->body, SLICE_LIT("404 page not found\n"));
}

static void answer(struct http1 *http1, const struct http_request *request)
{
	bool alive = http_should_keep_alive(&http1->parser);
	const char *connection = alive ? "" : "Connection: close\r\n";
	struct http_response response = { 0 };

	if (alive && http1->parser.http_minor == 0)
		connection = "Connection: keep-alive\r\n";
	chain_init(&response.body);
	if (http1->config->http)
		http1->config->http(http1->config->user, request, &response);
	if (!response.status)
		not_found(&response);
	add_head(http1, &response, connection);
	if (http1->parser.method == HTTP_HEAD)
		chain_release(&response.body);
	else
		chain_splice(http1->out, &response.body);
	if (!alive)
		http1->state = HTTP1_LAST;
}

static void answer_refusal(struct http1 *http1, const char *text)
{
	struct http_response response = { .status = http1->refusal };

	chain_init(&response.body);
	chain_append(&response.body, slice_str(text));
	chain_append(&response.body, SLICE_LIT("\n"));
	add_head(http1, &response, "Connection: close\r\n");
	chain_splice(http1->out, &response.body);
	http1->state = HTTP1_REFUSED;
}

/* --- the parser's callbacks ----------------------------------------------------- */

static int on_begin(http_parser *parser)
{
	struct http1 *http1 = http1_of(parser);

	http1->url.len = http1->body.len = 0;
	http1->header_bytes = http1->name.len = http1->value.len = 0;
	http1->in_value = http1->expects = false;
	return 0;
}

static int count_header(struct http1 *http1, size_t n, int status)
{
	http1->header_bytes += n;
	return http1->header_bytes > HTTP1_HEADERS_MAX ? refuse(http1, status) : 0;
}

static int on_url(http_parser *parser, const char *at, size_t n)
{
	struct http1 *http1 = http1_of(parser);

	if (count_header(http1, n, 414))
		return -1;
	return buffer_add(&http1->url, at, n) ? refuse(http1, 503) : 0;
}

static void word_add(struct word *word, const char *at, size_t n)
{
	for (size_t i = 0; i < n; i++, word->len++)
		if (word->len < WORD_MAX)
			word->text[word->len] = (char)(at[i] | 0x20);
}

static bool word_is(const struct word *word, const char *text)
{
	return word->len == strlen(text) && !memcmp(word->text, text, word->len);
}

static int on_header_name(http_parser *parser, const char *at, size_t n)
{
	struct http1 *http1 = http1_of(parser);

	if (http1->in_value)
		http1->name.len = http1->value.len = 0;
	http1->in_value = false;
	word_add(&http1->name, at, n);
	return count_header(http1, n, 431);
}

static int on_header_value(http_parser *parser, const char *at, size_t n)
{
	struct http1 *http1 = http1_of(parser);

	http1->in_value = true;
	word_add(&http1->value, at, n);
	if (word_is(&http1->name, "expect"))
		http1->expects = word_is(&http1->value, "100-continue");
	return count_header(http1, n, 431);
}

static int on_headers(http_parser *parser)
{
	struct http1 *http1 = http1_of(parser);

	parser->upgrade = 0;	/* to h2c, say: a server may ignore it */
	if (parser->flags & F_CONTENTLENGTH && parser->content_length > http1->config->max_message)
		return refuse(http1, 413);
	if (http1->expects && parser->http_minor > 0)
		chain_append(http1->out, SLICE_LIT("HTTP/1.1 100 Continue\r\n\r\n"));
	return 0;
}

static int on_body(http_parser *parser, const char *at, size_t n)
{
	struct http1 *http1 = http1_of(parser);

	if (n > http1->config->max_message - http1->body.len)
		return refuse(http1, 413);
	return buffer_add(&http1->body, at, n) ? refuse(http1, 503) : 0;
}

static struct slice url_field(const struct http1 *http1, const struct http_parser_url *url,
			      enum http_parser_url_fields field)
{
	if (!(url->field_set & 1u << field))
		return slice_of(NULL, 0);
	return slice_of(http1->url.data + url->field_data[field].off,
			url->field_data[field].len);
}

static int on_complete(http_parser *parser)
{
	struct http1 *http1 = http1_of(parser);
	struct http_request request = {
		.method = http_method_str((enum http_method)parser->method),
		.body = slice_of(http1->body.data, http1->body.len),
	};
	struct http_parser_url url;

	http_parser_url_init(&url);
	if (http_parser_parse_url((const char *)http1->url.data, http1->url.len,
				  parser->method == HTTP_CONNECT, &url))
		return refuse(http1, 400);
	request.path = url_field(http1, &url, UF_PATH);
	request.query = url_field(http1, &url, UF_QUERY);
	answer(http1, &request);
	if (http1->state == HTTP1_LAST || http1->out->len >= HTTP1_OUT_MAX)
		http_parser_pause(parser, 1);
	return 0;
}

static const http_parser_settings settings = {
	.on_message_begin = on_begin, .on_url = on_url, .on_header_field = on_header_name,
	.on_header_value = on_header_value, .on_headers_complete = on_headers,
	.on_body = on_body, .on_message_complete = on_complete,
};

/* --- the connection ------------------------------------------------------------- */

int http1_new(const struct grpc_server_config *config, struct http1 **out)
{
	struct http1 *http1 = calloc(1, sizeof(*http1));

	if (!http1)
		return -ENOMEM;
	http1->config = config;
	http_parser_init(&http1->parser, HTTP_REQUEST);
	http1->parser.data = http1;
	*out = http1;
	return 0;
}

void http1_free(struct http1 *http1)
{
	if (!http1)
		return;
	buffer_release(&http1->url);
	buffer_release(&http1->body);
	buffer_release(&http1->held);
	free(http1);
}

static void parse_error(struct http1 *http1, struct slice bytes)
{
	enum http_errno error = HTTP_PARSER_ERRNO(&http1->parser);
	char text[160];

	if (http1->refusal)
		snprintf(text, sizeof(text), "%d %s", http1->refusal, reason(http1->refusal));
	else if (bytes.len && bytes.data[0] == 0x16)
		snprintf(text, sizeof(text),
			 "400 Bad Request: a TLS handshake came to a port without TLS");
	else
		snprintf(text, sizeof(text), "400 Bad Request: %s", http_errno_description(error));
	if (!http1->refusal)
		http1->refusal = 400;
	answer_refusal(http1, text);
}

enum http1_state http1_recv(struct http1 *http1, struct slice bytes, struct chain *out)
{
	size_t n;

	if (http1->state != HTTP1_READING)
		return http1->state;
	http1->out = out;
	n = http_parser_execute(&http1->parser, &settings, (const char *)bytes.data, bytes.len);
	switch (HTTP_PARSER_ERRNO(&http1->parser)) {
	case HPE_OK:
		break;
	case HPE_PAUSED:
		if (http1->state != HTTP1_LAST)
			http1->state = HTTP1_HELD;
		if (buffer_add(&http1->held, bytes.data + n, bytes.len - n))
			http1->state = HTTP1_LAST;
		break;
	default:
		parse_error(http1, bytes);
	}
	http1->out = NULL;
	return http1->state;
}

enum http1_state http1_resume(struct http1 *http1, struct chain *out)
{
	struct buffer held = http1->held;
	enum http1_state state;

	if (http1->state != HTTP1_HELD)
		return http1->state;
	http1->held = (struct buffer){ 0 };
	http1->state = HTTP1_READING;
	http_parser_pause(&http1->parser, 0);
	state = http1_recv(http1, slice_of(held.data, held.len), out);
	buffer_release(&held);
	return state;
}
