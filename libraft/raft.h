/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libraft: the Raft consensus algorithm as one pure function.
 *
 *	raft_step(raft, event, update)
 *
 * An event tells what happened: a tick of the clock, a message from a peer, a
 * proposal, "your log is durable up to here". The update tells what is to be done
 * about it: entries to append, messages to send, entries to apply. Nothing else
 * goes in or out: libraft reads no clock, touches no disk or socket, starts no
 * thread, logs nothing and draws no random number (the caller hands it a seed).
 *
 * Calling sequence. An update gathers the work of one turn:
 *
 *	raft_update_init(&up);				once
 *	raft_step(raft, &ev1, &up); raft_step(raft, &ev2, &up); ...
 *	if (raft_update_pending(&up)) {
 *		1. send up.messages at once
 *		2. store up.snapshot, then append up.entries (first dropping what the
 *		   log holds at and above entries[0].index), then up.hard_state; sync
 *		   when up.must_sync; all of it in the order of the updates
 *		3. when that is durable: send up.after_store, and step a RAFT_STORED
 *		   event with the index and term of the last entry
 *		4. apply up.committed in order, then step RAFT_APPLIED
 *		raft_update_clear(&up);
 *	}
 *
 * 1, 2 and 4 may run side by side, and several updates may be on their way to
 * disk at once. Followers are sent entries while the leader's own sync is under way;
 * a member counts itself only after its own RAFT_STORED. Only entries that are
 * durable locally are handed out in committed, and no more than max_committed_bytes
 * of them before RAFT_APPLIED says that earlier ones are done.
 *
 * Every update with entries or a snapshot gets one RAFT_STORED, in the order of the
 * updates; of one with a snapshot alone, with the snapshot's index and term. What is
 * in after_store waits for all earlier updates as well as for its own, also where its
 * own has nothing to store. (A candidate's requests for votes are there: they say that
 * it has voted for itself.)
 *
 * Configuration changes. The payload of such an entry is a raftpb.ConfChange or
 * ConfChangeV2; the caller decodes it. When it applies one it steps RAFT_CONF_APPLIED
 * with the entry's index, then RAFT_APPLIED as for any entry. A change that the caller
 * refuses is stepped with no changes outside a joint configuration, or at any time with
 * conf_change NULL or with every node_id 0: nothing happens then. No changes while the
 * configuration is joint: it is left. -EINVAL, and the configuration stays, where the
 * change is not allowed (it would remove the last voter, or change two voters without
 * a joint configuration); it is then so on every member. Every such entry is stepped:
 * a leader commits what follows it only once it is in force.
 *
 * Reads. An id comes back in update.reads once; to a follower, which asks its leader,
 * once more where the network repeats a message. Reads that wait when a leader loses its
 * role, and those whose messages are lost, are forgotten: when there is no answer, ask
 * again with another id, never with the same, nor with one that was used before a
 * restart: an answer that is still on its way would be taken for the new one. A peer
 * can name ids that nobody asked for: look them up.
 *
 * Lease reads (lease_ticks, off by default; the same on all members). A leader whose
 * heartbeat a majority has answered serves reads without another round for that many
 * ticks from when the heartbeat went out, because the majority elects nobody else for
 * election_ticks: it neither votes nor, told to by RAFT_CAMPAIGN, stands for election,
 * also after a restart, and RAFT_FORGET_LEADER does nothing. This trusts the clocks:
 * lease_ticks ticks of one member must take no longer than election_ticks - 1 ticks of
 * any other, and ticks that a pause has swallowed are stepped before anything else.
 *
 * Snapshots. RAFT_MSG_SNAP names what raft knows to be applied; the caller sends its
 * own store at that index or a later one, puts that one's index, term and
 * configuration into the message, and reports how it went with RAFT_SNAPSHOT_SENT or
 * RAFT_SNAPSHOT_FAILED. The receiver steps the message when it has all bytes;
 * update.snapshot says to install them. Entries still being applied from earlier
 * updates are part of it.
 *
 * Ownership. Payloads are blobs (include/blob.h). An entry in an event is borrowed:
 * raft takes a reference of its own to what it keeps. The arrays in an update
 * belong to the update, and each entry and message in them holds its own reference
 * to its payload; they live until raft_update_clear(). A caller that needs them
 * longer (the log thread) moves the array out: take the pointer, set it and its
 * count to zero, later raft_entries_free() / raft_messages_free(). Entries are moved
 * out in the same turn in which the update is cleared, not before.
 *
 * Errors. Negative errno: -ENOMEM (the raft is then unusable: end the process).
 * Outcomes of a proposal or a read are positive, enum raft_outcome. A message from
 * the network can never make an assertion fail: one that makes no sense is dropped
 * and counted in raft_status.messages_rejected.
 *
 * Source: Ongaro, "Consensus: Bridging Theory and Practice" (the thesis); names and
 * messages as raftpb has them, so that etcd's own members can be peers.
 */
#ifndef LIBRAFT_RAFT_H
#define LIBRAFT_RAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/blob.h"

struct raft;

enum raft_outcome {
	RAFT_DROPPED = 1,	/* no leader, or it may not take proposals now: try later */
	RAFT_TOO_MUCH,		/* max_uncommitted_bytes is reached */
};

/* Values as raftpb.EntryType. */
enum raft_entry_type {
	RAFT_ENTRY_NORMAL = 0,
	RAFT_ENTRY_CONF_CHANGE = 1,
	RAFT_ENTRY_CONF_CHANGE_V2 = 2,
};

struct raft_entry {
	uint64_t term;
	uint64_t index;
	enum raft_entry_type type;
	struct blob *payload;		/* NULL: empty (a new leader's first entry) */
};

/* raftpb.HardState: what must survive a crash beside the log. */
struct raft_hard_state {
	uint64_t term;
	uint64_t vote;			/* member voted for in term; 0 none */
	uint64_t commit;
};

/* raftpb.ConfState. Arrays are sorted, without repetition, and owned by whoever
 * holds the structure. */
struct raft_conf_state {
	uint64_t *voters, *learners, *voters_outgoing, *learners_next;
	size_t n_voters, n_learners, n_voters_outgoing, n_learners_next;
	bool auto_leave;
};

/* raftpb.ConfChangeType. */
enum raft_conf_change_type {
	RAFT_CONF_ADD_NODE = 0,
	RAFT_CONF_REMOVE_NODE = 1,
	RAFT_CONF_UPDATE_NODE = 2,
	RAFT_CONF_ADD_LEARNER = 3,
};

enum raft_conf_transition {
	RAFT_CONF_AUTO = 0,
	RAFT_CONF_JOINT_IMPLICIT = 1,
	RAFT_CONF_JOINT_EXPLICIT = 2,
};

struct raft_conf_single {
	enum raft_conf_change_type type;
	uint64_t node_id;
};

struct raft_conf_change {
	enum raft_conf_transition transition;
	const struct raft_conf_single *changes;
	size_t n_changes;
};

/* Values as raftpb.MessageType; those that never cross the network are events. */
enum raft_message_type {
	RAFT_MSG_PROP = 2,
	RAFT_MSG_APP = 3,
	RAFT_MSG_APP_RESP = 4,
	RAFT_MSG_VOTE = 5,
	RAFT_MSG_VOTE_RESP = 6,
	RAFT_MSG_SNAP = 7,
	RAFT_MSG_HEARTBEAT = 8,
	RAFT_MSG_HEARTBEAT_RESP = 9,
	RAFT_MSG_TRANSFER_LEADER = 13,
	RAFT_MSG_TIMEOUT_NOW = 14,
	RAFT_MSG_READ_INDEX = 15,
	RAFT_MSG_READ_INDEX_RESP = 16,
	RAFT_MSG_PRE_VOTE = 17,
	RAFT_MSG_PRE_VOTE_RESP = 18,
};

struct raft_snapshot_meta {
	uint64_t index, term;
	struct raft_conf_state conf;
};

/* raftpb.Message. */
struct raft_message {
	enum raft_message_type type;
	uint64_t to, from, term;
	uint64_t log_term, index;	/* the entry before entries; of a reply, what it answers */
	uint64_t commit;
	uint64_t reject_hint;
	bool reject;
	struct raft_entry *entries;
	size_t n_entries;
	struct blob *context;		/* read ids, "CampaignTransfer"; NULL none */
	struct raft_snapshot_meta *snapshot;	/* RAFT_MSG_SNAP only */
};

/* When a linearizable read with id may be served: once index is applied. */
struct raft_read {
	uint64_t id;
	uint64_t index;
};

enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER };

enum raft_event_type {
	RAFT_TICK,		/* one tick of the caller's clock has passed */
	RAFT_CAMPAIGN,		/* stand for election now */
	RAFT_RECEIVE,		/* message: from a peer, borrowed */
	RAFT_PROPOSE,		/* entries, n_entries: type and payload matter; borrowed */
	RAFT_READ,		/* id: a linearizable read waits; answered in update.reads */
	RAFT_STORED,		/* index, term: the append that ended there is durable */
	RAFT_APPLIED,		/* index: applied up to here */
	RAFT_CONF_APPLIED,	/* conf_change, index: a committed change takes effect now */
	RAFT_COMPACT,		/* index: entries at and below may be forgotten */
	RAFT_TRANSFER,		/* id: that member should lead */
	RAFT_UNREACHABLE,	/* id: a message to that member was lost */
	RAFT_SNAPSHOT_SENT,	/* id: the snapshot has arrived there */
	RAFT_SNAPSHOT_FAILED,	/* id: it has not */
	RAFT_FORGET_LEADER,	/* the leader is known to be gone: vote for another */
};

struct raft_event {
	enum raft_event_type type;
	uint64_t index, term, id;
	const struct raft_message *message;
	const struct raft_entry *entries;
	size_t n_entries;
	const struct raft_conf_change *conf_change;	/* of RAFT_CONF_APPLIED */
};

struct raft_update {
	struct raft_message *messages;		/* send now */
	size_t n_messages, cap_messages;
	struct raft_message *after_store;	/* send when this update is durable */
	size_t n_after_store, cap_after_store;
	struct raft_entry *entries;		/* append to the log */
	size_t n_entries, cap_entries;
	struct raft_entry *committed;		/* apply */
	size_t n_committed, cap_committed;
	struct raft_read *reads;		/* may be served once applied */
	size_t n_reads, cap_reads;
	struct raft_snapshot_meta *snapshot;	/* install before entries; NULL none */
	struct raft_hard_state hard_state;
	bool hard_state_changed;
	bool must_sync;				/* entries, or term or vote, changed */
	bool role_changed;			/* role, leader or term: see raft_status() */
};

struct raft_config {
	uint64_t id;			/* this member; never 0 */
	uint64_t seed;			/* of the election timeout's spread */
	uint32_t election_ticks;	/* follower waits 1x to 2x this; > heartbeat_ticks */
	uint32_t heartbeat_ticks;
	bool pre_vote, check_quorum;
	uint32_t lease_ticks;		/* 0: no lease reads; else < election_ticks, and
					   check_quorum is set */
	size_t max_message_bytes;	/* payload of one RAFT_MSG_APP */
	size_t max_inflight;		/* messages on their way to one follower */
	uint64_t max_uncommitted_bytes;	/* 0: no limit */
	uint64_t max_committed_bytes;	/* payload handed out and not yet RAFT_APPLIED;
					   one entry always is; 0: no limit */

	/* What was found on disk: all zero on a new member. */
	struct raft_hard_state hard_state;
	struct raft_snapshot_meta snapshot;	/* the log begins after snapshot.index;
						   conf is the configuration at applied */
	uint64_t applied;			/* >= snapshot.index */
	const struct raft_entry *entries;	/* the log from snapshot.index + 1; borrowed */
	size_t n_entries;
};

struct raft_status {
	enum raft_role role;
	uint64_t id, term, vote, leader;	/* leader 0: none known */
	uint64_t commit, applied, first_index, last_index, stored;
	uint64_t transferee;			/* of a leader: where leadership goes; 0 */
	bool learner;				/* this member does not vote */
	bool lease;				/* of a leader: reads need no round now */
	uint64_t messages_rejected;
};

/* What a leader knows of a member. */
struct raft_member {
	uint64_t match;		/* it has stored the log up to here */
	bool learner;
	bool active;		/* heard of within the last two election timeouts */
	bool snapshot;		/* it waits for a snapshot */
};

/* -ENOMEM, or -EINVAL where the configuration or what came from disk is not
 * consistent (raft_strerror_open() is not needed: @why points to a constant text). */
int raft_new(const struct raft_config *config, struct raft **out, const char **why);
void raft_free(struct raft *raft);

int raft_step(struct raft *raft, const struct raft_event *event, struct raft_update *update);

void raft_status(const struct raft *raft, struct raft_status *out);
/* False where this member does not lead, or @id is none of the group. */
bool raft_member(const struct raft *raft, uint64_t id, struct raft_member *out);

/* The configuration in force, copied; release with raft_conf_state_release(). */
int raft_conf_state(const struct raft *raft, struct raft_conf_state *out);
void raft_conf_state_release(struct raft_conf_state *conf);

void raft_update_init(struct raft_update *update);
bool raft_update_pending(const struct raft_update *update);
void raft_update_clear(struct raft_update *update);
void raft_update_release(struct raft_update *update);
void raft_entries_free(struct raft_entry *entries, size_t n);
void raft_messages_free(struct raft_message *messages, size_t n);

/* Walks the whole structure; BUG() where it contradicts itself. For tests. */
void raft_check(const struct raft *raft);

/* Text for logs and golden tests: writes at most size bytes, 0-terminated, and
 * returns the length it would have had (as snprintf). */
int raft_message_to_text(const struct raft_message *m, char *buf, size_t size);
int raft_entry_to_text(const struct raft_entry *e, char *buf, size_t size);
const char *raft_role_to_text(enum raft_role role);

#endif
