// SPDX-License-Identifier: Apache-2.0
#include "etcfs/txn.h"

#include <stdlib.h>

#include "include/bug.h"

void txn_init(struct txn *txn)
{
	*txn = (struct txn){ .request = ETCDSERVERPB__TXN_REQUEST__INIT };
}

void txn_release(struct txn *txn)
{
	for (size_t i = 0; i < txn->n_owned; i++)
		free(txn->owned[i]);
	free(txn->owned);
	free(txn->request.compare);
	free(txn->request.success);
	free(txn->request.failure);
	txn_init(txn);
}

/* The array with room for one pointer more than @n; NULL: no memory, it is as it was.
 * Room doubles whenever the count is a power of two. */
static void *grow(struct txn *txn, void *array, size_t n)
{
	void *more;

	if (txn->failed)
		return NULL;
	if (n && n & (n - 1))
		return array;
	more = realloc(array, MAX(n * 2, (size_t)1) * sizeof(void *));
	if (!more)
		txn->failed = true;
	return more;
}

static void *own(struct txn *txn, void *memory)
{
	void **owned = memory ? grow(txn, txn->owned, txn->n_owned) : NULL;

	if (!owned) {
		free(memory);
		txn->failed = true;
		return NULL;
	}
	txn->owned = owned;
	txn->owned[txn->n_owned++] = memory;
	return memory;
}

struct slice txn_own(struct txn *txn, struct slice key)
{
	return own(txn, (void *)key.data) ? key : slice_of(NULL, 0);
}

struct slice txn_prefix_end(struct txn *txn, struct slice prefix)
{
	uint8_t *end = own(txn, malloc(prefix.len + 1));
	size_t len = prefix.len;

	if (!end)
		return slice_of(NULL, 0);
	if (len)
		memcpy(end, prefix.data, len);
	while (len && end[len - 1] == 0xff)
		len--;
	if (len) {
		end[len - 1]++;
	} else {
		/* a single zero byte: up to the last key there is */
		end[0] = 0;
		len = 1;
	}
	return slice_of(end, len);
}

struct slice txn_after(struct txn *txn, struct slice key)
{
	uint8_t *after = own(txn, malloc(key.len + 1));

	if (!after)
		return slice_of(NULL, 0);
	if (key.len)
		memcpy(after, key.data, key.len);
	after[key.len] = 0;
	return slice_of(after, key.len + 1);
}

static ProtobufCBinaryData pb_bytes(struct slice s)
{
	return (ProtobufCBinaryData){ .len = s.len, .data = (uint8_t *)s.data };
}

static Etcdserverpb__Compare *add_compare(struct txn *txn, struct slice key, struct slice end)
{
	Etcdserverpb__Compare *compare = own(txn, malloc(sizeof(*compare)));
	void *room = grow(txn, txn->request.compare, txn->request.n_compare);

	if (!compare || !room)
		return NULL;
	txn->request.compare = room;
	*compare = (Etcdserverpb__Compare)ETCDSERVERPB__COMPARE__INIT;
	compare->key = pb_bytes(key);
	compare->range_end = pb_bytes(end);
	txn->request.compare[txn->request.n_compare++] = compare;
	return compare;
}

void txn_require(struct txn *txn, enum txn_target target, struct slice key, int64_t revision)
{
	Etcdserverpb__Compare *compare = add_compare(txn, key, slice_of(NULL, 0));

	if (!compare)
		return;
	if (target == TXN_MOD) {
		compare->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD;
		compare->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION;
		compare->mod_revision = revision;
	} else {
		compare->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE;
		compare->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION;
		compare->create_revision = revision;
	}
}

void txn_require_none(struct txn *txn, struct slice key, struct slice end)
{
	Etcdserverpb__Compare *compare = add_compare(txn, key, end);

	if (!compare)
		return;
	compare->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE;
	compare->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION;
	compare->create_revision = 0;
}

void txn_require_unchanged(struct txn *txn, struct slice key, struct slice end,
			   int64_t revision)
{
	Etcdserverpb__Compare *compare = add_compare(txn, key, end);

	if (!compare)
		return;
	compare->result = ETCDSERVERPB__COMPARE__COMPARE_RESULT__LESS;
	compare->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD;
	compare->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION;
	compare->mod_revision = revision + 1;
}

static Etcdserverpb__RequestOp *add_success(struct txn *txn)
{
	Etcdserverpb__RequestOp *op = own(txn, malloc(sizeof(*op)));
	void *room = grow(txn, txn->request.success, txn->request.n_success);

	if (!op || !room)
		return NULL;
	txn->request.success = room;
	*op = (Etcdserverpb__RequestOp)ETCDSERVERPB__REQUEST_OP__INIT;
	return op;
}

void txn_put(struct txn *txn, struct slice key, struct slice value, int64_t lease)
{
	Etcdserverpb__PutRequest *put = own(txn, malloc(sizeof(*put)));
	Etcdserverpb__RequestOp *op = add_success(txn);

	if (!put || !op)
		return;
	*put = (Etcdserverpb__PutRequest)ETCDSERVERPB__PUT_REQUEST__INIT;
	put->key = pb_bytes(key);
	put->value = pb_bytes(value);
	put->lease = lease;
	op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
	op->request_put = put;
	txn->request.success[txn->request.n_success++] = op;
	txn->bytes += key.len + value.len;
}

void txn_delete(struct txn *txn, struct slice key, struct slice end)
{
	Etcdserverpb__DeleteRangeRequest *del = own(txn, malloc(sizeof(*del)));
	Etcdserverpb__RequestOp *op = add_success(txn);

	if (!del || !op)
		return;
	*del = (Etcdserverpb__DeleteRangeRequest)ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
	del->key = pb_bytes(key);
	del->range_end = pb_bytes(end);
	op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
	op->request_delete_range = del;
	txn->request.success[txn->request.n_success++] = op;
}

void txn_else_read(struct txn *txn, struct slice key)
{
	Etcdserverpb__RangeRequest *range = own(txn, malloc(sizeof(*range)));
	Etcdserverpb__RequestOp *op = own(txn, malloc(sizeof(*op)));
	void *room = grow(txn, txn->request.failure, txn->request.n_failure);

	if (!range || !op || !room)
		return;
	txn->request.failure = room;
	*range = (Etcdserverpb__RangeRequest)ETCDSERVERPB__RANGE_REQUEST__INIT;
	range->key = pb_bytes(key);
	*op = (Etcdserverpb__RequestOp)ETCDSERVERPB__REQUEST_OP__INIT;
	op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
	op->request_range = range;
	txn->request.failure[txn->request.n_failure++] = op;
}

static bool op_writes(const Etcdserverpb__RequestOp *op, struct slice key)
{
	const Etcdserverpb__DeleteRangeRequest *del;
	struct slice from, end;

	if (op->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT)
		return slice_eq(slice_of(op->request_put->key.data, op->request_put->key.len), key);
	del = op->request_delete_range;
	from = slice_of(del->key.data, del->key.len);
	end = slice_of(del->range_end.data, del->range_end.len);
	if (!end.len)
		return slice_eq(from, key);
	return slice_cmp(from, key) <= 0 &&
	       ((end.len == 1 && !end.data[0]) || slice_cmp(key, end) < 0);
}

bool txn_writes(const struct txn *txn, struct slice key)
{
	for (size_t i = 0; i < txn->request.n_success; i++)
		if (op_writes(txn->request.success[i], key))
			return true;
	return false;
}
