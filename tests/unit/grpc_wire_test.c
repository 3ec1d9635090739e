/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes over the wire without our own other side: HTTP/1.x, HTTP/2 written by
 * hand, garbage, clients that do not read, servers that misbehave.
 */
#include "grpc_raw.h"

static void byte_by_byte(void **state)
{
	struct bytes b = { .len = 0 };
	struct raw raw;

	raw_open(&raw);
	put_unary(&b, SLICE_LIT("one byte at a time"));
	for (size_t i = 0; i < b.len; i++) {
		raw_write(&raw, slice_of(b.data + i, 1));
		uv_run(&env->loop, UV_RUN_NOWAIT);
	}
	assert_echoed(&raw, SLICE_LIT("one byte at a time"));
	raw_close(&raw);
}

/* In two parts, divided everywhere. */
static void split_everywhere(void **state)
{
	struct bytes b = { .len = 0 };
	struct raw raw;

	put_unary(&b, SLICE_LIT("x"));
	for (size_t i = 1; i < b.len; i++) {
		raw_open(&raw);
		raw_write(&raw, slice_of(b.data, i));
		for (int turn = 0; turn < 3; turn++)
			uv_run(&env->loop, UV_RUN_NOWAIT);
		raw_write(&raw, slice_of(b.data + i, b.len - i));
		assert_echoed(&raw, SLICE_LIT("x"));
		raw_close(&raw);
	}
}

static void metadata_is_kept(void **state)
{
	struct bytes b = { .len = 0 };
	struct raw raw;

	raw_open(&raw);
	put(&b, PREFACE, strlen(PREFACE));
	put_frame(&b, SETTINGS, 0, 0, slice_of("", 0));
	put_request(&b, "POST", "/test.Echo/Hang", "application/grpc+proto");
	put_message(&b, SLICE_LIT("x"), false);
	raw_write(&raw, slice_of(b.data, b.len));
	run_until(env->hanging);
	assert_string_equal(env->metadata, "Token=secret.1;hasleader=true;");
	raw_close(&raw);
	run_until(env->closed == 1);
}

/* Requests that are no gRPC: answered with headers alone, never opened. */
static void foreign_requests_are_refused(void **state)
{
	static const struct { const char *method, *type; uint8_t compressed; } cases[] = {
		{ "GET", "application/grpc", 0 },
		{ "POST", "application/json", 0 },
		{ "POST", "application/grpcx", 0 },
		{ "POST", "application/grpc", 1 },
		{ "POST", "application/grpc", 77 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct bytes b = { .len = 0 };
		struct raw raw;

		raw_open(&raw);
		put(&b, PREFACE, strlen(PREFACE));
		put_frame(&b, SETTINGS, 0, 0, slice_of("", 0));
		put_request(&b, cases[i].method, "/test.Echo/Unary", cases[i].type);
		put_message(&b, SLICE_LIT("x"), true);
		b.data[b.len - 6] = cases[i].compressed;
		raw_write(&raw, slice_of(b.data, b.len));
		run_until(raw_answered(&raw));
		assert_int_equal(env->messages, 0);
		assert_int_equal(env->opened, cases[i].compressed ? i - 2 : 0);
		raw_close(&raw);
	}
}

static void pings_are_answered(void **state)
{
	struct bytes b = { .len = 0 };
	struct slice payload;
	struct raw raw;
	size_t at = 0;

	raw_open(&raw);
	put(&b, PREFACE, strlen(PREFACE));
	put_frame(&b, SETTINGS, 0, 0, slice_of("", 0));
	put_frame(&b, PING, 0, 0, SLICE_LIT("8 bytes!"));
	raw_write(&raw, slice_of(b.data, b.len));
	run_until((raw_read(&raw), at = 0, raw_frame(&raw, &at, PING, 1, &payload)));
	assert_memory_equal(payload.data, "8 bytes!", 8);
	raw_close(&raw);
}

/* --- clients that do not read --------------------------------------------------- */

#define SLOW_MESSAGES 8000
#define SLOW_SIZE 8192

static void put_slow_request(struct bytes *b, bool windows)
{
	static const uint8_t window[] = { 0, 4, 0x7f, 0xff, 0xff, 0xff };
	uint8_t increment[4], request[8];

	put(b, PREFACE, strlen(PREFACE));
	put_frame(b, SETTINGS, 0, 0, slice_of(window, windows ? sizeof(window) : 0));
	put_be32(increment, 0x7fff0000 - 65535);
	if (windows)
		put_frame(b, WINDOW_UPDATE, 0, 0, slice_of(increment, 4));
	put_request(b, "POST", "/test.Count/Down", "application/grpc");
	put_be32(request, SLOW_MESSAGES);
	put_be32(request + 4, SLOW_SIZE);
	put_message(b, slice_of(request, 8), true);
}

/* The kernel's buffers are full: the server sends no more, and queues no more. */
static void slow_reader_holds_the_server_back(void **state)
{
	size_t total = (SLOW_SIZE + 5) * (size_t)SLOW_MESSAGES;
	struct grpc_server_stats before, after;
	struct bytes b = { .len = 0 };
	struct raw raw;
	int small = 65536;

	raw_open(&raw);
	setsockopt(raw.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	put_slow_request(&b, true);
	raw_write(&raw, slice_of(b.data, b.len));
	run_until(env->most_queued >= GRPC_HIGH_WATER);
	do {
		grpc_server_stats(env->server, &before);
		for (int i = 0; i < 50; i++)
			uv_run(&env->loop, UV_RUN_NOWAIT);
		grpc_server_stats(env->server, &after);
	} while (after.bytes_out != before.bytes_out);
	assert_true(after.bytes_out < total / 2);
	assert_true(env->most_queued < GRPC_HIGH_WATER + 2 * SLOW_SIZE);
	assert_int_equal(env->closed, 0);
	assert_server_works();
	run_until(raw_answered(&raw));
	assert_true(raw.len > total && raw.len < total + total / 50);
	assert_int_equal(env->closed, 2);
	raw_close(&raw);
}

/* The window of HTTP/2 is used up: the call waits, others do not, and it goes on. */
static void closed_window_holds_one_call_back(void **state)
{
	struct bytes b = { .len = 0 }, more = { .len = 0 };
	struct raw raw;
	uint8_t increment[4];

	raw_open(&raw);
	put_slow_request(&b, false);
	raw_write(&raw, slice_of(b.data, b.len));
	run_until((raw_read(&raw), raw.len > 65535));
	assert_server_works();
	raw_read(&raw);
	assert_true(raw.len < 66500);
	assert_true(env->most_queued < GRPC_HIGH_WATER + 2 * SLOW_SIZE);
	put_be32(increment, 0x7fff0000 - 65535);
	put_frame(&more, WINDOW_UPDATE, 0, 0, slice_of(increment, 4));
	put_frame(&more, WINDOW_UPDATE, 0, 1, slice_of(increment, 4));
	raw_write(&raw, slice_of(more.data, more.len));
	run_until(raw_answered(&raw));
	assert_true(raw.len > (SLOW_SIZE + 5) * (size_t)SLOW_MESSAGES);
	raw_close(&raw);
}

#define FLOOD_CALLS 900
#define FLOOD_FRAMES 15		/* of 4096 bytes each, to a call */
#define FLOOD_BYTES (FLOOD_CALLS * FLOOD_FRAMES * 4096u)

/* Many requests of 60 KiB each, and windows that let all the answers come. */
static struct slice flood_input(void)
{
	static const uint8_t window[] = { 0, 4, 0x7f, 0xff, 0xff, 0xff }, zeros[4096];
	uint8_t *out = malloc(FLOOD_BYTES + FLOOD_CALLS * 1024u), increment[4];
	size_t len = 0;

	put_be32(increment, 0x7fff0000 - 65535);
	for (uint32_t i = 0; i < FLOOD_CALLS * (FLOOD_FRAMES + 1); i++) {
		uint32_t stream = i / (FLOOD_FRAMES + 1) * 2 + 1, part = i % (FLOOD_FRAMES + 1);
		struct bytes b = { .len = 0 };

		if (i == 0) {
			put(&b, PREFACE, strlen(PREFACE));
			put_frame(&b, SETTINGS, 0, 0, slice_of(window, sizeof(window)));
			put_frame(&b, WINDOW_UPDATE, 0, 0, slice_of(increment, 4));
		}
		if (part) {
			put_frame(&b, DATA, part == FLOOD_FRAMES, stream,
				  slice_of(zeros, sizeof(zeros)));
		} else {
			put_request_on(&b, stream, "POST", "/test.Echo/Unary", "application/grpc");
			put_frame(&b, DATA, 0, stream, SLICE_LIT("\0\0\0\xf0\0"));
		}
		memcpy(out + len, b.data, b.len);
		len += b.len;
	}
	return slice_of(out, len);
}

/* Sends what the kernel takes. */
static bool raw_push(struct raw *raw, struct slice *s)
{
	ssize_t n = s->len ? send(raw->fd, s->data, s->len, MSG_NOSIGNAL) : 0;

	if (n <= 0)
		return false;
	s->data += n;
	s->len -= (size_t)n;
	return true;
}

/* A client that asks on and on while it reads nothing: the server stops to listen. */
static void requests_wait_while_answers_do(void **state)
{
	struct slice input = flood_input(), rest = input;
	size_t received = 0;
	struct raw raw;
	int small = 65536;

	raw_open(&raw);
	setsockopt(raw.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	for (int idle = 0; idle < 200; idle++) {
		if (raw_push(&raw, &rest))
			idle = 0;
		uv_run(&env->loop, UV_RUN_NOWAIT);
	}
	assert_true(rest.len > input.len / 2);
	assert_server_works();
	while (received < FLOOD_BYTES) {
		raw_push(&raw, &rest);
		uv_run(&env->loop, UV_RUN_NOWAIT);
		assert_false(raw_read(&raw));
		received += raw.len;
		raw.len = 0;
	}
	run_until(env->closed == FLOOD_CALLS + 1);
	raw_close(&raw);
	free((void *)input.data);
}

/* --- garbage -------------------------------------------------------------------- */

static void random_bytes(struct bytes *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t c = (uint8_t)rnd(256);

		put(b, &c, 1);
	}
}

/* Sends @b, ends its side, and waits for the end of the other. */
static void raw_exchange(struct raw *raw, const struct bytes *b)
{
	raw_open(raw);
	raw_write(raw, slice_of(b->data, b->len));
	shutdown(raw->fd, SHUT_WR);
	run_until(raw_read(raw));
}

static void garbage_is_refused(void **state)
{
	for (uint32_t i = 1; i <= 150; i++) {
		struct bytes b = { .len = 0 };
		struct raw raw;

		seed = i;
		random_bytes(&b, 3 + rnd(3000));
		raw_exchange(&raw, &b);
		assert_true(raw_has(&raw, "HTTP/1.1 400 Bad Request\r\n"));
		assert_true(raw_has(&raw, "Connection: close\r\n"));
		raw_close(&raw);
	}
	assert_server_works();
}

static void garbage_after_the_preface_ends_in_goaway(void **state)
{
	for (uint32_t i = 1; i <= 150; i++) {
		struct bytes b = { .len = 0 };
		struct slice payload;
		struct raw raw;
		size_t at = 0;

		seed = i;
		put(&b, PREFACE, i % 3 ? 24 : 4 + rnd(20));
		if (i % 2 && i % 3)
			put_frame(&b, SETTINGS, 0, 0, slice_of("", 0));
		random_bytes(&b, 24 + rnd(3000));
		raw_exchange(&raw, &b);
		assert_true(raw_frame(&raw, &at, SETTINGS, 0, &payload));
		if (i % 3 == 0 || i % 2 == 0)
			assert_true(raw_frame(&raw, &at, GOAWAY, 0, &payload));
		raw_close(&raw);
	}
	assert_server_works();
}

static void damaged_requests_do_no_harm(void **state)
{
	for (uint32_t i = 1; i <= 1000; i++) {
		struct bytes b = { .len = 0 };
		struct raw raw;

		seed = i;
		put_unary(&b, SLICE_LIT("to be damaged"));
		for (uint32_t n = rnd(4) + 1; n; n--)
			b.data[24 + rnd((uint32_t)b.len - 24)] ^= (uint8_t)(1u << rnd(8));
		raw_exchange(&raw, &b);
		raw_close(&raw);
	}
	assert_server_works();
	run_until(env->opened == env->closed);
}

/* --- HTTP/1.x ------------------------------------------------------------------- */

static const struct {
	const char *in;
	const char *out[4];
	int closes;
} http1_cases[] = {
	{ "GET /echo?a=b HTTP/1.1\r\nHost: x\r\n\r\n", { "200 OK", "GET?a=b|" }, 0 },
	{ "POST /echo HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody", { "200 OK", "POST?|body" }, 0 },
	{ "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
	  "2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n",
	  { "200 OK", "POST?|body" }, 0 },
	{ "GET http://host/echo?q HTTP/1.1\r\n\r\n", { "GET?q|" }, 0 },
	{ "GET /nothing HTTP/1.1\r\n\r\n", { "404 Not Found", "404 page not found\n" }, 0 },
	{ "GET /echo HTTP/1.1\r\n\r\nGET /echo?2 HTTP/1.1\r\n\r\nGET /no HTTP/1.1\r\n\r\n",
	  { "GET?|", "GET?2|", "404 page" }, 0 },
	{ "GET /echo HTTP/1.1\r\nConnection: close\r\n\r\nGET /no HTTP/1.1\r\n\r\n",
	  { "GET?|", "Connection: close\r\n" }, 1 },
	{ "GET /echo HTTP/1.0\r\n\r\n", { "200 OK", "Connection: close\r\n" }, 1 },
	{ "GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	  { "200 OK", "Connection: keep-alive\r\n" }, 0 },
	{ "HEAD /echo HTTP/1.1\r\n\r\n", { "200 OK", "Content-Length: 6\r\n" }, 0 },
	{ "GET /echo HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
	  "GET /echo?2 HTTP/1.1\r\n\r\n",
	  { "GET?|", "GET?2|" }, 0 },
	{ "POST /echo HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nok",
	  { "HTTP/1.1 100 Continue\r\n\r\n", "POST?|ok" }, 0 },
	{ "PUT /echo HTTP/1.1\r\n\r\n", { "PUT?|" }, 0 },
	{ "NONSENSE /echo HTTP/1.1\r\n\r\n", { "400 Bad Request", "invalid HTTP method" }, 1 },
	{ "GET /echo HTTP/1.1\r\nBad Header\r\n\r\n", { "400 Bad Request" }, 1 },
	{ "GET /echo HTTP/1.1\r\n\r\n\x01\x02\x03", { "GET?|", "400 Bad Request" }, 1 },
	{ "POST /echo HTTP/1.1\r\nContent-Length: 6291457\r\n\r\n", { "413 Content Too" }, 1 },
	{ "POST /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
	  { "400 Bad Request" }, 1 },
	{ "\x16\x03\x01\x02", { "400 Bad Request", "TLS handshake" }, 1 },
};

static bool has_all(const struct raw *raw, const char *const *out)
{
	for (; *out; out++)
		if (!raw_has(raw, *out))
			return false;
	return true;
}

/* At once and byte by byte; where it is kept alive, with one more request after it. */
static void http1_table(void **state)
{
	const char *again = "GET /echo?again HTTP/1.1\r\nConnection: close\r\n\r\n";

	for (size_t i = 0; i < 2 * ARRAY_SIZE(http1_cases); i++) {
		const char *in = http1_cases[i / 2].in;
		size_t step = i % 2 ? 1 : strlen(in);
		struct raw raw;

		raw_open(&raw);
		for (size_t at = 0; at < strlen(in); at += step) {
			raw_write(&raw, slice_of(in + at, step));
			uv_run(&env->loop, UV_RUN_NOWAIT);
		}
		run_until((raw_read(&raw), has_all(&raw, http1_cases[i / 2].out)));
		if (!http1_cases[i / 2].closes) {
			assert_false(raw.eof);
			raw_write(&raw, slice_str(again));
		}
		run_until(raw_read(&raw));
		assert_int_equal(raw_has(&raw, "GET?again|"), !http1_cases[i / 2].closes);
		raw_close(&raw);
	}
}

static void http1_limits(void **state)
{
	static const struct { const char *before; size_t fill; const char *status; } cases[] = {
		{ "GET /", 17000, "414 URI Too Long" },
		{ "GET / HTTP/1.1\r\nA: ", 17000, "431 Request Header" },
		{ "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n700000\r\n", 7340000,
		  "413 Content Too Large" },
	};
	uint8_t *fill = malloc(7340000);

	memset(fill, 'x', 7340000);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct raw raw;

		raw_open(&raw);
		raw_write(&raw, slice_str(cases[i].before));
		raw_write(&raw, slice_of(fill, cases[i].fill));
		run_until(raw_read(&raw));
		assert_true(raw_has(&raw, cases[i].status));
		raw_close(&raw);
	}
	free(fill);
}

/* Many requests for much, and nothing read: the answers are not all made at once. */
static void http1_pipeline_is_held(void **state)
{
	static const char request[] = "GET /big HTTP/1.1\r\n\r\n";
	struct raw raw;
	int small = 65536;

	raw_open(&raw);
	setsockopt(raw.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	for (int i = 0; i < 1000; i++)
		raw_write(&raw, slice_str(request));
	for (int i = 0; i < 200; i++)
		uv_run(&env->loop, UV_RUN_NOWAIT);
	assert_in_range(env->http, 1, 200);
	assert_server_works();
	raw_write(&raw, slice_str("GET /echo?last HTTP/1.1\r\nConnection: close\r\n\r\n"));
	run_until(raw_read(&raw));
	assert_true(raw.len > 100000000 && raw.len < 100200000);
	assert_true(raw_has(&raw, "GET?last|"));
	raw_close(&raw);
}

/* --- servers that misbehave ----------------------------------------------------- */

#define S(text) { (const uint8_t *)(text), sizeof(text) - 1 }

#define SETTINGS_FRAME "\0\0\0\4\0\0\0\0\0"
#define GRPC_HEADERS "\0\0\x20\1\4\0\0\0\1\x88\0\x0c" "content-type" "\x10" "application/grpc"

static const struct {
	const char *name;
	struct slice answer;
	enum grpc_code code;
	const char *text;
	bool unprocessed;
} server_cases[] = {
	{ "nothing at all", S(""), GRPC_UNAVAILABLE, "error reading server preface", false },
	{ "HTTP/1.1", S("HTTP/1.1 400 Bad Request\r\n\r\n"), GRPC_UNAVAILABLE,
	  "does not speak HTTP/2", false },
	{ "settings, then the end", S(SETTINGS_FRAME), GRPC_UNAVAILABLE,
	  "error reading from server", false },
	{ "refused", S(SETTINGS_FRAME "\0\0\4\3\0\0\0\0\1\0\0\0\7"), GRPC_UNAVAILABLE,
	  "REFUSED_STREAM", true },
	{ "cancelled", S(SETTINGS_FRAME "\0\0\4\3\0\0\0\0\1\0\0\0\x8"), GRPC_CANCELED, "CANCEL",
	  false },
	{ "calm", S(SETTINGS_FRAME "\0\0\4\3\0\0\0\0\1\0\0\0\xb"), GRPC_RESOURCE_EXHAUSTED,
	  "ENHANCE_YOUR_CALM", false },
	{ "goaway below the call", S(SETTINGS_FRAME "\0\0\x8\7\0\0\0\0\0\0\0\0\0\0\0\0\0"),
	  GRPC_UNAVAILABLE, "REFUSED_STREAM", true },
	{ "goaway, then the end", S(SETTINGS_FRAME "\0\0\xc\7\0\0\0\0\0\0\0\0\1\0\0\0\xb" "calm"),
	  GRPC_UNAVAILABLE, "goaway: code: ENHANCE_YOUR_CALM, debug data: calm", false },
	{ "HTTP status 404", S(SETTINGS_FRAME "\0\0\1\1\5\0\0\0\1\x8d"), GRPC_UNIMPLEMENTED,
	  "404", false },
	{ "no trailers", S(SETTINGS_FRAME GRPC_HEADERS "\0\0\0\0\1\0\0\0\1"), GRPC_INTERNAL,
	  "without sending trailers", false },
	{ "a compressed message", S(SETTINGS_FRAME GRPC_HEADERS "\0\0\6\0\0\0\0\0\1\1\0\0\0\1x"),
	  GRPC_INTERNAL, "compressed flag set", false },
	{ "a message of 4 GiB",
	  S(SETTINGS_FRAME GRPC_HEADERS "\0\0\6\0\0\0\0\0\1\0\xff\xff\xff\xffx"),
	  GRPC_RESOURCE_EXHAUSTED, "larger than max (4294967295 vs. 2147483647)", false },
};

/* A server on a bare socket, which reads the request and gives @answer to it. */
struct fake {
	int listening, fd;
	char url[64];
};

static void fake_open(struct fake *fake)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(addr);

	fake->fd = -1;
	fake->listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(fake->listening, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(fake->listening, 8), 0);
	getsockname(fake->listening, (struct sockaddr *)&addr, &len);
	snprintf(fake->url, sizeof(fake->url), "127.0.0.1:%u", ntohs(addr.sin_port));
}

/* True once the whole request was read: its last frame carries END_STREAM. */
static bool fake_read_request(struct fake *fake, struct bytes *in)
{
	ssize_t n;

	if (fake->fd < 0)
		fake->fd = accept4(fake->listening, NULL, NULL, SOCK_NONBLOCK);
	if (fake->fd < 0)
		return false;
	n = recv(fake->fd, in->data + in->len, sizeof(in->data) - in->len, 0);
	if (n > 0)
		in->len += (size_t)n;
	return in->len > 6 && !memcmp(in->data + in->len - 6, "\0\0\0\0\1x", 6);
}

static void fake_serve(struct env_conn *conn, struct env_result *r, struct slice answer)
{
	struct bytes in = { .len = 0 };
	struct fake fake;

	fake_open(&fake);
	conn_dial(conn, fake.url);
	call_once(r, conn->grpc, "/x/y", SLICE_LIT("x"));
	run_until(fake_read_request(&fake, &in));
	assert_int_equal(send(fake.fd, answer.data, answer.len, MSG_NOSIGNAL), answer.len);
	shutdown(fake.fd, SHUT_WR);
	run_until(r->done && conn->closed);
	close(fake.fd);
	close(fake.listening);
}

static void bad_servers_become_errors(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(server_cases); i++) {
		struct env_conn conn;
		struct env_result r;

		fake_serve(&conn, &r, server_cases[i].answer);
		if (r.code != server_cases[i].code || !strstr(r.text, server_cases[i].text) ||
		    r.unprocessed != server_cases[i].unprocessed)
			fail_msg("%s: %s \"%s\" %d", server_cases[i].name, grpc_code_name(r.code),
				 r.text, r.unprocessed);
		assert_int_equal(r.done, 1);
		assert_true(conn.error < 0);
	}
}

static void garbage_servers_do_no_harm(void **state)
{
	for (uint32_t i = 1; i <= 200; i++) {
		struct bytes b = { .len = 0 };
		struct env_conn conn;
		struct env_result r;

		seed = i;
		if (i % 4)
			put(&b, SETTINGS_FRAME, 9);
		if (i % 4 > 1)
			put(&b, GRPC_HEADERS, sizeof(GRPC_HEADERS) - 1);
		if (i % 4 > 2)
			for (int n = 0; n < 3; n++)
				b.data[9 + rnd((uint32_t)b.len - 9)] ^= (uint8_t)(1u << rnd(8));
		random_bytes(&b, rnd(2000));
		fake_serve(&conn, &r, slice_of(b.data, b.len));
		assert_int_equal(r.done, 1);
		assert_int_not_equal(r.code, GRPC_OK);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, env_setup, env_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(byte_by_byte),
		TEST(split_everywhere),
		TEST(metadata_is_kept),
		TEST(foreign_requests_are_refused),
		TEST(pings_are_answered),
		TEST(slow_reader_holds_the_server_back),
		TEST(closed_window_holds_one_call_back),
		TEST(requests_wait_while_answers_do),
		TEST(garbage_is_refused),
		TEST(garbage_after_the_preface_ends_in_goaway),
		TEST(damaged_requests_do_no_harm),
		TEST(http1_table),
		TEST(http1_limits),
		TEST(http1_pipeline_is_held),
		TEST(bad_servers_become_errors),
		TEST(garbage_servers_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
