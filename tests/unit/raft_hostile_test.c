// SPDX-License-Identifier: Apache-2.0
/*
 * No message can make an assertion fail. A member in each role is fed messages made of
 * random fields, mostly near what would make sense, so that many get past the first
 * checks; raft_check() runs after each. What contradicts itself is counted and changes
 * nothing, one case at a time.
 */
#include <errno.h>

#include "tests/unit/raft_net.h"

#define MESSAGES 100000

static uint64_t seed_state;

static uint64_t draw(uint64_t n)
{
	seed_state ^= seed_state << 13;
	seed_state ^= seed_state >> 7;
	seed_state ^= seed_state << 17;
	return (seed_state >> 11) % n;
}

/* Near @around, or one of the borders, or anything. */
static uint64_t draw_near(uint64_t around)
{
	static const uint64_t borders[] = {
		0, 1, UINT64_MAX, UINT64_MAX >> 1, UINT64_MAX >> 2, (UINT64_MAX >> 2) - 1,
	};

	switch (draw(40)) {
	case 0:
		return borders[draw(ARRAY_SIZE(borders))];
	case 1:
		return draw(UINT64_MAX);
	default:
		return around + draw(5) - (around > 2 ? 2 : 0);
	}
}

static struct blob *draw_blob(size_t max)
{
	struct blob *b;

	if (!draw(3))
		return NULL;
	b = blob_new(draw(3) ? 8 : draw(max + 1));
	assert_non_null(b);
	for (size_t i = 0; i < b->len; i++)
		b->data[i] = draw(4) ? 0 : (uint8_t)draw(256);
	return b;
}

static uint64_t *draw_ids(size_t *n)
{
	uint64_t *ids, id = draw(2);

	*n = draw(5);
	ids = calloc(*n + 1, sizeof(*ids));
	assert_non_null(ids);
	for (size_t i = 0; i < *n; i++) {
		ids[i] = id;
		id += draw(12) ? 1 : 0;
	}
	return ids;
}

static struct raft_snapshot_meta *draw_snapshot(const struct raft_status *st)
{
	struct raft_snapshot_meta *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->index = draw_near(st->last_index);
	s->term = draw_near(st->term);
	s->conf.voters = draw_ids(&s->conf.n_voters);
	if (!draw(4))
		s->conf.learners = draw_ids(&s->conf.n_learners);
	if (!draw(4))
		s->conf.voters_outgoing = draw_ids(&s->conf.n_voters_outgoing);
	if (!draw(4))
		s->conf.learners_next = draw_ids(&s->conf.n_learners_next);
	s->conf.auto_leave = !draw(4);
	return s;
}

static void draw_entries(struct raft_message *m, const struct raft_status *st)
{
	uint64_t term = draw(3) ? m->log_term : draw_near(st->term);

	m->n_entries = draw(4);
	m->entries = calloc(m->n_entries + 1, sizeof(*m->entries));
	assert_non_null(m->entries);
	for (size_t i = 0; i < m->n_entries; i++) {
		term += !draw(4);
		m->entries[i] = (struct raft_entry){
			.term = draw(30) ? term : draw_near(st->term),
			.index = draw(30) ? m->index + 1 + i : draw_near(st->last_index),
			.type = (enum raft_entry_type)(draw(20) ? 0 : draw(4)),
			.payload = draw_blob(80),
		};
	}
}

static const enum raft_message_type types[] = {
	RAFT_MSG_PROP, RAFT_MSG_APP, RAFT_MSG_APP, RAFT_MSG_APP_RESP, RAFT_MSG_APP_RESP,
	RAFT_MSG_VOTE, RAFT_MSG_VOTE_RESP, RAFT_MSG_SNAP, RAFT_MSG_HEARTBEAT,
	RAFT_MSG_HEARTBEAT_RESP, RAFT_MSG_TRANSFER_LEADER, RAFT_MSG_TIMEOUT_NOW,
	RAFT_MSG_READ_INDEX, RAFT_MSG_READ_INDEX_RESP, RAFT_MSG_PRE_VOTE, RAFT_MSG_PRE_VOTE_RESP,
};

static void draw_message(struct raft_message *m, const struct raft_status *st)
{
	*m = (struct raft_message){
		.type = draw(20) ? types[draw(ARRAY_SIZE(types))] : 2 + draw(18),
		.to = draw(100) ? st->id : draw(5),
		.from = draw(50) ? 2 + draw(3) : draw_near(1),
		.term = draw(6) ? st->term : draw_near(st->term),
		.index = draw_near(draw(2) ? st->last_index : st->commit),
		.commit = draw_near(st->commit),
		.reject_hint = draw_near(st->commit),
		.reject = !draw(3),
		.context = draw_blob(80),
	};
	if (m->type == RAFT_MSG_PROP || m->type == RAFT_MSG_READ_INDEX)
		m->term = draw(20) ? 0 : m->term;
	m->log_term = draw(4) ? MIN(st->term, draw_near(st->term)) : draw_near(1);
	/* A term near the largest would leave nothing to play with. */
	if (m->term > st->term + 2 && draw(200))
		m->term = st->term;
	draw_entries(m, st);
	if (m->type == RAFT_MSG_SNAP && draw(20))
		m->snapshot = draw_snapshot(st);
}

struct victim {
	struct raft *raft;
	struct raft_update up;
};

static void victim_step(struct victim *v, const struct raft_event *ev)
{
	int ret = raft_step(v->raft, ev, &v->up);

	/* Entries of a hostile leader may hold changes that are not allowed. */
	assert_true(ret >= 0 || (ret == -EINVAL && ev->type == RAFT_CONF_APPLIED));
	raft_check(v->raft);
}

/* Stores and applies at once what the update holds. */
static void victim_turn(struct victim *v)
{
	struct raft_event stored = { .type = RAFT_STORED }, applied = { .type = RAFT_APPLIED };

	if (v->up.snapshot) {
		stored.index = v->up.snapshot->index;
		stored.term = v->up.snapshot->term;
	}
	if (v->up.n_entries) {
		stored.index = v->up.entries[v->up.n_entries - 1].index;
		stored.term = v->up.entries[v->up.n_entries - 1].term;
	}
	if (v->up.n_committed)
		applied.index = v->up.committed[v->up.n_committed - 1].index;
	raft_update_clear(&v->up);
	if (stored.index)
		victim_step(v, &stored);
	if (applied.index)
		victim_step(v, &applied);
}

static void victim_start(struct victim *v, uint64_t seed)
{
	uint64_t voters[] = { 1, 2, 3 };
	struct raft_config config = {
		.id = 1,
		.seed = seed,
		.election_ticks = 10,
		.heartbeat_ticks = 1,
		.pre_vote = seed & 1,
		.check_quorum = seed & 2,
		.max_message_bytes = 100,
		.max_inflight = 4,
		.snapshot.conf = { .voters = voters, .n_voters = 3 },
	};
	const char *why;

	raft_update_init(&v->up);
	assert_int_equal(raft_new(&config, &v->raft, &why), 0);
}

static void victim_stop(struct victim *v)
{
	raft_update_release(&v->up);
	raft_free(v->raft);
}

static void message_free(struct raft_message *m)
{
	struct raft_message *heap = malloc(sizeof(*heap));

	assert_non_null(heap);
	*heap = *m;
	raft_messages_free(heap, 1);
}

static void hostile_event(struct victim *v)
{
	struct raft_status st;
	struct raft_message m;
	struct raft_event ev = { .type = RAFT_RECEIVE, .message = &m };
	struct raft_event tick = { .type = RAFT_TICK };
	struct raft_event campaign = { .type = RAFT_CAMPAIGN };
	struct raft_event read = { .type = RAFT_READ, .id = 1 };
	struct raft_event compact = { .type = RAFT_COMPACT };

	raft_status(v->raft, &st);
	draw_message(&m, &st);
	victim_step(v, &ev);
	message_free(&m);
	if (!draw(4))
		victim_step(v, &tick);
	if (!draw(20))
		victim_step(v, &campaign);
	if (!draw(20))
		victim_step(v, &read);
	if (!draw(100)) {
		compact.index = st.applied;
		victim_step(v, &compact);
	}
	if (draw(3))
		victim_turn(v);
}

/* Helps a candidate to win, so that leaders are attacked as well. */
static void grant_votes(struct victim *v)
{
	struct raft_message m = { .from = 2, .to = 1 };
	struct raft_event ev = { .type = RAFT_RECEIVE, .message = &m };
	struct raft_status st;

	raft_status(v->raft, &st);
	if (st.role != RAFT_PRE_CANDIDATE && st.role != RAFT_CANDIDATE)
		return;
	m.type = st.role == RAFT_CANDIDATE ? RAFT_MSG_VOTE_RESP : RAFT_MSG_PRE_VOTE_RESP;
	m.term = st.role == RAFT_CANDIDATE ? st.term : st.term + 1;
	victim_step(v, &ev);
}

static void random_messages_never_trip_an_assertion(void **state)
{
	uint64_t turns_as[4] = { 0 }, rejected = 0;
	struct raft_status st;
	struct victim v;

	for (uint64_t run = 0; run < 100; run++) {
		seed_state = run * 0x9e3779b97f4a7c15 + 7;
		victim_start(&v, run);
		for (size_t i = 0; i < MESSAGES / 100; i++) {
			hostile_event(&v);
			if (!draw(12))
				grant_votes(&v);
			raft_status(v.raft, &st);
			turns_as[st.role]++;
		}
		rejected += st.messages_rejected;
		victim_stop(&v);
	}
	/* Every role was attacked, and a good part of the messages was taken. */
	for (size_t i = 0; i < ARRAY_SIZE(turns_as); i++)
		assert_true(turns_as[i] > MESSAGES / 100);
	assert_true(rejected > MESSAGES / 20 && rejected < MESSAGES / 2);
}

/* --- one by one --------------------------------------------------------------------- */

#define BIG (UINT64_MAX - 1)

static struct raft_entry entry_gap = { .term = 1, .index = 7 };
static struct raft_entry entry_future = { .term = 9, .index = 1 };
static struct raft_entry entry_type = { .term = 1, .index = 1, .type = 3 };
static struct raft_entry entries_fall[] = { { .term = 2, .index = 1 }, { .term = 1, .index = 2 } };
static struct raft_snapshot_meta snapshot_empty = { .index = 5, .term = 1 };

static const struct {
	const char *what;
	struct raft_message m;
} nonsense[] = {
	{ "not for this member", { .type = RAFT_MSG_HEARTBEAT, .to = 2, .from = 3, .term = 1 } },
	{ "from nobody", { .type = RAFT_MSG_HEARTBEAT, .to = 1, .term = 1 } },
	{ "from itself", { .type = RAFT_MSG_HEARTBEAT, .to = 1, .from = 1, .term = 1 } },
	{ "unknown type", { .type = 42, .to = 1, .from = 2, .term = 1 } },
	{ "no term", { .type = RAFT_MSG_HEARTBEAT, .to = 1, .from = 2 } },
	{ "term too large", { .type = RAFT_MSG_VOTE, .to = 1, .from = 2, .term = BIG } },
	{ "index too large",
	  { .type = RAFT_MSG_VOTE, .to = 1, .from = 2, .term = 1, .log_term = 1, .index = BIG } },
	{ "proposal with a term", { .type = RAFT_MSG_PROP, .to = 1, .from = 2, .term = 1,
				    .entries = &entry_gap, .n_entries = 1 } },
	{ "proposal of nothing", { .type = RAFT_MSG_PROP, .to = 1, .from = 2 } },
	{ "index 0 with a term",
	  { .type = RAFT_MSG_APP, .to = 1, .from = 2, .term = 1, .log_term = 1 } },
	{ "index without a term",
	  { .type = RAFT_MSG_APP, .to = 1, .from = 2, .term = 1, .index = 1 } },
	{ "gap", { .type = RAFT_MSG_APP, .to = 1, .from = 2, .term = 1, .entries = &entry_gap,
		   .n_entries = 1 } },
	{ "entry of a later term", { .type = RAFT_MSG_APP, .to = 1, .from = 2, .term = 1,
				     .entries = &entry_future, .n_entries = 1 } },
	{ "entry of unknown type", { .type = RAFT_MSG_APP, .to = 1, .from = 2, .term = 1,
				     .entries = &entry_type, .n_entries = 1 } },
	{ "terms that fall", { .type = RAFT_MSG_APP, .to = 1, .from = 2, .term = 2,
			       .entries = entries_fall, .n_entries = 2 } },
	{ "no snapshot", { .type = RAFT_MSG_SNAP, .to = 1, .from = 2, .term = 1 } },
	{ "snapshot without voters", { .type = RAFT_MSG_SNAP, .to = 1, .from = 2, .term = 1,
				       .snapshot = &snapshot_empty } },
	{ "read without an id", { .type = RAFT_MSG_READ_INDEX, .to = 1, .from = 2 } },
	{ "commit of what was never here",
	  { .type = RAFT_MSG_HEARTBEAT, .to = 1, .from = 2, .term = 1, .commit = 5 } },
};

static void nonsense_is_counted(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(nonsense); i++) {
		struct raft_event ev = { .type = RAFT_RECEIVE, .message = &nonsense[i].m };
		struct raft_status st;
		struct victim v;

		victim_start(&v, 3);
		victim_step(&v, &ev);
		raft_status(v.raft, &st);
		if (st.messages_rejected != 1 || v.up.n_messages || v.up.n_after_store ||
		    v.up.n_entries)
			fail_msg("%s", nonsense[i].what);
		victim_stop(&v);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_messages_never_trip_an_assertion),
		cmocka_unit_test(nonsense_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
