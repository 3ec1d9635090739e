// SPDX-License-Identifier: Apache-2.0
/* The history: how it is made, and how it is carried out. See model.h. */
#include <errno.h>

#include "include/endian_bytes.h"
#include "libmvcc/mvcc_i.h"
#include "tests/fault/image.h"
#include "tests/fault/model.h"

#define CACHE_BYTES (64 << 10)
#define RING_EVENTS 32
#define BDB_CACHE_BYTES (256 << 10)
#define BDB_LOG_BYTES (64 << 10)
#define BDB_SEGMENT_BYTES (64 << 10)
#define RECLAIM_BYTES (8 << 10)

enum op_type { OP_BEGIN, OP_PUT, OP_DELETE, OP_END, OP_COMPACT, OP_SWEEP, OP_RECORD, OP_BATCH };

struct op {
	enum op_type type;
	int key, end;			/* of a deletion: up to and without it */
	int64_t number;			/* lease, revision, keys, or batch */
};

struct model {
	struct op *ops;
	size_t n_ops, cap_ops;
	struct version *versions;
	size_t n_versions, cap_versions;
	struct boundary *boundaries;	/* [0]: an empty store */
	size_t batches;

	/* while it is made */
	uint64_t random;
	struct version live[MODEL_KEYS];	/* main 0: the key is not there */
	int touched[MODEL_KEYS];		/* by which transaction */
	int txn;
	int64_t revision, compacted;
	uint32_t sub;
};

/* --- keys and values ------------------------------------------------------ */

/* In order of their numbers; some are long. */
struct slice model_key(int key, uint8_t buf[NAME_MAX_BYTES])
{
	size_t len = key % 7 == 3 ? NAME_MAX_BYTES : 12;

	memset(buf, 'x', len);
	buf[0] = 'k';
	buf[1] = (uint8_t)('0' + key / 10);
	buf[2] = (uint8_t)('0' + key % 10);
	return slice_of(buf, len);
}

/* Most are short, some are larger than a page, some are empty. */
struct slice model_value(const struct version *v, uint8_t buf[VALUE_MAX])
{
	uint64_t state = (uint64_t)v->main * 4096 + v->sub, pick = random_next(&state) % 100;
	size_t len = pick < 3 ? 0 : pick < 83 ? 1 + random_next(&state) % 400 :
		     pick < 95 ? 400 + random_next(&state) % 2600 :
				 5000 + random_next(&state) % (VALUE_MAX - 5000);

	for (size_t i = 0; i < len; i += 8) {
		uint64_t word = random_next(&state);

		memcpy(buf + i, &word, MIN(len - i, sizeof(word)));
	}
	return slice_of(buf, len);
}

/* --- making it ------------------------------------------------------------ */

static uint64_t pick(struct model *m, uint64_t below)
{
	return random_next(&m->random) % below;
}

static void op_add(struct model *m, struct op op)
{
	BUG_ON(vec_grow(&m->ops, &m->cap_ops, m->n_ops));
	m->ops[m->n_ops++] = op;
}

static void version_add(struct model *m, struct version v)
{
	v.main = m->revision + 1;
	v.sub = m->sub++;
	BUG_ON(vec_grow(&m->versions, &m->cap_versions, m->n_versions));
	m->versions[m->n_versions++] = v;
	m->touched[v.key] = m->txn;
	m->live[v.key] = v.tombstone ? (struct version){ 0 } : v;
}

static void make_put(struct model *m)
{
	int key = (int)pick(m, pick(m, 3) ? MODEL_KEYS / 4 : MODEL_KEYS);
	const struct version *old = &m->live[key];
	struct version v = { .key = key, .lease = pick(m, 8) ? 0 : (int64_t)pick(m, 1 << 20) };

	if (m->touched[key] == m->txn)
		return;
	v.create = old->main ? old->create : m->revision + 1;
	v.version = old->main ? old->version + 1 : 1;
	version_add(m, v);
	op_add(m, (struct op){ .type = OP_PUT, .key = key, .number = v.lease });
}

static void make_delete(struct model *m)
{
	int from = (int)pick(m, MODEL_KEYS);
	int end = pick(m, 4) ? from + 1 : MIN(MODEL_KEYS, from + 1 + (int)pick(m, 5));

	for (int key = from; key < end; key++)
		if (m->touched[key] == m->txn)
			return;
	op_add(m, (struct op){ .type = OP_DELETE, .key = from, .end = end });
	for (int key = from; key < end; key++)
		if (m->live[key].main)
			version_add(m, (struct version){ .key = key, .tombstone = true });
}

static void make_txn(struct model *m)
{
	m->txn++;
	m->sub = 0;
	op_add(m, (struct op){ .type = OP_BEGIN });
	for (uint64_t n = 1 + pick(m, 6); n; n--) {
		if (pick(m, 5))
			make_put(m);
		else
			make_delete(m);
	}
	op_add(m, (struct op){ .type = OP_END });
	m->revision += m->sub != 0;
}

static void make_batch(struct model *m, size_t batch)
{
	struct boundary *b = &m->boundaries[batch];

	for (uint64_t n = 1 + pick(m, 8); n; n--)
		make_txn(m);
	if (!pick(m, 6) && m->revision > m->compacted + 1) {
		m->compacted += 1 + (int64_t)pick(m, (uint64_t)(m->revision - m->compacted));
		op_add(m, (struct op){ .type = OP_COMPACT, .number = m->compacted });
	}
	if (pick(m, 3))
		op_add(m, (struct op){ .type = OP_SWEEP, .number = 1 + (int64_t)pick(m, 30) });
	for (uint64_t n = pick(m, 4); n; n--)
		op_add(m, (struct op){
			.type = OP_RECORD, .key = (int)pick(m, 20),
			.number = (int64_t)pick(m, 500),
		});
	b->sync = !pick(m, 3) || batch == m->batches;
	op_add(m, (struct op){ .type = OP_BATCH, .number = (int64_t)batch });
	b->revision = m->revision;
	b->compacted = m->compacted;
	b->versions = m->n_versions;
	b->ops = m->n_ops;
}

static int note_digest(struct session *s, size_t batch)
{
	return backend_digest(s->backend, &s->model->boundaries[batch].digest);
}

struct model *model_new(uint64_t seed, size_t batches)
{
	struct session s = { .trace = -1, .after_batch = note_digest };
	struct model *m = calloc(1, sizeof(*m));

	BUG_ON(!m);
	m->random = seed;
	m->batches = batches;
	m->revision = 1;
	m->compacted = -1;
	m->boundaries = calloc(batches + 1, sizeof(*m->boundaries));
	BUG_ON(!m->boundaries);
	m->boundaries[0] = (struct boundary){
		.revision = 1, .compacted = -1, .digest = DIGEST_EMPTY,
	};
	for (size_t i = 1; i <= batches; i++)
		make_batch(m, i);
	BUG_ON(session_open(&s, m, NULL));
	BUG_ON(model_run(&s, 0, batches));
	session_close(&s);
	return m;
}

void model_free(struct model *m)
{
	free(m->ops);
	free(m->versions);
	free(m->boundaries);
	free(m);
}

size_t model_batches(const struct model *m)
{
	return m->batches;
}

const struct boundary *model_boundary(const struct model *m, size_t batch)
{
	return &m->boundaries[batch];
}

const struct version *model_versions(const struct model *m)
{
	return m->versions;
}

/* --- carrying it out ------------------------------------------------------ */

static int open_again(struct session *s, const char *dir)
{
	const struct mvcc_args args = { .cache_bytes = CACHE_BYTES, .ring_events = RING_EVENTS };
	const struct mvcc_bdb_args bdb = {
		.dir = dir, .cache_bytes = BDB_CACHE_BYTES, .log_bytes = BDB_LOG_BYTES,
		.segment_bytes = BDB_SEGMENT_BYTES,
	};
	struct progress unseen, *p = s->progress ? s->progress : &unseen;
	int r;

	p->what = "opening";
	p->why[0] = '\0';
	if (s->backend)
		r = 0;
	else if (dir)
		r = mvcc_bdb_open(&bdb, &s->backend, p->why, sizeof(p->why));
	else
		r = mvcc_mem_open(&s->backend);
	if (!r)
		r = mvcc_open(s->backend, &args, &s->store, p->why, sizeof(p->why));
	p->error = r;
	return r;
}

int session_open(struct session *s, const struct model *model, const char *dir)
{
	s->model = model;
	s->backend = NULL;
	s->store = NULL;
	return open_again(s, dir);
}

int session_reopen(struct session *s, const char *dir)
{
	mvcc_free(s->store);
	s->store = NULL;
	if (dir) {
		mvcc_backend_close(s->backend);
		s->backend = NULL;
	}
	return open_again(s, dir);
}

void session_close(struct session *s)
{
	mvcc_free(s->store);
	mvcc_backend_close(s->backend);
	s->store = NULL;
	s->backend = NULL;
}

bool session_compacts(const struct session *s)
{
	return s->store->compaction.running;
}

size_t session_batch(const struct session *s)
{
	struct slice v = mvcc_record_get(s->store, "meta", SLICE_LIT("batch"));

	return v.len == 8 ? get_be64(v.data) : 0;
}

static int run_put(struct session *s, const struct op *op)
{
	uint8_t name[NAME_MAX_BYTES], value[VALUE_MAX];
	const struct version v = {
		.main = mvcc_revision(s->store) + 1, .sub = s->store->txn.sub,
	};
	const struct mvcc_put put = {
		model_key(op->key, name), model_value(&v, value), op->number,
	};

	return mvcc_put(s->store, &put);
}

static int run_delete(struct session *s, const struct op *op)
{
	uint8_t from[NAME_MAX_BYTES], end[NAME_MAX_BYTES];
	struct mvcc_key_range range = { .key = model_key(op->key, from) };
	struct mvcc_result out;
	int r;

	/* a range as wide as one key ends before the next one begins */
	if (op->end > op->key + 1)
		range.end = slice_of(model_key(op->end - 1, end).data, 4);
	if (range.end.len)
		end[3] = 'y';
	mvcc_result_init(&out);
	r = mvcc_delete_range(s->store, range, &out);
	mvcc_result_release(&out);
	return r;
}

static int run_record(struct session *s, const struct op *op)
{
	uint8_t bytes[500];
	struct slice key = slice_of(&op->key, sizeof(op->key));

	if (op->number < 100)
		return mvcc_record_delete(s->store, "lease", key);
	memset(bytes, op->key, sizeof(bytes));
	return mvcc_record_put(s->store, "lease", key, slice_of(bytes, (size_t)op->number));
}

static void mark(struct session *s, size_t *at, size_t batch, char what)
{
	struct { char what[8]; uint64_t batch; } bytes = { { what }, batch };

	if (s->progress)
		*at = batch;
	if (s->trace >= 0)
		trace_mark(s->trace, &bytes, sizeof(bytes));
}

static int run_batch(struct session *s, size_t number)
{
	struct progress unseen, *p = s->progress ? s->progress : &unseen;
	struct mvcc_batch *batch;
	uint8_t bytes[8];
	int r;

	put_be64(bytes, number);
	r = mvcc_record_put(s->store, "meta", SLICE_LIT("batch"), slice_of(bytes, 8));
	if (r)
		return r;
	batch = mvcc_batch_take(s->store);
	if (!batch)
		return -ENOMEM;
	mark(s, &p->started, number, 'b');
	r = mvcc_backend_write(s->backend, batch);
	if (r)
		return r;
	mark(s, &p->written, number, 'w');
	if (s->model->boundaries[number].sync && (r = mvcc_backend_sync(s->backend)))
		return r;
	if (s->model->boundaries[number].sync)
		mark(s, &p->synced, number, 's');
	mvcc_batch_done(s->store, batch);
	mvcc_trim(s->store, number % 16);
	for (size_t i = 0; i < number % 8 && r >= 0; i++)
		r = mvcc_backend_reclaim(s->backend, RECLAIM_BYTES);
	if (r < 0)
		return r;
	return s->after_batch ? s->after_batch(s, number) : 0;
}

static int run_op(struct session *s, const struct op *op)
{
	switch (op->type) {
	case OP_BEGIN:
		mvcc_begin(s->store);
		return 0;
	case OP_PUT:
		return run_put(s, op);
	case OP_DELETE:
		return run_delete(s, op);
	case OP_END:
		mvcc_end(s->store);
		return 0;
	case OP_COMPACT:
		return mvcc_compact(s->store, op->number);
	case OP_SWEEP:
		return MIN(mvcc_compact_step(s->store, (size_t)op->number), 0);
	case OP_RECORD:
		return run_record(s, op);
	default:
		return run_batch(s, (size_t)op->number);
	}
}

int model_run(struct session *s, size_t from, size_t to)
{
	static const char *const names[] = {
		"begin", "put", "delete", "end", "compact", "sweep", "record", "batch",
	};
	const struct model *m = s->model;
	int r = 0;

	for (size_t i = m->boundaries[from].ops; i < m->boundaries[to].ops && !r; i++) {
		if (s->progress)
			s->progress->what = names[m->ops[i].type];
		r = run_op(s, &m->ops[i]);
		if (!r || !s->progress)
			continue;
		s->progress->error = r;
		if (s->backend)
			snprintf(s->progress->why, sizeof(s->progress->why), "%s",
				 mvcc_backend_why(s->backend));
	}
	return r;
}
