// SPDX-License-Identifier: Apache-2.0
/* The calls themselves: see shim.h. The system is called directly, never through libc. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "include/bug.h"
#include "tests/fault/shim.h"

#define FDS_MAX 1024
#define FILES_MAX 4096

/* What a descriptor of ours is of: a file by number, or a directory by name. */
struct watched {
	uint32_t file;
	char *dir;
};

static struct {
	char root[PATH_MAX];
	size_t root_len;		/* 0: not begun */
	struct shim_fault fault;
	long calls, failed;
	char which[PATH_MAX + 64];
	int trace;			/* -1: none */
	struct watched fds[FDS_MAX];
	ino_t inodes[FILES_MAX];	/* of the files in order of their numbers, from 1 on */
	uint32_t n_files;
	pthread_mutex_t lock;
} shim = { .trace = -1, .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- the trace ------------------------------------------------------------ */

int trace_add(int fd, const struct trace_head *head, const void *name, const void *data)
{
	size_t size = trace_size(head);
	uint64_t padding = 0;
	const struct iovec parts[] = {
		{ (void *)(uintptr_t)head, sizeof(*head) },
		{ (void *)(uintptr_t)name, head->name_len },
		{ (void *)(uintptr_t)data, head->data_len },
		{ &padding, size - sizeof(*head) - head->name_len - head->data_len },
	};
	ssize_t n = syscall(SYS_writev, fd, parts, ARRAY_SIZE(parts));

	if (n < 0)
		return -errno;
	return (size_t)n == size ? 0 : -EIO;
}

static void record(struct trace_head head, const char *name, const void *data)
{
	int kept = errno;

	if (shim.trace < 0)
		return;
	head.magic = TRACE_MAGIC;
	head.name_len = name ? (uint32_t)strlen(name) : 0;
	BUG_ON(trace_add(shim.trace, &head, name, data));
	errno = kept;
}

void trace_mark(int fd, const void *data, size_t len)
{
	const struct trace_head head = {
		.magic = TRACE_MAGIC, .type = TRACE_MARK, .data_len = len,
	};

	BUG_ON(trace_add(fd, &head, NULL, data));
}

/* --- which calls are ours ------------------------------------------------- */

/* The name below the root, in @out, or false. */
static bool below_root(int dirfd, const char *path, char out[PATH_MAX])
{
	const char *rest = path + shim.root_len;
	int n;

	if (!shim.root_len)
		return false;
	if (path[0] != '/') {
		const char *dir = dirfd >= 0 && dirfd < FDS_MAX ? shim.fds[dirfd].dir : NULL;

		if (!dir)
			return false;
		n = strcmp(path, ".") ? snprintf(out, PATH_MAX, "%s%s%s", dir, *dir ? "/" : "",
						 path) :
					snprintf(out, PATH_MAX, "%s", dir);
		return n > 0 || !*dir;
	}
	if (strncmp(path, shim.root, shim.root_len) || (*rest && *rest != '/'))
		return false;
	rest += *rest == '/';
	n = snprintf(out, PATH_MAX, "%s", rest);
	while (n > 0 && out[n - 1] == '/')
		out[--n] = '\0';
	return true;
}

static struct watched *watched(int fd)
{
	struct watched *w = fd >= 0 && fd < FDS_MAX ? &shim.fds[fd] : NULL;

	return shim.root_len && w && (w->file || w->dir) ? w : NULL;
}

/* The number of the file behind @fd; 0 where it has none yet. */
static uint32_t file_number(int fd)
{
	struct stat st;

	if (syscall(SYS_fstat, fd, &st))
		return 0;
	for (uint32_t i = shim.n_files; i; i--)
		if (shim.inodes[i - 1] == st.st_ino)
			return i;
	return 0;
}

static uint32_t file_add(int fd)
{
	struct stat st;

	BUG_ON(shim.n_files == FILES_MAX || syscall(SYS_fstat, fd, &st));
	shim.inodes[shim.n_files++] = st.st_ino;
	return shim.n_files;
}

static void watch(int fd, const char *name, bool fresh)
{
	struct watched *w;
	struct stat st;

	if (fd < 0)
		return;
	BUG_ON(fd >= FDS_MAX || syscall(SYS_fstat, fd, &st));
	w = &shim.fds[fd];
	free(w->dir);
	*w = (struct watched){ 0 };
	if (S_ISDIR(st.st_mode)) {
		w->dir = strdup(name);
		return;
	}
	w->file = fresh ? file_add(fd) : file_number(fd);
	if (!w->file)
		w->file = file_add(fd);
	if (fresh)
		record((struct trace_head){ .type = TRACE_CREATE, .file = w->file }, name, NULL);
}

/* --- faults --------------------------------------------------------------- */

/* Counts a call. True where it is to fail; it may also not return. */
static bool strikes(unsigned int class, const char *call, const char *name)
{
	const struct shim_fault *f = &shim.fault;
	bool hit;

	pthread_mutex_lock(&shim.lock);
	if (f->classes & class)
		shim.calls++;
	hit = f->at && f->classes & class &&
	      (f->sticky ? shim.calls >= f->at : shim.calls == f->at);
	if (hit && f->what == SHIM_EXIT)
		_exit(SHIM_EXIT_STATUS);
	if (hit && !shim.failed++)
		snprintf(shim.which, sizeof(shim.which), "%s, call %ld, of %s", call, shim.calls,
			 name ? name : "a file");
	pthread_mutex_unlock(&shim.lock);
	if (hit)
		errno = f->error;
	return hit;
}

static bool fails(unsigned int class, const char *call, const char *name)
{
	return strikes(class, call, name) && shim.fault.what == SHIM_FAIL;
}

void shim_begin(const char *root, const struct shim_fault *fault)
{
	shim_end();
	snprintf(shim.root, sizeof(shim.root), "%s", root);
	shim.fault = fault ? *fault : (struct shim_fault){ 0 };
	shim.calls = shim.failed = 0;
	shim.which[0] = '\0';
	shim.n_files = 0;
	shim.root_len = strlen(root);
}

void shim_trace(int fd)
{
	shim.trace = fd;
}

void shim_end(void)
{
	shim.root_len = 0;
	shim.trace = -1;
	for (size_t i = 0; i < FDS_MAX; i++) {
		free(shim.fds[i].dir);
		shim.fds[i] = (struct watched){ 0 };
	}
}

long shim_calls(void)
{
	return shim.calls;
}

long shim_failed(void)
{
	return shim.failed;
}

const char *shim_which(void)
{
	return shim.which;
}

/* In a program that has this loaded, the environment says what to do. */
__attribute__((constructor)) static void shim_from_environment(void)
{
	const char *root = getenv("SHIM_ROOT"), *trace = getenv("SHIM_TRACE");
	int fd;

	if (!root || !trace)
		return;
	fd = (int)syscall(SYS_openat, AT_FDCWD, trace, O_WRONLY | O_APPEND | O_CLOEXEC, 0);
	BUG_ON(fd < 0);
	shim_begin(root, NULL);
	shim_trace(fd);
}

/* --- opening -------------------------------------------------------------- */

static int do_open(int dirfd, const char *path, int flags, mode_t mode)
{
	char name[PATH_MAX];
	struct stat st;
	bool fresh;
	int fd;

	if (!below_root(dirfd, path, name))
		return (int)syscall(SYS_openat, dirfd, path, flags, mode);
	if (fails(SHIM_OPEN, "open", name))
		return -1;
	fresh = flags & O_CREAT && syscall(SYS_newfstatat, dirfd, path, &st, 0);
	fd = (int)syscall(SYS_openat, dirfd, path, flags, mode);
	pthread_mutex_lock(&shim.lock);
	watch(fd, name, fresh);
	pthread_mutex_unlock(&shim.lock);
	if (fd >= 0 && flags & O_TRUNC && !fresh)
		record((struct trace_head){ .type = TRACE_TRUNCATE, .file = shim.fds[fd].file },
		       NULL, NULL);
	return fd;
}

static mode_t mode_of(int flags, va_list args)
{
	return flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
}

#define EXPORT __attribute__((visibility("default"), used))

EXPORT int open(const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = mode_of(flags, args);
	va_end(args);
	return do_open(AT_FDCWD, path, flags, mode);
}

EXPORT int openat(int dirfd, const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = mode_of(flags, args);
	va_end(args);
	return do_open(dirfd, path, flags, mode);
}

/* What becomes of open() where the flags are not known to the compiler. */
EXPORT int __open_2(const char *path, int flags);
EXPORT int __openat_2(int dirfd, const char *path, int flags);

int __open_2(const char *path, int flags)
{
	return do_open(AT_FDCWD, path, flags, 0);
}

int __openat_2(int dirfd, const char *path, int flags)
{
	return do_open(dirfd, path, flags, 0);
}

static void unwatch(int fd)
{
	struct watched *w = watched(fd);

	if (w) {
		free(w->dir);
		*w = (struct watched){ 0 };
	}
}

EXPORT int close(int fd)
{
	unwatch(fd);
	return (int)syscall(SYS_close, fd);
}

/* Closes without close(). */
EXPORT int closedir(DIR *dir)
{
	static int (*next)(DIR *dir);

	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "closedir");
	unwatch(dirfd(dir));
	return next(dir);
}

EXPORT int mkdir(const char *path, mode_t mode)
{
	char name[PATH_MAX];
	bool ours = below_root(AT_FDCWD, path, name);
	int r;

	if (ours && fails(SHIM_OPEN, "mkdir", name))
		return -1;
	r = (int)syscall(SYS_mkdir, path, mode);
	if (!r && ours)
		record((struct trace_head){ .type = TRACE_MKDIR }, name, NULL);
	return r;
}

/* --- reading and writing -------------------------------------------------- */

EXPORT ssize_t read(int fd, void *buf, size_t n)
{
	if (watched(fd) && fails(SHIM_READ, "read", NULL))
		return -1;
	return syscall(SYS_read, fd, buf, n);
}

EXPORT ssize_t pread(int fd, void *buf, size_t n, off_t at)
{
	if (watched(fd) && fails(SHIM_READ, "pread", NULL))
		return -1;
	return syscall(SYS_pread64, fd, buf, n, at);
}

/* A write; false where it fails. *@n may become less. */
static bool may_write(const char *call, size_t *n)
{
	if (!strikes(SHIM_WRITE, call, NULL))
		return true;
	if (shim.fault.what == SHIM_FAIL)
		return false;
	if (*n > 1)
		*n /= 2;
	return true;
}

EXPORT ssize_t pwrite(int fd, const void *buf, size_t n, off_t at)
{
	struct watched *w = watched(fd);
	ssize_t r;

	if (w && !may_write("pwrite", &n))
		return -1;
	r = syscall(SYS_pwrite64, fd, buf, n, at);
	if (w && r > 0)
		record((struct trace_head){ .type = TRACE_WRITE, .file = w->file,
					    .offset = (uint64_t)at, .data_len = (uint64_t)r },
		       NULL, buf);
	return r;
}

EXPORT ssize_t write(int fd, const void *buf, size_t n)
{
	struct watched *w = watched(fd);
	off_t at = w ? syscall(SYS_lseek, fd, 0, SEEK_CUR) : 0;
	ssize_t r;

	if (w && !may_write("write", &n))
		return -1;
	r = syscall(SYS_write, fd, buf, n);
	if (w && r > 0)
		record((struct trace_head){ .type = TRACE_WRITE, .file = w->file,
					    .offset = (uint64_t)at, .data_len = (uint64_t)r },
		       NULL, buf);
	return r;
}

EXPORT int fallocate(int fd, int mode, off_t at, off_t len)
{
	struct watched *w = watched(fd);
	int r;

	if (w && fails(SHIM_WRITE, "fallocate", NULL))
		return -1;
	r = (int)syscall(SYS_fallocate, fd, mode, at, len);
	if (w && !r && !mode)
		record((struct trace_head){ .type = TRACE_TRUNCATE, .file = w->file,
					    .offset = (uint64_t)(at + len) }, NULL, NULL);
	return r;
}

EXPORT int ftruncate(int fd, off_t len)
{
	struct watched *w = watched(fd);
	int r;

	if (w && fails(SHIM_TRUNCATE, "ftruncate", NULL))
		return -1;
	r = (int)syscall(SYS_ftruncate, fd, len);
	if (w && !r)
		record((struct trace_head){ .type = TRACE_TRUNCATE, .file = w->file,
					    .offset = (uint64_t)len }, NULL, NULL);
	return r;
}

static int do_sync(long number, int fd)
{
	struct watched *w = watched(fd);
	int r;

	if (w && fails(SHIM_SYNC, "sync", w->dir))
		return -1;
	/* what is traced needs no disk: the trace is the disk */
	r = w && shim.trace >= 0 ? 0 : (int)syscall(number, fd);
	if (w && !r)
		record((struct trace_head){ .type = w->dir ? TRACE_SYNC_DIR : TRACE_SYNC,
					    .file = w->file }, w->dir, NULL);
	return r;
}

EXPORT int fsync(int fd)
{
	return do_sync(SYS_fsync, fd);
}

EXPORT int fdatasync(int fd)
{
	return do_sync(SYS_fdatasync, fd);
}

/* Makes nothing durable, but tells of errors, once. */
EXPORT int sync_file_range(int fd, off_t at, off_t len, unsigned int flags)
{
	const struct watched *w = watched(fd);

	if (w && fails(SHIM_SYNC, "sync_file_range", NULL))
		return -1;
	return w && shim.trace >= 0 ? 0 :
	       (int)syscall(SYS_sync_file_range, fd, at, len, flags);
}

/* --- names ---------------------------------------------------------------- */

EXPORT int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	char a[PATH_MAX], b[PATH_MAX];
	bool ours = below_root(from_fd, from, a) && below_root(to_fd, to, b);
	int r;

	if (ours && fails(SHIM_RENAME, "rename", a))
		return -1;
	r = (int)syscall(SYS_renameat, from_fd, from, to_fd, to);
	if (!r && ours)
		record((struct trace_head){ .type = TRACE_RENAME, .data_len = strlen(a) }, b, a);
	return r;
}

EXPORT int rename(const char *from, const char *to)
{
	return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

EXPORT int unlinkat(int dirfd, const char *path, int flags)
{
	char name[PATH_MAX];
	bool ours = below_root(dirfd, path, name);
	int r;

	if (ours && fails(SHIM_UNLINK, "unlink", name))
		return -1;
	r = (int)syscall(SYS_unlinkat, dirfd, path, flags);
	if (!r && ours)
		record((struct trace_head){ .type = TRACE_UNLINK }, name, NULL);
	return r;
}

EXPORT int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

EXPORT int rmdir(const char *path)
{
	return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}
