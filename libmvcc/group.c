// SPDX-License-Identifier: Apache-2.0
/*
 * Who watches a key. Watchers of the same key or range are one group. The groups
 * of single keys are in a hash table; those of ranges are in an interval tree, a
 * tree in order of the ranges' starts in which every node knows the furthest end
 * of its subtree. Finding the watchers of a key is one look-up in each.
 */
#include "include/endian_bytes.h"
#include "libmvcc/mvcc_i.h"

#define BUCKETS_MIN 16

static struct watch_group *group_of(const struct avl_node *node)
{
	return node ? container_of(node, struct watch_group, node) : NULL;
}

/* Where the names of a group are: right behind what there is of it. */
static size_t group_size(uint32_t end_len)
{
	return end_len ? sizeof(struct watch_group) :
	       offsetof(struct watch_group, next) + sizeof(struct watch_group *);
}

struct mvcc_key_range group_range(const struct watch_group *g)
{
	const uint8_t *names = (const uint8_t *)g + group_size(g->end_len);

	return (struct mvcc_key_range){
		slice_of(names, g->key_len), slice_of(names + g->key_len, g->end_len),
	};
}

static struct slice group_key(const struct watch_group *g)
{
	return group_range(g).key;
}

/* --- the interval tree ---------------------------------------------------- */

/* Orders range ends: an open range ends after all others. */
static int end_cmp(struct mvcc_key_range a, struct mvcc_key_range b)
{
	bool a_open = range_is_open(a), b_open = range_is_open(b);

	if (a_open || b_open)
		return (int)a_open - (int)b_open;
	return slice_cmp(a.end, b.end);
}

static int range_order(struct mvcc_key_range a, struct mvcc_key_range b)
{
	int c = slice_cmp(a.key, b.key);

	return c ? c : end_cmp(a, b);
}

static int range_cmp(const struct avl_node *a, const struct avl_node *b)
{
	return range_order(group_range(group_of(a)), group_range(group_of(b)));
}

static struct watch_group *range_group(const struct watch_table *t, struct mvcc_key_range range)
{
	const struct avl_node *node = t->ranges.root;

	while (node) {
		int c = range_order(range, group_range(group_of(node)));

		if (!c)
			break;
		node = c < 0 ? node->left : node->right;
	}
	return group_of(node);
}

static void range_update(struct avl_node *node)
{
	struct watch_group *g = group_of(node);
	const struct watch_group *l = group_of(node->left), *r = group_of(node->right);

	g->max = g;
	if (l && end_cmp(group_range(l->max), group_range(g->max)) > 0)
		g->max = l->max;
	if (r && end_cmp(group_range(r->max), group_range(g->max)) > 0)
		g->max = r->max;
}

struct stab {
	struct slice key;
	void (*fn)(void *arg, struct watch_group *group);
	void *arg;
};

static void stab(const struct stab *s, struct avl_node *node)
{
	for (; node; node = node->right) {
		struct watch_group *g = group_of(node);
		struct mvcc_key_range range = group_range(g), max = group_range(g->max);

		if (!range_is_open(max) && slice_cmp(max.end, s->key) <= 0)
			return;
		stab(s, node->left);
		if (slice_cmp(range.key, s->key) > 0)
			return;
		if (range_has(range, s->key))
			s->fn(s->arg, g);
	}
}

/* --- the hash table ------------------------------------------------------- */

static uint64_t hash(struct slice key)
{
	const uint64_t k = UINT64_C(0x9e3779b97f4a7c15);
	uint64_t h = key.len * k;
	uint8_t tail[8] = { 0 };

	for (; key.len >= 8; key = slice_of(key.data + 8, key.len - 8)) {
		h = (h ^ get_le64(key.data)) * k;
		h ^= h >> 32;
	}
	if (key.len)
		memcpy(tail, key.data, key.len);
	h = (h ^ get_le64(tail)) * k;
	return h ^ h >> 29;
}

static struct watch_group **bucket(const struct watch_table *t, struct slice key)
{
	return &t->buckets[hash(key) & (t->n_buckets - 1)];
}

static struct watch_group *key_group(const struct watch_table *t, struct slice key)
{
	struct watch_group *g = t->n_buckets ? *bucket(t, key) : NULL;

	while (g && !slice_eq(group_key(g), key))
		g = g->next;
	return g;
}

static int hash_grow(struct watch_table *t)
{
	size_t n = t->n_buckets, want = n ? n * 2 : BUCKETS_MIN;
	struct watch_group **old = t->buckets, **buckets, *g, *next;

	if (t->n_keys < n)
		return 0;
	buckets = calloc(want, sizeof(*buckets));
	if (!buckets)
		return -ENOMEM;
	t->buckets = buckets;
	t->n_buckets = want;
	for (size_t i = 0; i < n; i++) {
		for (g = old[i]; g; g = next) {
			struct watch_group **b = bucket(t, group_key(g));

			next = g->next;
			g->next = *b;
			*b = g;
		}
	}
	free(old);
	return 0;
}

static void hash_remove(struct watch_table *t, struct watch_group *g)
{
	struct watch_group **at = bucket(t, group_key(g));

	while (*at != g)
		at = &(*at)->next;
	*at = g->next;
	t->n_keys--;
}

/* --- groups --------------------------------------------------------------- */

static struct watch_group *group_find(const struct watch_table *t, struct mvcc_key_range range)
{
	return range_is_key(range) ? key_group(t, range.key) : range_group(t, range);
}

static struct watch_group *group_alloc(struct mvcc_key_range range)
{
	size_t size = group_size((uint32_t)range.end.len);
	struct watch_group *g;

	BUG_ON(range.key.len > UINT32_MAX || range.end.len > UINT32_MAX);
	g = calloc(1, size + range.key.len + range.end.len);
	if (!g)
		return NULL;
	g->key_len = (uint32_t)range.key.len;
	g->end_len = (uint32_t)range.end.len;
	if (range.key.len)
		memcpy((uint8_t *)g + size, range.key.data, range.key.len);
	if (range.end.len)
		memcpy((uint8_t *)g + size + range.key.len, range.end.data, range.end.len);
	return g;
}

static struct watch_group *group_new(struct watch_table *t, struct mvcc_key_range range)
{
	struct watch_group *g, **b;

	if (range_is_key(range) && hash_grow(t))
		return NULL;
	g = group_alloc(range);
	if (!g)
		return NULL;
	if (!range_is_key(range)) {
		avl_insert(&t->ranges, &g->node);
		return g;
	}
	b = bucket(t, range.key);
	g->next = *b;
	*b = g;
	t->n_keys++;
	return g;
}

int group_join(struct watch_table *t, struct mvcc_key_range range, struct mvcc_watcher *watcher)
{
	struct watch_group *g = group_find(t, range);

	if (!g)
		g = group_new(t, range);
	if (!g)
		return -ENOMEM;
	watcher->group = g;
	if (!g->first)
		g->first = watcher->prev = watcher;
	watcher->next = g->first;
	watcher->prev = g->first->prev;
	watcher->prev->next = watcher;
	g->first->prev = watcher;
	return 0;
}

void group_leave(struct watch_table *t, struct mvcc_watcher *watcher)
{
	struct watch_group *g = watcher->group;

	watcher->prev->next = watcher->next;
	watcher->next->prev = watcher->prev;
	watcher->group = NULL;
	if (watcher->next != watcher) {
		if (g->first == watcher)
			g->first = watcher->next;
		return;
	}
	if (g->end_len)
		avl_remove(&t->ranges, &g->node);
	else
		hash_remove(t, g);
	free(g);
}

void group_each(struct watch_table *t, struct slice key,
		void (*fn)(void *arg, struct watch_group *group), void *arg)
{
	const struct stab s = { key, fn, arg };
	struct watch_group *g = key_group(t, key);

	if (g)
		fn(arg, g);
	stab(&s, t->ranges.root);
}

void group_table_init(struct watch_table *t)
{
	*t = (struct watch_table){ .ranges = { .cmp = range_cmp, .update = range_update } };
	list_init(&t->ready);
}

static void group_free(struct watch_group *g, void (*free_watcher)(struct mvcc_watcher *))
{
	struct mvcc_watcher *w = g->first, *next;

	do {
		next = w->next;
		free_watcher(w);
	} while ((w = next) != g->first);
	free(g);
}

void group_table_release(struct watch_table *t, void (*free_watcher)(struct mvcc_watcher *))
{
	struct watch_group *g, *next;
	struct avl_node *node;

	for (size_t i = 0; i < t->n_buckets; i++) {
		for (g = t->buckets[i]; g; g = next) {
			next = g->next;
			group_free(g, free_watcher);
		}
	}
	free(t->buckets);
	while ((node = avl_pop(&t->ranges)))
		group_free(group_of(node), free_watcher);
}

/* --- check ---------------------------------------------------------------- */

static void check_group(const struct watch_group *g, int64_t *n)
{
	const struct mvcc_watcher *w = g->first;

	do {
		BUG_ON(w->group != g || w->next->prev != w);
		(*n)++;
	} while ((w = w->next) != g->first);
}

static int check_range(void *arg, struct avl_node *node)
{
	struct watch_group *g = group_of(node), *max = g->max;

	range_update(node);
	BUG_ON(g->max != max);
	check_group(g, arg);
	return 0;
}

void group_table_check(const struct watch_table *t)
{
	size_t keys = 0;
	int64_t n = 0;

	for (size_t i = 0; i < t->n_buckets; i++) {
		for (const struct watch_group *g = t->buckets[i]; g; g = g->next) {
			BUG_ON(bucket(t, group_key(g)) != &t->buckets[i]);
			check_group(g, &n);
			keys++;
		}
	}
	BUG_ON(keys != t->n_keys);
	avl_check(&t->ranges);
	avl_each(&t->ranges, NULL, check_range, &n);
	BUG_ON(n != t->n);
}
