// SPDX-License-Identifier: Apache-2.0
/* All that can be asked of a store: see looks.h. */
#include <errno.h>

#include "include/bug.h"
#include "include/slice.h"
#include "tests/fault/looks.h"

#define LOOK_EVERY 4		/* batches */
#define BACKUP_FROM 9		/* after this batch it begins */
#define BACKUP_TO 13
#define REOPEN 14		/* or the first after it */
#define STEP_BYTES (16 << 10)

static const struct mvcc_key_range everything = { SLICE_LIT("k"), SLICE_LIT("\0") };

/* --- reading -------------------------------------------------------------- */

static int look(struct session *s, const struct mvcc_read *read)
{
	struct mvcc_result result;
	struct mvcc_fetch fetch;
	int r;

	mvcc_fetch_init(&fetch);
	mvcc_result_init(&result);
	while ((r = mvcc_range(s->store, read, &fetch, &result)) == MVCC_COLD)
		if ((r = mvcc_backend_fetch(s->backend, &fetch)))
			break;
	mvcc_result_release(&result);
	mvcc_fetch_release(&fetch);
	return r;
}

static int read_in_all_ways(struct looks *looks, struct session *s)
{
	struct mvcc_read read = { .range = everything, .sort_order = MVCC_SORT_DESCEND };
	int r = 0;

	for (int target = MVCC_SORT_KEY; target <= MVCC_SORT_VALUE && !r; target++) {
		read.sort_target = (enum mvcc_sort_target)target;
		read.keys_only = target % 2;
		read.limit = target * 5;
		r = look(s, &read);
	}
	if (!r)
		r = look(s, &(struct mvcc_read){ .range = everything, .count_only = true });
	if (!r)
		r = look(s, &(struct mvcc_read){ .range = everything, .min_mod_revision = 3 });
	return r;
}

static int find(struct looks *looks, struct session *s)
{
	uint8_t name[NAME_MAX_BYTES];
	struct slice key = model_key(3, name);
	struct mvcc_key_info info;

	mvcc_ahead(s->store, &key, 1);
	mvcc_find(s->store, key, &info);
	return 0;
}

static int nothing(void *arg, struct slice key, struct slice value)
{
	return 0;
}

static int records(struct looks *looks, struct session *s)
{
	return mvcc_record_each(s->store, "lease", nothing, NULL);
}

static int no_lease(void *arg, struct slice key, int64_t lease)
{
	return 0;
}

/* Leases are looked for right after opening. */
static int open_again(struct looks *looks, struct session *s)
{
	int r = session_reopen(s, looks->store);

	s->progress->what = "looking for leases";
	return r ? r : mvcc_each_leased(s->store, no_lease, NULL);
}

static int no_revision(void *arg, const struct mvcc_stored *stored)
{
	return 0;
}

static int revisions(struct looks *looks, struct session *s)
{
	return mvcc_backend_each(s->backend, no_revision, NULL);
}

static int figures(struct looks *looks, struct session *s)
{
	struct mvcc_backend_size size;
	struct mvcc_stats stats;

	mvcc_stats(s->store, &stats);
	return mvcc_backend_size(s->backend, &size);
}

/* --- watching -------------------------------------------------------------- */

static int follow(struct session *s, struct mvcc_watcher *w)
{
	struct mvcc_events ev;
	struct mvcc_fetch fetch;
	int r;

	mvcc_fetch_init(&fetch);
	mvcc_events_init(&ev);
	do {
		r = mvcc_watch_next(s->store, w, 20, &fetch, &ev);
		if (r == MVCC_COLD && !(r = mvcc_backend_fetch(s->backend, &fetch)))
			continue;
		if (r)
			break;
		mvcc_fetch_release(&fetch);
	} while (r || ev.n);
	mvcc_events_release(&ev);
	mvcc_fetch_release(&fetch);
	return MIN(r, 0);
}

static int watch(struct session *s, struct mvcc_key_range range)
{
	const struct mvcc_watch_args args = {
		.range = range, .prev_kv = true,
		.start_revision = MAX(mvcc_compact_revision(s->store), (int64_t)0) + 1,
	};
	struct mvcc_watcher *w;
	int r = mvcc_watch(s->store, &args, &w);

	if (r)
		return r;
	mvcc_watch_ready(s->store);
	r = follow(s, w);
	mvcc_unwatch(s->store, w);
	return r;
}

static int watch_range(struct looks *looks, struct session *s)
{
	return watch(s, everything);
}

static int watch_key(struct looks *looks, struct session *s)
{
	return watch(s, (struct mvcc_key_range){ .key = SLICE_LIT("k00xxxxxxxxx") });
}

/* --- hashing and scrubbing ------------------------------------------------- */

static void unheard(void *arg, struct slice bytes)
{
}

static int hash(struct session *s, struct mvcc_hash *hash)
{
	int r;

	while ((r = mvcc_hash_step(s->store, hash, 10)) > 0)
		;
	while (!r && (r = mvcc_backend_hash(s->backend, hash, 4096, unheard, NULL)) > 0)
		r = 0;
	mvcc_hash_release(hash);
	return r;
}

static int hash_current(struct looks *looks, struct session *s)
{
	struct mvcc_hash h;
	int r = mvcc_hash_begin(s->store, 0, &h);

	return r ? r : hash(s, &h);
}

static int hash_compaction(struct looks *looks, struct session *s)
{
	struct mvcc_hash h;

	if (mvcc_compact_revision(s->store) < 0)
		return 0;
	mvcc_hash_begin_compaction(s->store, -1, &h);
	return hash(s, &h);
}

static int scrub(struct looks *looks, struct session *s)
{
	struct mvcc_scrub state = { 0 };
	int r;

	while ((r = mvcc_backend_scrub(s->backend, &state, STEP_BYTES)) > 0)
		;
	return r;
}

/* --- backups --------------------------------------------------------------- */

static int backup_begin(struct looks *looks, struct session *s, size_t batch)
{
	char why[256];

	s->progress->what = "beginning a backup";
	looks->copying = batch;
	return mvcc_backup_begin(s->backend, looks->copy, &looks->backup, why, sizeof(why));
}

/* One step a batch; in the end all that are left. */
static int backup_go_on(struct looks *looks, struct session *s, size_t batch)
{
	int r;

	s->progress->what = "backing up";
	do {
		r = mvcc_backup_step(looks->backup, STEP_BYTES);
	} while (r > 0 && batch == BACKUP_TO);
	if (r > 0)
		return 0;
	if (!r)
		looks->copied = looks->copying;
	looks_end(looks);
	return r;
}

void looks_end(struct looks *looks)
{
	mvcc_backup_end(looks->backup);
	looks->backup = NULL;
}

/* --- one after the other ---------------------------------------------------- */

static const struct {
	const char *name;
	int (*fn)(struct looks *looks, struct session *s);
} all[] = {
	{ "reading", read_in_all_ways }, { "finding", find }, { "reading records", records },
	{ "reading all revisions", revisions }, { "asking for the size", figures },
	{ "watching a range", watch_range }, { "watching a key", watch_key },
	{ "hashing", hash_current }, { "hashing a compaction", hash_compaction },
	{ "scrubbing", scrub },
};

int looks_after(struct looks *looks, struct session *s, size_t batch)
{
	int r = 0;

	if (looks->store && batch == BACKUP_FROM)
		r = backup_begin(looks, s, batch);
	else if (looks->backup)
		r = backup_go_on(looks, s, batch);
	/* a compaction begins its sweep anew then, and the model's does not */
	if (!r && batch >= REOPEN && !looks->reopened && !session_compacts(s)) {
		looks->reopened = true;
		r = open_again(looks, s);
	}
	for (size_t i = 0; i < ARRAY_SIZE(all) && !r && batch % LOOK_EVERY == LOOK_EVERY - 1; i++) {
		s->progress->what = all[i].name;
		r = all[i].fn(looks, s);
	}
	return r;
}
