/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libmvcc inside: the structures and who uses whom.
 *
 *	txn.c  range.c  compact.c  watch.c  hash.c	what the callers ask for
 *	store.c  load.c				the whole; opening it
 *	index.c  history.c			keys in order; revisions of one key
 *	cache.c  batch.c  ring.c		the three places where a value can be in
 *						memory: current, not yet stored, recent
 *	group.c  avl.c				who watches a key
 *	record.c  kv.c  backend*.c		small records, encoding, the disk
 *
 * Invariants (mvcc_check() proves them):
 *  1. The index has every key with a revision that is not compacted, in order.
 *  2. A key's newest revision is in the key itself; older ones are in its history,
 *     ascending. A tombstone ends a generation.
 *  3. A revision that is in no finished batch has its value in the pending batch or
 *     in the one that is out.
 *  4. The ring holds the newest revisions without a gap.
 *  5. A watcher that is idle has nothing to be told up to the current revision.
 */
#ifndef LIBMVCC_MVCC_I_H
#define LIBMVCC_MVCC_I_H

#include <errno.h>
#include <stdlib.h>

#include "include/list.h"
#include "libmvcc/avl.h"
#include "libmvcc/backend.h"
#include "libmvcc/mvcc.h"

/* Makes room for one more element of @items; the array at least doubles. */
int vec_grow_(void **items, size_t *cap, size_t n, size_t size);
#define vec_grow(items, cap, n) vec_grow_((void **)(items), cap, n, sizeof(**(items)))

/*
 * What is far from the processor takes 100 ns and more, but many such reads at once
 * take little longer than one: loops ask for what they come to so many turns ahead.
 */
#define AHEAD 8

static inline void fetch_ahead(const void *p, size_t len)
{
	for (size_t i = 0; i < len; i += 64)
		__builtin_prefetch((const uint8_t *)p + i);
}

/* --- history.c: the revisions of one key ---------------------------------- */

/* A superseded revision. @gen numbers the first revision of its generation. */
struct old_rev {
	int64_t main;
	uint32_t sub;			/* with SUB_TOMBSTONE */
	uint32_t gen;
};

/*
 * The superseded revisions of a key, ascending. They are numbered from @first_no
 * on, modulo 2^32. The first @first_len of them are of the generation of the first
 * one, whose head may be compacted: its create revision and the version of its
 * first remaining revision are therefore kept. Of every other generation the head
 * is here, and both follow from it.
 */
struct history {
	uint32_t n, cap, first_no, first_len;
	int64_t create, version;
	struct old_rev revs[];
};

/*
 * A key in the index: its newest revision, and its name behind it. Allocated as
 * offsetof(bytes) + len: 52 bytes beside the name.
 */
struct key {
	int64_t mod;
	int64_t create;			/* 0: the newest revision is a tombstone */
	int64_t version;
	struct history *history;	/* NULL: the newest is the only one */
	struct blob *value;		/* of the newest revision, where it is in memory */
	uint32_t sub;			/* with SUB_TOMBSTONE */
	uint32_t slot;			/* in the cache, while there is a value */
	uint32_t len:31;
	uint32_t hot:1;			/* read since the cache last looked */
	uint8_t bytes[];
};

/* A key as it was at some revision. */
struct found {
	struct key *key;
	int64_t mod, create, version;
	uint32_t sub;
};

static inline struct slice key_slice(const struct key *key)
{
	return slice_of(key->bytes, key->len);
}

static inline void key_fetch(const struct key *key)
{
	fetch_ahead(key, sizeof(*key) + 32);
}

static inline bool key_live(const struct key *key)
{
	return key->create != 0;
}

/* Compaction may have something to do here, now or later. */
static inline bool key_stale(const struct key *key)
{
	return key->history || !key_live(key);
}

struct key *key_new(struct slice name);
void key_free(struct key *key);
/* Makes (@main, @sub) the newest revision; the one before goes to the history. */
int key_push(struct key *key, int64_t main, uint32_t sub, int64_t create, int64_t version);
/* The key as it was at @revision; false where it was not there. */
bool key_at(struct key *key, int64_t revision, struct found *out);
/* How many revisions there are, and the i-th, oldest first. */
size_t key_revs(const struct key *key);
struct batch_drop key_rev(const struct key *key, size_t i);
/* How many of the oldest revisions a compaction at @revision removes. */
size_t key_superseded(const struct key *key, int64_t revision);
/* Removes the @n oldest; not all of them. */
void key_drop(struct key *key, size_t n);
/* The first revision whose main is @revision or above, as a number for key_rev(). */
size_t key_since(const struct key *key, int64_t revision);

/* --- index.c: the keys in order ------------------------------------------- */

#define NODE_MAX 64
#define INDEX_DEPTH_MAX 12

struct node;

struct index {
	struct node *root;
	int64_t live;
	int64_t keys;
};

/* The way from the root to a place in a leaf. */
struct index_path {
	struct node *node[INDEX_DEPTH_MAX];	/* [0] is the leaf */
	unsigned int at[INDEX_DEPTH_MAX];
	unsigned int depth;
	bool exact;				/* the key is there */
};

/* Which keys a walk visits: all filters must hold. */
struct index_walk {
	struct slice from, end;
	bool unbounded;			/* no end */
	bool live;			/* only those that exist now */
	bool stale;			/* only those with something to compact */
	bool reverse;
	int64_t since;			/* only those whose newest revision is not below */
	int (*fn)(void *arg, struct key *key);
	void *arg;
};

int index_init(struct index *index);
void index_release(struct index *index);
struct key *index_find(const struct index *index, struct slice name);
struct key *index_seek(const struct index *index, struct slice name, struct index_path *path);
/* index_seek() in two steps. The first ends where memory is asked for the leaf: there is
 * time for something else, if it leaves the index alone. */
void index_approach(const struct index *index, struct slice name, struct index_path *path);
struct key *index_arrive(const struct index *index, struct slice name, struct index_path *path);
/* Whether index_approach() to @name would end where @path does, the way to a key that is
 * not above it. */
bool index_same_leaf(const struct index_path *path, struct slice name);
/* Asks memory for what searches for these names look at, values and histories too. */
#define INDEX_AHEAD_MAX 16
void index_ahead(const struct index *index, const struct slice *names, size_t n);
/* Asks memory for what a change at @path will write to above the leaf. */
void index_path_fetch(const struct index_path *path);
/* Puts a new key where @path, from index_seek(), says that it is missing. */
int index_insert(struct index *index, struct index_path *path, struct key *key);
/* The key at @path has a new newest revision; it was @was_live before. */
void index_changed(struct index *index, struct index_path *path, bool was_live);
/* Compaction may have left nothing to do at the key at @path. */
void index_settled(struct index *index, struct index_path *path);
/* Takes out and frees the key at @path, which is not live. */
void index_remove(struct index *index, struct index_path *path);
/* Ends where the walk's fn gives non-zero, and returns that. */
int index_walk(const struct index *index, const struct index_walk *walk);
void index_walk_range(struct index_walk *walk, struct mvcc_key_range range);
/* The keys of the range that existed at @revision. */
int64_t index_count(const struct index *index, const struct index_walk *range, int64_t revision);
void index_check(const struct index *index);

/* --- kv.c: the encoded KeyValue ------------------------------------------- */

struct blob *kv_encode(const struct mvcc_kv *kv);
/* Room for what kv_encode() makes of @kv. */
struct blob *kv_room(const struct mvcc_kv *kv);
/* As kv_encode(), into *@room where that is enough. Takes it in any case. */
struct blob *kv_encode_into(struct blob **room, const struct mvcc_kv *kv);
/* The key of an encoded KeyValue of ours. */
struct slice kv_key(const struct blob *kv);
bool range_is_key(struct mvcc_key_range range);
bool range_is_open(struct mvcc_key_range range);
bool range_has(struct mvcc_key_range range, struct slice key);

/* What a blob costs in memory. */
static inline size_t blob_cost(const struct blob *b)
{
	return sizeof(*b) + b->len;
}

/* --- cache.c: current values ---------------------------------------------- */

/*
 * Every key that has its value in memory has a slot. A hand goes round the slots
 * (the CLOCK algorithm): what was read since it last came by stays.
 */
struct cache {
	struct key **slots;
	size_t n, cap, hand;
	size_t tried;			/* by the hand, since it last did any good */
	size_t bytes, limit;
	int64_t hits, misses;
};

size_t value_cost(const struct blob *value);
/* The value of @key, which is its newest, is in memory. */
int cache_set(struct mvcc *store, struct key *key, struct blob *value);
void cache_drop(struct mvcc *store, struct key *key);
bool cache_trim(struct mvcc *store, size_t n);

/* Keys of the cache that a read looks at, whether they may leave, beside two for each that
 * it has brought. */
#define TRIM_READ 256

/* --- batch.c: what is not yet stored -------------------------------------- */

int batch_put(struct mvcc *store, int64_t main, uint32_t sub, struct blob *kv);
int batch_drop(struct mvcc *store, int64_t main, uint32_t sub);
struct blob *batch_find(const struct mvcc *store, int64_t main, uint32_t sub);
void batch_free(struct mvcc_batch *batch);

/* --- fetch.c: values that the backend must be asked for ------------------- */

/* In order of revision; every read begins with it. */
int fetch_sort(struct mvcc_fetch *fetch);
/* 0 and *@out, a borrowed blob or NULL where the record is gone; or MVCC_COLD, and
 * the revision is wanted from now on. @known is fetch->n after fetch_sort(). */
int fetch_find(struct mvcc_fetch *fetch, size_t known, struct mvcc_rev rev, struct blob **out);
/* Holds a value that was found elsewhere, so that fetch_find() has it. */
int fetch_keep(struct mvcc_fetch *fetch, size_t known, struct mvcc_rev rev, struct blob *blob);

/* --- sort.c --------------------------------------------------------------- */

/* @less(a, b): a belongs before b. Not stable: ties come in the order that etcd gives. */
void sort_items(void *items, size_t n, size_t size, bool (*less)(const void *, const void *));

/* --- ring.c: recent events ------------------------------------------------ */

struct ring_event {
	int64_t main;
	uint32_t sub;			/* with SUB_TOMBSTONE */
	bool prev_known;		/* @prev is the value before @main, or there was none */
	bool patched;			/* a tombstone's @kv has its mod revision in it */
	struct blob *kv, *prev;
};

/* Positions count up for ever; an event is at its position modulo @cap. */
struct ring {
	struct ring_event *events;
	size_t cap, max;
	uint64_t head, tail;		/* oldest; one after the newest */
	size_t bytes, max_bytes;
	int64_t first;			/* every revision from here on is in the ring */
};

int ring_push(struct ring *ring, const struct ring_event *event);
/* Forgets what has to go for an event of that many bytes. */
void ring_make_room(struct ring *ring, size_t cost);
/* The event at @pos, head <= pos < tail. */
struct ring_event *ring_at(const struct ring *ring, uint64_t pos);
/* The position of the first event of @revision or above. */
uint64_t ring_seek(const struct ring *ring, int64_t revision);
struct blob *ring_find(const struct ring *ring, int64_t main, uint32_t sub);
void ring_release(struct ring *ring);

/* --- group.c: who watches a key ------------------------------------------- */

/*
 * The watchers of one and the same key or range. The names are behind it; a group of a
 * key ends before @node, that part is for ranges only: 24 bytes beside the name, or 48.
 */
struct watch_group {
	struct mvcc_watcher *first;
	uint32_t key_len, end_len;	/* end_len 0: of a key */
	union {
		struct watch_group *next;	/* of a key: in its hash bucket */
		struct {
			struct watch_group *max; /* in the subtree, the one that ends last */
			struct avl_node node;	/* in the interval tree */
		};
	};
};

struct mvcc_key_range group_range(const struct watch_group *group);

struct watch_table {
	struct watch_group **buckets;
	size_t n_buckets, n_keys;
	struct avl ranges;
	int64_t n, n_prev;		/* watchers; those with prev_kv */
	int64_t n_lagging;		/* those that are not idle */
	struct list ready;
};

/*
 * idle: it has seen all there is. A change that it watches makes it ready; then
 * mvcc_watch_ready() has it taken, until mvcc_watch_next() finds nothing more.
 */
enum watcher_state { WATCHER_IDLE, WATCHER_READY, WATCHER_TAKEN };

/* There may be millions: 56 bytes. */
struct mvcc_watcher {
	struct mvcc_watcher *next, *prev;	/* of its group, in a circle */
	union {
		struct list ready;		/* READY */
		struct watch_past *past;	/* TAKEN: while it reads history */
	};
	struct watch_group *group;
	void *owner;
	int64_t next_revision:56;		/* that it has not seen */
	uint64_t state:2;			/* enum watcher_state */
	uint64_t no_put:1, no_delete:1, prev_kv:1;
	uint64_t joined:1;			/* has caught up once */
	uint64_t begun:1;			/* there was something to see already */
};

/* No store comes to this revision: who begins there or above sees nothing. */
#define WATCH_REVISION_MAX (INT64_MAX >> 8)

int group_join(struct watch_table *table, struct mvcc_key_range range,
	       struct mvcc_watcher *watcher);
void group_leave(struct watch_table *table, struct mvcc_watcher *watcher);
/* Calls @fn for every group that @key is in. */
void group_each(struct watch_table *table, struct slice key,
		void (*fn)(void *arg, struct watch_group *group), void *arg);
void group_table_init(struct watch_table *table);
void group_table_check(const struct watch_table *table);
/* Frees what is left of it; the watchers too. */
void group_table_release(struct watch_table *table, void (*free_watcher)(struct mvcc_watcher *));

/* --- watch.c -------------------------------------------------------------- */

void watch_notify(struct mvcc *store, struct slice key, bool deletion, int64_t main);
void watch_init(struct mvcc *store);
void watch_check(const struct mvcc *store);
void watch_release(struct mvcc *store);

/* --- past.c: events that are no longer in the ring ------------------------ */

/* The revisions of a watcher's range, ascending, from its next one to @upto. */
struct watch_past {
	struct batch_drop *revs;
	size_t n, cap, at;		/* @at: those before it are seen */
	int64_t upto;
};

/* What happened in the range of @watcher from revision @from on, before the ring. */
int past_new(struct mvcc *store, const struct mvcc_watcher *watcher, int64_t from,
	     struct watch_past **out);
void past_free(struct watch_past *past);

/* --- record.c: small records ---------------------------------------------- */

struct record {
	struct avl_node node;
	struct blob *key, *value;
	uint64_t batch;			/* which batch has it already, and where */
	size_t at;
};

/* The library's own records, in the bucket without a name. */
#define RECORD_COMPACT_SCHEDULED "compact_scheduled"
#define RECORD_COMPACT_FINISHED "compact_finished"

int record_put_own(struct mvcc *store, const char *name, int64_t value);
/* @missing where there is none. */
int64_t record_get_own(const struct mvcc *store, const char *name, int64_t missing);
/* A record that the backend holds, at mvcc_open(). */
int record_load(struct mvcc *store, struct slice key, struct slice value);
void record_init(struct mvcc *store);
void record_release(struct mvcc *store);

/* --- compact.c ------------------------------------------------------------ */

struct compaction {
	bool running;
	struct blob *after;		/* the last key done; NULL at the start */
};

void compact_resume(struct mvcc *store);

/* --- load.c --------------------------------------------------------------- */

/* Reads all that the backend holds into a new store. */
int load(struct mvcc *store);

/* --- store.c -------------------------------------------------------------- */

/* A record with a lease that mvcc_open() came across. */
struct leased {
	struct key *key;
	int64_t main, lease;
	uint32_t sub;
};

struct mvcc {
	struct mvcc_backend *backend;
	struct index index;
	struct cache cache;
	struct ring ring;
	struct watch_table watch;
	struct avl records;
	struct mvcc_batch *pending, *out;
	struct mvcc_batch *spare;	/* an empty one, while none is out */
	int64_t revision, compact_revision;
	int64_t stored;			/* main of the last revision of a finished batch */
	int64_t revisions;		/* how many the index holds */
	struct compaction compaction;
	struct {
		bool open;
		int64_t main;
		uint32_t sub;
	} txn;
	struct {
		int64_t create_revision, version;
	} like;				/* of the last put */
	struct leased *leased;
	size_t n_leased, cap_leased;
	bool changed;			/* since mvcc_open() */
};

/* --- range.c -------------------------------------------------------------- */

void result_clear(struct mvcc_result *result);
int result_add(struct mvcc_result *result, struct blob *kv);

/* The value of a revision of @key, borrowed, wherever it is in memory: 0 and *@out,
 * MVCC_COLD, or -EBADMSG where the backend has lost it. */
struct value_want {
	struct key *key;		/* NULL: not known */
	int64_t main;
	uint32_t sub;
	struct mvcc_fetch *fetch;
	size_t known;			/* fetch->n at the start of the read */
};
int value_find(struct mvcc *store, const struct value_want *want, struct blob **out);

/* Something changes: what mvcc_open() found for mvcc_each_leased() is out of date. */
void store_touch(struct mvcc *store);

#endif
