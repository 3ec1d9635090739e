// SPDX-License-Identifier: Apache-2.0
/*
 * The backend on Berkeley DB 5.3: its environment, its errors, its batches.
 *
 * B-trees for the revisions (bdb_segment.c) and one for the small records are in one
 * transactional environment that is private to this process. There is one thread, so
 * there are no locks; commits write the log but do not force it
 * (DB_TXN_WRITE_NOSYNC), sync() does, and takes a checkpoint when enough log has gone
 * by. Pages carry checksums.
 *
 * Berkeley DB reports a failed fsync once and then says success, and an orderly
 * close after a failed write destroys the environment: after the first error of
 * write() or sync() the process must end without closing.
 *
 * What Berkeley DB has to say in words goes to bdb->said, nothing is printed.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libmvcc/bdb_file.h"
#include "libmvcc/bdb_i.h"

#define FORMAT 2
#define CACHE_BYTES_DEFAULT ((size_t)32 << 20)
#define LOG_BUFFER_BYTES (1u << 20)
#define LOG_FILE_BYTES_DEFAULT (4u << 20)
#define SEGMENT_BYTES_DEFAULT (64 << 20)
#define BULK_PUTS 4096
#define SCAN_BYTES (1u << 20)

/* --- errors --------------------------------------------------------------- */

/* Berkeley DB's words; the first of them name the cause, the rest repeat it. */
static void on_error(const DB_ENV *env, const char *prefix, const char *message)
{
	struct bdb *bdb = env->app_private;

	/* that there is no environment to join it says whenever it makes one */
	if (!bdb->said[0] && strncmp(message, "BDB1546", 7))
		snprintf(bdb->said, sizeof(bdb->said), "%s", message);
}

static void on_message(const DB_ENV *env, const char *message)
{
}

int bdb_error(int error)
{
	switch (error) {
	case 0:
		return 0;
	case DB_RUNRECOVERY:		/* among others: a page with a bad checksum */
	case DB_PAGE_NOTFOUND:
	case DB_VERIFY_BAD:
	case DB_LOGCHKSUM:
	case DB_OLD_VERSION:
		return memory_was_short() ? -ENOMEM : disk_was_full() ? disk_was_full() : -EBADMSG;
	case DB_BUFFER_SMALL:
		return -EOVERFLOW;
	default:
		return error > 0 ? -error : -EIO;
	}
}

int bdb_refuse(struct bdb *bdb, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(bdb->why, sizeof(bdb->why), format, args);
	va_end(args);
	return error;
}

int bdb_explain(struct bdb *bdb, int error)
{
	bool damage = error == -EBADMSG;
	bool full = error == -ENOSPC || error == -EDQUOT;
	const char *said = bdb->said[0] && !full ? bdb->said :
			   damage ? "a record contradicts its revision" : strerror(-error);

	if (error >= 0 || bdb->why[0])
		return error;
	return bdb_refuse(bdb, error, damage ? "%s: the store is damaged: %s; restore it from a "
					   "snapshot or from another member" : "%s: %s",
		      bdb->path, said);
}

int bdb_lost(struct bdb *bdb, const struct segment *seg, int64_t found)
{
	char name[SEGMENT_NAME_MAX];

	segment_name(seg->number, name);
	return bdb_refuse(bdb, -EBADMSG, "%s/%s: the store is damaged: it has %lld records and "
			  "should have %lld; restore it from a snapshot or from another member",
			  bdb->path, name, (long long)found, (long long)seg->all.n);
}

int bdb_scratch(struct bdb *bdb, uint32_t size)
{
	uint32_t want = MAX(bdb->scratch_size, SCAN_BYTES);
	uint8_t *p;

	while (want < size)
		want *= 2;
	if (want == bdb->scratch_size)
		return 0;
	p = realloc(bdb->scratch, want);
	if (!p)
		return -ENOMEM;
	bdb->scratch = p;
	bdb->scratch_size = want;
	return 0;
}

/* --- reading -------------------------------------------------------------- */

static int bdb_get(struct mvcc_backend *backend, struct mvcc_rev rev, struct blob **out)
{
	struct bdb *bdb = bdb_of(backend);

	return bdb_explain(bdb, segments_get(bdb, rev, out));
}

static int bdb_scan(struct mvcc_backend *backend, struct mvcc_rev from, backend_scan_fn fn,
		    void *arg)
{
	struct bdb *bdb = bdb_of(backend);

	return bdb_explain(bdb, from.main ? segments_scan(bdb, from, fn, arg) :
					    sum_scan(bdb, fn, arg));
}

struct record_scan {
	backend_record_fn fn;
	void *arg;
};

/* The map of the segments is nobody else's. */
static int scan_record(void *arg, struct slice key, struct slice value)
{
	const struct slice map = { (const uint8_t *)SEGMENT_RECORD, sizeof(SEGMENT_RECORD) - 1 };
	const struct slice sum = { (const uint8_t *)SUM_RECORD, sizeof(SUM_RECORD) - 1 };
	const struct record_scan *s = arg;

	return slice_has_prefix(key, map) || slice_eq(key, sum) ? 0 : s->fn(s->arg, key, value);
}

static int bdb_scan_records(struct mvcc_backend *backend, backend_record_fn fn, void *arg)
{
	struct bdb *bdb = bdb_of(backend);
	struct record_scan s = { fn, arg };

	return bdb_explain(bdb, bdb_scan_tree(bdb, bdb->records, NULL, scan_record, &s));
}

/* --- writing -------------------------------------------------------------- */

static int write_record(struct bdb *bdb, DB_TXN *txn, const struct batch_record *rec)
{
	DBT key = dbt_of(rec->key->data, rec->key->len), value;
	int r;

	if (!rec->value) {
		r = bdb->records->del(bdb->records, txn, &key, 0);
		return r == DB_NOTFOUND ? 0 : bdb_error(r);
	}
	value = dbt_of(rec->value->data, rec->value->len);
	return bdb_error(bdb->records->put(bdb->records, txn, &key, &value, 0));
}

/*
 * A large batch is written in bulk: Berkeley DB does not log what goes to new pages, but
 * writes those back before it commits. That is a third of the work of a put; a small
 * batch has few new pages, and would wait for the disk.
 */
static int batch_begin(struct bdb *bdb, const struct mvcc_batch *batch, DB_TXN **out)
{
	uint32_t flags = batch->n_puts >= BULK_PUTS ? DB_TXN_BULK : 0;

	return bdb_error(bdb->env->txn_begin(bdb->env, NULL, out, flags));
}

static int write_batch(struct bdb *bdb, const struct mvcc_batch *batch)
{
	DB_TXN *txn;
	int r = segments_prepare(bdb, batch);

	if (!r)
		r = batch_begin(bdb, batch, &txn);
	if (r)
		return r;
	r = segments_put(bdb, txn, batch);
	if (!r)
		r = segments_drop(bdb, txn, batch);
	for (size_t i = 0; i < batch->n_records && !r; i++)
		r = write_record(bdb, txn, &batch->records[i]);
	if (!r)
		r = sum_write(bdb, txn, batch);
	if (r) {
		txn->abort(txn);
		return r;
	}
	return bdb_error(txn->commit(txn, 0));
}

static int bdb_write(struct mvcc_backend *backend, const struct mvcc_batch *batch)
{
	struct bdb *bdb = bdb_of(backend);

	return bdb_explain(bdb, write_batch(bdb, batch));
}

static int bdb_sync(struct mvcc_backend *backend)
{
	struct bdb *bdb = bdb_of(backend);
	DB_ENV *env = bdb->env;
	int r = bdb_error(env->log_flush(env, NULL));

	if (!r)
		r = bdb_error(env->txn_checkpoint(env, bdb->log_bytes / 512, 0, 0));
	return bdb_explain(bdb, r);
}

int bdb_tree_bytes(struct bdb *bdb, DB *db, const char *file, int64_t *out)
{
	DB_BTREE_STAT *stat;
	struct stat st;
	int r;

	if (fstatat(bdb->dir, file, &st, 0))
		return -errno;
	r = db->stat(db, NULL, &stat, DB_FAST_STAT);
	if (r)
		return bdb_error(r);
	*out = MAX((int64_t)stat->bt_pagecnt * stat->bt_pagesize, (int64_t)st.st_size);
	free(stat);
	return 0;
}

static int bdb_size(struct mvcc_backend *backend, struct mvcc_backend_size *out)
{
	struct bdb *bdb = bdb_of(backend);
	struct mvcc_backend_size size = { 0 };
	int64_t bytes;
	int r = bdb_tree_bytes(bdb, bdb->records, RECORDS_FILE, &size.total);

	for (size_t i = 0; i < bdb->n_segments && !r; i++) {
		struct segment *seg = bdb->segments[i];

		r = segment_size(bdb, seg, &bytes);
		/* nothing more is appended to it */
		if (!r && i + 1 < bdb->n_segments)
			seg->file_bytes = bytes;
		size.total += bytes;
		size.in_use += seg->live.bytes;
	}
	if (!r && bdb->merge.target) {
		r = segment_size(bdb, bdb->merge.target, &bytes);
		size.total += bytes;
	}
	if (!r)
		*out = size;
	return bdb_explain(bdb, r);
}

static const char *bdb_why(const struct mvcc_backend *backend)
{
	return bdb_of(backend)->why;
}

/* --- opening -------------------------------------------------------------- */

/* Log files are log.0000000001 and so on; files are born under names in __db, where the
 * end of the process at the wrong moment leaves them. */
static bool is_ours(const char *name)
{
	if (!strncmp(name, "__db.", 5) || !strcmp(name, RECORDS_FILE) ||
	    !strcmp(name, PAGES_FILE) || segment_number(name))
		return true;
	return !strncmp(name, "log.", 4) && strlen(name) == 14 &&
	       strspn(name + 4, "0123456789") == 10;
}

/* Refuses a directory with anything in it that is not ours. */
static int dir_check(struct bdb *bdb)
{
	const char *path = bdb->path;
	const struct dirent *e;
	DIR *dir = opendir(path);
	int r = 0;

	if (!dir)
		return bdb_refuse(bdb, -errno, "%s: cannot be read: %s", path, strerror(errno));
	while (!r && (e = readdir(dir))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (!strcmp(e->d_name, "DB_CONFIG"))
			r = bdb_refuse(bdb, -EINVAL, "%s/DB_CONFIG: remove it: it would change "
				       "how Berkeley DB keeps the data", path);
		else if (!is_ours(e->d_name))
			r = bdb_refuse(bdb, -ENOTEMPTY, "%s/%s: not a file of this store; the "
				       "store needs a directory of its own", path, e->d_name);
	}
	closedir(dir);
	return r;
}

/* The lock of the directory itself keeps a second process out. */
static int dir_lock(struct bdb *bdb)
{
	const char *path = bdb->path;

	bdb->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (bdb->dir < 0)
		return bdb_refuse(bdb, -errno, "%s: cannot be opened: %s", path, strerror(errno));
	if (flock(bdb->dir, LOCK_EX | LOCK_NB))
		return bdb_refuse(bdb, -EBUSY, "%s: in use by another process", path);
	return 0;
}

static void set_file_hooks(void)
{
	db_env_set_func_malloc(memory_new);
	db_env_set_func_realloc(memory_resize);
	db_env_set_func_open(file_open);
	db_env_set_func_close(file_close);
	db_env_set_func_pread(file_pread);
	db_env_set_func_seek(file_seek);
	db_env_set_func_write(file_write);
	db_env_set_func_fsync(file_sync);
	db_env_set_func_ftruncate(file_truncate);
	db_env_set_func_rename(file_rename);
	db_env_set_func_unlink(file_unlink);
}

/* Pages that were on their way when the power went come first: see bdb_file.h. */
static int pages_start(struct bdb *bdb)
{
	int r = pages_open(bdb->dir, &bdb->pages);

	if (!r)
		r = files_guard(bdb->path, bdb->pages);
	return r;
}

static int env_open(struct bdb *bdb, const struct mvcc_bdb_args *args)
{
	size_t cache = args->cache_bytes ? args->cache_bytes : CACHE_BYTES_DEFAULT;
	DB_ENV *env;
	int r;

	set_file_hooks();
	r = db_env_create(&env, 0);
	if (r)
		return bdb_error(r);
	bdb->env = env;
	env->app_private = bdb;
	env->set_errcall(env, on_error);
	env->set_msgcall(env, on_message);
	r = env->set_cachesize(env, (uint32_t)(cache >> 30),
			       (uint32_t)(cache & ((UINT32_C(1) << 30) - 1)), 1);
	if (!r)
		r = env->set_lg_bsize(env, MIN(LOG_BUFFER_BYTES, bdb->log_bytes / 4));
	if (!r)
		r = env->set_lg_max(env, bdb->log_bytes);
	if (!r)
		r = env->set_flags(env, DB_TXN_WRITE_NOSYNC, 1);
	if (!r)
		r = env->log_set_config(env, DB_LOG_AUTO_REMOVE, 1);
	if (!r)
		r = env->open(env, args->dir, DB_CREATE | DB_PRIVATE | DB_INIT_TXN | DB_INIT_LOG |
			      DB_INIT_MPOOL | DB_THREAD | DB_RECOVER, 0600);
	/* a log that there was no memory to read is no shorter one */
	return !r && memory_was_short() ? -ENOMEM : bdb_error(r);
}

int bdb_tree_open(struct bdb *bdb, DB_TXN *txn, const char *file, uint32_t flags, DB **out)
{
	DB *db;
	int r = db_create(&db, bdb->env, 0);

	if (r)
		return bdb_error(r);
	r = db->set_flags(db, DB_CHKSUM);
	if (!r)
		r = db->set_pagesize(db, BDB_PAGE_BYTES);
	if (!r)
		r = db->open(db, txn, file, NULL, DB_BTREE,
			     flags | DB_THREAD | (txn ? 0 : DB_AUTO_COMMIT), 0600);
	if (r) {
		db->close(db, DB_NOSYNC);
		/* nothing that is asked for here is invalid: the file is */
		return r == EINVAL ? -EBADMSG : bdb_error(r);
	}
	*out = db;
	return 0;
}

int bdb_number_get(struct bdb *bdb, struct slice key, uint64_t *out)
{
	DBT k = dbt_of(key.data, key.len), v;
	uint8_t bytes[8];
	int r;

	v = (DBT){ .data = bytes, .ulen = sizeof(bytes), .flags = DB_DBT_USERMEM };
	r = bdb->records->get(bdb->records, NULL, &k, &v, 0);
	if (r && r != DB_NOTFOUND)
		return bdb_error(r);
	if (!r && v.size != sizeof(bytes))
		return -EBADMSG;
	*out = r ? 0 : get_be64(bytes);
	return 0;
}

int bdb_number_put(struct bdb *bdb, DB_TXN *txn, struct slice key, uint64_t number)
{
	uint8_t bytes[8];
	DBT k = dbt_of(key.data, key.len), v = dbt_of(bytes, sizeof(bytes));

	put_be64(bytes, number);
	return bdb_error(bdb->records->put(bdb->records, txn, &k, &v, 0));
}

static int pair_seen(void *arg, struct slice key, struct slice value)
{
	return 1;
}

/* A new store gets its format; an old one must have one that is known here. */
static int format_check(struct bdb *bdb)
{
	uint64_t format;
	int r = bdb_number_get(bdb, SLICE_LIT(FORMAT_RECORD), &format);

	if (r || format == FORMAT)
		return r;
	if (format)
		return bdb_refuse(bdb, -EPROTONOSUPPORT, "%s: written by %s version of this "
				  "program; use that one", bdb->path,
				  format < FORMAT ? "an older" : "a newer");
	r = bdb_scan_tree(bdb, bdb->records, NULL, pair_seen, NULL);
	if (r)
		return r < 0 ? r : bdb_refuse(bdb, -EPROTONOSUPPORT, "%s: holds revisions but does "
					      "not say in which format", bdb->path);
	return bdb_number_put(bdb, NULL, SLICE_LIT(FORMAT_RECORD), FORMAT);
}

/* With nothing in its cache: what recovery took for new pages and did not write may be
 * damage, which is seen when they are read again. */
static int env_reopen(struct bdb *bdb, const struct mvcc_bdb_args *args)
{
	int r = bdb_error(bdb->env->close(bdb->env, 0));

	bdb->env = NULL;
	return r ? r : env_open(bdb, args);
}

static int bdb_start(struct bdb *bdb, const struct mvcc_bdb_args *args)
{
	int r = dir_check(bdb);

	if (!r)
		r = dir_lock(bdb);
	if (!r)
		r = bdb_scratch(bdb, SCAN_BYTES);
	if (!r)
		r = pages_start(bdb);
	if (!r)
		r = env_open(bdb, args);
	if (!r && pages_recovered(bdb->pages))
		r = env_reopen(bdb, args);
	if (!r)
		r = bdb_tree_open(bdb, NULL, RECORDS_FILE, DB_CREATE, &bdb->records);
	if (!r)
		r = format_check(bdb);
	return r ? r : segments_open(bdb);
}

static void bdb_close(struct mvcc_backend *backend)
{
	struct bdb *bdb = bdb_of(backend);

	segments_close(bdb);
	if (bdb->records)
		bdb->records->close(bdb->records, 0);
	if (bdb->env && !bdb->env->close(bdb->env, 0) && bdb->pages)
		pages_settle(bdb->pages);
	files_unguard(bdb->pages);
	pages_close(bdb->pages);
	if (bdb->removed >= 0)
		close(bdb->removed);
	if (bdb->dir >= 0)
		close(bdb->dir);
	free(bdb->scratch);
	free(bdb->path);
	free(bdb);
}

static const struct mvcc_backend_ops bdb_ops = {
	.write = bdb_write,
	.sync = bdb_sync,
	.get = bdb_get,
	.scan = bdb_scan,
	.scan_records = bdb_scan_records,
	.size = bdb_size,
	.reclaim = bdb_reclaim,
	.scrub = bdb_scrub,
	.backup_begin = bdb_backup_begin,
	.why = bdb_why,
	.close = bdb_close,
};

int mvcc_bdb_open(const struct mvcc_bdb_args *args, struct mvcc_backend **out,
		  char *why, size_t why_size)
{
	struct bdb *bdb = calloc(1, sizeof(*bdb));
	int r;

	if (!bdb)
		return -ENOMEM;
	bdb->backend.ops = &bdb_ops;
	bdb->dir = bdb->removed = -1;
	bdb->log_bytes = args->log_bytes ? (uint32_t)args->log_bytes : LOG_FILE_BYTES_DEFAULT;
	bdb->segment_bytes = args->segment_bytes ? (int64_t)args->segment_bytes :
						   SEGMENT_BYTES_DEFAULT;
	bdb->path = strdup(args->dir);
	r = bdb->path ? bdb_explain(bdb, bdb_start(bdb, args)) : -ENOMEM;
	if (r) {
		snprintf(why, why_size, "%s", bdb->why);
		bdb_close(&bdb->backend);
		return r;
	}
	*out = &bdb->backend;
	return 0;
}
