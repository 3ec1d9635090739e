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
#include <inttypes.h>
#include <stdlib.h>

#include "include/bug.h"
#include "lib/proto/rpc.pb-c.h"
#include "tests/fault/member.h"

#define N_CLIENTS 8
#define N_KEYS 32		/* of each client */
#define ACKS_MAX 300		/* in a round, before the kill */
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
	struct member_conn conn;
	struct slot slots[N_KEYS];
	struct slot *busy;
	int number;
};

struct fault {
	struct member member;
	uint64_t random;
	int64_t next_value, revision;
	unsigned acks, target;
	bool putting;
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
	const struct grpc_client_callbacks cb = {
		.message = on_put_message, .done = on_put_done, .user = c,
	};
	Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
	struct fault *f = c->fault;
	size_t k = next_random(f) % N_KEYS;
	char key[32], value[32];

	put.key.len = (size_t)snprintf(key, sizeof(key), "c%d/%zu", c->number, k);
	put.key.data = (uint8_t *)key;
	put.value.len = (size_t)snprintf(value, sizeof(value), "%" PRId64, ++f->next_value);
	put.value.data = (uint8_t *)value;
	c->busy = &c->slots[k];
	c->busy->unknown = f->next_value;
	member_send(&c->conn, "/etcdserverpb.KV/Put", &put.base, &cb);
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

static bool look(struct fault *f)
{
	Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
	Etcdserverpb__RangeResponse *all;
	ProtobufCMessage *answer;

	range.key = range.range_end = (ProtobufCBinaryData){ 1, (uint8_t *)"" };
	if (member_call(&f->clients[0].conn, "/etcdserverpb.KV/Range", &range.base,
			&etcdserverpb__range_response__descriptor, &answer) || !answer)
		return false;
	all = (Etcdserverpb__RangeResponse *)answer;
	if (all->header->revision < f->revision)
		lost(f, "revision", "the store", f->revision, all->header->revision);
	f->revision = all->header->revision;
	for (size_t i = 0; i < all->n_kvs; i++)
		check_key(f, all->kvs[i]);
	protobuf_c_message_free_unpacked(answer, NULL);
	return true;
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

static bool up_and_whole(struct fault *f)
{
	if (member_start(&f->member))
		return false;
	for (int i = 0; i < N_CLIENTS; i++)
		if (!member_connect(&f->clients[i].conn))
			return false;
	if (!look(f)) {
		printf("# the server does not answer after its start\n");
		return false;
	}
	check_slots(f);
	return !f->lost;
}

static void disconnect(struct fault *f)
{
	for (int i = 0; i < N_CLIENTS; i++)
		member_disconnect(&f->clients[i].conn);
}

static bool put_and_kill(struct fault *f)
{
	f->acks = 0;
	f->target = 1 + (unsigned)(next_random(f) % ACKS_MAX);
	f->putting = true;
	for (int i = 0; i < N_CLIENTS; i++)
		put_next(&f->clients[i]);
	member_deadline(&f->member, ROUND_MS);
	while (f->acks < f->target && !f->member.timed_out)
		member_turn(&f->member);
	f->putting = false;
	member_kill(&f->member);
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
	member_init(&f.member, argv[3], argv + 4);
	for (int i = 0; i < N_CLIENTS; i++) {
		f.clients[i].fault = &f;
		f.clients[i].number = i;
		f.clients[i].conn.member = &f.member;
	}
	good = run(&f, rounds);
	member_kill(&f.member);
	disconnect(&f);
	member_release(&f.member);
	printf("# %u kills, %lu puts acknowledged, %lu lost, revision %" PRId64 "\n", rounds,
	       f.acknowledged, f.lost, f.revision);
	return !good;
}
