// SPDX-License-Identifier: Apache-2.0
/*
 * What a history of requests makes, as simply as it can be said: every version of every
 * key in one array, searched from its end.
 */
#include <stdarg.h>
#include <stdio.h>

#include "kvd/crc32c.h"
#include "lib/proto/kv.pb-c.h"
#include "tests/sim/kvd_sim.h"

#define LEASE_TTL_MIN 2		/* seconds: an election timeout and a half, rounded up */

/* --- text ------------------------------------------------------------------------ */

void text_add(struct text *t, const char *format, ...)
{
	va_list args;
	int n;

	if (t->cap - t->len < 600) {
		t->cap = t->cap * 2 + 1200;
		t->data = sim_alloc(t->data, t->cap, 1);
	}
	va_start(args, format);
	n = vsnprintf(t->data + t->len, t->cap - t->len, format, args);
	va_end(args);
	BUG_ON(n < 0 || (size_t)n >= t->cap - t->len);
	t->len += (size_t)n;
}

void text_kv(struct text *t, const struct mvcc_kv *kv)
{
	size_t shown = 0;

	while (shown < kv->value.len && kv->value.data[shown] != ' ')
		shown++;
	text_add(t, " %.*s=%.*s(%d)@%d/%d/%d/%d", (int)kv->key.len, (const char *)kv->key.data,
		 (int)shown, (const char *)kv->value.data, (int)kv->value.len,
		 (int)kv->mod_revision, (int)kv->create_revision, (int)kv->version,
		 (int)kv->lease);
}

/* --- keys and values --------------------------------------------------------------- */

struct slice kvd_key(int key)
{
	static char names[KVD_KEYS + 1][4];

	BUG_ON(key < 0 || key > KVD_KEYS);
	snprintf(names[key], sizeof(names[key]), "k%02d", key);
	return slice_of(names[key], 3);
}

int kvd_key_number(struct slice key)
{
	for (int i = 0; i < KVD_KEYS; i++)
		if (slice_eq(kvd_key(i), key))
			return i;
	return -1;
}

/* Everything of it follows from its number; some are large. */
struct slice kvd_value(uint64_t id, char buf[KVD_VALUE_MAX])
{
	size_t n = (size_t)snprintf(buf, KVD_VALUE_MAX, "v%llu ", (unsigned long long)id);
	size_t len = n + (size_t)(id * 2654435761u % (id % 20 ? 60 : KVD_VALUE_MAX - 40));

	memset(buf + n, 'x', len - n);
	return slice_of(buf, len);
}

void model_kv(const struct kvd_version *v, char value[KVD_VALUE_MAX], struct mvcc_kv *out)
{
	*out = (struct mvcc_kv){ .key = kvd_key(v->key), .mod_revision = v->main };
	if (v->tombstone)
		return;
	out->value = kvd_value(v->value, value);
	out->create_revision = v->create;
	out->version = v->version;
	out->lease = v->lease;
}

/* --- looking --------------------------------------------------------------------- */

void model_reset(struct kvd_model *m)
{
	struct kvd_version *history = m->history;
	struct kvd_lease *leases = m->leases;
	size_t cap = m->cap, cap_leases = m->cap_leases;

	*m = (struct kvd_model){
		.revision = 1, .compacted = -1, .history = history, .cap = cap,
		.leases = leases, .cap_leases = cap_leases, .told = 1, .told_compacted = -1,
	};
	m->revision_at[0] = 1;
	m->compacted_at[0] = -1;
}

size_t model_after(const struct kvd_model *m, int64_t revision)
{
	size_t lo = 0, hi = m->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (m->history[mid].main <= revision)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

const struct kvd_version *model_find(const struct kvd_model *m, int key, int64_t revision)
{
	for (size_t i = model_after(m, revision); i-- > 0; )
		if (m->history[i].key == key)
			return &m->history[i];
	return NULL;
}

static const struct kvd_version *find_live(const struct kvd_model *m, int key, int64_t revision)
{
	const struct kvd_version *v = model_find(m, key, revision);

	return v && !v->tombstone ? v : NULL;
}

struct kvd_lease *model_lease(struct kvd_model *m, int64_t id)
{
	for (size_t i = 0; i < m->n_leases; i++)
		if (m->leases[i].id == id)
			return &m->leases[i];
	return NULL;
}

static void read_range(const struct kvd_model *m, const struct kvd_step *step, int64_t revision,
		       struct text *out)
{
	int64_t count = 0;
	char value[KVD_VALUE_MAX];
	struct mvcc_kv kv;

	for (int key = step->key; key < step->end; key++) {
		const struct kvd_version *v = find_live(m, key, revision);

		if (!v)
			continue;
		count++;
		if (step->count_only || (step->limit && count > step->limit))
			continue;
		model_kv(v, value, &kv);
		if (step->keys_only) {
			kv.value = SLICE_LIT("");
			kv.lease = 0;
		}
		text_kv(out, &kv);
	}
	text_add(out, " count %d more %d;", (int)count,
		 !step->count_only && step->limit && count > step->limit);
}

/* --- changing -------------------------------------------------------------------- */

static void add(struct kvd_model *m, const struct kvd_version *v)
{
	if (m->n == m->cap) {
		m->cap = m->cap * 2 + 1000;
		m->history = sim_alloc(m->history, m->cap, sizeof(*m->history));
	}
	m->history[m->n] = *v;
	m->history[m->n].main = m->revision + 1;
	m->history[m->n++].sub = m->sub++;
}

static void end(struct kvd_model *m)
{
	m->revision += m->sub != 0;
	m->sub = 0;
}

static void put(struct kvd_model *m, const struct kvd_step *step, struct text *out)
{
	const struct kvd_version *old = find_live(m, step->key, INT64_MAX);
	struct kvd_version v = { .key = step->key, .value = step->value, .lease = step->lease };
	char value[KVD_VALUE_MAX];
	struct mvcc_kv kv;

	v.create = old ? old->create : m->revision + 1;
	v.version = old ? old->version + 1 : 1;
	text_add(out, " put");
	if (old && step->prev) {
		model_kv(old, value, &kv);
		text_kv(out, &kv);
	}
	text_add(out, ";");
	add(m, &v);
}

static void delete_keys(struct kvd_model *m, const struct kvd_step *step, struct text *out)
{
	char value[KVD_VALUE_MAX];
	struct mvcc_kv kv;
	int n = 0;

	text_add(out, " delete");
	for (int key = step->key; key < step->end; key++) {
		const struct kvd_version *old = find_live(m, key, INT64_MAX);

		if (!old)
			continue;
		if (step->prev) {
			model_kv(old, value, &kv);
			text_kv(out, &kv);
		}
		add(m, &(struct kvd_version){ .key = key, .tombstone = true });
		n++;
	}
	text_add(out, " %d;", n);
}

/* What is asked of a lease that is not there changes nothing. */
static bool lacks_lease(struct kvd_model *m, const struct kvd_step *steps, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct kvd_lease *l = model_lease(m, steps[i].lease);

		if (steps[i].kind == KVD_PUT && steps[i].lease && !(l && l->live))
			return true;
	}
	return false;
}

static void carry_out(struct kvd_model *m, const struct kvd_step *steps, size_t n,
		      struct text *out)
{
	for (size_t i = 0; i < n; i++) {
		if (steps[i].kind == KVD_PUT)
			put(m, &steps[i], out);
		else if (steps[i].kind == KVD_DELETE)
			delete_keys(m, &steps[i], out);
		else
			read_range(m, &steps[i], INT64_MAX, out);
	}
}

static bool holds(const struct kvd_model *m, const struct kvd_compare *c, int64_t revision)
{
	const struct kvd_version *v = find_live(m, c->key, revision);
	int64_t have = 0;

	if (v && c->target == ETCDSERVERPB__COMPARE__COMPARE_TARGET__VERSION)
		have = v->version;
	else if (v && c->target == ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE)
		have = v->create;
	else if (v && c->target == ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD)
		have = v->main;
	switch (c->result) {
	case ETCDSERVERPB__COMPARE__COMPARE_RESULT__EQUAL:
		return have == c->operand;
	case ETCDSERVERPB__COMPARE__COMPARE_RESULT__GREATER:
		return have > c->operand;
	case ETCDSERVERPB__COMPARE__COMPARE_RESULT__LESS:
		return have < c->operand;
	default:
		return have != c->operand;
	}
}

static void change(struct kvd_model *m, const struct kvd_op *op, struct text *out)
{
	bool taken = true;
	const struct kvd_step *steps = op->steps;

	if (op->op == REQUEST_TXN) {
		taken = holds(m, &op->compare, INT64_MAX);
		steps += taken ? 0 : KVD_STEPS;
	}
	if (lacks_lease(m, steps, op->n_steps[!taken])) {
		text_add(out, "error %s", status_lease_not_found.text);
		return;
	}
	if (op->op == REQUEST_TXN)
		text_add(out, "succeeded %d", taken);
	carry_out(m, steps, op->n_steps[!taken], out);
	end(m);
	text_add(out, " at %d", (int)m->revision);
}

static void compact(struct kvd_model *m, const struct kvd_op *op, struct text *out)
{
	if (op->revision <= m->compacted) {
		text_add(out, "error %s", status_compacted.text);
	} else if (op->revision > m->revision) {
		text_add(out, "error %s", status_future_revision.text);
	} else {
		m->compacted = op->revision;
		text_add(out, " at %d", (int)m->revision);
	}
}

static void grant(struct kvd_model *m, const struct kvd_op *op, uint64_t index, struct text *out)
{
	struct kvd_lease *l = model_lease(m, op->lease);
	bool again = l != NULL;

	if (l && l->live) {
		text_add(out, "error %s", status_lease_exists.text);
		return;
	}
	if (!l) {
		if (m->n_leases == m->cap_leases) {
			m->cap_leases = m->cap_leases * 2 + 16;
			m->leases = sim_alloc(m->leases, m->cap_leases, sizeof(*m->leases));
		}
		l = &m->leases[m->n_leases++];
	}
	*l = (struct kvd_lease){
		.id = op->lease, .ttl = MAX(op->ttl, LEASE_TTL_MIN), .live = true,
		.again = again, .granted = index,
	};
	text_add(out, "lease %d for %d at %d", (int)l->id, (int)l->ttl, (int)m->revision);
}

static void end_lease(struct kvd_model *m, int64_t id, uint64_t index, struct text *out)
{
	struct kvd_lease *l = model_lease(m, id);

	if (!l || !l->live) {
		text_add(out, "error %s", status_lease_not_found.text);
		return;
	}
	l->live = false;
	l->revoked = index;
	for (int key = 0; key < KVD_KEYS; key++) {
		const struct kvd_version *v = find_live(m, key, INT64_MAX);

		if (v && v->lease == id)
			add(m, &(struct kvd_version){ .key = key, .tombstone = true });
	}
	end(m);
	text_add(out, " at %d", (int)m->revision);
}

/*
 * A lease that nobody asked to end has expired. By no member's clock may that be before
 * its time since it was last heard to begin anew.
 */
static void check_expiry(struct sim *s, const struct kvd_lease *l)
{
	uint64_t longest = 0;

	for (uint64_t id = 1; id <= s->profile.pool; id++)
		longest = MAX(longest, member_clock(s, &s->node[id]) - l->renewed[id]);
	s->count[SIM_KV_EXPIRED]++;
	sim_trace(s, "lease %d has expired", (int)l->id);
	if (longest < (uint64_t)l->ttl * 1000000000)
		sim_fail(s, "lease %d of %d s is revoked after %llu ms", (int)l->id, (int)l->ttl,
			 (unsigned long long)longest / 1000000);
}

/* What members propose by themselves. */
static void apply_own(struct sim *s, uint64_t index, const struct raft_entry *e)
{
	struct request *r = request_new(REQUEST_PUT);
	struct text t = { 0 };
	struct kvd_lease *l;
	int64_t id;

	BUG_ON(!r);
	if (request_decode(r, blob_slice(e->payload)))
		sim_fail(s, "entry %llu cannot be read", (unsigned long long)index);
	if (r->op == REQUEST_LEASE_REVOKE) {
		id = ((const Etcdserverpb__LeaseRevokeRequest *)(const void *)r->message)->id;
		l = model_lease(&kvd.model, id);
		/* As in etcd, the end of a lease that is long gone may come late, and meet
		 * another of the same id. */
		if (l && l->live && !l->again)
			check_expiry(s, l);
		end_lease(&kvd.model, id, index, &t);
	}
	free(t.data);
	request_free(r);
}

static void apply_op(struct kvd_model *m, uint64_t index, struct kvd_op *op, struct text *t)
{
	switch (op->op) {
	case REQUEST_PUT:
	case REQUEST_DELETE_RANGE:
	case REQUEST_TXN:
		change(m, op, t);
		return;
	case REQUEST_COMPACT:
		compact(m, op, t);
		return;
	case REQUEST_LEASE_GRANT:
		grant(m, op, index, t);
		return;
	case REQUEST_LEASE_REVOKE:
		end_lease(m, op->lease, index, t);
		return;
	default:
		BUG();
	}
}

void model_apply(struct sim *s, uint64_t index, const struct raft_entry *e, struct kvd_op *op)
{
	struct kvd_model *m = &kvd.model;
	struct text t = { 0 };

	BUG_ON(index != m->index + 1);
	m->index = index;
	if (op && op->index)
		sim_fail(s, "request %llx is entry %llu, and was %llu", (unsigned long long)op->id,
			 (unsigned long long)index, (unsigned long long)op->index);
	if (op) {
		op->index = index;
		apply_op(m, index, op, &t);
		op->expected = t.data;
		if (op->probe && !s->oracle.probe)
			s->oracle.probe = index;
	} else if (e->type == RAFT_ENTRY_NORMAL && e->payload && e->payload->len) {
		apply_own(s, index, e);
	}
	m->revision_at[index] = m->revision;
	m->compacted_at[index] = m->compacted;
}

/* --- reading --------------------------------------------------------------------- */

void model_read(const struct kvd_model *m, const struct kvd_op *op, int64_t revision,
		struct text *out)
{
	bool taken = op->op != REQUEST_TXN_READ || holds(m, &op->compare, revision);
	const struct kvd_step *steps = op->steps + (taken ? 0 : KVD_STEPS);

	if (op->op == REQUEST_TXN_READ)
		text_add(out, "succeeded %d", taken);
	for (size_t i = 0; i < op->n_steps[!taken]; i++)
		read_range(m, &steps[i], steps[i].revision ? steps[i].revision : revision, out);
	text_add(out, " at %d", (int)revision);
}

static uint32_t add_record(uint32_t crc, const struct kvd_version *v)
{
	Mvccpb__KeyValue record = MVCCPB__KEY_VALUE__INIT;
	struct slice key = kvd_key(v->key), value;
	char buf[KVD_VALUE_MAX];
	uint8_t rev[REV_KEY_MAX];
	struct blob *b;

	record.key = (ProtobufCBinaryData){ key.len, (uint8_t *)key.data };
	if (!v->tombstone) {
		value = kvd_value(v->value, buf);
		record.value = (ProtobufCBinaryData){ value.len, (uint8_t *)value.data };
		record.create_revision = v->create;
		record.mod_revision = v->main;
		record.version = v->version;
		record.lease = v->lease;
	}
	b = pb_pack_blob(&record.base);
	BUG_ON(!b);
	crc = crc32c(crc, slice_of(rev, rev_key_encode(rev, v->main, (uint32_t)v->sub |
						       (v->tombstone ? SUB_TOMBSTONE : 0))));
	crc = crc32c(crc, blob_slice(b));
	blob_put(b);
	return crc;
}

/* See libmvcc/hash.c: etcd's rules. */
uint32_t model_hash(const struct kvd_model *m, int64_t revision, int64_t compacted,
		    bool compaction)
{
	const struct kvd_version *kept[KVD_KEYS];
	uint32_t crc = crc32c(0, SLICE_LIT("key"));
	bool any = false;

	for (int key = 0; key < KVD_KEYS; key++) {
		const struct kvd_version *v = model_find(m, key, revision);

		any |= v && (!v->tombstone || (compaction && v->main == revision));
	}
	for (int key = 0; key < KVD_KEYS; key++)
		kept[key] = find_live(m, key, any ? revision : compacted);
	for (size_t i = 0; i < m->n && m->history[i].main <= revision; i++) {
		const struct kvd_version *v = &m->history[i];

		if (v->main > compacted || kept[v->key] == v)
			crc = add_record(crc, v);
	}
	return crc;
}
