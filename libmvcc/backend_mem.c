// SPDX-License-Identifier: Apache-2.0
/*
 * The backend in memory, for simulation and tests: an array of revisions, which
 * only ever grows at its end, and a tree of small records. What it holds survives
 * the store above it, as a disk would.
 */
#include "libmvcc/mvcc_i.h"

struct mem_record {
	struct avl_node node;
	struct blob *key, *value;
};

struct mem {
	struct mvcc_backend backend;
	struct batch_put *revs;		/* dropped ones have no kv, until swept */
	size_t n, cap, dropped;
	struct avl records;
	int64_t bytes;
};

static struct mem *mem_of(struct mvcc_backend *backend)
{
	return container_of(backend, struct mem, backend);
}

/* --- revisions ------------------------------------------------------------ */

static int rev_cmp(const struct batch_put *p, int64_t main, uint32_t sub)
{
	uint32_t a = p->sub & ~SUB_TOMBSTONE, b = sub & ~SUB_TOMBSTONE;

	if (p->main != main)
		return p->main < main ? -1 : 1;
	return a < b ? -1 : a > b;
}

/* How many revisions are below. */
static size_t mem_below(const struct mem *mem, int64_t main, uint32_t sub)
{
	size_t lo = 0, hi = mem->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (rev_cmp(&mem->revs[mid], main, sub) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct batch_put *mem_find(struct mem *mem, int64_t main, uint32_t sub)
{
	size_t at = mem_below(mem, main, sub);

	return at < mem->n && !rev_cmp(&mem->revs[at], main, sub) ? &mem->revs[at] : NULL;
}

static int mem_put(struct mem *mem, const struct batch_put *put)
{
	int r = vec_grow(&mem->revs, &mem->cap, mem->n);

	if (r)
		return r;
	BUG_ON(mem->n && rev_cmp(&mem->revs[mem->n - 1], put->main, put->sub) >= 0);
	mem->revs[mem->n] = *put;
	blob_get(put->kv);
	mem->n++;
	mem->bytes += (int64_t)blob_cost(put->kv);
	return 0;
}

/* Forgets the dropped where they are the larger half. */
static void mem_sweep(struct mem *mem)
{
	size_t n = 0;

	if (mem->dropped <= mem->n / 2)
		return;
	for (size_t i = 0; i < mem->n; i++)
		if (mem->revs[i].kv)
			mem->revs[n++] = mem->revs[i];
	mem->n = n;
	mem->dropped = 0;
}

static void mem_drop(struct mem *mem, const struct batch_drop *drop)
{
	struct batch_put *p = mem_find(mem, drop->main, drop->sub);

	if (!p || !p->kv)
		return;
	mem->bytes -= (int64_t)blob_cost(p->kv);
	blob_put(p->kv);
	p->kv = NULL;
	mem->dropped++;
}

static int mem_get(struct mvcc_backend *backend, struct mvcc_rev rev, struct blob **out)
{
	struct batch_put *p = mem_find(mem_of(backend), rev.main, (uint32_t)rev.sub);

	*out = p && p->kv ? blob_get(p->kv) : NULL;
	return 0;
}

static int mem_scan(struct mvcc_backend *backend, struct mvcc_rev from, backend_scan_fn fn,
		    void *arg)
{
	struct mem *mem = mem_of(backend);
	int r = 0;

	for (size_t i = mem_below(mem, from.main, (uint32_t)from.sub); i < mem->n && !r; i++)
		if (mem->revs[i].kv)
			r = fn(arg, mem->revs[i].main, mem->revs[i].sub,
			       blob_slice(mem->revs[i].kv));
	return r;
}

/* --- records -------------------------------------------------------------- */

static int record_cmp(const struct avl_node *a, const struct avl_node *b)
{
	return slice_cmp(blob_slice(container_of(a, struct mem_record, node)->key),
			 blob_slice(container_of(b, struct mem_record, node)->key));
}

static void mem_record_free(struct mem_record *rec)
{
	blob_put(rec->key);
	blob_put(rec->value);
	free(rec);
}

static int mem_record(struct mem *mem, const struct batch_record *change)
{
	struct mem_record like = { .key = change->key }, *rec;
	struct avl_node *node = avl_find(&mem->records, &like.node);

	if (node) {
		avl_remove(&mem->records, node);
		mem_record_free(container_of(node, struct mem_record, node));
	}
	if (!change->value)
		return 0;
	rec = malloc(sizeof(*rec));
	if (!rec)
		return -ENOMEM;
	rec->key = blob_get(change->key);
	rec->value = blob_get(change->value);
	avl_insert(&mem->records, &rec->node);
	return 0;
}

struct scan {
	backend_record_fn fn;
	void *arg;
	int result;
};

static int scan_record(void *arg, struct avl_node *node)
{
	const struct mem_record *rec = container_of(node, struct mem_record, node);
	struct scan *s = arg;

	s->result = s->fn(s->arg, blob_slice(rec->key), blob_slice(rec->value));
	return s->result;
}

static int mem_scan_records(struct mvcc_backend *backend, backend_record_fn fn, void *arg)
{
	struct scan s = { fn, arg, 0 };

	avl_each(&mem_of(backend)->records, NULL, scan_record, &s);
	return s.result;
}

/* --- the whole ------------------------------------------------------------ */

static int mem_write(struct mvcc_backend *backend, const struct mvcc_batch *batch)
{
	struct mem *mem = mem_of(backend);
	int r = 0;

	for (size_t i = 0; i < batch->n_puts && !r; i++)
		r = mem_put(mem, &batch->puts[i]);
	for (size_t i = 0; i < batch->n_drops && !r; i++)
		mem_drop(mem, &batch->drops[i]);
	for (size_t i = 0; i < batch->n_records && !r; i++)
		r = mem_record(mem, &batch->records[i]);
	mem_sweep(mem);
	return r;
}

static int mem_sync(struct mvcc_backend *backend)
{
	return 0;
}

static int mem_size(struct mvcc_backend *backend, struct mvcc_backend_size *out)
{
	*out = (struct mvcc_backend_size){ mem_of(backend)->bytes, mem_of(backend)->bytes };
	return 0;
}

/* Memory is given back as it is freed. */
static int mem_reclaim(struct mvcc_backend *backend, size_t bytes)
{
	return 0;
}

/* Memory is not read back. */
static int mem_scrub(struct mvcc_backend *backend, struct mvcc_scrub *scrub, size_t bytes)
{
	return 0;
}

static const char *mem_why(const struct mvcc_backend *backend)
{
	return "";
}

static void mem_close(struct mvcc_backend *backend)
{
	struct mem *mem = mem_of(backend);
	struct avl_node *node;

	for (size_t i = 0; i < mem->n; i++)
		blob_put(mem->revs[i].kv);
	free(mem->revs);
	while ((node = avl_pop(&mem->records)))
		mem_record_free(container_of(node, struct mem_record, node));
	free(mem);
}

static const struct mvcc_backend_ops mem_ops = {
	.write = mem_write,
	.sync = mem_sync,
	.get = mem_get,
	.scan = mem_scan,
	.scan_records = mem_scan_records,
	.size = mem_size,
	.reclaim = mem_reclaim,
	.scrub = mem_scrub,
	.why = mem_why,
	.close = mem_close,
};

int mvcc_mem_open(struct mvcc_backend **out)
{
	struct mem *mem = calloc(1, sizeof(*mem));

	if (!mem)
		return -ENOMEM;
	mem->backend.ops = &mem_ops;
	mem->records.cmp = record_cmp;
	*out = &mem->backend;
	return 0;
}
