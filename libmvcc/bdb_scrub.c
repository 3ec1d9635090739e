// SPDX-License-Identifier: Apache-2.0
/*
 * Scrub: everything is read from the disk, past Berkeley DB's cache, which may have a
 * good copy of what is bad there. A page that waits in the cache has an older one in
 * the file, whole and with a good checksum all the same, since this thread is the one
 * that writes. Only a page that was never written is none; so a file is written back
 * first, and what is appended after that is left for the next time.
 *
 * The checksums are Berkeley DB's own: of a page, with 4 zero bytes in place of the
 * sum; of a record of the log, XORed with the two words before it.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "libmvcc/bdb_i.h"

#define PAGE_NUMBER_AT 8
#define PAGE_TYPE_AT 25
#define PAGE_SUM_AT 28
#define META_TYPE 9		/* of a B-tree */
#define META_BYTES 512		/* of which its sum is */
#define META_LAST_AT 32		/* the number of the last page */
#define META_SUM_AT 492
#define LOG_HEAD 12
#define LOG_RECORD_MAX (64 << 20)

enum phase { SCRUB_RECORDS, SCRUB_PAGES, SCRUB_REVISIONS, SCRUB_LOG };

__printf(2, 3)
static int damage(struct mvcc_scrub *scrub, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(scrub->what, sizeof(scrub->what), format, args);
	va_end(args);
	return -EBADMSG;
}

static uint32_t word(const uint8_t *p)
{
	uint32_t w;

	memcpy(&w, p, sizeof(w));
	return w;
}

/* h = 33 * h + byte, for all bytes; four at a time, because one waits for the other. */
static uint32_t sum_of(const uint8_t *p, size_t n, uint32_t h)
{
	for (; n >= 4; n -= 4, p += 4)
		h = h * 1185921 + p[0] * 35937u + p[1] * 1089u + p[2] * 33u + p[3];
	for (; n; n--)
		h = h * 33 + *p++;
	return h;
}

static uint32_t sum_without(const uint8_t *page, size_t n, size_t at)
{
	static const uint8_t zeros[4];
	uint32_t h = sum_of(page, at, 0);

	h = sum_of(zeros, sizeof(zeros), h);
	return sum_of(page + at + 4, n - at - 4, h);
}

/* --- pages ---------------------------------------------------------------- */

static int page_check(struct mvcc_scrub *scrub, const char *file, const uint8_t *page,
		      uint32_t no)
{
	bool meta = page[PAGE_TYPE_AT] == META_TYPE;
	size_t n = meta ? META_BYTES : BDB_PAGE_BYTES, at = meta ? META_SUM_AT : PAGE_SUM_AT;
	const char *what = NULL;

	if (word(page + at) != sum_without(page, n, at))
		what = "has a bad checksum";
	else if (word(page + PAGE_NUMBER_AT) != no)
		what = "is another page";
	else if (meta != !no)
		what = "is of the wrong type";
	if (!what)
		return 0;
	return damage(scrub, "%s: page %u, at byte %lld, %s", file, no,
		      (long long)no * BDB_PAGE_BYTES, what);
}

static int open_file(const struct bdb *bdb, struct mvcc_scrub *scrub, const char *file, int *fd)
{
	*fd = openat(bdb->dir, file, O_RDONLY | O_CLOEXEC);
	if (*fd >= 0)
		return 0;
	return errno == ENOENT ? damage(scrub, "%s: is missing", file) : -errno;
}

static ssize_t read_at(int fd, uint8_t *buf, size_t n, int64_t at)
{
	size_t got = 0;

	while (got < n) {
		ssize_t r = pread(fd, buf + got, n - got, (off_t)(at + (int64_t)got));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (!r)
			break;
		got += (size_t)r;
	}
	return (ssize_t)got;
}

/* Page @no, into the scratch buffer. */
static int page_read(struct bdb *bdb, struct mvcc_scrub *scrub, const char *file, int fd,
		     uint32_t no)
{
	ssize_t n = read_at(fd, bdb->scratch, BDB_PAGE_BYTES, (int64_t)no * BDB_PAGE_BYTES);

	if (n < 0)
		return (int)n;
	if (n < BDB_PAGE_BYTES)
		return damage(scrub, "%s: ends within page %u", file, no);
	return page_check(scrub, file, bdb->scratch, no);
}

/* Writes back what is not in the file yet; page 0 knows how many there are then. */
static int pages_begin(struct bdb *bdb, DB *db, struct mvcc_scrub *scrub, const char *file,
		       int fd)
{
	int r = bdb_error(db->sync(db, 0));

	if (!r)
		r = page_read(bdb, scrub, file, fd, 0);
	if (!r)
		scrub->pages_end = word(bdb->scratch + META_LAST_AT) + 1;
	return r;
}

int scrub_pages(struct bdb *bdb, DB *db, const char *file, size_t bytes,
		struct mvcc_scrub *scrub)
{
	int fd, r = open_file(bdb, scrub, file, &fd);

	if (r)
		return r;
	if (!scrub->pages_end)
		r = pages_begin(bdb, db, scrub, file, fd);
	for (size_t done = 0; done < bytes && scrub->page < scrub->pages_end && !r;
	     done += BDB_PAGE_BYTES) {
		r = page_read(bdb, scrub, file, fd, scrub->page);
		scrub->page += !r;
		scrub->pages += !r;
	}
	close(fd);
	if (r || scrub->page < scrub->pages_end)
		return r ? r : 1;
	scrub->page = scrub->pages_end = 0;
	return 0;
}

/* --- revisions ------------------------------------------------------------ */

struct reading {
	struct mvcc_scrub *scrub;
	const char *file;
};

static int revision_check(void *arg, int64_t main, uint32_t sub, struct slice value)
{
	const struct reading *rd = arg;
	struct mvcc_kv kv;

	rd->scrub->records++;
	if (mvcc_kv_decode(value, &kv) ||
	    (!(sub & SUB_TOMBSTONE) && kv.mod_revision != main))
		return damage(rd->scrub, "%s: the record of revision %lld, %u is not one of it",
			      rd->file, (long long)main, sub & ~SUB_TOMBSTONE);
	return 0;
}

/* Of one segment. From its begin to its end in one go they are counted, too. */
static int scrub_revisions(struct bdb *bdb, struct segment *seg, const char *file, size_t bytes,
			   struct mvcc_scrub *scrub)
{
	struct reading rd = { scrub, file };
	struct segment_scan scan = {
		.next = scrub->next, .left = bytes, .fn = revision_check, .arg = &rd,
	};
	int r = segment_scan(bdb, seg, &scan);

	if (r == -EBADMSG && !scrub->what[0])
		return damage(scrub, "%s: %s", file, bdb->why[0] ? bdb->why : bdb->said);
	if (r >= 0)
		scrub->next = r ? scan.next : (struct mvcc_rev){ 0 };
	return r;
}

/* --- the log -------------------------------------------------------------- */

/* Checks the record that begins at buf; its length, or 0 where there is none. */
static int record_check(struct mvcc_scrub *scrub, const char *file, const uint8_t *buf,
			uint32_t len)
{
	uint32_t prev = word(buf), end = word(buf + 4);
	uint32_t sum = sum_of(buf + LOG_HEAD, len - LOG_HEAD, 0) ^ prev ^ end;

	if (sum != word(buf + 8) || (scrub->log_at && prev != scrub->log_prev))
		return damage(scrub, "%s: the record at byte %u has a bad checksum", file,
			      scrub->log_at);
	return 0;
}

/* What follows the last record of a file that recovery once cut off. */
static bool is_zero(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

/* The records of one read. Positive while there are more. @limit: that many bytes of the
 * file are there, and may end within a record; or INT64_MAX: it ends with the last one. */
static int log_slice(struct bdb *bdb, struct mvcc_scrub *scrub, const char *file, int fd,
		     int64_t limit)
{
	ssize_t n = read_at(fd, bdb->scratch, bdb->scratch_size, scrub->log_at);
	uint32_t at = 0, len = LOG_HEAD, end = 0;
	int r = n < 0 ? (int)n : 0;

	if (n > 0)
		end = (uint32_t)MIN((int64_t)n, MAX(limit - scrub->log_at, (int64_t)0));
	while (!r && end > at) {
		if (is_zero(bdb->scratch + at, MIN(end - at, (uint32_t)LOG_HEAD)) &&
		    is_zero(bdb->scratch + at, end - at))
			return 0;
		if (end - at < LOG_HEAD)
			break;
		len = word(bdb->scratch + at + 4);
		if (len <= LOG_HEAD || len > LOG_RECORD_MAX)
			return damage(scrub, "%s: the record at byte %u has no length", file,
				      scrub->log_at);
		if (len > end - at)
			break;
		r = record_check(scrub, file, bdb->scratch + at, len);
		scrub->log_prev = scrub->log_at;
		scrub->log_at += len;
		scrub->log_bytes += len;
		at += len;
	}
	if (r || end == at)
		return r;
	if (n == (ssize_t)bdb->scratch_size && end == n) {
		r = at ? 0 : bdb_scratch(bdb, len);
		return r ? r : 1;
	}
	return limit < INT64_MAX ? 0 : damage(scrub, "%s: ends within the record at byte %u", file,
					      scrub->log_at);
}

/* How much of a log file is on disk: all, but of the one that is written to. */
static int log_limit(struct bdb *bdb, uint32_t number, int64_t *out)
{
	DB_LOG_STAT *stat;
	int r = bdb_error(bdb->env->log_stat(bdb->env, &stat, 0));

	if (r)
		return r;
	*out = number == stat->st_disk_file ? (int64_t)stat->st_disk_offset :
	       number < stat->st_disk_file ? INT64_MAX : 0;
	free(stat);
	return 0;
}

/* The number of the first log file from @from on; 0: there is none. */
static int log_next(struct bdb *bdb, uint32_t from, uint32_t *out)
{
	char **list = NULL;
	int r = bdb_error(bdb->env->log_archive(bdb->env, &list, DB_ARCH_LOG));

	*out = 0;
	for (size_t i = 0; list && list[i] && !r && !*out; i++) {
		uint32_t number = (uint32_t)strtoul(list[i] + strlen("log."), NULL, 10);

		if (number >= from)
			*out = number;
	}
	free(list);
	return r;
}

static int scrub_log(struct bdb *bdb, struct mvcc_scrub *scrub)
{
	char file[SEGMENT_NAME_MAX];
	uint32_t number;
	int64_t limit;
	int fd, r = log_next(bdb, scrub->log, &number);

	if (r || !number)
		return r;
	if (number != scrub->log) {
		scrub->log = number;
		scrub->log_at = 0;
	}
	r = log_limit(bdb, number, &limit);
	snprintf(file, sizeof(file), "log.%010u", number);
	if (!r)
		r = open_file(bdb, scrub, file, &fd);
	if (r)
		return r;
	r = limit ? log_slice(bdb, scrub, file, fd, limit) : 0;
	close(fd);
	if (r)
		return r;
	scrub->log++;
	scrub->log_at = 0;
	return 1;
}

/* --- the whole ------------------------------------------------------------ */

/* The segment that it is at; the pages of another than before come first. */
static int scrub_segment(struct bdb *bdb, struct mvcc_scrub *scrub, size_t bytes)
{
	size_t at = segment_find(bdb, scrub->first);
	char file[SEGMENT_NAME_MAX];
	struct segment *seg;
	int r;

	if (at == bdb->n_segments)
		at = 0;
	seg = bdb->segments[at];
	if (seg->number != scrub->segment) {
		scrub->segment = seg->number;
		scrub->phase = SCRUB_PAGES;
		scrub->page = scrub->pages_end = 0;
		scrub->next = (struct mvcc_rev){ 0 };
	}
	segment_name(seg->number, file);
	if (scrub->phase == SCRUB_PAGES) {
		r = scrub_pages(bdb, seg->db, file, bytes, scrub);
		if (!r)
			scrub->phase = SCRUB_REVISIONS;
		return r ? r : 1;
	}
	r = scrub_revisions(bdb, seg, file, bytes, scrub);
	if (r)
		return r;
	if (at + 1 < bdb->n_segments)
		scrub->first = bdb->segments[at + 1]->first;
	else
		scrub->phase = SCRUB_LOG;
	return 1;
}

static int scrub_slice(struct bdb *bdb, struct mvcc_scrub *scrub, size_t bytes)
{
	int r;

	switch (scrub->phase) {
	case SCRUB_RECORDS:
		r = scrub_pages(bdb, bdb->records, RECORDS_FILE, bytes, scrub);
		if (!r)
			scrub->phase = bdb->n_segments ? SCRUB_PAGES : SCRUB_LOG;
		return r ? r : 1;
	case SCRUB_LOG:
		return scrub_log(bdb, scrub);
	default:
		return scrub_segment(bdb, scrub, bytes);
	}
}

int bdb_scrub(struct mvcc_backend *backend, struct mvcc_scrub *scrub, size_t bytes)
{
	struct bdb *bdb = bdb_of(backend);
	int r = scrub_slice(bdb, scrub, bytes);

	if (r >= 0 || scrub->what[0])
		return r;
	/* Berkeley DB has come across it */
	bdb_explain(bdb, r);
	snprintf(scrub->what, sizeof(scrub->what), "%.255s", bdb->why);
	return r;
}
