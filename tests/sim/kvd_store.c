// SPDX-License-Identifier: Apache-2.0
/*
 * The store's disk, as Berkeley DB is used: a batch is one transaction, and transactions
 * become durable in their order, at the latest when the store is synced. A crash keeps
 * what was synced and the first few of those after it.
 */
#include "tests/sim/kvd_sim.h"

static void *copy_of(const void *from, size_t n, size_t size)
{
	void *to = sim_alloc(NULL, n, size);

	if (n)
		memcpy(to, from, n * size);
	return to;
}

static struct mvcc_batch *batch_copy(const struct mvcc_batch *from)
{
	struct mvcc_batch *b = copy_of(from, 1, sizeof(*b));

	b->puts = copy_of(from->puts, from->n_puts, sizeof(*b->puts));
	b->drops = copy_of(from->drops, from->n_drops, sizeof(*b->drops));
	b->records = copy_of(from->records, from->n_records, sizeof(*b->records));
	for (size_t i = 0; i < b->n_puts; i++)
		blob_get(b->puts[i].kv);
	for (size_t i = 0; i < b->n_records; i++) {
		blob_get(b->records[i].key);
		if (b->records[i].value)
			blob_get(b->records[i].value);
	}
	return b;
}

static void free_batch(struct mvcc_batch *b)
{
	for (size_t i = 0; i < b->n_puts; i++)
		blob_put(b->puts[i].kv);
	for (size_t i = 0; i < b->n_records; i++) {
		blob_put(b->records[i].key);
		blob_put(b->records[i].value);
	}
	free(b->puts);
	free(b->drops);
	free(b->records);
	free(b);
}

/* --- a copy of what is durable ------------------------------------------------ */

static int add_put(void *arg, int64_t main, uint32_t sub, struct slice kv)
{
	struct mvcc_batch *b = arg;

	BUG_ON(vec_grow(&b->puts, &b->cap_puts, b->n_puts));
	b->puts[b->n_puts] = (struct batch_put){ main, sub, blob_copy(kv) };
	BUG_ON(!b->puts[b->n_puts++].kv);
	return 0;
}

static int add_record(void *arg, struct slice key, struct slice value)
{
	struct mvcc_batch *b = arg;

	BUG_ON(vec_grow(&b->records, &b->cap_records, b->n_records));
	b->records[b->n_records] = (struct batch_record){ blob_copy(key), blob_copy(value) };
	BUG_ON(!b->records[b->n_records].key || !b->records[b->n_records].value);
	b->n_records++;
	return 0;
}

/* The process starts: it finds what is durable. */
void store_open(struct kvd_store *st)
{
	struct mvcc_batch *b = sim_alloc(NULL, 1, sizeof(*b));

	*b = (struct mvcc_batch){ 0 };
	BUG_ON(st->backend || st->n_written);
	if (!st->durable)
		BUG_ON(mvcc_mem_open(&st->durable));
	BUG_ON(mvcc_mem_open(&st->backend));
	st->durable->ops->scan(st->durable, (struct mvcc_rev){ 0 }, add_put, b);
	st->durable->ops->scan_records(st->durable, add_record, b);
	BUG_ON(mvcc_backend_write(st->backend, b));
	free_batch(b);
}

/* --- writing, and what is left of it -------------------------------------------- */

/* The first @n of what was written since the last sync are durable. */
static void keep(struct kvd_store *st, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		BUG_ON(mvcc_backend_write(st->durable, st->written[i]));
		free_batch(st->written[i]);
	}
	st->n_written -= n;
	if (st->n_written)
		memmove(st->written, st->written + n, st->n_written * sizeof(*st->written));
}

void store_write(struct sim *s, struct kvd_store *st, const struct core_batch *batch)
{
	BUG_ON(mvcc_backend_write(st->backend, batch->batch));
	if (st->n_written == st->cap_written) {
		st->cap_written = st->cap_written * 2 + 8;
		st->written = sim_alloc(st->written, st->cap_written, sizeof(*st->written));
	}
	st->written[st->n_written++] = batch_copy(batch->batch);
	if (!batch->sync)
		return;
	s->count[SIM_KV_SYNC]++;
	BUG_ON(mvcc_backend_sync(st->backend));
	keep(st, st->n_written);
}

/* Gives up what is not durable. */
void store_forget(struct kvd_store *st)
{
	while (st->n_written)
		free_batch(st->written[--st->n_written]);
}

void store_crash(struct sim *s, struct kvd_store *st)
{
	size_t kept = sim_draw(s, st->n_written + 1);

	s->count[SIM_KV_BATCH_KEPT] += kept;
	s->count[SIM_KV_BATCH_LOST] += st->n_written - kept;
	keep(st, kept);
	store_forget(st);
	mvcc_backend_close(st->backend);
	st->backend = NULL;
}

void store_release(struct kvd_store *st)
{
	BUG_ON(st->backend || st->n_written);
	mvcc_backend_close(st->durable);
	free(st->written);
	*st = (struct kvd_store){ 0 };
}
