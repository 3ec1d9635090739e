/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvd's core in libraft's place: its log on the simulated disk, its store in memory with
 * what would survive a crash beside it, clients, watches, and a model that says what
 * every answer must be.
 *
 *	kvd_node.c	a member: the core, its log thread, its store thread, its clock
 *	kvd_store.c	the store's disk
 *	kvd_client.c	requests, and what their answers are compared with
 *	kvd_watch.c	watches, which go on where they were when their member was not there
 *	kvd_model.c	what the log's entries make, carried out once for the whole group
 *
 * The model learns of an entry when the first member has applied it; from then on every
 * member must come to the same at that index, and every answer be of the model's.
 */
#ifndef TESTS_SIM_KVD_SIM_H
#define TESTS_SIM_KVD_SIM_H

#include "kvd/core_i.h"
#include "libmvcc/mvcc_i.h"
#include "tests/sim/sim.h"

#define KVD_KEYS 12
#define KVD_STEPS 3		/* operations in one branch of a transaction */
#define KVD_VALUE_MAX 5000
#define KVD_LEASES 6
#define KVD_WATCHES 4		/* of each member */
#define KVD_UNIT 1000000ull	/* nanoseconds in a hundredth of a tick */

/* --- text: what was answered, and what should have been ---------------------- */

struct text {
	char *data;
	size_t len, cap;
};

void __printf(2, 3) text_add(struct text *t, const char *format, ...);
void text_kv(struct text *t, const struct mvcc_kv *kv);

/* --- requests ------------------------------------------------------------------ */

enum kvd_step_kind { KVD_PUT, KVD_DELETE, KVD_RANGE };

/* One operation. Keys are numbers; @end is after the last of a range. */
struct kvd_step {
	enum kvd_step_kind kind;
	int key, end;
	uint64_t value;
	int64_t lease, limit, revision;
	bool prev, keys_only, count_only;
};

struct kvd_compare {
	int target, result, key;	/* as etcdserverpb has them */
	int64_t operand;
};

struct kvd_op {
	struct sim *sim;
	enum request_op op;
	struct kvd_step steps[2 * KVD_STEPS];	/* of a transaction: success, failure */
	size_t n_steps[2];
	struct kvd_compare compare;
	int64_t lease, ttl, revision;
	bool serializable, physical, probe;
	uint64_t id;			/* of the request */
	uint64_t node;
	uint64_t index;			/* where it is in the log; 0: not there yet */
	uint64_t read;			/* of s->oracle.reads, one more; 0 none */
	/* what it must not miss: as of when it was asked */
	int64_t floor, floor_compacted;
	uint64_t floor_index;
	uint64_t clocks[SIM_NODES];	/* of the members, when it was asked */
	char *expected;			/* the model's answer */
	struct request *answer;		/* until it is compared */
	struct kvd_op *next;		/* in kvd.asked */
	struct kvd_op *next_answer;
};

/* --- the model ----------------------------------------------------------------- */

struct kvd_version {
	int64_t main, sub, create, version, lease;
	int key;
	bool tombstone;
	uint64_t value;
};

struct kvd_lease {
	int64_t id, ttl;
	bool live;
	bool again;			/* granted more than once */
	uint64_t granted, revoked;	/* index of the entry; 0 never */
	uint64_t renewed[SIM_NODES];	/* by each member's clock: when it last began anew */
};

struct kvd_model {
	int64_t revision, compacted;
	uint64_t index;			/* of the last entry that it knows */
	struct kvd_version *history;	/* in order; nothing is ever removed */
	size_t n, cap;
	int64_t sub;			/* of the transaction under way */
	struct kvd_lease *leases;
	size_t n_leases, cap_leases;
	int64_t revision_at[SIM_INDEXES], compacted_at[SIM_INDEXES];
	/* what somebody was told: what is asked from now on must not miss it */
	int64_t told, told_compacted;
	uint64_t told_index;
};

void model_reset(struct kvd_model *m);
/* The entry that comes next, of the request @op (NULL: of the member's own). */
void model_apply(struct sim *s, uint64_t index, const struct raft_entry *e, struct kvd_op *op);
/* What a read of @op gives at @revision. */
void model_read(const struct kvd_model *m, const struct kvd_op *op, int64_t revision,
		struct text *out);
uint32_t model_hash(const struct kvd_model *m, int64_t revision, int64_t compacted,
		    bool compaction);
/* The newest of @key at @revision, a tombstone too; NULL none. */
const struct kvd_version *model_find(const struct kvd_model *m, int key, int64_t revision);
/* The first that is newer than @revision. */
size_t model_after(const struct kvd_model *m, int64_t revision);
void model_kv(const struct kvd_version *v, char value[KVD_VALUE_MAX], struct mvcc_kv *out);
struct kvd_lease *model_lease(struct kvd_model *m, int64_t id);

struct slice kvd_key(int key);
int kvd_key_number(struct slice key);
struct slice kvd_value(uint64_t id, char buf[KVD_VALUE_MAX]);

/* --- a member -------------------------------------------------------------------- */

struct kvd_job {
	struct kvd_job *next;
	struct core_batch *batch;	/* or */
	struct fetch_job *fetch;	/* or */
	struct hash_job *hash;
};

struct kvd_store {
	struct mvcc_backend *backend;	/* as the process sees it; NULL: it does not run */
	struct mvcc_backend *durable;	/* as of the last sync */
	struct mvcc_batch **written;	/* since then */
	size_t n_written, cap_written;
};

struct kvd_watch {
	struct sim_node *node;
	struct mvcc_watcher *watcher;	/* NULL: to be made, or made again */
	int key, end;
	bool prev, no_put, no_delete, fetching, ready;
	int64_t next;			/* the first revision that it has not been told of */
	int64_t from;			/* where it began; 0: it has not */
	struct mvcc_fetch fetch;
	struct fetch_job job;
};

struct kvd_member {
	struct core *core;
	struct mvcc *store;
	struct kvd_store disk;
	struct kvd_job *jobs, **jobs_end;
	uint64_t clock, clock_at;	/* nanoseconds, at that time of the simulation */
	struct kvd_watch watches[KVD_WATCHES];
};

struct kvd {
	struct kvd_model model;
	struct kvd_member members[SIM_NODES];
	struct kvd_op *asked;		/* all that were, newest first */
	struct kvd_op *answers, *last_answer;	/* to be compared when the turn is over */
	uint64_t next_value;
	int64_t next_lease;
};
extern struct kvd kvd;

static inline struct kvd_member *member_of(const struct sim_node *n)
{
	return &kvd.members[n->id];
}

/* Moves the member's clock on, and tells it. */
uint64_t member_clock(struct sim *s, struct sim_node *n);

void store_open(struct kvd_store *st);
/* In one transaction; a sync makes it durable, and all before it. */
void store_write(struct sim *s, struct kvd_store *st, const struct core_batch *batch);
void store_crash(struct sim *s, struct kvd_store *st);
void store_forget(struct kvd_store *st);
void store_release(struct kvd_store *st);

/* Compares what has been answered. */
void client_compare(struct sim *s);
struct kvd_op *client_find(uint64_t id);
void client_release(void);
void client_ask(struct sim *s, struct sim_node *n, struct kvd_op *op);
struct kvd_op *client_op(struct sim *s, enum request_op op);

void watch_deliver(struct sim *s, struct sim_node *n);
void watch_stop(struct sim_node *n);
void watch_check_end(struct sim *s, struct sim_node *n);

#endif
