// SPDX-License-Identifier: Apache-2.0
/*
 * What clients ask kvd for, drawn from the seed, and the proof of every answer: a change
 * was carried out once, at one place of the log, with the model's result; a read is of a
 * state no older than what anybody had been told when it was asked.
 */
#include <stdio.h>

#include "lib/proto/rpc.pb-c.h"
#include "tests/sim/kvd_sim.h"

#define COMPARE(what) ETCDSERVERPB__COMPARE__COMPARE_##what

/* --- the requests' messages ------------------------------------------------------ */

static ProtobufCBinaryData bin(struct slice s)
{
	return (ProtobufCBinaryData){ s.len, (uint8_t *)s.data };
}

/* Room for one operation's message. */
union step_message {
	Etcdserverpb__PutRequest put;
	Etcdserverpb__DeleteRangeRequest delete;
	Etcdserverpb__RangeRequest range;
};

static const ProtobufCMessage *step_message(const struct kvd_step *step, union step_message *m,
					    char value[KVD_VALUE_MAX])
{
	struct slice end = step->end > step->key + 1 ? kvd_key(step->end) : SLICE_LIT("");

	switch (step->kind) {
	case KVD_PUT:
		etcdserverpb__put_request__init(&m->put);
		m->put.key = bin(kvd_key(step->key));
		m->put.value = bin(kvd_value(step->value, value));
		m->put.lease = step->lease;
		m->put.prev_kv = step->prev;
		return &m->put.base;
	case KVD_DELETE:
		etcdserverpb__delete_range_request__init(&m->delete);
		m->delete.key = bin(kvd_key(step->key));
		m->delete.range_end = bin(end);
		m->delete.prev_kv = step->prev;
		return &m->delete.base;
	case KVD_RANGE:
		etcdserverpb__range_request__init(&m->range);
		m->range.key = bin(kvd_key(step->key));
		m->range.range_end = bin(end);
		m->range.limit = step->limit;
		m->range.revision = step->revision;
		m->range.keys_only = step->keys_only;
		m->range.count_only = step->count_only;
		return &m->range.base;
	}
	BUG();
}

struct txn_room {
	Etcdserverpb__TxnRequest txn;
	Etcdserverpb__Compare compare, *compares[1];
	Etcdserverpb__RequestOp ops[2 * KVD_STEPS], *branches[2 * KVD_STEPS];
	union step_message messages[2 * KVD_STEPS];
	char values[2 * KVD_STEPS][KVD_VALUE_MAX];
};

static void fill_op(Etcdserverpb__RequestOp *to, const struct kvd_step *step,
		    union step_message *m, char value[KVD_VALUE_MAX])
{
	etcdserverpb__request_op__init(to);
	step_message(step, m, value);
	if (step->kind == KVD_PUT) {
		to->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
		to->request_put = &m->put;
	} else if (step->kind == KVD_DELETE) {
		to->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
		to->request_delete_range = &m->delete;
	} else {
		to->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
		to->request_range = &m->range;
	}
}

static void fill_compare(Etcdserverpb__Compare *to, const struct kvd_compare *c)
{
	etcdserverpb__compare__init(to);
	to->key = bin(kvd_key(c->key));
	to->target = (Etcdserverpb__Compare__CompareTarget)c->target;
	to->result = (Etcdserverpb__Compare__CompareResult)c->result;
	if (c->target == COMPARE(TARGET__VERSION)) {
		to->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_VERSION;
		to->version = c->operand;
	} else if (c->target == COMPARE(TARGET__CREATE)) {
		to->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION;
		to->create_revision = c->operand;
	} else {
		to->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION;
		to->mod_revision = c->operand;
	}
}

static const ProtobufCMessage *txn_message(const struct kvd_op *op, struct txn_room *room)
{
	etcdserverpb__txn_request__init(&room->txn);
	fill_compare(&room->compare, &op->compare);
	room->compares[0] = &room->compare;
	room->txn.compare = room->compares;
	room->txn.n_compare = 1;
	for (size_t i = 0; i < 2 * KVD_STEPS; i++) {
		fill_op(&room->ops[i], &op->steps[i], &room->messages[i], room->values[i]);
		room->branches[i] = &room->ops[i];
	}
	room->txn.success = room->branches;
	room->txn.n_success = op->n_steps[0];
	room->txn.failure = room->branches + KVD_STEPS;
	room->txn.n_failure = op->n_steps[1];
	return &room->txn.base;
}

static struct blob *body_of(const struct kvd_op *op)
{
	Etcdserverpb__CompactionRequest compact = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
	Etcdserverpb__LeaseGrantRequest grant = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
	Etcdserverpb__LeaseRevokeRequest revoke = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
	struct txn_room room;

	compact.revision = op->revision;
	compact.physical = op->physical;
	grant.id = revoke.id = op->lease;
	grant.ttl = op->ttl;
	switch (op->op) {
	case REQUEST_PUT:
	case REQUEST_DELETE_RANGE:
	case REQUEST_RANGE:
		return pb_pack_blob(step_message(op->steps, room.messages, room.values[0]));
	case REQUEST_TXN:
	case REQUEST_TXN_READ:
		return pb_pack_blob(txn_message(op, &room));
	case REQUEST_COMPACT:
		return pb_pack_blob(&compact.base);
	case REQUEST_LEASE_GRANT:
		return pb_pack_blob(&grant.base);
	case REQUEST_LEASE_REVOKE:
		return pb_pack_blob(&revoke.base);
	default:
		return blob_new(0);
	}
}

static const ProtobufCMessageDescriptor *type_of(enum request_op op)
{
	switch (op) {
	case REQUEST_PUT:
		return &etcdserverpb__put_request__descriptor;
	case REQUEST_DELETE_RANGE:
		return &etcdserverpb__delete_range_request__descriptor;
	case REQUEST_RANGE:
		return &etcdserverpb__range_request__descriptor;
	case REQUEST_TXN:
	case REQUEST_TXN_READ:
		return &etcdserverpb__txn_request__descriptor;
	case REQUEST_COMPACT:
		return &etcdserverpb__compaction_request__descriptor;
	case REQUEST_LEASE_GRANT:
		return &etcdserverpb__lease_grant_request__descriptor;
	case REQUEST_LEASE_REVOKE:
		return &etcdserverpb__lease_revoke_request__descriptor;
	default:
		return NULL;
	}
}

/* --- asking ------------------------------------------------------------------------ */

struct kvd_op *client_find(uint64_t id)
{
	for (struct kvd_op *op = kvd.asked; op; op = op->next)
		if (op->id == id)
			return op;
	return NULL;
}

void client_release(void)
{
	while (kvd.asked) {
		struct kvd_op *op = kvd.asked;

		kvd.asked = op->next;
		free(op->expected);
		free(op);
	}
}

struct kvd_op *client_op(struct sim *s, enum request_op kind)
{
	struct kvd_op *op = sim_alloc(NULL, 1, sizeof(*op));

	*op = (struct kvd_op){ .sim = s, .op = kind, .n_steps = { 1, 0 } };
	return op;
}

/* What came back is compared when the turn is over: the model learns of it then. */
static void done(struct request *r)
{
	struct kvd_op *op = r->owner;

	BUG_ON(op->answer);
	op->answer = r;
	op->next_answer = NULL;
	*(kvd.answers ? &kvd.last_answer->next_answer : &kvd.answers) = op;
	kvd.last_answer = op;
}

void client_ask(struct sim *s, struct sim_node *n, struct kvd_op *op)
{
	struct request *r = request_new(op->op);
	struct blob *body = body_of(op);
	const ProtobufCMessageDescriptor *type = type_of(op->op);
	ProtobufCMessage *message = NULL;

	BUG_ON(!r || !body);
	BUG_ON(type && pb_unpack(type, blob_slice(body), &r->arena, &message));
	r->message = message;
	r->owner = op;
	r->done = done;
	r->serializable = op->serializable;
	r->physical = op->physical;
	r->lease_id = op->lease;
	r->hash.revision = op->revision;
	op->node = n->id;
	for (uint64_t id = 1; id <= s->profile.pool; id++)
		op->clocks[id] = member_clock(s, &s->node[id]);
	/* A hash is of what the member has, too. */
	op->serializable |= op->op == REQUEST_HASH_KV;
	op->floor = op->serializable ? 0 : kvd.model.told;
	op->floor_compacted = op->serializable ? -1 : kvd.model.told_compacted;
	op->floor_index = op->serializable ? 0 : kvd.model.told_index;
	op->next = kvd.asked;
	kvd.asked = op;
	if (!request_is_read(op->op)) {
		op->id = r->id = core_request_id(member_of(n)->core);
		BUG_ON(request_encode(r, blob_slice(body)));
	}
	blob_put(body);
	core_submit(member_of(n)->core, r);
	sim_wake(s, n);
}

/* --- comparing --------------------------------------------------------------------- */

static void show_kvs(struct text *t, const struct mvcc_result *kvs)
{
	struct mvcc_kv kv;

	for (size_t i = 0; i < kvs->n; i++) {
		BUG_ON(mvcc_kv_decode(blob_slice(kvs->kvs[i]), &kv));
		text_kv(t, &kv);
	}
}

static void show_result(struct text *t, const struct op_result *r)
{
	struct mvcc_kv kv;

	switch (r->op) {
	case REQUEST_PUT:
		text_add(t, " put");
		if (r->prev) {
			BUG_ON(mvcc_kv_decode(blob_slice(r->prev), &kv));
			text_kv(t, &kv);
		}
		text_add(t, ";");
		return;
	case REQUEST_DELETE_RANGE:
		text_add(t, " delete");
		show_kvs(t, &r->kvs);
		text_add(t, " %d;", (int)r->deleted);
		return;
	case REQUEST_RANGE:
		show_kvs(t, &r->kvs);
		text_add(t, " count %d more %d;", (int)r->kvs.count, r->kvs.more);
		return;
	default:
		text_add(t, "succeeded %d", r->succeeded);
		for (size_t i = 0; i < r->n_ops; i++)
			show_result(t, &r->ops[i]);
	}
}

static void show_answer(struct text *t, const struct request *r)
{
	if (r->error) {
		text_add(t, "error %s", r->error->text);
		return;
	}
	if (r->op == REQUEST_LEASE_GRANT)
		text_add(t, "lease %d for %d", (int)r->lease_id, (int)r->lease_ttl);
	else if (r->op != REQUEST_COMPACT && r->op != REQUEST_LEASE_REVOKE)
		show_result(t, &r->result);
	text_add(t, " at %d", (int)r->result.revision);
}

/* From now on nobody may be told of anything older. */
static void tell(uint64_t index)
{
	struct kvd_model *m = &kvd.model;

	m->told_index = MAX(m->told_index, index);
	m->told = MAX(m->told, m->revision_at[index]);
	m->told_compacted = MAX(m->told_compacted, m->compacted_at[index]);
}

/* Whoever is told of a lease may count on its whole time, from when it asked. */
static void renewed(struct kvd_lease *l, const struct kvd_op *op)
{
	for (uint64_t id = 1; id < SIM_NODES; id++)
		l->renewed[id] = MAX(l->renewed[id], op->clocks[id]);
}

static void compare_change(struct sim *s, struct kvd_op *op, const struct text *have)
{
	if (!op->index)
		sim_fail(s, "%d answers what is not in its log: %s", (int)op->node, have->data);
	if (op->index <= op->floor_index)
		sim_fail(s, "%d carries out at %llu what was asked after %llu", (int)op->node,
			 (unsigned long long)op->index, (unsigned long long)op->floor_index);
	if (strcmp(have->data, op->expected))
		sim_fail(s, "%d answers \"%s\", and should \"%s\"", (int)op->node, have->data,
			 op->expected);
	s->count[op->answer->error ? SIM_KV_REFUSED : SIM_KV_WRITE]++;
	tell(op->index);
	if (op->op == REQUEST_COMPACT && !op->answer->error)
		s->count[SIM_KV_COMPACT]++;
	if (op->op == REQUEST_LEASE_GRANT && !op->answer->error)
		renewed(model_lease(&kvd.model, op->lease), op);
}

/* A read of an old revision, which must not be compacted in any state that it may be of. */
static void compare_refused_read(struct sim *s, struct kvd_op *op, const struct text *have)
{
	const struct kvd_model *m = &kvd.model;
	int64_t revision = op->steps[0].revision;
	bool compacted = op->answer->error == &status_compacted && revision < m->compacted;
	bool future = op->answer->error == &status_future_revision && revision > op->floor;

	if (op->op == REQUEST_HASH_KV) {
		revision = op->revision;
		compacted = op->answer->error == &status_compacted && revision < m->compacted;
		future = op->answer->error == &status_future_revision && revision > op->floor;
	}
	if (!compacted && !future)
		sim_fail(s, "%d refuses a read at %d: %s", (int)op->node, (int)revision,
			 have->data);
	s->count[SIM_KV_REFUSED]++;
}

static void compare_read(struct sim *s, struct kvd_op *op, const struct text *have)
{
	const struct kvd_model *m = &kvd.model;
	int64_t revision = op->answer->result.revision, asked = op->steps[0].revision;
	struct text want = { 0 };

	if (op->answer->error) {
		compare_refused_read(s, op, have);
		return;
	}
	if (revision < op->floor || revision > m->revision)
		sim_fail(s, "%d reads at revision %d, which should be within %d and %d",
			 (int)op->node, (int)revision, (int)op->floor, (int)m->revision);
	if (asked && asked < op->floor_compacted)
		sim_fail(s, "%d reads at %d, which is compacted", (int)op->node, (int)asked);
	model_read(m, op, revision, &want);
	if (strcmp(have->data, want.data))
		sim_fail(s, "%d reads \"%s\", and should \"%s\"", (int)op->node, have->data,
			 want.data);
	free(want.data);
	s->count[SIM_KV_READ]++;
	if (!op->serializable)
		kvd.model.told = MAX(m->told, revision);
	if (op->read)
		s->oracle.reads[op->read - 1].answered = true;
}

static void compare_renewal(struct sim *s, struct kvd_op *op)
{
	struct kvd_lease *l = model_lease(&kvd.model, op->lease);
	bool was = l && l->granted && l->granted <= op->floor_index;
	bool gone = l && l->revoked && l->revoked <= op->floor_index && !l->live;

	if (!op->answer->lease_ttl) {
		if (was && l->live)
			sim_fail(s, "%d does not renew lease %d", (int)op->node, (int)op->lease);
		return;
	}
	if (!l || gone)
		sim_fail(s, "%d renews lease %d, which is none", (int)op->node, (int)op->lease);
	s->count[SIM_KV_RENEWED]++;
	if (op->op == REQUEST_LEASE_RENEW)
		renewed(l, op);
}

static void compare_hash(struct sim *s, struct kvd_op *op, const struct text *have)
{
	const struct hash_answer *a = &op->answer->hash;
	uint32_t plain, compaction;

	if (op->answer->error) {
		compare_refused_read(s, op, have);
		return;
	}
	plain = model_hash(&kvd.model, a->revision, a->compact_revision, false);
	compaction = model_hash(&kvd.model, a->revision, a->compact_revision, true);
	s->count[SIM_KV_HASH]++;
	if (a->hash != plain && a->hash != compaction)
		sim_fail(s, "%d hashes revision %d compacted at %d to %08x, and should to %08x",
			 (int)op->node, (int)a->revision, (int)a->compact_revision, a->hash,
			 plain);
}

/* Whether it went through is not said. */
static bool is_unknown(const struct status *e)
{
	return e == &status_timeout || e == &status_stopped || e == &status_no_leader ||
	       e == &status_too_many_requests;
}

static void compare(struct sim *s, struct kvd_op *op)
{
	struct text have = { 0 };

	if (is_unknown(op->answer->error)) {
		s->count[SIM_KV_UNKNOWN]++;
		return;
	}
	show_answer(&have, op->answer);
	sim_trace(s, "%d answers%s%.100s", (int)op->node, op->probe ? " the probe" : ": ",
		  have.data);
	for (size_t i = 0; i < have.len; i++)
		sim_mix(s, (uint8_t)have.data[i]);
	if (!request_is_read(op->op))
		compare_change(s, op, &have);
	else if (op->op == REQUEST_RANGE || op->op == REQUEST_TXN_READ)
		compare_read(s, op, &have);
	else if (op->op == REQUEST_LEASE_RENEW)
		compare_renewal(s, op);
	else if (op->op == REQUEST_HASH_KV)
		compare_hash(s, op, &have);
	free(have.data);
}

void client_compare(struct sim *s)
{
	while (kvd.answers) {
		struct kvd_op *op = kvd.answers;

		kvd.answers = op->next_answer;
		compare(s, op);
		request_free(op->answer);
		op->answer = NULL;
	}
}

/* --- what they ask for -------------------------------------------------------------- */

/* One of the last few. */
static int64_t draw_lease(struct sim *s)
{
	return kvd.next_lease - (int64_t)sim_draw(s, MIN(kvd.next_lease, KVD_LEASES));
}

static int64_t draw_revision(struct sim *s)
{
	return sim_draw(s, 3) ? 0 : 1 + (int64_t)sim_draw(s, (uint64_t)kvd.model.revision + 2);
}

static void draw_step(struct sim *s, struct kvd_step *step, enum kvd_step_kind kind)
{
	*step = (struct kvd_step){ .kind = kind, .key = (int)sim_draw(s, KVD_KEYS) };
	step->end = step->key + 1;
	if (kind == KVD_PUT) {
		step->value = kvd.next_value++;
		step->lease = sim_draw(s, 4) ? 0 : draw_lease(s);
	} else if (sim_draw(s, 2)) {
		step->end += (int)sim_draw(s, (uint64_t)(KVD_KEYS - step->key));
	}
	step->prev = sim_draw(s, 2);
	if (kind != KVD_RANGE)
		return;
	step->limit = sim_draw(s, 3) ? 0 : (int64_t)sim_draw(s, KVD_KEYS);
	step->keys_only = !sim_draw(s, 5);
	step->count_only = !sim_draw(s, 8);
}

static void draw_compare(struct sim *s, struct kvd_compare *c)
{
	static const int targets[] = {
		COMPARE(TARGET__VERSION), COMPARE(TARGET__CREATE), COMPARE(TARGET__MOD),
	};

	c->key = (int)sim_draw(s, KVD_KEYS);
	c->target = targets[sim_draw(s, ARRAY_SIZE(targets))];
	c->result = (int)sim_draw(s, 4);
	c->operand = (int64_t)sim_draw(s, c->target == COMPARE(TARGET__VERSION) ? 4 :
				       (uint64_t)kvd.model.revision + 2);
}

/* No two operations of a branch are about the same key: what etcd refuses is no test. */
static void draw_txn(struct sim *s, struct kvd_op *op)
{
	int key = (int)sim_draw(s, KVD_KEYS);

	draw_compare(s, &op->compare);
	for (size_t branch = 0; branch < 2; branch++) {
		op->n_steps[branch] = sim_draw(s, KVD_STEPS + 1);
		for (size_t i = 0; i < KVD_STEPS; i++) {
			struct kvd_step *step = &op->steps[branch * KVD_STEPS + i];
			bool reads = op->op == REQUEST_TXN_READ;

			draw_step(s, step, reads ? KVD_RANGE : (enum kvd_step_kind)sim_draw(s, 3));
			if (step->kind == KVD_RANGE)
				continue;
			step->key = (key + (int)i) % KVD_KEYS;
			step->end = step->key + 1;
		}
	}
}

static struct kvd_op *draw_op(struct sim *s)
{
	static const enum request_op kinds[] = {
		REQUEST_PUT, REQUEST_PUT, REQUEST_PUT, REQUEST_PUT, REQUEST_PUT, REQUEST_PUT,
		REQUEST_DELETE_RANGE, REQUEST_TXN, REQUEST_TXN, REQUEST_TXN, REQUEST_COMPACT,
		REQUEST_LEASE_GRANT, REQUEST_LEASE_REVOKE, REQUEST_LEASE_RENEW,
		REQUEST_RANGE, REQUEST_RANGE, REQUEST_RANGE, REQUEST_TXN_READ, REQUEST_HASH_KV,
	};
	struct kvd_op *op = client_op(s, kinds[sim_draw(s, ARRAY_SIZE(kinds))]);

	op->serializable = (op->op == REQUEST_RANGE || op->op == REQUEST_TXN_READ) &&
			   !sim_draw(s, 3);
	kvd.next_lease += op->op == REQUEST_LEASE_GRANT && sim_draw(s, 4);
	op->lease = draw_lease(s);
	op->ttl = 1 + (int64_t)sim_draw(s, 8);
	op->physical = sim_draw(s, 2);
	if (op->op == REQUEST_COMPACT)
		op->revision = 1 + (int64_t)sim_draw(s, (uint64_t)kvd.model.revision + 2);
	else
		op->revision = op->op == REQUEST_HASH_KV ? draw_revision(s) : 0;
	if (op->op == REQUEST_TXN || op->op == REQUEST_TXN_READ)
		draw_txn(s, op);
	else
		draw_step(s, op->steps, op->op == REQUEST_PUT ? KVD_PUT :
			  op->op == REQUEST_DELETE_RANGE ? KVD_DELETE : KVD_RANGE);
	if (op->op == REQUEST_RANGE)
		op->steps[0].revision = draw_revision(s);
	return op;
}

void client_turn(struct sim *s)
{
	struct sim_node *n = sim_draw(s, 2) ? chaos_leader(s) : chaos_draw_up(s);
	uint64_t burst = sim_draw(s, 3) ? 1 : 1 + sim_draw(s, 8);

	if (s->calm)
		return;
	for (; n && n->paused_until <= s->now && burst; burst--)
		client_ask(s, n, draw_op(s));
	sim_at(s, 1 + sim_draw(s, s->profile.client_every),
	       &(struct sim_event){ .kind = SIM_EV_CLIENT });
}

bool client_propose(struct sim *s, struct sim_node *n, uint64_t value)
{
	struct kvd_op *op = client_op(s, REQUEST_PUT);

	draw_step(s, op->steps, KVD_PUT);
	op->steps[0].lease = 0;
	op->probe = true;
	client_ask(s, n, op);
	return true;
}

uint64_t client_read(struct sim *s, struct sim_node *n)
{
	struct kvd_op *op = client_op(s, REQUEST_RANGE);

	draw_step(s, op->steps, KVD_RANGE);
	op->read = check_read_asked(s, n);
	client_ask(s, n, op);
	return op->read;
}
