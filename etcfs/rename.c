// SPDX-License-Identifier: Apache-2.0
/*
 * Renaming: one transaction, or nothing. What is written and not committed goes to the
 * cluster first. A directory is renamed with all the keys in it as long as they fit
 * one transaction; beyond that it is EXDEV, and mv copies.
 */
#include <errno.h>
#include <fcntl.h>

#include "etcfs/etcfs_i.h"
#include "etcfs/name.h"

/* What etcd takes in one request by default, less room for the rest of it. */
#define RENAME_BYTES_MAX (1400u << 10)

struct moved {
	struct node *node;
	int64_t revision;		/* of its key, as sent; 0: it has only a sidecar */
	struct attr attr;		/* as its sidecar has it now */
	struct slice key, meta_key;	/* the old ones, without the prefix; owned by the txn */
};

struct rename {
	struct op op;
	struct asker wait;
	struct node *dir, *new_dir, *node, *over;	/* over: what is there, or NULL */
	char *name, *new_name;
	unsigned flags;
	struct slice over_key;
	struct moved *moved;		/* the nodes with a key of their own */
	size_t n_moved;
};

static void rename_free(struct rename *rename)
{
	struct fs *fs = rename->op.fs;

	if (!list_empty(&rename->wait.link))
		asker_take(&rename->wait);
	op_release(&rename->op);
	for (size_t i = 0; i < rename->n_moved; i++)
		node_put(&fs->tree, rename->moved[i].node);
	free(rename->moved);
	node_put(&fs->tree, rename->dir);
	node_put(&fs->tree, rename->new_dir);
	if (rename->node)
		node_put(&fs->tree, rename->node);
	if (rename->over)
		node_put(&fs->tree, rename->over);
	free(rename->name);
	free(rename->new_name);
	free(rename);
}

static void finish(struct rename *rename, int err)
{
	fuse_req_t req = asker_take(&rename->op.asker);

	if (req)
		fuse_reply_err(req, -err);
	rename_free(rename);
}

static struct slice after_lead(struct slice s, const char *lead)
{
	return slice_of(s.data + strlen(lead), s.len - strlen(lead));
}

/* --- the transaction -------------------------------------------------------------------- */

static struct slice join(struct txn *txn, const char *lead, struct slice base, struct slice rest)
{
	size_t n = strlen(lead);
	uint8_t *joined = malloc(n + base.len + rest.len + 1);

	if (joined) {
		memcpy(joined, lead, n);
		memcpy(joined + n, base.data, base.len);
		if (rest.len)
			memcpy(joined + n + base.len, rest.data, rest.len);
	}
	return txn_own(txn, slice_of(joined, n + base.len + rest.len));
}

/* From the old bases to the new ones; both end in a slash for a directory. */
struct bases {
	struct slice from, to;
};

/* Where a key below the directory, or its own, goes. The directory's .value has the
 * base without its slash. */
static struct slice moved_key(struct txn *txn, const struct bases *bases, const char *lead,
			      struct slice key)
{
	struct slice to = bases->to;

	if (key.len < bases->from.len)
		return join(txn, lead, slice_of(to.data, to.len - 1), slice_of(NULL, 0));
	return join(txn, lead, to, slice_of(key.data + bases->from.len,
					    key.len - bases->from.len));
}

/* Puts the key at its new place and deletes it at the old one, with its sidecar. */
static void add_move(struct rename *rename, struct moved *moved, const struct bases *bases)
{
	struct fs *fs = rename->op.fs;
	struct txn *txn = &rename->op.txn;
	struct node *node = moved->node;
	bool is_dir = node_is_dir(node);
	struct content *content = node->committed ? node->committed : node->content;
	struct slice key = txn_own(txn, node_key(node, fs->prefix)), meta, text;
	char *buffer;

	if (!key.data)
		return;
	moved->key = after_lead(key, fs->prefix);
	moved->attr = node->attr;
	moved->revision = node->key.mod_revision;
	if (moved->revision) {
		txn_require(txn, TXN_MOD, key, moved->revision);
		txn_delete(txn, key, slice_of(NULL, 0));
	}
	/* a directory that replaces another has a marker, as that one may have had */
	if (moved->revision || node == rename->node)
		txn_put(txn, moved_key(txn, bases, fs->prefix, moved->key),
			is_dir ? slice_of(NULL, 0) : content_slice(content), node->key.lease);
	if (!fs->tree.defaults.meta)
		return;
	meta = txn_own(txn, node_key(node, is_dir ? fs->lead_dir : fs->lead_file));
	buffer = malloc(META_TEXT_MAX);
	text = txn_own(txn, slice_of(buffer, 0));
	if (!meta.data || !text.data)
		return;
	moved->meta_key = after_lead(meta, fs->prefix);
	text.len = meta_text(&node->attr, &fs->tree.defaults, buffer);
	if (text.len)
		txn_put(txn, moved_key(txn, bases, is_dir ? fs->lead_dir : fs->lead_file,
				       moved->key), text, 0);
	op_delete_meta(&rename->op, node);
}

/* A directory that is only implied has no key, but it can have a sidecar. */
static bool has_keys(struct fs *fs, const struct node *node)
{
	char text[META_TEXT_MAX];

	return node->present && (node->key.mod_revision ||
				 meta_text(&node->attr, &fs->tree.defaults, text));
}

/* The node after @node in the subtree of @root, NULL at the end; it needs no stack but
 * the tree. */
static struct node *next_below(struct node *root, struct node *node)
{
	if (!list_empty(&node->children))
		return list_first(&node->children, struct node, sibling);
	while (node != root && node->sibling.next == &node->parent->children)
		node = node->parent;
	return node == root ? NULL : list_entry(node->sibling.next, struct node, sibling);
}

/* Every node with a key, in the subtree. */
static int collect(struct rename *rename)
{
	struct fs *fs = rename->op.fs;
	struct node *node = rename->node;

	rename->moved = calloc(TXN_OPS_MAX / 2, sizeof(struct moved));
	if (!rename->moved)
		return -ENOMEM;
	for (; node; node = next_below(rename->node, node)) {
		if (node->edit && node->edit->running)
			return -EBUSY;
		if (node != rename->node && !has_keys(fs, node))
			continue;
		if (rename->n_moved >= TXN_OPS_MAX / 2)
			return -EXDEV;
		rename->moved[rename->n_moved++].node = node_get(node);
	}
	return 0;
}

/* What has to be true of the new name. */
static void require_target(struct rename *rename)
{
	struct fs *fs = rename->op.fs;
	struct txn *txn = &rename->op.txn;
	struct node file = place_of(rename->new_dir, rename->new_name, S_IFREG);
	struct node dir = place_of(rename->new_dir, rename->new_name, S_IFDIR);
	bool is_dir = node_is_dir(rename->node);
	struct slice below;

	if (is_dir || rename->flags & RENAME_NOREPLACE)
		txn_require(txn, TXN_CREATE, txn_own(txn, node_key(&file, fs->prefix)), 0);
	if (!is_dir && (!strcmp(rename->new_name, NAME_VALUE) || rename->over))
		return;
	below = txn_own(txn, node_key(&dir, fs->prefix));
	txn_require_none(txn, is_dir && rename->over ? txn_after(txn, below) : below,
			 txn_prefix_end(txn, below));
}

/* The sidecar of what is replaced, whether we know of one or not; unless it is put. */
static void delete_target_meta(struct rename *rename)
{
	struct fs *fs = rename->op.fs;
	const char *lead = node_is_dir(rename->over) ? fs->lead_dir : fs->lead_file;
	struct txn *txn = &rename->op.txn;
	struct slice key = txn_own(txn, node_key(rename->over, lead));

	if (fs->tree.defaults.meta && key.data && !txn_writes(txn, key))
		txn_delete(txn, key, slice_of(NULL, 0));
}

static int fill(struct rename *rename)
{
	struct fs *fs = rename->op.fs;
	struct txn *txn = &rename->op.txn;
	mode_t type = rename->node->attr.mode;
	struct node to = place_of(rename->new_dir, rename->new_name, type);
	struct bases bases = {
		.from = txn_own(txn, node_key(rename->node, "")),
		.to = txn_own(txn, node_key(&to, "")),
	};
	int err = collect(rename);

	if (err)
		return err;
	if (node_is_dir(rename->node)) {
		rename->op.hold[0] = join(txn, fs->prefix, bases.from, slice_of(NULL, 0));
		rename->op.hold[1] = join(txn, fs->prefix, bases.to, slice_of(NULL, 0));
	}
	for (size_t i = 0; i < rename->n_moved && !txn->failed; i++) {
		struct moved *moved = &rename->moved[i];

		add_move(rename, moved, &bases);
		if (moved->key.len + bases.to.len > TREE_KEY_MAX + bases.from.len)
			return -ENAMETOOLONG;
	}
	require_target(rename);
	if (rename->over)
		delete_target_meta(rename);
	if (txn->failed)
		return -ENOMEM;
	if (txn->request.n_success > TXN_OPS_MAX || txn->request.n_compare > TXN_OPS_MAX ||
	    (rename->n_moved > 1 && txn->bytes > RENAME_BYTES_MAX))
		return -EXDEV;
	return 0;
}

/* --- afterwards ----------------------------------------------------------------------- */

static void remove_target(struct rename *rename, int64_t revision)
{
	struct fs *fs = rename->op.fs;
	struct node *over = rename->over;
	struct slice key;

	if (!over || !over->parent)
		return;
	key = node_key(over, "");
	if (key.data)
		tree_delete(&fs->tree, key, revision);
	free((void *)key.data);
	if (over->present)
		return;
	over->fresh = false;
	over->unlinked = true;
	edit_drop(fs, over);
	tree_hide(&fs->tree, over);
}

/* The nodes are at their new places: their keys are new, and so are their sidecars. */
static void renew(struct rename *rename, int64_t revision)
{
	struct fs *fs = rename->op.fs;

	for (size_t i = 0; i < rename->n_moved; i++) {
		struct moved *moved = &rename->moved[i];
		struct node *node = moved->node;

		if (moved->revision)
			sync_deleted(fs, moved->key, revision);
		if (moved->revision || node == rename->node)
			node->key = (struct version){ revision, revision, 1, node->key.lease };
		node->attr = moved->attr;
		node->attr.ctime = fs->tree.now;
		if (node->edit)
			node->edit->base = revision;
		if (!moved->meta_key.data)
			continue;
		op_meta_done(&rename->op, node, &moved->attr, revision);
		op_meta_deleted(&rename->op, moved->meta_key, revision);
	}
}

/* Whether all that was moved is where it was, and as it was: then the tree can be
 * changed in the same way. Else it follows the events, and the kernel looks again. */
static bool is_unchanged(const struct rename *rename)
{
	struct node *node = rename->node;
	size_t n = 0;

	if (!node->parent || !node->present || !rename->new_dir->visible)
		return false;
	for (; node; node = next_below(rename->node, node))
		n += node == rename->node || has_keys(rename->op.fs, node);
	if (n != rename->n_moved)
		return false;
	for (size_t i = 0; i < rename->n_moved; i++) {
		const struct moved *moved = &rename->moved[i];

		if (!moved->node->present || !moved->node->parent ||
		    moved->node->key.mod_revision != moved->revision)
			return false;
	}
	return true;
}

static void on_renamed(struct op *op, int err, const Etcdserverpb__TxnResponse *response)
{
	struct rename *rename = container_of(op, struct rename, op);
	struct fs *fs = op->fs;
	int64_t revision;

	if (!err && !response->succeeded)
		err = rename->flags & RENAME_NOREPLACE ? -EEXIST : -ESTALE;
	if (!err && !op->asker.req)
		/* the kernel was told EINTR: the tree follows the events instead */
		err = -EINTR;
	if (!err && !is_unchanged(rename))
		err = -ESTALE;
	if (err) {
		finish(rename, err);
		return;
	}
	revision = response->header->revision;
	remove_target(rename, revision);
	/* something was made there meanwhile: the tree follows the events here, too */
	if (tree_find(&fs->tree, rename->new_dir, rename->new_name, TREE_PRESENT)) {
		finish(rename, -ESTALE);
		return;
	}
	err = tree_move(&fs->tree, rename->node, rename->new_dir, rename->new_name);
	if (!err) {
		renew(rename, revision);
		echo_linger(fs, rename->dir);
	}
	finish(rename, err);
}

/* --- before ------------------------------------------------------------------------------ */

static void rename_send(struct rename *rename)
{
	struct node *node = rename->node, *hidden;
	struct fs *fs = rename->op.fs;
	int err = 0;

	/* made elsewhere and not shown yet: the kernel looks again, and finds it */
	hidden = tree_find(&fs->tree, rename->new_dir, rename->new_name, TREE_PRESENT);
	if (hidden && !hidden->visible && rename->new_dir->visible && !rename->over) {
		tree_show(&fs->tree, hidden);
		finish(rename, -ESTALE);
		return;
	}

	if (!node->parent || !node->visible || (rename->over && !rename->over->parent))
		err = -ENOENT;
	else if (!node->present)
		err = -ESTALE;
	if (!err)
		err = fill(rename);
	if (!err)
		err = op_start(&rename->op, on_renamed);
	if (err)
		finish(rename, err);
}

static void target_waited(struct asker *asker, int err)
{
	struct rename *rename = container_of(asker, struct rename, wait);

	rename_send(rename);
}

static void source_committed(struct asker *asker, int err)
{
	struct rename *rename = container_of(asker, struct rename, wait);
	struct fs *fs = rename->op.fs;

	if (err) {
		finish(rename, err);
	} else if (rename->over) {
		asker_init(&rename->wait, fs, NULL);
		rename->wait.fn = target_waited;
		edit_wait(rename->over, &rename->wait);
	} else {
		rename_send(rename);
	}
	echo_settle(fs);
}

static bool is_empty(const struct node *dir)
{
	const struct node *child;

	list_for_each(child, &dir->children, sibling)
		if (child->visible || child->present)
			return false;
	return true;
}

static int allowed(const struct rename *rename)
{
	const struct node *node = rename->node, *over = rename->over;

	if (rename->flags & ~RENAME_NOREPLACE)
		return -EINVAL;
	if (!node)
		return -ENOENT;
	if (!over)
		return 0;
	if (rename->flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (node_is_dir(over) != node_is_dir(node))
		return node_is_dir(over) ? -EISDIR : -ENOTDIR;
	return node_is_dir(over) && !is_empty(over) ? -ENOTEMPTY : 0;
}

static struct rename *rename_new(struct fs *fs, fuse_req_t req, struct node *dir,
				 struct node *new_dir)
{
	struct rename *rename = calloc(1, sizeof(*rename));

	if (!rename)
		return NULL;
	rename->dir = node_get(dir);
	rename->new_dir = node_get(new_dir);
	list_init(&rename->wait.link);
	list_init(&rename->wait.wait);
	op_init(&rename->op, fs, req);
	return rename;
}

void fs_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	       const char *new_name, unsigned flags)
{
	struct fs *fs = fs_of(req);
	struct node *dir = tree_find_ino(&fs->tree, parent);
	struct node *new_dir = tree_find_ino(&fs->tree, new_parent);
	int err = !dir || !new_dir ? -ESTALE : name_allowed(fs, new_dir, new_name);
	struct rename *rename = err ? NULL : rename_new(fs, req, dir, new_dir);

	if (!rename) {
		fuse_reply_err(req, err ? -err : ENOMEM);
		return;
	}
	rename->name = strdup(name);
	rename->new_name = strdup(new_name);
	rename->flags = flags;
	rename->node = tree_find(&fs->tree, dir, name, TREE_VISIBLE);
	rename->over = tree_find(&fs->tree, new_dir, new_name, TREE_VISIBLE);
	if (rename->node)
		node_get(rename->node);
	if (rename->over)
		node_get(rename->over);
	err = allowed(rename);
	if (!err && (!rename->name || !rename->new_name))
		err = -ENOMEM;
	if (err) {
		finish(rename, err);
		return;
	}
	asker_init(&rename->wait, fs, NULL);
	rename->wait.fn = source_committed;
	edit_commit(fs, rename->node, &rename->wait);
}
