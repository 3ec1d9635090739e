// SPDX-License-Identifier: Apache-2.0

/* Three cores and a network that the test is: what goes between members, and when. */

#include "tests/unit/core_rig.h"

#define MEMBERS 3

struct group {
	struct rig *rigs[MEMBERS];
	bool cut[MEMBERS];		/* nothing reaches it, nothing leaves it */
};

static struct rig *rig_of(struct group *g, uint64_t id)
{
	return g->rigs[id - 7];
}

/* True where there was something to carry. */
static bool carry(struct group *g, struct rig *from)
{
	struct core_messages *out;
	bool any = false;

	while ((out = core_take_messages(from->core))) {
		for (size_t i = 0; i < out->n; i++) {
			struct raft_message *m = &out->messages[i];

			assert_int_equal(m->from, from->id);
			if (g->cut[m->from - 7] || g->cut[m->to - 7])
				continue;
			assert_int_equal(core_receive(rig_of(g, m->to)->core, m), 0);
		}
		core_messages_free(out);
		any = true;
	}
	return any;
}

/* Turns and messages until nothing moves any more. */
static void settle_group(struct group *g)
{
	bool moved = true;

	for (int i = 0; moved; i++) {
		assert_true(i < 10000);
		moved = false;
		for (size_t j = 0; j < MEMBERS; j++)
			settle(g->rigs[j]);
		for (size_t j = 0; j < MEMBERS; j++)
			moved |= carry(g, g->rigs[j]);
	}
}

static void pass_group(struct group *g, uint64_t time)
{
	for (uint64_t spent = 0; spent < time; spent += SECOND / 10) {
		for (size_t i = 0; i < MEMBERS; i++) {
			g->rigs[i]->now += SECOND / 10;
			assert_int_equal(core_tick(g->rigs[i]->core, g->rigs[i]->now), 0);
		}
		settle_group(g);
	}
}

/* The one that leads and is not cut off; NULL: nobody yet. */
static struct rig *leader(struct group *g)
{
	for (size_t i = 0; i < MEMBERS; i++)
		if (!g->cut[i] && core_is_leader(g->rigs[i]->core))
			return g->rigs[i];
	return NULL;
}

static struct rig *follower(struct group *g)
{
	for (size_t i = 0; i < MEMBERS; i++)
		if (!g->cut[i] && !core_is_leader(g->rigs[i]->core))
			return g->rigs[i];
	return NULL;
}

static void elect(struct group *g)
{
	for (int i = 0; i < 100; i++) {
		pass_group(g, SECOND / 10);
		if (leader(g))
			return;
	}
	fail_msg("nobody leads");
}

static int group_setup(void **state)
{
	struct group *g = calloc(1, sizeof(*g));

	for (uint64_t i = 0; i < MEMBERS; i++)
		g->rigs[i] = rig_new(7 + i, MEMBERS);
	elect(g);
	*state = g;
	return 0;
}

static int group_teardown(void **state)
{
	struct group *g = *state;

	for (size_t i = 0; i < MEMBERS; i++)
		rig_free(g->rigs[i]);
	free(g);
	return 0;
}

static void put_at(struct group *g, struct rig *rig, const char *key, const char *value)
{
	size_t before = rig->finished;

	core_submit(rig->core, make_put(rig, key, value, 0, false));
	settle_group(g);
	assert_int_equal(rig->finished, before + 1);
	assert_null(rig->last_error);
}

static void test_put_on_a_follower_is_everywhere(void **state)
{
	struct group *g = *state;
	struct core_status status;
	struct mvcc_key_info info;

	put_at(g, follower(g), "k", "v");
	pass_group(g, SECOND / 2);
	for (size_t i = 0; i < MEMBERS; i++) {
		assert_true(mvcc_find(g->rigs[i]->store, SLICE_LIT("k"), &info));
		core_status(g->rigs[i]->core, &status);
		assert_true(status.published);
	}
}

/* What a member says of its log, or of its vote, is true when it says so. */
static void test_nothing_is_promised_before_it_is_logged(void **state)
{
	struct group *g = *state;
	struct rig *to = leader(g);
	struct core_append *a;
	size_t before;

	for (size_t i = 0; i < MEMBERS; i++)
		g->rigs[i]->stuck = g->rigs[i] != to;
	before = to->finished;
	core_submit(to->core, make_put(to, "k", "v", 0, false));
	pass_group(g, SECOND);
	/* the followers have the entry, and their disks have not */
	assert_int_equal(to->finished, before);
	for (size_t i = 0; i < MEMBERS; i++) {
		g->rigs[i]->stuck = false;
		while (g->rigs[i] != to && (a = core_take_append(g->rigs[i]->core)))
			append(g->rigs[i], a);
	}
	settle_group(g);
	assert_int_equal(to->finished, before + 1);
}

static void read_begin(struct rig *rig)
{
	rig->last_error = &status_timeout;
	core_submit(rig->core, make_range(rig, "k"));
}

/* Its leader is gone with the question; the next one is asked. */
static void test_read_outlives_its_leader(void **state)
{
	struct group *g = *state;
	struct rig *old = leader(g), *rig = follower(g);
	size_t before;

	put_at(g, old, "k", "v");
	pass_group(g, SECOND / 2);
	before = rig->finished;
	g->cut[old->id - 7] = true;
	read_begin(rig);
	settle_group(g);
	assert_int_equal(rig->finished, before);
	elect(g);
	pass_group(g, SECOND);
	assert_int_equal(rig->finished, before + 1);
	assert_null(rig->last_error);
	assert_int_equal(rig->last.kvs.n, 1);
}

/* The question is lost, and everybody stays what they are. */
static void test_lost_read_is_asked_again(void **state)
{
	struct group *g = *state;
	struct rig *rig = follower(g);
	struct core_messages *out;
	size_t before = rig->finished;

	read_begin(rig);
	assert_int_equal(core_turn(rig->core, rig->now), 0);
	out = core_take_messages(rig->core);
	assert_non_null(out);
	assert_int_equal(out->messages[0].type, RAFT_MSG_READ_INDEX);
	core_messages_free(out);
	settle_group(g);
	assert_int_equal(rig->finished, before);
	pass_group(g, SECOND);
	assert_int_equal(rig->finished, before + 1);
	assert_null(rig->last_error);
}

/* A leader that is alone knows nothing for certain. */
static void test_read_on_a_leader_cut_off_waits(void **state)
{
	struct group *g = *state;
	struct rig *old = leader(g);
	size_t before = old->finished;

	g->cut[old->id - 7] = true;
	read_begin(old);
	pass_group(g, 3 * SECOND);
	assert_int_equal(old->finished, before);
	g->cut[old->id - 7] = false;
	pass_group(g, 2 * SECOND);
	assert_int_equal(old->finished, before + 1);
	assert_null(old->last_error);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_put_on_a_follower_is_everywhere,
						group_setup, group_teardown),
		cmocka_unit_test_setup_teardown(test_nothing_is_promised_before_it_is_logged,
						group_setup, group_teardown),
		cmocka_unit_test_setup_teardown(test_read_outlives_its_leader,
						group_setup, group_teardown),
		cmocka_unit_test_setup_teardown(test_lost_read_is_asked_again,
						group_setup, group_teardown),
		cmocka_unit_test_setup_teardown(test_read_on_a_leader_cut_off_waits,
						group_setup, group_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
