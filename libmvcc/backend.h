/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a backend is: the ordered set of revision records and the small records
 * beside them. There are two, Berkeley DB (backend_bdb.c) and memory
 * (backend_mem.c); nothing else of the library knows which one it has.
 *
 * Record of a revision, as etcd lays it out:
 *
 *	key	8 bytes main, big-endian | '_' | 8 bytes sub, big-endian | 't'
 *	value	mvccpb.KeyValue
 *
 * The final 't' is there for a tombstone only. Big-endian order is the order of
 * revisions, so that every write is an append and a scan is history itself.
 *
 * Small record: the key is the bucket's name, a zero byte and the caller's key.
 * The bucket without a name is the library's own (record.c).
 */
#ifndef LIBMVCC_BACKEND_H
#define LIBMVCC_BACKEND_H

#include "include/endian_bytes.h"
#include "libmvcc/mvcc.h"

#define REV_KEY_SIZE 17
#define REV_KEY_MAX 18

/*
 * A revision in 12 bytes: no transaction has 2^31 changes, so the top bit of sub
 * can say that the revision is a tombstone.
 */
#define SUB_TOMBSTONE 0x80000000u

struct batch_put {
	int64_t main;
	uint32_t sub;			/* with SUB_TOMBSTONE */
	struct blob *kv;
};

struct batch_drop {
	int64_t main;
	uint32_t sub;			/* with SUB_TOMBSTONE */
};

struct batch_record {
	struct blob *key;
	struct blob *value;		/* NULL: remove it */
};

/* Written in this order: puts, in order of revision; drops; records. */
struct mvcc_batch {
	struct batch_put *puts;
	size_t n_puts, cap_puts;
	struct batch_drop *drops;
	size_t n_drops, cap_drops;
	struct batch_record *records;
	size_t n_records, cap_records;
	size_t bytes;			/* of the blobs in puts */
	uint64_t id;			/* counts the batches of a store */
};

/* Both end the scan where they give non-zero, which the scan then returns. */
typedef int (*backend_scan_fn)(void *arg, int64_t main, uint32_t sub, struct slice kv);
typedef int (*backend_record_fn)(void *arg, struct slice key, struct slice value);

struct mvcc_backend_ops {
	int (*write)(struct mvcc_backend *backend, const struct mvcc_batch *batch);
	int (*sync)(struct mvcc_backend *backend);
	/* The record of a revision, tombstone or not, or NULL. */
	int (*get)(struct mvcc_backend *backend, struct mvcc_rev rev, struct blob **out);
	/* Every revision from @from on, in order; every record in order. */
	int (*scan)(struct mvcc_backend *backend, struct mvcc_rev from, backend_scan_fn fn,
		    void *arg);
	int (*scan_records)(struct mvcc_backend *backend, backend_record_fn fn, void *arg);
	int (*size)(struct mvcc_backend *backend, struct mvcc_backend_size *out);
	int (*reclaim)(struct mvcc_backend *backend, size_t bytes);
	int (*scrub)(struct mvcc_backend *backend, struct mvcc_scrub *scrub, size_t bytes);
	/* NULL: this backend has no backups. */
	int (*backup_begin)(struct mvcc_backend *backend, const char *dir,
			    struct mvcc_backup **out, char *why, size_t why_size);
	/* The last error in words, or an empty string. */
	const char *(*why)(const struct mvcc_backend *backend);
	void (*close)(struct mvcc_backend *backend);
};

/* The head of either backend's own structure. */
struct mvcc_backend {
	const struct mvcc_backend_ops *ops;
};

static inline size_t rev_key_encode(uint8_t key[REV_KEY_MAX], int64_t main, uint32_t sub)
{
	put_be64(key, (uint64_t)main);
	key[8] = '_';
	put_be64(key + 9, sub & ~SUB_TOMBSTONE);
	key[REV_KEY_SIZE] = 't';
	return sub & SUB_TOMBSTONE ? REV_KEY_MAX : REV_KEY_SIZE;
}

/* -EBADMSG where the bytes are no such key. */
int rev_key_decode(struct slice key, int64_t *main, uint32_t *sub);

#endif
