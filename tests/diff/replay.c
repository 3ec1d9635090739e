// SPDX-License-Identifier: Apache-2.0
/*
 * Sends the requests of a recording to a server and compares its answers, and its
 * watch events, with the recorded ones: those of etcd 3.7.1.
 *
 *	gzip -dc FILE | replay URL
 *
 * The server starts empty. The steps are described in tests/peer/diff/step.go, the
 * file in tests/peer/diff/record.go.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#include "include/bug.h"
#include "include/endian_bytes.h"
#include "lib/grpc.h"
#include "lib/pb.h"
#include "lib/proto/rpc.pb-c.h"
#include "tests/diff/message.h"

#define MAGIC "kvd answers 1\n"
#define N_STREAMS 256
#define GIVE_UP 100		/* differences */
#define PATIENCE_MS 5000	/* for what has to come */
#define IMPATIENCE_MS 500	/* once something did not */
#define ASK_AGAIN_MS 20
#define CHUNKS_BELOW (512 * 1024)	/* bytes that a stream may chop up as it likes */

struct step {
	char kind;
	uint8_t stream;
	enum grpc_code code;
	uint32_t count;
	int64_t id;
	char path[256];
	const struct rpc *rpc;
	struct slice request, text, response;
	struct blob *bytes;	/* of the record, which the slices point into */
};

/* What the server said; a call appends the bytes of its messages to @response. */
struct answer {
	bool done, chunked;
	enum grpc_code code;
	char text[512];		/* of the error, or how many keys each chunk had */
	size_t text_len;
	uint8_t *response;
	size_t len, messages;
};

/* One response of a watch stream that nobody has asked for yet. */
struct received {
	struct list node;
	struct pb_arena arena;
	Etcdserverpb__WatchResponse *response;
};

struct watch_stream {
	struct grpc_client_call *call;
	struct list received;
	bool ended;
};

struct replay {
	uv_loop_t loop;
	uv_timer_t timer;
	bool timed_out, lost, closing;
	unsigned patience_ms;
	struct grpc_conn *conn;
	struct watch_stream streams[N_STREAMS];
	unsigned passed, failed;
};

/* --- the file ---------------------------------------------------------------- */

static bool take_u32(struct slice *s, uint32_t *out)
{
	if (s->len < 4)
		return false;
	*out = get_be32(s->data);
	*s = slice_of(s->data + 4, s->len - 4);
	return true;
}

static bool take_part(struct slice *s, struct slice *out)
{
	uint32_t n;

	if (!take_u32(s, &n) || n > s->len)
		return false;
	*out = slice_of(s->data, n);
	*s = slice_of(s->data + n, s->len - n);
	return true;
}

static bool parse_step(struct blob *bytes, struct step *step)
{
	struct slice rest = blob_slice(bytes);
	uint8_t n;

	if (rest.len < 16 || rest.len - 16 < rest.data[3])
		return false;
	step->kind = (char)rest.data[0];
	step->stream = rest.data[1];
	step->code = (enum grpc_code)rest.data[2];
	n = rest.data[3];
	step->count = get_be32(rest.data + 4);
	step->id = (int64_t)get_be64(rest.data + 8);
	memcpy(step->path, rest.data + 16, n);
	step->path[n] = '\0';
	step->rpc = rpc_find(step->path);
	step->bytes = bytes;
	rest = slice_of(rest.data + 16 + n, rest.len - 16 - n);
	return step->rpc && take_part(&rest, &step->request) && take_part(&rest, &step->text) &&
	       take_part(&rest, &step->response);
}

/* 1 and a step, 0 at the end, -EBADMSG. */
static int read_step(FILE *in, struct step *step)
{
	uint8_t size[4];
	struct blob *bytes;
	size_t n = fread(size, 1, sizeof(size), in);

	if (!n && feof(in))
		return 0;
	if (n < sizeof(size))
		return -EBADMSG;
	bytes = blob_new(get_be32(size));
	if (!bytes)
		return -ENOMEM;
	if (fread(bytes->data, 1, bytes->len, in) < bytes->len || !parse_step(bytes, step)) {
		blob_put(bytes);
		return -EBADMSG;
	}
	return 1;
}

/* --- waiting ----------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
	struct replay *r = timer->data;

	r->timed_out = true;
}

static void start_waiting(struct replay *r, unsigned ms)
{
	r->timed_out = false;
	uv_timer_start(&r->timer, on_timer, ms, 0);
}

/* One turn of the loop; false where there is nothing left to wait for. */
static bool turn(struct replay *r)
{
	if (r->lost || r->timed_out)
		return false;
	uv_run(&r->loop, UV_RUN_ONCE);
	return true;
}

static void on_closed(struct grpc_conn *conn, int error, const char *text)
{
	struct replay *r = grpc_conn_user(conn);

	r->lost = true;
	if (!r->closing)
		fprintf(stderr, "replay: the connection is gone: %s\n", text);
}

__printf(2, 3) static void answer_error(struct answer *a, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(a->text, sizeof(a->text), format, args);
	va_end(args);
	a->code = GRPC_INTERNAL;
	a->done = true;
}

static void answer_append(struct answer *a, struct slice bytes)
{
	uint8_t *p = realloc(a->response, a->len + bytes.len + 1);

	BUG_ON(!p);
	if (bytes.len)
		memcpy(p + a->len, bytes.data, bytes.len);
	a->response = p;
	a->len += bytes.len;
	a->messages++;
}

static void answer_pack(struct answer *a, const ProtobufCMessage *m)
{
	struct blob *b = pb_pack_blob(m);

	BUG_ON(!b);
	answer_append(a, blob_slice(b));
	blob_put(b);
}

/* --- calls ------------------------------------------------------------------- */

static void answer_chunk(struct answer *a, struct slice message)
{
	const size_t size = sizeof(a->text);
	struct pb_arena arena;
	ProtobufCMessage *m;
	const Etcdserverpb__RangeResponse *r = NULL;

	pb_arena_init(&arena);
	if (!pb_unpack(&etcdserverpb__range_stream_response__descriptor, message, &arena, &m))
		r = ((Etcdserverpb__RangeStreamResponse *)m)->range_response;
	if (a->text_len < size)
		a->text_len += (size_t)snprintf(a->text + a->text_len, size - a->text_len,
						" %zu", r ? r->n_kvs : 0);
	pb_arena_release(&arena);
}

/* Protobuf merges by concatenation, which is what a stream of chunks asks for. */
static void on_message(struct grpc_client_call *call, struct slice message)
{
	struct answer *a = grpc_client_call_user(call);

	answer_append(a, message);
	if (a->chunked)
		answer_chunk(a, message);
}

static void on_done(struct grpc_client_call *call, enum grpc_code code, const char *text)
{
	struct answer *a = grpc_client_call_user(call);

	a->done = true;
	a->code = code;
	if (code || !a->chunked || a->len >= CHUNKS_BELOW)
		snprintf(a->text, sizeof(a->text), "%s", text ? text : "");
}

static void send_bytes(struct grpc_client_call *call, struct slice bytes)
{
	struct chain chain;

	chain_init(&chain);
	chain_append(&chain, bytes);
	grpc_client_call_send(call, &chain);
}

/* Sends one request and waits for the end, or, where @first, for the first message. */
static void call(struct replay *r, const char *path, struct slice request, bool first,
		 struct answer *a)
{
	struct grpc_client_callbacks callbacks = {
		.message = on_message, .done = on_done, .user = a,
	};
	struct grpc_client_call *c;
	int rc = grpc_client_call_open(r->conn, path, &callbacks, 0, &c);

	if (rc) {
		answer_error(a, "no call: %d", rc);
		return;
	}
	send_bytes(c, request);
	if (!first)
		grpc_client_call_half_close(c);
	start_waiting(r, 2 * PATIENCE_MS);
	while (!a->done && !(first && a->messages) && turn(r))
		;
	if (a->done)
		return;
	if (!r->lost)
		grpc_client_call_cancel(c);
	if (!first || !a->messages)
		answer_error(a, "no answer in time");
}

/* The server picks the id of the lease: it is taken out, and the lease revoked. */
static void auto_lease(struct replay *r, const struct step *step, struct answer *a)
{
	Etcdserverpb__LeaseRevokeRequest revoke = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
	struct answer revoked = { 0 }, granted = { 0 };
	Etcdserverpb__LeaseGrantResponse *m;
	struct blob *request;

	call(r, step->path, step->request, false, &granted);
	m = etcdserverpb__lease_grant_response__unpack(NULL, granted.len, granted.response);
	free(granted.response);
	if (granted.code || !m || m->id <= 0) {
		answer_error(a, "no lease: %s", granted.text);
	} else {
		revoke.id = m->id;
		request = pb_pack_blob(&revoke.base);
		BUG_ON(!request);
		call(r, "/etcdserverpb.Lease/LeaseRevoke", blob_slice(request), false, &revoked);
		blob_put(request);
		if (revoked.code)
			answer_error(a, "not revoked: %s", revoked.text);
		free(revoked.response);
		m->id = 0;
		if (!revoked.code)
			answer_pack(a, &m->base);
	}
	if (m)
		etcdserverpb__lease_grant_response__free_unpacked(m, NULL);
}

/* --- watch streams ----------------------------------------------------------- */

static void on_watch_message(struct grpc_client_call *c, struct slice message)
{
	struct watch_stream *w = grpc_client_call_user(c);
	struct received *m = calloc(1, sizeof(*m));
	ProtobufCMessage *response;

	BUG_ON(!m);
	pb_arena_init(&m->arena);
	if (pb_unpack(&etcdserverpb__watch_response__descriptor, message, &m->arena, &response)) {
		w->ended = true;
		pb_arena_release(&m->arena);
		free(m);
		return;
	}
	m->response = (Etcdserverpb__WatchResponse *)response;
	list_add_tail(&w->received, &m->node);
}

static void on_watch_done(struct grpc_client_call *c, enum grpc_code code, const char *text)
{
	struct watch_stream *w = grpc_client_call_user(c);

	fprintf(stderr, "replay: a watch stream ended: %s %s\n", grpc_code_name(code), text);
	w->call = NULL;
	w->ended = true;
}

static void received_free(struct received *m)
{
	list_del(&m->node);
	pb_arena_release(&m->arena);
	free(m);
}

static void watch_open(struct replay *r, struct watch_stream *w, struct answer *a)
{
	struct grpc_client_callbacks callbacks = {
		.message = on_watch_message, .done = on_watch_done, .user = w,
	};

	list_init(&w->received);
	w->ended = false;
	if (grpc_client_call_open(r->conn, "/etcdserverpb.Watch/Watch", &callbacks, 0, &w->call))
		answer_error(a, "no watch stream");
}

static bool is_control(const Etcdserverpb__WatchResponse *m)
{
	return m->created || m->canceled;
}

static bool is_progress(const Etcdserverpb__WatchResponse *m)
{
	return !is_control(m) && !m->n_events;
}

/* What was sent and never asked for is a difference. */
static void watch_close(struct replay *r, struct watch_stream *w, struct answer *a)
{
	struct received *m, *tmp;

	if (w->ended)
		answer_error(a, "the stream has ended by itself");
	list_for_each_safe(m, tmp, &w->received, node) {
		if (!is_progress(m->response))
			answer_error(a, "a response too many: watcher %" PRId64 ", %zu events",
				     m->response->watch_id, m->response->n_events);
		received_free(m);
	}
	if (w->call && !r->lost)
		grpc_client_call_cancel(w->call);
	w->call = NULL;
}

static struct received *find_control(struct watch_stream *w, const struct step *step)
{
	bool created = step->kind == 'W';
	struct received *m;

	list_for_each(m, &w->received, node)
		if (is_control(m->response) && !!m->response->created == created &&
		    (created || m->response->watch_id == step->id))
			return m;
	return NULL;
}

static struct received *find_progress(struct watch_stream *w, const struct step *step)
{
	struct received *m;

	list_for_each(m, &w->received, node)
		if (is_progress(m->response))
			return m;
	return NULL;
}

typedef struct received *find_fn(struct watch_stream *w, const struct step *step);

static struct received *wait_for(struct replay *r, struct watch_stream *w,
				 const struct step *step, unsigned ms, find_fn *find)
{
	struct received *m;

	start_waiting(r, ms);
	do {
		m = find(w, step);
	} while (!m && !w->ended && turn(r));
	return m;
}

static void watch_answer(struct replay *r, struct received *m, struct answer *a)
{
	if (m) {
		answer_pack(a, &m->response->base);
		received_free(m);
		return;
	}
	answer_error(a, "no answer in time");
	r->patience_ms = IMPATIENCE_MS;
}

/* A progress request is dropped while a watcher catches up, so it is sent again. */
static void watch_sync(struct replay *r, struct watch_stream *w, const struct step *step,
		       struct answer *a)
{
	struct received *m;
	uint64_t end = uv_hrtime() + r->patience_ms * UINT64_C(1000000);

	while ((m = find_progress(w, step)))
		received_free(m);
	do {
		send_bytes(w->call, step->request);
		m = wait_for(r, w, step, ASK_AGAIN_MS, find_progress);
	} while (!m && !w->ended && !r->lost && uv_hrtime() < end);
	watch_answer(r, m, a);
}

static size_t count_events(const struct watch_stream *w, int64_t id)
{
	struct received *m;
	size_t n = 0;

	list_for_each(m, &w->received, node)
		if (!is_control(m->response) && m->response->watch_id == id)
			n += m->response->n_events;
	return n;
}

/* Waits for as many events as must come, and takes all that did. */
static void watch_events(struct replay *r, struct watch_stream *w, const struct step *step,
			 struct answer *a)
{
	Etcdserverpb__WatchResponse all = ETCDSERVERPB__WATCH_RESPONSE__INIT;
	struct received *m, *tmp;
	size_t n;

	start_waiting(r, r->patience_ms);
	while ((n = count_events(w, step->id)) < step->count && !w->ended && turn(r))
		;
	if (n < step->count)
		r->patience_ms = IMPATIENCE_MS;
	all.watch_id = step->id;
	all.events = calloc(n + 1, sizeof(*all.events));
	BUG_ON(!all.events);
	list_for_each(m, &w->received, node)
		if (!is_control(m->response) && m->response->watch_id == step->id)
			for (size_t i = 0; i < m->response->n_events; i++)
				all.events[all.n_events++] = m->response->events[i];
	answer_pack(a, &all.base);
	free(all.events);
	list_for_each_safe(m, tmp, &w->received, node)
		if (!is_control(m->response) && m->response->n_events &&
		    m->response->watch_id == step->id)
			received_free(m);
}

static void watch_step(struct replay *r, const struct step *step, struct answer *a)
{
	struct watch_stream *w = &r->streams[step->stream];

	if (step->kind == 'O') {
		watch_open(r, w, a);
		return;
	}
	if (step->kind == 'X') {
		watch_close(r, w, a);
		return;
	}
	if (!w->call) {
		answer_error(a, "the watch stream is not open");
		return;
	}
	switch (step->kind) {
	case 'Y':
		send_bytes(w->call, step->request);
		return;
	case 'P':
		watch_sync(r, w, step, a);
		return;
	case 'E':
		watch_events(r, w, step, a);
		return;
	}
	if (step->kind != 'N')
		send_bytes(w->call, step->request);
	watch_answer(r, wait_for(r, w, step, r->patience_ms, find_control), a);
}

/* --- the run ----------------------------------------------------------------- */

static void ask(struct replay *r, const struct step *step, struct answer *a)
{
	switch (step->kind) {
	case 'U':
	case 'S':
		a->chunked = step->kind == 'S';
		call(r, step->path, step->request, false, a);
		return;
	case 'K':
		call(r, step->path, step->request, true, a);
		return;
	case 'G':
		auto_lease(r, step, a);
		return;
	default:
		watch_step(r, step, a);
	}
}

static void print_answer(const struct step *step, enum grpc_code code, struct slice text,
			 struct slice response)
{
	if (code || text.len)
		printf("    %s \"%.*s\"\n", grpc_code_name(code), (int)text.len, text.data);
	if (!code)
		message_print(step->rpc->response, response, stdout);
}

static void compare(struct replay *r, const struct step *step, const struct answer *a)
{
	struct slice text = slice_str(a->text), response = slice_of(a->response, a->len);

	if (a->code == step->code && slice_eq(text, step->text) &&
	    (step->code || message_same(step->rpc->response, step->response, response))) {
		r->passed++;
		return;
	}
	if (r->failed++)
		return;
	printf("the first difference, after %u equal answers: step %c of %s, stream %u, "
	       "watcher %" PRId64 "\n", r->passed, step->kind, step->path, step->stream, step->id);
	message_print(step->rpc->request, step->request, stdout);
	printf("  etcd answers\n");
	print_answer(step, step->code, step->text, step->response);
	printf("  this server answers\n");
	print_answer(step, a->code, text, response);
}

static int replay(struct replay *r, FILE *in)
{
	char magic[sizeof(MAGIC) - 1];
	struct step step;
	int rc = -EBADMSG;

	if (fread(magic, 1, sizeof(magic), in) < sizeof(magic) ||
	    memcmp(magic, MAGIC, sizeof(magic)))
		return rc;
	while (!r->lost && r->failed < GIVE_UP && (rc = read_step(in, &step)) > 0) {
		struct answer a = { 0 };

		ask(r, &step, &a);
		compare(r, &step, &a);
		free(a.response);
		blob_put(step.bytes);
	}
	return rc < 0 ? rc : 0;
}

static void finish(struct replay *r)
{
	struct answer ignored = { 0 };

	for (int i = 0; i < N_STREAMS; i++)
		if (r->streams[i].received.next)
			watch_close(r, &r->streams[i], &ignored);
	r->closing = true;
	if (!r->lost)
		grpc_conn_close(r->conn);
	uv_close((uv_handle_t *)&r->timer, NULL);
	uv_run(&r->loop, UV_RUN_DEFAULT);
	uv_loop_close(&r->loop);
}

int main(int argc, char **argv)
{
	static struct replay r = { .patience_ms = PATIENCE_MS };
	struct grpc_conn_callbacks callbacks = { .closed = on_closed, .user = &r };
	int rc;

	if (argc != 2) {
		fprintf(stderr, "usage: gzip -dc FILE | replay URL\n");
		return 2;
	}
	uv_loop_init(&r.loop);
	uv_timer_init(&r.loop, &r.timer);
	r.timer.data = &r;
	rc = grpc_conn_open(&r.loop, argv[1], &callbacks, &r.conn);
	if (rc) {
		fprintf(stderr, "replay: %s: %s\n", argv[1], strerror(-rc));
		return 2;
	}
	rc = replay(&r, stdin);
	if (rc)
		fprintf(stderr, "replay: the recording is damaged\n");
	if (r.lost)
		r.failed++;
	finish(&r);
	printf("%u passed, %u failed\n", r.passed, r.failed);
	return rc ? 2 : r.failed > 0;
}
