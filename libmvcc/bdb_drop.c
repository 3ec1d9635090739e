// SPDX-License-Identifier: Apache-2.0
/* Revisions that are dropped: noted here, and gone with the file they are in. */
#include "libmvcc/bdb_i.h"

#define LIST_KEY_SIZE 16
#define DROP_SIZE 8

static bool drop_less(const void *a, const void *b)
{
	const struct drop *x = a, *y = b;

	return x->main < y->main || (x->main == y->main && x->sub < y->sub);
}

static struct drop drop_of(const struct segment *seg, int64_t main, uint32_t sub)
{
	BUG_ON(!segment_reaches(seg, main));
	return (struct drop){ (uint32_t)(main - seg->first), sub & ~SUB_TOMBSTONE };
}

/* How many of the dropped are below. */
static size_t drops_below(const struct segment *seg, const struct drop *drop)
{
	size_t lo = 0, hi = seg->n_drops;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (drop_less(&seg->drops[mid], drop))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool drops_have(const struct segment *seg, const struct drop *drop)
{
	size_t at = drops_below(seg, drop);

	return at < seg->n_drops && !drop_less(drop, &seg->drops[at]);
}

size_t segment_drops_from(const struct segment *seg, struct mvcc_rev rev)
{
	struct drop d;

	if (!segment_reaches(seg, rev.main))
		return rev.main < seg->first ? 0 : seg->n_drops;
	d = drop_of(seg, rev.main, (uint32_t)rev.sub);
	return drops_below(seg, &d);
}

bool segment_dropped(const struct segment *seg, int64_t main, uint32_t sub, size_t *at)
{
	const struct drop d = drop_of(seg, main, sub);

	while (*at < seg->n_drops && drop_less(&seg->drops[*at], &d))
		++*at;
	return *at < seg->n_drops && !drop_less(&d, &seg->drops[*at]);
}

static int drops_reserve(struct segment *seg, size_t more)
{
	size_t want = MAX(seg->cap_drops, (size_t)64);
	struct drop *p;

	while (want < seg->n_drops + more)
		want *= 2;
	if (want == seg->cap_drops)
		return 0;
	p = realloc(seg->drops, want * sizeof(*p));
	if (!p)
		return -ENOMEM;
	seg->drops = p;
	seg->cap_drops = want;
	return 0;
}

/* Merges @n sorted ones in, from the back; none of them is there. */
static int drops_add(struct segment *seg, const struct drop *more, size_t n)
{
	size_t at = seg->n_drops;
	int r = drops_reserve(seg, n);

	if (r)
		return r;
	seg->n_drops += n;
	for (size_t to = seg->n_drops; n; to--) {
		if (at && drop_less(&more[n - 1], &seg->drops[at - 1]))
			seg->drops[to - 1] = seg->drops[--at];
		else
			seg->drops[to - 1] = more[--n];
	}
	return 0;
}

static int list_write(struct segment *seg, DB_TXN *txn, const struct drop *drops, size_t n)
{
	uint8_t key[LIST_KEY_SIZE] = { 0 }, *bytes = malloc(n * DROP_SIZE);
	DBT k = dbt_of(key, sizeof(key)), v = dbt_of(bytes, n * DROP_SIZE);
	int r;

	if (!bytes)
		return -ENOMEM;
	put_be64(key + 8, seg->lists++);
	for (size_t i = 0; i < n; i++)
		put_be64(bytes + i * DROP_SIZE, (uint64_t)drops[i].main << 32 | drops[i].sub);
	r = bdb_error(seg->db->put(seg->db, txn, &k, &v, 0));
	free(bytes);
	return r;
}

/* Notes that @n revisions, in order, are dropped; those that are already do not count. */
static int segment_drop(struct segment *seg, DB_TXN *txn, const struct batch_drop *drops,
			size_t n)
{
	struct drop *fresh = malloc(n * sizeof(*fresh));
	size_t n_fresh = 0;
	int r = fresh ? 0 : -ENOMEM;

	for (size_t i = 0; i < n && !r && segment_reaches(seg, drops[i].main); i++) {
		struct drop d = drop_of(seg, drops[i].main, drops[i].sub);

		if (n_fresh && !drop_less(&fresh[n_fresh - 1], &d))
			continue;
		if (!drops_have(seg, &d))
			fresh[n_fresh++] = d;
	}
	if (!r && n_fresh)
		r = list_write(seg, txn, fresh, n_fresh);
	if (!r && n_fresh)
		r = drops_add(seg, fresh, n_fresh);
	segment_count_drop(&seg->live, n_fresh);
	seg->file_bytes = 0;
	free(fresh);
	return r;
}

static int list_read(void *arg, struct slice key, struct slice value)
{
	struct segment *seg = arg;
	uint64_t number;
	int r;

	if (key.len < 8 || get_be64(key.data))
		return 1;
	if (key.len != LIST_KEY_SIZE || value.len % DROP_SIZE)
		return -EBADMSG;
	number = get_be64(key.data + 8);
	if (number != seg->lists)
		return -EBADMSG;
	seg->lists++;
	r = drops_reserve(seg, value.len / DROP_SIZE);
	for (size_t i = 0; i < value.len && !r; i += DROP_SIZE) {
		uint64_t d = get_be64(value.data + i);

		seg->drops[seg->n_drops++] = (struct drop){ (uint32_t)(d >> 32), (uint32_t)d };
	}
	return r;
}

int segment_drops_load(struct bdb *bdb, struct segment *seg)
{
	int r = bdb_walk_tree(bdb, seg->db, list_read, seg);

	if (r)
		return r;
	sort_items(seg->drops, seg->n_drops, sizeof(*seg->drops), drop_less);
	for (size_t i = 1; i < seg->n_drops; i++)
		if (!drop_less(&seg->drops[i - 1], &seg->drops[i]))
			return -EBADMSG;
	return 0;
}

/* --- a batch of them ------------------------------------------------------ */

static bool batch_drop_less(const void *a, const void *b)
{
	const struct batch_drop *x = a, *y = b;
	uint32_t s = x->sub & ~SUB_TOMBSTONE, t = y->sub & ~SUB_TOMBSTONE;

	return x->main < y->main || (x->main == y->main && s < t);
}

/* Those of @drops, in order, that are before @end, or all where it is 0. */
static size_t drops_before(const struct batch_drop *drops, size_t n, struct mvcc_rev end)
{
	size_t i = 0;

	while (i < n && (!end.main || drops[i].main < end.main ||
			 (drops[i].main == end.main &&
			  (drops[i].sub & ~SUB_TOMBSTONE) < (uint32_t)end.sub)))
		i++;
	return i;
}

/* Of the sources of the merge under way, what the target has already is dropped there too. */
static int drop_from_target(struct bdb *bdb, DB_TXN *txn, size_t at,
			    const struct batch_drop *drops, size_t n)
{
	const struct merge *m = &bdb->merge;

	if (!m->target || at < m->from || at >= m->from + m->n)
		return 0;
	if (at >= m->at)
		n = m->next.main ? drops_before(drops, n, m->next) : 0;
	return n ? segment_drop(m->target, txn, drops, n) : 0;
}

static int drop_sorted(struct bdb *bdb, DB_TXN *txn, const struct batch_drop *drops, size_t n)
{
	int r = 0;

	for (size_t i = 0, run; i < n && !r; i += run) {
		size_t at = segment_find(bdb, drops[i].main);
		bool known = at < bdb->n_segments;
		size_t next = known ? at + 1 : 0;
		struct mvcc_rev end = { 0 };

		if (next < bdb->n_segments)
			end.main = bdb->segments[next]->first;
		run = drops_before(drops + i, n - i, end);
		if (!known)
			continue;
		r = segment_drop(bdb->segments[at], txn, drops + i, run);
		if (!r)
			r = drop_from_target(bdb, txn, at, drops + i, run);
	}
	return r;
}

/* A removal for which there is no segment has been done with. */
int segments_drop(struct bdb *bdb, DB_TXN *txn, const struct mvcc_batch *batch)
{
	size_t bytes = batch->n_drops * sizeof(*batch->drops);
	struct batch_drop *sorted;
	int r;

	if (!batch->n_drops)
		return 0;
	sorted = malloc(bytes);
	if (!sorted)
		return -ENOMEM;
	memcpy(sorted, batch->drops, bytes);
	sort_items(sorted, batch->n_drops, sizeof(*sorted), batch_drop_less);
	r = drop_sorted(bdb, txn, sorted, batch->n_drops);
	free(sorted);
	return r;
}
