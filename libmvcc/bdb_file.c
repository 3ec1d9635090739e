// SPDX-License-Identifier: Apache-2.0
/* What Berkeley DB calls instead of the system: see bdb_file.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "include/bug.h"
#include "include/list.h"
#include "libmvcc/bdb_file.h"

/* A directory whose files are guarded. */
struct guard {
	struct list node;
	struct pages *pages;
	size_t len;
	char path[];
};

/* An open file that is. */
struct guarded {
	struct pages *pages;
	uint64_t position;
	char name[PAGE_NAME_MAX];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list guards = LIST_INIT(guards);
static struct guarded **files;	/* by descriptor; NULL: not guarded */
static size_t n_files;
static atomic_bool memory_short;
static atomic_int disk_full;

/* -1; errno says why. */
static int failed(void)
{
	if (errno == ENOSPC || errno == EDQUOT)
		atomic_store(&disk_full, errno);
	return -1;
}

/* 0, or as the system has it: -1 and errno. */
static int result(int r)
{
	if (!r)
		return 0;
	if (r == -ENOMEM)
		atomic_store(&memory_short, true);
	errno = -r;
	return failed();
}

int disk_was_full(void)
{
	return -atomic_load(&disk_full);
}

/* Berkeley DB takes what these hooks give for the error itself, or looks at errno. */
static int hook_result(int r)
{
	return r ? errno : 0;
}

/* --- memory --------------------------------------------------------------- */

bool memory_was_short(void)
{
	return atomic_load(&memory_short);
}

static void *noted(void *p)
{
	if (p)
		return p;
	atomic_store(&memory_short, true);
	errno = ENOMEM;
	return NULL;
}

void *memory_new(size_t size)
{
	return noted(malloc(size));
}

void *memory_resize(void *p, size_t size)
{
	return noted(realloc(p, size));
}

/*
 * Who was denied memory may believe anything of the files: in recovery a record that
 * cannot be read, for want of room for it, is the end of the log to Berkeley DB, which
 * then cuts the log off there. So nothing is written, cut or removed after that; the
 * error is final anyway.
 */
static bool denied(void)
{
	if (memory_was_short())
		errno = ENOMEM;
	return memory_was_short();
}

/* --- which files ---------------------------------------------------------- */

/* Without slashes at the end. */
static size_t path_len(const char *path, size_t len)
{
	while (len && path[len - 1] == '/')
		len--;
	return len;
}

int files_guard(const char *path, struct pages *pages)
{
	size_t len = path_len(path, strlen(path));
	struct guard *g = calloc(1, sizeof(*g) + len + 1);

	if (!g)
		return -ENOMEM;
	memcpy(g->path, path, len);
	g->len = len;
	g->pages = pages;
	pthread_mutex_lock(&lock);
	list_add_tail(&guards, &g->node);
	pthread_mutex_unlock(&lock);
	return 0;
}

/* The lock is held. */
static void forget_file(size_t fd)
{
	free(files[fd]);
	files[fd] = NULL;
}

void files_unguard(struct pages *pages)
{
	struct guard *g, *next;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < n_files; i++)
		if (files[i] && files[i]->pages == pages)
			forget_file(i);
	list_for_each_safe(g, next, &guards, node) {
		if (g->pages != pages)
			continue;
		list_del(&g->node);
		free(g);
	}
	if (list_empty(&guards)) {
		free(files);
		files = NULL;
		n_files = 0;
	}
	pthread_mutex_unlock(&lock);
}

/* The guard of a file by this path, and its name in *@name; NULL: it has none. */
static struct guard *guard_of(const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	struct guard *g, *found = NULL;
	size_t len;

	if (!slash || !strncmp(slash + 1, "log.", 4))
		return NULL;
	len = path_len(path, (size_t)(slash - path));
	pthread_mutex_lock(&lock);
	list_for_each(g, &guards, node)
		if (g->len == len && !memcmp(g->path, path, len))
			found = g;
	pthread_mutex_unlock(&lock);
	*name = slash + 1;
	return found;
}

static struct guarded *guarded(int fd)
{
	struct guarded *found;

	pthread_mutex_lock(&lock);
	found = (size_t)fd < n_files ? files[fd] : NULL;
	pthread_mutex_unlock(&lock);
	return found;
}

/* The lock is held. */
static int files_grow(size_t fd)
{
	size_t n = MAX(2 * n_files, fd + 1);
	struct guarded **grown;

	if (fd < n_files)
		return 0;
	grown = realloc(files, n * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	memset(grown + n_files, 0, (n - n_files) * sizeof(*grown));
	files = grown;
	n_files = n;
	return 0;
}

static int guarded_add(const struct guard *g, const char *name, int fd)
{
	struct guarded *f;
	int r;

	if (strlen(name) >= PAGE_NAME_MAX)
		return -ENAMETOOLONG;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	memcpy(f->name, name, strlen(name));
	f->pages = g->pages;
	pthread_mutex_lock(&lock);
	r = files_grow((size_t)fd);
	if (!r)
		files[fd] = f;
	pthread_mutex_unlock(&lock);
	if (r)
		free(f);
	return r;
}

static void guarded_remove(int fd)
{
	pthread_mutex_lock(&lock);
	forget_file((size_t)fd);
	pthread_mutex_unlock(&lock);
}

/* --- names ---------------------------------------------------------------- */

/* Makes the entries of the directory that @path is in durable. */
static int sync_directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	char dir[PATH_MAX];
	int fd, r;

	if (len >= sizeof(dir))
		return result(-ENAMETOOLONG);
	memcpy(dir, path, len);
	dir[len] = '\0';
	fd = open(slash == path ? "/" : len ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	r = durable_sync(fd);
	close(fd);
	return result(r);
}

/*
 * Where Berkeley DB's recovery removes a file, it keeps pages of it in its cache, and
 * when it has use for their room, syncs the file first, which it opens by name; that it
 * is gone is then the error of whatever wanted the room. It gets an empty file without
 * a name. Whether a file is there it asks in another way.
 */
static int open_removed(const struct guard *g, int flags)
{
	int fd = open(g->path, (flags & O_ACCMODE) | O_TMPFILE | O_CLOEXEC, 0600);

	if (fd < 0)
		errno = ENOENT;		/* not every file system has such files */
	return fd;
}

int file_open(const char *path, int flags, ...)
{
	const struct guard *g;
	mode_t mode = 0;
	const char *name;
	va_list args;
	int fd;

	va_start(args, flags);
	if (flags & O_CREAT)
		mode = va_arg(args, mode_t);
	va_end(args);
	g = guard_of(path, &name);
	/* its content may be read in other ways than by the page */
	if (g && result(pages_flush(g->pages)))
		return -1;
	fd = open(path, flags | O_CLOEXEC, mode);
	if (fd < 0 && errno == ENOENT && g && (flags & O_ACCMODE) == O_RDWR)
		return open_removed(g, flags);
	if (fd < 0)
		return failed();
	if ((flags & O_CREAT && sync_directory_of(path)) ||
	    (g && result(guarded_add(g, name, fd)))) {
		close(fd);
		return -1;
	}
	return fd;
}

/* A close that fails is closed again by Berkeley DB, which crashes then. What fails here
 * fails in all that comes later. */
int file_close(int fd)
{
	struct guarded *f = guarded(fd);

	if (f) {
		if (pages_wait_for(f->pages, fd))
			pages_sync(f->pages, fd);
		guarded_remove(fd);
	}
	return close(fd);
}

/* The pages of a file are on their way to it by its name. */
static int settle_name(const char *from)
{
	const char *name;
	const struct guard *g = guard_of(from, &name);

	return g ? pages_settle(g->pages) : 0;
}

static void rename_guarded(const char *from, const char *to)
{
	const char *old, *new;
	const struct guard *g = guard_of(from, &old);

	if (!g || guard_of(to, &new) != g)
		return;
	BUG_ON(strlen(new) >= PAGE_NAME_MAX);
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < n_files; i++)
		if (files[i] && files[i]->pages == g->pages && !strcmp(files[i]->name, old))
			memcpy(files[i]->name, new, strlen(new) + 1);
	pthread_mutex_unlock(&lock);
}

int file_rename(const char *from, const char *to)
{
	int r = settle_name(from);

	if (r)
		return hook_result(result(r));
	if (denied() || rename(from, to))
		return hook_result(-1);
	rename_guarded(from, to);
	return hook_result(sync_directory_of(to));
}

/* What is on its way must not come to another file of that name. */
int file_unlink(const char *path)
{
	int r = settle_name(path);

	if (r)
		return hook_result(result(r));
	return hook_result(denied() ? -1 : unlink(path));
}

/* --- reading and writing -------------------------------------------------- */

ssize_t file_pread(int fd, void *buf, size_t n, off_t at)
{
	struct guarded *f = guarded(fd);
	const void *page = NULL;
	ssize_t r;

	if (f)
		page = pages_find(f->pages, &(struct page_place){
			.fd = fd, .name = f->name, .offset = (uint64_t)at,
		}, n);
	if (page) {
		memcpy(buf, page, n);
		return (ssize_t)n;
	}
	r = pread(fd, buf, n, at);
	if (f && r == (ssize_t)n)
		pages_check(f->pages, buf, n, (uint64_t)at);
	return r;
}

int file_seek(int fd, off_t at, int whence)
{
	struct guarded *f = guarded(fd);
	off_t now = lseek(fd, at, whence);

	if (now < 0)
		return hook_result(-1);
	if (f)
		f->position = (uint64_t)now;
	return 0;
}

/* Berkeley DB takes a short write for an error, so that all is written here. */
static ssize_t write_all(int fd, const uint8_t *data, size_t n)
{
	for (size_t left = n; left; ) {
		ssize_t r = write(fd, data, left);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return failed();
		data += r;
		left -= (size_t)r;
	}
	return (ssize_t)n;
}

ssize_t file_write(int fd, const void *buf, size_t n)
{
	struct guarded *f = guarded(fd);
	int r;

	if (denied())
		return -1;
	if (!f)
		return write_all(fd, buf, n);
	r = pages_add(f->pages, &(struct page_place){
		.fd = fd, .name = f->name, .offset = f->position,
	}, buf, n);
	if (r)
		return result(r);
	f->position += n;
	return (ssize_t)n;
}

int file_sync(int fd)
{
	struct guarded *f = guarded(fd);

	return hook_result(result(f ? pages_sync(f->pages, fd) : durable_sync(fd)));
}

int file_truncate(int fd, off_t len)
{
	struct guarded *f = guarded(fd);

	if (denied() || (f && result(pages_settle(f->pages))))
		return hook_result(-1);
	return hook_result(ftruncate(fd, len) ? failed() : 0);
}
