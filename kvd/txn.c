// SPDX-License-Identifier: Apache-2.0

/*
 * Transactions.
 *
 * 1. Every compare, nested ones too, is evaluated on the state before the
 *    transaction; that fixes the path, the branches that are taken.
 * 2. Every operation on the path is checked, still on that state, and every value
 *    that will be read is made sure to be in memory. Up to here nothing has changed,
 *    so an error or MVCC_COLD leaves no trace.
 * 3. The operations are carried out, in order. This cannot fail but for memory.
 *
 * The nesting is bounded by the budget of operations (validate.c), and with it the
 * recursion here.
 */

#include "kvd/state.h"
#include "kvd/validate.h"

#define REQUEST_OP(kind) ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_##kind
#define COMPARE(what) ETCDSERVERPB__COMPARE__COMPARE_##what

struct txn_run {
	struct op_args args;
	struct pb_arena *arena;
	bool *path;		/* for each transaction on the path, in order: success? */
	size_t n_path, cap_path, at;
	struct mvcc_key_range *deleted;	/* ranges that the path deletes, so far */
	size_t n_deleted, cap_deleted;
	bool writes;
	const struct status *error;
};

static void *arena_grow(struct pb_arena *arena, void *old, size_t used, size_t size)
{
	void *p = pb_arena_alloc(arena, size);

	if (p && used)
		memcpy(p, old, used);
	return p;
}

/* --- 1: compares ---------------------------------------------------------- */

static int sign(int64_t a, int64_t b)
{
	return a < b ? -1 : a > b;
}

/* The union member that goes with the target; another one counts as not given. */
static int64_t compare_operand(const Etcdserverpb__Compare *c)
{
	switch (c->target) {
	case COMPARE(TARGET__VERSION):
		return c->target_union_case == ETCDSERVERPB__COMPARE__TARGET_UNION_VERSION ?
			c->version : 0;
	case COMPARE(TARGET__CREATE):
		return c->target_union_case == ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION ?
			c->create_revision : 0;
	case COMPARE(TARGET__MOD):
		return c->target_union_case == ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION ?
			c->mod_revision : 0;
	case COMPARE(TARGET__LEASE):
		return c->target_union_case == ETCDSERVERPB__COMPARE__TARGET_UNION_LEASE ?
			c->lease : 0;
	default:
		return 0;
	}
}

static int compare_order(const struct txn_run *run, const Etcdserverpb__Compare *c,
			 const struct mvcc_kv *kv)
{
	int64_t operand = compare_operand(c);
	struct slice value = { 0 };

	switch (c->target) {
	case COMPARE(TARGET__VALUE):
		if (c->target_union_case == ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE)
			value = pb_bytes(c->value);
		return slice_cmp(kv->value, value);
	case COMPARE(TARGET__VERSION):
		return sign(kv->version, operand);
	case COMPARE(TARGET__CREATE):
		return sign(kv->create_revision, operand);
	case COMPARE(TARGET__MOD):
		return sign(kv->mod_revision, operand);
	case COMPARE(TARGET__LEASE):
		return sign(kv->key.len ? lessor_lease_of(&run->args.state->lessor, kv->key) : 0,
			    operand);
	default:
		return 0;
	}
}

static bool compare_holds(const struct txn_run *run, const Etcdserverpb__Compare *c,
			  const struct mvcc_kv *kv)
{
	int order = compare_order(run, c, kv);

	switch (c->result) {
	case COMPARE(RESULT__EQUAL):
		return order == 0;
	case COMPARE(RESULT__NOT_EQUAL):
		return order != 0;
	case COMPARE(RESULT__GREATER):
		return order > 0;
	case COMPARE(RESULT__LESS):
		return order < 0;
	default:
		return true;
	}
}

/* All keys of the range must satisfy it. No key: a value never compares, everything
 * else compares with zero. */
static int evaluate_compare(struct txn_run *run, const Etcdserverpb__Compare *c, bool *holds)
{
	bool by_value = c->target == COMPARE(TARGET__VALUE);
	struct mvcc_read read = { .range = { pb_bytes(c->key), pb_bytes(c->range_end) },
				  .keys_only = !by_value };
	struct mvcc_kv kv = { 0 };
	struct mvcc_result kvs;
	int err;

	mvcc_result_init(&kvs);
	err = mvcc_range(run->args.state->store, &read, run->args.fetch, &kvs);
	if (!err && !kvs.n)
		*holds = !by_value && compare_holds(run, c, &kv);
	for (size_t i = 0; !err && *holds && i < kvs.n; i++) {
		err = mvcc_kv_decode(blob_slice(kvs.kvs[i]), &kv);
		if (!err)
			*holds = compare_holds(run, c, &kv);
	}
	mvcc_result_release(&kvs);
	return err;
}

static int push_path(struct txn_run *run, bool taken)
{
	if (run->n_path == run->cap_path) {
		run->cap_path = run->cap_path ? run->cap_path * 2 : 16;
		run->path = arena_grow(run->arena, run->path, run->n_path * sizeof(*run->path),
				       run->cap_path * sizeof(*run->path));
		if (!run->path)
			return -ENOMEM;
	}
	run->path[run->n_path++] = taken;
	return 0;
}

static Etcdserverpb__RequestOp **branch(const Etcdserverpb__TxnRequest *txn, bool taken, size_t *n)
{
	*n = taken ? txn->n_success : txn->n_failure;
	return taken ? txn->success : txn->failure;
}

static int evaluate(struct txn_run *run, const Etcdserverpb__TxnRequest *txn)
{
	Etcdserverpb__RequestOp **ops;
	bool taken = true;
	size_t n;
	int err;

	for (size_t i = 0; taken && i < txn->n_compare; i++)
		if ((err = evaluate_compare(run, txn->compare[i], &taken)))
			return err;
	if ((err = push_path(run, taken)))
		return err;
	ops = branch(txn, taken, &n);
	for (size_t i = 0; i < n; i++)
		if (ops[i]->request_case == REQUEST_OP(TXN) &&
		    (err = evaluate(run, ops[i]->request_txn)))
			return err;
	return 0;
}

/* --- 2: checks ------------------------------------------------------------ */

/* Brings what the range will read into memory. What earlier operations of the same
 * transaction delete may make room under the limit, so it is left out. */
static int warm_range(struct txn_run *run, const struct mvcc_read *as_given)
{
	struct mvcc_read read = *as_given;
	struct mvcc_result kvs;
	int err;

	if (read.count_only || !run->writes)
		return 0;
	read.limit = 0;
	mvcc_result_init(&kvs);
	err = mvcc_range(run->args.state->store, &read, run->args.fetch, &kvs);
	mvcc_result_release(&kvs);
	return err == MVCC_COLD || err < 0 ? err : 0;
}

static int check_range(struct txn_run *run, const Etcdserverpb__RangeRequest *r)
{
	struct mvcc_read read = state_read_of(r);

	if (r->revision && r->revision > run->args.revision)
		run->error = &status_future_revision;
	else if (r->revision && r->revision < mvcc_compact_revision(run->args.state->store))
		run->error = &status_compacted;
	return run->error ? 0 : warm_range(run, &read);
}

static bool range_covers(const struct mvcc_key_range *range, struct slice key)
{
	if (!range->end.len)
		return slice_eq(range->key, key);
	if (slice_cmp(range->key, key) > 0)
		return false;
	return (range->end.len == 1 && !range->end.data[0]) || slice_cmp(range->end, key) > 0;
}

/*
 * A put that keeps the value or the lease of a key that this transaction has deleted
 * before. Overlaps of puts and deletes are refused when the request comes in, but a
 * delete of "every key from here" slips through there; what it leaves is no key.
 */
static bool deleted_before(const struct txn_run *run, const Etcdserverpb__PutRequest *r)
{
	if (!r->ignore_value && !r->ignore_lease)
		return false;
	for (size_t i = 0; i < run->n_deleted; i++)
		if (range_covers(&run->deleted[i], pb_bytes(r->key)))
			return true;
	return false;
}

static int check_delete(struct txn_run *run, const Etcdserverpb__DeleteRangeRequest *r)
{
	struct mvcc_read read = { .range = { pb_bytes(r->key), pb_bytes(r->range_end) } };

	if (run->n_deleted == run->cap_deleted) {
		run->cap_deleted = run->cap_deleted ? run->cap_deleted * 2 : 8;
		run->deleted = arena_grow(run->arena, run->deleted,
					  run->n_deleted * sizeof(*run->deleted),
					  run->cap_deleted * sizeof(*run->deleted));
		if (!run->deleted)
			return -ENOMEM;
	}
	run->deleted[run->n_deleted++] = read.range;
	return r->prev_kv ? warm_range(run, &read) : 0;
}

static int check_txn(struct txn_run *run, const Etcdserverpb__TxnRequest *txn);

static int check_op(struct txn_run *run, const Etcdserverpb__RequestOp *op)
{
	switch (op->request_case) {
	case REQUEST_OP(RANGE):
		return check_range(run, op->request_range);
	case REQUEST_OP(PUT):
		if (deleted_before(run, op->request_put)) {
			run->error = &status_key_not_found;
			return 0;
		}
		return op_check_put(&run->args, op->request_put, &run->error);
	case REQUEST_OP(DELETE_RANGE):
		return check_delete(run, op->request_delete_range);
	default:
		return check_txn(run, op->request_txn);
	}
}

static int check_txn(struct txn_run *run, const Etcdserverpb__TxnRequest *txn)
{
	Etcdserverpb__RequestOp **ops;
	size_t n;
	int err = 0;

	BUG_ON(run->at >= run->n_path);
	ops = branch(txn, run->path[run->at++], &n);
	for (size_t i = 0; !err && !run->error && i < n; i++)
		err = check_op(run, ops[i]);
	return err;
}

/* --- 3: carrying it out --------------------------------------------------- */

static int run_txn(struct txn_run *run, const Etcdserverpb__TxnRequest *txn,
		   struct op_result *out);

static int run_op(struct txn_run *run, const Etcdserverpb__RequestOp *op, struct op_result *out)
{
	switch (op->request_case) {
	case REQUEST_OP(RANGE):
		return op_range(&run->args, op->request_range, out, &run->error);
	case REQUEST_OP(PUT):
		return op_put(&run->args, op->request_put, out);
	case REQUEST_OP(DELETE_RANGE):
		return op_delete(&run->args, op->request_delete_range, out);
	default:
		return run_txn(run, op->request_txn, out);
	}
}

static int run_txn(struct txn_run *run, const Etcdserverpb__TxnRequest *txn,
		   struct op_result *out)
{
	Etcdserverpb__RequestOp **ops;
	size_t n;
	int err = 0;

	BUG_ON(run->at >= run->n_path);
	out->op = REQUEST_TXN;
	out->succeeded = run->path[run->at++];
	ops = branch(txn, out->succeeded, &n);
	out->ops = calloc(n + 1, sizeof(*out->ops));
	if (!out->ops)
		return -ENOMEM;
	out->n_ops = n;
	for (size_t i = 0; i < n; i++)
		mvcc_result_init(&out->ops[i].kvs);
	for (size_t i = 0; !err && i < n; i++)
		err = run_op(run, ops[i], &out->ops[i]);
	return err;
}

static int run_all(struct txn_run *run, const Etcdserverpb__TxnRequest *txn,
		   struct op_result *out)
{
	int err = evaluate(run, txn);

	/* What writes may replace or push out of memory before it is read is held: values
	 * of the past, and those that only the ring of recent events has. */
	run->args.fetch->keep = run->writes;
	if (!err)
		err = check_txn(run, txn);
	run->args.fetch->keep = false;
	if (err || run->error)
		return err;
	run->at = 0;
	err = run_txn(run, txn, out);
	/* what was checked and warmed cannot fail or be cold once writing has begun */
	BUG_ON(run->writes && (err > 0 || run->error));
	out->revision = run->args.revision + run->args.changed;
	return err;
}

int state_txn(struct state *state, struct request *request)
{
	const Etcdserverpb__TxnRequest *txn = (const void *)request->message;
	struct txn_run run = {
		.args = { state, &request->fetch, mvcc_revision(state->store), false },
		.arena = &request->arena,
		.writes = request->op == REQUEST_TXN,
	};
	int err;

	/* open from the first compare on: no value leaves memory until the end */
	if (run.writes)
		mvcc_begin(state->store);
	err = run_all(&run, txn, &request->result);
	if (run.writes)
		mvcc_end(state->store);
	if (err > 0 || run.error) {
		op_result_release(&request->result);
		mvcc_result_init(&request->result.kvs);
	}
	request->error = run.error;
	return err;
}
