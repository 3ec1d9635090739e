// SPDX-License-Identifier: Apache-2.0
/*
 * Reading directories. Every child has a cookie that grows with each new one and is
 * the offset of the entry: a child that is there during the whole reading is given
 * exactly once, whatever comes and goes meanwhile.
 */
#include <errno.h>

#include "etcfs/etcfs_i.h"

enum { COOKIE_DOT = 1, COOKIE_DOT_DOT = 2 };

struct dir_handle {
	struct list link;	/* in fs->dir_handles */
	struct node *dir;
	struct node *last;	/* the child given last, so as not to search for it */
};

struct page {
	struct fs *fs;
	fuse_req_t req;
	char *buf;
	size_t used, size;
	bool plus;
};

static void close_dir(struct fs *fs, struct dir_handle *handle)
{
	list_del(&handle->link);
	if (handle->last)
		node_put(&fs->tree, handle->last);
	node_put(&fs->tree, handle->dir);
	free(handle);
}

void fs_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct node *dir = tree_find_ino(&fs->tree, ino);
	struct dir_handle *handle = dir ? calloc(1, sizeof(*handle)) : NULL;

	if (!handle) {
		fuse_reply_err(req, dir ? ENOMEM : ESTALE);
		return;
	}
	list_add_tail(&fs->dir_handles, &handle->link);
	handle->dir = node_get(dir);
	fi->fh = (uintptr_t)handle;
	if (fuse_reply_open(req, fi))
		close_dir(fs, handle);
}

void fs_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	close_dir(fs_of(req), (struct dir_handle *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}

void dirs_release(struct fs *fs)
{
	while (!list_empty(&fs->dir_handles))
		close_dir(fs, list_first(&fs->dir_handles, struct dir_handle, link));
}

/* Every change of a directory is in the cluster before it is answered. */
void fs_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

/* False where the page is full. "." and ".." are not counted as looked up. */
static bool add(struct page *page, const char *name, struct node *node, off_t cookie)
{
	struct fuse_entry_param entry = {
		.ino = node->ino, .attr_timeout = FOREVER, .entry_timeout = FOREVER,
	};
	char *at = page->buf + page->used;
	size_t room = page->size - page->used, n;

	fs_attr(page->fs, node, &entry.attr);
	if (page->plus)
		n = fuse_add_direntry_plus(page->req, at, room, name, &entry, cookie);
	else
		n = fuse_add_direntry(page->req, at, room, name, &entry.attr, cookie);
	if (n > room)
		return false;
	page->used += n;
	if (page->plus && cookie > COOKIE_DOT_DOT)
		node->nlookup++;
	return true;
}

static void remember(struct fs *fs, struct dir_handle *handle, struct node *last)
{
	struct node *before = handle->last;

	handle->last = node_get(last);
	if (before)
		node_put(&fs->tree, before);
}

static struct list *position(struct dir_handle *handle, uint64_t off)
{
	struct node *last = handle->last;
	struct list *at = handle->dir->children.next;

	if (last && last->parent == handle->dir && last->cookie == off)
		return last->sibling.next;
	while (at != &handle->dir->children && list_entry(at, struct node, sibling)->cookie <= off)
		at = at->next;
	return at;
}

static void fill(struct page *page, struct dir_handle *handle, uint64_t off)
{
	struct node *dir = handle->dir;
	struct list *at;

	if (off < COOKIE_DOT && !add(page, ".", dir, COOKIE_DOT))
		return;
	if (off < COOKIE_DOT_DOT &&
	    !add(page, "..", dir->parent ? dir->parent : dir, COOKIE_DOT_DOT))
		return;
	for (at = position(handle, off); at != &dir->children; at = at->next) {
		struct node *node = list_entry(at, struct node, sibling);

		if (!node->visible)
			continue;
		if (!add(page, node->name, node, (off_t)node->cookie))
			return;
		remember(page->fs, handle, node);
	}
}

static void read_dir(fuse_req_t req, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
	struct page page = {
		.fs = fs_of(req), .req = req, .size = size, .plus = plus, .buf = malloc(size),
	};

	if (!page.buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	fill(&page, (struct dir_handle *)(uintptr_t)fi->fh, (uint64_t)off);
	fuse_reply_buf(req, page.buf, page.used);
	free(page.buf);
}

void fs_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		struct fuse_file_info *fi)
{
	read_dir(req, size, off, fi, false);
}

void fs_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	read_dir(req, size, off, fi, true);
}
