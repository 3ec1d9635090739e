/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes of the index, for index.c, which changes them, and index_walk.c. */
#ifndef LIBMVCC_INDEX_I_H
#define LIBMVCC_INDEX_I_H

#include "libmvcc/mvcc_i.h"

struct node {
	uint16_t n;
	uint16_t level;			/* 0: a leaf */
	uint32_t skip;			/* bytes that all keys below begin with */
	uint64_t stale;			/* bitmap */
	uint64_t live;			/* bitmap; leaf only */
	uint32_t digest[NODE_MAX];	/* from @n on: DIGEST_NONE */
	struct key *key[NODE_MAX];	/* inner: the first key below the child */
};

/* Not below any digest, so that all of them can be compared without asking for @n. */
#define DIGEST_NONE UINT32_MAX

struct inner {
	struct node node;
	struct node *child[NODE_MAX];
	int64_t live[NODE_MAX];		/* keys below the child */
	int64_t newest[NODE_MAX];	/* no revision below the child is above */
};

static inline struct inner *inner_of(const struct node *node)
{
	BUG_ON(!node->level);
	return container_of(node, struct inner, node);
}

/* Asks memory for all that a search looks at in @node, which is at @level. */
static inline void node_fetch(const struct node *node, unsigned int level)
{
	if (!level) {
		fetch_ahead(node, sizeof(*node));
		return;
	}
	fetch_ahead(node, offsetof(struct node, key));
	fetch_ahead(((const struct inner *)node)->child, sizeof(((struct inner *)NULL)->child));
}

static inline uint64_t bit(unsigned int i)
{
	return UINT64_C(1) << i;
}

/* The bits [from, to). */
static inline uint64_t bits(unsigned int from, unsigned int to)
{
	if (from >= to)
		return 0;
	return (to == 64 ? 0 : bit(to)) - bit(from);
}

/* How many keys are below @name; *@exact where the next one is @name. */
unsigned int node_lower(const struct node *node, struct slice name, bool *exact);
/* The child that @name is in or belongs to. */
unsigned int inner_child(const struct node *node, struct slice name);

#endif
