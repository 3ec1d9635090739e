/* SPDX-License-Identifier: Apache-2.0 */
/* The core's insides, shared by core.c (turns), peers.c, propose.c, read.c, hash.c and
 * persist.c. */
#ifndef KVD_CORE_I_H
#define KVD_CORE_I_H

#include "kvd/core.h"

/* Entries committed but not applied, at the end of a turn, beyond which proposals are
 * refused, as etcd. */
#define APPLY_GAP_MAX 5000
/* Entries kept in the log below what the store holds, where there are members that may
 * lag; and the bytes of applied entries after which the store is made durable, so that
 * the log in memory stays small where entries are large. */
#define TRAILING_ENTRIES 5000
#define UNSYNCED_BYTES_MAX (16 << 20)
/* Keys whose history one turn may compact; a millisecond's work. */
#define COMPACT_SLICE 250
/* Values, and entries of the log, that one turn gives the memory of back beside twice what
 * it has brought; half a millisecond's work. */
#define TRIM_SLICE 1000
/* Keys that one turn looks at for a hash; hashes of compactions that are kept, as in
 * etcd; and clients that may wait for one. */
#define HASH_SLICE 1000
#define HASHES_KEPT 10
#define HASHES_ASKED_MAX 100
/* Clients that may wait for space to be given back. */
#define RECLAIMS_ASKED_MAX 100
/* Reads whose keys are looked for in memory at the same time. */
#define READS_AHEAD 16
/* A linearizable read that raft has not answered is asked for again, as in etcd. */
#define READ_RETRY 500000000ull
/* Leases revoked at most in one look at the clock, and how often that is. */
#define REVOKE_MAX 500
#define REVOKE_PERIOD 500000000ull
#define REVOKE_RETRY 3000000000ull
/* What this member tells of itself is proposed again where it was lost, as in etcd. */
#define PUBLISH_PERIOD 7000000000ull
/* An alarm is not proposed again before this much time has passed. */
#define ALARM_PERIOD 1000000000ull
#define ALARM_TYPES 3			/* etcdserverpb.AlarmType */
/* A batch is stored when it is this old (nanoseconds) or this large (changes). */
#define BATCH_AGE 100000000ull
#define BATCH_CHANGES 10000
/* Changes, and their bytes, beyond which nothing more is applied until a batch is
 * stored: what bounds a batch, and what holds puts back when the store is slow. */
#define UNSTORED_CHANGES_MAX 50000
#define UNSTORED_BYTES_MAX (64 << 20)

#define CLUSTER_VERSION "3.7.0"

struct core_hashes {
	struct list asked;		/* requests */
	struct list compactions;	/* hash_jobs of compactions, not begun */
	size_t n_asked, n_compactions;
	struct hash_job *job;		/* the one under way, */
	struct request *asked_by;	/* for whom; NULL: a compaction */
	uint64_t index;			/* the store must hold this entry first */
	uint64_t began;
	bool walked;			/* the index's part is done */
	bool out;			/* a slice is on the store thread */
	bool stopped;
	struct hash_answer kept[HASHES_KEPT];
	size_t n_kept;
};

enum reclaim_state {
	RECLAIM_NONE,
	RECLAIM_UNSTORED,		/* the next batch holds what is to be reclaimed, */
	RECLAIM_STORING,		/* and is out */
	RECLAIM_RUNNING,
};

struct core_reclaim {
	struct list asked, served;	/* requests, for the next run and for this one */
	size_t n_asked;
	bool wanted;			/* something was compacted */
	enum reclaim_state state;
	struct reclaim_job job;
	bool out;			/* it is on the store thread */
	bool stopped;
	uint64_t began;
};

struct core_scrub {
	uint64_t next;			/* when the next one begins; 0: not known yet */
	struct scrub_job job;
	bool running, due;		/* the next slice of it is */
	bool out;			/* it is on the store thread */
	bool stopped;
};

struct core {
	struct core_config config;
	struct raft *raft;
	struct raft_update update;
	struct raft_status status;	/* as of the last step */
	struct state state;
	uint64_t now;

	/* proposals */
	struct list proposals;		/* not yet given to raft */
	struct list proposed;		/* under way */
	struct htable by_id;		/* both, by request id */
	size_t n_pending;
	uint64_t next_id;
	uint64_t failed, leader_changes, last_leader;

	/* reads */
	struct list reads_new;		/* not yet given to raft */
	struct list reads_waiting;	/* for raft to confirm; request.id is the attempt */
	struct list reads_confirmed;	/* for request.index to be applied */
	uint64_t read_seq, next_read;	/* the last attempt's id; when to try again */

	/* applying */
	struct raft_entry *queue;	/* committed, not applied: from queue_at */
	size_t queue_at, queue_n, queue_cap;
	uint64_t applied, applied_term, reported;
	struct fetch_job apply_job;	/* what the entry at queue_at waits for */
	struct request *apply_scratch;	/* that entry's request where nobody here asked */
	bool apply_fetching;
	bool lagging;			/* the last turn left more than APPLY_GAP_MAX */
	struct list compacts;		/* physical compactions that wait for the last slice, */
	bool compacting;		/* and then for what it removed to be stored */
	uint64_t compaction_began;
	struct core_hashes hashes;
	struct core_reclaim reclaim;
	struct core_scrub scrub;

	/* going out */
	struct list messages;
	struct list appends;
	struct raft_hard_state hard_state;	/* the newest; in the log unless due */
	bool hard_state_due;
	struct list fetches;
	bool batch_out;
	struct list storing;		/* compactions whose removals are in that batch */
	uint64_t batch_since;		/* when the oldest unstored change was made; 0 none */
	uint64_t batch_index, batch_term;	/* applied index in the batch that is out */
	uint64_t stored, stored_term;	/* applied index in the store */
	uint64_t synced;		/* and durable there */
	uint64_t forget;		/* raft may forget the entries up to here */
	bool giving_back;		/* the last turn left memory to be given back */
	size_t unsynced_bytes;		/* of payloads applied since the last sync began */
	bool campaigned;

	uint64_t next_revoke, next_alarm[ALARM_TYPES];
	uint64_t next_publish;
	bool published;
};

/* Gives @request back with @error. */
void core_finish(struct core *core, struct request *request, const struct status *error);
/* The time at this moment; core->now is when the turn began. */
uint64_t core_clock(const struct core *core);

/* propose.c */
int core_propose(struct core *core);
void core_forget(struct core *core, struct request *request);
struct request *core_find_proposal(struct core *core, uint64_t id);
int core_look_at_leases(struct core *core);
void core_drop_revokes(struct core *core);
int core_publish(struct core *core);
void core_expire(struct core *core);

/* peers.c */
/* Takes the messages out of core->update: those that may go now, and those that wait for
 * its append. */
int core_queue_messages(struct core *core, struct core_messages **after);

/* read.c */
int core_ask_reads(struct core *core);
/* The leader is another one, which knows nothing of the reads that wait. */
void core_reask_reads(struct core *core);
void core_confirm_reads(struct core *core);
int core_run_reads(struct core *core);

/* hash.c */
void core_hash_init(struct core_hashes *hashes);
void core_submit_hash(struct core *core, struct request *request);
/* A compaction was applied; @previous: the compact revision before. */
int core_hash_compaction(struct core *core, int64_t previous);
/* Something is hashed, or to be, before history is freed. */
bool core_hashes_compaction(const struct core *core);
int core_run_hashes(struct core *core);
bool core_hash_busy(const struct core *core);
/* A hash waits for what is applied to be stored. */
bool core_hash_wants_batch(const struct core *core);
void core_stop_hashes(struct core *core);

/* reclaim.c */
void core_reclaim_init(struct core_reclaim *reclaim);
void core_submit_defragment(struct core *core, struct request *request);
/* History was freed. */
void core_reclaim_later(struct core *core);
void core_run_reclaim(struct core *core);
bool core_reclaim_busy(const struct core *core);
/* Somebody waits for what is pending to be stored. */
bool core_reclaim_wants_batch(const struct core *core);
void core_reclaim_batch_taken(struct core *core);
void core_reclaim_batch_stored(struct core *core);
void core_stop_reclaim(struct core *core);

/* scrub.c */
void core_scrub_tick(struct core *core);

/* persist.c */
/* There is room for what one more entry changes. */
bool core_may_apply(const struct core *core);
/* Takes @after. */
int core_queue_append(struct core *core, struct core_messages *after);
void core_append_free(struct core_append *append);
void core_note_applied(struct core *core);
/* Memory that is not needed any more goes back in slices. They are larger than what the turn
 * has brought, which is so many entries and changes: else busy turns would leave ever more. */
int core_give_back(struct core *core, size_t entries, size_t changes);

int core_step(struct core *core, const struct raft_event *event);

#endif
