// SPDX-License-Identifier: Apache-2.0
/*
 * Lease reads: thesis 6.4.1. A lease is worth what the others promise for it, so most of
 * these are about what could make them elect another leader too early. Time is lock-step:
 * a round gives each member one tick, so lease_ticks may be up to election_ticks - 1.
 */
#include <errno.h>

#include "tests/unit/raft_net.h"

#define ELECTION 10
#define LEASE 9

static struct net net;

static void start(size_t voters)
{
	net_init(&net, voters);
	for (uint64_t id = 1; id <= voters; id++)
		net.node[id].config.lease_ticks = LEASE;
	net_start_all(&net, voters);
}

static int teardown(void **state)
{
	net_release(&net);
	return 0;
}

static void tick_all(uint64_t voters, size_t n)
{
	while (n--)
		for (uint64_t id = 1; id <= voters; id++)
			if (net.node[id].raft)
				net_tick(&net, id, 1);
}

/* Member 1 leads, and has the lease. */
static int setup(void **state)
{
	start(3);
	/* The promise that each member begins with is over. */
	net_tick(&net, 2, ELECTION);
	net_tick(&net, 3, ELECTION);
	while (net.n_bag)
		net_lose(&net, 0);
	for (int i = 0; i < 2 * ELECTION && net_leader(&net) != 1; i++) {
		net_tick(&net, 1, 1);
		net_settle(&net);
	}
	tick_all(3, 1);
	net_settle(&net);
	assert_true(net_status(&net, 1).lease);
	return 0;
}

static void answered(uint64_t id, uint64_t read)
{
	struct net_node *node = &net.node[id];

	for (size_t i = 0; i < node->n_reads; i++)
		if (node->reads[i].id == read)
			return;
	fail_msg("read %llu was not answered", (unsigned long long)read);
}

static void reads_need_no_message(void **state)
{
	assert_int_equal(net_read(&net, 1, 1), 0);
	answered(1, 1);
	assert_int_equal(net.n_bag, 0);
	/* A follower still asks, and gets its answer from the lease. */
	assert_int_equal(net_read(&net, 2, 2), 0);
	assert_int_equal(net.n_bag, 1);
	net_deliver(&net, 0);
	assert_int_equal(net.n_bag, 1);
	net_deliver(&net, 0);
	answered(2, 2);
}

static void a_lease_ends_unless_it_is_answered(void **state)
{
	net_isolate(&net, 1, true);
	/* The heartbeat that was answered went out with the last tick. */
	tick_all(3, LEASE - 1);
	assert_true(net_status(&net, 1).lease);
	tick_all(3, 1);
	assert_false(net_status(&net, 1).lease);
	assert_int_equal(net_status(&net, 1).role, RAFT_LEADER);
	assert_int_equal(net_read(&net, 1, 1), 0);
	assert_int_equal(net.node[1].n_reads, 0);
	/* Once it is answered again the round lets it through. */
	net_isolate(&net, 1, false);
	tick_all(3, 1);
	net_settle(&net);
	answered(1, 1);
	assert_true(net_status(&net, 1).lease);
}

/* A late answer counts from when the heartbeat went out, not from when it comes. */
static void a_late_answer_extends_little(void **state)
{
	tick_all(1, 1);
	net_isolate(&net, 1, true);
	tick_all(3, 5);
	assert_true(net_status(&net, 1).lease);
	net_isolate(&net, 1, false);
	net_settle(&net);
	tick_all(3, LEASE - 6);
	net_isolate(&net, 1, true);
	while (net.n_bag)
		net_lose(&net, 0);
	assert_true(net_status(&net, 1).lease);
	tick_all(3, 1);
	assert_false(net_status(&net, 1).lease);
}

static struct raft_message vote_of_3(uint64_t term)
{
	return (struct raft_message){
		.type = RAFT_MSG_VOTE, .from = 3, .to = 2, .term = term,
		.index = 100, .log_term = 50,
	};
}

/* Member 2 is asked for its vote by 3; true: it gave it. */
static bool grants(uint64_t term)
{
	struct raft_message m = vote_of_3(term);

	net_step(&net, 2, &(struct raft_event){ .type = RAFT_RECEIVE, .message = &m });
	return net_status(&net, 2).vote == 3;
}

static void who_answered_votes_for_nobody(void **state)
{
	tick_all(3, ELECTION - 1);
	assert_false(grants(50));
	net_isolate(&net, 2, true);
	tick_all(3, 1);
	assert_true(grants(50));
}

/* It may have answered just before it went down. */
static void who_restarts_votes_for_nobody(void **state)
{
	net_crash(&net, 2, 0);
	net_start(&net, 2);
	net_tick(&net, 2, ELECTION - 1);
	assert_false(grants(50));
	net_tick(&net, 2, 1);
	assert_true(grants(50));
}

/* An answer to an earlier pre-vote of its own brings a later term and takes the leader
 * away, not the promise. */
static void a_later_term_does_not_end_the_promise(void **state)
{
	struct raft_message m = {
		.type = RAFT_MSG_PRE_VOTE_RESP, .from = 3, .to = 2, .term = 50, .reject = true,
	};

	net_step(&net, 2, &(struct raft_event){ .type = RAFT_RECEIVE, .message = &m });
	assert_int_equal(net_status(&net, 2).term, 50);
	assert_int_equal(net_status(&net, 2).leader, 0);
	assert_false(grants(50));
	assert_false(grants(51));
	net_tick(&net, 2, ELECTION);
	assert_true(grants(51));
}

static void nobody_stands_or_forgets(void **state)
{
	uint64_t term = net_status(&net, 2).term;

	net_event(&net, 2, RAFT_CAMPAIGN);
	assert_int_equal(net_status(&net, 2).role, RAFT_FOLLOWER);
	net_event(&net, 2, RAFT_FORGET_LEADER);
	assert_int_equal(net_status(&net, 2).leader, 1);
	assert_false(grants(term + 1));
}

/* The message that says to stand at once may arrive long after the transfer has failed. */
static void a_transfer_gives_the_lease_up(void **state)
{
	struct raft_event transfer = { .type = RAFT_TRANSFER, .id = 2 };

	net_step(&net, 1, &transfer);
	assert_false(net_status(&net, 1).lease);
	while (net.n_bag)
		net_lose(&net, 0);
	for (int i = 0; i < 3 * ELECTION; i++) {
		tick_all(3, 1);
		net_settle(&net);
		assert_int_equal(net_leader(&net), 1);
		assert_false(net_status(&net, 1).lease);
	}
	/* Reads go on with rounds. */
	net_read(&net, 1, 1);
	assert_int_equal(net.node[1].n_reads, 0);
	net_settle(&net);
	answered(1, 1);
}

static void a_change_begins_anew(void **state)
{
	assert_int_equal(net_change(&net, 1, RAFT_CONF_ADD_LEARNER, 4), 0);
	net_settle(&net);
	assert_false(net_status(&net, 1).lease);
	tick_all(3, 1);
	net_settle(&net);
	assert_true(net_status(&net, 1).lease);
}

static void a_lease_needs_a_checked_quorum(void **state)
{
	struct raft_config c = {
		.id = 1, .election_ticks = 10, .heartbeat_ticks = 1, .max_inflight = 1,
	};
	struct raft *raft;
	const char *why;

	c.lease_ticks = 8;
	assert_int_equal(raft_new(&c, &raft, &why), -EINVAL);
	c.check_quorum = true;
	c.lease_ticks = 10;
	assert_int_equal(raft_new(&c, &raft, &why), -EINVAL);
	c.lease_ticks = 9;
	assert_int_equal(raft_new(&c, &raft, &why), 0);
	raft_free(raft);
}

/* --- anything ------------------------------------------------------------------------ */

static uint64_t seed_state;

static uint64_t draw(uint64_t n)
{
	seed_state ^= seed_state << 13;
	seed_state ^= seed_state >> 7;
	seed_state ^= seed_state << 17;
	return (seed_state >> 11) % n;
}

static uint64_t next_read;
static uint64_t by_lease;

static void random_read(uint64_t id)
{
	struct net_node *node = &net.node[id];
	size_t before = node->n_reads;

	if (next_read == NET_READS)
		return;
	net_read(&net, id, next_read++);
	by_lease += node->n_reads > before;
}

static void random_trouble(uint64_t voters)
{
	static const enum raft_event_type orders[] = { RAFT_CAMPAIGN, RAFT_FORGET_LEADER };
	uint64_t a = 1 + draw(voters), b = 1 + draw(voters);

	switch (draw(8)) {
	case 0:
		net_isolate(&net, a, draw(2));
		return;
	case 1:
		net.cut[a][b] = draw(2);
		return;
	case 2:
		memset(net.cut, 0, sizeof(net.cut));
		return;
	case 3:
		if (net.node[a].raft)
			net_crash(&net, a, draw(3));
		else
			net_start(&net, a);
		return;
	case 4:
		if (net.node[a].raft && draw(4) == 0)
			net_step(&net, a, &(struct raft_event){ .type = RAFT_TRANSFER, .id = b });
		return;
	case 5:
		if (net.node[a].raft)
			net_event(&net, a, orders[draw(2)]);
		return;
	default:
		if (net.node[a].raft)
			random_read(a);
		return;
	}
}

static void random_round(uint64_t voters)
{
	for (uint64_t id = 1; id <= voters; id++) {
		if (!net.node[id].raft)
			continue;
		net_tick(&net, id, 1);
		if (net_status(&net, id).role != RAFT_LEADER)
			continue;
		if (draw(2))
			net_propose(&net, id, "x");
		random_read(id);
	}
	for (uint64_t n = draw(20); n-- && net.n_bag; )
		net_deliver(&net, draw(4) ? 0 : draw(net.n_bag));
	while (net.n_bag > 60)
		net_lose(&net, draw(net.n_bag));
	if (!draw(6))
		random_trouble(voters);
	for (uint64_t id = 1; id <= voters; id++)
		if (net.node[id].raft && draw(2))
			random_read(id);
}

/* net_take_reads() asserts that no read misses what was committed when it was asked. */
static void no_read_is_stale(void **state)
{
	by_lease = 0;
	for (uint64_t run = 0; run < 300; run++) {
		uint64_t voters = run % 3 ? 3 : 5;

		seed_state = run * 0x9e3779b97f4a7c15 + 99;
		next_read = 0;
		start(voters);
		for (uint64_t id = 1; id <= voters; id++)
			net.node[id].config.pre_vote = run & 1;
		for (int i = 0; i < 500; i++)
			random_round(voters);
		net_release(&net);
	}
	assert_true(by_lease > 20000);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(reads_need_no_message),
		TEST(a_lease_ends_unless_it_is_answered),
		TEST(a_late_answer_extends_little),
		TEST(who_answered_votes_for_nobody),
		TEST(who_restarts_votes_for_nobody),
		TEST(a_later_term_does_not_end_the_promise),
		TEST(nobody_stands_or_forgets),
		TEST(a_transfer_gives_the_lease_up),
		TEST(a_change_begins_anew),
		cmocka_unit_test(a_lease_needs_a_checked_quorum),
		cmocka_unit_test(no_read_is_stale),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
