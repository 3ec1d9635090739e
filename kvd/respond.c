// SPDX-License-Identifier: Apache-2.0

#include "include/wire.h"
#include "kvd/respond.h"

/* Where each operation's response stands in a ResponseOp. */
static uint32_t response_field(enum request_op op)
{
	switch (op) {
	case REQUEST_RANGE:
		return 1;
	case REQUEST_PUT:
		return 2;
	case REQUEST_DELETE_RANGE:
		return 3;
	default:
		BUG_ON(op != REQUEST_TXN && op != REQUEST_TXN_READ);
		return 4;
	}
}

/* --- small pieces --------------------------------------------------------- */

static void add_u64(struct chain *out, uint32_t field, uint64_t v)
{
	uint8_t *p = v ? chain_reserve(out, 2 * WIRE_VARINT_MAX) : NULL;

	if (p)
		chain_commit(out, (size_t)(wire_put_u64_field(p, field, v) - p));
}

static void add_len(struct chain *out, uint32_t field, size_t len)
{
	uint8_t *p = chain_reserve(out, 2 * WIRE_VARINT_MAX);

	if (p)
		chain_commit(out, (size_t)(wire_put_len_field(p, field, len) - p));
}

static void add_blob(struct chain *out, uint32_t field, struct blob *blob)
{
	add_len(out, field, blob->len);
	chain_append_blob(out, blob, blob_slice(blob));
}

static size_t blob_size(uint32_t field, const struct blob *blob)
{
	return wire_len_field_size(field, blob->len) + blob->len;
}

static size_t header_body(const struct response_header *h)
{
	return wire_u64_field_size(1, h->cluster_id) + wire_u64_field_size(2, h->member_id) +
	       wire_u64_field_size(3, (uint64_t)h->revision) +
	       wire_u64_field_size(4, h->raft_term);
}

size_t respond_header_size(const struct response_header *header)
{
	size_t n = header_body(header);

	return wire_len_field_size(1, n) + n;
}

void respond_header(const struct response_header *h, struct chain *out)
{
	uint8_t *p = chain_reserve(out, 10 * WIRE_VARINT_MAX), *at = p;

	if (!p)
		return;
	at = wire_put_len_field(at, 1, header_body(h));
	at = wire_put_u64_field(at, 1, h->cluster_id);
	at = wire_put_u64_field(at, 2, h->member_id);
	at = wire_put_u64_field(at, 3, (uint64_t)h->revision);
	at = wire_put_u64_field(at, 4, h->raft_term);
	chain_commit(out, (size_t)(at - p));
}

/* --- the results of operations -------------------------------------------- */

static size_t kvs_size(uint32_t field, const struct mvcc_result *kvs)
{
	size_t n = 0;

	for (size_t i = 0; i < kvs->n; i++)
		n += blob_size(field, kvs->kvs[i]);
	return n;
}

static void add_kvs(struct chain *out, uint32_t field, const struct mvcc_result *kvs)
{
	for (size_t i = 0; i < kvs->n; i++)
		add_blob(out, field, kvs->kvs[i]);
}

static size_t op_size(const struct op_result *r, const struct response_header *header);

/* An operation of a transaction: its header has the revision alone. */
static size_t nested_size(const struct op_result *r)
{
	struct response_header header = { .revision = r->revision };
	size_t n = op_size(r, &header);

	return wire_len_field_size(response_field(r->op), n) + n;
}

static size_t op_size(const struct op_result *r, const struct response_header *header)
{
	size_t n = respond_header_size(header), op;

	switch (r->op) {
	case REQUEST_RANGE:
		return n + kvs_size(2, &r->kvs) + wire_u64_field_size(3, r->kvs.more) +
		       wire_u64_field_size(4, (uint64_t)r->kvs.count);
	case REQUEST_PUT:
		return n + (r->prev ? blob_size(2, r->prev) : 0);
	case REQUEST_DELETE_RANGE:
		return n + wire_u64_field_size(2, (uint64_t)r->deleted) + kvs_size(3, &r->kvs);
	default:
		n += wire_u64_field_size(2, r->succeeded);
		for (size_t i = 0; i < r->n_ops; i++) {
			op = nested_size(&r->ops[i]);
			n += wire_len_field_size(3, op) + op;
		}
		return n;
	}
}

static void add_nested(struct chain *out, const struct op_result *r)
{
	struct response_header header = { .revision = r->revision };

	add_len(out, 3, nested_size(r));
	add_len(out, response_field(r->op), op_size(r, &header));
	respond_op(r, &header, out);
}

void respond_op(const struct op_result *r, const struct response_header *header,
		struct chain *out)
{
	respond_header(header, out);
	switch (r->op) {
	case REQUEST_RANGE:
		add_kvs(out, 2, &r->kvs);
		add_u64(out, 3, r->kvs.more);
		add_u64(out, 4, (uint64_t)r->kvs.count);
		break;
	case REQUEST_PUT:
		if (r->prev)
			add_blob(out, 2, r->prev);
		break;
	case REQUEST_DELETE_RANGE:
		add_u64(out, 2, (uint64_t)r->deleted);
		add_kvs(out, 3, &r->kvs);
		break;
	default:
		add_u64(out, 2, r->succeeded);
		for (size_t i = 0; i < r->n_ops; i++)
			add_nested(out, &r->ops[i]);
	}
}

void respond_range_chunk(const struct mvcc_result *kvs, const struct response_header *header,
			 struct chain *out)
{
	size_t n = kvs_size(2, kvs);

	if (header)
		n += respond_header_size(header) + wire_u64_field_size(3, kvs->more) +
		     wire_u64_field_size(4, (uint64_t)kvs->count);
	add_len(out, 1, n);
	if (header)
		respond_header(header, out);
	add_kvs(out, 2, kvs);
	if (!header)
		return;
	add_u64(out, 3, kvs->more);
	add_u64(out, 4, (uint64_t)kvs->count);
}

/* --- watch ---------------------------------------------------------------- */

static size_t event_body(const struct mvcc_event *e)
{
	return wire_u64_field_size(1, e->type) + blob_size(2, e->kv) +
	       (e->prev ? blob_size(3, e->prev) : 0);
}

size_t respond_event_size(const struct mvcc_event *event)
{
	size_t n = event_body(event);

	return wire_len_field_size(11, n) + n;
}

void respond_watch(const struct respond_watch *w, struct chain *out)
{
	respond_header(&w->header, out);
	add_u64(out, 2, (uint64_t)w->watch_id);
	add_u64(out, 3, w->created);
	add_u64(out, 4, w->canceled);
	add_u64(out, 5, (uint64_t)w->compact_revision);
	if (w->cancel_reason && *w->cancel_reason) {
		add_len(out, 6, strlen(w->cancel_reason));
		chain_append(out, slice_str(w->cancel_reason));
	}
	add_u64(out, 7, w->fragment);
	for (size_t i = 0; i < w->n_events; i++) {
		const struct mvcc_event *e = &w->events[i];

		add_len(out, 11, event_body(e));
		add_u64(out, 1, e->type);
		add_blob(out, 2, e->kv);
		if (e->prev)
			add_blob(out, 3, e->prev);
	}
}
