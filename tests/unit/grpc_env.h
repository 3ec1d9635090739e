/* SPDX-License-Identifier: Apache-2.0 */
/* A server with a few methods, and clients of it, on one loop: for the tests of gRPC. */
#ifndef TESTS_UNIT_GRPC_ENV_H
#define TESTS_UNIT_GRPC_ENV_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "include/endian_bytes.h"
#include "lib/grpc.h"

#define ENV_MAX_MESSAGE (6u << 20)
/* How often a condition is looked at, and how long until the test has failed. */
#define ENV_TICK_MS 5
#define ENV_GUARD_MS 20000

struct env {
	uv_loop_t loop;
	uv_timer_t guard;
	struct grpc_server *server;
	bool server_done;
	char url[128];
	unsigned opened, closed, messages, half_closed;
	unsigned http;			/* requests of HTTP/1.x that were answered */
	unsigned conns;			/* client connections that are open */
	struct grpc_call *hanging;	/* the last call of Hang */
	size_t most_queued;
	char metadata[128];
};

static struct env *env;

/* Checks that closed comes once for each call, last. */
struct env_call {
	uint32_t left, size;	/* of Count */
	size_t sum;
	unsigned messages;
};

/* Only so that the loop turns: the condition may come true without an event. */
static void on_guard(uv_timer_t *timer)
{
}

#define run_until(condition)						\
	do {								\
		uint64_t until_ = uv_hrtime() + ENV_GUARD_MS * UINT64_C(1000000);	\
									\
		uv_timer_start(&env->guard, on_guard, ENV_TICK_MS, ENV_TICK_MS);	\
		while (!(condition) && uv_hrtime() < until_)		\
			uv_run(&env->loop, UV_RUN_ONCE);		\
		assert_true(condition);					\
		uv_timer_stop(&env->guard);				\
	} while (0)

/* --- the server's methods ------------------------------------------------------- */

static void call_open(struct grpc_call *call)
{
	struct env_call *state = calloc(1, sizeof(*state));

	assert_null(grpc_call_user(call));
	grpc_call_set_user(call, state);
	env->opened++;
}

static void call_closed(struct grpc_call *call)
{
	if (env->hanging == call)
		env->hanging = NULL;
	assert_non_null(grpc_call_user(call));
	free(grpc_call_user(call));
	grpc_call_set_user(call, NULL);
	env->closed++;
}

static inline struct env_call *count_message(struct grpc_call *call)
{
	struct env_call *state = grpc_call_user(call);

	assert_non_null(state);
	state->messages++;
	env->messages++;
	return state;
}

static void send_slice(struct grpc_call *call, struct slice s)
{
	struct chain chain;

	chain_init(&chain);
	chain_append(&chain, s);
	grpc_call_send(call, &chain);
}

static void echo_message(struct grpc_call *call, struct slice message)
{
	count_message(call);
	send_slice(call, message);
	if (grpc_call_method(call)->unary)
		grpc_call_finish(call, GRPC_OK, NULL);
}

static void finish_ok(struct grpc_call *call)
{
	env->half_closed++;
	grpc_call_finish(call, GRPC_OK, NULL);
}

/* The first byte is the code, the rest the text. */
static void fail_message(struct grpc_call *call, struct slice message)
{
	char text[256] = "";

	count_message(call);
	assert_true(message.len >= 1 && message.len < sizeof(text));
	memcpy(text, message.data + 1, message.len - 1);
	grpc_call_finish(call, (enum grpc_code)message.data[0], text);
}

static void hang_message(struct grpc_call *call, struct slice message)
{
	count_message(call);
	env->hanging = call;
	for (const char *const *name = (const char *const[]){ "Token", "hasleader", NULL }; *name;
	     name++) {
		struct slice v = grpc_call_metadata(call, *name);

		snprintf(env->metadata + strlen(env->metadata),
			 sizeof(env->metadata) - strlen(env->metadata), "%s=%.*s;", *name,
			 (int)v.len, (const char *)v.data);
	}
}

static void sum_message(struct grpc_call *call, struct slice message)
{
	count_message(call)->sum += message.len;
}

static void sum_finish(struct grpc_call *call)
{
	struct env_call *state = grpc_call_user(call);
	uint8_t sum[8];

	put_be64(sum, state->sum);
	env->half_closed++;
	send_slice(call, slice_of(sum, sizeof(sum)));
	grpc_call_finish(call, GRPC_OK, NULL);
}

/* Sends what is left of a Count as long as the queue is short. */
static void count_more(struct grpc_call *call)
{
	struct env_call *state = grpc_call_user(call);
	uint8_t *bytes = calloc(1, state->size + 4);

	while (state->left && grpc_call_queued(call) < GRPC_HIGH_WATER) {
		put_be32(bytes, state->left--);
		send_slice(call, slice_of(bytes, state->size));
	}
	env->most_queued = MAX(env->most_queued, grpc_call_queued(call));
	free(bytes);
	if (!state->left)
		grpc_call_finish(call, GRPC_OK, NULL);
}

static void count_message_in(struct grpc_call *call, struct slice message)
{
	struct env_call *state = count_message(call);

	assert_int_equal(message.len, 8);
	state->left = get_be32(message.data);
	state->size = get_be32(message.data + 4);
	count_more(call);
}

#define METHOD(...) { .open = call_open, .closed = call_closed, __VA_ARGS__ }

static const struct grpc_method env_methods[] = {
	METHOD(.path = "/test.Echo/Unary", .message = echo_message, .unary = true),
	METHOD(.path = "/test.Echo/Stream", .message = echo_message, .half_close = finish_ok),
	METHOD(.path = "/test.Echo/Fail", .message = fail_message, .unary = true),
	METHOD(.path = "/test.Echo/Hang", .message = hang_message),
	METHOD(.path = "/test.Echo/HangUnary", .message = hang_message, .unary = true),
	METHOD(.path = "/test.Echo/Sum", .message = sum_message, .half_close = sum_finish),
	METHOD(.path = "/test.Count/Down", .message = count_message_in, .writable = count_more),
	{ 0 },
};

static void env_http(void *user, const struct http_request *request,
		     struct http_response *response)
{
	struct slice big = SLICE_LIT("/big");

	assert_ptr_equal(user, env);
	env->http++;
	if (slice_eq(request->path, big)) {
		memset(chain_reserve(&response->body, 100000), 'x', 100000);
		chain_commit(&response->body, 100000);
	} else if (slice_eq(request->path, SLICE_LIT("/echo"))) {
		chain_append(&response->body, slice_str(request->method));
		chain_append(&response->body, SLICE_LIT("?"));
		chain_append(&response->body, request->query);
		chain_append(&response->body, SLICE_LIT("|"));
		chain_append(&response->body, request->body);
	} else {
		return;
	}
	response->status = 200;
	response->content_type = "text/plain";
}

/* --- set up and tear down ------------------------------------------------------- */

static void env_listen(const char *url)
{
	char why[256];

	assert_int_equal(grpc_server_listen(env->server, url, why, sizeof(why)), 0);
	if (grpc_server_port(env->server))
		snprintf(env->url, sizeof(env->url), "http://127.0.0.1:%u",
			 grpc_server_port(env->server));
	else
		snprintf(env->url, sizeof(env->url), "%s", url);
}

static int env_setup(void **state)
{
	struct grpc_server_config config = {
		.methods = env_methods, .max_message = ENV_MAX_MESSAGE,
		.max_concurrent_streams = 1000, .http = env_http,
	};

	env = calloc(1, sizeof(*env));
	config.user = env;
	uv_loop_init(&env->loop);
	uv_timer_init(&env->loop, &env->guard);
	assert_int_equal(grpc_server_new(&env->loop, &config, &env->server), 0);
	env_listen("http://127.0.0.1:0");
	return 0;
}

static void on_server_done(void *arg)
{
	assert_false(env->server_done);
	env->server_done = true;
}

/* Nothing is left: no call, no connection, no handle. */
static int env_teardown(void **state)
{
	run_until(!env->conns);
	if (env->server && !env->server_done)
		grpc_server_shutdown(env->server, 0, on_server_done, env);
	run_until(env->server_done);
	assert_int_equal(env->opened, env->closed);
	grpc_server_free(env->server);
	uv_close((uv_handle_t *)&env->guard, NULL);
	uv_run(&env->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&env->loop), 0);
	free(env);
	env = NULL;
	return 0;
}

/* --- clients -------------------------------------------------------------------- */

struct env_conn {
	struct grpc_conn *grpc;
	bool connected, closed;
	int error;
	char text[512];
};

static void conn_connected(struct grpc_conn *grpc)
{
	struct env_conn *conn = grpc_conn_user(grpc);

	assert_false(conn->connected);
	conn->connected = true;
}

static void conn_closed(struct grpc_conn *grpc, int error, const char *text)
{
	struct env_conn *conn = grpc_conn_user(grpc);

	assert_false(conn->closed);
	conn->closed = true;
	conn->error = error;
	snprintf(conn->text, sizeof(conn->text), "%s", text);
	env->conns--;
}

static void conn_dial(struct env_conn *conn, const char *url)
{
	struct grpc_conn_callbacks callbacks = { conn_connected, conn_closed, conn };

	memset(conn, 0, sizeof(*conn));
	assert_int_equal(grpc_conn_open(&env->loop, url, &callbacks, &conn->grpc), 0);
	env->conns++;
}

static void conn_hang_up(struct env_conn *conn)
{
	if (!conn->closed)
		grpc_conn_close(conn->grpc);
	run_until(conn->closed);
}

struct env_result {
	struct grpc_client_call *call;
	unsigned messages, done;
	size_t bytes;
	uint8_t first[64];	/* of the last message */
	size_t len;
	enum grpc_code code;
	char text[512];
	bool unprocessed;
	void (*on_message)(struct env_result *result, struct slice message);
};

static inline void result_message(struct grpc_client_call *call, struct slice message)
{
	struct env_result *r = grpc_client_call_user(call);

	assert_int_equal(r->done, 0);
	r->messages++;
	r->bytes += message.len;
	r->len = message.len;
	memcpy(r->first, message.data, MIN(message.len, sizeof(r->first)));
	if (r->on_message)
		r->on_message(r, message);
}

static inline void result_done(struct grpc_client_call *call, enum grpc_code code,
			       const char *text)
{
	struct env_result *r = grpc_client_call_user(call);

	r->done++;
	r->code = code;
	r->unprocessed = grpc_client_call_unprocessed(call);
	snprintf(r->text, sizeof(r->text), "%s", text);
}

static inline void call_start(struct env_result *r, struct grpc_conn *conn, const char *path,
			      uint64_t timeout_ms)
{
	struct grpc_client_callbacks callbacks = { result_message, result_done, r };

	memset(r, 0, sizeof(*r));
	assert_int_equal(grpc_client_call_open(conn, path, &callbacks, timeout_ms, &r->call), 0);
}

static inline void call_send(struct env_result *r, struct slice message)
{
	struct chain chain;

	chain_init(&chain);
	chain_append(&chain, message);
	grpc_client_call_send(r->call, &chain);
}

/* A call with one message, not waited for. */
static inline void call_once(struct env_result *r, struct grpc_conn *conn, const char *path,
			     struct slice message)
{
	call_start(r, conn, path, 0);
	call_send(r, message);
	grpc_client_call_half_close(r->call);
}

/* The server answers a new client: whatever happened before did it no harm. */
static inline void assert_server_works(void)
{
	struct env_conn conn;
	struct env_result r;

	conn_dial(&conn, env->url);
	call_once(&r, conn.grpc, "/test.Echo/Unary", SLICE_LIT("still here"));
	run_until(r.done);
	assert_int_equal(r.code, GRPC_OK);
	assert_int_equal(r.bytes, 10);
	conn_hang_up(&conn);
}

#endif
