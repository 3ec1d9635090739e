// SPDX-License-Identifier: Apache-2.0
/* Finding, describing and forgetting nodes: all from memory. */
#include <errno.h>
#include <limits.h>

#include "etcfs/etcfs_i.h"

#define BLOCK_SIZE 4096u
/* What programs that ask read at once. */
#define IO_SIZE 65536
/* etcd's default quota, where the member does not say. */
#define QUOTA_DEFAULT (2ll << 30)

struct fs *fs_of(fuse_req_t req)
{
	struct fs *fs = fuse_req_userdata(req);

	fs_now(fs);
	return fs;
}

void fs_now(struct fs *fs)
{
	clock_gettime(CLOCK_REALTIME, &fs->tree.now);
}

void fs_attr(struct fs *fs, const struct node *node, struct stat *st)
{
	const struct attr *attr = &node->attr;

	*st = (struct stat){
		.st_ino = node->ino, .st_mode = attr->mode, .st_uid = attr->uid,
		.st_gid = attr->gid, .st_rdev = attr->rdev, .st_nlink = 1,
		.st_atim = attr->atime, .st_mtim = attr->mtime, .st_ctim = attr->ctime,
		.st_blksize = IO_SIZE,
	};
	if (node_is_dir(node)) {
		st->st_nlink = 2 + node->n_dirs;
		st->st_size = BLOCK_SIZE;
	} else {
		st->st_size = (off_t)node->content->len;
		if (!node->visible && !node->parent)
			st->st_nlink = 0;
	}
	st->st_blocks = (st->st_size + 511) / 512;
}

void reply_entry(struct fs *fs, fuse_req_t req, struct node *node)
{
	struct fuse_entry_param entry = {
		.ino = node->ino, .attr_timeout = FOREVER, .entry_timeout = FOREVER,
	};

	fs_attr(fs, node, &entry.attr);
	if (!fuse_reply_entry(req, &entry))
		node->nlookup++;
}

void fs_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	static const struct fuse_entry_param none = { .entry_timeout = FOREVER };
	struct fs *fs = fs_of(req);
	struct node *dir = tree_find_ino(&fs->tree, parent), *node;

	if (!dir || strlen(name) > NAME_MAX) {
		fuse_reply_err(req, dir ? ENAMETOOLONG : ESTALE);
		return;
	}
	node = tree_find(&fs->tree, dir, name, TREE_VISIBLE);
	if (node)
		reply_entry(fs, req, node);
	else
		fuse_reply_entry(req, &none);
}

static void forget(struct fs *fs, uint64_t ino, uint64_t nlookup)
{
	struct node *node = tree_find_ino(&fs->tree, ino);

	if (node)
		node_forget(&fs->tree, node, nlookup);
}

void fs_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	forget(fs_of(req), ino, nlookup);
	fuse_reply_none(req);
}

void fs_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fs *fs = fs_of(req);

	for (size_t i = 0; i < count; i++)
		forget(fs, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

void fs_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct node *node = tree_find_ino(&fs->tree, ino);
	struct stat st;

	if (!node) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	fs_attr(fs, node, &st);
	fuse_reply_attr(req, &st, FOREVER);
}

void fs_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	struct node *node = tree_find_ino(&fs->tree, ino);
	char target[PATH_MAX];

	if (!node || !S_ISLNK(node->attr.mode)) {
		fuse_reply_err(req, node ? EINVAL : ESTALE);
		return;
	}
	if (node->content->len >= sizeof(target)) {
		fuse_reply_err(req, ENAMETOOLONG);
		return;
	}
	memcpy(target, node->content->data ? (char *)node->content->data : "",
	       node->content->len);
	target[node->content->len] = '\0';
	fuse_reply_readlink(req, target);
}

/* The store's quota and what is used of it, as the member said last. */
void fs_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	int64_t quota = fs->sync.db_quota > 0 ? fs->sync.db_quota : QUOTA_DEFAULT;
	int64_t used = MIN(MAX(fs->sync.db_size, (int64_t)0), quota);
	struct statvfs st = {
		.f_bsize = BLOCK_SIZE, .f_frsize = BLOCK_SIZE, .f_namemax = NAME_MAX,
		.f_blocks = (fsblkcnt_t)(quota / BLOCK_SIZE),
		.f_bfree = (fsblkcnt_t)((quota - used) / BLOCK_SIZE),
		.f_files = fs->tree.by_ino.count,
	};

	st.f_bavail = st.f_bfree;
	st.f_ffree = st.f_favail = st.f_bfree;
	st.f_files += st.f_ffree;
	fuse_reply_statfs(req, &st);
	sync_status(fs);
}
