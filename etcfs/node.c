// SPDX-License-Identifier: Apache-2.0
/* Nodes: finding, linking, showing and freeing them, and what their keys are. */
#include <stdio.h>

#include "etcfs/name.h"
#include "etcfs/tree.h"
#include "etcfs/tree_i.h"

static uint64_t name_hash(const struct node *dir, const char *name)
{
	return table_hash(dir->ino, slice_str(name));
}

struct node *tree_find(const struct tree *tree, const struct node *dir, const char *name,
		       enum tree_side side)
{
	struct table_link *link = table_first(&tree->by_name, name_hash(dir, name));

	for (; link; link = table_next(link)) {
		struct node *node = container_of(link, struct node, by_name);

		if (node->parent == dir && !strcmp(node->name, name) &&
		    (side == TREE_PRESENT ? node->present : node->visible))
			return node;
	}
	return NULL;
}

struct node *tree_find_ino(const struct tree *tree, uint64_t ino)
{
	struct table_link *link = table_first(&tree->by_ino, ino);

	for (; link; link = table_next(link)) {
		struct node *node = container_of(link, struct node, by_ino);

		if (node->ino == ino)
			return node;
	}
	return NULL;
}

void tree_unsettle(struct tree *tree, struct node *node)
{
	if (!list_empty(&node->unsettled))
		return;
	list_add_tail(&tree->unsettled, &node->unsettled);
	node_get(node);
}

struct node *tree_next_unsettled(struct tree *tree)
{
	struct node *node;

	if (list_empty(&tree->unsettled))
		return NULL;
	node = list_first(&tree->unsettled, struct node, unsettled);
	list_del(&node->unsettled);
	return node;
}

static void link_node(struct tree *tree, struct node *node, struct node *dir)
{
	node->parent = dir;
	node->cookie = ++dir->last_cookie;
	list_add_tail(&dir->children, &node->sibling);
	table_add(&tree->by_name, &node->by_name, name_hash(dir, node->name));
	node_get(node);
	node_get(dir);
}

static void unlink_node(struct tree *tree, struct node *node)
{
	struct node *dir = node->parent;

	BUG_ON(!dir);
	list_del(&node->sibling);
	table_del(&tree->by_name, &node->by_name);
	node->parent = NULL;
	node_put(tree, node);
	node_put(tree, dir);
}

static void count_dir(struct node *node, int n)
{
	if (node_is_dir(node) && node->visible && node->parent)
		node->parent->n_dirs += (unsigned)n;
}

struct node *node_new(struct tree *tree, struct node *dir, const char *name, mode_t type)
{
	struct node *node = calloc(1, sizeof(*node));

	if (!node)
		return NULL;
	node->name = strdup(name);
	if (!S_ISDIR(type))
		node->content = content_new(slice_of(NULL, 0));
	if (!node->name || (!S_ISDIR(type) && !node->content)) {
		free(node->name);
		free(node);
		return NULL;
	}
	list_init(&node->sibling);
	list_init(&node->unsettled);
	list_init(&node->lingering);
	list_init(&node->children);
	list_init(&node->echoes);
	node->ino = tree->next_ino++;
	node->cookie = 2;
	node->last_cookie = 2;		/* 1 and 2 are "." and ".." */
	node->attr.mode = type;
	node->attr.atime = node->attr.mtime = node->attr.ctime = tree->now;
	table_add(&tree->by_ino, &node->by_ino, node->ino);
	if (dir)
		link_node(tree, node, dir);
	tree_refresh(tree, node);
	return node;
}

static void node_free(struct tree *tree, struct node *node)
{
	BUG_ON(node->edit || node->job || !list_empty(&node->children));
	table_del(&tree->by_ino, &node->by_ino);
	content_put(node->content);
	content_put(node->committed);
	free(node->name);
	free(node);
}

struct node *node_get(struct node *node)
{
	node->refs++;
	return node;
}

void node_put(struct tree *tree, struct node *node)
{
	BUG_ON(!node->refs);
	if (!--node->refs && !node->nlookup)
		node_free(tree, node);
}

void node_forget(struct tree *tree, struct node *node, uint64_t nlookup)
{
	node->nlookup -= MIN(nlookup, node->nlookup);
	if (!node->nlookup && !node->refs)
		node_free(tree, node);
}

struct node *tree_fresh(struct tree *tree, struct node *dir, const char *name, mode_t type)
{
	struct node *node = node_new(tree, dir, name, type);

	if (!node)
		return NULL;
	node->fresh = true;
	tree_show(tree, node);
	return node;
}

int tree_move(struct tree *tree, struct node *node, struct node *dir, const char *name)
{
	struct node *old = node->parent;
	char *copy = strdup(name);

	if (!copy)
		return -ENOMEM;
	count_dir(node, -1);
	if (node->present)
		keep_dir(node, -1);
	node_get(node);
	unlink_node(tree, node);
	free(node->name);
	node->name = copy;
	link_node(tree, node, dir);
	node_put(tree, node);
	count_dir(node, 1);
	if (node->present) {
		keep_dir(node, 1);
		tree_keep_dirs(tree, dir);
	}
	old->attr.mtime = old->attr.ctime = tree->now;
	dir->attr.mtime = dir->attr.ctime = tree->now;
	tree_check_dir(tree, old);
	return 0;
}

void tree_show(struct tree *tree, struct node *node)
{
	struct node *child;

	if (node->visible)
		return;
	BUG_ON(!node->parent || !node->parent->visible);
	node->visible = true;
	node->changed = node->touched = false;
	count_dir(node, 1);
	node->parent->attr.mtime = node->parent->attr.ctime = tree->now;
	list_for_each(child, &node->children, sibling)
		tree_unsettle(tree, child);
}

/* Whoever waited for the name, or for the directory to be empty, may go on. */
static void wake_neighbours(struct tree *tree, struct node *node)
{
	struct node *next = tree_find(tree, node->parent, node->name, TREE_PRESENT);

	if (next && !next->visible)
		tree_unsettle(tree, next);
	if (!node->parent->present)
		tree_unsettle(tree, node->parent);
}

void tree_hide(struct tree *tree, struct node *node)
{
	if (node->visible) {
		count_dir(node, -1);
		node->visible = false;
		node->attr.ctime = tree->now;
		node->parent->attr.mtime = node->parent->attr.ctime = tree->now;
		wake_neighbours(tree, node);
	}
	if (!node->present && !node->fresh && node->parent)
		unlink_node(tree, node);
}

void tree_forsake(struct tree *tree, struct node *node)
{
	node->fresh = false;
	tree_unsettle(tree, node);
}

/* --- keys ----------------------------------------------------------------------- */

/* The node whose place in the tree is that of the key: a .value stands for its
 * directory. */
static const struct node *place(const struct node *node)
{
	return !node_is_dir(node) && !strcmp(node->name, NAME_VALUE) ? node->parent : node;
}

static size_t key_len(const struct node *node)
{
	uint8_t component[NAME_MAX];
	size_t len = 0;

	for (const struct node *n = node; n->parent; n = n->parent)
		len += name_to_component(n->name, component) + (n->parent->parent != NULL);
	return len;
}

struct slice node_key(const struct node *node, const char *lead)
{
	const struct node *at = place(node);
	bool slash = node_is_dir(node) && node->parent;
	size_t n_lead = strlen(lead), len = n_lead + key_len(at) + slash;
	uint8_t *key = malloc(len + 1), component[NAME_MAX], *p;

	if (!key)
		return slice_of(NULL, 0);
	p = key + len;
	if (slash)
		*--p = '/';
	for (const struct node *n = at; n->parent; n = n->parent) {
		size_t c = name_to_component(n->name, component);

		p -= c;
		memcpy(p, component, c);
		if (n->parent->parent)
			*--p = '/';
	}
	BUG_ON(p != key + n_lead);
	memcpy(key, lead, n_lead);
	return slice_of(key, len);
}

struct slice node_meta_key(const struct node *node)
{
	return node_key(node, node_is_dir(node) ? META_DIR : META_FILE);
}

char *node_path(const struct node *node)
{
	size_t len = 0;
	char *path, *p;

	for (const struct node *n = node; n->parent; n = n->parent)
		len += strlen(n->name) + (n != node);
	path = malloc(len + 1);
	if (!path)
		return NULL;
	p = path + len;
	*p = '\0';
	for (const struct node *n = node; n->parent; n = n->parent) {
		size_t c = strlen(n->name);

		if (n != node)
			*--p = '/';
		p -= c;
		memcpy(p, n->name, c);
	}
	return path;
}
