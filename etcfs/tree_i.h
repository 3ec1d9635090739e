/* SPDX-License-Identifier: Apache-2.0 */
/* Between tree.c and node.c. */
#ifndef ETCFS_TREE_I_H
#define ETCFS_TREE_I_H

#include "etcfs/tree.h"

/* A node that is neither present nor visible; @dir NULL for the root. */
struct node *node_new(struct tree *tree, struct node *dir, const char *name, mode_t type);
/* Counts @node, or no longer, among what keeps its directory in being. */
void keep_dir(struct node *node, int n);
/* A directory that something keeps is present, and so are those above it. */
void tree_keep_dirs(struct tree *tree, struct node *dir);
/* A directory that nothing keeps is not present any more, and so on upwards. */
void tree_check_dir(struct tree *tree, struct node *dir);

#endif
