// SPDX-License-Identifier: Apache-2.0
/*
 * What libraft costs: a group of three in one thread, whose network and disks take no
 * time. Clients that wait for their entry to be applied by the leader propose the next
 * one then; each turn proposes what has come together. Prints tables.
 *
 *	raft_bench [SECONDS]	of CPU for each row, 1 by default
 *
 * Time is this process's CPU time, so it includes what the members' callers must do in
 * any case: making and freeing payloads and moving messages. Bytes are what malloc()
 * takes for what libraft asks of it (the link wraps it).
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "include/bug.h"
#include "libraft/raft.h"

#define NODES 33
#define PAYLOAD 16
#define TRAILING 5000		/* entries that are kept behind what is applied */

/* --- memory --------------------------------------------------------------------------- */

static size_t live;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void __wrap_free(void *p);

static void *counted(void *p)
{
	live += p ? malloc_usable_size(p) + sizeof(size_t) : 0;
	return p;
}

static void *uncounted(void *p)
{
	live -= p ? malloc_usable_size(p) + sizeof(size_t) : 0;
	return p;
}

void *__wrap_malloc(size_t size)
{
	return counted(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size)
{
	return counted(__real_calloc(n, size));
}

void *__wrap_realloc(void *p, size_t size)
{
	return counted(__real_realloc(uncounted(p), size));
}

void __wrap_free(void *p)
{
	__real_free(uncounted(p));
}

/* --- the group ------------------------------------------------------------------------ */

struct node {
	struct raft *raft;
	struct raft_update up;
	struct raft_message *inbox;
	size_t n_inbox, cap_inbox;
	uint64_t applied;
};

static struct node nodes[NODES];
static uint64_t steps;
static bool deaf;		/* nothing that the leader sends arrives */

static void step(struct node *node, const struct raft_event *ev)
{
	BUG_ON(raft_step(node->raft, ev, &node->up));
	steps++;
}

static void post(struct raft_message *m, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct node *to = &nodes[m[i].to];

		if (to->n_inbox == to->cap_inbox) {
			to->cap_inbox = to->cap_inbox ? to->cap_inbox * 2 : 64;
			to->inbox = realloc(to->inbox, to->cap_inbox * sizeof(*m));
			BUG_ON(!to->inbox);
		}
		to->inbox[to->n_inbox++] = m[i];
	}
}

static void receive(struct node *node)
{
	struct raft_message *inbox = node->inbox;
	size_t n = node->n_inbox;

	node->inbox = NULL;
	node->n_inbox = node->cap_inbox = 0;
	for (size_t i = 0; i < n && !deaf; i++)
		step(node, &(struct raft_event){ .type = RAFT_RECEIVE, .message = &inbox[i] });
	raft_messages_free(inbox, n);
}

/* Carries out one update: at once durable and applied. */
static void turn(struct node *node)
{
	struct raft_update *up = &node->up;
	struct raft_event stored = { .type = RAFT_STORED }, applied = { .type = RAFT_APPLIED };
	struct raft_event compact = { .type = RAFT_COMPACT };

	post(up->messages, up->n_messages);
	post(up->after_store, up->n_after_store);
	up->n_messages = up->n_after_store = 0;
	if (up->n_entries) {
		stored.index = up->entries[up->n_entries - 1].index;
		stored.term = up->entries[up->n_entries - 1].term;
	}
	if (up->n_committed)
		applied.index = node->applied = up->committed[up->n_committed - 1].index;
	raft_update_clear(up);
	if (stored.index)
		step(node, &stored);
	if (applied.index)
		step(node, &applied);
	compact.index = node->applied > TRAILING ? node->applied - TRAILING : 0;
	if (applied.index && compact.index)
		step(node, &compact);
}

static void propose(struct node *node, size_t n)
{
	static struct raft_entry entries[1 << 16];
	struct raft_event ev = { .type = RAFT_PROPOSE, .entries = entries, .n_entries = n };

	BUG_ON(n > ARRAY_SIZE(entries));
	if (!n)
		return;
	for (size_t i = 0; i < n; i++) {
		entries[i].payload = blob_new(PAYLOAD);
		BUG_ON(!entries[i].payload);
		memset(entries[i].payload->data, 'x', PAYLOAD);
	}
	step(node, &ev);
	for (size_t i = 0; i < n; i++)
		blob_put(entries[i].payload);
}

static void run_all(size_t members)
{
	for (size_t id = 1; id <= members; id++) {
		receive(&nodes[id]);
		turn(&nodes[id]);
	}
}

/* Member 1 leads, and has committed its first entry. */
static void start(size_t members)
{
	uint64_t voters[NODES];
	struct raft_config config = {
		.election_ticks = 10, .heartbeat_ticks = 1, .pre_vote = true, .check_quorum = true,
		.max_message_bytes = 1 << 20, .max_inflight = 512,
		.snapshot.conf = { .voters = voters, .n_voters = members },
	};
	const char *why;

	deaf = false;
	memset(nodes, 0, sizeof(nodes));
	for (size_t id = 1; id <= members; id++)
		voters[id - 1] = id;
	for (size_t id = 1; id <= members; id++) {
		config.id = config.seed = id;
		raft_update_init(&nodes[id].up);
		BUG_ON(raft_new(&config, &nodes[id].raft, &why));
	}
	step(&nodes[1], &(struct raft_event){ .type = RAFT_CAMPAIGN });
	for (int i = 0; i < 20; i++)
		run_all(members);
	BUG_ON(!nodes[1].applied);
}

static void stop(size_t members)
{
	for (size_t id = 1; id <= members; id++) {
		raft_update_release(&nodes[id].up);
		raft_messages_free(nodes[id].inbox, nodes[id].n_inbox);
		raft_free(nodes[id].raft);
	}
}

/* --- what is measured ----------------------------------------------------------------- */

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void measure_speed(size_t clients, double seconds)
{
	uint64_t proposed, first, entries, turns = 0;
	double begin, took;

	start(3);
	proposed = first = nodes[1].applied;
	steps = 0;
	begin = cpu_seconds();
	do {
		for (int i = 0; i < 100; i++, turns++) {
			size_t n = clients - (size_t)(proposed - nodes[1].applied);

			propose(&nodes[1], n);
			proposed += n;
			turn(&nodes[1]);
			run_all(3);
		}
		took = cpu_seconds() - begin;
	} while (took < seconds);
	entries = nodes[1].applied - first;
	printf("%8zu %12.0f %12.0f %10.0f %10.1f\n", clients, (double)entries / took,
	       took * 1e9 / (double)entries, took * 1e9 / (double)steps,
	       (double)entries / (double)turns);
	stop(3);
}

/* A round of heartbeats and their answers: what an idle group costs. */
static void measure_idle(double seconds)
{
	double begin, took;

	start(3);
	steps = 0;
	begin = cpu_seconds();
	do {
		for (int i = 0; i < 1000; i++) {
			for (size_t id = 1; id <= 3; id++)
				step(&nodes[id], &(struct raft_event){ .type = RAFT_TICK });
			run_all(3);
		}
		took = cpu_seconds() - begin;
	} while (took < seconds);
	printf("a tick, a heartbeat or its answer: %.0f ns a step\n",
	       took * 1e9 / (double)steps);
	stop(3);
}

static size_t leader_bytes(size_t members, size_t messages)
{
	size_t before = live, bytes;
	struct raft *others[NODES];

	start(members);
	for (int i = 0; i < 10; i++)
		run_all(members);
	deaf = messages > 0;
	for (size_t i = 0; i < messages; i++) {
		propose(&nodes[1], 1);
		turn(&nodes[1]);
		for (size_t id = 2; id <= members; id++)
			receive(&nodes[id]);
	}
	for (size_t id = 1; id <= members; id++) {
		raft_update_release(&nodes[id].up);
		receive(&nodes[id]);
		others[id] = nodes[id].raft;
	}
	for (size_t id = 2; id <= members; id++)
		raft_free(others[id]);
	bytes = live - before;
	raft_free(nodes[1].raft);
	return bytes;
}

static void measure_memory(void)
{
	/* Sizes at which the arrays that double are full. */
	size_t few = leader_bytes(8, 0), many = leader_bytes(32, 0);
	size_t few_full = leader_bytes(8, 512), many_full = leader_bytes(32, 512);
	size_t short_log = leader_bytes(3, (1 << 14) - 1);
	size_t long_log = leader_bytes(3, (1 << 17) - 1);
	const size_t entries = (1 << 17) - (1 << 14);

	printf("%-60s %6zu\n", "a leader of three, its log empty", leader_bytes(3, 0));
	printf("%-60s %6zu\n", "one more follower", (many - few) / 24);
	printf("%-60s %6zu\n", "one more follower, 512 messages on their way to it",
	       (many_full - few_full) / 24);
	printf("%-60s %6zu\n", "an entry under way, its 16 bytes included",
	       (long_log - short_log) / entries);
	printf("%-60s %6zu\n", "the same just after the ring of entries has doubled",
	       (leader_bytes(3, 1 << 17) - short_log) / entries);
}

int main(int argc, char **argv)
{
	static const size_t clients[] = { 1, 10, 100, 1000, 10000 };
	double seconds = argc > 1 ? strtod(argv[1], NULL) : 1;

	printf("three members, entries of %d bytes, CPU of all three\n", PAYLOAD);
	printf("%8s %12s %12s %10s %10s\n", "clients", "entries/s", "ns/entry", "ns/step",
	       "batch");
	for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
		measure_speed(clients[i], seconds);
	measure_idle(seconds);
	printf("\nbytes\n");
	measure_memory();
	return 0;
}
