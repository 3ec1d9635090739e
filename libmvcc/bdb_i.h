/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backend on Berkeley DB inside; only the files bdb_*.c and backend_bdb.c see it.
 *
 * Revisions are in segments: files of about 64 MiB, each a B-tree of its own with the
 * revisions from its first one up to the next segment's. Writing appends to the last.
 * No record is ever deleted from a tree. A removal is a note, "dropped", that the
 * segment keeps in memory and, a list for each batch, at the front of its tree. Space
 * comes back when what is left of a segment, or of several neighbours, is copied to a
 * new one, which takes their place; their files are then removed whole. So there are
 * no holes in a file, no free pages to sort, and a removal costs a few bytes of log.
 *
 *	revisions.0000000007	a segment; its number is never used again
 *	records.db		small records, and the map: which segments there are
 *
 * Record of the map: the key is "\0segment" and the segment's first revision, 8 bytes;
 * the value its number, 8 bytes. A file that is not in the map is a left-over.
 * List of dropped revisions: the key is 8 zero bytes and the list's number, 8 bytes,
 * and so comes before every revision; the value is 8 bytes for each: its main counted
 * from the segment's first, its sub. All numbers are big-endian.
 *
 * Invariants:
 *  1. Segments are in order, and every revision is in the last one that does not begin
 *     after it.
 *  2. A segment's list of drops in memory is sorted and has no revision twice.
 *  3. While a merge runs, its sources stay what counts; what is dropped from them is
 *     dropped from the target too where the target has it already.
 */
#ifndef LIBMVCC_BDB_I_H
#define LIBMVCC_BDB_I_H

#include <sys/types.h>

#include <db.h>

#include "libmvcc/bdb_file.h"
#include "libmvcc/mvcc_i.h"

#define BDB_WHY_MAX 512
#define RECORDS_FILE "records.db"
#define SEGMENT_FILE "revisions."
#define SEGMENT_NAME_MAX 32
#define SEGMENT_RECORD "\0segment"	/* in the library's own bucket */
#define SUM_RECORD "\0sum"
#define FORMAT_RECORD "\0format"

struct pages;

struct drop {
	uint32_t main;			/* from the segment's first */
	uint32_t sub;
};

struct segment_count {
	int64_t n, bytes;
	int64_t packed;			/* what they take in a file without gaps */
};

struct segment {
	int64_t first;
	uint64_t number;
	DB *db;
	bool counted;			/* both counts are known */
	struct segment_count all;	/* dropped ones too */
	struct segment_count live;	/* the others; what is dropped goes as an average one */
	bool fresh;			/* made since the reclaim began */
	int64_t file_bytes;		/* of one that is not written to any more, else 0 */
	uint64_t lists;			/* the number of the next list of drops */
	struct drop *drops;
	size_t n_drops, cap_drops;
};

/* The segments from @from on become @target. */
struct merge {
	struct segment *target;		/* NULL: none runs */
	size_t from, n;
	size_t at;			/* the source that is being copied */
	struct mvcc_rev next;		/* the first revision that is not copied yet */
};

struct bdb {
	struct mvcc_backend backend;
	DB_ENV *env;
	DB *records;
	struct pages *pages;		/* on their way to their places */
	int dir;			/* locked while we are here */
	uint32_t log_bytes;		/* of one log file */
	int64_t segment_bytes;
	struct segment **segments;
	size_t n_segments, cap_segments;
	uint64_t next_number;
	struct merge merge;
	uint64_t *doomed;		/* segments whose files are to be removed */
	size_t n_doomed, cap_doomed;
	int removed;			/* one that has no name any more, or -1 */
	bool reclaiming;
	bool sum_known;
	uint64_t sum;			/* of all revisions: bdb_sum.c */
	unsigned int backups;		/* under way: segments stay */
	uint8_t *scratch;
	uint32_t scratch_size;
	char *path;
	char said[BDB_WHY_MAX / 2], why[BDB_WHY_MAX];
};

static inline struct bdb *bdb_of(const struct mvcc_backend *backend)
{
	return container_of(backend, struct bdb, backend);
}

/* What is further from its first one is in none, or in another one: a segment that was
 * between them may be gone. */
static inline bool segment_reaches(const struct segment *seg, int64_t main)
{
	return main >= seg->first && main - seg->first <= UINT32_MAX;
}

static inline DBT dbt_of(const void *data, size_t len)
{
	return (DBT){ .data = (void *)(uintptr_t)data, .size = (uint32_t)len };
}

/* --- backend_bdb.c -------------------------------------------------------- */

/* Errors of the system are positive in Berkeley DB, its own are negative. */
int bdb_error(int error);
/* Keeps the words, and gives @error back. */
__printf(3, 4)
int bdb_refuse(struct bdb *bdb, int error, const char *format, ...);
/* Puts an error into words, unless that is done. Gives the error back. */
int bdb_explain(struct bdb *bdb, int error);
/* Records are gone from a segment without having been dropped. */
int bdb_lost(struct bdb *bdb, const struct segment *seg, int64_t found);
int bdb_tree_open(struct bdb *bdb, DB_TXN *txn, const char *file, uint32_t flags, DB **out);
/* A small record of the library's own that is a number; 0 where there is none. */
int bdb_number_get(struct bdb *bdb, struct slice key, uint64_t *out);
int bdb_number_put(struct bdb *bdb, DB_TXN *txn, struct slice key, uint64_t number);
/* At least @size bytes in bdb->scratch. */
int bdb_scratch(struct bdb *bdb, uint32_t size);
/* What a tree takes on disk; pages that are only in Berkeley DB's cache yet count too. */
int bdb_tree_bytes(struct bdb *bdb, DB *db, const char *file, int64_t *out);

/* --- bdb_sum.c ------------------------------------------------------------- */

/* Adds up what the batch puts and drops, in its transaction. */
int sum_write(struct bdb *bdb, DB_TXN *txn, const struct mvcc_batch *batch);
/* Every revision, as segments_scan(); and -EBADMSG where they are not all there. */
int sum_scan(struct bdb *bdb, backend_scan_fn fn, void *arg);

/* --- bdb_segment.c -------------------------------------------------------- */

int segments_open(struct bdb *bdb);
void segments_close(struct bdb *bdb);
void segment_name(uint64_t number, char name[SEGMENT_NAME_MAX]);
/* The number in a segment's file name, or 0. */
uint64_t segment_number(const char *name);
int segment_create(struct bdb *bdb, DB_TXN *txn, int64_t first, struct segment **out);
void segment_free(struct segment *seg);
/* What is appended from now on goes to a new segment, which begins at @first. */
int segment_roll(struct bdb *bdb, int64_t first);
/* Adds a segment to the map, or takes it out. */
int segment_map(struct bdb *bdb, DB_TXN *txn, const struct segment *seg, bool add);
/* The index of the segment that @main belongs to, or n_segments. */
size_t segment_find(const struct bdb *bdb, int64_t main);
void segment_count_add(struct segment_count *count, struct slice key, struct slice value);
int segment_put(struct segment *seg, DB_TXN *txn, struct slice key, struct slice value);
int segment_size(struct bdb *bdb, struct segment *seg, int64_t *out);
void segment_count_drop(struct segment_count *count, size_t n);
int segments_put(struct bdb *bdb, DB_TXN *txn, const struct mvcc_batch *batch);
/* Sees to a segment that @batch can be appended to. */
int segments_prepare(struct bdb *bdb, const struct mvcc_batch *batch);
/*
 * A file system that tells its disk of what is free lets all others wait while it does
 * that with a whole segment: so a file that has lost its name is cut shorter, @bytes a
 * call.
 */
int segment_remove_file(struct bdb *bdb, uint64_t number);
int segment_shrink_removed(struct bdb *bdb, size_t bytes);

/* --- bdb_drop.c ----------------------------------------------------------- */

int segments_drop(struct bdb *bdb, DB_TXN *txn, const struct mvcc_batch *batch);
int segment_drops_load(struct bdb *bdb, struct segment *seg);
/* Where in the list of drops a walk from @rev on begins. */
size_t segment_drops_from(const struct segment *seg, struct mvcc_rev rev);
/* Whether a revision is dropped. @at: where a walk in order has come to in the list. */
bool segment_dropped(const struct segment *seg, int64_t main, uint32_t sub, size_t *at);

/* --- bdb_read.c ----------------------------------------------------------- */

/* In order from @from on, or all. Ends where @fn gives non-zero, and returns that. */
typedef int (*bdb_pair_fn)(void *arg, struct slice key, struct slice value);
int bdb_scan_tree(struct bdb *bdb, DB *db, const DBT *from, bdb_pair_fn fn, void *arg);
/* The same from the first one on, without reading ahead; 0 in either case. */
int bdb_walk_tree(struct bdb *bdb, DB *db, bdb_pair_fn fn, void *arg);
struct segment_scan {
	struct mvcc_rev next;		/* from here on; where it stops at @left, on from there */
	size_t left;			/* bytes of records to read, dropped ones too; 0: all */
	backend_scan_fn fn;		/* for those that are not dropped */
	void *arg;
};
/* Gives what @fn gave that was not 0, or SCAN_MORE where it has read enough. */
#define SCAN_MORE 1
int segment_scan(struct bdb *bdb, struct segment *seg, struct segment_scan *scan);
int segments_scan(struct bdb *bdb, struct mvcc_rev from, backend_scan_fn fn, void *arg);
int segments_get(struct bdb *bdb, struct mvcc_rev rev, struct blob **out);

/* --- bdb_reclaim.c -------------------------------------------------------- */

int bdb_reclaim(struct mvcc_backend *backend, size_t bytes);
/* The last revision of a segment; the one before its first where it has none. */
int segment_last(struct segment *seg, int64_t *out);

/* --- bdb_scrub.c ---------------------------------------------------------- */

int bdb_scrub(struct mvcc_backend *backend, struct mvcc_scrub *scrub, size_t bytes);
/* About @bytes of a tree's file. Positive while there are more. */
int scrub_pages(struct bdb *bdb, DB *db, const char *file, size_t bytes,
		struct mvcc_scrub *scrub);

/* --- bdb_backup.c --------------------------------------------------------- */

int bdb_backup_begin(struct mvcc_backend *backend, const char *dir, struct mvcc_backup **out,
		     char *why, size_t why_size);

#endif
