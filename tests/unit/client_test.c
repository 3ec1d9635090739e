// SPDX-License-Identifier: Apache-2.0
/*
 * The client against servers in the same loop that do what a test tells them: answer,
 * refuse, fall silent, die in the middle of a revision and come back.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/client.h"
#include "lib/pb.h"

#define DEADLINE_MS 10000
#define SERVERS 2
#define LOG_MAX 64

enum behaviour { ANSWER, REFUSE, SILENT };

struct fixture;

struct server {
	struct fixture *fixture;
	struct grpc_server *grpc;		/* NULL: down */
	struct grpc_method methods[6];
	char url[64];
	enum behaviour behaviour;
	int ranges, puts, members;		/* requests that came */
	struct grpc_call *watch, *lease;	/* open streams */
	int watches_opened, leases_opened;
	int64_t start_revision;			/* of the last watch made */
	int64_t ttl;				/* what keep-alives are answered; 0: gone */
	int keepalives;
	bool gone;				/* shutdown is done */
};

struct fixture {
	uv_loop_t loop;
	uv_timer_t alarm;
	char dir[32];
	struct server servers[SERVERS];
	struct client *client;
	unsigned probe_ms;
	bool closed;

	/* what the callbacks saw */
	int results;
	struct client_result result;
	char text[128];
	int64_t revision;
	int created, lost, canceled;
	int64_t events[LOG_MAX];		/* their revisions */
	size_t n_events, n_responses;
	int64_t compact_revision;
	struct client_watch *cancel_in_events;
	int renewed;
	int64_t renewed_ttl[LOG_MAX];
};

/* --- servers ------------------------------------------------------------------------ */

static struct server *server_of(struct grpc_call *call)
{
	return grpc_call_method(call)->user;
}

static void reply(struct grpc_call *call, const ProtobufCMessage *message)
{
	struct chain chain;

	chain_init(&chain);
	pb_pack_chain(message, &chain);
	assert_false(chain_failed(&chain));
	grpc_call_send(call, &chain);
}

static void on_unary(struct grpc_call *call, int *count, const ProtobufCMessage *answer)
{
	struct server *server = server_of(call);

	(*count)++;
	switch (server->behaviour) {
	case ANSWER:
		reply(call, answer);
		grpc_call_finish(call, GRPC_OK, NULL);
		break;
	case REFUSE:
		grpc_call_finish(call, GRPC_UNAVAILABLE, "etcdserver: no leader");
		break;
	case SILENT:
		break;
	}
}

static void on_range(struct grpc_call *call, struct slice message)
{
	Etcdserverpb__RangeResponse response = ETCDSERVERPB__RANGE_RESPONSE__INIT;

	response.count = 42;
	on_unary(call, &server_of(call)->ranges, &response.base);
}

static void on_put(struct grpc_call *call, struct slice message)
{
	Etcdserverpb__PutResponse response = ETCDSERVERPB__PUT_RESPONSE__INIT;

	on_unary(call, &server_of(call)->puts, &response.base);
}

static void on_member_list(struct grpc_call *call, struct slice message)
{
	Etcdserverpb__MemberListResponse response = ETCDSERVERPB__MEMBER_LIST_RESPONSE__INIT;

	on_unary(call, &server_of(call)->members, &response.base);
}

static void on_watch(struct grpc_call *call, struct slice message)
{
	struct server *server = server_of(call);
	struct pb_arena arena;
	ProtobufCMessage *decoded;
	const Etcdserverpb__WatchRequest *request;

	pb_arena_init(&arena);
	assert_int_equal(pb_unpack(&etcdserverpb__watch_request__descriptor, message, &arena,
				   &decoded), 0);
	request = (const Etcdserverpb__WatchRequest *)decoded;
	if (request->request_union_case ==
	    ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST) {
		server->watch = call;
		server->watches_opened++;
		server->start_revision = request->create_request->start_revision;
	}
	pb_arena_release(&arena);
}

static void on_keep_alive(struct grpc_call *call, struct slice message)
{
	Etcdserverpb__LeaseKeepAliveResponse response =
		ETCDSERVERPB__LEASE_KEEP_ALIVE_RESPONSE__INIT;
	struct server *server = server_of(call);
	struct pb_arena arena;
	ProtobufCMessage *decoded;

	if (server->lease != call)
		server->leases_opened++;
	server->lease = call;
	server->keepalives++;
	pb_arena_init(&arena);
	assert_int_equal(pb_unpack(&etcdserverpb__lease_keep_alive_request__descriptor, message,
				   &arena, &decoded), 0);
	response.id = ((const Etcdserverpb__LeaseKeepAliveRequest *)decoded)->id;
	response.ttl = server->ttl;
	reply(call, &response.base);
	pb_arena_release(&arena);
}

static void on_stream_closed(struct grpc_call *call)
{
	struct server *server = server_of(call);

	if (server->watch == call)
		server->watch = NULL;
	if (server->lease == call)
		server->lease = NULL;
}

static void server_start(struct server *server)
{
	struct grpc_server_config config = {
		.methods = server->methods, .max_message = 1 << 20,
		.max_concurrent_streams = 100, .user = server,
	};
	struct grpc_method methods[] = {
		{ .path = "/etcdserverpb.KV/Range", .message = on_range, .unary = true },
		{ .path = "/etcdserverpb.KV/Put", .message = on_put, .unary = true },
		{ .path = "/etcdserverpb.Cluster/MemberList", .message = on_member_list,
		  .unary = true },
		{ .path = "/etcdserverpb.Watch/Watch", .message = on_watch,
		  .closed = on_stream_closed },
		{ .path = "/etcdserverpb.Lease/LeaseKeepAlive", .message = on_keep_alive,
		  .closed = on_stream_closed },
		{ 0 },
	};
	char why[256];

	memcpy(server->methods, methods, sizeof(methods));
	for (size_t i = 0; i < ARRAY_SIZE(methods) - 1; i++)
		server->methods[i].user = server;
	server->gone = false;
	assert_int_equal(grpc_server_new(&server->fixture->loop, &config, &server->grpc), 0);
	assert_int_equal(grpc_server_listen(server->grpc, server->url, why, sizeof(why)), 0);
}

static void on_gone(void *arg)
{
	struct server *server = arg;

	server->gone = true;
}

/* --- running ------------------------------------------------------------------------- */

static void on_alarm(uv_timer_t *alarm)
{
	fail_msg("what the test waits for did not come in %d ms", DEADLINE_MS);
}

#define run_until(fixture, condition) do {					\
	uv_timer_start(&(fixture)->alarm, on_alarm, DEADLINE_MS, 0);		\
	while (!(condition))							\
		uv_run(&(fixture)->loop, UV_RUN_ONCE);				\
	uv_timer_stop(&(fixture)->alarm);					\
} while (0)

static void server_stop(struct server *server)
{
	grpc_server_shutdown(server->grpc, 0, on_gone, server);
	run_until(server->fixture, server->gone);
	grpc_server_free(server->grpc);
	server->grpc = NULL;
	server->watch = server->lease = NULL;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	*state = f;
	snprintf(f->dir, sizeof(f->dir), "/tmp/client_test.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	assert_int_equal(uv_loop_init(&f->loop), 0);
	uv_timer_init(&f->loop, &f->alarm);
	for (int i = 0; i < SERVERS; i++) {
		f->servers[i].fixture = f;
		f->servers[i].ttl = 1;
		snprintf(f->servers[i].url, sizeof(f->servers[i].url), "unix://%s/%d", f->dir, i);
	}
	return 0;
}

static void on_closed(void *arg)
{
	struct fixture *f = arg;

	f->closed = true;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->client) {
		client_close(f->client, on_closed, f);
		run_until(f, f->closed);
	}
	for (int i = 0; i < SERVERS; i++) {
		if (f->servers[i].grpc)
			server_stop(&f->servers[i]);
		unlink(f->servers[i].url + strlen("unix://"));
	}
	uv_close((uv_handle_t *)&f->alarm, NULL);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&f->loop), 0);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

static void make_client(struct fixture *f, size_t n)
{
	const char *endpoints[SERVERS];
	struct client_config config = {
		.loop = &f->loop, .endpoints = endpoints, .n_endpoints = n,
		.probe_ms = f->probe_ms,
	};
	char why[256];

	for (size_t i = 0; i < n; i++)
		endpoints[i] = f->servers[i].url;
	assert_int_equal(client_new(&config, &f->client, why, sizeof(why)), 0);
}

static void on_result(void *user, const struct client_result *result)
{
	struct fixture *f = user;

	f->results++;
	f->result = *result;
	snprintf(f->text, sizeof(f->text), "%s", result->text);
	if (result->response && result->response->descriptor ==
	    &etcdserverpb__range_response__descriptor)
		f->revision = ((const Etcdserverpb__RangeResponse *)result->response)->count;
}

/* --- unary calls ---------------------------------------------------------------------- */

static const struct call_case {
	const char *title;
	int n_endpoints;
	bool down[SERVERS];
	enum behaviour behaviour[SERVERS];
	bool write;
	unsigned timeout_ms;
	/* expected */
	enum grpc_code code;
	bool unknown;
	int requests[SERVERS];
} call_cases[] = {
	{ "a read is answered", 1, .requests = { 1 } },
	{ "a write is answered", 1, .write = true, .requests = { 1 } },
	{ "an endpoint that is down is passed over", 2, { true }, .requests = { 0, 1 } },
	{ "a write that never left goes to the next endpoint", 2, { true }, .write = true,
	  .requests = { 0, 1 } },
	{ "a read that is refused goes to the next endpoint", 2, .behaviour = { REFUSE },
	  .requests = { 1, 1 } },
	{ "a write that is refused is not sent again", 2, .behaviour = { REFUSE }, .write = true,
	  .code = GRPC_UNAVAILABLE, .unknown = true, .requests = { 1, 0 } },
	{ "a read without an answer ends in time", 1, .behaviour = { SILENT }, .timeout_ms = 30,
	  .code = GRPC_DEADLINE_EXCEEDED, .requests = { 1 } },
	{ "a write without an answer may have happened", 1, .behaviour = { SILENT },
	  .write = true, .timeout_ms = 30, .code = GRPC_DEADLINE_EXCEEDED, .unknown = true,
	  .requests = { 1 } },
	{ "a write that was never sent has not happened", 1, { true }, .write = true,
	  .timeout_ms = 30, .code = GRPC_DEADLINE_EXCEEDED },
};

static void calls(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(call_cases); i++) {
		const struct call_case *c = &call_cases[i];
		Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
		Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
		struct fixture *f;

		print_message("  %s\n", c->title);
		setup(state);
		f = *state;
		for (int j = 0; j < c->n_endpoints; j++) {
			f->servers[j].behaviour = c->behaviour[j];
			if (!c->down[j])
				server_start(&f->servers[j]);
		}
		make_client(f, (size_t)c->n_endpoints);
		assert_int_equal(client_call(f->client,
					     c->write ? &client_kv_put : &client_kv_range,
					     c->write ? &put.base : &range.base, c->timeout_ms,
					     on_result, f, NULL), 0);
		run_until(f, f->results);
		assert_int_equal(f->result.code, c->code);
		assert_int_equal(f->result.unknown, c->unknown);
		if (!c->code && !c->write)
			assert_int_equal(f->revision, 42);
		for (int j = 0; j < c->n_endpoints; j++)
			assert_int_equal(f->servers[j].ranges + f->servers[j].puts,
					 c->requests[j]);
		assert_int_equal(f->results, 1);
		teardown(state);
	}
}

static void a_cancelled_call_is_silent(void **state)
{
	struct fixture *f = *state;
	Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
	struct client_call *call;

	server_start(&f->servers[0]);
	f->servers[0].behaviour = SILENT;
	make_client(f, 1);
	assert_int_equal(client_call(f->client, &client_kv_range, &range.base, 0, on_result, f,
				     &call), 0);
	run_until(f, f->servers[0].ranges);
	client_call_cancel(call);
	f->servers[0].behaviour = ANSWER;
	assert_int_equal(client_call(f->client, &client_kv_range, &range.base, 0, on_result, f,
				     NULL), 0);
	run_until(f, f->servers[0].ranges == 2 && f->results);
	assert_int_equal(f->results, 1);
}

/* As when a person types a transaction: the loop stands still meanwhile. */
static void a_deadline_begins_with_the_call(void **state)
{
	struct fixture *f = *state;
	Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
	uint64_t until = uv_hrtime() + 300 * UINT64_C(1000000);

	server_start(&f->servers[0]);
	make_client(f, 1);
	while (uv_hrtime() < until)
		;
	assert_int_equal(client_call(f->client, &client_kv_range, &range.base, 250, on_result,
				     f, NULL), 0);
	run_until(f, f->results);
	assert_int_equal(f->result.code, GRPC_OK);
}

static void calls_have_a_maximum(void **state)
{
	struct fixture *f = *state;
	Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
	struct client_call *last;

	make_client(f, 1);
	for (int i = 0; i < CLIENT_CALLS_MAX; i++)
		assert_int_equal(client_call(f->client, &client_kv_range, &range.base, 0,
					     on_result, f, &last), 0);
	assert_int_equal(client_call(f->client, &client_kv_range, &range.base, 0, on_result, f,
				     NULL), -ENOBUFS);
	client_call_cancel(last);
	assert_int_equal(client_call(f->client, &client_kv_range, &range.base, 0, on_result, f,
				     NULL), 0);
}

/* --- watches ---------------------------------------------------------------------------- */

static void on_created(void *user, const Etcdserverpb__WatchResponse *response)
{
	((struct fixture *)user)->created++;
}

static void on_events(void *user, const Etcdserverpb__WatchResponse *response)
{
	struct fixture *f = user;

	f->n_responses++;
	assert_false(response->fragment);
	for (size_t i = 0; i < response->n_events; i++) {
		assert_true(f->n_events < LOG_MAX);
		f->events[f->n_events++] = response->events[i]->kv->mod_revision;
	}
	if (f->cancel_in_events) {
		client_watch_cancel(f->cancel_in_events);
		f->cancel_in_events = NULL;
	}
}

static void on_lost(void *user)
{
	((struct fixture *)user)->lost++;
}

static void on_canceled(void *user, const char *reason, int64_t compact_revision)
{
	struct fixture *f = user;

	f->canceled++;
	f->compact_revision = compact_revision;
	snprintf(f->text, sizeof(f->text), "%s", reason);
}

static struct client_watch *open_watch(struct fixture *f, int64_t start_revision)
{
	struct client_watch_args args = {
		.key = SLICE_LIT("k"), .start_revision = start_revision, .fragment = true,
	};
	struct client_watch_callbacks callbacks = {
		.created = on_created, .events = on_events, .lost = on_lost,
		.canceled = on_canceled, .user = f,
	};
	struct client_watch *watch;

	assert_int_equal(client_watch_open(f->client, &args, &callbacks, &watch), 0);
	return watch;
}

/* A response with events of these revisions (0 ends them), which also stands for
 * "created" (none) and for progress (none, by header). */
static void send_watch(struct server *server, int64_t header, const int64_t *revisions,
		       bool created, bool fragment)
{
	Etcdserverpb__WatchResponse response = ETCDSERVERPB__WATCH_RESPONSE__INIT;
	Etcdserverpb__ResponseHeader h = ETCDSERVERPB__RESPONSE_HEADER__INIT;
	Mvccpb__KeyValue kvs[8];
	Mvccpb__Event events[8], *pointers[8];

	h.revision = header;
	response.header = &h;
	response.created = created;
	response.fragment = fragment;
	for (; revisions && revisions[response.n_events]; response.n_events++) {
		size_t i = response.n_events;

		mvccpb__key_value__init(&kvs[i]);
		mvccpb__event__init(&events[i]);
		kvs[i].mod_revision = revisions[i];
		events[i].kv = &kvs[i];
		pointers[i] = &events[i];
	}
	response.events = pointers;
	reply(server->watch, &response.base);
}

static void restart(struct server *server)
{
	struct fixture *f = server->fixture;
	int opened = server->watches_opened;

	server_stop(server);
	server_start(server);
	run_until(f, server->watches_opened > opened);
}

enum step_kind { END, CREATED, EVENTS, FRAGMENT, PROGRESS, RESTART };

#define MADE(header)		{ CREATED, header, { 0 } }
#define NOTICE(header)		{ PROGRESS, header, { 0 } }
#define RESTARTED		{ RESTART, 0, { 0 } }
#define HAPPENED(header, ...)	{ EVENTS, header, { __VA_ARGS__ } }
#define PART(header, ...)	{ FRAGMENT, header, { __VA_ARGS__ } }

/* What the server does, and where the client then asks to resume. */
static const struct watch_case {
	const char *title;
	int64_t start;
	struct step {
		enum step_kind kind;
		int64_t header;
		int64_t revisions[4];
	} steps[6];
	int64_t resumed;			/* start_revision of the last create */
	int64_t seen[LOG_MAX];			/* ended by 0 */
	size_t responses;
} watch_cases[] = {
	{ "a watch from now resumes after the revision it was made at", 0,
	  { MADE(10), RESTARTED }, 11, { 0 }, 0 },
	{ "a watch that saw nothing asks for the same again", 5,
	  { MADE(10), RESTARTED }, 5, { 0 }, 0 },
	{ "events move where it resumes", 0,
	  { MADE(10), HAPPENED(12, 11, 12), RESTARTED },
	  13, { 11, 12 }, 1 },
	{ "a progress notification moves it too", 0,
	  { MADE(10), NOTICE(20), RESTARTED }, 21, { 0 }, 1 },
	{ "a response in fragments is one response", 0,
	  { MADE(10), PART(12, 11), PART(12, 12),
	    HAPPENED(12, 12), RESTARTED }, 13, { 11, 12, 12 }, 1 },
	{ "a fragment that nothing follows is asked for again", 0,
	  { MADE(10), PART(12, 11, 12), RESTARTED },
	  11, { 0 }, 0 },
	{ "what came before the revision asked for is left out", 11,
	  { MADE(12), HAPPENED(12, 9, 10, 11), HAPPENED(12, 11, 12),
	    RESTARTED }, 13, { 11, 12 }, 2 },
};

static void watch_step(struct fixture *f, const struct step *step)
{
	struct server *server = &f->servers[0];
	size_t responses = f->n_responses;
	int created = f->created;

	switch (step->kind) {
	case CREATED:
		send_watch(server, step->header, NULL, true, false);
		run_until(f, f->created > created);
		break;
	case PROGRESS:
	case EVENTS:
		send_watch(server, step->header, step->revisions, false, false);
		run_until(f, f->n_responses > responses);
		break;
	case FRAGMENT:
		send_watch(server, step->header, step->revisions, false, true);
		break;
	case RESTART:
		restart(server);
		break;
	case END:
		break;
	}
}

static void watches(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(watch_cases); i++) {
		const struct watch_case *c = &watch_cases[i];
		struct fixture *f;
		size_t n = 0;

		print_message("  %s\n", c->title);
		setup(state);
		f = *state;
		server_start(&f->servers[0]);
		make_client(f, 1);
		open_watch(f, c->start);
		run_until(f, f->servers[0].watches_opened);
		assert_int_equal(f->servers[0].start_revision, c->start);
		for (const struct step *step = c->steps; step->kind != END; step++)
			watch_step(f, step);
		assert_int_equal(f->servers[0].start_revision, c->resumed);
		assert_int_equal(f->n_responses, c->responses);
		while (c->seen[n])
			n++;
		assert_int_equal(f->n_events, n);
		assert_memory_equal(f->events, c->seen, n * sizeof(*c->seen));
		assert_int_equal(f->lost, 1);
		teardown(state);
	}
}

static void compaction_while_away_ends_a_watch(void **state)
{
	struct fixture *f = *state;
	struct server *server = &f->servers[0];
	Etcdserverpb__WatchResponse response = ETCDSERVERPB__WATCH_RESPONSE__INIT;

	server_start(server);
	make_client(f, 1);
	open_watch(f, 0);
	run_until(f, server->watch);
	send_watch(server, 10, NULL, true, false);
	run_until(f, f->created);
	restart(server);
	response.canceled = true;
	response.compact_revision = 30;
	reply(server->watch, &response.base);
	run_until(f, f->canceled);
	assert_int_equal(f->compact_revision, 30);
	assert_int_equal(f->n_events, 0);
}

static void a_watch_is_cancelled_from_its_callback(void **state)
{
	struct fixture *f = *state;
	struct server *server = &f->servers[0];
	static const int64_t revisions[] = { 11, 0 };

	server_start(server);
	make_client(f, 1);
	f->cancel_in_events = open_watch(f, 0);
	run_until(f, server->watch);
	send_watch(server, 10, NULL, true, false);
	send_watch(server, 11, revisions, false, false);
	send_watch(server, 11, revisions, false, false);
	run_until(f, f->n_events && !server->watch);
	assert_int_equal(f->n_events, 1);
	assert_int_equal(f->canceled, 0);
}

static void a_watch_moves_to_the_next_endpoint(void **state)
{
	struct fixture *f = *state;

	server_start(&f->servers[0]);
	server_start(&f->servers[1]);
	make_client(f, 2);
	open_watch(f, 0);
	run_until(f, f->servers[0].watch);
	send_watch(&f->servers[0], 10, NULL, true, false);
	run_until(f, f->created);
	server_stop(&f->servers[0]);
	run_until(f, f->servers[1].watch);
	assert_int_equal(f->servers[1].start_revision, 11);
}

/* A member that is cut off from its cluster, or the network to it, says nothing. */
static void a_watch_leaves_an_endpoint_without_a_quorum(void **state)
{
	static const enum behaviour behaviours[] = { REFUSE, SILENT };

	for (size_t i = 0; i < ARRAY_SIZE(behaviours); i++) {
		struct fixture *f;

		setup(state);
		f = *state;
		f->probe_ms = 20;
		server_start(&f->servers[0]);
		server_start(&f->servers[1]);
		make_client(f, 2);
		open_watch(f, 0);
		run_until(f, f->servers[0].watch);
		send_watch(&f->servers[0], 10, NULL, true, false);
		run_until(f, f->created && f->servers[0].members >= 2);
		assert_int_equal(f->servers[1].watches_opened, 0);
		f->servers[0].behaviour = behaviours[i];
		run_until(f, f->servers[1].watch && !f->servers[0].watch);
		assert_int_equal(f->servers[1].start_revision, 11);
		assert_int_equal(f->lost, 1);
		teardown(state);
	}
}

/* --- keep-alives -------------------------------------------------------------------------- */

static void on_renewed(void *user, int64_t lease, int64_t ttl)
{
	struct fixture *f = user;

	assert_true(f->renewed < LOG_MAX);
	f->renewed_ttl[f->renewed++] = ttl;
}

static void leases_share_a_stream_and_renew(void **state)
{
	struct fixture *f = *state;
	struct client_keepalive *one, *two;

	server_start(&f->servers[0]);
	make_client(f, 1);
	assert_int_equal(client_keepalive_open(f->client, 7, on_renewed, f, &one), 0);
	assert_int_equal(client_keepalive_open(f->client, 8, on_renewed, f, &two), 0);
	run_until(f, f->renewed >= 4);		/* twice each: renewed by the clock */
	assert_int_equal(f->servers[0].leases_opened, 1);
	client_keepalive_cancel(two);
	f->renewed = 0;
	run_until(f, f->renewed >= 2);
	client_keepalive_cancel(one);
	run_until(f, !f->servers[0].lease);	/* nobody needs the stream */
}

static void a_lease_is_renewed_after_a_lost_connection(void **state)
{
	struct fixture *f = *state;
	struct client_keepalive *keepalive;

	server_start(&f->servers[0]);
	f->servers[0].ttl = 1000;
	make_client(f, 1);
	assert_int_equal(client_keepalive_open(f->client, 7, on_renewed, f, &keepalive), 0);
	run_until(f, f->renewed == 1);
	server_stop(&f->servers[0]);
	server_start(&f->servers[0]);
	run_until(f, f->renewed == 2);
	assert_int_equal(f->servers[0].leases_opened, 2);
}

static void a_lease_that_is_gone_is_told_once(void **state)
{
	struct fixture *f = *state;
	struct client_keepalive *keepalive;

	server_start(&f->servers[0]);
	f->servers[0].ttl = 0;
	make_client(f, 1);
	assert_int_equal(client_keepalive_open(f->client, 7, on_renewed, f, &keepalive), 0);
	run_until(f, f->renewed);
	assert_int_equal(f->renewed_ttl[0], 0);
	run_until(f, !f->servers[0].lease);
	assert_int_equal(f->renewed, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls),
		cmocka_unit_test_setup_teardown(a_cancelled_call_is_silent, setup, teardown),
		cmocka_unit_test_setup_teardown(a_deadline_begins_with_the_call, setup, teardown),
		cmocka_unit_test_setup_teardown(calls_have_a_maximum, setup, teardown),
		cmocka_unit_test(watches),
		cmocka_unit_test_setup_teardown(compaction_while_away_ends_a_watch, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_watch_is_cancelled_from_its_callback, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_watch_moves_to_the_next_endpoint, setup,
						teardown),
		cmocka_unit_test(a_watch_leaves_an_endpoint_without_a_quorum),
		cmocka_unit_test_setup_teardown(leases_share_a_stream_and_renew, setup, teardown),
		cmocka_unit_test_setup_teardown(a_lease_is_renewed_after_a_lost_connection, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_lease_that_is_gone_is_told_once, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
