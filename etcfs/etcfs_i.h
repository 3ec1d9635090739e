/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of etcfs to each other. One loop and one thread own everything here; the
 * only other threads are the helpers of echo.c, which touch nothing but their job.
 *
 * The rules that keep it from hanging (each was seen to hang when broken):
 *   - the loop never makes a system call on its own mount, and never notifies the
 *     kernel: helpers do;
 *   - no answer to a local request waits for a helper;
 *   - metadata is answered from memory; what waits for the cluster has a deadline and
 *     can be interrupted.
 */
#ifndef ETCFS_I_H
#define ETCFS_I_H

#define FUSE_USE_VERSION 312

#include <fuse3/fuse_lowlevel.h>
#include <uv.h>

#include "etcfs/options.h"
#include "etcfs/tree.h"
#include "etcfs/txn.h"
#include "lib/client.h"

/* The kernel keeps what it was told until it is told otherwise. */
#define FOREVER 86400.0
#define MILLISECONDS(ns) ((uint64_t)(ns) / 1000000u)
/* An implied directory whose last file was removed here stays this long, so that
 * "rm -r" finds it. */
#define LINGER_MS 1000
/* The kernel tells of every signal, also of one that its program handles and forgets, an
 * alarm say; the program would take EINTR for a failure. So what takes no longer than
 * this cannot be interrupted. */
#define PATIENCE_MS 1000
/* A change from elsewhere is applied without its echo where the helpers, or the one at
 * work in its directory, have finished nothing for so long. */
#define ECHO_DEADLINE_MS 1000

struct fs;

struct sync {
	struct client_watch *watch;
	struct list events;		/* struct event: arrived, not applied */
	struct list deletes;		/* struct own_delete: of ours, not yet seen by the watch */
	int64_t revision;		/* all up to here is applied */
	int64_t loading;		/* the revision that is being loaded, 0: none known yet */
	int64_t page;			/* how many keys to ask for next */
	struct slice next_key;		/* from which key on; owned */
	void (*loaded)(struct fs *fs, int err, const char *why);
	uv_timer_t probe, reload;
	bool probing, lost;		/* lost: no quorum; writes are refused at once */
	int64_t db_size, db_quota;	/* for statfs() */
};

#define HELPERS 4		/* threads that do the echoes; more when they are stuck */
#define HELPERS_MAX 32

struct echo {
	struct list jobs;		/* struct job: waiting for a helper */
	struct list ready;		/* those of them that are the first of their directory */
	struct list notices;		/* and those for the notifier */
	struct list running;		/* struct job: a helper has it */
	struct list lingering;		/* struct node: not settled before linger_until */
	struct helper *helpers[HELPERS_MAX], *notifier;
	unsigned n_helpers;
	int event;			/* an eventfd: helpers have finished */
	uv_poll_t finished;
	uv_timer_t tick;
	uint64_t progress;		/* uv_now() when a helper finished last */
	uint64_t applied, shown, silent;	/* events; echoes done; changes without one */
};

struct mount {
	struct fuse_session *session;
	struct fuse_buf buf;
	uv_poll_t poll, mountinfo;
	uv_signal_t sigint, sigterm, sighup;
	int mountinfo_fd;
	char *path;			/* as realpath() has it */
	char id[16];			/* in mountinfo */
	uint64_t init_unique;		/* of the INIT request, until it is answered */
	uint64_t init_flags;		/* what the kernel offers */
	bool mounted, ended, ending;	/* ended: the kernel has said so */
};

struct fs {
	uv_loop_t *loop;
	const struct config *config;
	char *prefix, *lead_file, *lead_dir;	/* before keys and sidecars' keys */
	struct client *client;
	struct tree tree;
	struct sync sync;
	struct echo echo;
	struct mount mount;
	struct list askers, ops, handles, dir_handles;
	uv_timer_t patience;		/* runs while some asker is interrupted */
	bool interrupted;		/* some asker was */
	int exit_code;
};

struct fs *fs_of(fuse_req_t req);
/* Sets tree.now. */
void fs_now(struct fs *fs);

/* --- op.c: who asks, and what is asked of the cluster -------------------------------- */

/*
 * Somebody who waits: a request of the kernel, or a step of another operation (then
 * @fn). A request that was interrupted is answered EINTR and taken off once it has
 * waited for PATIENCE_MS; what it started goes on and takes effect when it is done.
 */
struct asker {
	struct list link;		/* in fs->askers */
	struct list wait;		/* in the list of what it waits for */
	struct fs *fs;
	fuse_req_t req;
	void (*fn)(struct asker *asker, int err);
	uint64_t since;			/* uv_now() when it began to wait */
	bool interrupted;
};

void asker_init(struct asker *asker, struct fs *fs, fuse_req_t req);
/* The request, which is the caller's to answer now; NULL where it was interrupted. */
fuse_req_t asker_take(struct asker *asker);
/* Answers, or calls fn, and frees an asker that was allocated. */
void asker_finish(struct asker *asker, int err);
struct asker *asker_new(struct fs *fs, fuse_req_t req);
void askers_start(struct fs *fs);
void askers_stop(struct fs *fs);
/* Looks after those that were interrupted meanwhile. */
void askers_interrupt(struct fs *fs);

struct op {
	struct list link;		/* in fs->ops */
	struct asker asker;
	struct fs *fs;
	struct txn txn;
	struct slice hold[2];		/* what happens below these waits for it, too */
	/* @err negative errno, or 0 with a response. Frees the op with op_release(). */
	void (*done)(struct op *op, int err, const Etcdserverpb__TxnResponse *response);
};

void op_init(struct op *op, struct fs *fs, fuse_req_t req);
/* Sends the transaction; a negative errno means that done is not called. */
int op_start(struct op *op,
	     void (*done)(struct op *op, int err, const Etcdserverpb__TxnResponse *response));
void op_release(struct op *op);
/* True where an event of the key has to wait for a write of ours. */
bool ops_write(struct fs *fs, struct slice key);
/* Adds to the txn: puts or deletes the sidecar of what is, or will be, at @place, as
 * @attr needs it. */
void op_add_meta(struct op *op, const struct node *place, const struct attr *attr);
void op_delete_meta(struct op *op, const struct node *place);
/* What op_add_meta() did is in the cluster since @revision. */
void op_meta_done(struct op *op, const struct node *place, const struct attr *attr,
		  int64_t revision);
/* The sidecar with this key, without the prefix, is gone since @revision. */
void op_meta_deleted(struct op *op, struct slice key, int64_t revision);

/* --- sync.c: the tree follows the cluster --------------------------------------------- */

/* Loads the prefix, then watches it; @loaded is called once the tree is whole. */
int sync_start(struct fs *fs, void (*loaded)(struct fs *fs, int err, const char *why));
void sync_stop(struct fs *fs);
/* Applies what arrived and is not held back by a write of ours. */
void sync_apply(struct fs *fs);
/* A key that we deleted; events up to @revision say nothing new about it. */
void sync_deleted(struct fs *fs, struct slice key, int64_t revision);
/* How the last write went: ends or begins the time without a quorum. */
void sync_health(struct fs *fs, int err);
/* Asks for the size of the store, for the next statfs(). */
void sync_status(struct fs *fs);

/* --- echo.c: local programs hear of it -------------------------------------------------- */

enum job_kind { JOB_CREATE, JOB_REMOVE, JOB_MODIFY, JOB_ATTRIB, JOB_FORGET, JOB_RENEW };

int echo_start(struct fs *fs);
/* Lets go of the mount, which somebody has unmounted. */
void echo_leave(struct fs *fs);
/* The connection to the kernel is closed: helpers come back, and are waited for. */
void echo_stop(struct fs *fs);
/* Makes what local programs see follow the tree: all that is on tree.unsettled. */
void echo_settle(struct fs *fs);
/* @dir, and those above it, stay for a while although nothing is left in them. */
void echo_linger(struct fs *fs, struct node *dir);
bool echo_is_helper(struct fs *fs, fuse_req_t req);
/* The node that the helper who asks is to create or remove at this place; NULL where
 * that is not wanted any more. */
struct node *echo_claim(struct fs *fs, fuse_req_t req, enum job_kind kind,
			const struct node *dir, const char *name);

/* --- inode.c, dir.c, make.c, rename.c, attr.c, xattr.c, file.c: requests ---------------- */

void fs_attr(struct fs *fs, const struct node *node, struct stat *st);
/* Answers with the node and counts the lookup. */
void reply_entry(struct fs *fs, fuse_req_t req, struct node *node);
/* 0, or why @name cannot be made in @dir. */
int name_allowed(struct fs *fs, const struct node *dir, const char *name);
/* Type, mode and owner of what the caller makes in @dir. */
struct attr attr_for(struct fs *fs, fuse_req_t req, const struct node *dir, mode_t mode);

/* A place in the tree where there may be no node yet: enough for node_key(). */
static inline struct node place_of(struct node *dir, const char *name, mode_t type)
{
	return (struct node){ .parent = dir, .name = (char *)name, .attr.mode = type };
}

void fs_init(void *user, struct fuse_conn_info *conn);
void fs_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void fs_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void fs_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_readlink(fuse_req_t req, fuse_ino_t ino);
void fs_statfs(fuse_req_t req, fuse_ino_t ino);

void fs_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		struct fuse_file_info *fi);
void fs_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi);
void fs_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
/* Those that are open when the session ends. */
void dirs_release(struct fs *fs);

void fs_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void fs_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void fs_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void fs_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void fs_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi);
void fs_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	       const char *new_name, unsigned flags);

void fs_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set,
		struct fuse_file_info *fi);
void fs_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void fs_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void fs_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		 size_t size, int flags);
void fs_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

void fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void fs_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	      struct fuse_file_info *fi);
void fs_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		  struct fuse_file_info *fi);

/* --- file.c ------------------------------------------------------------------------------- */

struct handle {
	struct list link;		/* in fs->handles */
	struct node *node;
	struct content *content;	/* what its reader reads */
	off_t next;			/* where its last read ended */
	int flags;			/* of open() */
	bool echo;			/* a helper's: nothing it does is real */
	bool flushed;			/* by flush_owner, with nothing written */
	uint64_t flush_owner;
};

/* Opens @node for the file that is being answered; NULL: no memory. */
struct handle *handle_open(struct fs *fs, struct node *node, struct fuse_file_info *fi, bool echo);
void handle_close(struct fs *fs, struct handle *handle);
/* Those that are open when the session ends. */
void handles_release(struct fs *fs);
/* Marks a new file as to be written; @whole where it may replace one made elsewhere. */
int file_created(struct fs *fs, struct node *node, bool whole);
/* Sets the size as a change that is not committed yet. */
int file_resize(struct fs *fs, struct node *node, struct handle *handle, size_t size);

/* --- edit.c: what was written here and is not in the cluster yet ------------------------ */

enum edit_change { EDIT_NONE, EDIT_APPEND, EDIT_ANY };

/* What one commit has to bring to the cluster. */
struct edit_delta {
	enum edit_change change;
	size_t append_from;	/* with EDIT_APPEND: what is from here on is new */
	bool written;		/* bytes were; else it was created or cut, or only meta */
	bool meta;		/* the sidecar too */
	bool touched;		/* by chmod() and the like, not only by creating it */
	bool whole;		/* all of it is new: replaces whatever there is */
};

struct edit {
	struct edit_delta delta;	/* since the last commit began */
	struct edit_delta taken;	/* by the commit under way */
	struct content *sent;		/* by it, where content was changed since */
	struct list waiting;		/* askers: for the commit under way */
	struct list next;		/* askers: for the one after it */
	int64_t base;			/* the mod_revision that is changed; 0: none */
	bool running;
	int error;			/* of the last commit */
};

/* The edit of the node, begun if there is none; NULL: no memory. */
struct edit *edit_begin(struct node *node);
/* Before the content is changed: @append, or anywhere. */
int edit_change(struct edit *edit, struct node *node, enum edit_change change);
bool edit_dirty(const struct node *node);
/* Brings the edit to the cluster and answers @asker (may be NULL) when it is there. */
void edit_commit(struct fs *fs, struct node *node, struct asker *asker);
/* Answers @asker when no commit is under way. */
void edit_wait(struct node *node, struct asker *asker);
/* Gives it up; the content is again what the cluster has. */
void edit_revert(struct fs *fs, struct node *node);
/* Gives it up and keeps the content: the file was unlinked. */
void edit_drop(struct fs *fs, struct node *node);

/* --- mount.c --------------------------------------------------------------------------------- */

/* Whether this machine, and this user, can mount at all. */
int mount_check(char *why, size_t why_size);
int mount_start(struct fs *fs, const char *mountpoint, char *why, size_t why_size);
/* Commits what is written and not in the cluster yet, unmounts, and stops the loop. */
void mount_end(struct fs *fs);
void mount_release(struct fs *fs);

#endif
