// SPDX-License-Identifier: Apache-2.0
/*
 * The n-th allocation inside libraft fails, n = 1, 2, ... until a whole story passes
 * without a failure: each time -ENOMEM comes back, everything can be freed, and nothing
 * is left behind. The allocator here counts; under a sanitizer, which has its own, the
 * story is told once and the sanitizer looks for leaks.
 */
#include <errno.h>
#include <stdlib.h>

#include "tests/unit/raft_net.h"

static bool armed;		/* libraft is running */
static uint64_t countdown;	/* allocations until one fails; 0 none does */
static int64_t live;		/* blocks allocated while armed and not yet freed */
static bool failed;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define HAVE_COUNTING_HEAP 1

extern void *__libc_malloc(size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void __libc_free(void *p);

static bool fails_now(void)
{
	if (!armed || !countdown || --countdown)
		return false;
	failed = true;
	return true;
}

void *malloc(size_t size)
{
	void *p = fails_now() ? NULL : __libc_malloc(size);

	live += p && size ? 1 : 0;
	return p;
}

void *calloc(size_t n, size_t size)
{
	void *p = fails_now() ? NULL : __libc_calloc(n, size);

	live += p ? 1 : 0;
	return p;
}

void *realloc(void *old, size_t size)
{
	void *p = fails_now() ? NULL : __libc_realloc(old, size);

	live += p && !old ? 1 : 0;
	return p;
}

void free(void *p)
{
	live -= p ? 1 : 0;
	__libc_free(p);
}
#else
#define HAVE_COUNTING_HEAP 0
#endif

#define MEMBERS 3

struct story {
	struct raft *raft[MEMBERS + 1];
	struct raft_update up[MEMBERS + 1];
};

static int start(struct story *s, uint64_t id)
{
	uint64_t voters[] = { 1, 2 };
	struct raft_config config = {
		.id = id,
		.seed = id,
		.election_ticks = 10,
		.heartbeat_ticks = 1,
		.pre_vote = true,
		.check_quorum = true,
		.max_message_bytes = 1000,
		.max_inflight = 4,
		.snapshot.conf = { .voters = voters, .n_voters = 2 },
	};
	const char *why;
	int ret;

	armed = true;
	ret = raft_new(&config, &s->raft[id], &why);
	armed = false;
	return ret;
}

static int step(struct story *s, uint64_t id, const struct raft_event *ev)
{
	int ret;

	armed = true;
	ret = raft_step(s->raft[id], ev, &s->up[id]);
	armed = false;
	return ret;
}

static int deliver(struct story *s, const struct raft_message *m, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct raft_event ev = { .type = RAFT_RECEIVE, .message = &m[i] };
		int ret = s->raft[m[i].to] ? step(s, m[i].to, &ev) : 0;

		if (ret)
			return ret;
	}
	return 0;
}

static int apply(struct story *s, uint64_t id, const struct raft_entry *e)
{
	struct raft_conf_single singles[8];
	struct raft_conf_change change = { .changes = singles };
	struct raft_event conf = {
		.type = RAFT_CONF_APPLIED,
		.index = e->index,
		.conf_change = &change,
	};
	struct raft_event applied = { .type = RAFT_APPLIED, .index = e->index };
	int ret = 0;

	if (e->type != RAFT_ENTRY_NORMAL) {
		change.n_changes = net_conf_decode(e->payload, singles, ARRAY_SIZE(singles));
		ret = step(s, id, &conf);
	}
	return ret ? ret : step(s, id, &applied);
}

/* Carries out one update of @id, which meanwhile fills another. */
static int turn(struct story *s, uint64_t id)
{
	struct raft_update up = s->up[id];
	struct raft_event stored = { .type = RAFT_STORED };
	int ret;

	raft_update_init(&s->up[id]);
	if (up.snapshot) {
		stored.index = up.snapshot->index;
		stored.term = up.snapshot->term;
	}
	if (up.n_entries) {
		stored.index = up.entries[up.n_entries - 1].index;
		stored.term = up.entries[up.n_entries - 1].term;
	}
	ret = deliver(s, up.messages, up.n_messages);
	if (!ret && stored.index)
		ret = step(s, id, &stored);
	if (!ret)
		ret = deliver(s, up.after_store, up.n_after_store);
	for (size_t i = 0; !ret && i < up.n_committed; i++)
		ret = apply(s, id, &up.committed[i]);
	raft_update_release(&up);
	return ret;
}

static int settle(struct story *s)
{
	bool busy = true;

	while (busy) {
		busy = false;
		for (uint64_t id = 1; id <= MEMBERS; id++) {
			int ret;

			if (!s->raft[id] || !raft_update_pending(&s->up[id]))
				continue;
			busy = true;
			ret = turn(s, id);
			if (ret)
				return ret;
		}
	}
	return 0;
}

static int event(struct story *s, uint64_t id, enum raft_event_type type, uint64_t arg)
{
	struct raft_event ev = { .type = type, .id = arg, .index = arg };
	int ret = step(s, id, &ev);

	return ret ? ret : settle(s);
}

static int propose(struct story *s, uint64_t id, enum raft_entry_type type, struct blob *b)
{
	struct raft_entry e = { .type = type, .payload = b };
	struct raft_event ev = { .type = RAFT_PROPOSE, .entries = &e, .n_entries = 1 };
	int ret = step(s, id, &ev);

	blob_put(b);
	return ret ? ret : settle(s);
}

/* Election, entries, reads from both sides, compaction, a learner that gets a snapshot,
 * a joint configuration, a transfer. */
static int tell(struct story *s)
{
	struct raft_status st;
	int ret;

	if ((ret = start(s, 1)) || (ret = start(s, 2)))
		return ret;
	if ((ret = event(s, 1, RAFT_CAMPAIGN, 0)))
		return ret;
	for (size_t i = 0; i < 100; i++)
		if ((ret = propose(s, 1 + i % 2, RAFT_ENTRY_NORMAL, net_blob("payload"))))
			return ret;
	if ((ret = event(s, 1, RAFT_READ, 1)) || (ret = event(s, 2, RAFT_READ, 2)))
		return ret;
	if ((ret = event(s, 1, RAFT_COMPACT, 101)) || (ret = start(s, 3)))
		return ret;
	ret = propose(s, 1, RAFT_ENTRY_CONF_CHANGE_V2, net_conf_blob(RAFT_CONF_ADD_LEARNER, 3));
	if (ret || (ret = event(s, 1, RAFT_SNAPSHOT_SENT, 3)) || (ret = event(s, 1, RAFT_TICK, 0)))
		return ret;
	raft_status(s->raft[3], &st);
	assert_int_equal(st.commit, 102);
	ret = propose(s, 1, RAFT_ENTRY_CONF_CHANGE_V2,
		      net_conf_blob2(RAFT_CONF_ADD_NODE, 3, RAFT_CONF_ADD_LEARNER, 2));
	if (ret || (ret = event(s, 1, RAFT_TRANSFER, 3)))
		return ret;
	raft_status(s->raft[3], &st);
	assert_int_equal(st.role, RAFT_LEADER);
	return 0;
}

static void each_allocation_fails_once(void **state)
{
	uint64_t n = HAVE_COUNTING_HEAP ? 1 : 0, shrinks = 0;
	int ret;

	do {
		struct story s = { 0 };
		int64_t before = live;

		failed = false;
		countdown = n;
		ret = tell(&s);
		countdown = 0;
		/* To make the log's ring smaller is the only one that may fail. */
		shrinks += failed && !ret;
		assert_true(ret == -ENOMEM ? failed : !ret);
		for (uint64_t id = 1; id <= MEMBERS; id++) {
			raft_update_release(&s.up[id]);
			raft_free(s.raft[id]);
		}
		if (HAVE_COUNTING_HEAP)
			assert_int_equal(live, before);
		n++;
	} while (failed);
	assert_true(shrinks <= 1);
	if (HAVE_COUNTING_HEAP)
		assert_true(n > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_allocation_fails_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
