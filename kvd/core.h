/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core of a member: consensus, the replicated state, and the requests between
 * them. An object without I/O, threads or clocks: kvd gives it a loop, disks and
 * sockets, a simulator can give it seeded ones.
 *
 * In go	requests (core_submit), messages from peers, ticks, time, "this append is
 *		logged", "this batch is stored", "these values are fetched"
 * Out come	messages to peers; appends for the log thread; batches, fetches, slices of
 *		hashes and of reclaiming for the store thread; and each request's done()
 *
 * One turn is one batch:
 *
 *	core_submit() ... core_receive() ... core_appended() ...	what came in
 *	core_turn(core, now)						everything is done
 *	while (core_take_messages/append/fetch/hash/reclaim/batch) ...	what goes out
 *
 * A put: core_submit -> raft -> append out; core_appended -> raft commits -> applied
 * -> done(). A linearizable read: core_submit -> raft confirms -> when that index is
 * applied -> done().
 *
 * Errors: a negative errno from core_turn() is final; end the process.
 */
#ifndef KVD_CORE_H
#define KVD_CORE_H

#include "kvd/request.h"
#include "kvd/state.h"
#include "libraft/raft.h"

struct core;

struct core_config {
	uint64_t member_id, cluster_id;
	uint64_t seed;			/* of request ids and election timeouts */
	uint32_t election_ticks, heartbeat_ticks;
	uint64_t tick;			/* nanoseconds */
	uint64_t (*clock)(void);	/* for figures alone; NULL: turns take no time */
	uint64_t snapshot_count;	/* entries applied between two syncs of the store */
	uint64_t scrub_period;		/* nanoseconds between two scrubs of it; 0: none */
	int64_t quota;			/* bytes; negative: none; 0: 2 GiB */
	const char *name;		/* this member's, and its client URLs: published */
	char *const *client_urls;
	size_t n_client_urls;

	/* From the log: entries after what the store holds, at the latest. Earlier ones are
	 * for members that lag; then log_term is that of the entry before them. Borrowed. */
	struct raft_hard_state hard_state;
	uint64_t log_term;
	const struct raft_entry *entries;
	size_t n_entries;
};

/* For the network: messages to peers, in order. They may be lost, repeated and overtaken:
 * raft asks again. Belongs to the taker; core_messages_free(). */
struct core_messages {
	struct list node;
	struct raft_message *messages;
	size_t n;
};

/* For the log thread: append, sync where it says so, then give it back, in order. */
struct core_append {
	struct list node;
	struct core_messages *after;	/* the core's own: what this append lets go out */
	struct raft_entry *entries;
	size_t n_entries;
	struct raft_hard_state hard_state;
	bool has_hard_state, sync;
	/* The store is durable up to here: note it in the log, remove what is below
	 * release_index. index 0: no. */
	struct raft_snapshot_meta snapshot;
	uint64_t release_index;
	/* The log thread: how long the write and the sync took (0: there was none), and
	 * what it has written since the start. */
	uint64_t write_ns, sync_ns, written;
};

/* For the store thread: write, sync where it says so, then give it back. */
struct core_batch {
	struct mvcc_batch *batch;
	bool sync;
	struct mvcc_backend_size size;	/* the store thread fills it, */
	uint64_t commit_ns;		/* and how long it took */
};

/* For the store thread: hash one slice, and then give it back. */
struct hash_job {
	struct list node;
	struct mvcc_hash hash;
	uint32_t crc;			/* of what is hashed so far */
	bool more;			/* the store thread says so */
};

/* For the store thread: give back the space of some of what was removed, then give this
 * back. */
struct reclaim_job {
	struct mvcc_backend_size size;	/* the store thread fills it, */
	bool more;			/* and says so */
};

/* For the store thread: read some of the store back, then give this back. */
struct scrub_job {
	struct mvcc_scrub scrub;	/* begins zeroed */
	bool more, damaged;		/* the store thread says so */
};

/* What a store says of itself: the entry that it holds everything up to, and in whose log
 * that is; zeroes in a new one. */
struct core_applied {
	uint64_t index, term, cluster_id;
};
struct core_applied core_applied_in(const struct mvcc *store);

/* @store is borrowed. *@why is a constant text. */
int core_open(const struct core_config *config, struct mvcc *store, struct core **out,
	      const char **why);
/* Requests under way end with status_stopped. */
void core_close(struct core *core);

uint64_t core_request_id(struct core *core);
/* Takes @request; its done() comes during a turn. */
void core_submit(struct core *core, struct request *request);
/* Proposes an alarm (etcdserverpb.AlarmType) of this member's, once a second at most:
 * until it is applied every request that does not fit asks for it. */
void core_raise_alarm(struct core *core, int type);
/* A proposal that nobody waits for. */
int core_propose_own(struct core *core, enum request_op op, const ProtobufCMessage *message);
/* Takes a fetch of somebody else's (a watcher's); its done() comes during a turn. */
void core_submit_fetch(struct core *core, struct fetch_job *job);

/* One tick of raft's clock. */
int core_tick(struct core *core, uint64_t now);
int core_turn(struct core *core, uint64_t now);
/* The member stops: what can go on after the next start, the freeing of compacted
 * history, is left for then; hashes and reclaiming end. */
void core_wind_down(struct core *core);
/* There is more to do without waiting for anything. */
bool core_busy(const struct core *core);

/* A message from a peer; borrowed. */
int core_receive(struct core *core, const struct raft_message *message);
/* Messages to that member were lost: it is sent less until it answers. */
int core_unreachable(struct core *core, uint64_t member_id);
/* NULL: there are none. */
struct core_messages *core_take_messages(struct core *core);
void core_messages_free(struct core_messages *messages);

struct core_append *core_take_append(struct core *core);
int core_appended(struct core *core, struct core_append *append);
struct fetch_job *core_take_fetch(struct core *core);
void core_fetched(struct core *core, struct fetch_job *job);
/* The next slice of a hash. At most one is out at a time. */
struct hash_job *core_take_hash(struct core *core);
void core_hashed(struct core *core, struct hash_job *job);
/* The same of reclaiming. */
struct reclaim_job *core_take_reclaim(struct core *core);
void core_reclaimed(struct core *core, struct reclaim_job *job);
/* And of a scrub; a slice a tick. */
struct scrub_job *core_take_scrub(struct core *core);
void core_scrubbed(struct core *core, struct scrub_job *job);
/* NULL: nothing is due. At most one is out at a time. */
struct core_batch *core_take_batch(struct core *core, uint64_t now, bool all);
void core_stored(struct core *core, struct core_batch *batch);

struct core_status {
	struct raft_status raft;
	uint64_t applied;
	size_t pending;			/* proposals that are not applied */
	uint64_t proposals_failed, leader_changes;
	bool published;			/* the cluster knows this member's client URLs */
};
void core_status(const struct core *core, struct core_status *out);
const struct core_config *core_config(const struct core *core);
struct state *core_state(struct core *core);
bool core_is_leader(const struct core *core);

#endif
