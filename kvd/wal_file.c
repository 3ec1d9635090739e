/* SPDX-License-Identifier: Apache-2.0 */
/* The files of the write-ahead log: names, locks, room. */
#include "kvd/wal_i.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int wal_fail(struct wal_why why, int err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(why.text, why.size, fmt, args);
	va_end(args);
	return err;
}

void wal_name(const struct wal_segment *segment, const char *suffix, char out[WAL_NAME_BYTES])
{
	int n = snprintf(out, WAL_NAME_BYTES, "%016" PRIx64 "-%016" PRIx64 "%s", segment->seq,
			 segment->index, suffix);

	BUG_ON(n < 0 || n >= WAL_NAME_BYTES);
}

/* 16 hexadecimal digits at @text. */
static bool parse_hex(const char *text, uint64_t *out)
{
	uint64_t v = 0;

	for (int i = 0; i < 16; i++) {
		const char *digits = "0123456789abcdef", *d;

		d = text[i] ? strchr(digits, text[i]) : NULL;
		if (!d)
			return false;
		v = v << 4 | (uint64_t)(d - digits);
	}
	*out = v;
	return true;
}

/* True where @name is a segment's with @suffix. */
static bool parse_name(const char *name, const char *suffix, struct wal_segment *out)
{
	return strlen(name) == 33 + strlen(suffix) && parse_hex(name, &out->seq) &&
	       name[16] == '-' && parse_hex(name + 17, &out->index) && !strcmp(name + 33, suffix);
}

static int compare_segments(const void *a, const void *b)
{
	const struct wal_segment *x = a, *y = b;

	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static int list_add(struct wal_segment **list, size_t *n, const struct wal_segment *segment)
{
	/* grows by doubling: *n is a power of two exactly when it is full */
	if (!(*n & (*n - 1))) {
		struct wal_segment *grown = realloc(*list, (*n ? 2 * *n : 1) * sizeof(**list));

		if (!grown)
			return -ENOMEM;
		*list = grown;
	}
	(*list)[(*n)++] = *segment;
	return 0;
}

static int list_entry_of(int dir_fd, const char *name, struct wal_segment **list, size_t *n)
{
	struct wal_segment segment;
	struct stat st;

	if (parse_name(name, ".wal.tmp", &segment))
		return unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
	if (!parse_name(name, ".wal", &segment))
		return 0;
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	segment.bytes = (uint64_t)st.st_size;
	return list_add(list, n, &segment);
}

int wal_list(int dir_fd, struct wal_segment **out, size_t *n_out)
{
	struct wal_segment *list = NULL;
	struct dirent *entry;
	size_t n = 0;
	int fd, r = 0;
	DIR *dir;

	fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	for (errno = 0; r == 0 && (entry = readdir(dir)); errno = 0)
		r = list_entry_of(dir_fd, entry->d_name, &list, &n);
	if (r == 0 && errno)
		r = -errno;
	closedir(dir);
	if (r < 0) {
		free(list);
		return r;
	}
	if (n)
		qsort(list, n, sizeof(*list), compare_segments);
	*out = list;
	*n_out = n;
	return 0;
}

int wal_lock(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

/* A file system that cannot reserve room still gets a file of that length. */
int wal_preallocate(int fd, uint64_t bytes)
{
	int r;

	do {
		r = fallocate(fd, 0, 0, (off_t)bytes);
	} while (r < 0 && errno == EINTR);
	if (r < 0 && errno == EOPNOTSUPP)
		r = ftruncate(fd, (off_t)bytes);
	return r < 0 ? -errno : 0;
}

int wal_segment_make(int dir_fd, const struct wal_segment *segment, const char *suffix,
		     size_t bytes)
{
	char name[WAL_NAME_BYTES];
	int fd, r;

	wal_name(segment, suffix, name);
	fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = wal_lock(fd);
	if (r == 0)
		r = wal_preallocate(fd, bytes);
	if (r < 0) {
		close(fd);
		unlinkat(dir_fd, name, 0);
		return r;
	}
	return fd;
}

int wal_write_all(int fd, const uint8_t *data, size_t len, uint64_t offset)
{
	ssize_t r;

	while (len) {
		r = pwrite(fd, data, len, (off_t)offset);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			return -EIO;
		data += r;
		len -= (size_t)r;
		offset += (uint64_t)r;
	}
	return 0;
}
