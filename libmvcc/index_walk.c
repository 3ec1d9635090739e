// SPDX-License-Identifier: Apache-2.0
/*
 * Reading the index: walks over a range of keys, and counting without a walk.
 *
 * Both go down two edges at most, the one of the range's start and the one of its
 * end; what lies between is inside the range as a whole.
 */
#include "libmvcc/index_i.h"

/* The part of a node that a range takes: children or keys [from, to). */
struct span {
	unsigned int from, to;
};

static struct span node_span(const struct node *node, const struct slice *from,
			     const struct slice *end)
{
	struct span s = { 0, node->n };
	bool exact;

	if (from)
		s.from = node->level ? inner_child(node, *from) : node_lower(node, *from, &exact);
	if (end)
		s.to = node_lower(node, *end, &exact);
	return s;
}

static int walk_leaf(const struct node *leaf, const struct index_walk *w, struct span s)
{
	uint64_t todo = bits(s.from, s.to);
	int r = 0;

	if (w->live)
		todo &= leaf->live;
	if (w->stale)
		todo &= leaf->stale;
	while (todo && !r) {
		unsigned int i = (unsigned int)(w->reverse ? 63 - __builtin_clzll(todo) :
						__builtin_ctzll(todo));

		todo &= ~bit(i);
		if (!w->reverse && i + AHEAD < s.to)
			key_fetch(leaf->key[i + AHEAD]);
		if (leaf->key[i]->mod >= w->since)
			r = w->fn(w->arg, leaf->key[i]);
	}
	return r;
}

static bool walk_wants(const struct index_walk *w, const struct inner *in, unsigned int i)
{
	return in->newest[i] >= w->since && (!w->live || in->live[i]) &&
	       (!w->stale || in->node.stale >> i & 1);
}

static int walk(const struct node *node, const struct index_walk *w, const struct slice *from,
		const struct slice *end)
{
	struct span s = node_span(node, from, end);
	const struct inner *in;
	int r = 0;

	if (!node->level)
		return walk_leaf(node, w, s);
	in = inner_of(node);
	for (unsigned int k = s.from; k < s.to && !r; k++) {
		unsigned int i = w->reverse ? s.to - 1 - (k - s.from) : k;

		if (walk_wants(w, in, i))
			r = walk(in->child[i], w, i == s.from ? from : NULL,
				 i == s.to - 1 ? end : NULL);
	}
	return r;
}

int index_walk(const struct index *index, const struct index_walk *w)
{
	return walk(index->root, w, &w->from, w->unbounded ? NULL : &w->end);
}

void index_walk_range(struct index_walk *w, struct mvcc_key_range range)
{
	BUG_ON(range_is_key(range));
	w->from = range.key;
	w->end = range.end;
	w->unbounded = range_is_open(range);
}

/* --- counting ------------------------------------------------------------- */

static int64_t count_leaf(const struct node *leaf, struct span s, int64_t revision)
{
	uint64_t todo = bits(s.from, s.to);
	struct found found;
	int64_t n = 0;

	if (revision == INT64_MAX)
		return __builtin_popcountll(todo & leaf->live);
	for (; todo; todo &= todo - 1)
		n += key_at(leaf->key[__builtin_ctzll(todo)], revision, &found);
	return n;
}

/* A child that is inside the range and not newer than @revision is not walked. */
static int64_t count(const struct node *node, const struct slice *from, const struct slice *end,
		     int64_t revision)
{
	struct span s = node_span(node, from, end);
	const struct inner *in;
	int64_t n = 0;

	if (!node->level)
		return count_leaf(node, s, revision);
	in = inner_of(node);
	for (unsigned int i = s.from; i < s.to; i++) {
		const struct slice *f = i == s.from ? from : NULL;
		const struct slice *e = i == s.to - 1 ? end : NULL;

		if (!f && !e && in->newest[i] <= revision)
			n += in->live[i];
		else
			n += count(in->child[i], f, e, revision);
	}
	return n;
}

int64_t index_count(const struct index *index, const struct index_walk *w, int64_t revision)
{
	return count(index->root, &w->from, w->unbounded ? NULL : &w->end, revision);
}

/* --- check ---------------------------------------------------------------- */

static void check_keys(const struct node *node)
{
	const struct node *last = node;
	struct slice prefix;
	bool exact;

	BUG_ON(node->n > NODE_MAX);
	for (unsigned int i = node->n; i < NODE_MAX; i++)
		BUG_ON(node->digest[i] != DIGEST_NONE);
	if (!node->n)
		return;
	while (last->level)
		last = inner_of(last)->child[last->n - 1];
	BUG_ON(node->skip > node->key[0]->len);
	prefix = slice_of(node->key[0]->bytes, node->skip);
	BUG_ON(!slice_has_prefix(key_slice(last->key[last->n - 1]), prefix));
	for (unsigned int i = 0; i < node->n; i++) {
		BUG_ON(i && slice_cmp(key_slice(node->key[i - 1]), key_slice(node->key[i])) >= 0);
		BUG_ON(node_lower(node, key_slice(node->key[i]), &exact) != i || !exact);
	}
}

/* What is below @node, counted anew; the child must say the same. */
static void check_node(const struct node *node, int64_t *live, int64_t *keys, int64_t *newest)
{
	check_keys(node);
	for (unsigned int i = 0; i < node->n; i++) {
		int64_t l = 0, k = 0, m = 0;

		if (node->level) {
			const struct inner *in = inner_of(node);

			BUG_ON(in->child[i]->level + 1 != node->level || !in->child[i]->n);
			BUG_ON(in->child[i]->key[0] != node->key[i]);
			check_node(in->child[i], &l, &k, &m);
			BUG_ON(in->live[i] != l || in->newest[i] < m);
			BUG_ON((node->stale >> i & 1) != !!in->child[i]->stale);
		} else {
			l = key_live(node->key[i]);
			k = 1;
			m = node->key[i]->mod;
			BUG_ON((node->live >> i & 1) != (uint64_t)l);
			BUG_ON(key_stale(node->key[i]) != (node->stale >> i & 1));
		}
		*live += l;
		*keys += k;
		*newest = MAX(*newest, m);
	}
}

void index_check(const struct index *index)
{
	int64_t live = 0, keys = 0, newest = 0;

	check_node(index->root, &live, &keys, &newest);
	BUG_ON(live != index->live || keys != index->keys);
}
