/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC between our server and our client, on real sockets. */
#include "grpc_env.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static void pattern(uint8_t *p, size_t n, uint32_t seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525u + 1013904223u;
		p[i] = (uint8_t)(seed >> 24);
	}
}

static void unary_of_every_size(void **state)
{
	static const size_t sizes[] = { 0, 1, 5, 16379, 16380, 65531, 65536, 100000,
					4u << 20, ENV_MAX_MESSAGE };
	uint8_t *bytes = malloc(ENV_MAX_MESSAGE);
	struct env_conn conn;
	struct env_result r;

	pattern(bytes, ENV_MAX_MESSAGE, 7);
	conn_dial(&conn, env->url);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		call_once(&r, conn.grpc, "/test.Echo/Unary", slice_of(bytes, sizes[i]));
		run_until(r.done);
		assert_string_equal(r.text, "");
		assert_int_equal(r.code, GRPC_OK);
		assert_int_equal(r.messages, 1);
		assert_int_equal(r.bytes, sizes[i]);
		assert_memory_equal(r.first, bytes, MIN(sizes[i], sizeof(r.first)));
	}
	assert_true(conn.connected);
	conn_hang_up(&conn);
	assert_int_equal(conn.error, 0);
	free(bytes);
}

/* Every byte of every message, not just the first ones. */
static void check_pattern(struct env_result *r, struct slice message)
{
	uint8_t *expected = malloc(message.len + 1);

	pattern(expected, message.len, r->messages);
	assert_memory_equal(message.data, expected, message.len);
	free(expected);
}

static void streams_keep_order_and_content(void **state)
{
	uint8_t *bytes = malloc(200000);
	struct env_conn conn;
	struct env_result r;
	size_t total = 0;

	conn_dial(&conn, env->url);
	call_start(&r, conn.grpc, "/test.Echo/Stream", 0);
	r.on_message = check_pattern;
	for (uint32_t i = 1; i <= 300; i++) {
		size_t n = i % 50 ? i * 37 % 1000 : i * 600;

		pattern(bytes, n, i);
		call_send(&r, slice_of(bytes, n));
		total += n;
		if (i % 7 == 0)
			run_until(r.messages + 20 > i);
	}
	grpc_client_call_half_close(r.call);
	run_until(r.done);
	assert_int_equal(r.code, GRPC_OK);
	assert_int_equal(r.messages, 300);
	assert_int_equal(r.bytes, total);
	assert_int_equal(env->half_closed, 1);
	conn_hang_up(&conn);
	free(bytes);
}

static void client_stream_is_summed(void **state)
{
	struct env_conn conn;
	struct env_result r;

	conn_dial(&conn, env->url);
	call_start(&r, conn.grpc, "/test.Echo/Sum", 0);
	for (int i = 0; i < 1000; i++)
		call_send(&r, SLICE_LIT("ten bytes!"));
	grpc_client_call_half_close(r.call);
	run_until(r.done);
	assert_int_equal(r.messages, 1);
	assert_int_equal(get_be64(r.first), 10000);
	assert_int_equal(env->messages, 1000);
	conn_hang_up(&conn);
}

static void server_stream_arrives_whole(void **state)
{
	struct env_conn conn;
	struct env_result r;
	uint8_t request[8];

	put_be32(request, 5000);
	put_be32(request + 4, 3000);
	conn_dial(&conn, env->url);
	call_once(&r, conn.grpc, "/test.Count/Down", slice_of(request, 8));
	run_until(r.done);
	assert_int_equal(r.code, GRPC_OK);
	assert_int_equal(r.messages, 5000);
	assert_int_equal(r.bytes, 15000000);
	assert_int_equal(get_be32(r.first), 1);
	assert_true(env->most_queued < GRPC_HIGH_WATER + 4000);
	conn_hang_up(&conn);
}

static void errors_carry_code_and_text(void **state)
{
	static const char *const texts[] = {
		"", "etcdserver: key is not provided", "100% of \xc3\xa4 %41 line\nand \x01 more\x7f",
	};
	struct env_conn conn;
	struct env_result r;
	char message[128];

	conn_dial(&conn, env->url);
	for (int code = GRPC_CANCELED; code <= GRPC_UNAUTHENTICATED; code++) {
		for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
			snprintf(message, sizeof(message), "%c%s", code, texts[i]);
			call_once(&r, conn.grpc, "/test.Echo/Fail", slice_str(message));
			run_until(r.done);
			assert_int_equal(r.code, code);
			assert_string_equal(r.text, texts[i]);
			assert_int_equal(r.messages, 0);
		}
	}
	conn_hang_up(&conn);
}

static void unknown_methods_are_named(void **state)
{
	static const struct { const char *path, *text; } cases[] = {
		{ "/nowhere.Service/Get", "unknown service nowhere.Service" },
		{ "/test.Echo/Nothing", "unknown method Nothing for service test.Echo" },
		{ "/test.Ech/Unary", "unknown service test.Ech" },
		{ "/a/b/c", "unknown service a/b" },
		{ "/noslash", "malformed method name: \"/noslash\"" },
	};
	struct env_conn conn;
	struct env_result r;

	conn_dial(&conn, env->url);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		call_once(&r, conn.grpc, cases[i].path, SLICE_LIT("x"));
		run_until(r.done);
		assert_int_equal(r.code, GRPC_UNIMPLEMENTED);
		assert_string_equal(r.text, cases[i].text);
	}
	assert_int_equal(env->opened, 0);
	conn_hang_up(&conn);
}

static void limits_are_answered(void **state)
{
	uint8_t *bytes = calloc(1, ENV_MAX_MESSAGE + 1);
	struct env_conn conn;
	struct env_result r;
	char path[20000];

	conn_dial(&conn, env->url);
	call_once(&r, conn.grpc, "/test.Echo/Unary", slice_of(bytes, ENV_MAX_MESSAGE + 1));
	run_until(r.done);
	assert_int_equal(r.code, GRPC_RESOURCE_EXHAUSTED);
	assert_string_equal(r.text,
			    "grpc: received message larger than max (6291457 vs. 6291456)");
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = 0;
	call_once(&r, conn.grpc, path, SLICE_LIT("x"));
	run_until(r.done);
	assert_int_equal(r.code, GRPC_RESOURCE_EXHAUSTED);
	assert_string_equal(r.text, "the header list is larger than 16384 bytes");
	conn_hang_up(&conn);
	free(bytes);
}

static void unary_means_one_message(void **state)
{
	struct env_result none, one, two;
	struct env_conn conn;

	conn_dial(&conn, env->url);
	call_start(&none, conn.grpc, "/test.Echo/HangUnary", 0);
	grpc_client_call_half_close(none.call);
	call_start(&two, conn.grpc, "/test.Echo/HangUnary", 0);
	call_send(&two, SLICE_LIT("one"));
	call_send(&two, SLICE_LIT("two"));
	run_until(none.done && two.done);
	assert_int_equal(none.code, GRPC_INTERNAL);
	assert_non_null(strstr(none.text, "received no request message"));
	assert_int_equal(two.code, GRPC_INTERNAL);
	assert_non_null(strstr(two.text, "received multiple request messages"));
	call_once(&one, conn.grpc, "/test.Echo/HangUnary", SLICE_LIT("one"));
	run_until(env->hanging);
	grpc_call_finish(env->hanging, GRPC_OK, NULL);
	run_until(one.done);
	assert_int_equal(one.code, GRPC_OK);
	conn_hang_up(&conn);
}

static void deadlines_are_kept_by_both_sides(void **state)
{
	static const uint64_t timeouts[] = { 90, 30, 60, 1000000, 30 };
	struct env_result r[ARRAY_SIZE(timeouts)];
	uint64_t start = uv_hrtime();
	struct env_conn conn;

	conn_dial(&conn, env->url);
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		call_start(&r[i], conn.grpc, "/test.Echo/Hang", timeouts[i]);
		call_send(&r[i], SLICE_LIT("x"));
	}
	run_until(r[1].done && r[4].done);
	assert_false(r[0].done);
	run_until(r[0].done);
	assert_true(r[2].done);
	assert_true(uv_hrtime() - start >= 89 * UINT64_C(1000000));
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		if (i == 3)
			continue;
		assert_int_equal(r[i].code, GRPC_DEADLINE_EXCEEDED);
		assert_string_equal(r[i].text, "context deadline exceeded");
	}
	run_until(env->closed == 4);
	assert_int_equal(env->opened, 5);
	grpc_client_call_cancel(r[3].call);
	run_until(env->closed == 5);
	assert_false(r[3].done);
	conn_hang_up(&conn);
}

static void calls_wait_for_the_connection(void **state)
{
	struct env_result r[250], cancelled, late;
	struct env_conn conn;

	conn_dial(&conn, env->url);
	for (size_t i = 0; i < ARRAY_SIZE(r); i++)
		call_once(&r[i], conn.grpc, "/test.Echo/Unary", SLICE_LIT("early"));
	call_once(&cancelled, conn.grpc, "/test.Echo/Hang", SLICE_LIT("x"));
	call_once(&late, conn.grpc, "/test.Echo/Unary", SLICE_LIT("late"));
	grpc_client_call_cancel(cancelled.call);
	run_until(late.done);
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		run_until(r[i].done);
		assert_int_equal(r[i].code, GRPC_OK);
	}
	assert_int_equal(cancelled.done, 0);
	assert_int_equal(env->opened, ARRAY_SIZE(r) + 1);
	conn_hang_up(&conn);
}

static void cancelling_reaches_the_server(void **state)
{
	struct env_conn conn;
	struct env_result r;

	conn_dial(&conn, env->url);
	call_start(&r, conn.grpc, "/test.Echo/Hang", 0);
	call_send(&r, SLICE_LIT("x"));
	run_until(env->hanging);
	grpc_client_call_cancel(r.call);
	run_until(env->closed == 1);
	assert_int_equal(r.done, 0);
	assert_null(env->hanging);
	conn_hang_up(&conn);
}

static void server_may_finish_first(void **state)
{
	struct env_conn conn;
	struct env_result r;

	conn_dial(&conn, env->url);
	for (int i = 0; i < 3; i++) {
		call_start(&r, conn.grpc, "/test.Echo/Hang", 0);
		call_send(&r, SLICE_LIT("x"));
		run_until(env->hanging);
		if (i)
			send_slice(env->hanging, SLICE_LIT("answer"));
		if (i == 2)
			run_until(r.messages);
		grpc_call_finish(env->hanging, GRPC_ABORTED, "enough");
		assert_null(env->hanging);	/* closed came at once */
		run_until(r.done);
		assert_int_equal(r.code, GRPC_ABORTED);
		assert_string_equal(r.text, "enough");
		assert_int_equal(r.messages, i > 0);
	}
	conn_hang_up(&conn);
}

static void vanished_clients_close_their_calls(void **state)
{
	struct env_result r[5];
	struct env_conn conn;

	conn_dial(&conn, env->url);
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		call_start(&r[i], conn.grpc, "/test.Echo/Hang", 0);
		call_send(&r[i], SLICE_LIT("x"));
	}
	run_until(env->messages == ARRAY_SIZE(r));
	grpc_conn_close(conn.grpc);
	run_until(conn.closed);
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		assert_int_equal(r[i].done, 1);
		assert_int_equal(r[i].code, GRPC_CANCELED);
		assert_string_equal(r[i].text, "grpc: the client connection is closing");
	}
	run_until(env->closed == ARRAY_SIZE(r));
}

/* --- many at once --------------------------------------------------------------- */

#define MANY_CONNS 10
#define MANY_STREAMS 100
#define MANY_ROUNDS 10

static void ten_thousand_calls(void **state)
{
	static struct env_result r[MANY_CONNS][MANY_STREAMS];
	struct env_conn conns[MANY_CONNS];

	for (int i = 0; i < MANY_CONNS; i++)
		conn_dial(&conns[i], env->url);
	for (int round = 0; round < MANY_ROUNDS; round++) {
		for (int i = 0; i < MANY_CONNS * MANY_STREAMS; i++) {
			struct env_result *one = &r[i % MANY_CONNS][i / MANY_CONNS];
			char text[16];

			snprintf(text, sizeof(text), "%d/%d", round, i);
			call_once(one, conns[i % MANY_CONNS].grpc, "/test.Echo/Unary",
				  slice_str(text));
		}
		for (int i = 0; i < MANY_CONNS * MANY_STREAMS; i++) {
			struct env_result *one = &r[i % MANY_CONNS][i / MANY_CONNS];
			char text[16];

			run_until(one->done);
			snprintf(text, sizeof(text), "%d/%d", round, i);
			assert_int_equal(one->code, GRPC_OK);
			assert_int_equal(one->len, strlen(text));
			assert_memory_equal(one->first, text, one->len);
		}
	}
	for (int i = 0; i < MANY_CONNS; i++)
		conn_hang_up(&conns[i]);
	assert_int_equal(env->closed, MANY_CONNS * MANY_STREAMS * MANY_ROUNDS);
}

/* --- shutdown ------------------------------------------------------------------- */

static void shutdown_lets_calls_finish(void **state)
{
	struct env_result waiting, late;
	struct env_conn conn;

	conn_dial(&conn, env->url);
	call_start(&waiting, conn.grpc, "/test.Echo/Hang", 0);
	call_send(&waiting, SLICE_LIT("x"));
	run_until(env->hanging);
	grpc_server_shutdown(env->server, 10000, on_server_done, env);
	for (int i = 0; i < 20; i++)
		uv_run(&env->loop, UV_RUN_NOWAIT);
	assert_false(env->server_done);
	call_once(&late, conn.grpc, "/test.Echo/Unary", SLICE_LIT("late"));
	run_until(late.done);
	assert_int_equal(late.code, GRPC_UNAVAILABLE);
	assert_true(late.unprocessed);
	grpc_call_finish(env->hanging, GRPC_OK, NULL);
	run_until(waiting.done);
	assert_int_equal(waiting.code, GRPC_OK);
	run_until(conn.closed && env->server_done);
	assert_int_equal(conn.error, -ESHUTDOWN);
}

static void shutdown_ends_calls_after_grace(void **state)
{
	struct env_conn conn, idle;
	struct env_result r;

	conn_dial(&idle, env->url);
	conn_dial(&conn, env->url);
	call_start(&r, conn.grpc, "/test.Echo/Hang", 0);
	call_send(&r, SLICE_LIT("x"));
	run_until(env->hanging && idle.connected);
	grpc_server_shutdown(env->server, 50, on_server_done, env);
	run_until(r.done && env->server_done && conn.closed && idle.closed);
	assert_int_equal(r.code, GRPC_UNAVAILABLE);
	assert_false(r.unprocessed);
	assert_non_null(strstr(r.text, env->url + strlen("http://")));
	assert_int_equal(env->closed, 1);
}

/* --- addresses ------------------------------------------------------------------ */

static void unix_sockets_work(void **state)
{
	char dir[] = "/tmp/kvd-grpc-XXXXXX", url[64], why[256];
	struct env_conn conn;
	struct env_result r;
	struct stat st;

	assert_non_null(mkdtemp(dir));
	for (int slashes = 0; slashes <= 2; slashes += 2) {
		snprintf(url, sizeof(url), "unix:%.*s%s/s%d", slashes, "//", dir, slashes);
		env_listen(url);
		assert_int_equal(grpc_server_listen(env->server, url, why, sizeof(why)),
				 -EADDRINUSE);
		conn_dial(&conn, url);
		call_once(&r, conn.grpc, "/test.Echo/Unary", SLICE_LIT("local"));
		run_until(r.done);
		assert_int_equal(r.code, GRPC_OK);
		assert_int_equal(r.len, 5);
		conn_hang_up(&conn);
	}
	grpc_server_shutdown(env->server, 0, on_server_done, env);
	run_until(env->server_done);
	assert_int_equal(stat(url + strlen("unix://"), &st), -1);
	assert_int_equal(rmdir(dir), 0);
}

static void stale_unix_sockets_are_replaced(void **state)
{
	char dir[] = "/tmp/kvd-grpc-XXXXXX", path[64], url[80], why[256];
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	FILE *file;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sock", dir);
	memcpy(addr.sun_path, path, strlen(path));
	snprintf(url, sizeof(url), "unix://%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	env_listen(url);
	assert_server_works();
	snprintf(path, sizeof(path), "%s/file", dir);
	file = fopen(path, "w");
	assert_non_null(file);
	fclose(file);
	snprintf(url, sizeof(url), "unix://%s", path);
	assert_int_equal(grpc_server_listen(env->server, url, why, sizeof(why)), -EEXIST);
	assert_int_equal(access(path, F_OK), 0);
	unlink(path);
	snprintf(path, sizeof(path), "%s/sock", dir);
	unlink(path);
	assert_int_equal(rmdir(dir), 0);
}

static void bad_addresses_are_explained(void **state)
{
	static const struct { const char *url; int err; const char *text; } cases[] = {
		{ "127.0.0.1", -EINVAL, "host:port" },
		{ "http://127.0.0.1:x", -EINVAL, "port" },
		{ "http://127.0.0.1:70000", -EINVAL, "port" },
		{ "http://[::1:5", -EINVAL, "brackets" },
		{ "http://127.0.0.1:0/path", -EINVAL, "path" },
		{ "ftp://127.0.0.1:0", -EINVAL, "scheme" },
		{ "https://127.0.0.1:0", -EPROTONOSUPPORT, "TLS" },
		{ "unix://", -EINVAL, "missing" },
		{ "unix:///nosuchdirectory/s", -ENOENT, "no such file" },
		{ "http://192.0.2.1:0", -EADDRNOTAVAIL, "this machine" },
	};
	char why[256];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		why[0] = 0;
		assert_int_equal(grpc_server_listen(env->server, cases[i].url, why, sizeof(why)),
				 cases[i].err);
		assert_non_null(strstr(why, cases[i].text));
		assert_non_null(strstr(why, cases[i].url));
	}
	assert_int_equal(grpc_server_listen(env->server, env->url, why, sizeof(why)), -EADDRINUSE);
	assert_non_null(strstr(why, env->url));
	assert_non_null(strstr(why, "another address"));
}

static void refused_connections_say_why(void **state)
{
	static const struct { const char *url; int error; const char *text; } cases[] = {
		{ "127.0.0.1:1", -ECONNREFUSED, "dial tcp 127.0.0.1:1: connect: connection ref" },
		{ "http://[::1]:1", 0, "dial tcp [::1]:1: connect: " },
		{ "unix:///nosuch/s", -ENOENT, "dial unix /nosuch/s: connect: no such file" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct env_conn conn;
		struct env_result r;

		conn_dial(&conn, cases[i].url);
		call_once(&r, conn.grpc, "/test.Echo/Unary", SLICE_LIT("x"));
		run_until(conn.closed);
		assert_int_equal(r.done, 1);
		assert_int_equal(r.code, GRPC_UNAVAILABLE);
		assert_true(r.unprocessed);
		assert_non_null(strstr(r.text, cases[i].text));
		assert_non_null(strstr(conn.text, cases[i].text));
		assert_true(conn.error < 0 && (!cases[i].error || conn.error == cases[i].error));
		assert_false(conn.connected);
	}
}

static void stats_count(void **state)
{
	static const uint8_t zeros[50000];
	struct grpc_server_stats stats;
	struct env_conn conn;
	struct env_result r;

	conn_dial(&conn, env->url);
	call_once(&r, conn.grpc, "/test.Echo/Unary", slice_of(zeros, sizeof(zeros)));
	run_until(r.done);
	grpc_server_stats(env->server, &stats);
	assert_int_equal(stats.connections, 1);
	assert_in_range(stats.bytes_in, 50000, 52000);
	assert_in_range(stats.bytes_out, 50000, 52000);
	conn_hang_up(&conn);
	run_until((grpc_server_stats(env->server, &stats), !stats.connections));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, env_setup, env_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(unary_of_every_size),
		TEST(streams_keep_order_and_content),
		TEST(client_stream_is_summed),
		TEST(server_stream_arrives_whole),
		TEST(errors_carry_code_and_text),
		TEST(unknown_methods_are_named),
		TEST(limits_are_answered),
		TEST(unary_means_one_message),
		TEST(deadlines_are_kept_by_both_sides),
		TEST(calls_wait_for_the_connection),
		TEST(cancelling_reaches_the_server),
		TEST(server_may_finish_first),
		TEST(vanished_clients_close_their_calls),
		TEST(ten_thousand_calls),
		TEST(shutdown_lets_calls_finish),
		TEST(shutdown_ends_calls_after_grace),
		TEST(unix_sockets_work),
		TEST(stale_unix_sockets_are_replaced),
		TEST(bad_addresses_are_explained),
		TEST(refused_connections_say_why),
		TEST(stats_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
