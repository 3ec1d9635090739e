// SPDX-License-Identifier: Apache-2.0
/*
 * The keys in order: a B+-tree of pointers to keys.
 *
 * A node does not hold its keys. It holds, of each, the four bytes after the
 * prefix that all keys below the node share (the digest), so that a search touches
 * the keys themselves where digests tie, which is seldom. All digests of a node are
 * compared, without a branch; and a whole node is asked of memory at once, since
 * that takes little longer than one line of it. An inner node knows of
 * each child its first key, how many live keys are below it and the newest
 * revision below it: counting is O(log n), and a walk of what changed since some
 * revision passes over everything that did not. A leaf has bitmaps of the keys
 * that live and of those that compaction should look at.
 *
 * Nodes are split at 64 and merged with a neighbour when both fit in three
 * quarters of one; there is no other rebalancing. Appending leaves full nodes.
 */
#include "include/endian_bytes.h"
#include "libmvcc/index_i.h"

#define NODE_MERGE (NODE_MAX / 4)
#define NODE_MERGED_MAX (NODE_MAX * 3 / 4)

/* Opens a gap in a bitmap, or closes one. */
static uint64_t bits_insert(uint64_t map, unsigned int at, bool value)
{
	uint64_t low = map & bits(0, at);

	return low | (map & ~low) << 1 | (uint64_t)value << at;
}

static uint64_t bits_remove(uint64_t map, unsigned int at)
{
	uint64_t low = map & bits(0, at);

	return low | ((map >> 1) & ~bits(0, at));
}

/* --- digests -------------------------------------------------------------- */

/* The four bytes of @name from @skip on, zeros where it ends. */
static uint32_t digest(struct slice name, size_t skip)
{
	uint8_t pad[4] = { 0 };

	if (name.len >= skip + sizeof(pad))
		return get_be32(name.data + skip);
	if (name.len > skip)
		memcpy(pad, name.data + skip, name.len - skip);
	return get_be32(pad);
}

/* All keys below @node begin with the same @skip bytes, and no more are needed. */
static void node_set_skip(struct node *node, size_t skip)
{
	if (node->skip == skip)
		return;
	node->skip = (uint32_t)skip;
	for (unsigned int i = 0; i < node->n; i++) {
		if (i + AHEAD < node->n)
			key_fetch(node->key[i + AHEAD]);
		node->digest[i] = digest(key_slice(node->key[i]), skip);
	}
}

/* The last key below @node. While a leaf is split its new half may still be empty. */
static struct key *node_last(const struct node *node)
{
	while (node->level) {
		const struct node *child = inner_of(node)->child[node->n - 1];

		if (!child->n)
			break;
		node = child;
	}
	return node->key[node->n - 1];
}

/* Computes the longest shared prefix, which the first and the last key decide. */
static void node_renew(struct node *node)
{
	if (node->n)
		node_set_skip(node, slice_shared(key_slice(node->key[0]),
						  key_slice(node_last(node))));
}

/* A key comes below @node that shares @shared bytes with one that is there. */
static void node_shorten(struct node *node, size_t shared)
{
	node_set_skip(node, MIN(shared, (size_t)node->skip));
}

/* Sets the i-th key, which keeps the order. */
static void node_set_key(struct node *node, unsigned int i, struct key *key)
{
	const struct key *other;

	node->key[i] = key;
	other = node->key[i ? 0 : node->n - 1];
	if (other != key)
		node_shorten(node, slice_shared(key_slice(key), key_slice(other)));
	node->digest[i] = digest(key_slice(key), node->skip);
}

static unsigned int digests_below(const struct node *node, uint32_t d)
{
	uint32_t n = 0;

	for (unsigned int i = 0; i < NODE_MAX; i++)
		n += node->digest[i] < d;
	return n;
}

/* As node_lower(), where the digest of @name is @d, and that of the key at @lo too. */
static unsigned int node_lower_tied(const struct node *node, struct slice name, uint32_t d,
				    unsigned int lo, bool *exact)
{
	unsigned int hi = lo + 1;

	if (hi < node->n && node->digest[hi] == d)
		hi = d == DIGEST_NONE ? node->n : digests_below(node, d + 1);
	while (lo < hi) {
		unsigned int mid = (lo + hi) / 2;
		int c = slice_cmp(key_slice(node->key[mid]), name);

		if (!c) {
			*exact = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* As node_lower(), where @name begins with what all keys below the node begin with. */
static unsigned int node_lower_below(const struct node *node, struct slice name, bool *exact)
{
	uint32_t d = digest(name, node->skip);
	unsigned int lo = digests_below(node, d);

	*exact = false;
	if (lo < node->n && node->digest[lo] == d)
		return node_lower_tied(node, name, d, lo, exact);
	return lo;
}

unsigned int node_lower(const struct node *node, struct slice name, bool *exact)
{
	int c = 0;

	*exact = false;
	if (!node->n)
		return 0;
	if (node->skip && name.len)
		c = memcmp(name.data, node->key[0]->bytes, MIN(name.len, node->skip));
	if (c || name.len < node->skip)
		return c > 0 ? node->n : 0;
	return node_lower_below(node, name, exact);
}

/* The child that @name is in or belongs to. */
unsigned int inner_child(const struct node *node, struct slice name)
{
	bool exact;
	unsigned int n = node_lower(node, name, &exact);

	return exact ? n : n ? n - 1 : 0;
}

/* --- search --------------------------------------------------------------- */

static struct node *node_new(unsigned int level)
{
	struct node *node = calloc(1, level ? sizeof(struct inner) : sizeof(struct node));

	if (!node)
		return NULL;
	node->level = (uint16_t)level;
	memset(node->digest, 0xff, sizeof(node->digest));
	return node;
}

int index_init(struct index *index)
{
	*index = (struct index){ .root = node_new(0) };
	return index->root ? 0 : -ENOMEM;
}

static void node_free(struct node *node)
{
	for (unsigned int i = 0; i < node->n; i++) {
		if (node->level)
			node_free(inner_of(node)->child[i]);
		else
			key_free(node->key[i]);
	}
	free(node);
}

void index_release(struct index *index)
{
	if (index->root)
		node_free(index->root);
	index->root = NULL;
}

/*
 * The way to the leaf that has @name if any has. The prefixes of the nodes are not
 * compared, which spares a look at a key on every level: on the way to a key that is
 * there they match, and one that is not there shows at the leaf.
 */
void index_approach(const struct index *index, struct slice name, struct index_path *path)
{
	struct node *node = index->root;
	bool exact;

	path->depth = node->level + 1u;
	BUG_ON(path->depth > INDEX_DEPTH_MAX);
	for (unsigned int level = node->level; level; level--) {
		unsigned int n = node_lower_below(node, name, &exact);

		path->node[level] = node;
		path->at[level] = exact ? n : n ? n - 1 : 0;
		node = inner_of(node)->child[path->at[level]];
		node_fetch(node, level - 1);
	}
	path->node[0] = node;
}

bool index_same_leaf(const struct index_path *path, struct slice name)
{
	for (unsigned int l = 1; l < path->depth; l++) {
		const struct node *node = path->node[l];

		/* digests tell names apart only where these begin as all below the node do */
		if (path->at[l] + 1 < node->n)
			return slice_shared(name, key_slice(node->key[0])) >= node->skip &&
			       digest(name, node->skip) < node->digest[path->at[l] + 1];
	}
	return true;
}

/* The rest of the way. */
static struct key *leaf_find(struct index_path *path, struct slice name)
{
	const struct node *leaf = path->node[0];

	path->at[0] = node_lower_below(leaf, name, &path->exact);
	return path->exact ? leaf->key[path->at[0]] : NULL;
}

struct key *index_find(const struct index *index, struct slice name)
{
	struct index_path path;

	index_approach(index, name, &path);
	return leaf_find(&path, name);
}

/* The key in @leaf that @name is, or is near to; NULL in an empty leaf. */
static const struct key *leaf_guess(const struct node *leaf, struct slice name)
{
	unsigned int at = digests_below(leaf, digest(name, leaf->skip));

	return leaf->n ? leaf->key[MIN(at, leaf->n - 1u)] : NULL;
}

/* All go down together: while memory brings what the first one needs, the others ask. */
void index_ahead(const struct index *index, const struct slice *names, size_t n)
{
	const struct node *node[INDEX_AHEAD_MAX];
	const struct key *key[INDEX_AHEAD_MAX];
	bool exact;

	BUG_ON(n > INDEX_AHEAD_MAX);
	for (size_t i = 0; i < n; i++)
		node[i] = index->root;
	for (unsigned int level = index->root->level; level; level--) {
		for (size_t i = 0; i < n; i++) {
			unsigned int at = node_lower_below(node[i], names[i], &exact);

			node[i] = inner_of(node[i])->child[exact || !at ? at : at - 1];
			node_fetch(node[i], level - 1);
		}
	}
	for (size_t i = 0; i < n; i++) {
		key[i] = leaf_guess(node[i], names[i]);
		if (key[i])
			key_fetch(key[i]);
	}
	for (size_t i = 0; i < n; i++) {
		if (!key[i])
			continue;
		__builtin_prefetch(key[i]->value, 1);
		__builtin_prefetch(key[i]->history, 1);
	}
}

/*
 * Whether a blind search for @name, which is not there, went the right way all the
 * same: it did where @name begins with the prefix of every node on it, which the
 * first key of the leaf has too.
 */
static bool path_matches(const struct index_path *path, struct slice name)
{
	const struct node *leaf = path->node[0];
	size_t shared = leaf->n ? slice_shared(name, key_slice(leaf->key[0])) : 0;

	for (unsigned int l = 1; l < path->depth; l++)
		if (path->node[l]->skip > shared)
			return false;
	return true;
}

struct key *index_arrive(const struct index *index, struct slice name, struct index_path *path)
{
	struct key *key = leaf_find(path, name);
	struct node *node = index->root;

	if (key)
		return key;
	if (path_matches(path, name))
		node = path->node[0];
	for (; node->level; node = inner_of(node)->child[path->at[node->level]]) {
		path->node[node->level] = node;
		path->at[node->level] = inner_child(node, name);
	}
	path->node[0] = node;
	path->at[0] = node_lower(node, name, &path->exact);
	BUG_ON(path->exact);
	return NULL;
}

struct key *index_seek(const struct index *index, struct slice name, struct index_path *path)
{
	index_approach(index, name, path);
	return index_arrive(index, name, path);
}

/* --- change --------------------------------------------------------------- */

/* The first key of the node at @level of @path may have changed: tells its parents. */
static void path_first_key(struct index_path *path, unsigned int level)
{
	for (; level + 1 < path->depth; level++) {
		struct node *up = path->node[level + 1];
		unsigned int at = path->at[level + 1];

		if (up->key[at] == path->node[level]->key[0])
			return;
		node_set_key(up, at, path->node[level]->key[0]);
		if (at)
			return;
	}
}

/* Sets what the parents know of a child from what the child knows. */
static void inner_refresh(struct inner *in, unsigned int i)
{
	const struct node *c = in->child[i];
	int64_t live = 0, newest = 0;

	for (unsigned int k = 0; k < c->n; k++) {
		live += c->level ? inner_of(c)->live[k] : (int64_t)(c->live >> k & 1);
		newest = MAX(newest, c->level ? inner_of(c)->newest[k] : c->key[k]->mod);
	}
	in->live[i] = live;
	in->newest[i] = newest;
	in->node.stale &= ~bit(i);
	if (c->stale)
		in->node.stale |= bit(i);
}

/*
 * A new key has come to the leaf of @path: prefixes above may have to be shorter. Any
 * other key below a node tells as much as its first; those of the leaf are at hand.
 */
static void path_shorten(struct index_path *path, const struct key *key)
{
	const struct node *leaf = path->node[0];
	const struct key *other = leaf->key[path->at[0] ? 0 : leaf->n - 1];

	for (unsigned int l = 1; l < path->depth; l++) {
		if (other == key)
			other = path->node[l]->key[0];
		node_shorten(path->node[l], slice_shared(key_slice(key), key_slice(other)));
	}
}

/* The key at the leaf of @path is live by @delta more, and changed at @mod. */
static void path_account(struct index_path *path, int64_t delta, int64_t mod, bool stale)
{
	for (unsigned int l = 1; l < path->depth; l++) {
		struct inner *in = inner_of(path->node[l]);
		unsigned int at = path->at[l];

		in->live[at] += delta;
		in->newest[at] = MAX(in->newest[at], mod);
		if (stale)
			in->node.stale |= bit(at);
	}
}

void index_path_fetch(const struct index_path *path)
{
	for (unsigned int l = 1; l < path->depth; l++) {
		const struct inner *in = inner_of(path->node[l]);

		__builtin_prefetch(&in->live[path->at[l]], 1);
		__builtin_prefetch(&in->newest[path->at[l]], 1);
	}
}

/* Makes room at @at; the new element is the caller's to fill in. */
static void node_open(struct node *node, unsigned int at)
{
	unsigned int tail = node->n - at;

	BUG_ON(node->n >= NODE_MAX || at > node->n);
	memmove(&node->digest[at + 1], &node->digest[at], tail * sizeof(node->digest[0]));
	memmove(&node->key[at + 1], &node->key[at], tail * sizeof(node->key[0]));
	node->stale = bits_insert(node->stale, at, false);
	if (node->level) {
		struct inner *in = inner_of(node);

		memmove(&in->child[at + 1], &in->child[at], tail * sizeof(in->child[0]));
		memmove(&in->live[at + 1], &in->live[at], tail * sizeof(in->live[0]));
		memmove(&in->newest[at + 1], &in->newest[at], tail * sizeof(in->newest[0]));
	} else {
		node->live = bits_insert(node->live, at, false);
	}
	node->n++;
}

static void node_close(struct node *node, unsigned int at)
{
	unsigned int tail = node->n - at - 1;

	BUG_ON(at >= node->n);
	memmove(&node->digest[at], &node->digest[at + 1], tail * sizeof(node->digest[0]));
	memmove(&node->key[at], &node->key[at + 1], tail * sizeof(node->key[0]));
	node->stale = bits_remove(node->stale, at);
	if (node->level) {
		struct inner *in = inner_of(node);

		memmove(&in->child[at], &in->child[at + 1], tail * sizeof(in->child[0]));
		memmove(&in->live[at], &in->live[at + 1], tail * sizeof(in->live[0]));
		memmove(&in->newest[at], &in->newest[at + 1], tail * sizeof(in->newest[0]));
	} else {
		node->live = bits_remove(node->live, at);
	}
	node->n--;
	node->digest[node->n] = DIGEST_NONE;
}

/* The digests of what was just appended to @dst from @src. */
static void append_digests(struct node *dst, const struct node *src, unsigned int from,
			   unsigned int n)
{
	if (!dst->n)
		dst->skip = src->skip;
	for (unsigned int i = 0; i < n; i++)
		dst->digest[dst->n + i] = dst->skip == src->skip ? src->digest[from + i] :
			digest(key_slice(src->key[from + i]), dst->skip);
}

/* Takes the elements from @n on away from @node. */
static void node_cut(struct node *node, unsigned int n)
{
	for (unsigned int i = n; i < node->n; i++)
		node->digest[i] = DIGEST_NONE;
	node->n = (uint16_t)n;
	node->stale &= bits(0, n);
	node->live &= bits(0, n);
}

/* Appends the elements [from, from + n) of @src to @dst. Both need node_renew(). */
static void node_append(struct node *dst, const struct node *src, unsigned int from,
			unsigned int n)
{
	BUG_ON(dst->n + n > NODE_MAX || dst->level != src->level);
	if (!n)
		return;
	memcpy(&dst->key[dst->n], &src->key[from], n * sizeof(dst->key[0]));
	append_digests(dst, src, from, n);
	dst->stale |= (src->stale & bits(from, from + n)) >> from << dst->n;
	if (dst->level) {
		struct inner *d = inner_of(dst);
		const struct inner *s = inner_of(src);

		memcpy(&d->child[dst->n], &s->child[from], n * sizeof(d->child[0]));
		memcpy(&d->live[dst->n], &s->live[from], n * sizeof(d->live[0]));
		memcpy(&d->newest[dst->n], &s->newest[from], n * sizeof(d->newest[0]));
	} else {
		dst->live |= (src->live & bits(from, from + n)) >> from << dst->n;
	}
	dst->n = (uint16_t)(dst->n + n);
}

/*
 * Moves the upper part of a full node to a new one; @at is where the newcomer goes,
 * or, in an inner node, the child that it goes below. Where that is the end, the
 * node is left full: keys that come in order make full nodes.
 */
static struct node *node_split(struct node *node, unsigned int at)
{
	unsigned int end = node->level ? node->n - 1 : node->n;
	unsigned int keep = at == end ? end : node->n / 2;
	struct node *right = node_new(node->level);

	if (!right)
		return NULL;
	node_append(right, node, keep, node->n - keep);
	node_cut(node, keep);
	node_renew(node);
	node_renew(right);
	return right;
}

/* A new root above the old one. */
static int index_grow(struct index *index, struct index_path *path)
{
	struct node *root = node_new(index->root->level + 1);

	if (!root)
		return -ENOMEM;
	BUG_ON(path->depth == INDEX_DEPTH_MAX);
	root->n = 1;
	node_set_key(root, 0, index->root->key[0]);
	inner_of(root)->child[0] = index->root;
	node_renew(root);
	inner_refresh(inner_of(root), 0);
	index->root = root;
	path->node[path->depth] = root;
	path->at[path->depth] = 0;
	path->depth++;
	return 0;
}

/*
 * Makes sure that the node at @level of @path is not full: splits it, its parents
 * first, and turns the path to the half where the newcomer belongs.
 */
static int path_make_room(struct index *index, struct index_path *path, unsigned int level)
{
	struct node *node = path->node[level], *right;
	unsigned int at;
	struct inner *up;
	int r;

	if (node->n < NODE_MAX)
		return 0;
	r = level + 1 == path->depth ? index_grow(index, path) :
	    path_make_room(index, path, level + 1);
	if (r)
		return r;
	right = node_split(node, path->at[level]);
	if (!right)
		return -ENOMEM;
	up = inner_of(path->node[level + 1]);
	at = path->at[level + 1];
	node_open(&up->node, at + 1);
	up->child[at + 1] = right;
	inner_refresh(up, at);
	inner_refresh(up, at + 1);
	/* a right half that is still empty gets its first key with the newcomer */
	node_set_key(&up->node, at + 1, right->n ? right->key[0] : node->key[node->n - 1]);
	if (path->at[level] < node->n)
		return 0;
	path->node[level] = right;
	path->at[level] -= node->n;
	path->at[level + 1]++;
	return 0;
}

int index_insert(struct index *index, struct index_path *path, struct key *key)
{
	struct node *leaf;
	unsigned int at;
	int r;

	BUG_ON(path->exact);
	r = path_make_room(index, path, 0);
	if (r)
		return r;
	leaf = path->node[0];
	at = path->at[0];
	node_open(leaf, at);
	node_set_key(leaf, at, key);
	if (leaf->n == 1)
		node_renew(leaf);
	if (key_live(key))
		leaf->live |= bit(at);
	if (key_stale(key))
		leaf->stale |= bit(at);
	path->exact = true;
	path_shorten(path, key);
	path_account(path, key_live(key), key->mod, key_stale(key));
	if (!at)
		path_first_key(path, 0);
	index->keys++;
	index->live += key_live(key);
	return 0;
}

void index_changed(struct index *index, struct index_path *path, bool was_live)
{
	struct node *leaf = path->node[0];
	unsigned int at = path->at[0];
	const struct key *key = leaf->key[at];
	int64_t delta = (int64_t)key_live(key) - (int64_t)was_live;

	BUG_ON(!path->exact);
	leaf->live &= ~bit(at);
	if (key_live(key))
		leaf->live |= bit(at);
	if (key_stale(key))
		leaf->stale |= bit(at);
	path_account(path, delta, key->mod, key_stale(key));
	index->live += delta;
}

void index_settled(struct index *index, struct index_path *path)
{
	BUG_ON(!path->exact);
	if (key_stale(path->node[0]->key[path->at[0]]))
		return;
	path->node[0]->stale &= ~bit(path->at[0]);
	for (unsigned int l = 1; l < path->depth && !path->node[l - 1]->stale; l++)
		path->node[l]->stale &= ~bit(path->at[l]);
}

/* Merges child @i + 1 into child @i where both fit well into one. */
static void inner_merge(struct inner *up, unsigned int i)
{
	struct node *left, *right;

	if (i + 1 >= up->node.n)
		return;
	left = up->child[i];
	right = up->child[i + 1];
	if (left->n + right->n > NODE_MERGED_MAX)
		return;
	node_append(left, right, 0, right->n);
	node_renew(left);
	free(right);
	node_close(&up->node, i + 1);
	inner_refresh(up, i);
	if (left->n)
		node_set_key(&up->node, i, left->key[0]);
}

/* Mends the levels above a leaf that lost a key. */
static void path_shrink(struct index *index, struct index_path *path)
{
	for (unsigned int l = 1; l < path->depth; l++) {
		struct inner *up = inner_of(path->node[l]);
		struct node *node = up->child[path->at[l]];
		unsigned int at = path->at[l];

		if (!node->n) {
			free(node);
			node_close(&up->node, at);
		} else {
			inner_refresh(up, at);
			node_set_key(&up->node, at, node->key[0]);
			if (node->n < NODE_MERGE)
				inner_merge(up, at ? at - 1 : 0);
		}
	}
	while (index->root->level && index->root->n <= 1) {
		struct node *root = index->root;

		index->root = root->n ? inner_of(root)->child[0] : node_new(0);
		BUG_ON(!index->root);
		free(root);
	}
}

void index_remove(struct index *index, struct index_path *path)
{
	struct node *leaf = path->node[0];
	struct key *key = leaf->key[path->at[0]];

	BUG_ON(!path->exact || key_live(key));
	node_close(leaf, path->at[0]);
	path_shrink(index, path);
	index->keys--;
	key_free(key);
}
