// SPDX-License-Identifier: Apache-2.0
/* What both backends share: the calls, and the form of a revision's key. */
#include <errno.h>

#include "libmvcc/mvcc_i.h"

int rev_key_decode(struct slice key, int64_t *main, uint32_t *sub)
{
	uint64_t m, s;

	if (key.len != REV_KEY_SIZE && (key.len != REV_KEY_MAX || key.data[REV_KEY_SIZE] != 't'))
		return -EBADMSG;
	m = get_be64(key.data);
	s = get_be64(key.data + 9);
	if (key.data[8] != '_' || m > INT64_MAX || s >= SUB_TOMBSTONE)
		return -EBADMSG;
	*main = (int64_t)m;
	*sub = (uint32_t)s | (key.len == REV_KEY_MAX ? SUB_TOMBSTONE : 0);
	return 0;
}

void mvcc_backend_close(struct mvcc_backend *backend)
{
	if (backend)
		backend->ops->close(backend);
}

int mvcc_backend_write(struct mvcc_backend *backend, const struct mvcc_batch *batch)
{
	return backend->ops->write(backend, batch);
}

int mvcc_backend_sync(struct mvcc_backend *backend)
{
	return backend->ops->sync(backend);
}

int mvcc_backend_size(struct mvcc_backend *backend, struct mvcc_backend_size *out)
{
	return backend->ops->size(backend, out);
}

int mvcc_backend_reclaim(struct mvcc_backend *backend, size_t bytes)
{
	BUG_ON(!bytes);
	return backend->ops->reclaim(backend, bytes);
}

int mvcc_backend_scrub(struct mvcc_backend *backend, struct mvcc_scrub *scrub, size_t bytes)
{
	BUG_ON(!bytes || scrub->what[0]);
	return backend->ops->scrub(backend, scrub, bytes);
}

int mvcc_backup_begin(struct mvcc_backend *backend, const char *dir, struct mvcc_backup **out,
		      char *why, size_t why_size)
{
	if (!backend->ops->backup_begin)
		return -EOPNOTSUPP;
	return backend->ops->backup_begin(backend, dir, out, why, why_size);
}

const char *mvcc_backend_why(const struct mvcc_backend *backend)
{
	return backend->ops->why(backend);
}

/* The record says which revision it is of; one that says another is damage. */
static int fetched_check(const struct mvcc_fetched *item)
{
	struct mvcc_kv kv;
	int r = mvcc_kv_decode(blob_slice(item->blob), &kv);

	if (r)
		return r;
	return kv.mod_revision && kv.mod_revision != item->rev.main ? -EBADMSG : 0;
}

int mvcc_backend_fetch(struct mvcc_backend *backend, struct mvcc_fetch *fetch)
{
	int r = fetch_sort(fetch);

	for (size_t i = 0; i < fetch->n && !r; i++) {
		struct mvcc_fetched *item = &fetch->items[i];

		if (item->asked)
			continue;
		r = backend->ops->get(backend, item->rev, &item->blob);
		item->asked = !r;
		if (!r && item->blob)
			r = fetched_check(item);
	}
	return r;
}

struct each {
	int (*fn)(void *arg, const struct mvcc_stored *stored);
	void *arg;
};

static int each_one(void *arg, int64_t main, uint32_t sub, struct slice kv)
{
	const struct each *e = arg;
	const struct mvcc_stored stored = {
		{ main, sub & ~SUB_TOMBSTONE }, sub & SUB_TOMBSTONE, kv,
	};

	return e->fn(e->arg, &stored);
}

int mvcc_backend_each(struct mvcc_backend *backend,
		      int (*fn)(void *arg, const struct mvcc_stored *stored), void *arg)
{
	struct each e = { fn, arg };

	return backend->ops->scan(backend, (struct mvcc_rev){ 0 }, each_one, &e);
}
