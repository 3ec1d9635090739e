/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is done between the batches of a history so that each function of libmvcc is
 * called that can fail: reading in all ways, watching, hashing, a scrub, a backup under
 * way while batches are written, closing and opening again.
 */
#ifndef FAULT_LOOKS_H
#define FAULT_LOOKS_H

#include "tests/fault/model.h"

#define LOOKS_BATCHES 16	/* after so many everything was done once */

struct looks {
	const char *store;		/* its directory; NULL: in memory */
	const char *copy;		/* where the backup goes: empty */
	struct mvcc_backup *backup;	/* NULL: none is under way */
	size_t copying, copied;		/* which batch it is of; is whole of */
	bool reopened;
};

/* Negative errno. Says in @s->progress, which is there, what it does. */
int looks_after(struct looks *looks, struct session *s, size_t batch);
/* What is still under way. Before session_close(). */
void looks_end(struct looks *looks);

#endif
