/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libmvcc: a multi-version key-value store.
 *
 * Every change makes a revision (main, sub): main counts transactions, sub the
 * changes within one. A new store is at revision 1. Keys live in an ordered index
 * in memory; the values of all revisions live in a backend (Berkeley DB, or memory
 * for simulation), keyed by revision.
 *
 * Two sides, two threads.
 *   struct mvcc		the index, the read cache, what is not stored yet, the
 *			watchers. One thread (the core); never blocks, no I/O.
 *   struct mvcc_backend	the disk. One thread (the store thread); blocks.
 * Between them go batches (core to store: "write this in one transaction") and
 * fetches (core to store and back: "read these revisions"). Both are plain
 * memory that one side fills, then hands over whole.
 *
 *	core					store thread
 *	mvcc_put() ... mvcc_end()
 *	batch = mvcc_batch_take(store) ----->	mvcc_backend_write(backend, batch)
 *	mvcc_batch_done(store, batch)  <-----
 *	mvcc_range() gives MVCC_COLD,
 *	  having named revisions in fetch --->	mvcc_backend_fetch(backend, fetch)
 *	mvcc_range() again, same fetch <-----
 *
 * A value is a blob: the protobuf mvccpb.KeyValue, encoded once when it is put;
 * the backend's record, the cache's entry and every response hold references to
 * the same bytes. A deletion is a tombstone: its record is a KeyValue with a key
 * alone, as etcd stores it.
 *
 * Key ranges follow the API: range_end empty means the one key; range_end of one
 * zero byte means every key from key on; otherwise [key, range_end).
 *
 * Errors: negative errno. -ENOMEM and any error of mvcc_backend_write() are final:
 * the process must end with _exit (an orderly close after a failed write destroys
 * a Berkeley DB environment). Outcomes are positive, enum mvcc_outcome.
 *
 * No function here logs, prints, exits, reads a clock or starts a thread.
 * Source: the etcd v3 API (mvccpb, etcdserverpb).
 */
#ifndef LIBMVCC_MVCC_H
#define LIBMVCC_MVCC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/blob.h"
#include "include/slice.h"

struct mvcc;
struct mvcc_backend;
struct mvcc_batch;
struct mvcc_watcher;

enum mvcc_outcome {
	MVCC_COLD = 1,		/* values are wanted: see the fetch, then ask again */
	MVCC_COMPACTED,		/* the revision is below the compact revision */
	MVCC_FUTURE,		/* the revision is above the current one */
};

struct mvcc_rev {
	int64_t main, sub;
};

/* --- values fetched from the backend -------------------------------------- */

struct mvcc_fetched {
	struct mvcc_rev rev;
	struct blob *blob;	/* NULL until fetched, and where the record is gone */
	bool asked;		/* the backend has looked */
};

/*
 * The values that one read wants and does not find in memory. The read adds to it
 * and gives MVCC_COLD; mvcc_backend_fetch() fills it; the read, called again with
 * the same fetch, uses it. Belongs to the caller; holds references. A fetch is for
 * one read: release it before the next one. A transaction that reads the past says
 * keep, and reads once before it writes: what it replaces may leave memory.
 */
struct mvcc_fetch {
	struct mvcc_fetched *items;
	size_t n, cap;
	bool keep;		/* hold what a read finds in memory, too */
};

void mvcc_fetch_init(struct mvcc_fetch *fetch);
void mvcc_fetch_release(struct mvcc_fetch *fetch);

/* --- the backend: store thread -------------------------------------------- */

struct mvcc_bdb_args {
	const char *dir;	/* exists, ours alone; a DB_CONFIG in it is refused */
	size_t cache_bytes;	/* Berkeley DB's own page cache */
	size_t log_bytes;	/* of one of its log files, and a checkpoint for each two of
				   them; 0 means 4 MiB; at least 64 KiB */
	size_t segment_bytes;	/* of one file of revisions, about; 0 means 64 MiB */
};

/* On failure @why (of @why_size bytes) says what was wrong and what to do. */
int mvcc_bdb_open(const struct mvcc_bdb_args *args, struct mvcc_backend **out,
		  char *why, size_t why_size);
int mvcc_mem_open(struct mvcc_backend **out);
void mvcc_backend_close(struct mvcc_backend *backend);

/* Writes a batch in one transaction. Atomic, not yet durable. An error is final. */
int mvcc_backend_write(struct mvcc_backend *backend, const struct mvcc_batch *batch);
/* Makes all batches written so far durable; checkpoints. An error is final. */
int mvcc_backend_sync(struct mvcc_backend *backend);
/* Fills every item of @fetch without a blob. A revision that is gone (compacted
 * meanwhile) stays NULL. Damage: -EBADMSG, never a wrong value. */
int mvcc_backend_fetch(struct mvcc_backend *backend, struct mvcc_fetch *fetch);

/* Every revision in order, as the backend holds them. Stops where @fn gives non-zero,
 * and returns that. The bytes are borrowed for the call. */
struct mvcc_stored {
	struct mvcc_rev rev;
	bool tombstone;
	struct slice kv;
};
int mvcc_backend_each(struct mvcc_backend *backend,
		      int (*fn)(void *arg, const struct mvcc_stored *stored), void *arg);

struct mvcc_backend_size {
	int64_t total, in_use;	/* bytes on disk; of those, holding records */
};
int mvcc_backend_size(struct mvcc_backend *backend, struct mvcc_backend_size *out);
/* What the backend last had to say of an error, with the file, or an empty string. */
const char *mvcc_backend_why(const struct mvcc_backend *backend);

/*
 * Gives the space of removed revisions back to the file system, in slices between
 * other work: each call copies about @bytes of records that are still there, in a
 * transaction of its own, or removes a file. Positive while there is more to do; 0
 * where nothing is worth the copying any more, and while a backup is under way. An
 * error is final.
 *
 * Revisions are in files of about segment_bytes. What is left of those in which a
 * quarter or more is removed goes to new ones, several neighbours into one; then they
 * are removed whole. Space that removals leave in a file is not used otherwise, so
 * this is to be called after every compaction, not only when somebody asks for it. It
 * needs about segment_bytes of free disk for a while. Writing, removing and reading go
 * on between calls; the end of the process at any moment loses nothing but the copying.
 * mvcc_backend_size() takes what is removed from a file for records of the average size
 * in it; after mvcc_open() in_use is exact.
 *
 * Not before mvcc_open(), which counts what is there.
 */
int mvcc_backend_reclaim(struct mvcc_backend *backend, size_t bytes);

/*
 * Reads everything back from the disk, past the cache: every page of every file, every
 * revision, every record of the log files that are kept; about @bytes a call, writing
 * goes on between calls. Begin with a zeroed struct. Positive while there is more; 0:
 * all is right. -EBADMSG: something is damaged, and @what says what and where: file,
 * page or byte, and the revision where it is known. The store may go on after that:
 * what is damaged is not served, a read that meets it fails, and then the error is
 * final. Pages that were written after the scrub came by are for the next one.
 */
struct mvcc_scrub {
	int64_t pages, records, log_bytes;	/* looked at so far */
	char what[256];

	/* the library's own: where it has come to */
	int phase;
	uint32_t page, pages_end;
	uint64_t segment;
	int64_t first;
	struct mvcc_rev next;
	uint32_t log, log_at, log_prev;
};
int mvcc_backend_scrub(struct mvcc_backend *backend, struct mvcc_scrub *scrub, size_t bytes);

/*
 * A copy of the store as it is after the last batch that was written before
 * mvcc_backup_begin(), in @dir, which exists and is empty. Writing goes on between the
 * steps, each of which copies about @bytes, having first read the file that it copies
 * from as a scrub does; reclaiming waits. The beginning copies all small records.
 *
 * 0 of mvcc_backup_step(): the copy is whole and durable; mvcc_bdb_open() opens it,
 * and finds it at mvcc_backup_revision(). Positive: there is more to do. Negative: it
 * has failed, and mvcc_backup_why() says why; -EBADMSG where the store is damaged.
 * mvcc_backup_end() frees it, and removes what it has written unless it is whole. It
 * comes before mvcc_backend_close().
 *
 * The memory backend has no backups: -EOPNOTSUPP.
 */
struct mvcc_backup;
int mvcc_backup_begin(struct mvcc_backend *backend, const char *dir, struct mvcc_backup **out,
		      char *why, size_t why_size);
int mvcc_backup_step(struct mvcc_backup *backup, size_t bytes);
int64_t mvcc_backup_revision(const struct mvcc_backup *backup);
const char *mvcc_backup_why(const struct mvcc_backup *backup);
void mvcc_backup_end(struct mvcc_backup *backup);

/* --- opening -------------------------------------------------------------- */

struct mvcc_args {
	size_t cache_bytes;	/* of current values kept in memory beyond those not yet
				   stored; 0 means 64 MiB */
	size_t ring_events;	/* recent events kept for watchers, and no more than a quarter
				   of cache_bytes of them; 0 means 65536 */
};

/* Builds the index from what @backend holds. A compaction that was under way goes on:
 * mvcc_compact_step() has something to do. Runs before the threads part: it
 * reads the backend on the calling thread. @backend must outlive the store. */
int mvcc_open(struct mvcc_backend *backend, const struct mvcc_args *args,
	      struct mvcc **out, char *why, size_t why_size);
void mvcc_free(struct mvcc *store);

int64_t mvcc_revision(const struct mvcc *store);
int64_t mvcc_compact_revision(const struct mvcc *store);	/* -1: never compacted */

/*
 * Small records of the caller's that are stored in the same transaction as the
 * keys: applied index, leases, members, alarms. All are held in memory. A bucket
 * is a short name; mvcc_record_put() copies; an absent record reads as NULL data.
 */
int mvcc_record_put(struct mvcc *store, const char *bucket, struct slice key, struct slice value);
int mvcc_record_delete(struct mvcc *store, const char *bucket, struct slice key);
struct slice mvcc_record_get(const struct mvcc *store, const char *bucket, struct slice key);
/* In order of key. Stops where @fn gives non-zero, and returns that. */
int mvcc_record_each(const struct mvcc *store, const char *bucket,
		     int (*fn)(void *arg, struct slice key, struct slice value), void *arg);

/* --- writing: one transaction at a time ----------------------------------- */

/*
 *	mvcc_begin(store);
 *	mvcc_put() / mvcc_delete_range() / mvcc_range(), which sees what was written
 *	revision = mvcc_end(store);
 *
 * mvcc_end() gives the revision that the store is at afterwards: one more than
 * before where anything changed, else the same.
 */
void mvcc_begin(struct mvcc *store);
int64_t mvcc_end(struct mvcc *store);

struct mvcc_put {
	struct slice key, value;
	int64_t lease;			/* 0: none */
};
int mvcc_put(struct mvcc *store, const struct mvcc_put *put);

struct mvcc_key_range {
	struct slice key, end;
};

/* What was removed: keys in order; each blob is a KeyValue with a key alone (the
 * tombstone). Release with mvcc_result_release(). @out may be NULL. */
struct mvcc_result;
int mvcc_delete_range(struct mvcc *store, struct mvcc_key_range range, struct mvcc_result *out);

/* --- reading -------------------------------------------------------------- */

enum mvcc_sort_order { MVCC_SORT_NONE, MVCC_SORT_ASCEND, MVCC_SORT_DESCEND };
enum mvcc_sort_target { MVCC_SORT_KEY, MVCC_SORT_VERSION, MVCC_SORT_CREATE, MVCC_SORT_MOD,
			MVCC_SORT_VALUE };

/* etcdserverpb.RangeRequest, by its names. */
struct mvcc_read {
	struct mvcc_key_range range;
	int64_t limit, revision;
	enum mvcc_sort_order sort_order;
	enum mvcc_sort_target sort_target;
	bool keys_only, count_only;
	int64_t min_mod_revision, max_mod_revision;
	int64_t min_create_revision, max_create_revision;
};

struct mvcc_result {
	struct blob **kvs;	/* encoded KeyValues; a reference each */
	size_t n, cap;
	int64_t count;		/* keys in the range, whatever limit and filters */
	bool more;
};

void mvcc_result_init(struct mvcc_result *result);
void mvcc_result_release(struct mvcc_result *result);

/*
 * 0, MVCC_COLD, MVCC_COMPACTED or MVCC_FUTURE; @out is written on 0 only. Semantics
 * as etcd 3.7: count ignores limit and filters; more comes from limit only; a
 * filter or a sort other than by key ascending makes the limit apply afterwards,
 * but for SORT_NONE with a target other than KEY, which limits first and then
 * sorts ascending; keys_only comes from the index, without value and lease.
 * Within a transaction, revision 0 sees the writes so far.
 */
int mvcc_range(struct mvcc *store, const struct mvcc_read *read, struct mvcc_fetch *fetch,
	       struct mvcc_result *out);

/*
 * These keys are read or written next: what that looks at begins to come from memory,
 * for all of them at the same time. Changes nothing; at a million keys most of the
 * time of a read is waiting for memory. For a dozen or so, right before their turn.
 */
void mvcc_ahead(const struct mvcc *store, const struct slice *keys, size_t n);

/* What the index knows of a key without its value. False: there is no such key now. */
struct mvcc_key_info {
	int64_t create_revision, version;
	struct mvcc_rev mod;
};
bool mvcc_find(const struct mvcc *store, struct slice key, struct mvcc_key_info *out);

/* An encoded KeyValue, taken apart; slices point into the blob. -EBADMSG. */
struct mvcc_kv {
	struct slice key, value;
	int64_t create_revision, mod_revision, version, lease;
};
int mvcc_kv_decode(struct slice encoded, struct mvcc_kv *out);

/* Every current key that has a lease, in no order; used once, after mvcc_open(). */
int mvcc_each_leased(struct mvcc *store,
		     int (*fn)(void *arg, struct slice key, int64_t lease), void *arg);

/* --- watching ------------------------------------------------------------- */

struct mvcc_watch_args {
	struct mvcc_key_range range;	/* copied */
	int64_t start_revision;		/* 0: from the next revision on */
	bool no_put, no_delete, prev_kv;
	void *owner;			/* the caller's; mvcc_watcher_owner() */
};

enum mvcc_event_type { MVCC_PUT = 0, MVCC_DELETE = 1 };

struct mvcc_event {
	enum mvcc_event_type type;
	int64_t mod_revision;
	struct blob *kv;	/* of a deletion: a KeyValue of key and mod_revision */
	struct blob *prev;	/* with prev_kv, where there was one that is not compacted */
};

struct mvcc_events {
	struct mvcc_event *events;
	size_t n, cap;
	int64_t revision;	/* the watcher has now seen everything up to here */
	int64_t compact_revision;	/* with MVCC_COMPACTED */
};

void mvcc_events_init(struct mvcc_events *events);
void mvcc_events_release(struct mvcc_events *events);

/*
 * A watcher is a cursor: the next revision that it has not seen. A new revision
 * that touches its range makes it ready; mvcc_watch_next() moves it on. One that
 * is not asked costs nothing and loses nothing: it falls back from the ring of
 * recent events to history.
 */
int mvcc_watch(struct mvcc *store, const struct mvcc_watch_args *args, struct mvcc_watcher **out);
void mvcc_unwatch(struct mvcc *store, struct mvcc_watcher *watcher);
void *mvcc_watcher_owner(const struct mvcc_watcher *watcher);
/* Nothing is waiting for it: it has seen everything up to the current revision. Not
 * true yet of one that begins at a revision to come: it may claim no progress. */
bool mvcc_watcher_synced(const struct mvcc *store, const struct mvcc_watcher *watcher);

/* Takes the next watcher off the ready list; NULL at its end. Who takes one must
 * call mvcc_watch_next() on it, now or later, until that gives 0 with n == 0. */
struct mvcc_watcher *mvcc_watch_ready(struct mvcc *store);

/*
 * The next events, whole revisions only, about @max of them (one revision may
 * exceed it). 0: events, none when it is synced (it becomes ready again by itself);
 * MVCC_COLD; MVCC_COMPACTED: its next revision is compacted, nothing more will come.
 * A watcher that had caught up is not cut off by a compaction while the ring still
 * has what it waits for. prev is missing where the revision before is compacted.
 */
int mvcc_watch_next(struct mvcc *store, struct mvcc_watcher *watcher, size_t max,
		    struct mvcc_fetch *fetch, struct mvcc_events *out);

/* --- compaction ----------------------------------------------------------- */

/* Reads below @revision fail from now on. MVCC_COMPACTED, MVCC_FUTURE as etcd. */
int mvcc_compact(struct mvcc *store, int64_t revision);
/* Removes superseded revisions: of at most @keys keys, and about ten times as many; a
 * history that is longer goes in several steps. The removals go into the next batch.
 * Positive while there is more to do. */
int mvcc_compact_step(struct mvcc *store, size_t keys);

/* --- hash ----------------------------------------------------------------- */

/*
 * The hash of everything up to a revision, which members of a cluster compare and
 * which equals etcd's: CRC-32C over the word "key" and every record, key and value.
 * The bytes are handed to @write; the CRC is the caller's.
 *
 * Which of the compacted records count, those that were still current at the
 * revision, only the index knows; so that the hash does not depend on how far their
 * removal has come. Both sides work in slices, while writing goes on:
 *
 *	core					store thread
 *	mvcc_hash_begin(store, ...)
 *	while (mvcc_hash_step(...) > 0)
 *	all that is pending, written	----->	mvcc_backend_write()
 *					----->	while (mvcc_backend_hash() > 0)
 *
 * From the first to the last of these, no mvcc_compact_step().
 */
struct mvcc_hash {
	int64_t revision, compact_revision;
	int64_t current;		/* the store's revision when it began */

	/* the library's own */
	bool compaction;		/* begun by mvcc_hash_begin_compaction() */
	bool any;			/* there was a key at all at the revision */
	bool named;			/* the word "key" is written */
	struct mvcc_rev *keep;		/* of the compacted ones: a set, hashed */
	size_t keep_cap;
	struct blob *after;		/* the last key that was looked at */
	struct mvcc_rev next;		/* the first record that was not */
};

/* Revision 0: the current one; below 0: of nothing, as in etcd. 0, MVCC_COMPACTED,
 * MVCC_FUTURE. */
int mvcc_hash_begin(const struct mvcc *store, int64_t revision, struct mvcc_hash *out);
/* The hash that etcd keeps of a compaction: right after mvcc_compact(), at its revision,
 * as if compacted at @previous (-1: never), the compact revision before. */
void mvcc_hash_begin_compaction(const struct mvcc *store, int64_t previous,
				struct mvcc_hash *out);
/* Looks at no more than @keys keys. Positive while there are more. */
int mvcc_hash_step(const struct mvcc *store, struct mvcc_hash *hash, size_t keys);
void mvcc_hash_release(struct mvcc_hash *hash);
/* Hashes about @bytes of records. Positive while there are more. */
int mvcc_backend_hash(struct mvcc_backend *backend, struct mvcc_hash *hash, size_t bytes,
		      void (*write)(void *arg, struct slice bytes), void *arg);

/* --- batches -------------------------------------------------------------- */

/* How many changes wait to be stored. */
size_t mvcc_batch_pending(const struct mvcc *store);
/* All of them, in order; NULL when there are none. At most one batch is out at a time. */
struct mvcc_batch *mvcc_batch_take(struct mvcc *store);
/* After mvcc_backend_write(): its values may now leave memory. It is the store's again. */
void mvcc_batch_done(struct mvcc *store, struct mvcc_batch *batch);
/*
 * Gives memory back, about @n values at a time: what the last batch held, and what the cache
 * has above its limit. True while there is more. Ten thousand at once take milliseconds.
 * What is left of the batch when the next one is taken goes then; without this call puts
 * let the cache grow beyond its limit, which reads alone bring back.
 */
bool mvcc_trim(struct mvcc *store, size_t n);

/* --- figures -------------------------------------------------------------- */

struct mvcc_stats {
	int64_t keys, revisions;
	int64_t watchers, watchers_lagging;
	int64_t cache_bytes, cache_hits, cache_misses;
	int64_t pending_bytes;
};
void mvcc_stats(const struct mvcc *store, struct mvcc_stats *out);

/* Walks the whole structure; BUG() where it contradicts itself. For tests. */
void mvcc_check(const struct mvcc *store);

#endif
