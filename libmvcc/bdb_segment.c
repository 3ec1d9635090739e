// SPDX-License-Identifier: Apache-2.0
/* Segments: the files that hold the revisions. See bdb_i.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libmvcc/bdb_file.h"
#include "libmvcc/bdb_i.h"

#define OVERFLOW_BYTES 4080	/* a longer record has pages of its own */
#define PAGE_ROOM (BDB_PAGE_BYTES - 32)

/* --- names ---------------------------------------------------------------- */

void segment_name(uint64_t number, char name[SEGMENT_NAME_MAX])
{
	snprintf(name, SEGMENT_NAME_MAX, SEGMENT_FILE "%010llu", (unsigned long long)number);
}

uint64_t segment_number(const char *name)
{
	size_t n = strlen(SEGMENT_FILE);

	if (strncmp(name, SEGMENT_FILE, n) || strlen(name + n) != 10 ||
	    strspn(name + n, "0123456789") != 10)
		return 0;
	return strtoull(name + n, NULL, 10);
}

/* --- one segment ---------------------------------------------------------- */

void segment_free(struct segment *seg)
{
	if (!seg)
		return;
	if (seg->db)
		seg->db->close(seg->db, DB_NOSYNC);
	free(seg->drops);
	free(seg);
}

static int segment_new(int64_t first, uint64_t number, struct segment **out)
{
	struct segment *seg = calloc(1, sizeof(*seg));

	if (!seg)
		return -ENOMEM;
	seg->first = first;
	seg->number = number;
	*out = seg;
	return 0;
}

int segment_create(struct bdb *bdb, DB_TXN *txn, int64_t first, struct segment **out)
{
	char name[SEGMENT_NAME_MAX];
	struct segment *seg;
	int r = segment_new(first, bdb->next_number, &seg);

	if (r)
		return r;
	bdb->next_number++;
	segment_name(seg->number, name);
	seg->counted = true;
	r = bdb_tree_open(bdb, txn, name, DB_CREATE | DB_EXCL, &seg->db);
	if (r) {
		segment_free(seg);
		return r;
	}
	*out = seg;
	return 0;
}

int segment_size(struct bdb *bdb, struct segment *seg, int64_t *out)
{
	char name[SEGMENT_NAME_MAX];

	if (seg->file_bytes) {
		*out = seg->file_bytes;
		return 0;
	}
	segment_name(seg->number, name);
	return bdb_tree_bytes(bdb, seg->db, name, out);
}

static int64_t round_up(size_t n, size_t to)
{
	return (int64_t)((n + to - 1) / to * to);
}

/* What a record takes in pages that are full. */
static int64_t packed_size(size_t key, size_t value)
{
	int64_t size = round_up(key + 3, 4) + 2;

	if (value > OVERFLOW_BYTES)
		return size + 14 + round_up(value, PAGE_ROOM) / PAGE_ROOM * BDB_PAGE_BYTES;
	return size + round_up(value + 3, 4) + 2;
}

void segment_count_add(struct segment_count *count, struct slice key, struct slice value)
{
	count->n++;
	count->bytes += (int64_t)(key.len + value.len);
	count->packed += packed_size(key.len, value.len);
}

void segment_count_drop(struct segment_count *count, size_t n)
{
	for (; n && count->n; n--) {
		count->bytes -= count->bytes / count->n;
		count->packed -= count->packed / count->n;
		count->n--;
	}
}

int segment_put(struct segment *seg, DB_TXN *txn, struct slice key, struct slice value)
{
	DBT k = dbt_of(key.data, key.len), v = dbt_of(value.data, value.len);

	segment_count_add(&seg->all, key, value);
	segment_count_add(&seg->live, key, value);
	return bdb_error(seg->db->put(seg->db, txn, &k, &v, 0));
}

/* --- all of them ---------------------------------------------------------- */

size_t segment_find(const struct bdb *bdb, int64_t main)
{
	size_t lo = 0, hi = bdb->n_segments;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (bdb->segments[mid]->first <= main)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo ? lo - 1 : bdb->n_segments;
}

int segment_map(struct bdb *bdb, DB_TXN *txn, const struct segment *seg, bool add)
{
	uint8_t key[sizeof(SEGMENT_RECORD) - 1 + 8], number[8];
	DBT k = dbt_of(key, sizeof(key)), v = dbt_of(number, sizeof(number));

	memcpy(key, SEGMENT_RECORD, sizeof(SEGMENT_RECORD) - 1);
	put_be64(key + sizeof(SEGMENT_RECORD) - 1, (uint64_t)seg->first);
	put_be64(number, seg->number);
	if (add)
		return bdb_error(bdb->records->put(bdb->records, txn, &k, &v, 0));
	return bdb_error(bdb->records->del(bdb->records, txn, &k, 0));
}

int segment_roll(struct bdb *bdb, int64_t first)
{
	struct segment *seg;
	DB_TXN *txn;
	int r = vec_grow(&bdb->segments, &bdb->cap_segments, bdb->n_segments);

	if (!r)
		r = bdb_error(bdb->env->txn_begin(bdb->env, NULL, &txn, 0));
	if (r)
		return r;
	r = segment_create(bdb, txn, first, &seg);
	if (!r)
		bdb->segments[bdb->n_segments++] = seg;
	if (!r)
		r = segment_map(bdb, txn, seg, true);
	if (r) {
		txn->abort(txn);
		return r;
	}
	return bdb_error(txn->commit(txn, 0));
}

static bool segment_is_full(const struct bdb *bdb, const struct segment *seg, int64_t main)
{
	return seg->all.packed >= bdb->segment_bytes || !segment_reaches(seg, main);
}

int segments_prepare(struct bdb *bdb, const struct mvcc_batch *batch)
{
	const struct segment *seg;

	if (!batch->n_puts)
		return 0;
	if (bdb->n_segments) {
		seg = bdb->segments[bdb->n_segments - 1];
		BUG_ON(batch->puts[0].main < seg->first);
		if (!segment_is_full(bdb, seg, batch->puts[batch->n_puts - 1].main))
			return 0;
	}
	return segment_roll(bdb, batch->puts[0].main);
}

int segments_put(struct bdb *bdb, DB_TXN *txn, const struct mvcc_batch *batch)
{
	struct segment *seg;
	uint8_t key[REV_KEY_MAX];
	int r = 0;

	if (!batch->n_puts)
		return 0;
	seg = bdb->segments[bdb->n_segments - 1];
	for (size_t i = 0; i < batch->n_puts && !r; i++) {
		const struct batch_put *p = &batch->puts[i];

		r = segment_put(seg, txn, slice_of(key, rev_key_encode(key, p->main, p->sub)),
				blob_slice(p->kv));
	}
	return r;
}

/* --- beginning and end ---------------------------------------------------- */

static bool segment_before(const void *a, const void *b)
{
	const struct segment *const *x = a, *const *y = b;

	return (*x)->first < (*y)->first;
}

static int map_read(void *arg, struct slice key, struct slice value)
{
	const struct slice prefix = { (const uint8_t *)SEGMENT_RECORD, sizeof(SEGMENT_RECORD) - 1 };
	struct bdb *bdb = arg;
	struct segment *seg;
	int r;

	if (!slice_has_prefix(key, prefix))
		return 0;
	if (key.len != prefix.len + 8 || value.len != 8)
		return -EBADMSG;
	r = vec_grow(&bdb->segments, &bdb->cap_segments, bdb->n_segments);
	if (!r)
		r = segment_new((int64_t)get_be64(key.data + prefix.len),
				get_be64(value.data), &seg);
	if (r)
		return r;
	bdb->segments[bdb->n_segments++] = seg;
	bdb->next_number = MAX(bdb->next_number, seg->number + 1);
	return seg->first > 0 ? 0 : -EBADMSG;
}

static int segment_load(struct bdb *bdb, struct segment *seg)
{
	char name[SEGMENT_NAME_MAX];
	int r;

	segment_name(seg->number, name);
	if (faccessat(bdb->dir, name, F_OK, 0))
		return bdb_refuse(bdb, -EBADMSG, "%s: the store is damaged: its file %s is "
				  "missing; restore it from a snapshot or from another member",
				  bdb->path, name);
	r = bdb_tree_open(bdb, NULL, name, 0, &seg->db);
	return r ? r : segment_drops_load(bdb, seg);
}

/* Not by way of Berkeley DB: where its own removal of a file was cut short, recovery may
 * leave 512 bytes by that name, which it then cannot remove. */
static int remove_doomed(struct bdb *bdb)
{
	char name[SEGMENT_NAME_MAX];

	if (!bdb->n_doomed)
		return 0;
	while (bdb->n_doomed) {
		segment_name(bdb->doomed[--bdb->n_doomed], name);
		if (unlinkat(bdb->dir, name, 0) && errno != ENOENT)
			return -errno;
	}
	return durable_sync(bdb->dir);
}

/* What the end of the process left behind of a merge is in no map. */
static int remove_leftovers(struct bdb *bdb)
{
	const struct dirent *e;
	DIR *dir = opendir(bdb->path);
	int r = dir ? 0 : -errno;

	while (!r && (e = readdir(dir))) {
		uint64_t number = segment_number(e->d_name);
		bool known = !number;

		for (size_t i = 0; i < bdb->n_segments && !known; i++)
			known = bdb->segments[i]->number == number;
		if (!known)
			r = vec_grow(&bdb->doomed, &bdb->cap_doomed, bdb->n_doomed);
		if (!known && !r)
			bdb->doomed[bdb->n_doomed++] = number;
		bdb->next_number = MAX(bdb->next_number, number + 1);
	}
	if (dir)
		closedir(dir);
	return r ? r : remove_doomed(bdb);
}

int segment_remove_file(struct bdb *bdb, uint64_t number)
{
	char name[SEGMENT_NAME_MAX];

	segment_name(number, name);
	bdb->removed = openat(bdb->dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (bdb->removed < 0)
		return -errno;
	return bdb_error(bdb->env->dbremove(bdb->env, NULL, name, NULL, DB_AUTO_COMMIT));
}

int segment_shrink_removed(struct bdb *bdb, size_t bytes)
{
	struct stat st;

	/* one that has another name, as a copy of links, is not ours to cut */
	if (!fstat(bdb->removed, &st) && !st.st_nlink && st.st_size > (off_t)bytes &&
	    !ftruncate(bdb->removed, st.st_size - (off_t)bytes))
		return durable_sync(bdb->removed);
	/* where cutting fails, this frees the rest */
	close(bdb->removed);
	bdb->removed = -1;
	return 0;
}

int segments_open(struct bdb *bdb)
{
	int r;

	bdb->next_number = 1;
	r = bdb_scan_tree(bdb, bdb->records, NULL, map_read, bdb);
	if (!r)
		sort_items(bdb->segments, bdb->n_segments, sizeof(*bdb->segments), segment_before);
	if (!r)
		r = remove_leftovers(bdb);
	for (size_t i = 0; i < bdb->n_segments && !r; i++)
		r = segment_load(bdb, bdb->segments[i]);
	return r;
}

void segments_close(struct bdb *bdb)
{
	for (size_t i = 0; i < bdb->n_segments; i++) {
		struct segment *seg = bdb->segments[i];

		if (seg->db)
			seg->db->close(seg->db, 0);
		seg->db = NULL;
		segment_free(seg);
	}
	segment_free(bdb->merge.target);
	free(bdb->segments);
	free(bdb->doomed);
}
