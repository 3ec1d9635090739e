// SPDX-License-Identifier: Apache-2.0

#include <stdlib.h>

#include "kvd/validate.h"

#define REQUEST_OP(kind) ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_##kind

static struct slice pb_slice(ProtobufCBinaryData b)
{
	return slice_of(b.data, b.len);
}

const struct status *validate_range(const Etcdserverpb__RangeRequest *r)
{
	if (!r->key.len)
		return &status_empty_key;
	if ((unsigned)r->sort_order > ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND ||
	    (unsigned)r->sort_target > ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VALUE)
		return &status_invalid_sort_option;
	return NULL;
}

const struct status *validate_range_stream(const Etcdserverpb__RangeRequest *r)
{
	const struct status *error = validate_range(r);

	if (error)
		return error;
	if (r->sort_order != ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__NONE &&
	    (r->sort_target != ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__KEY ||
	     r->sort_order != ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__ASCEND))
		return &status_stream_sort;
	if (r->min_mod_revision || r->max_mod_revision || r->min_create_revision ||
	    r->max_create_revision)
		return &status_stream_filter;
	return NULL;
}

const struct status *validate_put(const Etcdserverpb__PutRequest *r)
{
	if (!r->key.len)
		return &status_empty_key;
	if (r->ignore_value && r->value.len)
		return &status_value_provided;
	if (r->ignore_lease && r->lease)
		return &status_lease_provided;
	return NULL;
}

const struct status *validate_delete(const Etcdserverpb__DeleteRangeRequest *r)
{
	return r->key.len ? NULL : &status_empty_key;
}

static const struct status *validate_shape(const Etcdserverpb__TxnRequest *r, int64_t max_ops);

static const struct status *validate_op(const Etcdserverpb__RequestOp *op, int64_t max_ops)
{
	switch (op->request_case) {
	case REQUEST_OP(RANGE):
		return validate_range(op->request_range);
	case REQUEST_OP(PUT):
		return validate_put(op->request_put);
	case REQUEST_OP(DELETE_RANGE):
		return validate_delete(op->request_delete_range);
	case REQUEST_OP(TXN):
		return validate_shape(op->request_txn, max_ops);
	default:
		return &status_key_not_found;
	}
}

/*
 * The budget of operations is what the outer transaction leaves over, so it also
 * bounds the nesting, and with it the recursion here and in txn.c.
 */
static const struct status *validate_shape(const Etcdserverpb__TxnRequest *r, int64_t max_ops)
{
	const struct status *error;
	int64_t n = (int64_t)MAX(r->n_compare, MAX(r->n_success, r->n_failure));

	if (n > max_ops)
		return &status_too_many_ops;
	for (size_t i = 0; i < r->n_compare; i++)
		if (!r->compare[i]->key.len)
			return &status_empty_key;
	for (size_t i = 0; i < r->n_success; i++)
		if ((error = validate_op(r->success[i], max_ops - n)))
			return error;
	for (size_t i = 0; i < r->n_failure; i++)
		if ((error = validate_op(r->failure[i], max_ops - n)))
			return error;
	return NULL;
}

/* --- a key may be put once, and not be put and deleted -------------------- */

struct interval {
	struct slice begin, end;	/* end as the request gave it */
	bool point;
};

struct sets {
	struct slice *puts;		/* sorted, each once */
	size_t n_puts;
	struct interval *dels;
	size_t n_dels, cap_dels;
};

/*
 * An end of one zero byte, "every key from here", is compared as the key that it is,
 * and so covers nothing: etcd accepts what overlaps it. Apply takes care of the one
 * case where that matters (txn.c).
 */
static bool covers(const struct interval *iv, struct slice key)
{
	if (iv->point)
		return slice_eq(iv->begin, key);
	return slice_cmp(iv->begin, key) <= 0 && slice_cmp(iv->end, key) > 0;
}

static int cmp_slice(const void *a, const void *b)
{
	return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

/* The first of the sorted @puts that is not before @key. */
static size_t lower_bound(const struct sets *s, struct slice key)
{
	size_t lo = 0, hi = s->n_puts;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (slice_cmp(s->puts[mid], key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool puts_meet_dels(const struct sets *puts, const struct sets *dels)
{
	for (size_t i = 0; puts->n_puts && i < dels->n_dels; i++) {
		size_t at = lower_bound(puts, dels->dels[i].begin);

		if (at < puts->n_puts && covers(&dels->dels[i], puts->puts[at]))
			return true;
	}
	return false;
}

/* Merges the puts of @more into @to; keys in both are a mistake unless @may_share. */
static int merge_puts(struct sets *to, const struct sets *more, bool may_share,
		      struct pb_arena *arena)
{
	struct slice *out;
	size_t a = 0, b = 0, n = 0;

	if (!more->n_puts)
		return 0;
	out = pb_arena_alloc(arena, (to->n_puts + more->n_puts) * sizeof(*out));
	if (!out)
		return -ENOMEM;
	while (a < to->n_puts || b < more->n_puts) {
		int c = a == to->n_puts ? 1 : b == more->n_puts ? -1 :
			slice_cmp(to->puts[a], more->puts[b]);

		if (!c && !may_share)
			return -EEXIST;
		out[n++] = c <= 0 ? to->puts[a] : more->puts[b];
		a += c <= 0;
		b += c >= 0;
	}
	to->puts = out;
	to->n_puts = n;
	return 0;
}

static int add_del(struct sets *s, const struct interval *iv, struct pb_arena *arena)
{
	struct interval *dels;

	if (s->n_dels == s->cap_dels) {
		s->cap_dels = s->cap_dels ? s->cap_dels * 2 : 8;
		dels = pb_arena_alloc(arena, s->cap_dels * sizeof(*dels));
		if (!dels)
			return -ENOMEM;
		if (s->n_dels)
			memcpy(dels, s->dels, s->n_dels * sizeof(*dels));
		s->dels = dels;
	}
	s->dels[s->n_dels++] = *iv;
	return 0;
}

static int collect(Etcdserverpb__RequestOp **ops, size_t n, struct pb_arena *arena,
		   struct sets *out);

/* One nested transaction: its branches exclude each other, so they may share keys. */
static int collect_child(const Etcdserverpb__TxnRequest *txn, struct pb_arena *arena,
			 struct sets *out)
{
	struct sets then = { 0 }, otherwise = { 0 };
	int err;

	if ((err = collect(txn->success, txn->n_success, arena, &then)) ||
	    (err = collect(txn->failure, txn->n_failure, arena, &otherwise)) ||
	    (err = merge_puts(&then, &otherwise, true, arena)))
		return err;
	if (puts_meet_dels(&then, out))
		return -EEXIST;
	if ((err = merge_puts(out, &then, false, arena)))
		return err;
	for (size_t i = 0; i < then.n_dels; i++)
		if ((err = add_del(out, &then.dels[i], arena)))
			return err;
	for (size_t i = 0; i < otherwise.n_dels; i++)
		if ((err = add_del(out, &otherwise.dels[i], arena)))
			return err;
	return 0;
}

/* The puts of this level alone, sorted. */
static int collect_puts(Etcdserverpb__RequestOp **ops, size_t n, struct pb_arena *arena,
			struct sets *out)
{
	size_t m = 0;

	out->puts = pb_arena_alloc(arena, (n + 1) * sizeof(*out->puts));
	if (!out->puts)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		if (ops[i]->request_case == REQUEST_OP(PUT))
			out->puts[m++] = pb_slice(ops[i]->request_put->key);
	out->n_puts = m;
	qsort(out->puts, m, sizeof(*out->puts), cmp_slice);
	for (size_t i = 1; i < m; i++)
		if (slice_eq(out->puts[i - 1], out->puts[i]))
			return -EEXIST;
	return 0;
}

/*
 * In etcd's order, which decides what is found: the deletes of this level, then the
 * nested transactions one by one, then the puts of this level. -EEXIST: an overlap.
 */
static int collect(Etcdserverpb__RequestOp **ops, size_t n, struct pb_arena *arena,
		   struct sets *out)
{
	struct sets own = { 0 };
	int err;

	for (size_t i = 0; i < n; i++) {
		struct interval iv;

		if (ops[i]->request_case != REQUEST_OP(DELETE_RANGE))
			continue;
		iv.begin = pb_slice(ops[i]->request_delete_range->key);
		iv.end = pb_slice(ops[i]->request_delete_range->range_end);
		iv.point = !iv.end.len;
		if ((err = add_del(out, &iv, arena)))
			return err;
	}
	for (size_t i = 0; i < n; i++) {
		if (ops[i]->request_case == REQUEST_OP(TXN) &&
		    (err = collect_child(ops[i]->request_txn, arena, out)))
			return err;
	}
	if ((err = collect_puts(ops, n, arena, &own)))
		return err;
	if (puts_meet_dels(&own, out))
		return -EEXIST;
	return merge_puts(out, &own, false, arena);
}

const struct status *validate_txn(const Etcdserverpb__TxnRequest *r, int64_t max_ops,
				  struct pb_arena *arena)
{
	const struct status *error = validate_shape(r, max_ops);
	struct sets then = { 0 }, otherwise = { 0 };
	int err;

	if (error)
		return error;
	err = collect(r->success, r->n_success, arena, &then);
	if (!err)
		err = collect(r->failure, r->n_failure, arena, &otherwise);
	if (err == -ENOMEM)
		return &status_too_many_requests;
	return err ? &status_duplicate_key : NULL;
}

static bool all_ranges(Etcdserverpb__RequestOp **ops, size_t n, bool serializable)
{
	for (size_t i = 0; i < n; i++)
		if (ops[i]->request_case != REQUEST_OP(RANGE) ||
		    (serializable && !ops[i]->request_range->serializable))
			return false;
	return true;
}

bool txn_is_read_only(const Etcdserverpb__TxnRequest *r)
{
	return all_ranges(r->success, r->n_success, false) &&
	       all_ranges(r->failure, r->n_failure, false);
}

bool txn_is_serializable(const Etcdserverpb__TxnRequest *r)
{
	return all_ranges(r->success, r->n_success, true) &&
	       all_ranges(r->failure, r->n_failure, true);
}

/* etcd's estimate of what a key costs beside its bytes. */
#define KEY_OVERHEAD 256

int64_t put_cost(const Etcdserverpb__PutRequest *r)
{
	return KEY_OVERHEAD + (int64_t)r->key.len + (int64_t)r->value.len;
}

static int64_t branch_cost(Etcdserverpb__RequestOp **ops, size_t n)
{
	int64_t cost = 0;

	for (size_t i = 0; i < n; i++) {
		if (ops[i]->request_case == REQUEST_OP(PUT))
			cost += put_cost(ops[i]->request_put);
		else if (ops[i]->request_case == REQUEST_OP(TXN))
			cost += txn_cost(ops[i]->request_txn);
	}
	return cost;
}

int64_t txn_cost(const Etcdserverpb__TxnRequest *r)
{
	int64_t then = branch_cost(r->success, r->n_success);
	int64_t otherwise = branch_cost(r->failure, r->n_failure);

	return MAX(then, otherwise);
}
