// SPDX-License-Identifier: Apache-2.0
/*
 * Backup: a second environment, written as the first one was, but for what is dropped.
 * Records are never removed from a segment, and while a backup is under way no segment
 * goes; so what was there when it began is what is there now, up to the last revision
 * of then, without what was dropped by then.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libmvcc/bdb_i.h"

#define DB_CACHE_BYTES (8 << 20)

/* A segment as it was. */
struct source {
	struct drop *drops;
	size_t n_drops;
};

struct mvcc_backup {
	struct bdb *from;
	struct mvcc_backend *to;	/* NULL once it is closed */
	char *dir;
	int64_t last;			/* the revision that it is of */
	struct source *sources;
	size_t n, at;
	struct mvcc_scrub scrub;
	bool ours;			/* the directory has nothing but the copy */
	bool checked;			/* the pages of this source are */
	bool whole;
	struct mvcc_rev next;
	char why[BDB_WHY_MAX];
};

/* --- the directory -------------------------------------------------------- */

static int dir_is_empty(const char *path, char *why, size_t why_size)
{
	const struct dirent *e;
	DIR *dir = opendir(path);
	int r = dir ? 0 : -errno;

	if (r)
		snprintf(why, why_size, "%s: cannot be read: %s", path, strerror(-r));
	while (!r && (e = readdir(dir))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		snprintf(why, why_size, "%s: is not empty (it has %s); a copy needs an empty "
			 "directory", path, e->d_name);
		r = -ENOTEMPTY;
	}
	if (dir)
		closedir(dir);
	return r;
}

static int each_file(const char *path, int (*fn)(int dir, const char *name))
{
	const struct dirent *e;
	DIR *dir = opendir(path);
	int r = dir ? 0 : -errno;

	while (!r && (e = readdir(dir)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			r = fn(dirfd(dir), e->d_name);
	if (!r && fsync(dirfd(dir)))
		r = -errno;
	if (dir)
		closedir(dir);
	return r;
}

static int sync_file(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	int r = fd < 0 || fsync(fd) ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return r;
}

static int remove_file(int dir, const char *name)
{
	return unlinkat(dir, name, 0) ? -errno : 0;
}

/* --- beginning ------------------------------------------------------------ */

/* What is dropped by now: more will be. */
static int sources_note(struct mvcc_backup *b)
{
	const struct bdb *bdb = b->from;

	b->sources = calloc(bdb->n_segments + 1, sizeof(*b->sources));
	if (!b->sources)
		return -ENOMEM;
	for (; b->n < bdb->n_segments; b->n++) {
		const struct segment *seg = bdb->segments[b->n];
		struct source *s = &b->sources[b->n];

		if (!seg->n_drops)
			continue;
		s->n_drops = seg->n_drops;
		s->drops = malloc(s->n_drops * sizeof(*s->drops));
		if (!s->drops)
			return -ENOMEM;
		memcpy(s->drops, seg->drops, s->n_drops * sizeof(*s->drops));
	}
	return 0;
}

static int last_note(struct mvcc_backup *b)
{
	int r = 0;

	b->last = 1;
	for (size_t i = b->n; i && !r; i--) {
		int64_t last;

		r = segment_last(b->from->segments[i - 1], &last);
		if (r || last >= b->from->segments[i - 1]->first) {
			b->last = r ? 0 : last;
			break;
		}
	}
	return r;
}

struct record_copy {
	struct bdb *to;
	DB_TXN *txn;
};

/* The map of the segments is of the other ones. */
static int copy_record(void *arg, struct slice key, struct slice value)
{
	const struct slice map = { (const uint8_t *)SEGMENT_RECORD, sizeof(SEGMENT_RECORD) - 1 };
	const struct record_copy *c = arg;
	DB *db = c->to->records;
	DBT k = dbt_of(key.data, key.len), v = dbt_of(value.data, value.len);

	return slice_has_prefix(key, map) ? 0 : bdb_error(db->put(db, c->txn, &k, &v, 0));
}

static int copy_records(struct mvcc_backup *b)
{
	struct record_copy c = { .to = bdb_of(b->to) };
	int r = bdb_error(c.to->env->txn_begin(c.to->env, NULL, &c.txn, 0));

	if (r)
		return r;
	r = bdb_scan_tree(b->from, b->from->records, NULL, copy_record, &c);
	if (r) {
		c.txn->abort(c.txn);
		return r;
	}
	return bdb_error(c.txn->commit(c.txn, 0));
}

int bdb_backup_begin(struct mvcc_backend *backend, const char *dir, struct mvcc_backup **out,
		     char *why, size_t why_size)
{
	struct bdb *bdb = bdb_of(backend);
	const struct mvcc_bdb_args args = {
		.dir = dir, .cache_bytes = DB_CACHE_BYTES, .log_bytes = bdb->log_bytes,
		.segment_bytes = (size_t)bdb->segment_bytes,
	};
	struct mvcc_backup *b;
	int r = dir_is_empty(dir, why, why_size);

	if (r)
		return r;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->from = bdb;
	bdb->backups++;
	b->dir = strdup(dir);
	r = b->dir ? sources_note(b) : -ENOMEM;
	if (!r)
		r = last_note(b);
	b->ours = !r;
	if (!r)
		r = mvcc_bdb_open(&args, &b->to, why, why_size);
	if (!r)
		r = copy_records(b);
	if (r) {
		mvcc_backup_end(b);
		return r;
	}
	*out = b;
	return 0;
}

/* --- copying -------------------------------------------------------------- */

struct copying {
	struct mvcc_backup *backup;
	DB_TXN *txn;
};

#define COPY_DONE 2	/* of a scan: what comes now is newer */

static int copy_rev(void *arg, int64_t main, uint32_t sub, struct slice kv)
{
	struct copying *c = arg;
	struct mvcc_backup *b = c->backup;
	struct bdb *to = bdb_of(b->to);
	uint8_t key[REV_KEY_MAX];
	struct mvcc_kv decoded;

	if (main > b->last)
		return COPY_DONE;
	if (mvcc_kv_decode(kv, &decoded) ||
	    (!(sub & SUB_TOMBSTONE) && decoded.mod_revision != main)) {
		snprintf(b->why, sizeof(b->why), "the record of revision %lld, %u is not one of "
			 "it: the store is damaged", (long long)main, sub & ~SUB_TOMBSTONE);
		return -EBADMSG;
	}
	return segment_put(to->segments[to->n_segments - 1], c->txn,
			   slice_of(key, rev_key_encode(key, main, sub)), kv);
}

/* About @bytes of the source that it is at, in one transaction of the copy. */
static int copy_slice(struct mvcc_backup *b, size_t bytes)
{
	struct bdb *to = bdb_of(b->to);
	struct segment *seg = b->from->segments[b->at], then = *seg;
	struct copying c = { .backup = b };
	struct segment_scan scan = { .next = b->next, .left = bytes, .fn = copy_rev, .arg = &c };
	int r = 0;

	/* as it was; only its tree and what was dropped from it are looked at */
	then.drops = b->sources[b->at].drops;
	then.n_drops = b->sources[b->at].n_drops;
	if (!b->next.main)
		r = segment_roll(to, seg->first);
	if (!r)
		r = bdb_error(to->env->txn_begin(to->env, NULL, &c.txn, 0));
	if (r)
		return r;
	r = segment_scan(b->from, &then, &scan);
	if (r < 0) {
		c.txn->abort(c.txn);
		return r;
	}
	b->next = r == SCAN_MORE ? scan.next : (struct mvcc_rev){ 0 };
	if (r != SCAN_MORE) {
		b->at++;
		b->checked = false;
	}
	return bdb_error(c.txn->commit(c.txn, 0));
}

/* --- the whole ------------------------------------------------------------ */

/* Its log is of no more use then. */
static int finish(struct mvcc_backup *b)
{
	struct bdb *to = bdb_of(b->to);
	int r = bdb_error(to->env->txn_checkpoint(to->env, 0, 0, DB_FORCE));

	mvcc_backend_close(b->to);
	b->to = NULL;
	if (!r)
		r = each_file(b->dir, sync_file);
	b->whole = !r;
	return r;
}

static int step(struct mvcc_backup *b, size_t bytes)
{
	char file[SEGMENT_NAME_MAX];
	int r;

	if (b->at == b->n)
		return finish(b);
	if (!b->checked) {
		const struct segment *seg = b->from->segments[b->at];

		segment_name(seg->number, file);
		r = scrub_pages(b->from, seg->db, file, bytes, &b->scrub);
		b->checked = !r;
		return r < 0 ? r : 1;
	}
	r = copy_slice(b, bytes);
	return r ? r : 1;
}

int mvcc_backup_step(struct mvcc_backup *b, size_t bytes)
{
	int r;

	BUG_ON(!bytes || !b->to);
	r = step(b, bytes);
	if (r >= 0 || b->why[0])
		return r;
	if (b->scrub.what[0])
		snprintf(b->why, sizeof(b->why), "the store is damaged: %.256s", b->scrub.what);
	else if (b->from->why[0])
		snprintf(b->why, sizeof(b->why), "%s", b->from->why);
	else
		snprintf(b->why, sizeof(b->why), "%s: cannot be written: %s", b->dir,
			 strerror(-r));
	return r;
}

int64_t mvcc_backup_revision(const struct mvcc_backup *b)
{
	return b->last;
}

const char *mvcc_backup_why(const struct mvcc_backup *b)
{
	return b->why;
}

void mvcc_backup_end(struct mvcc_backup *b)
{
	if (!b)
		return;
	mvcc_backend_close(b->to);
	if (b->ours && !b->whole)
		each_file(b->dir, remove_file);
	for (size_t i = 0; i < b->n; i++)
		free(b->sources[i].drops);
	b->from->backups--;
	free(b->sources);
	free(b->dir);
	free(b);
}
