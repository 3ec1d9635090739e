/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the write-ahead log share: records, segments and the log. */
#ifndef KVD_WAL_I_H
#define KVD_WAL_I_H

#include "kvd/wal.h"

#include "include/bug.h"

#define WAL_SEGMENT_BYTES (16 << 20)
#define WAL_SEGMENT_BYTES_MAX (UINT64_C(1) << 32)	/* a larger file is none of ours */

/* --- records (wal_record.c) ----------------------------------------------- */

enum wal_record_type {
	WAL_METADATA = 1,
	WAL_ENTRY = 2,
	WAL_HARD_STATE = 3,
	WAL_CRC = 4,
	WAL_SNAPSHOT = 5,
};

#define WAL_FRAME_BYTES 8		/* the length field */
#define WAL_LENGTH_MASK (UINT64_MAX >> 8)

/* Most bytes of a frame beside its data: length, type, crc, tag and length of the
 * data, padding. */
#define WAL_RECORD_OVERHEAD (WAL_FRAME_BYTES + 2 + 6 + 11 + 7)

struct wal_record {
	enum wal_record_type type;
	uint32_t crc;			/* that the record gives */
	struct slice data;		/* in the bytes that were read */
};

/* A growing buffer of frames, and the crc of the data of all records so far. */
struct wal_buffer {
	uint8_t *data;
	size_t len, size;
	uint32_t crc;
};

int wal_put_record(struct wal_buffer *buffer, enum wal_record_type type, struct slice data);
int wal_put_entry(struct wal_buffer *buffer, const struct raft_entry *entry);
int wal_put_hard_state(struct wal_buffer *buffer, const struct raft_hard_state *state);
/* Not a record: they are in no crc. */
int wal_put_zeroes(struct wal_buffer *buffer, size_t n);

enum wal_frame {
	WAL_FRAME_WHOLE = 1,		/* a record; its crc is not yet checked */
	WAL_FRAME_END,			/* zeroes, or the end of the file */
	WAL_FRAME_PAST_END,		/* longer than what is left */
	WAL_FRAME_BAD,			/* not a frame, or not a record in it */
};

/* Looks at the frame at the front of @s. *@len: its bytes, for WHOLE and BAD. */
enum wal_frame wal_get_frame(struct slice s, struct wal_record *record, size_t *len);

/* False where the data are not what the type says. */
bool wal_get_entry(struct slice data, struct raft_entry *entry, struct slice *payload);
bool wal_get_hard_state(struct slice data, struct raft_hard_state *state);
bool wal_get_snapshot(struct slice data, uint64_t *index, uint64_t *term);

/* --- files (wal_file.c) --------------------------------------------------- */

struct wal_segment {
	uint64_t seq, index;
	uint64_t bytes;
};

#define WAL_NAME_BYTES 48		/* "%016x-%016x.wal.torn" is 42 */

void wal_name(const struct wal_segment *segment, const char *suffix, char out[WAL_NAME_BYTES]);
/* The segments in order of their numbers; what has another name is left alone, except
 * left-overs of an unfinished cut, which are removed. */
int wal_list(int dir_fd, struct wal_segment **out, size_t *n);
/* Makes a segment's file under the name with @suffix, preallocated and locked. */
int wal_segment_make(int dir_fd, const struct wal_segment *segment, const char *suffix,
		     size_t bytes);
/* As etcd locks its segments; -EBUSY. */
int wal_lock(int fd);
int wal_preallocate(int fd, uint64_t bytes);
int wal_write_all(int fd, const uint8_t *data, size_t len, uint64_t offset);

/* --- the log -------------------------------------------------------------- */

struct wal {
	int dir_fd, fd;			/* the directory; the last segment */
	size_t segment_bytes;
	bool no_sync;
	bool synced;			/* nothing was written since the last sync */
	int error;			/* the first one; final */

	struct wal_segment *segments;	/* from the oldest; the last is written to */
	size_t n_segments;
	uint64_t offset;		/* in the last segment, where the next frame goes */
	uint64_t filled;		/* and up to where it was written to, if only zeroes */
	uint64_t last_index;		/* of the last entry, or of a snapshot beyond it */
	uint64_t written;		/* bytes, since it was opened */
	int removed;			/* a segment without a name, or -1 */

	struct blob *metadata;
	struct raft_hard_state hard_state;
	struct wal_buffer buffer;
};

/* Where the explanation of a failure goes. */
struct wal_why {
	char *text;
	size_t size;
};

__printf(3, 4) int wal_fail(struct wal_why why, int err, const char *fmt, ...);

/* Reads the segments from the one at @first on into @contents (wal_read.c); leaves
 * wal->fd, offset, crc and the rest ready to append. */
int wal_read(struct wal *wal, size_t first, uint64_t start_index, struct wal_contents *contents,
	     struct wal_why why);

#endif
