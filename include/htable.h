/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A chained hash table whose nodes live inside their elements. The caller hashes
 * and compares; the table keeps the hash with the node, so growing needs neither.
 *
 *	struct htable t = { 0 };
 *	htable_insert(&t, &elem->node, hash);		-ENOMEM
 *	htable_for_hash(pos, &t, hash, struct elem, node)
 *		if (same(pos)) ...
 *	htable_delete(&t, &elem->node);
 *	htable_release(&t);				frees the buckets, not the elements
 */
#ifndef HTABLE_H
#define HTABLE_H

#include <errno.h>
#include <stdlib.h>

#include "bug.h"
#include "slice.h"

struct htable_node {
	struct htable_node *next;
	uint64_t hash;
};

struct htable {
	struct htable_node **buckets;
	size_t mask;		/* buckets - 1; no buckets yet when buckets is NULL */
	size_t count;
};

static inline uint64_t hash_u64(uint64_t v)
{
	v ^= v >> 32;
	v *= 0x9fb21c651e98df25ull;
	v ^= v >> 29;
	v *= 0xd6e8feb86659fd93ull;
	return v ^ v >> 32;
}

static inline uint64_t hash_bytes(struct slice s)
{
	uint64_t h = s.len * 0x9fb21c651e98df25ull, w;

	for (; s.len >= 8; s.data += 8, s.len -= 8) {
		memcpy(&w, s.data, 8);
		h = hash_u64(h ^ w);
	}
	w = 0;
	if (s.len)
		memcpy(&w, s.data, s.len);
	return hash_u64(h ^ w);
}

static inline int htable_grow_(struct htable *t)
{
	size_t n = t->buckets ? (t->mask + 1) * 2 : 16;
	struct htable_node **fresh = calloc(n, sizeof(*fresh)), *node, *next;

	if (!fresh)
		return -ENOMEM;
	for (size_t i = 0; t->buckets && i <= t->mask; i++) {
		for (node = t->buckets[i]; node; node = next) {
			next = node->next;
			node->next = fresh[node->hash & (n - 1)];
			fresh[node->hash & (n - 1)] = node;
		}
	}
	free(t->buckets);
	t->buckets = fresh;
	t->mask = n - 1;
	return 0;
}

static inline int htable_insert(struct htable *t, struct htable_node *node, uint64_t hash)
{
	if ((!t->buckets || t->count > t->mask) && htable_grow_(t))
		return -ENOMEM;
	node->hash = hash;
	node->next = t->buckets[hash & t->mask];
	t->buckets[hash & t->mask] = node;
	t->count++;
	return 0;
}

/* @node is in @t. */
static inline void htable_delete(struct htable *t, struct htable_node *node)
{
	struct htable_node **at = &t->buckets[node->hash & t->mask];

	while (*at != node) {
		BUG_ON(!*at);
		at = &(*at)->next;
	}
	*at = node->next;
	t->count--;
}

static inline struct htable_node *htable_find_(struct htable_node *node, uint64_t hash)
{
	while (node && node->hash != hash)
		node = node->next;
	return node;
}

static inline struct htable_node *htable_first_(const struct htable *t, uint64_t hash)
{
	return t->buckets ? htable_find_(t->buckets[hash & t->mask], hash) : NULL;
}

/* Visits the elements with this very hash. The body must not delete @pos and go on. */
#define htable_for_hash(pos, t, h, type, member)					\
	for (struct htable_node *node_ = htable_first_((t), (h));			\
	     node_ && ((pos) = container_of(node_, type, member), 1);			\
	     node_ = htable_find_(node_->next, (h)))

static inline void htable_release(struct htable *t)
{
	free(t->buckets);
	*t = (struct htable){ 0 };
}

#endif
