/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A group of members that a script commands, in three files: what is done with an update
 * (script_work.c), which messages were seen (script_seen.c), and the commands themselves
 * (script_group.c).
 */
#ifndef TESTS_SIM_SCRIPT_GROUP_H
#define TESTS_SIM_SCRIPT_GROUP_H

#include "libraft/raft_i.h"
#include "tests/sim/script.h"

#define NODES 8

/* Work of one update that waits for the storage, or to be applied. */
struct work {
	struct raft_update up;
	struct raft_event done;
};

/* What a restart finds. What is applied survives, too. */
struct disk {
	struct raft_hard_state hard_state;
	uint64_t base, base_term, applied;
	struct raft_conf_state conf;		/* at applied */
	struct raft_entry *entries;
	size_t n_entries;
};

struct node {
	struct raft *raft;
	struct raft_config config;
	struct raft_update up;
	bool async;		/* storage and application take commands of their own */
	enum raft_role role;	/* as last printed, with the rest */
	uint64_t leader;
	struct raft_hard_state hard_state;
	struct work store[64], apply[64];
	size_t n_store, n_apply;
	struct disk disk;
};

/* What a member hears from its own storage goes through the bag, too: a message to
 * itself whose type is an event's. */
#define FROM_STORAGE(type) ((enum raft_message_type)(100 + (type)))

extern struct node nodes[NODES];	/* by id; 0 is none */
extern size_t n_nodes;
extern struct raft_message bag[4096];
extern size_t n_bag;
extern int indent;			/* of what is printed */
extern bool quiet;			/* log-level none: nothing is compared */
extern struct script_case *now;		/* the case that runs */

/* script_work.c */
void print_lines(const char *before, const char *text);
void print_head(uint64_t id, const char *what);
int step(uint64_t id, const struct raft_event *ev);
void process_ready(uint64_t id);
bool process_store(uint64_t id);
bool process_apply(uint64_t id);
void message_free(struct raft_message *m);
/* A member with what its disk holds, the first time or again. */
void node_start(uint64_t id);
void node_stop(uint64_t id);		/* what is under way is lost, the disk is not */
void disk_compact(uint64_t id);
void disk_release(struct disk *disk);

/* script_seen.c: messages link by link, as sent and as received, each in its order */
void see(bool received, const char *before, const struct raft_message *m);
void seen_clear(void);
void compare_messages(void);

#endif
