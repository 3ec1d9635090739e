// SPDX-License-Identifier: Apache-2.0
/*
 * Changing size, mode, owner and times. Of a file that is being written, mode, owner
 * and times go to the cluster with the value; of any other, at once.
 */
#include <errno.h>

#include "etcfs/etcfs_i.h"

struct change {
	struct op op;
	struct asker wait;		/* for the commit of a new size */
	struct node *node;
	struct attr attr;
};

static void change_free(struct change *change)
{
	struct fs *fs = change->op.fs;

	op_release(&change->op);
	node_put(&fs->tree, change->node);
	free(change);
}

static void reply_attr(struct fs *fs, fuse_req_t req, const struct node *node)
{
	struct stat st;

	fs_attr(fs, node, &st);
	fuse_reply_attr(req, &st, FOREVER);
}

static void finish(struct change *change, int err)
{
	struct fs *fs = change->op.fs;
	fuse_req_t req = asker_take(&change->op.asker);

	if (req && err)
		fuse_reply_err(req, -err);
	else if (req)
		reply_attr(fs, req, change->node);
	change_free(change);
}

static struct change *change_new(struct fs *fs, fuse_req_t req, struct node *node)
{
	struct change *change = calloc(1, sizeof(*change));

	if (!change)
		return NULL;
	change->node = node_get(node);
	op_init(&change->op, fs, req);
	return change;
}

/* --- mode, owner, times ----------------------------------------------------------------- */

static void on_changed(struct op *op, int err, const Etcdserverpb__TxnResponse *response)
{
	struct change *change = container_of(op, struct change, op);
	struct fs *fs = op->fs;
	struct node *node = change->node;

	if (!err && !response->succeeded)
		err = -ESTALE;
	if (!err) {
		node->attr = change->attr;
		if (node->parent || node == fs->tree.root)
			op_meta_done(op, node, &change->attr, response->header->revision);
		/* who was interrupted has the old ones cached */
		if (!change->op.asker.req) {
			node->touched = true;
			tree_unsettle(&fs->tree, node);
		}
	}
	finish(change, err);
}

static int change_send(struct change *change)
{
	struct fs *fs = change->op.fs;
	struct node *node = change->node;
	struct txn *txn = &change->op.txn;

	if (node->key.create_revision)
		txn_require(txn, TXN_CREATE, txn_own(txn, node_key(node, fs->prefix)),
			    node->key.create_revision);
	op_add_meta(&change->op, node, &change->attr);
	if (txn->failed)
		return -ENOMEM;
	/* nothing differs from the default, and nothing did */
	if (txn->request.n_success)
		return op_start(&change->op, on_changed);
	node->attr = change->attr;
	finish(change, 0);
	return 0;
}

/* What @to_set makes of @attr. */
static void set(struct fs *fs, struct attr *attr, const struct stat *st, int to_set)
{
	if (to_set & FUSE_SET_ATTR_MODE)
		attr->mode = (attr->mode & S_IFMT) | (st->st_mode & 07777);
	if (to_set & FUSE_SET_ATTR_UID)
		attr->uid = st->st_uid;
	if (to_set & FUSE_SET_ATTR_GID)
		attr->gid = st->st_gid;
	if (to_set & FUSE_SET_ATTR_ATIME)
		attr->atime = to_set & FUSE_SET_ATTR_ATIME_NOW ? fs->tree.now : st->st_atim;
	if (to_set & FUSE_SET_ATTR_MTIME)
		attr->mtime = to_set & FUSE_SET_ATTR_MTIME_NOW ? fs->tree.now : st->st_mtim;
	if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME))
		attr->times_set = true;
	attr->ctime = fs->tree.now;
}

/* Without sidecars nothing can be changed; what is so already may be set. */
static int set_without_meta(struct node *node, const struct attr *attr)
{
	if (attr->mode != node->attr.mode || attr->uid != node->attr.uid ||
	    attr->gid != node->attr.gid)
		return -EPERM;
	node->attr = *attr;
	return 0;
}

static int set_attr(struct fs *fs, fuse_req_t req, struct node *node, const struct attr *attr,
		    int to_set)
{
	const int now = FUSE_SET_ATTR_MTIME_NOW | FUSE_SET_ATTR_ATIME_NOW;
	struct edit *edit = node->edit;
	struct change *change;
	bool keep;
	int err;

	if (edit || node->unlinked || (!node->parent && node != fs->tree.root)) {
		/* the time at which it is written need not be kept */
		keep = node->attr.times_set || !(to_set & now);
		node->attr = *attr;
		node->attr.times_set = keep && attr->times_set;
		if (edit)
			edit->delta.meta = edit->delta.touched = true;
		reply_attr(fs, req, node);
		return 0;
	}
	change = change_new(fs, req, node);
	if (!change)
		return -ENOMEM;
	change->attr = *attr;
	err = change_send(change);
	if (err) {
		asker_take(&change->op.asker);
		change_free(change);
	}
	return err;
}

/* --- size ---------------------------------------------------------------------------------- */

static void resized(struct asker *asker, int err)
{
	struct change *change = container_of(asker, struct change, wait);

	finish(change, err);
}

/* truncate() of a path: nobody will close it, so it is committed now. */
static int truncate_now(struct fs *fs, fuse_req_t req, struct node *node, size_t size)
{
	struct change *change;
	int err = fs->sync.lost ? -EROFS : file_resize(fs, node, NULL, size);

	if (err)
		return err;
	change = change_new(fs, req, node);
	if (!change)
		return -ENOMEM;
	asker_init(&change->wait, fs, NULL);
	change->wait.fn = resized;
	edit_commit(fs, node, &change->wait);
	return 0;
}

void fs_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set,
		struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct node *node = tree_find_ino(&fs->tree, ino);
	struct handle *handle = fi ? (struct handle *)(uintptr_t)fi->fh : NULL;
	struct attr attr;
	int err = node ? 0 : -ESTALE;

	if (!err && echo_is_helper(fs, req)) {
		reply_attr(fs, req, node);
		return;
	}
	if (!err && to_set & FUSE_SET_ATTR_SIZE && !handle && !node->unlinked)
		err = truncate_now(fs, req, node, (size_t)st->st_size);
	else if (!err && to_set & FUSE_SET_ATTR_SIZE)
		err = file_resize(fs, node, handle, (size_t)st->st_size);
	if (err) {
		fuse_reply_err(req, -err);
		return;
	}
	if (to_set & FUSE_SET_ATTR_SIZE && !handle && !node->unlinked) {
		echo_settle(fs);
		return;
	}
	attr = node->attr;
	set(fs, &attr, st, to_set);
	if (!(to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID |
			FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME))) {
		reply_attr(fs, req, node);
		return;
	}
	if (!fs->tree.defaults.meta) {
		err = set_without_meta(node, &attr);
		if (!err)
			reply_attr(fs, req, node);
	} else {
		err = set_attr(fs, req, node, &attr, to_set);
	}
	if (err)
		fuse_reply_err(req, -err);
}
