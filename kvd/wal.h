/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The write-ahead log: the raft log on disk, in etcd's format, so that etcd's own
 * tools read it. Owned by the log thread; every call may block.
 *
 * A directory of segments named <seq>-<index>.wal (both %016x; index: of the first
 * entry in it), each preallocated to 16 MiB. A segment is a run of frames: a 64-bit
 * little-endian length field (the low 56 bits are the record's length; where the
 * frame is padded to 8 bytes, the top byte is 0x80 | padding), then a
 * walpb.Record {type, crc, data}. Types: 1 metadata, 2 raftpb.Entry, 3
 * raftpb.HardState, 4 crc, 5 walpb.Snapshot. crc is CRC-32C over the data of all
 * records so far, carried from segment to segment by the crc record at the head of each; a
 * segment begins with crc, metadata and the last hard state.
 *
 * Marks. The first append after a sync begins with one more crc record, which etcd's
 * readers take as well: it says that all before it was durable. So what is broken
 * before a mark is damage, and only what is broken from the last one on can be the
 * trace of a crash in the middle of a write.
 *
 * A record from the last mark of the last segment on that runs past the end of the
 * file, or has a sector that is zeroes, or ends in zeroes before nothing but zeroes,
 * was torn while being written. It is cut off with all that follows, a copy of what
 * was cut kept beside the segment as <segment>.torn, and counted in
 * wal_contents.torn_bytes. Everything else that is broken is damage, which is never
 * cut: wal_open() gives -EBADMSG.
 *
 * Two processes cannot have one log: the directory is locked (flock), and the last
 * segment as etcd locks its segments, so that etcd and kvd exclude each other too.
 * That is -EBUSY.
 *
 * Errors: negative errno; @why says which file, what was wrong and what to do. The
 * first error of wal_append() or wal_sync() is final: the process must end.
 * Source: etcd server/storage/wal; records in lib/proto/wal.proto.
 */
#ifndef KVD_WAL_H
#define KVD_WAL_H

#include "include/slice.h"
#include "libraft/raft.h"

struct wal;

struct wal_args {
	const char *dir;
	size_t segment_bytes;	/* 0: 16 MiB */
	bool no_sync;		/* --unsafe-no-fsync */
};

/* A new log: @dir must not exist yet; it is made under another name and renamed, so
 * that it is whole or not there. Writes @metadata (etcd: an etcdserverpb.Metadata of
 * node id and cluster id) and a snapshot record of index 0. */
int wal_create(const struct wal_args *args, struct slice metadata, struct wal **out,
	       char *why, size_t why_size);

struct wal_contents {
	struct blob *metadata;
	struct raft_hard_state hard_state;	/* its term is at least the last entry's */
	struct raft_entry *entries;	/* those with index > start_index, without a gap */
	size_t n_entries;
	uint64_t torn_bytes;
};

/* Reads the log for what follows entry @start_index (durable in the store) and opens
 * it for appending. -ENODATA where entries between start_index and what is there are
 * missing. */
int wal_open(const struct wal_args *args, uint64_t start_index, struct wal_contents *contents,
	     struct wal **out, char *why, size_t why_size);
void wal_contents_release(struct wal_contents *contents);

/* Appends to the file without waiting for the disk; starts a new segment when this
 * one is full (that does sync). @hard_state may be NULL. An entry whose index is not
 * above the last one's replaces it and everything after it. */
int wal_append(struct wal *wal, const struct raft_entry *entries, size_t n,
	       const struct raft_hard_state *hard_state);
int wal_sync(struct wal *wal);
/* Of the last entry in the log, or of a later snapshot record. */
uint64_t wal_last_index(const struct wal *wal);
/* Records that the store holds everything up to @meta->index; does not wait. */
int wal_snapshot(struct wal *wal, const struct raft_snapshot_meta *meta);
/* Removes the segments that hold only entries at and below @index, the oldest first;
 * syncs before. The room of the last of them comes back in pieces, with later syncs. */
int wal_release(struct wal *wal, uint64_t index);
/* Bytes written since it was opened. */
uint64_t wal_written(const struct wal *wal);
/* What the segments hold, without the room that is only preallocated. */
uint64_t wal_bytes(const struct wal *wal);
/* Does not sync. */
void wal_close(struct wal *wal);

#endif
