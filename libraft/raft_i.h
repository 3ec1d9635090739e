/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of libraft share. Each group of declarations is one file.
 *
 * Invariants, checked by raft_check():
 *  1. base <= applied <= handed <= commit <= last (log_check).
 *  2. handed <= stored, unless a snapshot is on its way to disk.
 *  3. Terms in the log never fall, and none is above raft.term.
 *  4. Every voter and learner has exactly one progress; progress is sorted by id.
 *  5. For every progress of a leader: match < next <= last + 1 (a snapshot's next may
 *     be less than what the log begins with, never more than last + 1).
 *  6. A leader counts itself with what is stored, never with what is only appended.
 *
 * A function that can run out of memory returns int: 0 or -ENOMEM. After -ENOMEM the
 * structure is good for raft_free() and nothing else.
 */
#ifndef LIBRAFT_RAFT_I_H
#define LIBRAFT_RAFT_I_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "include/bug.h"
#include "libraft/raft.h"

/* Terms and indexes beyond these come from no honest member: they leave room for
 * "+ 1" everywhere, and 2^62 terms do not pass in the life of a cluster. */
#define RAFT_TERM_MAX (UINT64_MAX >> 2)
#define RAFT_INDEX_MAX (UINT64_MAX >> 2)
#define RAFT_READS_MAX 65536	/* reads that wait in a leader, its own and its peers' */
#define RAFT_CONTEXT_MAX 64	/* bytes of a message's context, and of a peer's read id */
#define RAFT_MEMBERS_MAX 256	/* ids in one set of a configuration */
#define RAFT_ENTRIES_MAX 16384	/* in one RAFT_MSG_APP, however small they are */

/* --- log.c: the log in memory, from the last compaction on ------------------- */

/* An append on its way to disk: when it is durable, so is the log up to stable.
 * stable is index until a later append overwrites part of this one. */
struct raft_append {
	uint64_t index, term;
	uint64_t stable;
};

struct raft_log {
	struct raft_entry *ring;	/* entry i is ring[i & (cap - 1)] */
	size_t cap;			/* 0 or a power of two */
	uint64_t base, base_term;	/* the entry before the first */
	uint64_t last;
	uint64_t commit;
	uint64_t stored;		/* durable up to here */
	uint64_t handed;		/* handed out in update.committed */
	uint64_t applied;
	uint64_t handed_bytes;		/* payload of (applied, handed] */
	uint64_t snapshot;		/* index of one on its way to disk; 0 none */
	struct raft_append *appends;	/* oldest first */
	size_t n_appends, cap_appends;
};

void log_release(struct raft_log *log);
const struct raft_entry *log_entry(const struct raft_log *log, uint64_t index);
/* False where the index is compacted away or beyond the end. */
bool log_term(const struct raft_log *log, uint64_t index, uint64_t *term);
uint64_t log_last_term(const struct raft_log *log);
bool log_matches(const struct raft_log *log, uint64_t index, uint64_t term);
bool log_up_to_date(const struct raft_log *log, uint64_t index, uint64_t term);
uint64_t log_find_conflict(const struct raft_log *log, uint64_t index, uint64_t term,
			   uint64_t *found_term);
/* Makes room for @n entries from @first on, dropping what the log and the update
 * hold there; then log_push() them one by one, which cannot fail. */
int log_begin(struct raft_log *log, struct raft_update *up, uint64_t first, size_t n);
void log_push(struct raft_log *log, struct raft_update *up, const struct raft_entry *e);
int log_load(struct raft_log *log, const struct raft_entry *entries, size_t n);
int log_restore(struct raft_log *log, struct raft_update *up, uint64_t index, uint64_t term);
bool log_stored(struct raft_log *log, uint64_t index, uint64_t term);
void log_applied(struct raft_log *log, uint64_t index);
void log_compact(struct raft_log *log, uint64_t index);
void log_check(const struct raft_log *log, uint64_t term);

static inline size_t entry_bytes(const struct raft_entry *e)
{
	return e->payload ? e->payload->len : 0;
}

/* --- progress.c: what a leader knows of each member -------------------------- */

enum progress_state {
	PROGRESS_PROBE,		/* one message at a time, to find where the logs meet */
	PROGRESS_REPLICATE,	/* messages follow each other without waiting */
	PROGRESS_SNAPSHOT,	/* nothing until a snapshot has arrived */
};

enum raft_vote { VOTE_NONE, VOTE_GRANTED, VOTE_REJECTED };

/* The last index of each message on its way; a ring. */
struct raft_inflights {
	uint64_t *index;
	size_t head, n, cap;
};

struct raft_progress {
	uint64_t id;
	uint64_t match, next;		/* match < next */
	uint64_t sent_commit;
	uint64_t pending_snapshot;
	uint64_t read_ack;		/* the last round of heartbeats it answered */
	enum progress_state state;
	enum raft_vote vote;
	bool recent_active;		/* heard of since the last quorum check */
	bool paused;
	bool learner;
	struct raft_inflights inflights;
};

struct raft_progress *progress_find(const struct raft *raft, uint64_t id);
int progress_insert(struct raft *raft, uint64_t id);
void progress_remove(struct raft *raft, uint64_t id);
void progress_release(struct raft_progress *pr);
void progress_reset(struct raft_progress *pr, uint64_t last);
void progress_become_probe(struct raft_progress *pr);
void progress_become_replicate(struct raft_progress *pr);
void progress_become_snapshot(struct raft_progress *pr, uint64_t index);
bool progress_is_paused(const struct raft_progress *pr);
bool progress_can_bump_commit(const struct raft_progress *pr, uint64_t commit);
int progress_sent(struct raft_progress *pr, size_t n_entries, size_t max_inflight);
bool progress_acked(struct raft_progress *pr, uint64_t index);
bool progress_rejected(struct raft_progress *pr, uint64_t rejected, uint64_t hint);
bool inflights_full(const struct raft_inflights *in);
void inflights_free_to(struct raft_inflights *in, uint64_t index);

/* --- quorum.c: majorities, pure arithmetic ----------------------------------- */

enum quorum_result { QUORUM_PENDING, QUORUM_LOST, QUORUM_WON };

struct quorum_ids {
	const uint64_t *ids;
	size_t n;
};

typedef uint64_t quorum_acked_fn(const void *arg, uint64_t id);
typedef enum raft_vote quorum_vote_fn(const void *arg, uint64_t id);

/* The largest index that a majority has acknowledged; UINT64_MAX for no ids, so
 * that the lesser of two halves is right for a joint configuration. */
uint64_t quorum_index(struct quorum_ids ids, quorum_acked_fn *acked, const void *arg);
enum quorum_result quorum_vote(struct quorum_ids ids, quorum_vote_fn *vote, const void *arg);
enum quorum_result quorum_joint(enum quorum_result a, enum quorum_result b);

/* --- conf.c: configurations and their changes -------------------------------- */

bool conf_has(const uint64_t *ids, size_t n, uint64_t id);
bool conf_is_joint(const struct raft_conf_state *conf);
bool conf_is_voter(const struct raft_conf_state *conf, uint64_t id);
bool conf_is_singleton(const struct raft_conf_state *conf, uint64_t id);
bool conf_is_valid(const struct raft_conf_state *conf);
int conf_copy(const struct raft_conf_state *conf, struct raft_conf_state *out);
/* @conf after @change, in @out; -EINVAL where the change is not allowed. The simple
 * form never goes through a joint configuration. */
int conf_change_simple(const struct raft_conf_state *conf, const struct raft_conf_change *change,
		       struct raft_conf_state *out);
int conf_change_apply(const struct raft_conf_state *conf, const struct raft_conf_change *change,
		      struct raft_conf_state *out);

/* --- read.c: linearizable reads ----------------------------------------------- */

struct raft_read_wait {
	uint64_t id;		/* of a read of this member */
	uint64_t from;		/* 0: this member's; else the peer that asks */
	struct blob *context;	/* the peer's id for it */
	uint64_t index;		/* commit when it was asked */
	uint64_t round;		/* confirmed with this round; 0: no commit in this term yet */
};

struct raft_reads {
	struct raft_read_wait *waiting;	/* in the order of their rounds, 0 last */
	size_t n, cap;
	uint64_t round;			/* the last one begun in this term */
	struct blob *round_context;	/* its number as it goes into a heartbeat */
	size_t round_pos;		/* of its first heartbeat in update.messages */
	uint64_t lease_round;		/* the one whose answers will extend the lease; 0 none */
	uint64_t lease_start;		/* tick at which it was begun */
	uint64_t lease_end;		/* the lease holds before this tick */
	bool lease_given_up;		/* another was told to stand for election */
};

/* --- the state itself ---------------------------------------------------------- */

struct raft {
	uint64_t id, term, vote, leader;
	enum raft_role role;
	struct raft_log log;
	struct raft_conf_state conf;
	uint64_t conf_index;		/* of the entry that made conf, where that is known */
	struct raft_progress *progress;	/* sorted by id */
	size_t n_progress, cap_progress;

	uint32_t election_ticks, heartbeat_ticks, lease_ticks;
	bool pre_vote, check_quorum;
	size_t max_message_bytes, max_inflight;
	uint64_t max_uncommitted_bytes, max_committed_bytes;

	uint64_t random;		/* state of the generator */
	uint64_t ticks;			/* since it was made */
	uint64_t heard;			/* tick of a leader's last message, or 0 */
	uint32_t election_elapsed, heartbeat_elapsed;
	uint32_t election_timeout;	/* election_ticks .. 2 * election_ticks - 1 */

	/* of a leader */
	uint64_t term_start;		/* index of the first entry of its term */
	bool elected_alone;		/* by its own vote, which may not be stored yet */
	uint64_t transferee;		/* leadership goes there; 0 no transfer */
	uint64_t pending_conf;		/* no change before this index is applied */
	uint64_t no_change_to;		/* nor is there one up to here that is not in force */
	uint64_t uncommitted_bytes;
	struct raft_reads reads;

	/* what the caller knows from earlier updates */
	struct raft_hard_state handed_hard_state;
	struct {
		enum raft_role role;
		uint64_t leader, term;
	} handed_soft_state;
	uint64_t messages_rejected;
};

/* update.c */
int vec_reserve(void *array, size_t *cap, size_t need, size_t size);
int raft_send(struct raft *raft, struct raft_update *up, struct raft_message *m);
int entries_copy(const struct raft_entry *from, size_t n, struct raft_entry **out);
void update_truncate(struct raft_update *up, uint64_t index);
int update_finish(struct raft *raft, struct raft_update *up);
void message_release(struct raft_message *m);
struct blob *blob_of_u64_le(uint64_t v);
struct blob *blob_of_u64_be(uint64_t v);

/* message.c: whether what a peer sent makes sense by itself */
bool message_is_valid(const struct raft *raft, const struct raft_message *m);

/* election.c */
void become_follower(struct raft *raft, uint64_t term, uint64_t leader);
bool raft_is_promotable(const struct raft *raft);
bool owes_lease(const struct raft *raft);
int raft_tick(struct raft *raft, struct raft_update *up);
int raft_hup(struct raft *raft, struct raft_update *up, bool transfer);
int handle_vote_request(struct raft *raft, struct raft_update *up, const struct raft_message *m);
int handle_vote_response(struct raft *raft, struct raft_update *up,
			 const struct raft_message *m);
uint32_t election_timeout_draw(struct raft *raft);

/* replication.c: the leader's side */
int leader_propose(struct raft *raft, struct raft_update *up, const struct raft_entry *entries,
		   size_t n);
int leader_append_empty(struct raft *raft, struct raft_update *up, enum raft_entry_type type);
int send_append(struct raft *raft, struct raft_update *up, struct raft_progress *pr,
		bool even_empty, bool *sent);
int broadcast_append(struct raft *raft, struct raft_update *up, bool even_empty);
int broadcast_heartbeat(struct raft *raft, struct raft_update *up);
int leader_maybe_commit(struct raft *raft, struct raft_update *up, bool *advanced);
int handle_append_response(struct raft *raft, struct raft_update *up,
			   const struct raft_message *m);
int handle_heartbeat_response(struct raft *raft, struct raft_update *up,
			      const struct raft_message *m);
int leader_stored(struct raft *raft, struct raft_update *up);
void raft_commit_to(struct raft *raft, uint64_t index);
bool leader_committed_in_term(const struct raft *raft);

/* append.c: the follower's side */
int handle_append(struct raft *raft, struct raft_update *up, const struct raft_message *m);
int handle_heartbeat(struct raft *raft, struct raft_update *up, const struct raft_message *m);

/* read.c */
int raft_read(struct raft *raft, struct raft_update *up, uint64_t id);
int handle_read_index(struct raft *raft, struct raft_update *up, const struct raft_message *m);
int handle_read_index_response(struct raft *raft, struct raft_update *up,
			       const struct raft_message *m);
int reads_release_waiting(struct raft *raft, struct raft_update *up);
int reads_confirm(struct raft *raft, struct raft_update *up);
bool lease_holds(const struct raft *raft);
int leader_heartbeat(struct raft *raft, struct raft_update *up);
void reads_reset(struct raft_reads *reads);

/* snapshot.c */
int send_snapshot(struct raft *raft, struct raft_update *up, struct raft_progress *pr);
int handle_snapshot(struct raft *raft, struct raft_update *up, const struct raft_message *m);
void snapshot_reported(struct raft *raft, uint64_t id, bool failed);
void snapshot_meta_free(struct raft_snapshot_meta *meta);
int snapshot_meta_copy(const struct raft_snapshot_meta *from, struct raft_snapshot_meta **out);

/* transfer.c */
int transfer_leader(struct raft *raft, struct raft_update *up, uint64_t to);
int transfer_caught_up(struct raft *raft, struct raft_update *up, struct raft_progress *pr);

/* member.c: the configuration in force */
uint64_t raft_next_change(struct raft *raft);
void raft_commit_changes(struct raft *raft);
int raft_conf_switch(struct raft *raft, struct raft_conf_state *conf);
int raft_conf_applied(struct raft *raft, struct raft_update *up,
		      const struct raft_event *event);
bool conf_change_is_refused(const struct raft *raft, const struct raft_entry *e);
int raft_auto_leave(struct raft *raft, struct raft_update *up);
uint64_t raft_quorum_index(const struct raft *raft, quorum_acked_fn *acked);
enum quorum_result raft_quorum_vote(const struct raft *raft, quorum_vote_fn *vote);

#endif
