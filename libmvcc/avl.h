/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A balanced binary tree (AVL) whose nodes live inside their elements, with room
 * for a figure about each subtree that is kept up to date (the @update hook; the
 * interval tree has its furthest end there).
 */
#ifndef LIBMVCC_AVL_H
#define LIBMVCC_AVL_H

#include <stddef.h>

struct avl_node {
	struct avl_node *left, *right;
	int height;
};

struct avl {
	struct avl_node *root;
	/* <0, 0, >0: @a belongs before, at, after @b */
	int (*cmp)(const struct avl_node *a, const struct avl_node *b);
	void (*update)(struct avl_node *node);	/* may be NULL */
};

/* The element equal to @like, or NULL. */
struct avl_node *avl_find(const struct avl *tree, const struct avl_node *like);
/* Every element not before @from (NULL: every one), in order; ends where @fn gives
 * non-zero, and returns that. @fn leaves the tree as it is. */
int avl_each(const struct avl *tree, const struct avl_node *from,
	     int (*fn)(void *arg, struct avl_node *node), void *arg);
/* @node is equal to none in the tree. */
void avl_insert(struct avl *tree, struct avl_node *node);
/* @node is in the tree. */
void avl_remove(struct avl *tree, struct avl_node *node);
/* Takes out some node; NULL when the tree is empty. For tearing it down. */
struct avl_node *avl_pop(struct avl *tree);
void avl_check(const struct avl *tree);

#endif
