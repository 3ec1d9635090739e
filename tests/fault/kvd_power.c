// SPDX-License-Identifier: Apache-2.0
/*
 * Loss of power, of a whole server.
 *
 *	kvd_power CUTS SEED URL DIR PROGRAM [ARGUMENT...]
 *
 * Starts PROGRAM, which must listen at URL, keep its data in DIR and have shim.c in it.
 * Several clients put, delete, grant and revoke leases; one compacts and defragments;
 * every call of the server that touches a file is written down, and so are, between
 * them, what was asked and what was acknowledged. Then, at CUTS points of that, makes
 * what a machine could come up with which lost its power there, and starts the server
 * on it. All that was acknowledged must be there, what was under way may be, and
 * nothing else; the revision has not gone back, the past can be read, and the server
 * takes a put.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/bug.h"
#include "lib/proto/rpc.pb-c.h"
#include "tests/fault/cuts.h"
#include "tests/fault/member.h"

#define N_CLIENTS 6		/* and one that compacts and defragments */
#define N_KEYS 8		/* of each client */
#define N_LEASES 3
#define N_PAST 16		/* puts that are looked at as they were then */
#define OPS 1800
#define RECORD_MS 60000
#define TTL 100000
#define VALUE_MAX 200000
#define KEEP_REVISIONS 200	/* of them a compaction leaves about so many */

enum op { OP_PUT, OP_DELETE, OP_GRANT, OP_REVOKE, OP_COMPACT, OP_DEFRAGMENT, OPS_N };

/* What a client asks for; as it is, a mark in the trace. */
struct ask {
	uint32_t acknowledged;
	enum op op;
	uint32_t client, slot;		/* of the keys, or of the leases */
	int64_t value;			/* of a put: its number; or the revision to compact to */
	int64_t lease;			/* of a put: 0 or its id; or the one that is meant */
	int64_t revision;		/* of the answer */
};

struct key {
	int64_t value, lease, revision;	/* value 0: it is not there */
	bool seen;
};

struct client_state {
	struct key keys[N_KEYS];
	int64_t leases[N_LEASES];	/* 0: none */
	struct ask busy;
	bool is_busy;
};

/* What has been acknowledged, and is under way. */
struct state {
	struct client_state clients[N_CLIENTS + 1];
	int64_t revision, compacted;
	struct ask past[N_PAST];
	size_t n_past;
};

struct test;

struct client {
	struct test *test;
	struct member_conn conn;
	uint32_t number;
	struct ask ask;
};

struct test {
	struct member member;
	struct cuts cuts;
	struct state state;
	struct client clients[N_CLIENTS + 1];
	char trace[PATH_MAX], log[PATH_MAX];
	int trace_fd;
	unsigned long asked, answered, of[OPS_N];
	int64_t next_value, next_lease;
	char *why;			/* of the cut that is looked at */
	size_t why_size;
};

static uint64_t draw(struct test *t, uint64_t below)
{
	return random_next(&t->cuts.random) % below;
}

/* --- what must be there -------------------------------------------------------- */

static void acknowledge(struct state *s, const struct ask *a)
{
	struct client_state *c = &s->clients[a->client];

	s->revision = MAX(s->revision, a->revision);
	switch (a->op) {
	case OP_PUT:
		c->keys[a->slot] = (struct key){
			.value = a->value, .lease = a->lease, .revision = a->revision,
		};
		s->past[s->n_past++ % N_PAST] = *a;
		break;
	case OP_DELETE:
		c->keys[a->slot].value = 0;
		break;
	case OP_GRANT:
		c->leases[a->slot] = a->lease;
		break;
	case OP_REVOKE:
		c->leases[a->slot] = 0;
		for (size_t i = 0; i < N_KEYS; i++)
			if (c->keys[i].lease == a->lease)
				c->keys[i].value = 0;
		break;
	case OP_COMPACT:
		s->compacted = MAX(s->compacted, a->value);
		break;
	default:
		break;
	}
}

static void note(struct state *s, const struct ask *a)
{
	struct client_state *c = &s->clients[a->client];

	c->is_busy = !a->acknowledged;
	c->busy = *a;
	if (a->acknowledged)
		acknowledge(s, a);
}

static void mark(struct cuts *cuts, const void *data, size_t len)
{
	struct test *t = container_of(cuts, struct test, cuts);
	struct ask a;

	BUG_ON(len != sizeof(a));
	memcpy(&a, data, sizeof(a));
	note(&t->state, &a);
}

/* Most are short; some are large, so that the log has several files. */
static struct slice value_of(int64_t number, uint8_t *buf)
{
	uint64_t state = (uint64_t)number, kind = random_next(&state) % 100;
	size_t len = kind < 50 ? 8 + random_next(&state) % 300 :
		     kind < 65 ? 300 + random_next(&state) % 8000 :
				 8000 + random_next(&state) % (VALUE_MAX - 8000);

	for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
		uint64_t word = i ? random_next(&state) : (uint64_t)number;

		memcpy(buf + i, &word, MIN(len - i, sizeof(word)));
	}
	return slice_of(buf, len);
}

static ProtobufCBinaryData name_of(uint32_t client, uint32_t slot, char buf[32])
{
	int n = snprintf(buf, 32, "c%u/%u", client, slot);

	return (ProtobufCBinaryData){ (size_t)n, (uint8_t *)buf };
}

/* --- asking ---------------------------------------------------------------------- */

static const struct {
	const char *path;
	const ProtobufCMessageDescriptor *answer;
} methods[] = {
	[OP_PUT] = { "/etcdserverpb.KV/Put", &etcdserverpb__put_response__descriptor },
	[OP_DELETE] = { "/etcdserverpb.KV/DeleteRange",
			&etcdserverpb__delete_range_response__descriptor },
	[OP_GRANT] = { "/etcdserverpb.Lease/LeaseGrant",
		       &etcdserverpb__lease_grant_response__descriptor },
	[OP_REVOKE] = { "/etcdserverpb.Lease/LeaseRevoke",
			&etcdserverpb__lease_revoke_response__descriptor },
	[OP_COMPACT] = { "/etcdserverpb.KV/Compact",
			 &etcdserverpb__compaction_response__descriptor },
	[OP_DEFRAGMENT] = { "/etcdserverpb.Maintenance/Defragment",
			    &etcdserverpb__defragment_response__descriptor },
};

static struct ask choose_key_op(struct test *t, struct client_state *c)
{
	uint32_t lease = (uint32_t)draw(t, N_LEASES);
	struct ask a = { .slot = (uint32_t)draw(t, N_KEYS) };

	if (!draw(t, 12)) {
		a.op = c->leases[lease] ? OP_REVOKE : OP_GRANT;
		a.slot = lease;
		a.lease = c->leases[lease] ? c->leases[lease] : ++t->next_lease;
	} else if (!draw(t, 6)) {
		a.op = OP_DELETE;
	} else {
		a.op = OP_PUT;
		a.value = ++t->next_value;
		a.lease = draw(t, 4) ? 0 : c->leases[lease];
	}
	return a;
}

static struct ask choose(struct test *t, struct client *client)
{
	const struct state *s = &t->state;
	struct ask a = { .op = OP_DEFRAGMENT };
	int64_t span = s->revision - s->compacted;

	if (client->number < N_CLIENTS)
		a = choose_key_op(t, &t->state.clients[client->number]);
	else if (draw(t, 8) && span > 1)
		a = (struct ask){
			.op = OP_COMPACT, .value = s->revision - (int64_t)draw(t,
					(uint64_t)MIN(span - 1, (int64_t)KEEP_REVISIONS)),
		};
	a.client = client->number;
	return a;
}

static void on_message(struct grpc_client_call *call, struct slice message);
static void on_done(struct grpc_client_call *call, enum grpc_code code, const char *text);

static bool send_request(struct client *c, const ProtobufCMessage *request)
{
	const struct grpc_client_callbacks cb = {
		.message = on_message, .done = on_done, .user = c,
	};

	return member_send(&c->conn, methods[c->ask.op].path, request, &cb);
}

static bool send_put(struct client *c)
{
	static uint8_t value[VALUE_MAX + sizeof(uint64_t)];
	Etcdserverpb__PutRequest r = ETCDSERVERPB__PUT_REQUEST__INIT;
	struct slice s = value_of(c->ask.value, value);
	char name[32];

	r.key = name_of(c->number, c->ask.slot, name);
	r.value = (ProtobufCBinaryData){ s.len, (uint8_t *)(uintptr_t)s.data };
	r.lease = c->ask.lease;
	return send_request(c, &r.base);
}

static bool send_delete(struct client *c)
{
	Etcdserverpb__DeleteRangeRequest r = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
	char name[32];

	r.key = name_of(c->number, c->ask.slot, name);
	return send_request(c, &r.base);
}

static bool send_ask(struct client *c)
{
	Etcdserverpb__LeaseGrantRequest grant = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
	Etcdserverpb__LeaseRevokeRequest revoke = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
	Etcdserverpb__CompactionRequest compact = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
	Etcdserverpb__DefragmentRequest defragment = ETCDSERVERPB__DEFRAGMENT_REQUEST__INIT;

	switch (c->ask.op) {
	case OP_PUT:
		return send_put(c);
	case OP_DELETE:
		return send_delete(c);
	case OP_GRANT:
		grant.id = c->ask.lease;
		grant.ttl = TTL;
		return send_request(c, &grant.base);
	case OP_REVOKE:
		revoke.id = c->ask.lease;
		return send_request(c, &revoke.base);
	case OP_COMPACT:
		compact.revision = c->ask.value;
		return send_request(c, &compact.base);
	default:
		return send_request(c, &defragment.base);
	}
}

static void ask_next(struct client *c)
{
	struct test *t = c->test;

	c->ask = choose(t, c);
	t->asked++;
	t->of[c->ask.op]++;
	note(&t->state, &c->ask);
	trace_mark(t->trace_fd, &c->ask, sizeof(c->ask));
	BUG_ON(!send_ask(c));
}

/* The header is the first field of them all. */
static void on_message(struct grpc_client_call *call, struct slice message)
{
	struct client *c = grpc_client_call_user(call);
	const ProtobufCMessageDescriptor *type = methods[c->ask.op].answer;
	ProtobufCMessage *m = protobuf_c_message_unpack(type, NULL, message.len, message.data);
	const Etcdserverpb__PutResponse *r = (const void *)m;

	BUG_ON(!m || strcmp(type->fields[0].name, "header"));
	if (r->header)
		c->ask.revision = r->header->revision;
	protobuf_c_message_free_unpacked(m, NULL);
}

static void on_done(struct grpc_client_call *call, enum grpc_code code, const char *text)
{
	struct client *c = grpc_client_call_user(call);
	struct test *t = c->test;

	if (code) {
		printf("# %s: %d, %s\n", methods[c->ask.op].path, (int)code, text);
		return;
	}
	t->answered++;
	c->ask.acknowledged = true;
	note(&t->state, &c->ask);
	trace_mark(t->trace_fd, &c->ask, sizeof(c->ask));
	if (t->asked < OPS)
		ask_next(c);
}

/* --- recording ------------------------------------------------------------------- */

static bool record(struct test *t)
{
	bool good = true;

	t->trace_fd = open(t->trace, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
	BUG_ON(t->trace_fd < 0 || setenv("SHIM_TRACE", t->trace, 1) ||
	       setenv("SHIM_ROOT", t->cuts.dir, 1) || member_start(&t->member));
	for (size_t i = 0; i <= N_CLIENTS && good; i++)
		good = member_connect(&t->clients[i].conn);
	for (size_t i = 0; i <= N_CLIENTS && good; i++)
		ask_next(&t->clients[i]);
	member_deadline(&t->member, RECORD_MS);
	while (good && t->answered < t->asked && !t->member.timed_out)
		member_turn(&t->member);
	member_kill(&t->member);
	for (size_t i = 0; i <= N_CLIENTS; i++)
		member_disconnect(&t->clients[i].conn);
	close(t->trace_fd);
	unsetenv("SHIM_TRACE");
	unsetenv("SHIM_ROOT");
	printf("# %lu of %lu requests were answered: %lu puts, %lu deletions, %lu leases granted, "
	       "%lu revoked, %lu compactions, %lu defragmentations\n", t->answered, t->asked,
	       t->of[OP_PUT], t->of[OP_DELETE], t->of[OP_GRANT], t->of[OP_REVOKE],
	       t->of[OP_COMPACT], t->of[OP_DEFRAGMENT]);
	return good && t->answered >= OPS;
}

/* --- looking ---------------------------------------------------------------------- */

__printf(2, 3)
static bool wrong(struct test *t, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(t->why, t->why_size, format, args);
	va_end(args);
	return false;
}

/* Whether the request that is under way may have made @key what it is. */
static bool may_be(const struct ask *a, bool is_busy, uint32_t slot, const struct key *key,
		   const Mvccpb__KeyValue *kv)
{
	if (!is_busy)
		return false;
	if (a->op == OP_REVOKE)
		return !kv && key->lease == a->lease;
	if (a->slot != slot)
		return false;
	if (a->op == OP_DELETE)
		return !kv;
	return a->op == OP_PUT && kv && kv->lease == a->lease && kv->value.len >= 8 &&
	       !memcmp(kv->value.data, &a->value, sizeof(a->value));
}

static bool is_whole(const Mvccpb__KeyValue *kv, int64_t number)
{
	static uint8_t buf[VALUE_MAX + sizeof(uint64_t)];

	return slice_eq(slice_of(kv->value.data, kv->value.len), value_of(number, buf));
}

static bool key_right(struct test *t, const Mvccpb__KeyValue *kv)
{
	const struct client_state *c;
	struct key *key;
	int64_t number;
	char name[32];
	unsigned int client, slot;

	snprintf(name, sizeof(name), "%.*s", (int)kv->key.len, kv->key.data);
	if (sscanf(name, "c%u/%u", &client, &slot) != 2 || client >= N_CLIENTS ||
	    slot >= N_KEYS || kv->value.len < sizeof(number))
		return wrong(t, "there is a key %s", name);
	c = &t->state.clients[client];
	key = &t->state.clients[client].keys[slot];
	key->seen = true;
	memcpy(&number, kv->value.data, sizeof(number));
	if (!is_whole(kv, number))
		return wrong(t, "the value of %s is broken", name);
	if ((key->value && number == key->value && kv->lease == key->lease &&
	     kv->mod_revision == key->revision) || may_be(&c->busy, c->is_busy, slot, key, kv))
		return true;
	return wrong(t, "%s has value %" PRId64 ", lease %" PRId64 " of revision %" PRId64
		     "; acknowledged was %" PRId64 ", %" PRId64 " of %" PRId64, name, number,
		     kv->lease, kv->mod_revision, key->value, key->lease, key->revision);
}

static bool none_missing(struct test *t)
{
	for (uint32_t i = 0; i < N_CLIENTS; i++) {
		struct client_state *c = &t->state.clients[i];

		for (uint32_t k = 0; k < N_KEYS; k++) {
			struct key *key = &c->keys[k];

			if (key->value && !key->seen &&
			    !may_be(&c->busy, c->is_busy, k, key, NULL))
				return wrong(t, "c%u/%u is missing; acknowledged was %" PRId64
					     " of revision %" PRId64, i, k, key->value,
					     key->revision);
			key->seen = false;
		}
	}
	return true;
}

static int range(struct test *t, const Etcdserverpb__RangeRequest *request,
		 Etcdserverpb__RangeResponse **out)
{
	ProtobufCMessage *m;
	int code = member_call(&t->clients[0].conn, "/etcdserverpb.KV/Range", &request->base,
			       &etcdserverpb__range_response__descriptor, &m);

	*out = (Etcdserverpb__RangeResponse *)m;
	return m || code ? code : -1;
}

static void range_free(Etcdserverpb__RangeResponse *r)
{
	if (r)
		protobuf_c_message_free_unpacked(&r->base, NULL);
}

static bool keys_right(struct test *t)
{
	Etcdserverpb__RangeRequest all = ETCDSERVERPB__RANGE_REQUEST__INIT;
	Etcdserverpb__RangeResponse *r;
	bool right = true;
	int code;

	all.key = all.range_end = (ProtobufCBinaryData){ 1, (uint8_t *)"" };
	code = range(t, &all, &r);
	if (code)
		right = wrong(t, "reading all gives %d", code);
	else if (r->header->revision < t->state.revision)
		right = wrong(t, "the revision is %" PRId64 "; acknowledged was %" PRId64,
			      r->header->revision, t->state.revision);
	for (size_t i = 0; right && i < r->n_kvs; i++)
		right = key_right(t, r->kvs[i]);
	range_free(r);
	return right && none_missing(t);
}

/* The last puts as they were; nothing that may be compacted. */
static bool past_right(struct test *t)
{
	const struct client_state *compactor = &t->state.clients[N_CLIENTS];
	int64_t compacted = compactor->is_busy && compactor->busy.op == OP_COMPACT ?
			    compactor->busy.value : t->state.compacted;

	for (size_t i = 0; i < MIN(t->state.n_past, (size_t)N_PAST); i++) {
		const struct ask *a = &t->state.past[i];
		Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
		Etcdserverpb__RangeResponse *r;
		char name[32];
		bool right;

		if (a->revision < compacted)
			continue;
		request.key = name_of(a->client, a->slot, name);
		request.revision = a->revision;
		right = !range(t, &request, &r) && r->n_kvs == 1 && is_whole(r->kvs[0], a->value);
		range_free(r);
		if (!right)
			return wrong(t, "%s at revision %" PRId64 " is not as it was put", name,
				     a->revision);
	}
	return true;
}

static bool compaction_right(struct test *t)
{
	Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
	Etcdserverpb__RangeResponse *r;
	int code;

	if (t->state.compacted < 2)
		return true;
	request.key = (ProtobufCBinaryData){ 1, (uint8_t *)"c" };
	request.revision = t->state.compacted - 1;
	code = range(t, &request, &r);
	range_free(r);
	return code == GRPC_OUT_OF_RANGE ||
	       wrong(t, "a read below the compaction to %" PRId64 " gives %d",
		     t->state.compacted, code);
}

static bool has_lease(const Etcdserverpb__LeaseLeasesResponse *r, int64_t id)
{
	for (size_t i = 0; i < r->n_leases; i++)
		if (r->leases[i]->id == id)
			return true;
	return false;
}

static bool compare_leases(struct test *t, const Etcdserverpb__LeaseLeasesResponse *r)
{
	size_t n = 0;

	for (uint32_t i = 0; i < N_CLIENTS; i++) {
		const struct client_state *c = &t->state.clients[i];

		for (uint32_t k = 0; k < N_LEASES; k++) {
			bool unsure = c->is_busy && c->busy.slot == k &&
				      (c->busy.op == OP_GRANT || c->busy.op == OP_REVOKE);
			int64_t id = unsure ? c->busy.lease : c->leases[k];

			if (!id)
				continue;
			n += has_lease(r, id);
			if (!unsure && !has_lease(r, id))
				return wrong(t, "lease %" PRId64 " is missing", id);
		}
	}
	return n == r->n_leases || wrong(t, "there are %zu leases, not %zu", r->n_leases, n);
}

static bool leases_right(struct test *t)
{
	Etcdserverpb__LeaseLeasesRequest request = ETCDSERVERPB__LEASE_LEASES_REQUEST__INIT;
	ProtobufCMessage *m;
	int code = member_call(&t->clients[0].conn, "/etcdserverpb.Lease/LeaseLeases",
			       &request.base, &etcdserverpb__lease_leases_response__descriptor,
			       &m);
	bool right = !code && m ? compare_leases(t, (const void *)m) :
				  wrong(t, "asking for the leases gives %d", code);

	if (m)
		protobuf_c_message_free_unpacked(m, NULL);
	return right;
}

static bool takes_a_put(struct test *t)
{
	Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
	ProtobufCMessage *m;
	int code;

	put.key = put.value = (ProtobufCBinaryData){ 5, (uint8_t *)"after" };
	code = member_call(&t->clients[0].conn, methods[OP_PUT].path, &put.base,
			   methods[OP_PUT].answer, &m);
	if (m)
		protobuf_c_message_free_unpacked(m, NULL);
	return !code || wrong(t, "a put afterwards gives %d", code);
}

/* The last thing that the server said. */
static void quote_log(struct test *t)
{
	char text[8192] = "", *line;
	int fd = open(t->log, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	while (n > 0 && text[n - 1] == '\n')
		text[--n] = '\0';
	line = strrchr(text, '\n');
	wrong(t, "the server does not start: %s", line ? line + 1 : text);
	close(fd);
}

static bool right(struct cuts *cuts, char *why, size_t why_size)
{
	struct test *t = container_of(cuts, struct test, cuts);
	bool good;

	t->why = why;
	t->why_size = why_size;
	BUG_ON(member_start(&t->member));
	good = member_connect(&t->clients[0].conn);
	if (good)
		good = keys_right(t) && past_right(t) && compaction_right(t) &&
		       leases_right(t) && takes_a_put(t);
	else
		quote_log(t);
	member_kill(&t->member);
	member_disconnect(&t->clients[0].conn);
	return good;
}

int main(int argc, char **argv)
{
	static struct test t;
	unsigned long failed;

	if (argc < 6) {
		fprintf(stderr, "usage: kvd_power CUTS SEED URL DIR PROGRAM [ARGUMENT...]\n");
		return 2;
	}
	member_init(&t.member, argv[3], argv + 5);
	t.cuts = (struct cuts){
		.dir = argv[4], .random = strtoull(argv[2], NULL, 10), .mark = mark,
		.right = right,
	};
	snprintf(t.trace, sizeof(t.trace), "%s.trace", argv[4]);
	snprintf(t.log, sizeof(t.log), "%s.log", argv[4]);
	t.member.log = t.log;
	for (uint32_t i = 0; i <= N_CLIENTS; i++) {
		t.clients[i].test = &t;
		t.clients[i].number = i;
		t.clients[i].conn.member = &t.member;
	}
	BUG_ON(mkdir(argv[4], 0700));
	if (!record(&t)) {
		printf("0 passed, 1 failed\n");
		return 1;
	}
	t.state = (struct state){ 0 };
	BUG_ON(image_open(t.trace, &t.cuts.image));
	cuts_make(&t.cuts, strtoul(argv[1], NULL, 10));
	failed = cuts_end(&t.cuts);
	image_close(t.cuts.image);
	member_release(&t.member);
	unlink(t.trace);
	return failed != 0;
}
