// SPDX-License-Identifier: Apache-2.0
/* libraft step by step: each test is a short story with one point. */
#include <errno.h>

#include "tests/unit/raft_net.h"

static struct net net;

static int setup_of(size_t voters)
{
	net_init(&net, voters);
	net_start_all(&net, voters);
	return 0;
}

static int setup_one(void **state)
{
	return setup_of(1);
}

static int setup_three(void **state)
{
	return setup_of(3);
}

static int setup_empty(void **state)
{
	net_init(&net, 0);
	return 0;
}

static int teardown(void **state)
{
	net_release(&net);
	return 0;
}

static void expect(uint64_t id, enum raft_role role, uint64_t term, uint64_t commit)
{
	struct raft_status st = net_status(&net, id);

	assert_int_equal(st.role, role);
	assert_int_equal(st.term, term);
	assert_int_equal(st.commit, commit);
}

/* --- a group of one ----------------------------------------------------------- */

static void one_leads_at_its_timeout(void **state)
{
	net_tick(&net, 1, 20);
	expect(1, RAFT_LEADER, 1, 1);
	assert_int_equal(net_status(&net, 1).applied, 1);
}

static void one_commits_only_what_is_stored(void **state)
{
	net.slow_disk = true;
	net_event(&net, 1, RAFT_CAMPAIGN);
	expect(1, RAFT_LEADER, 1, 0);
	assert_int_equal(net_propose(&net, 1, "a"), 0);
	expect(1, RAFT_LEADER, 1, 0);
	assert_true(net_write_done(&net, 1));
	expect(1, RAFT_LEADER, 1, 1);
	assert_int_equal(net_status(&net, 1).last_index, 2);
	assert_true(net_write_done(&net, 1));
	expect(1, RAFT_LEADER, 1, 2);
}

static void one_answers_reads_after_its_first_commit(void **state)
{
	net.slow_disk = true;
	assert_int_equal(net_read(&net, 1, 1), RAFT_DROPPED);
	net_event(&net, 1, RAFT_CAMPAIGN);
	assert_int_equal(net_read(&net, 1, 2), 0);
	assert_int_equal(net.node[1].n_reads, 0);
	while (net_write_done(&net, 1))
		;
	assert_int_equal(net.node[1].n_reads, 1);
	assert_int_equal(net.node[1].reads[0].id, 2);
	assert_int_equal(net.node[1].reads[0].index, 1);
	assert_int_equal(net_read(&net, 1, 3), 0);
	assert_int_equal(net.node[1].n_reads, 2);
	assert_int_equal(net.node[1].reads[1].id, 3);
}

static void one_restarts_from_its_disk(void **state)
{
	net_event(&net, 1, RAFT_CAMPAIGN);
	net_propose(&net, 1, "a");
	net_propose(&net, 1, "b");
	expect(1, RAFT_LEADER, 1, 3);
	net.node[1].disk.applied = 1;	/* the store lags behind the log */
	net_crash(&net, 1, 0);
	net_start(&net, 1);
	expect(1, RAFT_FOLLOWER, 1, 3);
	assert_int_equal(net_status(&net, 1).applied, 1);
	net_tick(&net, 1, 20);
	expect(1, RAFT_LEADER, 2, 4);
	assert_int_equal(net_status(&net, 1).applied, 4);
}

/* What was never stored was never acknowledged, and may be forgotten. */
static void one_forgets_what_was_not_stored(void **state)
{
	net.slow_disk = true;
	net_event(&net, 1, RAFT_CAMPAIGN);
	net_propose(&net, 1, "a");
	net_crash(&net, 1, 1);
	net_start(&net, 1);
	assert_int_equal(net_status(&net, 1).last_index, 1);
	expect(1, RAFT_FOLLOWER, 1, 0);
}

/*
 * Alone, a leader's vote may still be on its way to disk; then nothing that names the
 * new term may reach a learner, or after a crash the term could be led twice.
 */
static void one_tells_learners_nothing_before_its_vote_is_stored(void **state)
{
	net_event(&net, 1, RAFT_CAMPAIGN);
	net_change(&net, 1, RAFT_CONF_ADD_LEARNER, 2);
	net_start(&net, 2);
	net_settle(&net);
	expect(2, RAFT_FOLLOWER, 1, 2);
	net_crash(&net, 1, 0);
	net_start(&net, 1);
	net.slow_disk = true;
	net_event(&net, 1, RAFT_CAMPAIGN);
	assert_int_equal(net_status(&net, 1).role, RAFT_LEADER);
	net_tick(&net, 1, 3);
	assert_int_equal(net.n_bag, 0);
	net_write_done(&net, 1);
	assert_int_not_equal(net.n_bag, 0);
	net.slow_disk = false;
	while (net_write_done(&net, 1))
		;
	net_settle(&net);
	expect(2, RAFT_FOLLOWER, 2, 3);
}

/* --- bootstrap ------------------------------------------------------------------ */

/* As etcd starts a new group: a ConfChange of term 1 for each member, committed. */
static void a_group_bootstraps_from_its_log(void **state)
{
	for (uint64_t id = 1; id <= 3; id++) {
		struct net_disk *disk = &net.node[id].disk;

		disk->entries = calloc(3, sizeof(*disk->entries));
		assert_non_null(disk->entries);
		disk->n_entries = 3;
		for (uint64_t i = 0; i < 3; i++)
			disk->entries[i] = (struct raft_entry){
				1, i + 1, RAFT_ENTRY_CONF_CHANGE_V2,
				net_conf_blob(RAFT_CONF_ADD_NODE, i + 1),
			};
		disk->hard_state = (struct raft_hard_state){ 1, 0, 3 };
		net_start(&net, id);
	}
	net_event(&net, 1, RAFT_CAMPAIGN);	/* no configuration yet */
	assert_int_equal(net_status(&net, 1).applied, 3);
	for (uint64_t id = 2; id <= 3; id++)
		net_tick(&net, id, 1);
	assert_int_equal(net.node[1].disk.snapshot.conf.n_voters, 3);
	net_event(&net, 1, RAFT_CAMPAIGN);
	net_settle(&net);
	for (uint64_t id = 1; id <= 3; id++)
		expect(id, id == 1 ? RAFT_LEADER : RAFT_FOLLOWER, 2, 4);
}

/* --- three members --------------------------------------------------------------- */

static void three_elect_and_replicate(void **state)
{
	net_event(&net, 1, RAFT_CAMPAIGN);
	net_settle(&net);
	for (uint64_t id = 1; id <= 3; id++)
		expect(id, id == 1 ? RAFT_LEADER : RAFT_FOLLOWER, 1, 1);
	assert_int_equal(net_propose(&net, 1, "a"), 0);
	assert_int_equal(net_propose(&net, 2, "b"), 0);	/* forwarded */
	net_settle(&net);
	for (uint64_t id = 1; id <= 3; id++) {
		expect(id, id == 1 ? RAFT_LEADER : RAFT_FOLLOWER, 1, 3);
		assert_int_equal(net_status(&net, id).applied, 3);
	}
}

/* The leader's own disk is not needed where two followers have stored an entry, but
 * it hands out nothing to apply before it has. */
static void three_commit_while_the_leader_is_writing(void **state)
{
	net_event(&net, 1, RAFT_CAMPAIGN);
	net_settle(&net);
	net.slow_disk = true;
	net_propose(&net, 1, "a");
	while (net.n_bag) {
		net_deliver(&net, 0);
		net_write_done(&net, 2);
		net_write_done(&net, 3);
	}
	expect(1, RAFT_LEADER, 1, 2);
	assert_int_equal(net_status(&net, 1).applied, 1);
	assert_int_equal(net_status(&net, 1).stored, 1);
	while (net_write_done(&net, 1))
		;
	assert_int_equal(net_status(&net, 1).applied, 2);
}

static void three_survive_their_leader(void **state)
{
	net_event(&net, 1, RAFT_CAMPAIGN);
	net_settle(&net);
	net_propose(&net, 1, "a");
	net_settle(&net);
	net_crash(&net, 1, 0);
	for (size_t i = 0; i < 100 && !net_leader(&net); i++) {
		net_tick(&net, 2, 1);
		net_tick(&net, 3, 1);
		net_settle(&net);
	}
	assert_int_not_equal(net_leader(&net), 0);
	net_propose(&net, net_leader(&net), "b");
	net_settle(&net);
	net_start(&net, 1);
	net_tick(&net, net_leader(&net), 1);
	net_settle(&net);
	for (uint64_t id = 1; id <= 3; id++) {
		assert_int_equal(net_status(&net, id).commit, net.commit);
		assert_int_equal(net_status(&net, id).applied, net.commit);
	}
	assert_int_equal(net.commit, 4);	/* empty a empty b */
}

/* A leader cut off keeps appending what nobody else has; its tail is overwritten. */
static void three_repair_a_conflicting_tail(void **state)
{
	uint64_t other;

	net_event(&net, 1, RAFT_CAMPAIGN);
	net_settle(&net);
	net_isolate(&net, 1, true);
	for (size_t i = 0; i < 50; i++)
		net_propose(&net, 1, "lost");
	net_tick(&net, 2, 20);
	net_tick(&net, 3, 10);
	net_event(&net, 2, RAFT_CAMPAIGN);
	net_settle(&net);
	other = net_leader(&net);
	assert_true(other == 2 || other == 3);
	for (size_t i = 0; i < 5; i++)
		net_propose(&net, other, "kept");
	net_settle(&net);
	assert_int_equal(net_status(&net, 1).last_index, 51);
	net_isolate(&net, 1, false);
	for (size_t i = 0; i < 3; i++) {
		net_tick(&net, other, 1);
		net_settle(&net);
	}
	for (uint64_t id = 1; id <= 3; id++) {
		assert_int_equal(net_status(&net, id).last_index, 7);
		assert_int_equal(net_status(&net, id).applied, 7);
	}
}

/* Thesis 6.2: a leader that hears of no majority for an election timeout gives up. */
static void three_leader_cut_off_steps_down(void **state)
{
	net_event(&net, 1, RAFT_CAMPAIGN);
	net_settle(&net);
	net_isolate(&net, 1, true);
	net_tick(&net, 1, 21);
	assert_int_equal(net_status(&net, 1).role, RAFT_FOLLOWER);
	assert_int_equal(net_propose(&net, 1, "a"), RAFT_DROPPED);
}

/* Thesis 9.6: one that was cut off comes back without a higher term. */
static void three_pre_vote_does_not_disturb(void **state)
{
	net_event(&net, 1, RAFT_CAMPAIGN);
	net_settle(&net);
	net_isolate(&net, 3, true);
	net_tick(&net, 3, 100);
	assert_int_equal(net_status(&net, 3).role, RAFT_PRE_CANDIDATE);
	assert_int_equal(net_status(&net, 3).term, 1);
	net_isolate(&net, 3, false);
	net_tick(&net, 3, 20);
	net_settle(&net);
	expect(1, RAFT_LEADER, 1, 1);
	net_tick(&net, 1, 1);
	net_settle(&net);
	expect(3, RAFT_FOLLOWER, 1, 1);
}

static void three_confirm_reads_with_one_round(void **state)
{
	size_t heartbeats = 0;

	net_event(&net, 1, RAFT_CAMPAIGN);
	net_settle(&net);
	for (uint64_t i = 1; i <= 10; i++) {
		struct raft_event ev = { .type = RAFT_READ, .id = i };

		assert_int_equal(raft_step(net.node[1].raft, &ev, &net.node[1].up), 0);
		raft_check(net.node[1].raft);
	}
	for (size_t i = 0; i < net.node[1].up.n_messages; i++)
		heartbeats += net.node[1].up.messages[i].type == RAFT_MSG_HEARTBEAT;
	assert_int_equal(heartbeats, 2);
	net_update(&net, 1);
	assert_int_equal(net.node[1].n_reads, 0);
	net_deliver(&net, 0);
	net_deliver(&net, 1);	/* the first answer makes two of three */
	assert_int_equal(net.node[1].n_reads, 10);
	assert_int_equal(net_read(&net, 3, 11), 0);
	net_settle(&net);
	assert_int_equal(net.node[3].n_reads, 1);
	assert_int_equal(net.node[3].reads[0].id, 11);
}

/* An answer to a heartbeat that was sent before the read proves nothing about it. */
static void a_late_heartbeat_response_confirms_no_later_read(void **state)
{
	struct raft_message late;

	net_event(&net, 1, RAFT_CAMPAIGN);
	net_settle(&net);
	net_read(&net, 1, 1);
	net_deliver(&net, 0);			/* to 2 */
	assert_int_equal(net.n_bag, 2);
	late = net.bag[1];			/* its answer: kept back */
	assert_int_equal(late.type, RAFT_MSG_HEARTBEAT_RESP);
	net.n_bag--;
	net_tick(&net, 1, 1);			/* the round is sent again */
	net_read(&net, 1, 2);
	while (net.n_bag)
		net_message_drop(&net.bag[--net.n_bag]);
	net_bag_add(&net, &late);
	net_deliver(&net, 0);
	assert_int_equal(net.node[1].n_reads, 1);
	assert_int_equal(net.node[1].reads[0].id, 1);
}

static void a_full_window_goes_on_after_loss(void **state)
{
	net_event(&net, 1, RAFT_CAMPAIGN);
	net_settle(&net);
	net_isolate(&net, 2, true);
	for (size_t i = 0; i < 200; i++)
		net_propose(&net, 1, "x");
	net_settle(&net);
	expect(1, RAFT_LEADER, 1, 201);
	assert_int_equal(net_status(&net, 2).last_index, 1);
	net_isolate(&net, 2, false);
	for (size_t i = 0; i < 3; i++) {
		net_tick(&net, 1, 1);
		net_settle(&net);
	}
	expect(2, RAFT_FOLLOWER, 1, 201);
}

/* --- limits ------------------------------------------------------------------------ */

static void uncommitted_bytes_are_limited(void **state)
{
	net_crash(&net, 1, 0);
	net.node[1].config.max_uncommitted_bytes = 10;
	net_start(&net, 1);
	net_event(&net, 1, RAFT_CAMPAIGN);
	net.slow_disk = true;
	assert_int_equal(net_propose(&net, 1, "larger than the limit"), 0);
	assert_int_equal(net_propose(&net, 1, "x"), RAFT_TOO_MUCH);
	assert_int_equal(net_propose(&net, 1, ""), 0);
	while (net_write_done(&net, 1))
		;
	assert_int_equal(net_propose(&net, 1, "123456789"), 0);
	assert_int_equal(net_propose(&net, 1, "0"), 0);
	assert_int_equal(net_propose(&net, 1, "1"), RAFT_TOO_MUCH);
}

static void committed_entries_come_in_slices(void **state)
{
	struct raft_update *up = &net.node[1].up;
	struct raft_event ev = { .type = RAFT_PROPOSE };
	struct raft_entry e[10];

	net_crash(&net, 1, 0);
	net.node[1].config.max_committed_bytes = 10;
	net_start(&net, 1);
	net_event(&net, 1, RAFT_CAMPAIGN);
	for (size_t i = 0; i < ARRAY_SIZE(e); i++)
		e[i] = (struct raft_entry){ .payload = net_blob("four") };
	ev.entries = e;
	ev.n_entries = ARRAY_SIZE(e);
	assert_int_equal(raft_step(net.node[1].raft, &ev, up), 0);
	ev = (struct raft_event){ .type = RAFT_STORED, .index = 11, .term = 1 };
	assert_int_equal(raft_step(net.node[1].raft, &ev, up), 0);
	assert_int_equal(up->n_committed, 2);
	raft_update_clear(up);
	ev = (struct raft_event){ .type = RAFT_TICK };
	assert_int_equal(raft_step(net.node[1].raft, &ev, up), 0);
	assert_int_equal(up->n_committed, 0);
	ev = (struct raft_event){ .type = RAFT_APPLIED, .index = 2 };
	assert_int_equal(raft_step(net.node[1].raft, &ev, up), 0);
	assert_int_equal(up->n_committed, 1);
	assert_int_equal(up->committed[0].index, 4);
	raft_check(net.node[1].raft);
	for (size_t i = 0; i < ARRAY_SIZE(e); i++)
		blob_put(e[i].payload);
	raft_update_clear(up);
}

/* --- what may be committed ------------------------------------------------------------ */

/* Gives @id, which is down, a log on disk: one entry for each term. */
static void disk_log(uint64_t id, const uint64_t *terms, size_t n, uint64_t commit)
{
	struct net_disk *disk = &net.node[id].disk;

	disk->entries = calloc(n, sizeof(*disk->entries));
	assert_non_null(disk->entries);
	disk->n_entries = n;
	for (size_t i = 0; i < n; i++)
		disk->entries[i] = (struct raft_entry){
			terms[i], i + 1, RAFT_ENTRY_NORMAL, net_blob("x"),
		};
	disk->hard_state = (struct raft_hard_state){ terms[n - 1], 0, commit };
}

static void receive(uint64_t id, struct raft_message m)
{
	struct raft_event ev = { .type = RAFT_RECEIVE, .message = &m };

	m.to = id;
	assert_int_equal(net_step(&net, id, &ev), 0);
}

/* Thesis figure 3.7: an entry of an earlier term that a majority has may still be
 * overwritten, until one of the leader's own term is committed after it. */
static void an_earlier_term_is_not_committed_by_counting(void **state)
{
	net_crash(&net, 1, 0);
	for (uint64_t id = 1; id <= 2; id++)
		disk_log(id, (uint64_t[]){ 1, 2 }, 3 - id, 0);
	net_crash(&net, 2, 0);
	net.node[1].config.max_message_bytes = 0;	/* one entry in a message */
	net_start(&net, 1);
	net_start(&net, 2);
	net_isolate(&net, 3, true);
	net_event(&net, 1, RAFT_CAMPAIGN);
	while (net.n_bag && net_status(&net, 2).last_index < 2)
		net_deliver(&net, 0);
	assert_int_equal(net_status(&net, 1).role, RAFT_LEADER);
	assert_int_equal(net.bag[0].type, RAFT_MSG_APP_RESP);
	assert_int_equal(net.bag[0].index, 2);
	net_deliver(&net, 0);
	expect(1, RAFT_LEADER, 3, 0);
	net_settle(&net);
	expect(1, RAFT_LEADER, 3, 3);
}

/* The leader's commit index says nothing about entries it has not matched with. */
static void a_tail_that_is_not_the_leaders_is_not_committed(void **state)
{
	net_crash(&net, 1, 0);
	disk_log(1, (uint64_t[]){ 1, 1, 1 }, 3, 0);
	net_start(&net, 1);
	receive(1, (struct raft_message){ .type = RAFT_MSG_APP, .from = 2, .term = 2, .index = 1,
					  .log_term = 1, .commit = 3 });
	expect(1, RAFT_FOLLOWER, 2, 1);
}

/* One that is no voter any more, and whose log is longer, refuses its vote and says
 * what is committed; that may be what makes it irrelevant. */
static void a_refusal_says_what_is_committed(void **state)
{
	struct raft_conf_state *conf = &net.node[1].disk.snapshot.conf;

	net_crash(&net, 1, 0);
	net_crash(&net, 2, 0);
	disk_log(1, (uint64_t[]){ 1, 1, 1 }, 3, 2);
	disk_log(2, (uint64_t[]){ 1, 1 }, 2, 0);
	conf->voters[0] = 2;
	conf->voters[1] = 3;
	conf->n_voters = 2;
	net_start(&net, 1);
	net_start(&net, 2);
	net_isolate(&net, 3, true);
	net_event(&net, 2, RAFT_CAMPAIGN);
	assert_int_equal(net_status(&net, 2).role, RAFT_PRE_CANDIDATE);
	assert_int_equal(net_status(&net, 2).commit, 0);
	net_settle(&net);
	expect(2, RAFT_FOLLOWER, 1, 2);
}

/* --- asynchronous storage ------------------------------------------------------------ */

static void append_from(uint64_t from, uint64_t term, uint64_t entry_term)
{
	struct raft_entry e = { entry_term, 2, RAFT_ENTRY_NORMAL, net_blob("x") };
	struct raft_message m = {
		.type = RAFT_MSG_APP, .from = from, .to = 1, .term = term,
		.log_term = 1, .index = 1, .entries = &e, .n_entries = 1,
	};
	struct raft_event ev = { .type = RAFT_RECEIVE, .message = &m };

	assert_int_equal(net_step(&net, 1, &ev), 0);
	blob_put(e.payload);
}

/*
 * Entry 2 of term 2 is written, overwritten by one of term 3, and written again as it
 * was, all while the first write is under way: that the first is done says nothing
 * about the third.
 */
static void a_stored_entry_may_have_been_overwritten(void **state)
{
	net_event(&net, 1, RAFT_CAMPAIGN);
	net_settle(&net);
	net.slow_disk = true;
	append_from(2, 2, 2);
	append_from(3, 3, 3);
	append_from(2, 4, 2);
	assert_int_equal(net_status(&net, 1).stored, 1);
	net_write_done(&net, 1);
	assert_int_equal(net_status(&net, 1).stored, 1);
	net_write_done(&net, 1);
	assert_int_equal(net_status(&net, 1).stored, 1);
	net_write_done(&net, 1);
	assert_int_equal(net_status(&net, 1).stored, 2);
}

static void two_appends_are_under_way_at_once(void **state)
{
	net_event(&net, 1, RAFT_CAMPAIGN);
	net_settle(&net);
	net.slow_disk = true;
	net_propose(&net, 1, "a");
	net_propose(&net, 1, "b");
	assert_int_equal(net_status(&net, 1).stored, 1);
	assert_int_equal(net_status(&net, 1).last_index, 3);
	net_write_done(&net, 1);
	assert_int_equal(net_status(&net, 1).stored, 2);
	net_write_done(&net, 1);
	assert_int_equal(net_status(&net, 1).stored, 3);
	assert_int_equal(net_status(&net, 1).commit, 1);
}

/* Only the last append was reported: those before it are durable as well. What was
 * never appended is not. */
static void an_append_stands_for_those_before(void **state)
{
	struct raft_event ev = { .type = RAFT_STORED, .index = 9, .term = 1 };

	net_event(&net, 1, RAFT_CAMPAIGN);
	net_settle(&net);
	net.slow_disk = true;
	for (size_t i = 0; i < 3; i++)
		net_propose(&net, 1, "a");
	net_step(&net, 1, &ev);
	assert_int_equal(net_status(&net, 1).stored, 1);
	ev.index = 3;
	net_step(&net, 1, &ev);
	assert_int_equal(net_status(&net, 1).stored, 3);
}

/* --- memory -------------------------------------------------------------------------- */

static void the_log_grows_and_shrinks(void **state)
{
	struct raft_entry e[5000];
	struct raft_event ev = { .type = RAFT_PROPOSE, .entries = e, .n_entries = ARRAY_SIZE(e) };
	struct raft_event compact = { .type = RAFT_COMPACT, .index = UINT64_MAX };

	net_event(&net, 1, RAFT_CAMPAIGN);
	for (size_t i = 0; i < ARRAY_SIZE(e); i++)
		e[i] = (struct raft_entry){ .payload = net_blob("x") };
	assert_int_equal(net_step(&net, 1, &ev), 0);
	for (size_t i = 0; i < ARRAY_SIZE(e); i++)
		blob_put(e[i].payload);
	assert_int_equal(net_status(&net, 1).applied, 5001);
	/* No more than what is applied and stored goes, whatever is asked for. */
	assert_int_equal(net_step(&net, 1, &compact), 0);
	assert_int_equal(net_status(&net, 1).first_index, 5002);
	assert_int_equal(net_status(&net, 1).last_index, 5001);
	net_propose(&net, 1, "y");
	assert_int_equal(net_status(&net, 1).applied, 5002);
}

/* --- what is found on disk ------------------------------------------------------------- */

static struct raft_entry two_entries[] = { { .term = 1, .index = 1 }, { .term = 1, .index = 2 } };
static struct raft_entry a_gap[] = { { .term = 1, .index = 1 }, { .term = 1, .index = 3 } };
static struct raft_entry falling[] = { { .term = 2, .index = 1 }, { .term = 1, .index = 2 } };
static struct raft_entry strange[] = { { .term = 1, .index = 1, .type = 7 } };
static uint64_t unsorted[] = { 2, 1 };

#define GOOD .id = 1, .election_ticks = 10, .heartbeat_ticks = 1, .max_inflight = 1
#define LOG(e) .entries = e, .n_entries = ARRAY_SIZE(e)

static const struct {
	const char *why;	/* NULL: fine */
	struct raft_config config;
} configs[] = {
	{ NULL, { GOOD } },
	{ NULL, { GOOD, LOG(two_entries), .applied = 2 } },
	{ "id is 0", { .election_ticks = 10, .heartbeat_ticks = 1, .max_inflight = 1 } },
	{ "heartbeat_ticks is 0", { .id = 1, .election_ticks = 10, .max_inflight = 1 } },
	{ "not greater", { .id = 1, .election_ticks = 1, .heartbeat_ticks = 1 } },
	{ "election_ticks is too large",
	  { .id = 1, .election_ticks = UINT32_MAX, .heartbeat_ticks = 1 } },
	{ "max_inflight", { .id = 1, .election_ticks = 10, .heartbeat_ticks = 1 } },
	{ "gap", { GOOD, LOG(a_gap) } },
	{ "gap", { GOOD, LOG(two_entries), .snapshot = { .index = 5, .term = 1 }, .applied = 5 } },
	{ "lower", { GOOD, LOG(falling) } },
	{ "lower",
	  { GOOD, .entries = &two_entries[1], .n_entries = 1, .applied = 1,
	    .snapshot = { .index = 1, .term = 2 } } },
	{ "unknown type", { GOOD, LOG(strange) } },
	{ "is NULL", { GOOD, .n_entries = 1 } },
	{ "index is too large", { GOOD, .snapshot = { .index = UINT64_MAX, .term = 1 } } },
	{ "without a term", { GOOD, .snapshot = { .index = 1 }, .applied = 1 } },
	{ "contradicts", { GOOD, .snapshot.conf = { .voters = unsorted, .n_voters = 2 } } },
	{ "outside", { GOOD, LOG(two_entries), .applied = 3 } },
	{ "outside", { GOOD, .snapshot = { .index = 2, .term = 1 }, .applied = 1 } },
	{ "entries are missing", { GOOD, LOG(two_entries), .hard_state.commit = 3 } },
	{ "term is too large", { GOOD, .hard_state.term = UINT64_MAX } },
};

static void a_disk_that_contradicts_itself_is_refused(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
		struct raft *raft = NULL;
		const char *why = "";
		int ret = raft_new(&configs[i].config, &raft, &why);

		if (ret != (configs[i].why ? -EINVAL : 0) ||
		    (configs[i].why && !strstr(why, configs[i].why)))
			fail_msg("%zu: %d: %s, not %s", i, ret, why, configs[i].why);
		raft_free(raft);
	}
}

/* A crash may come between an entry and the hard state of its term. */
static void a_term_is_learned_from_the_log(void **state)
{
	net_crash(&net, 1, 0);
	disk_log(1, (uint64_t[]){ 1, 4 }, 2, 1);
	net.node[1].disk.hard_state = (struct raft_hard_state){ 3, 2, 1 };
	net_start(&net, 1);
	expect(1, RAFT_FOLLOWER, 4, 1);
	assert_int_equal(net_status(&net, 1).vote, 0);
}

int main(void)
{
#define ONE(f) cmocka_unit_test_setup_teardown(f, setup_one, teardown)
#define THREE(f) cmocka_unit_test_setup_teardown(f, setup_three, teardown)
#define EMPTY(f) cmocka_unit_test_setup_teardown(f, setup_empty, teardown)
	const struct CMUnitTest tests[] = {
		ONE(one_leads_at_its_timeout),
		ONE(one_commits_only_what_is_stored),
		ONE(one_answers_reads_after_its_first_commit),
		ONE(one_restarts_from_its_disk),
		ONE(one_forgets_what_was_not_stored),
		ONE(one_tells_learners_nothing_before_its_vote_is_stored),
		EMPTY(a_group_bootstraps_from_its_log),
		THREE(three_elect_and_replicate),
		THREE(three_commit_while_the_leader_is_writing),
		THREE(three_survive_their_leader),
		THREE(three_repair_a_conflicting_tail),
		THREE(three_leader_cut_off_steps_down),
		THREE(three_pre_vote_does_not_disturb),
		THREE(three_confirm_reads_with_one_round),
		THREE(a_late_heartbeat_response_confirms_no_later_read),
		THREE(a_full_window_goes_on_after_loss),
		ONE(uncommitted_bytes_are_limited),
		ONE(committed_entries_come_in_slices),
		THREE(an_earlier_term_is_not_committed_by_counting),
		THREE(a_tail_that_is_not_the_leaders_is_not_committed),
		THREE(a_refusal_says_what_is_committed),
		THREE(a_stored_entry_may_have_been_overwritten),
		THREE(two_appends_are_under_way_at_once),
		THREE(an_append_stands_for_those_before),
		ONE(the_log_grows_and_shrinks),
		cmocka_unit_test(a_disk_that_contradicts_itself_is_refused),
		THREE(a_term_is_learned_from_the_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
