// SPDX-License-Identifier: Apache-2.0
/*
 * A balanced binary tree. The two subtrees of a node differ in height by one at
 * most, which bounds the recursion: 2^32 elements are less than 48 levels.
 * Source: Adelson-Velsky and Landis, 1962.
 */
#include "include/bug.h"
#include "libmvcc/avl.h"

static int height(const struct avl_node *node)
{
	return node ? node->height : 0;
}

/* Everything a node says about its subtree, after the children changed. */
static void refresh(const struct avl *tree, struct avl_node *node)
{
	node->height = MAX(height(node->left), height(node->right)) + 1;
	if (tree->update)
		tree->update(node);
}

static struct avl_node *rotate_right(const struct avl *tree, struct avl_node *node)
{
	struct avl_node *top = node->left;

	node->left = top->right;
	top->right = node;
	refresh(tree, node);
	refresh(tree, top);
	return top;
}

static struct avl_node *rotate_left(const struct avl *tree, struct avl_node *node)
{
	struct avl_node *top = node->right;

	node->right = top->left;
	top->left = node;
	refresh(tree, node);
	refresh(tree, top);
	return top;
}

/* The subtree of @node, whose children may differ in height by two, in balance. */
static struct avl_node *balance(const struct avl *tree, struct avl_node *node)
{
	int lean = height(node->left) - height(node->right);

	BUG_ON(lean > 2 || lean < -2);
	if (lean == 2) {
		if (height(node->left->left) < height(node->left->right))
			node->left = rotate_left(tree, node->left);
		return rotate_right(tree, node);
	}
	if (lean == -2) {
		if (height(node->right->right) < height(node->right->left))
			node->right = rotate_right(tree, node->right);
		return rotate_left(tree, node);
	}
	refresh(tree, node);
	return node;
}

struct avl_node *avl_find(const struct avl *tree, const struct avl_node *like)
{
	struct avl_node *node = tree->root;

	while (node) {
		int c = tree->cmp(like, node);

		if (!c)
			return node;
		node = c < 0 ? node->left : node->right;
	}
	return NULL;
}

static int each(const struct avl *tree, struct avl_node *node, const struct avl_node *from,
		int (*fn)(void *arg, struct avl_node *node), void *arg)
{
	int r;

	for (; node; node = node->right) {
		if (from && tree->cmp(node, from) < 0)
			continue;
		r = each(tree, node->left, from, fn, arg);
		if (!r)
			r = fn(arg, node);
		if (r)
			return r;
		from = NULL;
	}
	return 0;
}

int avl_each(const struct avl *tree, const struct avl_node *from,
	     int (*fn)(void *arg, struct avl_node *node), void *arg)
{
	return each(tree, tree->root, from, fn, arg);
}

static struct avl_node *insert(const struct avl *tree, struct avl_node *at,
			       struct avl_node *node)
{
	int c;

	if (!at)
		return node;
	c = tree->cmp(node, at);
	BUG_ON(!c);
	if (c < 0)
		at->left = insert(tree, at->left, node);
	else
		at->right = insert(tree, at->right, node);
	return balance(tree, at);
}

void avl_insert(struct avl *tree, struct avl_node *node)
{
	node->left = NULL;
	node->right = NULL;
	refresh(tree, node);
	tree->root = insert(tree, tree->root, node);
}

/* Takes the leftmost node out of the subtree of @at; gives it in @first. */
static struct avl_node *take_first(const struct avl *tree, struct avl_node *at,
				   struct avl_node **first)
{
	if (!at->left) {
		*first = at;
		return at->right;
	}
	at->left = take_first(tree, at->left, first);
	return balance(tree, at);
}

static struct avl_node *take_out(const struct avl *tree, struct avl_node *at,
				 const struct avl_node *node)
{
	struct avl_node *first;
	int c;

	BUG_ON(!at);
	c = tree->cmp(node, at);
	if (c < 0) {
		at->left = take_out(tree, at->left, node);
		return balance(tree, at);
	}
	if (c > 0) {
		at->right = take_out(tree, at->right, node);
		return balance(tree, at);
	}
	BUG_ON(at != node);
	if (!at->right)
		return at->left;
	at->right = take_first(tree, at->right, &first);
	first->left = at->left;
	first->right = at->right;
	return balance(tree, first);
}

void avl_remove(struct avl *tree, struct avl_node *node)
{
	tree->root = take_out(tree, tree->root, node);
}

struct avl_node *avl_pop(struct avl *tree)
{
	struct avl_node *node = tree->root;

	if (node)
		avl_remove(tree, node);
	return node;
}

static int check(const struct avl *tree, const struct avl_node *node)
{
	int l, r;

	if (!node)
		return 0;
	l = check(tree, node->left);
	r = check(tree, node->right);
	BUG_ON(l - r > 1 || r - l > 1);
	BUG_ON(node->height != MAX(l, r) + 1);
	BUG_ON(node->left && tree->cmp(node->left, node) >= 0);
	BUG_ON(node->right && tree->cmp(node->right, node) <= 0);
	return node->height;
}

void avl_check(const struct avl *tree)
{
	check(tree, tree->root);
}
