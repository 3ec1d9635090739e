/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the store share: a backend of either kind, and its life cycle. */
#ifndef MVCC_UTIL_H
#define MVCC_UTIL_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/bug.h"
#include "libmvcc/mvcc.h"

/* A store over a backend, either kind, that can be restarted. */
struct rig {
	bool bdb;
	struct mvcc_args args;
	char dir[64];
	struct mvcc_backend *backend;
	struct mvcc *store;
};

static inline void dir_new(char *dir, size_t size)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, size, "%s/mvcc.XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
}

static inline void dir_remove(const char *dir)
{
	const struct dirent *e;
	DIR *d = opendir(dir);

	assert_non_null(d);
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			assert_int_equal(unlinkat(dirfd(d), e->d_name, 0), 0);
	closedir(d);
	assert_int_equal(rmdir(dir), 0);
}

static inline void rig_open_backend(struct rig *rig)
{
	/* Berkeley DB fills the rest of its log file with zeros when it is opened */
	const struct mvcc_bdb_args args = {
		.dir = rig->dir, .cache_bytes = 1 << 20, .log_bytes = 256 << 10,
	};
	char why[256] = "";

	if (!rig->bdb)
		assert_int_equal(mvcc_mem_open(&rig->backend), 0);
	else if (mvcc_bdb_open(&args, &rig->backend, why, sizeof(why)))
		fail_msg("%s", why);
}

static inline void rig_open_store(struct rig *rig)
{
	char why[256] = "";

	if (mvcc_open(rig->backend, &rig->args, &rig->store, why, sizeof(why)))
		fail_msg("%s", why);
}

static inline void rig_open(struct rig *rig, bool bdb, const struct mvcc_args *args)
{
	*rig = (struct rig){ .bdb = bdb, .args = *args };
	if (bdb)
		dir_new(rig->dir, sizeof(rig->dir));
	rig_open_backend(rig);
	rig_open_store(rig);
}

/* Writes everything that is pending. */
static inline void rig_store(struct rig *rig)
{
	struct mvcc_batch *batch = mvcc_batch_take(rig->store);

	if (!batch)
		return;
	assert_int_equal(mvcc_backend_write(rig->backend, batch), 0);
	mvcc_batch_done(rig->store, batch);
	while (mvcc_trim(rig->store, 7))
		continue;
}

/* Opens the store anew from what the backend has; what is pending is lost. */
static inline void rig_restart(struct rig *rig)
{
	mvcc_free(rig->store);
	assert_int_equal(mvcc_backend_sync(rig->backend), 0);
	if (rig->bdb) {
		mvcc_backend_close(rig->backend);
		rig_open_backend(rig);
	}
	rig_open_store(rig);
}

static inline void rig_close(struct rig *rig)
{
	mvcc_free(rig->store);
	mvcc_backend_close(rig->backend);
	if (rig->bdb)
		dir_remove(rig->dir);
}

/* A read with as many fetches as it takes. */
static inline int rig_range(struct rig *rig, const struct mvcc_read *read,
			    struct mvcc_result *out)
{
	struct mvcc_fetch fetch;
	int r, rounds = 0;

	mvcc_fetch_init(&fetch);
	while ((r = mvcc_range(rig->store, read, &fetch, out)) == MVCC_COLD) {
		assert_int_equal(mvcc_backend_fetch(rig->backend, &fetch), 0);
		assert_true(rounds++ < 3);
	}
	mvcc_fetch_release(&fetch);
	return r;
}

static inline int rig_next(struct rig *rig, struct mvcc_watcher *watcher, size_t max,
			   struct mvcc_events *out)
{
	struct mvcc_fetch fetch;
	int r, rounds = 0;

	mvcc_fetch_init(&fetch);
	while ((r = mvcc_watch_next(rig->store, watcher, max, &fetch, out)) == MVCC_COLD) {
		assert_int_equal(mvcc_backend_fetch(rig->backend, &fetch), 0);
		assert_true(rounds++ < 8);
	}
	mvcc_fetch_release(&fetch);
	return r;
}

#endif
