/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A group of members in one process, driven by one seed: network, disks, clocks and
 * clients are simulated, and every choice is drawn from one generator, so that the same
 * seed takes the same steps. Nothing here reads a clock or a pointer's value.
 *
 *	world.c		time: the events to come, in their order; draws; the trace
 *	net.c		messages under way, and what happens to them
 *	disk.c		a member's log
 *	node.c		a member: libraft and a state machine
 *	client.c	what clients ask for
 *	chaos.c		which faults strike when, and what operators ask for
 *	calm.c		the faults stop: what must get done then
 *	check.c		what Raft promises, checked after every step
 *
 *	run.c		the program: which seeds; what a failure shows
 *
 * Whatever else has a raft inside takes the place of node.c and client.c by offering
 * the same functions: kvd's whole core does (kvd_sim.h).
 *
 * Time is counted in hundredths of a tick. Ids are 1 .. SIM_NODES - 1.
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include "libraft/raft.h"

#define SIM_NODES 10
#define SIM_INDEXES 16384
#define SIM_TERMS 4096
#define SIM_TICK 100
#define SIM_ELECTION_TICKS 10

/* What can be counted; a run of many seeds must have seen each. */
enum sim_class {
	SIM_LOSS, SIM_DUPLICATE, SIM_REORDER, SIM_LATE, SIM_ONE_WAY, SIM_LINKS, SIM_SPLIT,
	SIM_ISOLATE, SIM_BRIDGE, SIM_RING, SIM_CRASH, SIM_CRASH_ALL, SIM_LOST_WRITE,
	SIM_TORN_WRITE, SIM_DISK_ERROR, SIM_LOST_COMMIT, SIM_LOST_APPLY, SIM_SLOW_DISK, SIM_STALL,
	SIM_PAUSE, SIM_DRIFT, SIM_CLOCK_LEAP, SIM_CLOCK_STOP, SIM_SINGLE_CHANGE, SIM_JOINT_AUTO,
	SIM_JOINT_IMPLICIT, SIM_JOINT_EXPLICIT, SIM_JOINT_LEFT, SIM_LEARNER, SIM_PROMOTED,
	SIM_DEMOTED, SIM_REMOVED, SIM_TRANSFER, SIM_TRANSFERRED, SIM_FORGET_LEADER, SIM_CAMPAIGN,
	SIM_COMPACT, SIM_SNAPSHOT, SIM_SNAPSHOT_LOST, SIM_INSTALLED, SIM_READ, SIM_READ_ANSWERED,
	SIM_READ_LEASED,
	SIM_ELECTION, SIM_COMMIT, SIM_QUORUM_CALM, SIM_ALL_CALM, SIM_LATER_LOSS, SIM_TRANSFER_CALM,
	SIM_KV_WRITE, SIM_KV_READ, SIM_KV_REFUSED, SIM_KV_UNKNOWN, SIM_KV_COMPACT, SIM_KV_EXPIRED,
	SIM_KV_RENEWED, SIM_KV_HASH, SIM_KV_EVENT, SIM_KV_RESUMED, SIM_KV_LAG, SIM_KV_CUT,
	SIM_KV_FETCH, SIM_KV_SYNC, SIM_KV_BATCH_KEPT, SIM_KV_BATCH_LOST, SIM_KV_LOG_CUT,
	SIM_CLASSES
};

enum sim_kind {
	SIM_EV_TICK,		/* node: its clock */
	SIM_EV_TURN,		/* node: hands out what it has gathered */
	SIM_EV_DISK,		/* node: its oldest write is durable */
	SIM_EV_APPLY,		/* node: applies some of what is committed */
	SIM_EV_STORE,		/* node: what is applied is durable */
	SIM_EV_RESTART,		/* node */
	SIM_EV_MESSAGE,		/* node: message arrives */
	SIM_EV_REPORT,		/* node: report about peer */
	SIM_EV_CLIENT, SIM_EV_CHAOS,
};

struct sim_event {
	uint64_t time, order;
	enum sim_kind kind;
	uint64_t node;
	uint64_t life;		/* of the node: events of an earlier one are void */
	struct raft_message *message;
	enum raft_event_type report;
	uint64_t peer;
};

/* One update on its way to disk. */
struct sim_write {
	struct raft_entry *entries;
	size_t n_entries;
	struct raft_hard_state hard_state;
	bool hard_state_changed, sync;
	struct raft_snapshot_meta *snapshot;
	struct raft_message *after_store;
	size_t n_after_store;
	void *owner;				/* the member's, and what frees it */
	void (*release)(void *owner);
	struct sim_write *next;
};

/* What has been applied: here only where, and the configuration there. */
struct sim_machine {
	uint64_t applied;
	struct raft_conf_state conf;
};

struct sim_disk {
	struct raft_hard_state hard_state;	/* written */
	struct raft_hard_state synced;		/* and would survive */
	uint64_t base, base_term;
	struct raft_entry *entries;		/* from base + 1 on */
	size_t n_entries;
	struct sim_machine machine;
};

struct sim_node {
	uint64_t id;
	struct raft *raft;			/* NULL: down */
	struct raft_config config;
	struct raft_update up;
	bool turn_comes, apply_comes, store_comes;
	uint64_t life, paused_until, tick;
	uint64_t stopped_until;			/* its clock, not the member */
	struct sim_disk disk;
	struct sim_machine machine;
	struct sim_write *writes, **writes_end;
	size_t snapshots_under_way;
	struct raft_entry *committed;		/* to be applied */
	size_t n_committed;

	/* what check.c knows of it */
	struct raft_status was;
	uint64_t terms[SIM_INDEXES];		/* of its log */
	bool changes[SIM_INDEXES];		/* its log changes the configuration there */
};

struct sim_profile {
	uint32_t loss, duplicate, late, disk_error;	/* per thousand */
	uint64_t delay, late_delay, disk_delay, apply_delay, chaos_every, client_every;
	uint64_t size;				/* voters at first */
	uint64_t pool;				/* ids that may be members */
	uint64_t drift;				/* hundredths of a tick */
	bool changes;				/* of the membership */
	bool eager;				/* one after the other */
	bool lease;				/* reads are served under one */
	uint32_t weights[32];			/* of the actions of chaos.c */
};

struct sim_read_asked {
	uint64_t node, life, floor;
	bool answered;
};

/* An entry that some log held: those with the same index and term are the same. */
struct sim_entry_seen {
	uint64_t term, before, digest;
	uint32_t next;
};

struct sim_oracle {
	uint64_t leader[SIM_TERMS];
	uint64_t vote[SIM_NODES][SIM_TERMS];
	struct {
		uint64_t term;		/* of the entry; 0: not committed */
		uint64_t in_term;	/* of the leader that committed it */
	} committed[SIM_INDEXES];
	struct {
		uint64_t term, digest;
	} applied[SIM_INDEXES];
	uint32_t first_seen[SIM_INDEXES];	/* 0 none, else one more than in seen */
	struct sim_entry_seen *seen;
	uint32_t n_seen, cap_seen;
	uint64_t commit;			/* the highest anywhere */
	struct sim_read_asked *reads;
	size_t n_reads, cap_reads;
	uint64_t probe;				/* index of the calm's proposal; 0 not applied */
};

struct sim {
	uint64_t seed, random, now, order, hash;
	uint64_t next_value;
	bool calm;				/* no more faults */
	bool needed[SIM_NODES];			/* to agree in the calm */
	uint64_t probe_value;			/* what the calm proposes */
	struct sim_profile profile;
	struct sim_event *events;		/* a heap */
	size_t n_events, cap_events;
	bool down[SIM_NODES][SIM_NODES];	/* from, to: nothing arrives */
	struct sim_node node[SIM_NODES];
	struct sim_oracle oracle;
	uint64_t count[SIM_CLASSES];		/* of all seeds */
	uint64_t calm_worst;			/* until a commit after the faults */
	uint64_t steps, simulated;		/* of all seeds */
	bool tracing;
};

/* run.c */
/* Ends the process, with the seed and how to repeat it. */
void __printf(2, 3) __attribute__((noreturn)) sim_fail(struct sim *s, const char *format, ...);
void __printf(2, 3) sim_trace(struct sim *s, const char *format, ...);

/* What is simulated: each program has one. */
struct sim_program {
	const char *name;
	uint64_t most_nodes;
	unsigned int part;			/* which classes of events there are: its bit */
	bool proposals_once;			/* the network repeats everything else */
	void (*profile)(struct sim *s);		/* after chaos_profile(); may be NULL */
	void (*end)(struct sim *s);		/* of a seed; may be NULL */
	size_t (*links)(struct sim *s);		/* --links; NULL: there is no such thing */
};
#define SIM_RAFT 1u
#define SIM_KVD 2u
extern const struct sim_program sim_program;

/* world.c */
void *sim_alloc(void *old, size_t n, size_t size);
void conf_copy_to(const struct raft_conf_state *from, struct raft_conf_state *to);
uint64_t sim_draw(struct sim *s, uint64_t n);
bool sim_chance(struct sim *s, uint32_t per_thousand);
/* A member that has crashed comes back some time. */
void sim_restart_later(struct sim *s, uint64_t id);
void sim_at(struct sim *s, uint64_t delay, const struct sim_event *event);
/* An event of that member's own. */
void sim_node_at(struct sim *s, struct sim_node *n, enum sim_kind kind, uint64_t delay);
/* Its turn comes soon, if it does not yet. */
void sim_wake(struct sim *s, struct sim_node *n);
bool sim_next(struct sim *s);
void sim_mix(struct sim *s, uint64_t v);
uint64_t sim_digest(const struct raft_entry *e);
void sim_run_until(struct sim *s, uint64_t time);
void sim_begin(struct sim *s, uint64_t seed);
void sim_end(struct sim *s);

/* net.c */
void net_send(struct sim *s, struct raft_message *messages, size_t n);
void net_arrive(struct sim *s, struct raft_message *m);
void message_free(struct raft_message *m);

/* disk.c */
void sim_machine_copy(const struct sim_machine *from, struct sim_machine *to);
/* Whether it holds that entry for good. */
bool disk_has(const struct sim_node *n, uint64_t index, uint64_t term);
/* Takes @w. */
void disk_add(struct sim *s, struct sim_node *n, struct sim_write *w);
void disk_event(struct sim *s, struct sim_node *n);
void disk_crash(struct sim *s, struct sim_node *n);
void disk_fail(struct sim *s, struct sim_node *n);
void disk_cut(struct sim_node *n, uint64_t index);
void disk_forget(struct sim_node *n);
void disk_release(struct sim_node *n);

/* node.c, or what takes its place */
void node_init(struct sim *s, struct sim_node *n, uint64_t id);
void node_release(struct sim_node *n);
void node_start(struct sim *s, struct sim_node *n);
/* An event of a member that runs, but for those that are the same for all. */
void node_event(struct sim *s, struct sim_node *n, enum sim_kind kind);
int node_step(struct sim *s, struct sim_node *n, const struct raft_event *ev);
/* Its clock leaps. */
void node_leap(struct sim *s, struct sim_node *n, uint64_t ticks);
int node_propose(struct sim *s, struct sim_node *n, enum raft_entry_type type, struct blob *b);
void node_compact(struct sim *s, struct sim_node *n, uint64_t index);
/* A write is durable. */
void node_written(struct sim *s, struct sim_node *n, struct sim_write *w);
/* What it had in memory is gone. */
void node_crashed(struct sim *s, struct sim_node *n);

/* client.c, or what takes its place */
void client_turn(struct sim *s);
/* Whether the proposal was taken up. Its application sets s->oracle.probe. */
bool client_propose(struct sim *s, struct sim_node *n, uint64_t value);
/* The id of the read, of s->oracle.reads. */
uint64_t client_read(struct sim *s, struct sim_node *n);

/* chaos.c */
void chaos_profile(struct sim *s, uint64_t nodes);
void chaos_begin(struct sim *s);
void chaos_strike(struct sim *s);
struct sim_node *chaos_leader(struct sim *s);
struct sim_node *chaos_draw_up(struct sim *s);
/* Asks @n for some change of the configuration. */
void chaos_change(struct sim *s, struct sim_node *n);

/* calm.c */
void calm_run(struct sim *s);

/* check.c */
void check_begin(struct sim *s);
void check_started(struct sim *s, struct sim_node *n);
/* What the log holds from now on. */
void check_holds(struct sim *s, struct sim_node *n, const struct raft_entry *e, size_t count);
void check_step(struct sim *s, struct sim_node *n);
void check_update(struct sim *s, struct sim_node *n);
void check_entries(struct sim *s, uint64_t id, const struct raft_entry *e, size_t n,
		   uint64_t before);
void check_send(struct sim *s, const struct raft_message *m);
void check_apply(struct sim *s, struct sim_node *n, const struct raft_entry *e);
void check_read_answered(struct sim *s, struct sim_node *n, const struct raft_read *read);
uint64_t check_read_asked(struct sim *s, struct sim_node *n);

/* links.c: all subsets of the links between three members; how many failed */
size_t links_run(struct sim *s);

#endif
