/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transaction under construction. Keys are handed over to it (allocated memory,
 * freed with it); values are borrowed until it is sent. When memory is short the
 * txn is marked failed and nothing more is added: check once, at the end.
 *
 *	txn_init(&txn);
 *	key = txn_own(&txn, node_key(node, prefix));
 *	txn_require(&txn, TXN_MOD, key, revision);
 *	txn_put(&txn, key, value, lease);
 *	... &txn.request ...
 *	txn_release(&txn);
 */
#ifndef ETCFS_TXN_H
#define ETCFS_TXN_H

#include "include/slice.h"
#include "lib/proto/rpc.pb-c.h"

/* What etcd allows by default in one transaction (--max-txn-ops). */
#define TXN_OPS_MAX 128

struct txn {
	Etcdserverpb__TxnRequest request;
	void **owned;
	size_t n_owned;
	size_t bytes;		/* of keys and values to be put */
	bool failed;
};

enum txn_target { TXN_CREATE, TXN_MOD };

void txn_init(struct txn *txn);
void txn_release(struct txn *txn);

/* Takes the memory of @key, which may be NULL: then the txn has failed. */
struct slice txn_own(struct txn *txn, struct slice key);
/* The end of the range of all keys that begin with @prefix. */
struct slice txn_prefix_end(struct txn *txn, struct slice prefix);
/* The first key after @key. */
struct slice txn_after(struct txn *txn, struct slice key);

/* Only if @target of @key is @revision; 0: only if there is no such key. */
void txn_require(struct txn *txn, enum txn_target target, struct slice key, int64_t revision);
/* Only if there is no key from @key up to @end. */
void txn_require_none(struct txn *txn, struct slice key, struct slice end);
/* Only if nothing from @key up to @end was changed after @revision. */
void txn_require_unchanged(struct txn *txn, struct slice key, struct slice end,
			   int64_t revision);
void txn_put(struct txn *txn, struct slice key, struct slice value, int64_t lease);
/* @end empty: one key. */
void txn_delete(struct txn *txn, struct slice key, struct slice end);
/* Where a requirement is not met the answer has @key as it is. */
void txn_else_read(struct txn *txn, struct slice key);

/* Whether it writes @key. */
bool txn_writes(const struct txn *txn, struct slice key);

#endif
