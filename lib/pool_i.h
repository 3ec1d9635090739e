/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for what lives about one turn of the loop: pieces of chains, calls, what
 * nghttp2 allocates for a stream. Sizes are rounded up to powers of two; each thread
 * keeps some of each for reuse, without a lock: enough for a thousand calls at once. Memory may be
 * freed by another thread than the one that allocated it. Under AddressSanitizer
 * nothing is kept, so that it sees every use after free.
 */
#ifndef LIB_POOL_I_H
#define LIB_POOL_I_H

#include <stddef.h>

#define POOL_MIN 64
#define POOL_MAX 16384
/* Bytes of each size that a thread keeps: of sizes up to POOL_SMALL, and above. */
#define POOL_SMALL 1024
#define POOL_KEPT_SMALL (1u << 20)
#define POOL_KEPT_LARGE (1u << 17)

/* The size that @size is rounded up to; above POOL_MAX it stays as it is. */
static inline size_t pool_round(size_t size)
{
	if (size <= POOL_MIN)
		return POOL_MIN;
	if (size > POOL_MAX)
		return size;
	return (size_t)1 << (64 - __builtin_clzl(size - 1));
}

void *pool_alloc(size_t size);
/* @size as it was allocated. NULL is fine. */
void pool_free(void *memory, size_t size);

#endif
