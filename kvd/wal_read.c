/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the write-ahead log back, one segment after the other, through a window
 * that moves over the file; and telling the trace of a crash from damage. Only
 * where something is broken is the rest of a segment read into memory as a whole.
 *
 * What the crc of a record does not cover is checked by what raft never does: terms
 * and commits never go back, and an entry that is committed is never replaced.
 */
#include "kvd/wal_i.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/endian_bytes.h"
#include "kvd/crc32c.h"

#define SECTOR_BYTES 512	/* the least that a disk writes in one piece */
#define WINDOW_BYTES (256 << 10)	/* grows where a record is larger */

struct reader {
	struct wal *wal;
	struct wal_contents *contents;
	uint64_t start_index;
	size_t entries_size;
	uint64_t max_term;		/* of the entries read */
	uint64_t snapshot_index;	/* the highest of a snapshot record */
	struct wal_why why;

	/* the segment being read */
	const struct wal_segment *segment;
	bool first, last;		/* it is the first one read; the last one there is */
	int fd;
	size_t size;			/* of its file */
	size_t pos;			/* in the file: what is read next */
	size_t n_records;

	/* the window: bytes of the file from @at on */
	size_t at;
	uint8_t *window;
	size_t window_len, window_size;
};

/* --- failures ------------------------------------------------------------- */

static int fail_damaged(struct reader *r, const char *what)
{
	char name[WAL_NAME_BYTES];

	wal_name(r->segment, ".wal", name);
	return wal_fail(r->why, -EBADMSG,
			"%s is damaged at byte %zu: %s. Nothing was changed. If the cluster has "
			"other members, remove this one, its data directory with it, and add it "
			"again; if not, restore a snapshot", name, r->pos, what);
}

static int fail_file(struct reader *r, int err, const char *what)
{
	char name[WAL_NAME_BYTES];

	wal_name(r->segment, ".wal", name);
	return wal_fail(r->why, err, "cannot %s %s: %s", what, name, strerrordesc_np(-err));
}

/* --- the window ----------------------------------------------------------- */

/* What is in memory from r->pos on. */
static struct slice rest_of(const struct reader *r)
{
	return slice_of(r->window + (r->pos - r->at), r->at + r->window_len - r->pos);
}

static bool reaches_end(const struct reader *r)
{
	return r->at + r->window_len == r->size;
}

static int grow_window(struct reader *r, size_t size)
{
	uint8_t *grown;

	if (size <= r->window_size)
		return 0;
	grown = realloc(r->window, size);
	if (!grown)
		return wal_fail(r->why, -ENOMEM, "out of memory");
	r->window = grown;
	r->window_size = size;
	return 0;
}

/* Moves the window so that it begins at r->pos, and reads until it has @want bytes or
 * all that there are. */
static int read_window(struct reader *r, size_t want)
{
	struct slice rest = rest_of(r);
	ssize_t n;
	int err;

	want = MIN(want, r->size - r->pos);
	if (rest.len)
		memmove(r->window, rest.data, rest.len);
	r->at = r->pos;
	r->window_len = rest.len;
	err = grow_window(r, want);
	if (err < 0)
		return err;
	while (r->window_len < want) {
		n = pread(r->fd, r->window + r->window_len, want - r->window_len,
			  (off_t)(r->at + r->window_len));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fail_file(r, n < 0 ? -errno : -EIO, "read");
		r->window_len += (size_t)n;
	}
	return 0;
}

/* --- what is in a record -------------------------------------------------- */

/* Drops the entries from position @keep on: they were replaced. */
static void drop_entries(struct wal_contents *c, size_t keep)
{
	while (c->n_entries > keep)
		blob_put(c->entries[--c->n_entries].payload);
}

static int add_entry(struct reader *r, struct raft_entry *entry, struct slice payload)
{
	struct wal_contents *c = r->contents;
	struct raft_entry *grown;
	size_t size;

	if (c->n_entries == r->entries_size) {
		size = r->entries_size ? 2 * r->entries_size : 64;
		grown = reallocarray(c->entries, size, sizeof(*grown));
		if (!grown)
			return wal_fail(r->why, -ENOMEM, "out of memory");
		c->entries = grown;
		r->entries_size = size;
	}
	if (payload.len) {
		entry->payload = blob_copy(payload);
		if (!entry->payload)
			return wal_fail(r->why, -ENOMEM, "out of memory");
	}
	c->entries[c->n_entries++] = *entry;
	return 0;
}

/* There are entries missing before @index. Where the store was replaced by a snapshot
 * that is as it must be, and only this store is too old; else the log is damaged. */
static int fail_gap(struct reader *r, uint64_t index)
{
	uint64_t last = r->start_index + r->contents->n_entries;

	if (r->contents->n_entries && r->snapshot_index + 1 < index)
		return fail_damaged(r, "entries are missing before it");
	return wal_fail(r->why, -ENODATA,
			"the log has no entries from %" PRIu64 " to %" PRIu64
			", which the store does not have yet: restore this member from its peers "
			"or from a snapshot", last + 1, index - 1);
}

static int read_entry(struct reader *r, struct slice data)
{
	struct wal_contents *c = r->contents;
	struct raft_entry entry;
	struct slice payload;
	uint64_t position;

	if (!wal_get_entry(data, &entry, &payload))
		return fail_damaged(r, "an entry that cannot be read");
	r->max_term = MAX(r->max_term, entry.term);
	r->wal->last_index = entry.index;
	if (entry.index <= r->start_index)
		return 0;
	if (entry.index <= c->hard_state.commit &&
	    entry.index <= r->start_index + c->n_entries)
		return fail_damaged(r, "an entry that replaces one that was committed");
	position = entry.index - r->start_index - 1;
	if (position > c->n_entries)
		return fail_gap(r, entry.index);
	if (position && entry.term < c->entries[position - 1].term)
		return fail_damaged(r, "an entry of an earlier term than the one before it");
	drop_entries(c, (size_t)position);
	return add_entry(r, &entry, payload);
}

static int read_hard_state(struct reader *r, struct slice data)
{
	struct raft_hard_state *old = &r->contents->hard_state, state;

	if (!wal_get_hard_state(data, &state))
		return fail_damaged(r, "a hard state that cannot be read");
	if (state.term < old->term || state.commit < old->commit || state.term < r->max_term)
		return fail_damaged(r, "a hard state that goes back");
	*old = state;
	return 0;
}

static int read_metadata(struct reader *r, struct slice data)
{
	struct wal_contents *c = r->contents;

	if (c->metadata && !slice_eq(blob_slice(c->metadata), data))
		return fail_damaged(r, "metadata that differ from those before");
	if (c->metadata)
		return 0;
	c->metadata = blob_copy(data);
	return c->metadata ? 0 : wal_fail(r->why, -ENOMEM, "out of memory");
}

static int read_snapshot(struct reader *r, struct slice data)
{
	uint64_t index, term;

	if (!wal_get_snapshot(data, &index, &term))
		return fail_damaged(r, "a snapshot record that cannot be read");
	r->snapshot_index = MAX(r->snapshot_index, index);
	r->wal->last_index = MAX(r->wal->last_index, index);
	return 0;
}

/* A crc record says what the crc is that goes on; the first one of all has no records
 * before it to agree with. */
static int read_crc(struct reader *r, const struct wal_record *record)
{
	if (record->data.len)
		return fail_damaged(r, "a crc record with data");
	if (!(r->first && r->n_records == 0) && record->crc != r->wal->buffer.crc)
		return fail_damaged(r, "records are missing before it");
	r->wal->buffer.crc = record->crc;
	return 0;
}

/* Each segment begins with a crc record and the metadata. */
static int read_record(struct reader *r, const struct wal_record *record)
{
	if ((record->type == WAL_CRC) != (r->n_records == 0) && r->n_records < 2)
		return fail_damaged(r, "it does not begin as a segment does");
	if (r->n_records == 1 && record->type != WAL_METADATA)
		return fail_damaged(r, "it has no metadata");
	switch (record->type) {
	case WAL_METADATA:
		return read_metadata(r, record->data);
	case WAL_ENTRY:
		return read_entry(r, record->data);
	case WAL_HARD_STATE:
		return read_hard_state(r, record->data);
	case WAL_CRC:
		return read_crc(r, record);
	case WAL_SNAPSHOT:
		return read_snapshot(r, record->data);
	}
	BUG();
	return -EBADMSG;
}

/* --- the end of the log --------------------------------------------------- */

static bool is_zero(const uint8_t *p, size_t n)
{
	return n == 0 || (p[0] == 0 && !memcmp(p, p + 1, n - 1));
}

/* True where a mark stands at or after @pos: a crc record, and after it a record whose
 * crc goes on from there. */
static bool has_mark(struct slice bytes, size_t pos)
{
	struct wal_record mark, next;
	size_t len, next_len;

	for (; pos + 2 * WAL_FRAME_BYTES <= bytes.len; pos += WAL_FRAME_BYTES) {
		struct slice s = slice_of(bytes.data + pos, bytes.len - pos);

		/* a mark's record is 4 to 8 bytes long; most words do not begin like one */
		if (s.data[0] < 4 || s.data[0] > 8 || s.data[WAL_FRAME_BYTES] != 0x08 ||
		    wal_get_frame(s, &mark, &len) != WAL_FRAME_WHOLE || mark.type != WAL_CRC)
			continue;
		s = slice_of(s.data + len, s.len - len);
		if (wal_get_frame(s, &next, &next_len) == WAL_FRAME_WHOLE &&
		    crc32c(mark.crc, next.data) == next.crc)
			return true;
	}
	return false;
}

/* True where a sector, or what the record has of it, is zeroes: it never got there.
 * @pos and @end are in @bytes, which stand at @at in the file. */
static bool has_zero_sector(struct slice bytes, size_t at, size_t pos, size_t end)
{
	size_t next;

	for (; pos < end; pos = next) {
		next = MIN(((at + pos) / SECTOR_BYTES + 1) * SECTOR_BYTES - at, end);
		if (is_zero(bytes.data + pos, next - pos))
			return true;
	}
	return false;
}

/* Whether what is broken at r->pos, with all that follows in the window, is the trace of
 * a crash. @frame is what stands there, of @len bytes. The rules are in wal.h. */
static bool is_torn(const struct reader *r, enum wal_frame frame, size_t len)
{
	struct slice rest = rest_of(r);
	size_t last;

	BUG_ON(!reaches_end(r));
	/* marks are looked for from here on, not from the end of the record, because
	 * its length may be what is broken */
	if (!r->last || r->n_records < 2 || has_mark(rest, WAL_FRAME_BYTES))
		return false;
	if (frame == WAL_FRAME_PAST_END || frame == WAL_FRAME_END)
		return true;
	if (has_zero_sector(rest, r->pos, WAL_FRAME_BYTES, len))
		return true;
	/* the last byte of the record, which comes before the padding */
	last = WAL_FRAME_BYTES - 1 + (size_t)(get_le64(rest.data) & WAL_LENGTH_MASK);
	return is_zero(rest.data + last, rest.len - last);
}

/* Keeps a copy of what is about to be cut off. */
static int keep_torn(struct reader *r, struct slice torn)
{
	char name[WAL_NAME_BYTES];
	int fd, err;

	wal_name(r->segment, ".wal.torn", name);
	fd = openat(r->wal->dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
		    0600);
	if (fd < 0)
		return fail_file(r, -errno, "keep a copy of the torn end of");
	err = wal_write_all(fd, torn.data, torn.len, 0);
	if (err == 0 && !r->wal->no_sync && (fsync(fd) < 0 || fsync(r->wal->dir_fd) < 0))
		err = -errno;
	close(fd);
	return err < 0 ? fail_file(r, err, "keep a copy of the torn end of") : 0;
}

/* Cuts everything from r->pos on that is not zero. */
static int cut_torn(struct reader *r)
{
	struct slice torn = rest_of(r);
	int err;

	while (torn.len && !torn.data[torn.len - 1])
		torn.len--;
	if (torn.len) {
		err = keep_torn(r, torn);
		if (err < 0)
			return err;
		r->contents->torn_bytes = torn.len;
		if (ftruncate(r->wal->fd, (off_t)r->pos) < 0)
			return fail_file(r, -errno, "cut the torn end of");
	}
	r->wal->offset = r->pos;
	return 0;
}

/* --- segments ------------------------------------------------------------- */

/* The frame at r->pos; the window moves and grows until that is clear. */
static int look_at_frame(struct reader *r, struct wal_record *record, enum wal_frame *frame,
			 size_t *len)
{
	struct slice rest;
	int err;

	for (;;) {
		rest = rest_of(r);
		*len = 0;
		*frame = wal_get_frame(rest, record, len);
		if (reaches_end(r) ||
		    (rest.len >= WAL_FRAME_BYTES && *frame != WAL_FRAME_PAST_END))
			return 0;
		err = read_window(r, MAX(2 * rest.len, (size_t)WINDOW_BYTES));
		if (err < 0)
			return err;
	}
}

/* Reads records until the end. What is not a whole record is left at r->pos: @frame
 * says what it is. */
static int read_records(struct reader *r, enum wal_frame *frame, size_t *len)
{
	struct wal_record record;
	uint32_t crc;
	int err;

	for (;; r->n_records++, r->pos += *len) {
		err = look_at_frame(r, &record, frame, len);
		if (err < 0 || *frame != WAL_FRAME_WHOLE)
			return err;
		if (record.type != WAL_CRC) {
			crc = crc32c(r->wal->buffer.crc, record.data);
			if (crc != record.crc) {
				*frame = WAL_FRAME_BAD;
				return 0;
			}
			r->wal->buffer.crc = crc;
		}
		err = read_record(r, &record);
		if (err < 0)
			return err;
	}
}

/* Whether there are only zeroes from r->pos on, which is where r->pos is afterwards too. */
static int only_zeroes(struct reader *r, bool *out)
{
	size_t pos = r->pos;
	struct slice rest;
	int err = 0;

	do {
		rest = rest_of(r);
		*out = is_zero(rest.data, rest.len);
		r->pos += rest.len;
	} while (*out && r->pos < r->size && (err = read_window(r, WINDOW_BYTES)) == 0);
	/* the window has moved on: it begins anew */
	r->pos = r->at = pos;
	r->window_len = 0;
	return err;
}

static int read_segment_bytes(struct reader *r)
{
	enum wal_frame frame;
	bool clean = false;
	size_t len;
	int err;

	r->pos = r->at = r->n_records = r->window_len = 0;
	err = read_records(r, &frame, &len);
	if (!err && frame == WAL_FRAME_END && r->n_records >= 2)
		err = only_zeroes(r, &clean);
	if (clean && !err)
		r->wal->offset = r->pos;
	if (clean || err < 0)
		return err;
	err = read_window(r, r->size - r->pos);
	if (err < 0)
		return err;
	if (!is_torn(r, frame, len))
		return fail_damaged(r, frame == WAL_FRAME_END ? "records are missing" :
				       frame == WAL_FRAME_PAST_END ? "a record runs past the end" :
				       "a record's crc or form is wrong");
	return cut_torn(r);
}

/* Reads the open file @fd. */
static int read_open_segment(struct reader *r, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return fail_file(r, -errno, "read");
	if (!S_ISREG(st.st_mode))
		return fail_file(r, -EINVAL, "read");
	if ((uint64_t)st.st_size > WAL_SEGMENT_BYTES_MAX)
		return fail_file(r, -EFBIG, "read");
	r->fd = fd;
	r->size = (size_t)st.st_size;
	return read_segment_bytes(r);
}

static int read_segment(struct reader *r)
{
	char name[WAL_NAME_BYTES];
	int fd, err;

	wal_name(r->segment, ".wal", name);
	fd = openat(r->wal->dir_fd, name,
		    (r->last ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return fail_file(r, -errno, "open");
	if (!r->last) {
		err = read_open_segment(r, fd);
		close(fd);
		return err;
	}
	r->wal->fd = fd;
	err = wal_lock(fd);
	if (err == -EBUSY)
		return wal_fail(r->why, err, "%s is in use by another process", name);
	if (err < 0)
		return fail_file(r, err, "lock");
	return read_open_segment(r, fd);
}

/* Where the hard state of the last entries' term was torn off, that term is begun
 * again: nothing was said in it yet, and no vote given. */
static void raise_term(struct reader *r)
{
	struct raft_hard_state *state = &r->contents->hard_state;

	if (state->term >= r->max_term)
		return;
	state->term = r->max_term;
	state->vote = 0;
}

static int read_segments(struct reader *r, size_t first)
{
	struct wal *wal = r->wal;
	int err = 0;

	for (size_t i = first; err == 0 && i < wal->n_segments; i++) {
		r->segment = &wal->segments[i];
		r->first = i == first;
		r->last = i + 1 == wal->n_segments;
		if (i > first && wal->segments[i - 1].seq + 1 != wal->segments[i].seq) {
			r->pos = 0;
			return fail_damaged(r, "the segment before it is missing");
		}
		err = read_segment(r);
	}
	return err;
}

int wal_read(struct wal *wal, size_t first, uint64_t start_index, struct wal_contents *contents,
	     struct wal_why why)
{
	struct reader r = {
		.wal = wal, .contents = contents, .start_index = start_index, .why = why,
	};
	int err = read_segments(&r, first);

	free(r.window);
	if (err == 0)
		raise_term(&r);
	return err;
}
