// SPDX-License-Identifier: Apache-2.0
/*
 * Kills a server again and again while several clients put keys, and looks after
 * each restart that nothing which was acknowledged is missing.
 *
 *	kill ROUNDS SEED URL PROGRAM [ARGUMENT...]
 *
 * starts PROGRAM with its ARGUMENTs, which must make it listen at URL and keep its
 * data between starts. Each client has one put under way at a time; the kill comes
 * after a random number of acknowledgements. What was under way then may be there
 * or not; everything else must be exactly as it was acknowledged, and the revision
 * never goes back.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "include/bug.h"
#include "lib/grpc.h"
#include "lib/pb.h"
#include "lib/proto/rpc.pb-c.h"

#define N_CLIENTS 8
#define N_KEYS 32		/* of each client */
#define ACKS_MAX 300		/* in a round, before the kill */
#define READY_MS 20000
#define ROUND_MS 10000

/* A key as the last acknowledgement left it. */
struct slot {
	int64_t value;		/* 0: none yet */
	int64_t mod_revision;
	int64_t unknown;	/* the value of a put whose fate is not known; 0: none */
	bool seen;
};

struct fault;

struct client {
	struct fault *fault;
	struct grpc_conn *conn;
	struct slot slots[N_KEYS];
	struct slot *busy;
	struct grpc_client_call *call;
	int number;
};

struct fault {
	uv_loop_t loop;
	uv_timer_t timer;
	const char *url;
	char **argv;
	pid_t pid;
	uint64_t random;
	int64_t next_value, revision;
	unsigned acks, target, conns;
	bool timed_out, putting, answered;
	unsigned long acknowledged, lost;
	struct client clients[N_CLIENTS];
};

/* xorshift64: the same seed gives the same kills, as far as timing allows */
static uint64_t next_random(struct fault *f)
{
	f->random ^= f->random << 13;
	f->random ^= f->random >> 7;
	f->random ^= f->random << 17;
	return f->random;
}

static void on_timer(uv_timer_t *timer)
{
	struct fault *f = timer->data;

	f->timed_out = true;
}

static void start_waiting(struct fault *f, unsigned ms)
{
	f->timed_out = false;
	uv_timer_start(&f->timer, on_timer, ms, 0);
}

/* --- the server -------------------------------------------------------------- */

static int start_server(struct fault *f)
{
	f->pid = fork();
	if (f->pid < 0)
		return -errno;
	if (!f->pid) {
		execv(f->argv[0], f->argv);
		_exit(127);
	}
	return 0;
}

static bool server_died(struct fault *f)
{
	int status;

	if (waitpid(f->pid, &status, WNOHANG) != f->pid)
		return false;
	printf("# the server ended by itself, status 0x%x\n", (unsigned)status);
	f->pid = 0;
	return true;
}

static void kill_server(struct fault *f)
{
	if (!f->pid)
		return;
	kill(f->pid, SIGKILL);
	waitpid(f->pid, NULL, 0);
	f->pid = 0;
}

/* --- putting ----------------------------------------------------------------- */

static void put_next(struct client *c);

static void on_put_message(struct grpc_client_call *call, struct slice message)
{
	struct client *c = grpc_client_call_user(call);
	Etcdserverpb__PutResponse *m =
		etcdserverpb__put_response__unpack(NULL, message.len, message.data);

	if (m && m->header && c->busy)
		c->busy->mod_revision = m->header->revision;
	if (m)
		etcdserverpb__put_response__free_unpacked(m, NULL);
}

static void on_put_done(struct grpc_client_call *call, enum grpc_code code, const char *text)
{
	struct client *c = grpc_client_call_user(call);
	struct fault *f = c->fault;
	struct slot *slot = c->busy;

	c->call = NULL;
	c->busy = NULL;
	if (code)
		return;
	slot->value = slot->unknown;
	slot->unknown = 0;
	f->revision = MAX(f->revision, slot->mod_revision);
	f->acks++;
	f->acknowledged++;
	if (f->putting)
		put_next(c);
}

static void put_next(struct client *c)
{
	static const struct grpc_client_callbacks callbacks = {
		.message = on_put_message, .done = on_put_done,
	};
	struct grpc_client_callbacks cb = callbacks;
	Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
	struct fault *f = c->fault;
	size_t k = next_random(f) % N_KEYS;
	char key[32], value[32];
	struct chain message;

	cb.user = c;
	if (grpc_client_call_open(c->conn, "/etcdserverpb.KV/Put", &cb, 0, &c->call))
		return;
	c->busy = &c->slots[k];
	c->busy->unknown = ++f->next_value;
	put.key.len = (size_t)snprintf(key, sizeof(key), "c%d/%zu", c->number, k);
	put.key.data = (uint8_t *)key;
	put.value.len = (size_t)snprintf(value, sizeof(value), "%" PRId64, f->next_value);
	put.value.data = (uint8_t *)value;
	chain_init(&message);
	pb_pack_chain(&put.base, &message);
	grpc_client_call_send(c->call, &message);
	grpc_client_call_half_close(c->call);
}

/* --- looking ----------------------------------------------------------------- */

static void lost(struct fault *f, const char *what, const char *key, int64_t want, int64_t have)
{
	if (!f->lost++)
		printf("# %s: %s is %" PRId64 ", was acknowledged as %" PRId64 "\n", what, key,
		       have, want);
}

static void check_key(struct fault *f, const Mvccpb__KeyValue *kv)
{
	char key[32], value[32];
	unsigned c, k;
	struct slot *slot;
	int64_t v;

	snprintf(key, sizeof(key), "%.*s", (int)kv->key.len, kv->key.data);
	snprintf(value, sizeof(value), "%.*s", (int)kv->value.len, kv->value.data);
	v = strtoll(value, NULL, 10);
	if (sscanf(key, "c%u/%u", &c, &k) != 2 || c >= N_CLIENTS || k >= N_KEYS) {
		lost(f, "a key that nobody put", key, 0, v);
		return;
	}
	slot = &f->clients[c].slots[k];
	slot->seen = true;
	if (v == slot->value && kv->mod_revision != slot->mod_revision)
		lost(f, "revision", key, slot->mod_revision, kv->mod_revision);
	else if (v != slot->value && v != slot->unknown)
		lost(f, "value", key, slot->value, v);
	slot->value = v;
	slot->mod_revision = kv->mod_revision;
	slot->unknown = 0;
}

static void on_range_message(struct grpc_client_call *call, struct slice message)
{
	struct fault *f = grpc_client_call_user(call);
	Etcdserverpb__RangeResponse *m =
		etcdserverpb__range_response__unpack(NULL, message.len, message.data);

	if (!m || !m->header)
		return;
	f->answered = true;
	if (m->header->revision < f->revision)
		lost(f, "revision", "the store", f->revision, m->header->revision);
	f->revision = m->header->revision;
	for (size_t i = 0; i < m->n_kvs; i++)
		check_key(f, m->kvs[i]);
	etcdserverpb__range_response__free_unpacked(m, NULL);
}

static void on_range_done(struct grpc_client_call *call, enum grpc_code code, const char *text)
{
	struct fault *f = grpc_client_call_user(call);

	f->timed_out = true;	/* no more to wait for */
}

static void look(struct fault *f)
{
	struct grpc_client_callbacks cb = {
		.message = on_range_message, .done = on_range_done, .user = f,
	};
	Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
	struct grpc_client_call *call;
	struct chain message;

	f->answered = false;
	range.key = range.range_end = (ProtobufCBinaryData){ 1, (uint8_t *)"" };
	if (grpc_client_call_open(f->clients[0].conn, "/etcdserverpb.KV/Range", &cb, 0, &call))
		return;
	chain_init(&message);
	pb_pack_chain(&range.base, &message);
	grpc_client_call_send(call, &message);
	grpc_client_call_half_close(call);
	start_waiting(f, READY_MS);
	while (!f->timed_out)
		uv_run(&f->loop, UV_RUN_ONCE);
}

static void check_slots(struct fault *f)
{
	for (int c = 0; c < N_CLIENTS; c++)
		for (int k = 0; k < N_KEYS; k++) {
			struct slot *slot = &f->clients[c].slots[k];
			char key[32];

			snprintf(key, sizeof(key), "c%d/%d", c, k);
			if (slot->value && !slot->seen)
				lost(f, "value", key, slot->value, 0);
			slot->unknown = 0;
			slot->seen = false;
		}
}

/* --- rounds ------------------------------------------------------------------ */

static void on_connected(struct grpc_conn *conn)
{
	struct client *c = grpc_conn_user(conn);

	c->fault->conns++;
}

static void on_closed(struct grpc_conn *conn, int error, const char *text)
{
	struct client *c = grpc_conn_user(conn);

	c->conn = NULL;
}

/* Tries until the server accepts; false where it has died, or in time does not. */
static bool connect_client(struct fault *f, struct client *c)
{
	struct grpc_conn_callbacks cb = {
		.connected = on_connected, .closed = on_closed, .user = c,
	};
	uint64_t end = uv_hrtime() + READY_MS * UINT64_C(1000000);
	unsigned before = f->conns;

	while (!server_died(f) && uv_hrtime() < end) {
		if (grpc_conn_open(&f->loop, f->url, &cb, &c->conn))
			return false;
		while (c->conn && f->conns == before)
			uv_run(&f->loop, UV_RUN_ONCE);
		if (c->conn)
			return true;
		start_waiting(f, 5);
		while (!f->timed_out)
			uv_run(&f->loop, UV_RUN_ONCE);
	}
	return false;
}

static void disconnect(struct fault *f)
{
	for (int i = 0; i < N_CLIENTS; i++)
		if (f->clients[i].conn)
			grpc_conn_close(f->clients[i].conn);
	start_waiting(f, READY_MS);
	for (int i = 0; i < N_CLIENTS; i++)
		while (f->clients[i].conn && !f->timed_out)
			uv_run(&f->loop, UV_RUN_ONCE);
}

static bool up_and_whole(struct fault *f)
{
	if (start_server(f))
		return false;
	for (int i = 0; i < N_CLIENTS; i++)
		if (!connect_client(f, &f->clients[i]))
			return false;
	look(f);
	if (!f->answered) {
		printf("# the server does not answer after its start\n");
		return false;
	}
	check_slots(f);
	return !f->lost;
}

static bool put_and_kill(struct fault *f)
{
	f->acks = 0;
	f->target = 1 + (unsigned)(next_random(f) % ACKS_MAX);
	f->putting = true;
	for (int i = 0; i < N_CLIENTS; i++)
		put_next(&f->clients[i]);
	start_waiting(f, ROUND_MS);
	while (f->acks < f->target && !f->timed_out)
		uv_run(&f->loop, UV_RUN_ONCE);
	f->putting = false;
	kill_server(f);
	disconnect(f);
	if (f->acks < f->target)
		printf("# only %u of %u puts were acknowledged in time\n", f->acks, f->target);
	return f->acks >= f->target;
}

static bool run(struct fault *f, unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++) {
		if (!up_and_whole(f) || !put_and_kill(f)) {
			printf("# in round %u\n", i + 1);
			return false;
		}
	}
	return up_and_whole(f);
}

int main(int argc, char **argv)
{
	static struct fault f = { 0 };
	unsigned rounds;
	bool good;

	if (argc < 5) {
		fprintf(stderr, "usage: kill ROUNDS SEED URL PROGRAM [ARGUMENT...]\n");
		return 2;
	}
	rounds = (unsigned)strtoul(argv[1], NULL, 10);
	f.random = strtoull(argv[2], NULL, 10) * 2654435761u + 1;
	f.url = argv[3];
	f.argv = argv + 4;
	uv_loop_init(&f.loop);
	uv_timer_init(&f.loop, &f.timer);
	f.timer.data = &f;
	for (int i = 0; i < N_CLIENTS; i++) {
		f.clients[i].fault = &f;
		f.clients[i].number = i;
	}
	good = run(&f, rounds);
	kill_server(&f);
	disconnect(&f);
	uv_close((uv_handle_t *)&f.timer, NULL);
	uv_run(&f.loop, UV_RUN_DEFAULT);
	uv_loop_close(&f.loop);
	printf("# %u kills, %lu puts acknowledged, %lu lost, revision %" PRId64 "\n", rounds,
	       f.acknowledged, f.lost, f.revision);
	return !good;
}
