// SPDX-License-Identifier: Apache-2.0
/* Pages on their way to their places: see bdb_file.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/bug.h"
#include "include/endian_bytes.h"
#include "include/slice.h"
#include "libmvcc/bdb_file.h"

#define MAGIC "kvdpages"
#define HEAD_SIZE 32
#define NAME_SIZE PAGE_NAME_MAX
#define ENTRY_SIZE (NAME_SIZE + 16)
#define ALIGN 4096
#define PAGES_MAX 256
#define FILES_MAX 16		/* with pages that are not durable yet, at one time */
#define PAGE_BYTES_MAX ((size_t)64 << 10)
#define WRITE_BACK_BYTES (256 << 10)

struct page {
	int fd;
	char name[NAME_SIZE];
	uint64_t offset;
	size_t at, len;			/* in the buffer */
};

/* The buffer is the file as it will be: pages from DATA_AT on. */
#define DATA_AT ((HEAD_SIZE + PAGES_MAX * ENTRY_SIZE + ALIGN - 1) / ALIGN * ALIGN)

struct pages {
	int dir, fd;
	struct page page[PAGES_MAX];
	size_t n;
	uint8_t *buf;			/* NULL while nothing waits */
	size_t used, cap;
	int unsynced[FILES_MAX];	/* files with pages in their places, not yet durable */
	size_t n_unsynced;
	int failed;			/* the first error */
	bool recovered;
	bool met_zeroes;		/* in recovery: a page that was taken for a new one */
};

/* Only what has dirty pages is written, so that the rest of a long file costs little.
 * Where there is no such call, or none for us, the sync that follows writes it all. */
static bool write_back(int fd)
{
	const unsigned int how = SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
	struct stat st;

	if (fstat(fd, &st))
		return false;
	if (!S_ISREG(st.st_mode))
		return true;
	for (off_t at = 0; at < st.st_size; at += WRITE_BACK_BYTES)
		if (sync_file_range(fd, at, WRITE_BACK_BYTES, how))
			return errno != EIO && errno != ENOSPC && errno != EDQUOT;
	return true;
}

int durable_sync(int fd)
{
	static atomic_bool failed;

	if (!atomic_load(&failed) && write_back(fd) && !fdatasync(fd))
		return 0;
	atomic_store(&failed, true);
	return -EIO;
}

/* Not for an adversary: it tells a whole file from one that is half written. */
static uint64_t hash(const uint8_t *data, size_t len)
{
	uint64_t h[4] = { 1, 2, 3, 4 };
	size_t i = 0;

	for (; i + 32 <= len; i += 32)
		for (size_t k = 0; k < 4; k++)
			h[k] = ((h[k] << 29 | h[k] >> 35) ^ get_be64(data + i + 8 * k)) *
			       UINT64_C(0x9e3779b97f4a7c15);
	for (; i < len; i++)
		h[0] = (h[0] ^ data[i]) * UINT64_C(0x100000001b3);
	for (size_t k = 1; k < 4; k++)
		h[0] = (h[0] ^ h[k] ^ h[0] >> 31) * UINT64_C(0x9e3779b97f4a7c15);
	return h[0] ^ h[0] >> 29;
}

static int write_at(int fd, const uint8_t *data, size_t len, uint64_t at)
{
	while (len) {
		ssize_t n = pwrite(fd, data, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		data += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* --- putting them back ---------------------------------------------------- */

/* What was in the file before may be longer. */
static bool file_is_whole(const uint8_t *buf, size_t len)
{
	uint64_t used = len >= DATA_AT ? get_be64(buf + 16) : 0;

	return used >= DATA_AT && used <= len && !memcmp(buf, MAGIC, 8) &&
	       get_be64(buf + 24) <= PAGES_MAX && get_be64(buf + 8) == hash(buf + 16, used - 16);
}

/* A file that is gone was never whole. */
static int restore_page(int dir, const uint8_t *entry, const uint8_t *data, size_t len)
{
	char name[NAME_SIZE + 1] = { 0 };
	int fd, r;

	memcpy(name, entry, NAME_SIZE);
	fd = openat(dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	r = write_at(fd, data, len, get_be64(entry + NAME_SIZE));
	if (!r)
		r = durable_sync(fd);
	close(fd);
	return r;
}

static int restore(int dir, const uint8_t *buf, size_t len)
{
	uint64_t n = get_be64(buf + 24);
	size_t at = DATA_AT;
	int r = 0;

	for (uint64_t i = 0; i < n && !r; i++) {
		const uint8_t *entry = buf + HEAD_SIZE + i * ENTRY_SIZE;
		uint64_t size = get_be64(entry + NAME_SIZE + 8);

		if (size > len - at)
			return -EBADMSG;
		r = restore_page(dir, entry, buf + at, size);
		at += size;
	}
	return r;
}

/* Makes the file void, for good. */
static int pages_void(const struct pages *pages)
{
	if (ftruncate(pages->fd, 0))
		return -errno;
	return durable_sync(pages->fd);
}

static int read_file(int fd, uint8_t **out, size_t *len)
{
	struct stat st;
	uint8_t *buf;
	ssize_t n;

	if (fstat(fd, &st))
		return -errno;
	*len = MIN((size_t)st.st_size, DATA_AT + PAGES_MAX * PAGE_BYTES_MAX);
	buf = malloc(*len + 1);
	if (!buf)
		return -ENOMEM;
	n = pread(fd, buf, *len, 0);
	if (n != (ssize_t)*len) {
		free(buf);
		return n < 0 ? -errno : -EIO;
	}
	*out = buf;
	return 0;
}

int pages_open(int dir, struct pages **out)
{
	struct pages *pages = calloc(1, sizeof(*pages));
	uint8_t *buf = NULL;
	size_t len = 0;
	int r;

	if (!pages)
		return -ENOMEM;
	pages->dir = dir;
	pages->fd = openat(dir, PAGES_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	r = pages->fd < 0 ? -errno : 0;
	if (!r)
		r = read_file(pages->fd, &buf, &len);
	if (!r && len && file_is_whole(buf, len))
		r = restore(dir, buf, len);
	if (!r && len)
		r = pages_void(pages);
	if (!r)
		r = durable_sync(dir);
	free(buf);
	if (r)
		pages_close(pages);
	else
		*out = pages;
	return r;
}

void pages_close(struct pages *pages)
{
	if (!pages)
		return;
	if (pages->fd >= 0)
		close(pages->fd);
	free(pages->buf);
	free(pages);
}

bool pages_recovered(struct pages *pages)
{
	pages->recovered = true;
	return pages->met_zeroes;
}

static bool is_zeroes(const uint8_t *data, size_t len)
{
	return !data[0] && !memcmp(data, data + 1, len - 1);
}

void pages_check(struct pages *pages, uint8_t *data, size_t len, uint64_t offset)
{
	uint32_t number;		/* in the machine's own order, after 8 bytes */

	if (len != BDB_PAGE_BYTES)
		return;
	memcpy(&number, data + 8, sizeof(number));
	if (is_zeroes(data, len) && !pages->recovered)
		pages->met_zeroes = true;
	else if (is_zeroes(data, len) || number != offset / len)
		memset(data, 0xff, len);
}

/* --- on the way ----------------------------------------------------------- */

static struct page *find(const struct pages *pages, const struct page_place *place)
{
	for (size_t i = pages->n; i; i--) {
		const struct page *p = &pages->page[i - 1];

		if (p->offset == place->offset && !strcmp(p->name, place->name))
			return (struct page *)(uintptr_t)p;
	}
	return NULL;
}

const void *pages_find(const struct pages *pages, const struct page_place *place, size_t len)
{
	const struct page *p = find(pages, place);

	return p && p->len == len ? pages->buf + p->at : NULL;
}

static int reserve(struct pages *pages, size_t len)
{
	size_t want = pages->cap ? pages->cap : DATA_AT + 16 * len;
	uint8_t *buf;

	while (want < MAX(pages->used, (size_t)DATA_AT) + len)
		want *= 2;
	if (want == pages->cap)
		return 0;
	buf = realloc(pages->buf, want);
	if (!buf)
		return -ENOMEM;
	pages->buf = buf;
	pages->cap = want;
	pages->used = MAX(pages->used, (size_t)DATA_AT);
	return 0;
}

int pages_add(struct pages *pages, const struct page_place *place, const void *data, size_t len)
{
	struct page *p = find(pages, place);
	int r = pages->failed;

	BUG_ON(len > PAGE_BYTES_MAX || strlen(place->name) >= NAME_SIZE);
	if (!r && p && p->len == len) {
		memcpy(pages->buf + p->at, data, len);
		return 0;
	}
	if (!r && (p || pages->n == PAGES_MAX))
		r = pages_flush(pages);
	if (!r)
		r = pages->failed = reserve(pages, len);
	if (r)
		return r;
	p = &pages->page[pages->n++];
	*p = (struct page){
		.fd = place->fd, .offset = place->offset, .at = pages->used, .len = len,
	};
	memcpy(p->name, place->name, strlen(place->name));
	memcpy(pages->buf + p->at, data, len);
	pages->used += len;
	return 0;
}

static void encode(struct pages *pages)
{
	memset(pages->buf, 0, DATA_AT);
	for (size_t i = 0; i < pages->n; i++) {
		uint8_t *entry = pages->buf + HEAD_SIZE + i * ENTRY_SIZE;

		memcpy(entry, pages->page[i].name, NAME_SIZE);
		put_be64(entry + NAME_SIZE, pages->page[i].offset);
		put_be64(entry + NAME_SIZE + 8, pages->page[i].len);
	}
	memcpy(pages->buf, MAGIC, 8);
	put_be64(pages->buf + 16, pages->used);
	put_be64(pages->buf + 24, pages->n);
	put_be64(pages->buf + 8, hash(pages->buf + 16, pages->used - 16));
}

/* The file has what was last put into its places, until those are durable. */
static int sync_places(struct pages *pages)
{
	while (pages->n_unsynced) {
		int r = durable_sync(pages->unsynced[pages->n_unsynced - 1]);

		if (r)
			return r;
		pages->n_unsynced--;
	}
	return 0;
}

static int save(struct pages *pages)
{
	int r = write_at(pages->fd, pages->buf, pages->used, 0);

	return r ? r : durable_sync(pages->fd);
}

static int put_in_place(struct pages *pages, const struct page *p)
{
	for (size_t i = 0; i < pages->n_unsynced; i++)
		if (pages->unsynced[i] == p->fd)
			return write_at(p->fd, pages->buf + p->at, p->len, p->offset);
	if (pages->n_unsynced == FILES_MAX) {
		int r = sync_places(pages);

		if (r)
			return r;
	}
	pages->unsynced[pages->n_unsynced++] = p->fd;
	return write_at(p->fd, pages->buf + p->at, p->len, p->offset);
}

int pages_flush(struct pages *pages)
{
	int r = pages->failed;

	if (r || !pages->n)
		return r;
	r = sync_places(pages);
	if (!r) {
		encode(pages);
		r = save(pages);
	}
	for (size_t i = 0; i < pages->n && !r; i++)
		r = put_in_place(pages, &pages->page[i]);
	pages->failed = r;
	if (r)
		return r;
	pages->n = 0;
	pages->used = pages->cap = 0;
	free(pages->buf);
	pages->buf = NULL;
	return 0;
}

int pages_sync(struct pages *pages, int fd)
{
	int r = pages_flush(pages);

	if (!r)
		r = durable_sync(fd);
	for (size_t i = 0; i < pages->n_unsynced && !r; i++)
		if (pages->unsynced[i] == fd)
			pages->unsynced[i--] = pages->unsynced[--pages->n_unsynced];
	pages->failed = r;
	return r;
}

bool pages_wait_for(const struct pages *pages, int fd)
{
	for (size_t i = 0; i < pages->n; i++)
		if (pages->page[i].fd == fd)
			return true;
	for (size_t i = 0; i < pages->n_unsynced; i++)
		if (pages->unsynced[i] == fd)
			return true;
	return false;
}

int pages_settle(struct pages *pages)
{
	int r = pages_flush(pages);

	if (!r)
		r = sync_places(pages);
	return r ? r : pages_void(pages);
}
