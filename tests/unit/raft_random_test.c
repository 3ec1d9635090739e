// SPDX-License-Identifier: Apache-2.0
/*
 * Whole groups driven by a seeded generator: messages are lost, repeated and
 * reordered, links are cut one way, members crash in the middle of their writes, logs
 * are compacted, leadership moves and so does the membership. raft_net.h checks the
 * promises at every step; at the end, with everything healed, the group must agree and
 * go on.
 */
#include <stdlib.h>

#include "tests/unit/raft_net.h"

#define STEPS 4000
#define MEMBERS 5	/* ids that may be members */

static struct net net;
static uint64_t seed_state;
static uint64_t next_read;

static uint64_t draw(uint64_t n)
{
	seed_state ^= seed_state << 13;
	seed_state ^= seed_state >> 7;
	seed_state ^= seed_state << 17;
	return (seed_state >> 11) % n;
}

static uint64_t draw_up(void)
{
	uint64_t id = 1 + draw(MEMBERS);

	return net.node[id].raft ? id : 0;
}

static void do_deliver(void)
{
	/* Mostly the oldest, or nothing ever gets through. */
	if (net.n_bag)
		net_deliver(&net, draw(4) ? 0 : draw(net.n_bag));
}

static void do_lose(void)
{
	if (net.n_bag)
		net_lose(&net, draw(net.n_bag));
}

static void do_duplicate(void)
{
	if (net.n_bag)
		net_duplicate(&net, draw(net.n_bag));
}

static void do_tick(void)
{
	uint64_t id = draw_up();

	if (id)
		net_tick(&net, id, 1);
}

static void do_write(void)
{
	uint64_t id = draw_up();

	if (id)
		net_write_done(&net, id);
}

static void do_propose(void)
{
	uint64_t id = draw_up();
	char text[32];

	if (!id)
		return;
	snprintf(text, sizeof(text), "%llx", (unsigned long long)draw(UINT64_MAX));
	net_propose(&net, id, text);
}

static void do_read(void)
{
	uint64_t id = draw_up();

	if (id && next_read < NET_READS)
		net_read(&net, id, next_read++);
}

static void do_crash(void)
{
	uint64_t id = draw_up();

	if (id)
		net_crash(&net, id, draw(4));
}

static void do_restart(void)
{
	uint64_t id = 1 + draw(MEMBERS);

	if (!net.node[id].raft)
		net_start(&net, id);
}

static void do_cut(void)
{
	net.cut[1 + draw(MEMBERS)][1 + draw(MEMBERS)] = true;
}

static void do_heal(void)
{
	memset(net.cut, 0, sizeof(net.cut));
}

static void do_compact(void)
{
	uint64_t id = draw_up(), first;

	if (!id)
		return;
	first = net.node[id].disk.snapshot.index;
	if (net_status(&net, id).applied == net.node[id].disk.applied)
		net_compact(&net, id, first + draw(net.node[id].disk.applied - first + 1));
}

static void do_transfer(void)
{
	uint64_t id = draw_up();
	struct raft_event ev = { .type = RAFT_TRANSFER, .id = 1 + draw(MEMBERS) };

	if (id)
		net_step(&net, id, &ev);
}

static void do_report(void)
{
	static const enum raft_event_type types[] = {
		RAFT_UNREACHABLE, RAFT_SNAPSHOT_SENT, RAFT_SNAPSHOT_FAILED, RAFT_FORGET_LEADER,
		RAFT_CAMPAIGN,
	};
	struct raft_event ev = { .type = types[draw(ARRAY_SIZE(types))], .id = 1 + draw(MEMBERS) };
	uint64_t id = draw_up();

	if (id)
		net_step(&net, id, &ev);
}

/* Only what keeps three voters: who removes the last one has no group to test. */
static void do_change(void)
{
	static const enum raft_conf_change_type types[] = {
		RAFT_CONF_ADD_NODE, RAFT_CONF_ADD_NODE, RAFT_CONF_ADD_LEARNER,
		RAFT_CONF_REMOVE_NODE,
	};
	uint64_t id = net_leader(&net), a = 1 + draw(MEMBERS), b = 1 + draw(MEMBERS);
	enum raft_conf_change_type ta = types[draw(4)], tb = types[draw(4)];

	if (!id || net.node[id].disk.snapshot.conf.n_voters < 4) {
		ta = RAFT_CONF_ADD_NODE;
		tb = RAFT_CONF_ADD_NODE;
	}
	if (!id || a == b)
		return;
	if (draw(2))
		net_change(&net, id, ta, a);
	else
		net_propose_blob(&net, id, RAFT_ENTRY_CONF_CHANGE_V2,
				 net_conf_blob2(ta, a, tb, b));
}

static const struct {
	unsigned int weight;
	void (*run)(void);
} actions[] = {
	{ 400, do_deliver }, { 30, do_lose }, { 30, do_duplicate }, { 200, do_tick },
	{ 250, do_write }, { 60, do_propose }, { 30, do_read }, { 4, do_crash },
	{ 12, do_restart }, { 4, do_cut }, { 3, do_heal }, { 5, do_compact },
	{ 2, do_transfer }, { 4, do_report }, { 5, do_change },
};

static void act(void)
{
	unsigned int total = 0, pick;

	for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
		total += actions[i].weight;
	pick = (unsigned int)draw(total);
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		if (pick < actions[i].weight) {
			actions[i].run();
			return;
		}
		pick -= actions[i].weight;
	}
}

static bool all_agree(uint64_t leader)
{
	const struct raft_conf_state *c = &net.node[leader].disk.snapshot.conf;
	uint64_t applied = net_status(&net, leader).applied;

	if (applied != net_status(&net, leader).last_index || c->n_voters_outgoing)
		return false;
	for (size_t i = 0; i < c->n_voters; i++)
		if (net_status(&net, c->voters[i]).applied != applied)
			return false;
	for (size_t i = 0; i < c->n_learners; i++)
		if (net_status(&net, c->learners[i]).applied != applied)
			return false;
	return true;
}

static void report_state(void)
{
	for (uint64_t id = 1; id <= MEMBERS; id++) {
		struct raft_status st = net_status(&net, id);
		struct raft_conf_state *c = &net.node[id].disk.snapshot.conf;

		print_message("%d: %s term %d leader %d commit %d applied %d first %d last %d"
			      " stored %d rejected %d conf", (int)id, raft_role_to_text(st.role),
			      (int)st.term, (int)st.leader, (int)st.commit, (int)st.applied,
			      (int)st.first_index, (int)st.last_index, (int)st.stored,
			      (int)st.messages_rejected);
		for (size_t i = 0; i < c->n_voters; i++)
			print_message(" v%d", (int)c->voters[i]);
		for (size_t i = 0; i < c->n_voters_outgoing; i++)
			print_message(" o%d", (int)c->voters_outgoing[i]);
		for (size_t i = 0; i < c->n_learners; i++)
			print_message(" l%d", (int)c->learners[i]);
		print_message("\n");
	}
}

/* Everything works again: within some election timeouts the group agrees. */
static void heal_and_agree(void)
{
	uint64_t leader = 0;
	bool proposed = false;

	memset(net.cut, 0, sizeof(net.cut));
	net.slow_disk = false;
	for (uint64_t id = 1; id <= MEMBERS; id++) {
		if (!net.node[id].raft)
			net_start(&net, id);
		while (net_write_done(&net, id))
			;
	}
	for (size_t round = 0; round < 400; round++) {
		for (uint64_t id = 1; id <= MEMBERS; id++)
			net_tick(&net, id, 1);
		net_settle(&net);
		leader = net_leader(&net);
		if (leader && !proposed)
			proposed = net_propose(&net, leader, "last") == 0;
		else if (leader && all_agree(leader))
			return;
	}
	report_state();
	fail_msg("no agreement; leader %llu", (unsigned long long)leader);
}

static uint64_t total_applied, total_terms, total_reads, total_snapshots;

static void run(uint64_t seed, bool pre_vote, bool check_quorum)
{
	seed_state = seed * 0x9e3779b97f4a7c15 + 1;
	next_read = 1;
	net_init(&net, 3);
	net.slow_disk = true;
	for (uint64_t id = 1; id <= MEMBERS; id++) {
		net.node[id].config.pre_vote = pre_vote;
		net.node[id].config.check_quorum = check_quorum;
		net.node[id].config.max_inflight = 1 + draw(8);
		net.node[id].config.max_message_bytes = draw(100);
		net.node[id].config.max_committed_bytes = draw(2) ? 0 : 40;
		net.node[id].config.seed = draw(UINT64_MAX);
		net_start(&net, id);
	}
	for (size_t i = 0; i < STEPS; i++)
		act();
	heal_and_agree();
	total_applied += net.commit;
	for (size_t i = 0; i < NET_TERMS; i++)
		total_terms += net.leader[i] != 0;
	for (uint64_t id = 1; id <= MEMBERS; id++)
		total_reads += net.node[id].n_reads;
	total_snapshots += net.snapshots;
	net_release(&net);
}

static void random_groups_keep_their_promises(void **state)
{
	/* RAFT_SEED repeats one run, RAFT_SEEDS asks for more of them. */
	const char *only = getenv("RAFT_SEED"), *count = getenv("RAFT_SEEDS");
	uint64_t first = only ? strtoull(only, NULL, 0) : 1, n = only ? 1 : 1000;

	if (count)
		n = strtoull(count, NULL, 0);
	for (uint64_t seed = first; seed < first + n; seed++) {
		if (getenv("RAFT_TRACE"))
			print_message("seed %llu\n", (unsigned long long)seed);
		run(seed, seed % 4 != 0, seed % 8 != 1);
	}
	print_message("%llu entries, %llu terms, %llu reads, %llu snapshots\n",
		      (unsigned long long)total_applied, (unsigned long long)total_terms,
		      (unsigned long long)total_reads, (unsigned long long)total_snapshots);
	if (only || count)
		return;
	/* The runs are about something. */
	assert_true(total_applied > 10 * n);
	assert_true(total_terms > 2 * n);
	assert_true(total_reads > n);
	assert_true(total_snapshots > n / 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_groups_keep_their_promises),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
