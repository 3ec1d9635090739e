// SPDX-License-Identifier: Apache-2.0
/* Reading: one revision, or many in order. */
#include "libmvcc/bdb_i.h"

/* --- one revision --------------------------------------------------------- */

static DBT dbt_scratch(const struct bdb *bdb)
{
	return (DBT){
		.data = bdb->scratch, .ulen = bdb->scratch_size, .flags = DB_DBT_USERMEM,
	};
}

/* Reads the record of a revision, tombstone or not, into the scratch buffer. 1 where there
 * is one, 0 where there is none. */
static int rev_read(struct bdb *bdb, DBC *cursor, struct mvcc_rev rev, DBT *value)
{
	uint8_t want[REV_KEY_MAX], got[REV_KEY_MAX];
	DBT key;
	int r;

	rev_key_encode(want, rev.main, (uint32_t)rev.sub);
	do {
		memcpy(got, want, REV_KEY_SIZE);
		key = (DBT){
			.data = got, .size = REV_KEY_SIZE, .ulen = sizeof(got),
			.flags = DB_DBT_USERMEM,
		};
		*value = dbt_scratch(bdb);
		r = cursor->get(cursor, &key, value, DB_SET_RANGE);
	} while (r == DB_BUFFER_SMALL && value->size > bdb->scratch_size &&
		 !bdb_scratch(bdb, value->size));
	if (r == DB_NOTFOUND)
		return 0;
	if (r)
		return bdb_error(r);
	return key.size >= REV_KEY_SIZE && !memcmp(got, want, REV_KEY_SIZE);
}

int segments_get(struct bdb *bdb, struct mvcc_rev rev, struct blob **out)
{
	size_t at = segment_find(bdb, rev.main), i;
	struct blob *blob = NULL;
	const struct segment *seg;
	DBC *cursor;
	DBT value;
	int r, closed;

	*out = NULL;
	if (at == bdb->n_segments)
		return 0;
	seg = bdb->segments[at];
	if (!segment_reaches(seg, rev.main))
		return 0;
	i = segment_drops_from(seg, rev);
	if (segment_dropped(seg, rev.main, (uint32_t)rev.sub, &i))
		return 0;
	r = bdb_error(seg->db->cursor(seg->db, NULL, &cursor, 0));
	if (r)
		return r;
	r = rev_read(bdb, cursor, rev, &value);
	if (r > 0) {
		blob = blob_copy(slice_of(value.data, value.size));
		r = blob ? 0 : -ENOMEM;
	}
	closed = bdb_error(cursor->close(cursor));
	if (r || closed) {
		blob_put(blob);
		return r ? r : closed;
	}
	*out = blob;
	return 0;
}

/* --- many ----------------------------------------------------------------- */

/* Hands on what one bulk read has brought. */
static int scan_bulk(DBT *bulk, bdb_pair_fn fn, void *arg)
{
	uint8_t *key, *value;
	size_t key_len, value_len;
	void *at;
	int r = 0;

	DB_MULTIPLE_INIT(at, bulk);
	while (!r) {
		DB_MULTIPLE_KEY_NEXT(at, bulk, key, key_len, value, value_len);
		if (!at)
			break;
		r = fn(arg, slice_of(key, key_len), slice_of(value, value_len));
	}
	return r;
}

/* One bulk read, from @from on or what comes next, into the scratch buffer, which grows to
 * what a large record needs. */
static int scan_read(struct bdb *bdb, DBC *cursor, const DBT *from, DBT *bulk)
{
	uint32_t where = from ? DB_SET_RANGE : DB_NEXT;
	DBT key;
	int r;

	do {
		key = from ? *from : (DBT){ 0 };
		*bulk = dbt_scratch(bdb);
		r = cursor->get(cursor, &key, bulk, where | DB_MULTIPLE_KEY);
	} while (r == DB_BUFFER_SMALL && bulk->size > bdb->scratch_size &&
		 !bdb_scratch(bdb, bulk->size));
	return r;
}

int bdb_scan_tree(struct bdb *bdb, DB *db, const DBT *from, bdb_pair_fn fn, void *arg)
{
	DBC *cursor;
	DBT bulk;
	int r, closed;

	r = bdb_error(db->cursor(db, NULL, &cursor, DB_CURSOR_BULK));
	if (r)
		return r;
	do {
		r = scan_read(bdb, cursor, from, &bulk);
		from = NULL;
		if (r == DB_NOTFOUND) {
			r = 0;
			break;
		}
		r = r ? bdb_error(r) : scan_bulk(&bulk, fn, arg);
	} while (!r);
	closed = bdb_error(cursor->close(cursor));
	return r ? r : closed;
}

/* One pair after the other, from the first on, so that no more pages are read than that. */
int bdb_walk_tree(struct bdb *bdb, DB *db, bdb_pair_fn fn, void *arg)
{
	DBT key = { 0 }, value;
	DBC *cursor;
	int r, closed;

	r = bdb_error(db->cursor(db, NULL, &cursor, 0));
	if (r)
		return r;
	while (!r) {
		value = dbt_scratch(bdb);
		r = cursor->get(cursor, &key, &value, DB_NEXT);
		if (r == DB_BUFFER_SMALL && value.size > bdb->scratch_size) {
			r = bdb_scratch(bdb, value.size);
			continue;
		}
		if (r == DB_NOTFOUND)
			r = 1;
		else
			r = r ? bdb_error(r) : fn(arg, slice_of(key.data, key.size),
						  slice_of(value.data, value.size));
	}
	closed = bdb_error(cursor->close(cursor));
	return r < 0 ? r : closed;
}

struct scanning {
	struct segment *seg;
	struct segment_scan *scan;
	bool bounded;
	size_t at;			/* in the list of drops */
	struct segment_count all, live;
};

static int scan_rev(void *arg, struct slice key, struct slice value)
{
	struct scanning *s = arg;
	int64_t main;
	uint32_t sub;
	int r = rev_key_decode(key, &main, &sub);

	if (r)
		return r;
	if (!segment_reaches(s->seg, main))
		return -EBADMSG;
	if (s->bounded && !s->scan->left) {
		s->scan->next = (struct mvcc_rev){ main, sub & ~SUB_TOMBSTONE };
		return SCAN_MORE;
	}
	s->scan->left -= MIN(s->scan->left, key.len + value.len);
	segment_count_add(&s->all, key, value);
	if (segment_dropped(s->seg, main, sub, &s->at))
		return 0;
	segment_count_add(&s->live, key, value);
	return s->scan->fn(s->scan->arg, main, sub, value);
}

int segment_scan(struct bdb *bdb, struct segment *seg, struct segment_scan *scan)
{
	struct scanning s = { .seg = seg, .scan = scan, .bounded = scan->left };
	struct mvcc_rev from = scan->next;
	uint8_t buf[REV_KEY_MAX];
	bool whole;
	DBT key;
	int r;

	whole = from.main < seg->first || (from.main == seg->first && !from.sub);
	if (whole)
		from = (struct mvcc_rev){ seg->first, 0 };
	s.at = segment_drops_from(seg, from);
	key = dbt_of(buf, rev_key_encode(buf, from.main, (uint32_t)from.sub));
	r = bdb_scan_tree(bdb, seg->db, &key, scan_rev, &s);
	if (r || !whole)
		return r;
	if (seg->counted && seg->all.n != s.all.n)
		return bdb_lost(bdb, seg, s.all.n);
	seg->all = s.all;
	seg->live = s.live;
	seg->counted = true;
	return 0;
}

int segments_scan(struct bdb *bdb, struct mvcc_rev from, backend_scan_fn fn, void *arg)
{
	struct segment_scan scan = { .fn = fn, .arg = arg };
	size_t i = segment_find(bdb, from.main);
	int r = 0;

	for (i = i < bdb->n_segments ? i : 0; i < bdb->n_segments && !r; i++) {
		scan.next = from;
		r = segment_scan(bdb, bdb->segments[i], &scan);
	}
	return r;
}
