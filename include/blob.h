/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blob is an immutable, reference-counted run of bytes: written once by whoever
 * made it, then only read, from any thread. The payload of a log entry and the
 * encoded form of a key are blobs, so that the bytes are made once and never
 * copied: the log thread, the store, the read cache and every response hold
 * references to the same one.
 *
 * blob_new() gives one reference and NULL when memory is short; blob_get() adds
 * one, blob_put() gives one back and frees at the last. blob_put(NULL) is fine.
 */
#ifndef BLOB_H
#define BLOB_H

#include <stdatomic.h>
#include <stdlib.h>

#include "bug.h"
#include "slice.h"

struct blob {
	_Atomic uint32_t refs;
	uint32_t len;
	uint8_t data[];
};

static inline struct blob *blob_new(size_t len)
{
	struct blob *b;

	BUG_ON(len > UINT32_MAX);
	b = malloc(sizeof(*b) + len);
	if (!b)
		return NULL;
	atomic_init(&b->refs, 1);
	b->len = (uint32_t)len;
	return b;
}

static inline struct blob *blob_copy(struct slice s)
{
	struct blob *b = blob_new(s.len);

	if (b && s.len)
		memcpy(b->data, s.data, s.len);
	return b;
}

static inline struct blob *blob_get(struct blob *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	return b;
}

static inline void blob_put(struct blob *b)
{
	if (b && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1)
		free(b);
}

static inline struct slice blob_slice(const struct blob *b)
{
	return slice_of(b->data, b->len);
}

#endif
