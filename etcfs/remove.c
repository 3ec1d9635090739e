// SPDX-License-Identifier: Apache-2.0
/* Removing files and directories. */
#include <errno.h>

#include "etcfs/etcfs_i.h"

struct removal {
	struct op op;
	struct asker wait;		/* for a commit that is under way */
	struct node *node;
	struct slice key;		/* without the prefix; owned by the txn */
};

static void removal_free(struct removal *removal)
{
	struct fs *fs = removal->op.fs;

	if (!list_empty(&removal->wait.link))
		asker_take(&removal->wait);
	op_release(&removal->op);
	node_put(&fs->tree, removal->node);
	free(removal);
}

static struct removal *removal_new(struct fs *fs, fuse_req_t req, struct node *node)
{
	struct removal *removal = calloc(1, sizeof(*removal));

	if (!removal)
		return NULL;
	removal->node = node_get(node);
	list_init(&removal->wait.link);
	list_init(&removal->wait.wait);
	op_init(&removal->op, fs, req);
	return removal;
}

static void fail(struct removal *removal, int err)
{
	fuse_req_t req = asker_take(&removal->op.asker);

	if (req)
		fuse_reply_err(req, -err);
	removal_free(removal);
}

/* Gone for the one who asked; one who was interrupted hears of it by an echo. */
static void hide(struct fs *fs, struct node *node, fuse_req_t req)
{
	struct node *dir = node->parent;

	if (!node->present) {
		node->unlinked = true;
		edit_drop(fs, node);
	}
	if (req && !node->present)
		tree_hide(&fs->tree, node);
	else
		tree_unsettle(&fs->tree, node);
	echo_linger(fs, dir);
	if (req)
		fuse_reply_err(req, 0);
}

static void on_removed(struct op *op, int err, const Etcdserverpb__TxnResponse *response)
{
	struct removal *removal = container_of(op, struct removal, op);
	struct fs *fs = op->fs;
	struct node *node = removal->node;
	struct slice meta_key;
	int64_t revision;

	if (!err && !response->succeeded)
		err = -ENOTEMPTY;
	if (err) {
		fail(removal, err);
		return;
	}
	revision = response->header->revision;
	meta_key = node->parent ? node_meta_key(node) : slice_of(NULL, 0);
	tree_delete(&fs->tree, removal->key, revision);
	sync_deleted(fs, removal->key, revision);
	if (meta_key.data)
		op_meta_deleted(op, meta_key, revision);
	free((void *)meta_key.data);
	if (!node->parent) {
		fail(removal, 0);
		return;
	}
	hide(fs, node, asker_take(&op->asker));
	removal_free(removal);
}

static struct slice own_key(struct removal *removal)
{
	struct fs *fs = removal->op.fs;
	size_t lead = strlen(fs->prefix);
	struct slice key = txn_own(&removal->op.txn, node_key(removal->node, fs->prefix));

	if (key.data)
		removal->key = slice_of(key.data + lead, key.len - lead);
	return key;
}

/* --- files ------------------------------------------------------------------------ */

static void unlink_send(struct removal *removal)
{
	struct fs *fs = removal->op.fs;
	struct node *node = removal->node;
	struct slice key;
	int err;

	if (!node->parent || !node->visible) {
		fail(removal, -ENOENT);
		return;
	}
	if (!node->present) {
		/* it never was in the cluster, or is not any more */
		node->fresh = false;
		hide(fs, node, asker_take(&removal->op.asker));
		removal_free(removal);
		return;
	}
	key = own_key(removal);
	txn_delete(&removal->op.txn, key, slice_of(NULL, 0));
	op_delete_meta(&removal->op, node);
	err = op_start(&removal->op, on_removed);
	if (err)
		fail(removal, err);
}

static void unlink_waited(struct asker *asker, int err)
{
	struct removal *removal = container_of(asker, struct removal, wait);
	struct fs *fs = removal->op.fs;

	unlink_send(removal);
	echo_settle(fs);
}

/* A helper's: hides what it was sent to remove. False where it is no helper's. */
static bool echoed(struct fs *fs, fuse_req_t req, struct node *dir, const char *name)
{
	struct node *node, *child;

	if (!echo_is_helper(fs, req))
		return false;
	node = dir ? echo_claim(fs, req, JOB_REMOVE, dir, name) : NULL;
	if (!node) {
		fuse_reply_err(req, ECANCELED);
		return true;
	}
	list_for_each(child, &node->children, sibling) {
		if (!child->visible)
			continue;
		fuse_reply_err(req, ENOTEMPTY);
		return true;
	}
	if (node->visible)
		tree_hide(&fs->tree, node);
	fuse_reply_err(req, 0);
	echo_settle(fs);
	return true;
}

void fs_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct node *dir = tree_find_ino(&fs->tree, parent);
	struct node *node = dir ? tree_find(&fs->tree, dir, name, TREE_VISIBLE) : NULL;
	struct removal *removal;

	if (echoed(fs, req, dir, name))
		return;
	if (!node || node_is_dir(node)) {
		fuse_reply_err(req, node ? EISDIR : ENOENT);
		return;
	}
	removal = removal_new(fs, req, node);
	if (!removal) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	asker_init(&removal->wait, fs, NULL);
	removal->wait.fn = unlink_waited;
	edit_wait(node, &removal->wait);
}

/* --- directories -------------------------------------------------------------------- */

static int rmdir_send(struct removal *removal)
{
	struct txn *txn = &removal->op.txn;
	struct slice key = own_key(removal);

	/* nothing but the marker */
	txn_require_none(txn, txn_after(txn, key), txn_prefix_end(txn, key));
	txn_delete(txn, key, slice_of(NULL, 0));
	op_delete_meta(&removal->op, removal->node);
	return op_start(&removal->op, on_removed);
}

static bool is_empty(const struct node *dir)
{
	const struct node *child;

	list_for_each(child, &dir->children, sibling)
		if (child->visible || child->present)
			return false;
	return true;
}

void fs_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct node *dir = tree_find_ino(&fs->tree, parent);
	struct node *node = dir ? tree_find(&fs->tree, dir, name, TREE_VISIBLE) : NULL;
	struct removal *removal;
	int err;

	if (echoed(fs, req, dir, name))
		return;
	err = !node ? -ENOENT : !node_is_dir(node) ? -ENOTDIR : !is_empty(node) ? -ENOTEMPTY : 0;
	if (err) {
		fuse_reply_err(req, -err);
		return;
	}
	if (!node->present) {
		hide(fs, node, req);
		echo_settle(fs);
		return;
	}
	removal = removal_new(fs, req, node);
	if (!removal) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	err = rmdir_send(removal);
	if (err)
		fail(removal, err);
}
