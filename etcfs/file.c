// SPDX-License-Identifier: Apache-2.0
/*
 * Open files. A reader that reads on where it stopped keeps the content it began
 * with, so that a file is never seen half old and half new; one that seeks, or begins
 * again, reads what is there now. Writing changes the content in memory (edit.c).
 */
#include <errno.h>
#include <fcntl.h>

#include "etcfs/etcfs_i.h"

static struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

static bool reads_only(int flags)
{
	return (flags & O_ACCMODE) == O_RDONLY;
}

/* Opening to read alone is a change, too, where it makes the file or cuts it. */
static bool changes(int flags)
{
	return !reads_only(flags) || flags & (O_CREAT | O_TRUNC);
}

struct handle *handle_open(struct fs *fs, struct node *node, struct fuse_file_info *fi, bool echo)
{
	struct handle *handle = calloc(1, sizeof(*handle));

	if (!handle)
		return NULL;
	list_add_tail(&fs->handles, &handle->link);
	handle->node = node_get(node);
	handle->content = content_get(node->content);
	handle->flags = fi->flags;
	handle->echo = echo;
	if (!echo && changes(handle->flags))
		node->writers++;
	fi->fh = (uintptr_t)handle;
	fi->direct_io = 1;
	return handle;
}

void handle_close(struct fs *fs, struct handle *handle)
{
	struct node *node = handle->node;
	struct edit *edit = node->edit;

	if (!handle->echo && changes(handle->flags)) {
		node->writers--;
		if (edit && !edit->running && !node->writers && edit->error)
			edit_revert(fs, node);
		else if (edit && !edit->running)
			edit_commit(fs, node, NULL);
	}
	list_del(&handle->link);
	content_put(handle->content);
	node_put(&fs->tree, node);
	free(handle);
}

void handles_release(struct fs *fs)
{
	while (!list_empty(&fs->handles))
		handle_close(fs, list_first(&fs->handles, struct handle, link));
}

/* --- changes ------------------------------------------------------------------------ */

/* From here on the handle reads this content. */
static void look_at(struct handle *handle, struct content *content)
{
	struct content *before = handle->content;

	handle->content = content_get(content);
	content_put(before);
}

static void stamp(struct fs *fs, struct node *node)
{
	node->attr.mtime = node->attr.ctime = fs->tree.now;
	node->attr.times_set = false;
}

int file_created(struct fs *fs, struct node *node, bool whole)
{
	struct edit *edit = edit_begin(node);
	int err = edit ? edit_change(edit, node, EDIT_APPEND) : -ENOMEM;

	if (err)
		return err;
	edit->delta.whole = whole;
	edit->delta.meta = true;
	stamp(fs, node);
	return 0;
}

int file_resize(struct fs *fs, struct node *node, struct handle *handle, size_t size)
{
	struct edit *edit;
	int err;

	if (size > (size_t)fs->config->max_file_size)
		return -EFBIG;
	if (!node->unlinked) {
		edit = edit_begin(node);
		err = edit ? edit_change(edit, node, EDIT_ANY) : -ENOMEM;
		if (err)
			return err;
		if (!size)
			edit->delta.whole = true;
	}
	err = content_resize(node->content, size);
	if (err)
		return err;
	if (handle)
		look_at(handle, node->content);
	stamp(fs, node);
	return 0;
}

/* What the handle has read is not what it is about to change. */
static bool is_stale(const struct handle *handle, const struct node *node)
{
	return handle->content != node->content && !(node->edit && node->edit->delta.whole);
}

static int write_at(struct fs *fs, struct handle *handle, size_t off, struct slice bytes,
		    bool append)
{
	struct node *node = handle->node;
	struct edit *edit;
	int err;

	if (append)
		off = node->content->len;
	else if (is_stale(handle, node))
		return -ESTALE;
	if (off + bytes.len > (size_t)fs->config->max_file_size)
		return -EFBIG;
	if (!node->unlinked) {
		edit = edit_begin(node);
		err = edit ? edit_change(edit, node, append ? EDIT_APPEND : EDIT_ANY) : -ENOMEM;
		if (err)
			return err;
		edit->delta.written = true;
	}
	err = content_write(node->content, off, bytes);
	if (err)
		return err;
	look_at(handle, node->content);
	stamp(fs, node);
	return 0;
}

/* --- requests ------------------------------------------------------------------------- */

void fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct node *node = tree_find_ino(&fs->tree, ino);
	bool echo = echo_is_helper(fs, req);
	struct handle *handle = NULL;
	int err = 0;

	if (!node)
		err = -ESTALE;
	else if (!echo && changes(fi->flags) && fs->sync.lost)
		err = -EROFS;
	else if (!echo && fi->flags & O_TRUNC)
		err = file_resize(fs, node, NULL, 0);
	if (!err) {
		handle = handle_open(fs, node, fi, echo);
		err = handle ? 0 : -ENOMEM;
	}
	if (err)
		fuse_reply_err(req, -err);
	else if (fuse_reply_open(req, fi))
		handle_close(fs, handle);
}

void fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct handle *handle = handle_of(fi);
	struct content *content;
	size_t n = 0;

	if (!off || off != handle->next)
		look_at(handle, handle->node->content);
	content = handle->content;
	if ((size_t)off < content->len)
		n = MIN(size, content->len - (size_t)off);
	handle->next = off + (off_t)n;
	fuse_reply_buf(req, n ? (char *)content->data + off : NULL, n);
}

void fs_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	      struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct handle *handle = handle_of(fi);
	bool append = fi->flags & O_APPEND && !fi->writepage;
	int err = 0;

	if (!handle->echo)
		err = write_at(fs, handle, (size_t)off, slice_of(buf, size), append);
	if (err)
		fuse_reply_err(req, -err);
	else
		fuse_reply_write(req, size);
}

static void commit(struct fs *fs, fuse_req_t req, struct node *node)
{
	struct asker *asker = asker_new(fs, req);

	if (asker)
		edit_commit(fs, node, asker);
	else
		fuse_reply_err(req, ENOMEM);
	echo_settle(fs);
}

/*
 * Called at each close() of a descriptor. A shell that redirects closes the first one
 * before anything is written: "echo x > f" would publish an empty file for a moment.
 * So what was only created or cut is committed by the second close of the same process,
 * or with the last one; but at once where nothing can be written through it.
 */
void fs_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct handle *handle = handle_of(fi);
	struct edit *edit = handle->node->edit;
	bool first;

	if (handle->echo || !changes(handle->flags) || !edit || handle->node->unlinked) {
		fuse_reply_err(req, 0);
		return;
	}
	first = !handle->flushed || handle->flush_owner != fi->lock_owner;
	if (!handle->flushed)
		handle->flush_owner = fi->lock_owner;
	handle->flushed = true;
	if (first && !reads_only(handle->flags) && !edit->delta.written &&
	    !edit->delta.touched && !edit->running)
		fuse_reply_err(req, 0);
	else
		commit(fs, req, handle->node);
}

void fs_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct handle *handle = handle_of(fi);

	if (handle->echo || handle->node->unlinked)
		fuse_reply_err(req, 0);
	else
		commit(fs, req, handle->node);
}

void fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);

	handle_close(fs, handle_of(fi));
	fuse_reply_err(req, 0);
	echo_settle(fs);
}

/* Room is not reserved; only the size is seen to. */
void fs_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		  struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct handle *handle = handle_of(fi);
	struct node *node = handle->node;
	int err = 0;

	if (mode & ~FALLOC_FL_KEEP_SIZE)
		err = -EOPNOTSUPP;
	else if (off > fs->config->max_file_size || len > fs->config->max_file_size - off)
		err = -EFBIG;
	else if (!handle->echo && !mode && (size_t)(off + len) > node->content->len)
		err = file_resize(fs, node, handle, (size_t)(off + len));
	fuse_reply_err(req, -err);
}
