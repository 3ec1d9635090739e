/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash table whose links live inside its elements. It grows by doubling; when
 * memory for that is short it stays as it is, so adding never fails once
 * table_init() has succeeded.
 */
#ifndef ETCFS_TABLE_H
#define ETCFS_TABLE_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "include/bug.h"
#include "include/slice.h"

struct table_link {
	struct table_link *next;
	uint64_t hash;
};

struct table {
	struct table_link **buckets;
	size_t mask;		/* the number of buckets, a power of two, less one */
	size_t count;
};

#define TABLE_MIN 64u

static inline int table_init(struct table *table)
{
	*table = (struct table){ .mask = TABLE_MIN - 1 };
	table->buckets = calloc(TABLE_MIN, sizeof(*table->buckets));
	return table->buckets ? 0 : -ENOMEM;
}

static inline void table_release(struct table *table)
{
	free(table->buckets);
	*table = (struct table){ 0 };
}

static inline void table_grow_(struct table *table)
{
	size_t n = (table->mask + 1) * 2;
	struct table_link **buckets = calloc(n, sizeof(*buckets));

	if (!buckets)
		return;
	for (size_t i = 0; i <= table->mask; i++) {
		struct table_link *link = table->buckets[i], *next;

		for (; link; link = next) {
			next = link->next;
			link->next = buckets[link->hash & (n - 1)];
			buckets[link->hash & (n - 1)] = link;
		}
	}
	free(table->buckets);
	table->buckets = buckets;
	table->mask = n - 1;
}

static inline void table_add(struct table *table, struct table_link *link, uint64_t hash)
{
	if (table->count > table->mask)
		table_grow_(table);
	link->hash = hash;
	link->next = table->buckets[hash & table->mask];
	table->buckets[hash & table->mask] = link;
	table->count++;
}

/* @link must be in the table. */
static inline void table_del(struct table *table, struct table_link *link)
{
	struct table_link **at = &table->buckets[link->hash & table->mask];

	while (*at != link) {
		BUG_ON(!*at);
		at = &(*at)->next;
	}
	*at = link->next;
	table->count--;
}

/* The first element with this hash, or NULL; table_next() gives the others. */
static inline struct table_link *table_skip_(struct table_link *link, uint64_t hash)
{
	while (link && link->hash != hash)
		link = link->next;
	return link;
}

static inline struct table_link *table_first(const struct table *table, uint64_t hash)
{
	return table_skip_(table->buckets[hash & table->mask], hash);
}

static inline struct table_link *table_next(const struct table_link *link)
{
	return table_skip_(link->next, link->hash);
}

/* FNV-1a over @s, continued from @seed, with a last mix for the low bits. */
static inline uint64_t table_hash(uint64_t seed, struct slice s)
{
	uint64_t h = 0xcbf29ce484222325u ^ (seed * 0x9e3779b97f4a7c15u);

	for (size_t i = 0; i < s.len; i++)
		h = (h ^ s.data[i]) * 0x100000001b3u;
	return h ^ h >> 29;
}

#endif
