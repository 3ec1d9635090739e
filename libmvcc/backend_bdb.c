// SPDX-License-Identifier: Apache-2.0
/*
 * The backend on Berkeley DB 5.3: the one file that includes <db.h>.
 *
 * Two B-trees, revisions.db and records.db, in one transactional environment that
 * is private to this process. There is one thread, so there are no locks; commits
 * write the log but do not force it (DB_TXN_WRITE_NOSYNC), sync() does, and takes a
 * checkpoint when enough log has gone by. Pages carry checksums.
 *
 * Berkeley DB reports a failed fsync once and then says success, and an orderly
 * close after a failed write destroys the environment: after the first error of
 * write() or sync() the process must end without closing.
 *
 * What Berkeley DB has to say in words goes to bdb->said, nothing is printed.
 */
#include <sys/types.h>

#include <db.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libmvcc/bdb_file.h"
#include "libmvcc/mvcc_i.h"

#define FORMAT_RECORD "\0format"	/* in the library's own bucket */
#define FORMAT 1
#define PAGE_BYTES 16384
#define CACHE_BYTES_DEFAULT ((size_t)32 << 20)
#define LOG_BUFFER_BYTES (1u << 20)
#define LOG_FILE_BYTES_DEFAULT (32u << 20)
#define SCAN_BYTES (1u << 20)
#define WHY_MAX 512

struct bdb {
	struct mvcc_backend backend;
	DB_ENV *env;
	DB *revisions, *records;
	int dir;			/* locked while we are here */
	struct pages *pages;
	int64_t in_use;			/* bytes of all records */
	uint32_t log_bytes;		/* of one log file */
	uint8_t *scratch;
	uint32_t scratch_size;
	char *path;
	char said[WHY_MAX / 2], why[WHY_MAX];
};

static const char *const our_files[] = { "revisions.db", "records.db" };

static struct bdb *bdb_of(const struct mvcc_backend *backend)
{
	return container_of(backend, struct bdb, backend);
}

/* --- errors --------------------------------------------------------------- */

/* Berkeley DB's words; the first of them name the cause, the rest repeat it. */
static void on_error(const DB_ENV *env, const char *prefix, const char *message)
{
	struct bdb *bdb = env->app_private;

	if (!bdb->said[0])
		snprintf(bdb->said, sizeof(bdb->said), "%s", message);
}

static void on_message(const DB_ENV *env, const char *message)
{
}

/* Errors of the system are positive in Berkeley DB, its own are negative. */
static int translate(int error)
{
	switch (error) {
	case 0:
		return 0;
	case DB_RUNRECOVERY:		/* among others: a page with a bad checksum */
	case DB_PAGE_NOTFOUND:
	case DB_VERIFY_BAD:
	case DB_LOGCHKSUM:
	case DB_OLD_VERSION:
		return -EBADMSG;
	case DB_BUFFER_SMALL:
		return -EOVERFLOW;
	default:
		return error > 0 ? -error : -EIO;
	}
}

__printf(3, 4)
static int refuse(struct bdb *bdb, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(bdb->why, sizeof(bdb->why), format, args);
	va_end(args);
	return error;
}

/* Puts an error into words, unless that is done. Gives the error back. */
static int explain(struct bdb *bdb, int error)
{
	bool damage = error == -EBADMSG;
	const char *said = bdb->said[0] ? bdb->said :
			   damage ? "a record contradicts its revision" : strerror(-error);

	if (error >= 0 || bdb->why[0])
		return error;
	return refuse(bdb, error, damage ? "%s: the store is damaged: %s; restore it from a "
					   "snapshot or from another member" : "%s: %s",
		      bdb->path, said);
}

/* --- records of the two trees --------------------------------------------- */

static DBT dbt_of(const void *data, size_t len)
{
	return (DBT){ .data = (void *)(uintptr_t)data, .size = (uint32_t)len };
}

static int scratch_reserve(struct bdb *bdb, uint32_t size)
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

static DBT dbt_scratch(const struct bdb *bdb)
{
	return (DBT){
		.data = bdb->scratch, .ulen = bdb->scratch_size, .flags = DB_DBT_USERMEM,
	};
}

/*
 * Moves @cursor to the record of a revision, tombstone or not, and reads it into
 * the scratch buffer. 1 where there is one, 0 where there is none.
 */
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
		 !scratch_reserve(bdb, value->size));
	if (r == DB_NOTFOUND)
		return 0;
	if (r)
		return translate(r);
	return key.size >= REV_KEY_SIZE && !memcmp(got, want, REV_KEY_SIZE);
}

static int bdb_get(struct mvcc_backend *backend, struct mvcc_rev rev, struct blob **out)
{
	struct bdb *bdb = bdb_of(backend);
	struct blob *blob = NULL;
	DBC *cursor;
	DBT value;
	int r, closed;

	r = translate(bdb->revisions->cursor(bdb->revisions, NULL, &cursor, 0));
	if (r)
		return r;
	r = rev_read(bdb, cursor, rev, &value);
	if (r > 0) {
		blob = blob_copy(slice_of(value.data, value.size));
		r = blob ? 0 : -ENOMEM;
	}
	closed = translate(cursor->close(cursor));
	if (r || closed) {
		blob_put(blob);
		return r ? r : closed;
	}
	*out = blob;
	return 0;
}

/* --- scans ---------------------------------------------------------------- */

typedef int (*pair_fn)(void *arg, struct slice key, struct slice value);

/* Hands on what one bulk read has brought. */
static int scan_bulk(DBT *bulk, pair_fn fn, void *arg)
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
		 !scratch_reserve(bdb, bulk->size));
	return r;
}

/* @from: NULL for everything. */
static int scan_tree(struct bdb *bdb, DB *db, const DBT *from, pair_fn fn, void *arg)
{
	DBC *cursor;
	DBT bulk;
	int r, closed;

	r = translate(db->cursor(db, NULL, &cursor, DB_CURSOR_BULK));
	if (r)
		return r;
	do {
		r = scan_read(bdb, cursor, from, &bulk);
		from = NULL;
		if (r == DB_NOTFOUND) {
			r = 0;
			break;
		}
		r = r ? translate(r) : scan_bulk(&bulk, fn, arg);
	} while (!r);
	closed = translate(cursor->close(cursor));
	return r ? r : closed;
}

struct rev_scan {
	backend_scan_fn fn;
	void *arg;
	int64_t bytes;
};

static int scan_rev(void *arg, struct slice key, struct slice value)
{
	struct rev_scan *s = arg;
	int64_t main;
	uint32_t sub;
	int r = rev_key_decode(key, &main, &sub);

	s->bytes += (int64_t)(key.len + value.len);
	return r ? r : s->fn(s->arg, main, sub, value);
}

static int bdb_scan(struct mvcc_backend *backend, struct mvcc_rev from, backend_scan_fn fn,
		    void *arg)
{
	struct bdb *bdb = bdb_of(backend);
	struct rev_scan s = { .fn = fn, .arg = arg };
	uint8_t buf[REV_KEY_MAX];
	DBT key = dbt_of(buf, rev_key_encode(buf, from.main, (uint32_t)from.sub));
	int r = explain(bdb, scan_tree(bdb, bdb->revisions, &key, scan_rev, &s));

	if (!r && !from.main)
		bdb->in_use = s.bytes;
	return r;
}

static int bdb_scan_records(struct mvcc_backend *backend, backend_record_fn fn, void *arg)
{
	struct bdb *bdb = bdb_of(backend);

	return explain(bdb, scan_tree(bdb, bdb->records, NULL, fn, arg));
}

/* --- writing -------------------------------------------------------------- */

static int write_put(struct bdb *bdb, DB_TXN *txn, const struct batch_put *put)
{
	uint8_t buf[REV_KEY_MAX];
	DBT key = dbt_of(buf, rev_key_encode(buf, put->main, put->sub));
	DBT value = dbt_of(put->kv->data, put->kv->len);

	bdb->in_use += (int64_t)(key.size + value.size);
	return translate(bdb->revisions->put(bdb->revisions, txn, &key, &value, 0));
}

/* The size of the record is wanted for the accounts, so it is read on the way. */
static int write_drop(struct bdb *bdb, DB_TXN *txn, const struct batch_drop *drop)
{
	struct mvcc_rev rev = { drop->main, drop->sub & ~SUB_TOMBSTONE };
	DBC *cursor;
	DBT value;
	int r, closed;

	r = translate(bdb->revisions->cursor(bdb->revisions, txn, &cursor, 0));
	if (r)
		return r;
	r = rev_read(bdb, cursor, rev, &value);
	if (r > 0) {
		bdb->in_use -= REV_KEY_SIZE + !!(drop->sub & SUB_TOMBSTONE) + (int64_t)value.size;
		r = translate(cursor->del(cursor, 0));
	}
	closed = translate(cursor->close(cursor));
	return r ? r : closed;
}

static int write_record(struct bdb *bdb, DB_TXN *txn, const struct batch_record *rec)
{
	DBT key = dbt_of(rec->key->data, rec->key->len), value;
	int r;

	if (!rec->value) {
		r = bdb->records->del(bdb->records, txn, &key, 0);
		return r == DB_NOTFOUND ? 0 : translate(r);
	}
	value = dbt_of(rec->value->data, rec->value->len);
	return translate(bdb->records->put(bdb->records, txn, &key, &value, 0));
}

static int bdb_write(struct mvcc_backend *backend, const struct mvcc_batch *batch)
{
	struct bdb *bdb = bdb_of(backend);
	DB_TXN *txn;
	int r = translate(bdb->env->txn_begin(bdb->env, NULL, &txn, 0));

	if (r)
		return r;
	for (size_t i = 0; i < batch->n_puts && !r; i++)
		r = write_put(bdb, txn, &batch->puts[i]);
	for (size_t i = 0; i < batch->n_drops && !r; i++)
		r = write_drop(bdb, txn, &batch->drops[i]);
	for (size_t i = 0; i < batch->n_records && !r; i++)
		r = write_record(bdb, txn, &batch->records[i]);
	if (r) {
		txn->abort(txn);
		return r;
	}
	return translate(txn->commit(txn, 0));
}

static int bdb_sync(struct mvcc_backend *backend)
{
	const struct bdb *bdb = bdb_of(backend);
	DB_ENV *env = bdb->env;
	int r = translate(env->log_flush(env, NULL));

	return r ? r : translate(env->txn_checkpoint(env, bdb->log_bytes / 2048, 0, 0));
}

/* Pages that are only in Berkeley DB's cache yet count too: the file grows when they
 * are written back, which may be much later. */
static int tree_bytes(DB *db, int64_t *out)
{
	DB_BTREE_STAT *stat;
	int r = db->stat(db, NULL, &stat, DB_FAST_STAT);

	if (r)
		return translate(r);
	*out = (int64_t)stat->bt_pagecnt * stat->bt_pagesize;
	free(stat);
	return 0;
}

static int bdb_size(struct mvcc_backend *backend, struct mvcc_backend_size *out)
{
	struct bdb *bdb = bdb_of(backend);
	DB *const trees[] = { bdb->revisions, bdb->records };
	int64_t total = 0, bytes;
	struct stat st;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(our_files); i++) {
		if (fstatat(bdb->dir, our_files[i], &st, 0))
			return -errno;
		if ((r = tree_bytes(trees[i], &bytes)))
			return r;
		total += MAX(bytes, (int64_t)st.st_size);
	}
	*out = (struct mvcc_backend_size){ total, bdb->in_use };
	return 0;
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
	if (!strncmp(name, "__db.", 5) || !strcmp(name, PAGES_FILE))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(our_files); i++)
		if (!strcmp(name, our_files[i]))
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
		return refuse(bdb, -errno, "%s: cannot be read: %s", path, strerror(errno));
	while (!r && (e = readdir(dir))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (!strcmp(e->d_name, "DB_CONFIG"))
			r = refuse(bdb, -EINVAL, "%s/DB_CONFIG: remove it: it would change how "
				   "Berkeley DB keeps the data", path);
		else if (!is_ours(e->d_name))
			r = refuse(bdb, -ENOTEMPTY, "%s/%s: not a file of this store; the store "
				   "needs a directory of its own", path, e->d_name);
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
		return refuse(bdb, -errno, "%s: cannot be opened: %s", path, strerror(errno));
	if (flock(bdb->dir, LOCK_EX | LOCK_NB))
		return refuse(bdb, -EBUSY, "%s: in use by another process", path);
	return 0;
}

static void set_file_hooks(void)
{
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
		return translate(r);
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
	return translate(r);
}

static int tree_open(struct bdb *bdb, const char *file, DB **out)
{
	int r = db_create(out, bdb->env, 0);

	if (!r)
		r = (*out)->set_flags(*out, DB_CHKSUM);
	if (!r)
		r = (*out)->set_pagesize(*out, PAGE_BYTES);
	if (!r)
		r = (*out)->open(*out, NULL, file, NULL, DB_BTREE,
				 DB_CREATE | DB_THREAD | DB_AUTO_COMMIT, 0600);
	/* nothing that is asked for here is invalid: the file is */
	return r == EINVAL ? -EBADMSG : translate(r);
}

static int pair_seen(void *arg, struct slice key, struct slice value)
{
	return 1;
}

/* A new store gets its format; an old one must have one that is known here. */
static int format_check(struct bdb *bdb)
{
	DBT key = dbt_of(FORMAT_RECORD, sizeof(FORMAT_RECORD) - 1), value;
	uint8_t bytes[8];
	int r;

	value = (DBT){ .data = bytes, .ulen = sizeof(bytes), .flags = DB_DBT_USERMEM };
	r = bdb->records->get(bdb->records, NULL, &key, &value, 0);
	if (r && r != DB_NOTFOUND)
		return translate(r);
	if (!r && value.size == sizeof(bytes) && get_be64(bytes) == FORMAT)
		return 0;
	if (!r)
		return refuse(bdb, -EPROTONOSUPPORT, "%s: written by a newer version of this "
			      "program; use that one", bdb->path);
	r = scan_tree(bdb, bdb->revisions, NULL, pair_seen, NULL);
	if (r)
		return r < 0 ? r : refuse(bdb, -EPROTONOSUPPORT, "%s: holds revisions but does not "
					  "say in which format", bdb->path);
	put_be64(bytes, FORMAT);
	value = dbt_of(bytes, sizeof(bytes));
	return translate(bdb->records->put(bdb->records, NULL, &key, &value, 0));
}

static int bdb_start(struct bdb *bdb, const struct mvcc_bdb_args *args)
{
	int r = dir_check(bdb);

	if (!r)
		r = dir_lock(bdb);
	if (!r)
		r = scratch_reserve(bdb, SCAN_BYTES);
	if (!r)
		r = pages_start(bdb);
	if (!r)
		r = env_open(bdb, args);
	if (!r)
		r = tree_open(bdb, our_files[0], &bdb->revisions);
	if (!r)
		r = tree_open(bdb, our_files[1], &bdb->records);
	return r ? r : format_check(bdb);
}

static void bdb_close(struct mvcc_backend *backend)
{
	struct bdb *bdb = bdb_of(backend);

	if (bdb->records)
		bdb->records->close(bdb->records, 0);
	if (bdb->revisions)
		bdb->revisions->close(bdb->revisions, 0);
	if (bdb->env && !bdb->env->close(bdb->env, 0) && bdb->pages)
		pages_settle(bdb->pages);
	files_unguard(bdb->pages);
	pages_close(bdb->pages);
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
	bdb->dir = -1;
	bdb->log_bytes = args->log_bytes ? (uint32_t)args->log_bytes : LOG_FILE_BYTES_DEFAULT;
	bdb->path = strdup(args->dir);
	r = bdb->path ? explain(bdb, bdb_start(bdb, args)) : -ENOMEM;
	if (r) {
		snprintf(why, why_size, "%s", bdb->why);
		bdb_close(&bdb->backend);
		return r;
	}
	*out = &bdb->backend;
	return 0;
}
