/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A chain is a run of bytes on its way out, made of pieces: small ones are copied
 * into the chain's own memory, large ones stay where they are and the chain holds
 * a reference to their blob. A response is assembled in a chain and leaves in one
 * writev.
 *
 *	chain_init(&c);
 *	p = chain_reserve(&c, 20); ... chain_commit(&c, used);
 *	chain_append(&c, slice);		copies
 *	chain_append_blob(&c, blob, slice);	slice points into blob; refers when large
 *	chain_splice(&to, &from);		moves everything; from is left empty
 *	chain_release(&c);			also of an empty one
 *
 * Running out of memory while assembling marks the chain failed (chain_failed());
 * nothing more is added. Check once, at the end.
 */
#ifndef LIB_CHAIN_H
#define LIB_CHAIN_H

#include <stdbool.h>
#include <sys/uio.h>

#include "include/blob.h"
#include "include/list.h"
#include "include/slice.h"

/* Pieces at least this long are referred to rather than copied. */
#define CHAIN_REFER_MIN 1024

struct chain {
	struct list pieces;
	size_t len;
	bool failed;
};

void chain_init(struct chain *chain);
void chain_release(struct chain *chain);
static inline bool chain_failed(const struct chain *chain) { return chain->failed; }

/* Room for @n bytes in one piece, or NULL; what chain_commit() counts becomes part. */
uint8_t *chain_reserve(struct chain *chain, size_t n);
void chain_commit(struct chain *chain, size_t n);
void chain_append(struct chain *chain, struct slice s);
void chain_append_blob(struct chain *chain, struct blob *blob, struct slice s);
void chain_splice(struct chain *to, struct chain *from);
/* Moves the first @n bytes of @from (all of it where it has fewer) to @to. */
void chain_move(struct chain *to, struct chain *from, size_t n);
/* Drops the first @n bytes. */
void chain_drop(struct chain *chain, size_t n);
/* The first pieces as at most @max iovecs; returns how many. */
int chain_iov(const struct chain *chain, struct iovec *iov, int max);
/* Copies everything to @out, which has room for chain->len bytes. */
void chain_copy(const struct chain *chain, uint8_t *out);

#endif
