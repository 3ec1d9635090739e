/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A member's two disks, the log and the store, each with its thread.
 *
 *	<data-dir>/member/wal	the log (wal.h), or --wal-dir
 *	<data-dir>/member/kv	the store: a Berkeley DB environment
 *
 * Everything is 0700. A directory of etcd's own, or one where only half is there, is
 * refused. The first error of a write or a sync ends the process at once, by _exit:
 * after a failed fsync nothing that this process believes of the disk is sure.
 */
#ifndef KVD_DISK_H
#define KVD_DISK_H

#include "kvd/core.h"
#include "kvd/options.h"
#include "kvd/wal.h"
#include "kvd/worker.h"

struct disk {
	struct wal *wal;
	struct mvcc_backend *backend;
	struct mvcc *store;
	struct worker log, writer;
	struct core *core;		/* who is told what is done */
	struct worker *started[2];
	size_t under_way;		/* jobs handed out and not back */
	struct histogram writes, syncs, commits;	/* of the log, the store; the loop's */
	uint64_t written;		/* bytes, to the log */
};

/* What the log says of who this member is. */
struct disk_identity {
	uint64_t member_id, cluster_id;
};

/* Opens both, or makes them. @first is what a new log begins with; *contents is the
 * log after what the store holds. */
struct disk_first {
	struct disk_identity identity;
	const struct raft_entry *entries;
	size_t n_entries;
};

/* Whether a log is there already. Negative errno with @why where that cannot be said
 * or the directory is not kvd's. */
int disk_probe(const struct kvd_config *config, char *why, size_t why_size);
int disk_open(struct disk *disk, const struct kvd_config *config, const struct disk_first *first,
	      struct wal_contents *contents, struct disk_identity *identity,
	      char *why, size_t why_size);
int disk_start(struct disk *disk, struct core *core, uv_loop_t *loop);
/* Hands out what the core has for the disks. @all: store everything, and sync. */
void disk_submit(struct disk *disk, uint64_t now, bool all);
/* Nothing is under way. */
bool disk_idle(const struct disk *disk);
void disk_stop(struct disk *disk);
void disk_close(struct disk *disk);

#endif
