/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A history of changes that is made from a seed, before any store is there, and what
 * a store must hold after each of its batches.
 *
 * A batch is some transactions of puts and deletions, now and then a compaction and
 * a part of its sweep, small records, and then a write of all that to the backend,
 * some with a sync. Its number is stored with it, as kvd stores the applied index.
 *
 * What must be there is known in two ways: from this file's own list of versions,
 * which knows nothing of libmvcc; and, for every byte that is stored, from the same
 * history in the backend in memory.
 */
#ifndef FAULT_MODEL_H
#define FAULT_MODEL_H

#include "libmvcc/mvcc.h"

struct model;

struct boundary {
	int64_t revision, compacted;	/* -1: never */
	size_t versions, ops;		/* so many of the lists belong to it */
	bool sync;
	uint64_t digest;		/* of all that the backend holds */
};

/* How far a run has come; in memory that the process which looks at it shares. */
struct progress {
	size_t started, written, synced;	/* batches */
	int error;
	const char *what;		/* which call is under way, or was the last */
	char why[512];
};

/* A store that a history is carried out on. */
struct session {
	struct mvcc_backend *backend;
	struct mvcc *store;
	struct progress *progress;	/* or NULL */
	int trace;			/* marks go there; -1: nowhere */
	int (*after_batch)(struct session *session, size_t batch);	/* or NULL */
	void *owner;			/* the test's own */
	const struct model *model;
};

enum verdict_kind {
	RIGHT,		/* the store is as it was after batch verdict.batch */
	REFUSED,	/* it says why it cannot be used */
	WRONG,		/* or crashed */
};

struct verdict {
	enum verdict_kind kind;
	size_t batch;
	int error;
	char text[640];
};

struct model *model_new(uint64_t seed, size_t batches);
void model_free(struct model *model);
size_t model_batches(const struct model *model);
const struct boundary *model_boundary(const struct model *model, size_t batch);

/* Opens the store in @dir, with small caches and log files. In memory, if @dir is NULL. */
int session_open(struct session *s, const struct model *model, const char *dir);
/* Closes it and opens it again; the backend in memory stays. After a batch. */
int session_reopen(struct session *s, const char *dir);
void session_close(struct session *s);
/* Whether a compaction is under way. */
bool session_compacts(const struct session *s);
/* Carries out the batches after @from, up to @to. */
int model_run(struct session *s, size_t from, size_t to);

/* What verify.c needs of the list of versions. */
struct version {
	int key;
	int64_t main, create, version, lease;
	uint32_t sub;
	bool tombstone;
};

#define MODEL_KEYS 60
#define NAME_MAX_BYTES 256
#define VALUE_MAX 20000

const struct version *model_versions(const struct model *model);
struct slice model_key(int key, uint8_t buf[NAME_MAX_BYTES]);
struct slice model_value(const struct version *v, uint8_t buf[VALUE_MAX]);
/* The number of the last batch that is stored; 0: none. */
size_t session_batch(const struct session *s);
#define DIGEST_EMPTY 1
/* Of everything that the backend holds. Negative errno. */
int backend_digest(struct mvcc_backend *backend, uint64_t *out);

/* Looks at everything in the store; true where it is as after batch @batch. */
bool session_right(struct session *s, size_t batch, struct verdict *out);
/*
 * Opens the store in @dir, looks at everything, and, with @carry_on, carries out the
 * rest of the history. In a process of its own, so that a crash is a verdict.
 */
void verify(const struct model *model, const char *dir, bool carry_on, struct verdict *out);

/* Memory that survives fork() and is shared. */
void *shared_memory(size_t size);
/* Runs @fn in a child; its status as wait() gives it. */
int in_child(void (*fn)(void *arg), void *arg);

/* A directory of the test's own, in memory where there is such a file system. */
const char *test_dir(void);

#endif
