// SPDX-License-Identifier: Apache-2.0
/* Membership, leadership transfer and snapshots, one story each. */
#include <errno.h>

#include "tests/unit/raft_net.h"

static struct net net;

static int setup_three(void **state)
{
	net_init(&net, 3);
	net_start_all(&net, 3);
	net_event(&net, 1, RAFT_CAMPAIGN);
	net_settle(&net);
	return 0;
}

static int setup_one(void **state)
{
	net_init(&net, 1);
	net_start(&net, 1);
	net_event(&net, 1, RAFT_CAMPAIGN);
	return 0;
}

static int teardown(void **state)
{
	net_release(&net);
	return 0;
}

/* The configuration that @id has in force, as "1 2 3" or "1 2&1 3 l4 n3 auto". */
static const char *conf_of(uint64_t id)
{
	static char text[200];
	struct raft_conf_state c;
	size_t n = 0;

	assert_int_equal(raft_conf_state(net.node[id].raft, &c), 0);
	text[0] = 0;
#define ADD(...) (n += (size_t)snprintf(text + n, sizeof(text) - n, __VA_ARGS__))
	for (size_t i = 0; i < c.n_voters; i++)
		ADD("%s%d", i ? " " : "", (int)c.voters[i]);
	for (size_t i = 0; i < c.n_voters_outgoing; i++)
		ADD("%s%d", i ? " " : "&", (int)c.voters_outgoing[i]);
	for (size_t i = 0; i < c.n_learners; i++)
		ADD(" l%d", (int)c.learners[i]);
	for (size_t i = 0; i < c.n_learners_next; i++)
		ADD(" n%d", (int)c.learners_next[i]);
	if (c.auto_leave)
		ADD(" auto");
#undef ADD
	raft_conf_state_release(&c);
	return text;
}

static void rounds(size_t n)
{
	while (n--) {
		for (uint64_t id = 1; id < NET_NODES; id++)
			if (net.node[id].raft)
				net_tick(&net, id, 1);
		net_settle(&net);
	}
}

static void a_learner_follows_and_is_promoted(void **state)
{
	net_propose(&net, 1, "a");
	assert_int_equal(net_change(&net, 1, RAFT_CONF_ADD_LEARNER, 2), 0);
	assert_string_equal(conf_of(1), "1 l2");
	net_start(&net, 2);
	rounds(2);
	assert_int_equal(net_status(&net, 2).applied, 3);
	/* It neither counts nor stands for election. */
	net_crash(&net, 2, 0);
	net_propose(&net, 1, "b");
	assert_int_equal(net_status(&net, 1).commit, 4);
	net_start(&net, 2);
	net_tick(&net, 2, 100);
	assert_int_equal(net_status(&net, 2).role, RAFT_FOLLOWER);
	net_change(&net, 1, RAFT_CONF_ADD_NODE, 2);
	rounds(2);
	assert_string_equal(conf_of(2), "1 2");
	net_isolate(&net, 2, true);
	net_propose(&net, 1, "c");
	assert_int_equal(net_status(&net, 1).commit, 5);
}

static void a_leader_knows_how_far_its_members_are(void **state)
{
	struct raft_member m;

	net_change(&net, 1, RAFT_CONF_ADD_LEARNER, 2);
	assert_true(raft_member(net.node[1].raft, 2, &m));
	assert_true(m.learner && !m.snapshot && m.match == 0);
	net_start(&net, 2);
	rounds(2);
	assert_true(raft_member(net.node[1].raft, 2, &m));
	assert_true(m.active && m.match == 2);
	assert_true(raft_member(net.node[1].raft, 1, &m));
	assert_true(m.active && !m.learner && m.match == 2);
	assert_true(net_status(&net, 2).learner && !net_status(&net, 1).learner);
	assert_false(raft_member(net.node[2].raft, 1, &m));	/* no leader */
	assert_false(raft_member(net.node[1].raft, 3, &m));	/* no member */
}

/* Thesis 4.1: one change at a time; the second is appended as an empty entry. */
static void only_one_change_is_under_way(void **state)
{
	net.slow_disk = true;
	net_change(&net, 1, RAFT_CONF_ADD_LEARNER, 2);
	net_change(&net, 1, RAFT_CONF_ADD_LEARNER, 3);
	while (net_write_done(&net, 1))
		;
	assert_string_equal(conf_of(1), "1 l2");
	assert_int_equal(net_status(&net, 1).applied, 3);
	net_change(&net, 1, RAFT_CONF_ADD_LEARNER, 3);
	while (net_write_done(&net, 1))
		;
	assert_string_equal(conf_of(1), "1 l2 l3");
}

/* A new leader takes up no change while an older one may be waiting in its log. */
static void a_new_leader_settles_older_changes_first(void **state)
{
	net.slow_disk = true;
	net_change(&net, 1, RAFT_CONF_ADD_LEARNER, 2);
	net_crash(&net, 1, 1);
	net_start(&net, 1);
	net_event(&net, 1, RAFT_CAMPAIGN);
	assert_int_equal(net_status(&net, 1).role, RAFT_LEADER);
	net_change(&net, 1, RAFT_CONF_ADD_LEARNER, 3);
	while (net_write_done(&net, 1))
		;
	assert_string_equal(conf_of(1), "1 l2");
	net_change(&net, 1, RAFT_CONF_ADD_LEARNER, 3);
	while (net_write_done(&net, 1))
		;
	assert_string_equal(conf_of(1), "1 l2 l3");
}

static void a_removed_leader_steps_down(void **state)
{
	net_change(&net, 1, RAFT_CONF_REMOVE_NODE, 1);
	net_settle(&net);
	assert_int_equal(net_status(&net, 1).role, RAFT_FOLLOWER);
	assert_string_equal(conf_of(2), "2 3");
	rounds(40);
	assert_true(net_leader(&net) == 2 || net_leader(&net) == 3);
	assert_int_equal(net_status(&net, 1).role, RAFT_FOLLOWER);
}

/* A member that was removed and does not know it cannot disturb the others. */
static void a_removed_member_does_not_disturb(void **state)
{
	net_isolate(&net, 3, true);
	net_change(&net, 1, RAFT_CONF_REMOVE_NODE, 3);
	net_settle(&net);
	assert_string_equal(conf_of(1), "1 2");
	net_isolate(&net, 3, false);
	rounds(100);
	assert_int_equal(net_leader(&net), 1);
	assert_int_equal(net_status(&net, 1).term, 1);
}

/* Thesis 4.3: two members replaced at once, by way of a joint configuration that is
 * left by itself. */
static void a_joint_configuration_replaces_members(void **state)
{
	struct blob *b = net_conf_blob2(RAFT_CONF_ADD_NODE, 4, RAFT_CONF_REMOVE_NODE, 3);

	net_start(&net, 4);
	net.cut[1][4] = true;
	assert_int_equal(net_propose_blob(&net, 1, RAFT_ENTRY_CONF_CHANGE_V2, b), 0);
	net_isolate(&net, 2, true);
	net_settle(&net);
	/* Joint, and without 2 and 4 there is no majority of the new half. */
	assert_string_equal(conf_of(1), "1 2 4&1 2 3 auto");
	net.cut[1][4] = false;
	net_isolate(&net, 2, false);
	rounds(5);
	assert_string_equal(conf_of(1), "1 2 4");
	assert_string_equal(conf_of(2), "1 2 4");
	assert_string_equal(conf_of(4), "1 2 4");
}

/* Thesis 4.3: the old half must agree as well, for the entry that leaves it, too. */
static void a_joint_configuration_needs_its_old_half(void **state)
{
	struct blob *b = net_conf_blob2(RAFT_CONF_ADD_NODE, 4, RAFT_CONF_REMOVE_NODE, 3);

	net_start(&net, 4);
	assert_int_equal(net_propose_blob(&net, 1, RAFT_ENTRY_CONF_CHANGE_V2, b), 0);
	while (net.n_bag && strcmp(conf_of(1), "1 2 4&1 2 3 auto"))
		net_deliver(&net, 0);
	net_isolate(&net, 2, true);
	net_isolate(&net, 3, true);
	rounds(5);
	assert_int_equal(net_status(&net, 4).last_index, net_status(&net, 1).last_index);
	assert_true(net_status(&net, 1).commit < net_status(&net, 1).last_index);
	assert_string_equal(conf_of(1), "1 2 4&1 2 3 auto");
	assert_string_equal(conf_of(4), "1 2 4&1 2 3 auto");
	/* 2 and 4 are most of the new half, and no leader without most of the old. */
	net_crash(&net, 1, 0);
	net_isolate(&net, 2, false);
	rounds(60);
	assert_int_equal(net_leader(&net), 0);
	net_isolate(&net, 3, false);
	rounds(60);
	assert_int_not_equal(net_leader(&net), 0);
	assert_string_equal(conf_of(4), "1 2 4");
}

/* The leader that began it is gone: the next one leaves the joint configuration. */
static void a_new_leader_leaves_the_joint_configuration(void **state)
{
	struct blob *b = net_conf_blob2(RAFT_CONF_ADD_NODE, 4, RAFT_CONF_ADD_LEARNER, 3);

	net_start(&net, 4);
	net.slow_disk = true;
	assert_int_equal(net_propose_blob(&net, 1, RAFT_ENTRY_CONF_CHANGE_V2, b), 0);
	for (size_t i = 0; i < 20 && strcmp(conf_of(2), "1 2 4&1 2 3 n3 auto"); i++) {
		for (uint64_t id = 1; id <= 4; id++)
			net_write_done(&net, id);
		if (net.n_bag)
			net_deliver(&net, 0);
	}
	assert_string_equal(conf_of(2), "1 2 4&1 2 3 n3 auto");
	net_crash(&net, 1, 0);
	net.slow_disk = false;
	for (uint64_t id = 2; id <= 4; id++)
		while (net_write_done(&net, id))
			;
	rounds(60);
	assert_string_equal(conf_of(2), "1 2 4 l3");
	assert_string_equal(conf_of(3), "1 2 4 l3");
	assert_string_equal(conf_of(4), "1 2 4 l3");
}

/* What is refused at proposal or by the caller, and what cannot be applied. */
static void changes_that_change_nothing(void **state)
{
	struct raft_conf_single last = { RAFT_CONF_REMOVE_NODE, 1 };
	struct raft_conf_single none = { RAFT_CONF_REMOVE_NODE, 0 };
	struct raft_conf_change changes[] = {
		{ .changes = &none, .n_changes = 1 }, { .n_changes = 0 },
		{ .changes = &last, .n_changes = 1 },
	};
	struct raft_event ev = { .type = RAFT_CONF_APPLIED };

	net_propose_blob(&net, 1, RAFT_ENTRY_CONF_CHANGE_V2, NULL);	/* not joint */
	assert_int_equal(net_status(&net, 1).applied, 2);
	assert_int_equal(net_step(&net, 1, &ev), 0);
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		ev.conf_change = &changes[i];
		assert_int_equal(raft_step(net.node[1].raft, &ev, &net.node[1].up),
				 i == 2 ? -EINVAL : 0);
		raft_check(net.node[1].raft);
		assert_string_equal(conf_of(1), "1");
	}
}

static int transfer(uint64_t id, uint64_t to)
{
	return net_step(&net, id, &(struct raft_event){ .type = RAFT_TRANSFER, .id = to });
}

static void leadership_goes_where_it_is_sent(void **state)
{
	assert_int_equal(transfer(1, 3), 0);
	net_settle(&net);
	assert_int_equal(net_leader(&net), 3);
	assert_int_equal(net_status(&net, 3).term, 2);
	/* A follower may ask, too. */
	assert_int_equal(transfer(1, 2), 0);
	net_settle(&net);
	assert_int_equal(net_leader(&net), 2);
}

/* The target is brought up to date first; nothing new is taken up meanwhile. */
static void a_transfer_waits_for_the_log(void **state)
{
	net_isolate(&net, 3, true);
	net_propose(&net, 1, "a");
	net_settle(&net);
	assert_int_equal(transfer(1, 3), 0);
	assert_int_equal(net_status(&net, 1).transferee, 3);
	assert_int_equal(net_propose(&net, 1, "b"), RAFT_DROPPED);
	net_isolate(&net, 3, false);
	rounds(2);
	assert_int_equal(net_leader(&net), 3);
	assert_int_equal(net_status(&net, 3).applied, net.commit);
}

static void a_transfer_that_takes_too_long_is_given_up(void **state)
{
	net_isolate(&net, 3, true);
	assert_int_equal(transfer(1, 3), 0);
	assert_int_equal(net_propose(&net, 1, "a"), RAFT_DROPPED);
	for (size_t i = 0; i < 10; i++) {
		net_tick(&net, 1, 1);
		net_settle(&net);
	}
	assert_int_equal(net_status(&net, 1).role, RAFT_LEADER);
	assert_int_equal(net_propose(&net, 1, "a"), 0);
}

static void a_member_left_behind_gets_a_snapshot(void **state)
{
	net_isolate(&net, 3, true);
	for (size_t i = 0; i < 10; i++) {
		net_propose(&net, 1, "a");
		net_settle(&net);
	}
	net_compact(&net, 1, 8);
	net_compact(&net, 1, 11);
	assert_int_equal(net_status(&net, 1).first_index, 12);
	net_isolate(&net, 3, false);
	rounds(3);
	assert_int_equal(net.snapshots, 1);
	assert_int_equal(net_status(&net, 3).applied, 11);
	assert_int_equal(net_status(&net, 3).first_index, 12);
	net_propose(&net, 1, "b");
	net_settle(&net);
	assert_int_equal(net_status(&net, 3).applied, 12);
	/* It starts again from what the snapshot left on its disk. */
	net_crash(&net, 3, 0);
	net_start(&net, 3);
	rounds(1);
	assert_int_equal(net_status(&net, 3).applied, 12);
}

/* A snapshot that gets lost is sent again, after the next sign of life. */
static void a_lost_snapshot_is_sent_again(void **state)
{
	bool lost = false;

	net_isolate(&net, 3, true);
	net_propose(&net, 1, "a");
	net_settle(&net);
	net_compact(&net, 1, 2);
	net_isolate(&net, 3, false);
	for (size_t i = 0; i < 10 && !lost; i++) {
		net_tick(&net, 1, 1);
		while (net.n_bag && !lost) {
			lost = net.bag[0].type == RAFT_MSG_SNAP;
			if (lost)
				net_lose(&net, 0);
			else
				net_deliver(&net, 0);
		}
	}
	assert_true(lost);
	rounds(3);
	assert_int_equal(net.snapshots, 1);
	assert_int_equal(net_status(&net, 3).applied, 2);
}

/* A follower whose log already holds what the snapshot does keeps its log. */
static void a_snapshot_of_what_is_known_only_commits(void **state)
{
	uint64_t voters[] = { 1, 2, 3 };
	struct raft_snapshot_meta meta = { 2, 1, { .voters = voters, .n_voters = 3 } };
	struct raft_message m = {
		.type = RAFT_MSG_SNAP, .from = 1, .to = 3, .term = 1, .snapshot = &meta,
	};
	struct raft_event ev = { .type = RAFT_RECEIVE, .message = &m };

	net_propose(&net, 1, "a");
	while (net_status(&net, 3).last_index < 2)
		net_deliver(&net, 0);
	assert_int_equal(net_status(&net, 3).commit, 1);
	net_step(&net, 3, &ev);
	assert_int_equal(net_status(&net, 3).commit, 2);
	assert_int_equal(net_status(&net, 3).first_index, 1);
	assert_int_equal(net.snapshots, 0);
}

/* Members that know their leader is gone need not wait out the election timeout. */
static void a_forgotten_leader_is_replaced_at_once(void **state)
{
	net_crash(&net, 1, 0);
	net_event(&net, 2, RAFT_CAMPAIGN);
	net_settle(&net);
	assert_int_equal(net_leader(&net), 0);	/* 3 sticks to its leader */
	net_event(&net, 3, RAFT_FORGET_LEADER);
	net_event(&net, 2, RAFT_CAMPAIGN);
	net_settle(&net);
	assert_int_equal(net_leader(&net), 2);
}

/*
 * Found by the simulator: a change is taken up once the one before is in force, so that of
 * two in a log the first is committed, whatever a commit index says that was not
 * synced. Who did not know might stand in a configuration that is long gone.
 */
static void of_two_changes_the_first_is_committed(void **state)
{
	struct raft_entry log[] = {
		{ 1, 1, RAFT_ENTRY_CONF_CHANGE_V2, net_conf_blob(RAFT_CONF_ADD_NODE, 4) },
		{ 1, 2, RAFT_ENTRY_NORMAL, NULL },
		{ 1, 3, RAFT_ENTRY_CONF_CHANGE_V2, net_conf_blob(RAFT_CONF_ADD_NODE, 5) },
		{ 1, 4, RAFT_ENTRY_NORMAL, NULL },
	};
	struct raft_message m = {
		.type = RAFT_MSG_APP, .from = 2, .to = 1, .term = 1,
		.entries = log, .n_entries = ARRAY_SIZE(log),
	};
	uint64_t voters[] = { 1, 2, 3 };
	struct raft_config c = {
		.id = 1, .election_ticks = 10, .heartbeat_ticks = 1, .max_inflight = 1,
		.snapshot.conf = { .voters = voters, .n_voters = 3 },
	};
	struct raft_update up;
	struct raft_status st;
	struct raft *raft;
	const char *why;

	/* From a leader that does not know it either. */
	raft_update_init(&up);
	assert_int_equal(raft_new(&c, &raft, &why), 0);
	raft_step(raft, &(struct raft_event){ .type = RAFT_RECEIVE, .message = &m }, &up);
	raft_status(raft, &st);
	assert_int_equal(st.commit, 1);
	raft_step(raft, &(struct raft_event){ .type = RAFT_CAMPAIGN }, &up);
	raft_status(raft, &st);
	assert_int_equal(st.role, RAFT_FOLLOWER);
	raft_update_release(&up);
	raft_free(raft);

	/* And at the start. */
	c.hard_state.term = 1;
	c.entries = log;
	c.n_entries = ARRAY_SIZE(log);
	assert_int_equal(raft_new(&c, &raft, &why), 0);
	raft_status(raft, &st);
	assert_int_equal(st.commit, 1);
	raft_free(raft);
	for (size_t i = 0; i < ARRAY_SIZE(log); i++)
		blob_put(log[i].payload);
}

int main(void)
{
#define ONE(f) cmocka_unit_test_setup_teardown(f, setup_one, teardown)
#define THREE(f) cmocka_unit_test_setup_teardown(f, setup_three, teardown)
	const struct CMUnitTest tests[] = {
		ONE(a_learner_follows_and_is_promoted),
		ONE(a_leader_knows_how_far_its_members_are),
		ONE(only_one_change_is_under_way),
		cmocka_unit_test(of_two_changes_the_first_is_committed),
		ONE(a_new_leader_settles_older_changes_first),
		THREE(a_removed_leader_steps_down),
		THREE(a_removed_member_does_not_disturb),
		THREE(a_joint_configuration_replaces_members),
		THREE(a_joint_configuration_needs_its_old_half),
		THREE(a_new_leader_leaves_the_joint_configuration),
		ONE(changes_that_change_nothing),
		THREE(leadership_goes_where_it_is_sent),
		THREE(a_transfer_waits_for_the_log),
		THREE(a_transfer_that_takes_too_long_is_given_up),
		THREE(a_member_left_behind_gets_a_snapshot),
		THREE(a_lost_snapshot_is_sent_again),
		THREE(a_snapshot_of_what_is_known_only_commits),
		THREE(a_forgotten_leader_is_replaced_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
