// SPDX-License-Identifier: Apache-2.0
/*
 * The mount: libfuse's session on the libuv loop, its beginning and its end.
 *
 * The helpers' view of the mount (helper.c) keeps the superblock alive, so the kernel
 * does not tell us when somebody unmounts it: /proc/self/mountinfo is polled for that.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <unistd.h>

#include "etcfs/etcfs_i.h"
#include "lib/log.h"

/* In flags2 of FUSE_INIT since Linux 6.6, not known to libfuse 3.14: MAP_SHARED of
 * files that are read and written directly. */
#define INIT2_DIRECT_IO_ALLOW_MMAP (1u << 4)
/* Requests answered before the loop looks at anything else. */
#define REQUESTS_PER_TURN 64

static const struct fuse_lowlevel_ops operations = {
	.init = fs_init, .lookup = fs_lookup, .forget = fs_forget,
	.forget_multi = fs_forget_multi, .getattr = fs_getattr, .setattr = fs_setattr,
	.readlink = fs_readlink, .mknod = fs_mknod, .mkdir = fs_mkdir, .unlink = fs_unlink,
	.rmdir = fs_rmdir, .symlink = fs_symlink, .rename = fs_rename, .link = fs_link,
	.open = fs_open, .read = fs_read, .write = fs_write, .flush = fs_flush,
	.release = fs_release, .fsync = fs_fsync, .opendir = fs_opendir,
	.readdir = fs_readdir, .readdirplus = fs_readdirplus, .releasedir = fs_releasedir,
	.fsyncdir = fs_fsyncdir, .statfs = fs_statfs, .getxattr = fs_getxattr,
	.listxattr = fs_listxattr, .setxattr = fs_setxattr, .removexattr = fs_removexattr,
	.create = fs_create, .fallocate = fs_fallocate,
};

/* --- the session ---------------------------------------------------------------------- */

void fs_init(void *user, struct fuse_conn_info *conn)
{
	struct fs *fs = user;

	conn->want &= ~(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn->want |= conn->capable & (FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_PARALLEL_DIROPS);
	conn->time_gran = 1;
	fs->mount.mounted = true;
	printf("%s: the keys below \"%s\" of %s are mounted\n", fs->mount.path, fs->prefix,
	       client_endpoint(fs->client));
	fflush(stdout);
}

/* Remembers the request that begins the session, and what the kernel offers in it. */
static ssize_t session_read(int fd, void *buf, size_t size, void *user)
{
	struct fs *fs = user;
	const struct fuse_in_header *in = buf;
	const struct fuse_init_in *init = (const void *)(in + 1);
	ssize_t n = read(fd, buf, size);

	if (n < (ssize_t)sizeof(*in) || in->opcode != FUSE_INIT)
		return n;
	fs->mount.init_unique = in->unique;
	fs->mount.init_flags = init->flags;
	if (init->flags & FUSE_INIT_EXT && (size_t)n >= sizeof(*in) + sizeof(*init))
		fs->mount.init_flags |= (uint64_t)init->flags2 << 32;
	return n;
}

/* libfuse 3.14 leaves out two flags of its answer that we want. */
static ssize_t session_writev(int fd, struct iovec *iov, int count, void *user)
{
	struct fs *fs = user;
	struct mount *mount = &fs->mount;
	struct fuse_out_header *out = iov[0].iov_base;

	if (mount->init_unique && out->unique == mount->init_unique && count == 2 &&
	    iov[1].iov_len == sizeof(struct fuse_init_out)) {
		struct fuse_init_out *init = iov[1].iov_base;
		uint64_t mmap = (uint64_t)INIT2_DIRECT_IO_ALLOW_MMAP << 32;

		init->flags |= (uint32_t)mount->init_flags & FUSE_PARALLEL_DIROPS;
		if (mount->init_flags & mmap) {
			init->flags |= FUSE_INIT_EXT;
			init->flags2 |= INIT2_DIRECT_IO_ALLOW_MMAP;
		}
		mount->init_unique = 0;
	}
	return writev(fd, iov, count);
}

static void on_requests(uv_poll_t *poll, int status, int events)
{
	struct fs *fs = poll->data;
	struct mount *mount = &fs->mount;
	int n = 0;

	for (int i = 0; i < REQUESTS_PER_TURN; i++) {
		n = fuse_session_receive_buf(mount->session, &mount->buf);
		if (n <= 0)
			break;
		fuse_session_process_buf(mount->session, &mount->buf);
	}
	askers_interrupt(fs);
	if (n != -EAGAIN && n != -EINTR && n <= 0) {
		uv_poll_stop(poll);
		mount->mounted = false;
		mount->ended = true;
		mount_end(fs);
	}
}

/* --- /proc/self/mountinfo -------------------------------------------------------------- */

/* "\040" and the like. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++, to++) {
		unsigned c;

		if (s[0] == '\\' && sscanf(s + 1, "%3o", &c) == 1 && strlen(s) >= 4) {
			*to = (char)c;
			s += 3;
		} else {
			*to = *s;
		}
	}
	*to = '\0';
}

/* Calls @match for each line's mount id and path; returns how many it was true for. */
static int each_mount(struct mount *mount,
		      bool (*match)(struct mount *mount, const char *id, const char *path))
{
	char id[sizeof(mount->id)], *line = NULL, *path = malloc(PATH_MAX * 4);
	FILE *file = fopen("/proc/self/mountinfo", "re");
	size_t size = 0;
	int n = 0;

	while (file && path && getline(&line, &size, file) > 0) {
		if (strlen(line) >= PATH_MAX * 4 ||
		    sscanf(line, "%15s %*s %*s %*s %s", id, path) != 2)
			continue;
		unescape(path);
		n += match(mount, id, path);
	}
	if (file)
		fclose(file);
	free(line);
	free(path);
	return n;
}

/* The last one at a path is the one on top. */
static bool take_id(struct mount *mount, const char *id, const char *path)
{
	if (strcmp(path, mount->path))
		return false;
	snprintf(mount->id, sizeof(mount->id), "%s", id);
	return true;
}

static bool has_id(struct mount *mount, const char *id, const char *path)
{
	return !strcmp(id, mount->id);
}

/* Somebody mounted or unmounted something. Without ours, the helpers' view goes too,
 * and the session ends when the last open file is closed. */
static void on_mountinfo(uv_poll_t *poll, int status, int events)
{
	struct fs *fs = poll->data;
	struct mount *mount = &fs->mount;

	if (!mount->mounted || each_mount(mount, has_id))
		return;
	mount->mounted = false;
	uv_poll_stop(poll);
	echo_leave(fs);
}

static void watch_mountinfo(struct fs *fs)
{
	struct mount *mount = &fs->mount;

	mount->mountinfo_fd = -1;
	if (!each_mount(mount, take_id))
		return;
	mount->mountinfo_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	if (mount->mountinfo_fd < 0)
		return;
	uv_poll_init(fs->loop, &mount->mountinfo, mount->mountinfo_fd);
	mount->mountinfo.data = fs;
	uv_poll_start(&mount->mountinfo, UV_PRIORITIZED, on_mountinfo);
}

/* --- beginning -------------------------------------------------------------------------- */

static void on_signal(uv_signal_t *signal, int number)
{
	struct fs *fs = signal->data;

	mount_end(fs);
}

static void watch_signals(struct fs *fs)
{
	struct mount *mount = &fs->mount;
	const struct {
		uv_signal_t *handle;
		int number;
	} signals[] = {
		{ &mount->sigint, SIGINT }, { &mount->sigterm, SIGTERM },
		{ &mount->sighup, SIGHUP },
	};

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		uv_signal_init(fs->loop, signals[i].handle);
		signals[i].handle->data = fs;
		uv_signal_start(signals[i].handle, on_signal, signals[i].number);
	}
}

int mount_check(char *why, size_t size)
{
	if (!access("/dev/fuse", R_OK | W_OK))
		return 0;
	if (errno == ENOENT)
		snprintf(why, size, "there is no /dev/fuse: load the module (modprobe fuse); in a "
			 "container, start it with --device /dev/fuse --cap-add SYS_ADMIN");
	else
		snprintf(why, size, "/dev/fuse cannot be opened (%s): run as root, or as a user "
			 "who may use it", log_strerror(-errno));
	return -ENODEV;
}

static struct fuse_session *new_session(struct fs *fs)
{
	char options[] = "fsname=etcfs,subtype=etcfs,default_permissions,allow_other";
	char *argv[] = { (char *)"etcfs", (char *)"-o", options, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	struct fuse_session *session;

	if (!fs->config->allow_other)
		*strrchr(options, ',') = '\0';
	session = fuse_session_new(&args, &operations, sizeof(operations), fs);
	fuse_opt_free_args(&args);
	return session;
}

int mount_start(struct fs *fs, const char *mountpoint, char *why, size_t why_size)
{
	static const struct fuse_custom_io io = {
		.writev = session_writev, .read = session_read,
	};
	struct mount *mount = &fs->mount;
	int fd, err;

	mount->path = realpath(mountpoint, NULL);
	if (!mount->path) {
		err = -errno;
		snprintf(why, why_size, "%s: %s", mountpoint, log_strerror(err));
		return err;
	}
	mount->session = new_session(fs);
	if (!mount->session || fuse_session_mount(mount->session, mount->path)) {
		snprintf(why, why_size, "%s could not be mounted", mount->path);
		return -EIO;
	}
	fd = fuse_session_fd(mount->session);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	fuse_session_custom_io(mount->session, &io, fd);
	uv_poll_init(fs->loop, &mount->poll, fd);
	mount->poll.data = fs;
	uv_poll_start(&mount->poll, UV_READABLE, on_requests);
	watch_mountinfo(fs);
	watch_signals(fs);
	return 0;
}

/* --- the end ----------------------------------------------------------------------------- */

struct ending {
	struct fs *fs;
	unsigned waiting;
};

struct last_commit {
	struct asker asker;
	struct ending *ending;
};

static void unmount(struct fs *fs)
{
	struct mount *mount = &fs->mount;

	uv_close((uv_handle_t *)&mount->poll, NULL);
	if (mount->mountinfo_fd >= 0)
		uv_close((uv_handle_t *)&mount->mountinfo, NULL);
	/* closes the connection first, so that nothing waits for us any more; where it has
	 * ended already this leaves the mount alone, which is there if it was aborted */
	if (mount->mounted || mount->ended)
		fuse_session_unmount(mount->session);
	if (*mount->id && each_mount(mount, has_id))
		umount2(mount->path, MNT_DETACH);
	mount->mounted = false;
	/* only now: closing a handle gives its signal back its default, and a second one
	 * would end the process with the mount still there */
	uv_close((uv_handle_t *)&mount->sigint, NULL);
	uv_close((uv_handle_t *)&mount->sigterm, NULL);
	uv_close((uv_handle_t *)&mount->sighup, NULL);
	uv_stop(fs->loop);
}

static void ending_put(struct ending *ending)
{
	if (--ending->waiting)
		return;
	unmount(ending->fs);
	free(ending);
}

static void last_committed(struct asker *asker, int err)
{
	struct last_commit *last = container_of(asker, struct last_commit, asker);

	if (err) {
		log_error("something that was written is not in the cluster", LOG_ERR(err));
		last->ending->fs->exit_code = 1;
	}
	ending_put(last->ending);
	free(last);
}

/* What is written and not committed, as a list: a commit changes the table. */
static void commit_all(struct fs *fs, struct ending *ending)
{
	struct table *table = &fs->tree.by_ino;
	struct node **dirty = calloc(table->count, sizeof(struct node *));
	size_t n = 0;

	for (size_t i = 0; dirty && i <= table->mask; i++)
		for (struct table_link *link = table->buckets[i]; link; link = link->next) {
			struct node *node = container_of(link, struct node, by_ino);

			if (node->edit)
				dirty[n++] = node_get(node);
		}
	for (size_t i = 0; i < n; i++) {
		struct last_commit *last = calloc(1, sizeof(*last));

		if (last) {
			asker_init(&last->asker, fs, NULL);
			last->asker.fn = last_committed;
			last->ending = ending;
			ending->waiting++;
			edit_commit(fs, dirty[i], &last->asker);
		}
		node_put(&fs->tree, dirty[i]);
	}
	free(dirty);
}

void mount_end(struct fs *fs)
{
	struct ending *ending;

	if (fs->mount.ending)
		return;
	fs->mount.ending = true;
	ending = calloc(1, sizeof(*ending));
	if (!ending) {
		unmount(fs);
		return;
	}
	ending->fs = fs;
	ending->waiting = 1;
	commit_all(fs, ending);
	ending_put(ending);
}

void mount_release(struct fs *fs)
{
	struct mount *mount = &fs->mount;

	if (mount->session)
		fuse_session_destroy(mount->session);
	if (mount->mountinfo_fd >= 0)
		close(mount->mountinfo_fd);
	free(mount->buf.mem);
	free(mount->path);
}
