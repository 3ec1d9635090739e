/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between Berkeley DB and its files. Three of its ways leave holes in what it promises
 * of a loss of power; what is here closes them, and Berkeley DB does not know of it.
 *
 *  - It never syncs a directory. A log file that was just made is synced, and may have
 *    no name all the same when the machine comes back, with all that was committed to
 *    it. So names that are made or changed are durable at once.
 *  - It calls a sync that failed again, up to a hundred times. The kernel tells of an
 *    error once and then forgets the pages, so that the second call says success for
 *    what is lost. So once a sync has failed, all of them do, for good.
 *  - It writes pages in place. One that is half written when the power goes has a bad
 *    checksum, and its log cannot mend it: records of the log are changes to a page
 *    that is whole. So pages are written twice: some hundred of them collect, go to a
 *    file of their own, and once they are durable there, to their places; that file
 *    is not written again before the places are durable. Opening a store puts the
 *    pages of that file, where it is whole, into their places again.
 *
 * Berkeley DB's hooks are the process's, and know of a file only its descriptor: so
 * there is a table of those that are guarded. It has a lock: stores may have
 * different threads.
 */
#ifndef LIBMVCC_BDB_FILE_H
#define LIBMVCC_BDB_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* --- bdb_pages.c: pages on their way ------------------------------ */

#define BDB_PAGE_BYTES 16384
#define PAGES_FILE "pages"
#define PAGE_NAME_MAX 32

/*
 * Of a file or directory. Fails for good once it has failed, whatever the file. A disk
 * that is given megabytes at once lets others wait until it has them all, the raft log's
 * syncs too: so a file goes to it in pieces, each waited for, before it is synced.
 */
int durable_sync(int fd);

/*
 * The file PAGES_FILE, all numbers big-endian:
 *
 *	8 bytes "kvdpages", 8 bytes hash of all that follows
 *	8 bytes length of it all, 8 bytes number of pages
 *	for each page: 32 bytes name of its file, 8 bytes offset, 8 bytes length
 *	at the next multiple of 4 KiB: the pages
 */
struct pages;

/* Puts what is in the file into its places. @dir is an open directory. */
int pages_open(int dir, struct pages **out);
/* Forgets what is on its way. */
void pages_close(struct pages *pages);

struct page_place {
	int fd;
	const char *name;		/* of the file in the directory */
	uint64_t offset;
};

/*
 * Takes a page in; all that wait go to their places first where there is no room. As
 * with all that follow: negative errno, and once it has failed it fails for good.
 */
int pages_add(struct pages *pages, const struct page_place *place, const void *data, size_t len);
/* A page that waits, or NULL. */
const void *pages_find(const struct pages *pages, const struct page_place *place, size_t len);
/* All that wait go to their places, and may be not durable there yet. */
int pages_flush(struct pages *pages);
/* And those in this file are durable. */
int pages_sync(struct pages *pages, int fd);
/* Whether there is anything left to do with this descriptor. */
bool pages_wait_for(const struct pages *pages, int fd);
/* Flushes, makes the places durable and the file void: places may be cut off. */
int pages_settle(struct pages *pages);

/*
 * What Berkeley DB believes of a page that was read. A page whose head is zeroes is a new
 * one to it, without a checksum, and it may look for the way on from there for ever; and
 * it does not ask whether a page is the one that it asked for. pages_check() makes both
 * pages with a bad checksum. In recovery, until pages_recovered(), a page that is zeroes
 * as a whole is in order: it was not written yet. pages_recovered() is true where there was
 * one; then it may be damage all the same, and in Berkeley DB's cache.
 */
bool pages_recovered(struct pages *pages);
void pages_check(struct pages *pages, uint8_t *data, size_t len, uint64_t offset);

/* --- bdb_file.c: the hooks ---------------------------------------- */

/* From now on files in the directory at @path, but for log files, are guarded. */
int files_guard(const char *path, struct pages *pages);
void files_unguard(struct pages *pages);

/* Where memory was short, Berkeley DB later says that recovery is needed, as it does of
 * damage. Size 0 is not asked for. */
void *memory_new(size_t size);
void *memory_resize(void *p, size_t size);
bool memory_was_short(void);
/* So it does of a full disk: 0, or -ENOSPC or -EDQUOT where one was. */
int disk_was_full(void);

int file_open(const char *path, int flags, ...);
int file_close(int fd);
int file_seek(int fd, off_t at, int whence);
/* Where there is a hook for it, Berkeley DB does not use pwrite(). */
ssize_t file_write(int fd, const void *buf, size_t n);
ssize_t file_pread(int fd, void *buf, size_t n, off_t at);
int file_sync(int fd);
int file_truncate(int fd, off_t len);
int file_rename(const char *from, const char *to);
int file_unlink(const char *path);

#endif
