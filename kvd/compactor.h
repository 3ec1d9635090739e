/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Automatic compaction, as etcd does it.
 *
 * Periodic: with a retention of up to an hour every retention, with a longer one
 * every hour, the history older than the retention goes; what revision that was is
 * noted ten times a period, or less often where the notes of
 * a retention would not fit. Revision: every five minutes, all but the last so many
 * revisions.
 *
 * Pure: the time comes in, the revision to compact goes out.
 */
#ifndef KVD_COMPACTOR_H
#define KVD_COMPACTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COMPACTOR_NOTES_MAX 4096

struct compactor {
	bool by_revision;
	int64_t retention;		/* nanoseconds or revisions; 0: never */
	uint64_t next_note;
	uint64_t last;			/* when it last compacted */
	int64_t notes[COMPACTOR_NOTES_MAX];	/* revisions, oldest first, a ring */
	size_t first, n;
	int64_t compacted;
};

void compactor_init(struct compactor *compactor, bool by_revision, int64_t retention,
		    uint64_t now);
/* The revision to compact to now; 0: nothing is due. */
int64_t compactor_due(struct compactor *compactor, uint64_t now, int64_t revision);

#endif
