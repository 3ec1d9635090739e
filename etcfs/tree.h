/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree: what the cluster holds below the prefix, and what of it local programs
 * have been shown. It knows keys, values and revisions; it knows nothing of FUSE,
 * of the network or of clocks, and is tested without them.
 *
 * A node is a file or a directory. Two flags say where it stands:
 *	present		the cluster holds it
 *	visible		local programs see it
 * They differ while a change made elsewhere is on its way to local programs (echo.c)
 * and while a file made here has not been written to the cluster yet (fresh). At most
 * one node of a directory and name is present, and at most one is visible; they may
 * be different nodes, when a key that was a file becomes a directory.
 *
 * How keys become nodes, where a and b are components (name.h):
 *	a/b		the file b in the directory a
 *	a/ (empty)	makes the directory a exist without children: the marker
 *	a/ with bytes	the file %_ in a
 *	a and a/b	a directory a; the value of the key a is the file a/.value
 *	.etcfs/...	hidden; .etcfs/meta/ holds the sidecars (meta.h)
 * A key here is relative to the prefix.
 *
 * Changes are applied with tree_put() and tree_delete(), in any order of arrival: what
 * is not newer than what the node has is ignored. Each puts the nodes that it changed
 * on tree->unsettled, from where the caller takes them to make the visible follow
 * the present with tree_show() and tree_hide().
 *
 * A node lives while it is present, visible or fresh, while the kernel knows it
 * (nlookup), and while somebody holds a reference.
 */
#ifndef ETCFS_TREE_H
#define ETCFS_TREE_H

#include <sys/stat.h>
#include <time.h>

#include "etcfs/content.h"
#include "etcfs/meta.h"
#include "etcfs/table.h"
#include "include/list.h"

/* What the cluster says about a key. mod_revision 0: there is no such key. */
struct version {
	int64_t create_revision, mod_revision, version, lease;
};

#define ROOT_INO 1
/* What is longer is not shown: no path leads to it, and a key of slashes alone would
 * make as many directories. */
#define TREE_KEY_MAX 4096

struct node {
	uint64_t ino, nlookup;
	unsigned refs;
	struct table_link by_ino, by_name;
	struct list sibling;		/* in parent->children, by cookie */
	struct list unsettled;		/* in tree->unsettled */
	struct node *parent;		/* NULL: the root, or taken out of the tree */
	char *name;
	bool present, visible, fresh;
	bool changed;			/* the value, since it was last echoed */
	bool touched;			/* mode, owner or times, likewise */
	struct version key;		/* the file's, or the directory's marker's */
	struct attr attr;

	/* a directory */
	struct list children;
	uint64_t cookie, last_cookie;	/* where readdir() is; the highest one given */
	size_t n_keeping;		/* present children but .value: what keeps it */
	unsigned n_dirs;		/* visible directories in it */

	/* anything else */
	struct content *content;	/* what local programs see */
	struct content *committed;	/* what the cluster has, where that differs */
	struct edit *edit;		/* edit.c: what was written and is not committed */
	unsigned writers;		/* handles that may change it */
	bool unlinked;			/* by us: what is written to it now is nobody's */

	/* echo.c */
	struct job *job;
	struct list echoes;		/* struct job: in this directory, in order */
	struct list lingering;		/* in echo.lingering */
	uint64_t linger_until;		/* not removed before that, on uv_now()'s clock */
	uint64_t generation;		/* of the last load that saw it */
};

struct tree {
	struct node *root;
	struct table by_ino, by_name, metas;
	struct list unsettled;
	struct attr_defaults defaults;
	struct timespec now;		/* set by the caller before each change */
	uint64_t next_ino, generation;
	uint64_t nameless;		/* puts of keys that are too long to show */
};

enum tree_side { TREE_PRESENT, TREE_VISIBLE };

int tree_init(struct tree *tree, const struct attr_defaults *defaults);
void tree_release(struct tree *tree);

struct tree_put {
	struct slice key, value;
	struct version version;
	bool own;			/* made here: the times are what they are to be */
	const struct node *writer;	/* made by this node: its content is, too */
};

/* @out, which may be NULL, is the node of the file, the directory of the marker, or
 * NULL where the key is not shown. -ENOMEM. */
int tree_put(struct tree *tree, const struct tree_put *put, struct node **out);
void tree_delete(struct tree *tree, struct slice key, int64_t revision);

/* The file or, where @key ends in a slash, the directory that the cluster holds. */
struct node *tree_node_of_key(struct tree *tree, struct slice key);
/* Deletes what the load of tree->generation did not see and is not newer than it. */
int tree_sweep(struct tree *tree, int64_t revision);

/* A file that exists only here until it is committed. */
struct node *tree_fresh(struct tree *tree, struct node *dir, const char *name, mode_t type);
/* Moves a node, with all below it; the name must be free on both sides. */
int tree_move(struct tree *tree, struct node *node, struct node *dir, const char *name);
void tree_show(struct tree *tree, struct node *node);
/* The node goes out of the tree unless it is present. */
void tree_hide(struct tree *tree, struct node *node);
/* Gives up a fresh file. */
void tree_forsake(struct tree *tree, struct node *node);
/* Puts the node on tree->unsettled. */
void tree_unsettle(struct tree *tree, struct node *node);
/* Takes the next node off tree->unsettled; NULL at the end. */
struct node *tree_next_unsettled(struct tree *tree);
/* Takes mode, owner and times from the sidecar again. */
void tree_refresh(struct tree *tree, struct node *node);

struct node *tree_find(const struct tree *tree, const struct node *dir, const char *name,
		       enum tree_side side);
struct node *tree_find_ino(const struct tree *tree, uint64_t ino);

struct node *node_get(struct node *node);
void node_put(struct tree *tree, struct node *node);
void node_forget(struct tree *tree, struct node *node, uint64_t nlookup);

static inline bool node_is_dir(const struct node *node) { return S_ISDIR(node->attr.mode); }

/* The node's key, without the prefix; a directory's is its marker's and ends in a
 * slash. @lead, which is text, comes before it. The caller frees; .data NULL: no memory. */
struct slice node_key(const struct node *node, const char *lead);
/* The key of its sidecar, without the prefix. */
struct slice node_meta_key(const struct node *node);
/* Its path from the root, without a leading slash: "" for the root. NULL: no memory. */
char *node_path(const struct node *node);

/* Whether @key is in the hidden part, and is a sidecar's: then without the lead. */
bool tree_key_reserved(struct slice key, struct slice *meta_key);

#endif
