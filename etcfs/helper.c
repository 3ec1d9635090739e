// SPDX-License-Identifier: Apache-2.0
#include "etcfs/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * The directory of the job, reached from the helpers' own view of the mount: nothing
 * that was mounted over a part of ours, and no symbolic link, leads elsewhere.
 */
static int open_dir(const struct helper *helper, const struct job *job)
{
	struct open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV | RESOLVE_BENEATH,
	};
	const char *path = *job->path ? job->path : ".";
	int fd = (int)syscall(SYS_openat2, helper->root, path, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

static int touch(int dir, const char *name)
{
	const struct timespec now[2] = {
		{ .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_NOW },
	};

	return utimensat(dir, name, now, AT_SYMLINK_NOFOLLOW) ? -errno : 0;
}

/* Open, modify and close as a program does that saves a file, without moving a byte. */
static int save(int dir, const char *name, int flags, mode_t mode)
{
	int fd = openat(dir, name, flags | O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC, mode);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1))
		err = -errno;
	close(fd);
	return err;
}

static int create(int dir, const struct job *job)
{
	switch (job->mode & S_IFMT) {
	case S_IFREG:
		return save(dir, job->name, O_CREAT | O_EXCL, job->mode & 07777);
	case S_IFDIR:
		return mkdirat(dir, job->name, job->mode & 07777) ? -errno : 0;
	case S_IFLNK:
		return symlinkat(job->target, dir, job->name) ? -errno : 0;
	default:
		return mknodat(dir, job->name, job->mode, job->rdev) ? -errno : 0;
	}
}

static int modify(int dir, const struct job *job)
{
	int err = -ENOTSUP;

	if (S_ISREG(job->mode))
		err = save(dir, job->name, 0, 0);
	/* a running program cannot be opened for writing, say */
	return err ? touch(dir, job->name) : 0;
}

/* Has the kernel ask for the attributes again; with them go pages that are mapped. */
static void renew(int dir, const char *name)
{
	struct statx st;

	statx(dir, name, AT_STATX_FORCE_SYNC | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &st);
}

static int echo(struct helper *helper, const struct job *job)
{
	int dir = open_dir(helper, job), err = 0;

	if (dir < 0)
		return dir;
	if (job->kind == JOB_CREATE) {
		err = create(dir, job);
	} else if (job->kind == JOB_REMOVE) {
		if (unlinkat(dir, job->name, S_ISDIR(job->mode) ? AT_REMOVEDIR : 0))
			err = -errno;
	} else {
		renew(dir, job->name);
		err = job->kind == JOB_MODIFY ? modify(dir, job) : touch(dir, job->name);
	}
	close(dir);
	return err;
}

static int notify(const struct helper *helper, const struct job *job)
{
	struct fuse_session *session = helper->fs->mount.session;

	if (job->kind == JOB_RENEW) {
		fuse_lowlevel_notify_inval_inode(session, job->ino, 0, 0);
		return 0;
	}
	fuse_lowlevel_notify_inval_entry(session, job->dir_ino, job->name, strlen(job->name));
	fuse_lowlevel_notify_inval_inode(session, job->dir_ino, -1, 0);
	return 0;
}

/*
 * A table of files of its own, with nothing in it but what it needs. Should the
 * daemon be killed while the helper waits for an answer, nobody holds the connection
 * to the kernel open any more: it is aborted, and the helper comes back and ends.
 */
static void leave_files(struct helper *helper)
{
	unsigned keep = (unsigned)helper->fs->echo.event;

	syscall(SYS_close_range, keep + 1, ~0u, CLOSE_RANGE_UNSHARE);
	if (keep)
		syscall(SYS_close_range, 0, keep - 1, 0);
}

/* A view of the mount that is not in the way of unmounting it; where that is not
 * permitted a directory of it, which is. */
static void open_root(struct helper *helper)
{
	const char *path = helper->fs->mount.path;

	helper->root = (int)syscall(SYS_open_tree, AT_FDCWD, path,
				    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (helper->root < 0)
		helper->root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static void finished(struct helper *helper)
{
	const uint64_t one = 1;
	ssize_t n = write(helper->fs->echo.event, &one, sizeof(one));

	BUG_ON(n != sizeof(one));
}

static void *run(void *arg)
{
	struct helper *helper = arg;
	struct job *job;
	int result;

	atomic_store(&helper->tid, (pid_t)syscall(SYS_gettid));
	if (!helper->notifier) {
		leave_files(helper);
		open_root(helper);
	}
	pthread_mutex_lock(&helper->lock);
	for (;;) {
		while (!helper->stop && (!helper->job || helper->done))
			pthread_cond_wait(&helper->wake, &helper->lock);
		if (helper->stop)
			break;
		job = helper->job;
		pthread_mutex_unlock(&helper->lock);
		result = helper->notifier ? notify(helper, job) : echo(helper, job);
		pthread_mutex_lock(&helper->lock);
		job->result = result;
		helper->done = true;
		finished(helper);
	}
	pthread_mutex_unlock(&helper->lock);
	if (!helper->notifier)
		close(helper->root);
	return NULL;
}

struct helper *helper_new(struct fs *fs, bool notifier)
{
	struct helper *helper = calloc(1, sizeof(*helper));
	sigset_t all, old;
	int err;

	if (!helper)
		return NULL;
	helper->fs = fs;
	helper->notifier = notifier;
	pthread_mutex_init(&helper->lock, NULL);
	pthread_cond_init(&helper->wake, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&helper->thread, NULL, run, helper);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err) {
		free(helper);
		return NULL;
	}
	return helper;
}

void helper_give(struct helper *helper, struct job *job)
{
	pthread_mutex_lock(&helper->lock);
	BUG_ON(helper->job);
	helper->job = job;
	helper->done = false;
	pthread_cond_signal(&helper->wake);
	pthread_mutex_unlock(&helper->lock);
}

struct job *helper_collect(struct helper *helper)
{
	struct job *job = NULL;

	pthread_mutex_lock(&helper->lock);
	if (helper->done) {
		job = helper->job;
		helper->job = NULL;
		helper->done = false;
	}
	pthread_mutex_unlock(&helper->lock);
	return job;
}

void helper_free(struct helper *helper)
{
	pthread_mutex_lock(&helper->lock);
	helper->stop = true;
	pthread_cond_signal(&helper->wake);
	pthread_mutex_unlock(&helper->lock);
	pthread_join(helper->thread, NULL);
	pthread_mutex_destroy(&helper->lock);
	pthread_cond_destroy(&helper->wake);
	free(helper);
}
