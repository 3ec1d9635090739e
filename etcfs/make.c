// SPDX-License-Identifier: Apache-2.0
/*
 * Making files, links, directories and special files. Each is one transaction that
 * fails where the name is taken, by whoever; only open() without O_EXCL makes a file
 * here first, which goes to the cluster with its first value.
 */
#include <errno.h>

#include "etcfs/etcfs_i.h"
#include "etcfs/name.h"

struct make {
	struct op op;
	struct node *dir;
	char *name, *value;
	struct attr attr;
	struct slice key;		/* without the prefix; owned by the txn */
	bool open;			/* answered with a handle */
	struct fuse_file_info fi;
};

/* Room for a slash after each component; no component is longer than its name. */
static size_t length_below(const struct node *dir, const char *name)
{
	size_t len = strlen(name) + 1;

	for (; dir->parent; dir = dir->parent)
		len += strlen(dir->name) + 1;
	return len;
}

int name_allowed(struct fs *fs, const struct node *dir, const char *name)
{
	if (strlen(name) > NAME_MAX || length_below(dir, name) > TREE_KEY_MAX)
		return -ENAMETOOLONG;
	if (!dir->visible)
		return -ENOENT;		/* it is gone, and has no key any more */
	if (dir == fs->tree.root && (!strcmp(name, TREE_RESERVED) || !strcmp(name, NAME_VALUE)))
		return -EPERM;
	/* with an empty value it would be the directory's marker */
	return strcmp(name, NAME_EMPTY) ? 0 : -EINVAL;
}

struct attr attr_for(struct fs *fs, fuse_req_t req, const struct node *dir, mode_t mode)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct attr attr = {
		.mode = mode, .uid = ctx->uid, .gid = ctx->gid,
		.atime = fs->tree.now, .mtime = fs->tree.now, .ctime = fs->tree.now,
	};

	if (dir->attr.mode & S_ISGID) {
		attr.gid = dir->attr.gid;
		if (S_ISDIR(mode))
			attr.mode |= S_ISGID;
	}
	if (fs->tree.defaults.meta)
		return attr;
	attr.mode = meta_default_mode(&fs->tree.defaults, mode & S_IFMT);
	attr.uid = fs->tree.defaults.uid;
	attr.gid = fs->tree.defaults.gid;
	return attr;
}

/* --- in the cluster at once -------------------------------------------------------- */

static void make_free(struct make *make)
{
	struct fs *fs = make->op.fs;

	op_release(&make->op);
	node_put(&fs->tree, make->dir);
	free(make->name);
	free(make->value);
	free(make);
}

static void reply_create(struct fs *fs, fuse_req_t req, struct node *node,
			 struct fuse_file_info *fi, bool echo)
{
	struct fuse_entry_param entry = {
		.ino = node->ino, .attr_timeout = FOREVER, .entry_timeout = FOREVER,
	};
	struct handle *handle = handle_open(fs, node, fi, echo);

	if (!handle) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	fs_attr(fs, node, &entry.attr);
	if (fuse_reply_create(req, &entry, fi))
		handle_close(fs, handle);
	else
		node->nlookup++;
}

/* What the cluster has taken, in the tree. */
static struct node *make_node(struct make *make, int64_t revision)
{
	struct fs *fs = make->op.fs;
	struct node place = place_of(make->dir, make->name, make->attr.mode), *node;
	struct tree_put put = {
		.key = make->key, .own = true,
		.value = make->value ? slice_str(make->value) : slice_of(NULL, 0),
		.version = { revision, revision, 1, 0 },
	};

	/* the sidecar first: it says of what type the file is */
	op_meta_done(&make->op, &place, &make->attr, revision);
	if (tree_put(&fs->tree, &put, &node) || !node)
		return NULL;
	node->attr = make->attr;
	node->touched = false;
	return node;
}

static void on_made(struct op *op, int err, const Etcdserverpb__TxnResponse *response)
{
	struct make *make = container_of(op, struct make, op);
	struct fs *fs = op->fs;
	fuse_req_t req = asker_take(&op->asker);
	struct node *node = NULL;

	if (!err && !response->succeeded)
		err = -EEXIST;
	if (!err) {
		node = make_node(make, response->header->revision);
		if (!node)
			err = -ENOMEM;
		else if (node->parent != make->dir || !make->dir->visible)
			err = -ESTALE;
	}
	/* who was interrupted has not seen the name: it is left to the echo */
	if (req && err) {
		fuse_reply_err(req, -err);
	} else if (req) {
		tree_show(&fs->tree, node);
		if (make->open)
			reply_create(fs, req, node, &make->fi, false);
		else
			reply_entry(fs, req, node);
	}
	make_free(make);
}

static struct make *make_new(struct fs *fs, fuse_req_t req, struct node *dir, const char *name)
{
	struct make *make = calloc(1, sizeof(*make));

	if (!make)
		return NULL;
	make->dir = node_get(dir);
	make->name = strdup(name);
	op_init(&make->op, fs, req);
	if (make->name)
		return make;
	make_free(make);
	return NULL;
}

/* Only if there is neither a file nor anything below the name. */
static int make_send(struct make *make)
{
	struct fs *fs = make->op.fs;
	struct txn *txn = &make->op.txn;
	struct node place = place_of(make->dir, make->name, make->attr.mode);
	struct node file = place_of(make->dir, make->name, S_IFREG);
	struct node dir = place_of(make->dir, make->name, S_IFDIR);
	struct slice key = txn_own(txn, node_key(&place, fs->prefix)), below;
	size_t lead = strlen(fs->prefix);

	if (!key.data)
		return -ENOMEM;
	make->key = slice_of(key.data + lead, key.len - lead);
	txn_require(txn, TXN_CREATE, txn_own(txn, node_key(&file, fs->prefix)), 0);
	if (strcmp(make->name, NAME_VALUE)) {
		below = txn_own(txn, node_key(&dir, fs->prefix));
		txn_require_none(txn, below, txn_prefix_end(txn, below));
	}
	txn_put(txn, key, make->value ? slice_str(make->value) : slice_of(NULL, 0), 0);
	op_add_meta(&make->op, &place, &make->attr);
	return op_start(&make->op, on_made);
}

struct making {
	struct fs *fs;
	struct node *dir;
	const char *name, *target;
	mode_t mode;
	dev_t rdev;
	struct fuse_file_info *fi;
};

static void make(fuse_req_t req, const struct making *m)
{
	struct fs *fs = m->fs;
	struct make *make = NULL;
	int err = m->dir ? name_allowed(fs, m->dir, m->name) : -ESTALE;

	if (!err && tree_find(&fs->tree, m->dir, m->name, TREE_VISIBLE))
		err = -EEXIST;
	if (!err) {
		make = make_new(fs, req, m->dir, m->name);
		err = make ? 0 : -ENOMEM;
	}
	if (!err) {
		make->attr = attr_for(fs, req, m->dir, m->mode);
		make->attr.rdev = m->rdev;
		make->open = m->fi;
		if (m->fi)
			make->fi = *m->fi;
		make->value = m->target ? strdup(m->target) : NULL;
		err = m->target && !make->value ? -ENOMEM : make_send(make);
	}
	if (!err)
		return;
	if (make) {
		asker_take(&make->op.asker);
		make_free(make);
	}
	fuse_reply_err(req, -err);
}

/* --- requests ----------------------------------------------------------------------- */

/* A helper's: shows what it was sent to create. False where it is no helper's. */
static bool echoed(struct fs *fs, fuse_req_t req, struct node *dir, const char *name,
		   struct fuse_file_info *fi)
{
	struct node *node;

	if (!echo_is_helper(fs, req))
		return false;
	node = echo_claim(fs, req, JOB_CREATE, dir, name);
	if (!node || !dir->visible ||
	    (!node->visible && tree_find(&fs->tree, dir, name, TREE_VISIBLE))) {
		fuse_reply_err(req, ECANCELED);
		return true;
	}
	tree_show(&fs->tree, node);
	if (fi)
		reply_create(fs, req, node, fi, true);
	else
		reply_entry(fs, req, node);
	echo_settle(fs);
	return true;
}

void fs_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fs *fs = fs_of(req);
	struct making m = {
		.fs = fs, .dir = tree_find_ino(&fs->tree, parent), .name = name,
		.mode = S_IFDIR | (mode & 07777),
	};

	if (!m.dir || !echoed(fs, req, m.dir, name, NULL))
		make(req, &m);
}

void fs_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct fs *fs = fs_of(req);
	struct making m = {
		.fs = fs, .dir = tree_find_ino(&fs->tree, parent), .name = name,
		.mode = mode, .rdev = rdev,
	};

	if (!fs->tree.defaults.meta && !S_ISREG(mode))
		fuse_reply_err(req, EPERM);
	else if (!m.dir || !echoed(fs, req, m.dir, name, NULL))
		make(req, &m);
}

void fs_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct making m = {
		.fs = fs, .dir = tree_find_ino(&fs->tree, parent), .name = name,
		.mode = S_IFLNK | 0777, .target = target,
	};

	if (!fs->tree.defaults.meta)
		fuse_reply_err(req, EPERM);
	else if (!m.dir || !echoed(fs, req, m.dir, name, NULL))
		make(req, &m);
}

/* One key is one file. */
void fs_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, EPERM);
}

/* A file that is made elsewhere at the same time, and is not shown yet, is opened. */
static void create_here(fuse_req_t req, struct fs *fs, struct node *dir, const char *name,
			mode_t mode, struct fuse_file_info *fi)
{
	struct node *node = tree_find(&fs->tree, dir, name, TREE_VISIBLE);
	bool new = !node;
	int err = name_allowed(fs, dir, name);

	if (!err && fs->sync.lost)
		err = -EROFS;
	if (!err && !node) {
		node = tree_find(&fs->tree, dir, name, TREE_PRESENT);
		if (node) {
			tree_show(&fs->tree, node);
			new = false;
		} else {
			node = tree_fresh(&fs->tree, dir, name, S_IFREG);
			err = node ? 0 : -ENOMEM;
		}
	}
	if (!err && node_is_dir(node))
		err = -EISDIR;
	else if (!err && !S_ISREG(node->attr.mode))
		err = -ESTALE;		/* the kernel looks it up again */
	if (!err && new) {
		node->attr = attr_for(fs, req, dir, S_IFREG | (mode & 07777));
		err = file_created(fs, node, fi->flags & O_TRUNC);
		if (err)
			tree_forsake(&fs->tree, node);
	} else if (!err && fi->flags & O_TRUNC) {
		err = file_resize(fs, node, NULL, 0);
	}
	if (err)
		fuse_reply_err(req, -err);
	else
		reply_create(fs, req, node, fi, false);
	echo_settle(fs);
}

void fs_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct making m = {
		.fs = fs, .dir = tree_find_ino(&fs->tree, parent), .name = name,
		.mode = S_IFREG | (mode & 07777), .fi = fi,
	};

	if (m.dir && echoed(fs, req, m.dir, name, fi))
		return;
	if (!m.dir || fi->flags & O_EXCL)
		make(req, &m);
	else
		create_here(req, fs, m.dir, name, mode, fi);
}
