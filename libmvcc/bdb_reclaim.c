// SPDX-License-Identifier: Apache-2.0
/*
 * Giving space back: what is left of sparse segments is copied, some of it a call, to a
 * segment of its own, which then takes their place in the map. Their files go one a
 * call after that. The end of the process in between leaves files that are in no map.
 */
#include "libmvcc/bdb_i.h"

#define GAIN_MIN (4 * BDB_PAGE_BYTES)	/* bytes of a file that are worth the copying */
#define SMALL_RUN 4		/* as many small neighbours become one */

/* What a file of these records takes, about: full pages and the inner nodes. */
static int64_t file_of(int64_t packed)
{
	return packed + packed / 16 + 4 * BDB_PAGE_BYTES;
}

/* What is to be known of a segment before it is merged. */
struct candidate {
	int64_t live;			/* what is left takes, in full pages */
	bool sparse, small;
};

static int candidate_look(struct bdb *bdb, struct segment *seg, struct candidate *out)
{
	int64_t bytes, gain;
	int r = segment_size(bdb, seg, &bytes);

	if (r)
		return r;
	*out = (struct candidate){ .live = seg->live.packed };
	if (!seg->counted || seg->fresh)
		return 0;
	gain = bytes - file_of(out->live);
	out->sparse = gain >= MAX(bytes / 4, (int64_t)GAIN_MIN);
	/* but for what is written to, an empty one goes in any case */
	out->sparse |= !out->live && seg != bdb->segments[bdb->n_segments - 1];
	out->small = bytes <= bdb->segment_bytes / 4;
	return 0;
}

/* Whether all of segment @at can be in the one that segment @from becomes. */
static int is_within_reach(struct bdb *bdb, size_t from, size_t at, bool *out)
{
	const struct segment *first = bdb->segments[from];
	int64_t last;
	int r;

	*out = at == from;
	if (*out)
		return 0;
	*out = at + 1 < bdb->n_segments && segment_reaches(first, bdb->segments[at + 1]->first);
	if (*out)
		return 0;
	r = segment_last(bdb->segments[at], &last);
	*out = !r && segment_reaches(first, last);
	return r;
}

/* From segment @from on: how many neighbours fit into one and are worth it; 0: none. */
static int run_at(struct bdb *bdb, size_t from, size_t *out)
{
	bool sparse = false, within;
	struct candidate c;
	int64_t live = 0;
	size_t n = 0;
	int r;

	for (size_t i = from; i < bdb->n_segments; i++, n++) {
		r = candidate_look(bdb, bdb->segments[i], &c);
		if (!r)
			r = is_within_reach(bdb, from, i, &within);
		if (r)
			return r;
		live += c.live;
		if (!within || !(c.sparse || c.small) || (n && live > bdb->segment_bytes))
			break;
		/* what is being written to joins in only where that is worth it for itself */
		if (i + 1 == bdb->n_segments && !c.sparse)
			break;
		sparse |= c.sparse;
	}
	*out = sparse || n >= SMALL_RUN ? n : 0;
	return 0;
}

int segment_last(struct segment *seg, int64_t *out)
{
	DBT key = { 0 }, value = { .dlen = 0, .flags = DB_DBT_PARTIAL };
	uint32_t sub;
	DBC *cursor;
	int r, closed;

	*out = seg->first - 1;
	r = bdb_error(seg->db->cursor(seg->db, NULL, &cursor, 0));
	if (r)
		return r;
	r = cursor->get(cursor, &key, &value, DB_LAST);
	if (!r && key.size > 8 && get_be64(key.data))
		r = rev_key_decode(slice_of(key.data, key.size), out, &sub);
	else
		r = r == DB_NOTFOUND ? 0 : bdb_error(r);
	closed = bdb_error(cursor->close(cursor));
	return r ? r : closed;
}

/* The segment that is written to is closed off, so that it can be merged. */
static int seal_last(struct bdb *bdb)
{
	struct segment *seg = bdb->segments[bdb->n_segments - 1];
	int64_t last;
	int r = segment_last(seg, &last);

	return r ? r : segment_roll(bdb, MAX(last, seg->first) + 1);
}

static int merge_begin(struct bdb *bdb, size_t from, size_t n)
{
	struct merge *m = &bdb->merge;
	DB_TXN *txn;
	int r = 0;

	if (from + n == bdb->n_segments)
		r = seal_last(bdb);
	if (!r)
		r = bdb_error(bdb->env->txn_begin(bdb->env, NULL, &txn, 0));
	if (r)
		return r;
	*m = (struct merge){ .from = from, .n = n, .at = from };
	r = segment_create(bdb, txn, bdb->segments[from]->first, &m->target);
	if (r) {
		txn->abort(txn);
		return r;
	}
	m->target->fresh = true;
	return bdb_error(txn->commit(txn, 0));
}

/* 1: a merge has begun; 0: there is nothing that is worth one. */
static int merge_find(struct bdb *bdb)
{
	size_t n;
	int r;

	for (size_t from = 0; from < bdb->n_segments; from++) {
		r = run_at(bdb, from, &n);
		if (r)
			return r;
		if (n) {
			r = merge_begin(bdb, from, n);
			return r ? r : 1;
		}
	}
	return 0;
}

/* --- copying -------------------------------------------------------------- */

struct copying {
	struct segment *target;
	DB_TXN *txn;
};

static int copy_rev(void *arg, int64_t main, uint32_t sub, struct slice kv)
{
	const struct copying *c = arg;
	uint8_t key[REV_KEY_MAX];

	return segment_put(c->target, c->txn,
			   slice_of(key, rev_key_encode(key, main, sub)), kv);
}

/* About @bytes more of the sources, in one transaction. */
static int merge_copy(struct bdb *bdb, size_t bytes)
{
	struct merge *m = &bdb->merge;
	struct copying c = { .target = m->target };
	struct segment_scan scan = { .next = m->next, .left = bytes, .fn = copy_rev, .arg = &c };
	struct segment *seg = bdb->segments[m->at];
	int r = bdb_error(bdb->env->txn_begin(bdb->env, NULL, &c.txn, 0));

	if (r)
		return r;
	/* one of which nothing is left need not be read to find that out */
	if (!seg->counted || seg->live.n)
		r = segment_scan(bdb, seg, &scan);
	if (r < 0) {
		c.txn->abort(c.txn);
		return r;
	}
	m->next = r ? scan.next : (struct mvcc_rev){ 0 };
	m->at += !r;
	return bdb_error(c.txn->commit(c.txn, 0));
}

/* --- the exchange --------------------------------------------------------- */

static int map_exchange(struct bdb *bdb, bool empty)
{
	const struct merge *m = &bdb->merge;
	DB_TXN *txn;
	int r = bdb_error(bdb->env->txn_begin(bdb->env, NULL, &txn, 0));

	if (r)
		return r;
	for (size_t i = m->from; i < m->from + m->n && !r; i++)
		r = segment_map(bdb, txn, bdb->segments[i], false);
	if (!r && !empty)
		r = segment_map(bdb, txn, m->target, true);
	if (r) {
		txn->abort(txn);
		return r;
	}
	/* before any of the files goes */
	return bdb_error(txn->commit(txn, DB_TXN_SYNC));
}

static int doom(struct bdb *bdb, struct segment *seg)
{
	int r = vec_grow(&bdb->doomed, &bdb->cap_doomed, bdb->n_doomed);

	if (!r)
		bdb->doomed[bdb->n_doomed++] = seg->number;
	segment_free(seg);
	return r;
}

static int merge_finish(struct bdb *bdb)
{
	struct merge *m = &bdb->merge;
	struct segment **at = &bdb->segments[m->from];
	bool empty = !m->target->live.n;
	int r = map_exchange(bdb, empty);

	for (size_t i = 0; i < m->n && !r; i++)
		r = doom(bdb, at[i]);
	if (!r && empty)
		r = doom(bdb, m->target);
	if (r)
		return r;
	if (!empty)
		*at++ = m->target;
	memmove(at, bdb->segments + m->from + m->n,
		(bdb->n_segments - m->from - m->n) * sizeof(*at));
	bdb->n_segments -= m->n - !empty;
	*m = (struct merge){ 0 };
	return 0;
}

/* --- the whole ------------------------------------------------------------ */

/* Nothing is left to do: the next call begins anew. */
static int settle(struct bdb *bdb)
{
	for (size_t i = 0; i < bdb->n_segments; i++)
		bdb->segments[i]->fresh = false;
	return 0;
}

static int reclaim(struct bdb *bdb, size_t bytes)
{
	const struct merge *m = &bdb->merge;
	int r;

	if (bdb->removed >= 0) {
		r = segment_shrink_removed(bdb, bytes);
		return r ? r : 1;
	}
	if (bdb->n_doomed) {
		r = segment_remove_file(bdb, bdb->doomed[bdb->n_doomed - 1]);
		bdb->n_doomed -= !r;
		return r ? r : 1;
	}
	if (bdb->backups)
		return 0;
	if (!m->target) {
		r = merge_find(bdb);
		return r ? r : settle(bdb);
	}
	r = m->at < m->from + m->n ? merge_copy(bdb, bytes) : merge_finish(bdb);
	return r ? r : 1;
}

int bdb_reclaim(struct mvcc_backend *backend, size_t bytes)
{
	struct bdb *bdb = bdb_of(backend);

	return bdb_explain(bdb, reclaim(bdb, bytes));
}
