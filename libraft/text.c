// SPDX-License-Identifier: Apache-2.0
/* Text for logs and golden tests, as etcd-io/raft describes the same things. */
#include <stdarg.h>
#include <stdio.h>

#include "include/wire.h"
#include "libraft/raft_i.h"

struct text {
	char *buf;
	size_t size, len;	/* len may grow beyond size, as with snprintf */
};

static __printf(2, 3) void text_add(struct text *t, const char *format, ...)
{
	size_t left = t->len < t->size ? t->size - t->len : 0;
	va_list args;
	int n;

	BUG_ON(t->size && !t->buf);
	va_start(args, format);
	n = vsnprintf(left ? t->buf + t->len : NULL, left, format, args);
	va_end(args);
	BUG_ON(n < 0);
	t->len += (size_t)n;
}

static int text_end(const struct text *t)
{
	return (int)MIN(t->len, (size_t)INT32_MAX);
}

const char *raft_role_to_text(enum raft_role role)
{
	static const char *const names[] = {
		[RAFT_FOLLOWER] = "StateFollower",
		[RAFT_PRE_CANDIDATE] = "StatePreCandidate",
		[RAFT_CANDIDATE] = "StateCandidate",
		[RAFT_LEADER] = "StateLeader",
	};

	_Static_assert(ARRAY_SIZE(names) == RAFT_LEADER + 1, "each role has a name");
	return (size_t)role < ARRAY_SIZE(names) ? names[role] : "unknown";
}

static const char *message_type_to_text(enum raft_message_type type)
{
	static const char *const names[] = {
		[RAFT_MSG_PROP] = "MsgProp",
		[RAFT_MSG_APP] = "MsgApp",
		[RAFT_MSG_APP_RESP] = "MsgAppResp",
		[RAFT_MSG_VOTE] = "MsgVote",
		[RAFT_MSG_VOTE_RESP] = "MsgVoteResp",
		[RAFT_MSG_SNAP] = "MsgSnap",
		[RAFT_MSG_HEARTBEAT] = "MsgHeartbeat",
		[RAFT_MSG_HEARTBEAT_RESP] = "MsgHeartbeatResp",
		[RAFT_MSG_TRANSFER_LEADER] = "MsgTransferLeader",
		[RAFT_MSG_TIMEOUT_NOW] = "MsgTimeoutNow",
		[RAFT_MSG_READ_INDEX] = "MsgReadIndex",
		[RAFT_MSG_READ_INDEX_RESP] = "MsgReadIndexResp",
		[RAFT_MSG_PRE_VOTE] = "MsgPreVote",
		[RAFT_MSG_PRE_VOTE_RESP] = "MsgPreVoteResp",
	};
	const char *name = (size_t)type < ARRAY_SIZE(names) ? names[type] : NULL;

	_Static_assert(ARRAY_SIZE(names) == RAFT_MSG_PRE_VOTE_RESP + 1, "the last has a name");
	return name ? name : "unknown";
}

static void add_quoted(struct text *t, const struct blob *b)
{
	size_t before = t->len;

	text_add(t, "\"");
	for (size_t i = 0; b && i < b->len; i++) {
		uint8_t c = b->data[i];

		if (c == '"' || c == '\\')
			text_add(t, "\\%c", c);
		else if (c >= ' ' && c < 0x7f)
			text_add(t, "%c", c);
		else
			text_add(t, "\\x%02x", c);
	}
	text_add(t, "\"");
	BUG_ON(t->len < before + 2 + (b ? b->len : 0));
}

/* One change: v1 a voter, l1 a learner, r1 removed, u1 updated. */
static void add_change(struct text *t, uint64_t type, uint64_t id, bool first)
{
	static const char letters[] = "vrul";

	text_add(t, "%s%c%llu", first ? "" : " ", type < 4 ? letters[type] : '?',
		 (unsigned long long)id);
}

/* The two numbers of a ConfChangeSingle or a ConfChange, which has them as fields
 * @type_field and @type_field + 1. */
static void add_conf_single(struct text *t, struct slice bytes, uint32_t type_field, bool first)
{
	uint64_t type = 0, id = 0;
	struct wire_field f;

	BUG_ON(type_field != 1 && type_field != 2);
	while (wire_next(&bytes, &f) == 1) {
		if (f.number == type_field)
			type = f.value;
		else if (f.number == type_field + 1)
			id = f.value;
	}
	add_change(t, type, id, first);
}

static void add_conf_change(struct text *t, const struct raft_entry *e)
{
	struct slice bytes = e->payload ? blob_slice(e->payload) : slice_of(NULL, 0);
	struct wire_field f;
	bool first = true;

	BUG_ON(e->type == RAFT_ENTRY_NORMAL);
	if (e->type == RAFT_ENTRY_CONF_CHANGE) {
		text_add(t, " ");
		add_conf_single(t, bytes, 2, true);
		return;
	}
	while (wire_next(&bytes, &f) == 1) {
		if (f.number != 2 || f.type != WIRE_LEN)
			continue;
		text_add(t, first ? " " : "");
		add_conf_single(t, f.bytes, 1, first);
		first = false;
	}
}

static void add_entry(struct text *t, const struct raft_entry *e)
{
	static const char *const names[] = {
		[RAFT_ENTRY_NORMAL] = "EntryNormal",
		[RAFT_ENTRY_CONF_CHANGE] = "EntryConfChange",
		[RAFT_ENTRY_CONF_CHANGE_V2] = "EntryConfChangeV2",
	};

	_Static_assert(ARRAY_SIZE(names) == RAFT_ENTRY_CONF_CHANGE_V2 + 1, "each has a name");
	text_add(t, "%llu/%llu %s", (unsigned long long)e->term, (unsigned long long)e->index,
		 (size_t)e->type < ARRAY_SIZE(names) ? names[e->type] : "unknown");
	if (e->type == RAFT_ENTRY_NORMAL) {
		text_add(t, " ");
		add_quoted(t, e->payload);
	} else {
		add_conf_change(t, e);
	}
}

static void add_ids(struct text *t, const char *name, const uint64_t *ids, size_t n)
{
	text_add(t, "%s:[", name);
	for (size_t i = 0; i < n; i++)
		text_add(t, "%s%llu", i ? " " : "", (unsigned long long)ids[i]);
	text_add(t, "]");
}

static void add_snapshot(struct text *t, const struct raft_snapshot_meta *s)
{
	const struct raft_conf_state *c = &s->conf;

	BUG_ON((c->n_voters && !c->voters) || (c->n_learners && !c->learners));
	text_add(t, "\n  Snapshot: Index:%llu Term:%llu ConfState:",
		 (unsigned long long)s->index, (unsigned long long)s->term);
	add_ids(t, "Voters", c->voters, c->n_voters);
	add_ids(t, " VotersOutgoing", c->voters_outgoing, c->n_voters_outgoing);
	add_ids(t, " Learners", c->learners, c->n_learners);
	add_ids(t, " LearnersNext", c->learners_next, c->n_learners_next);
	text_add(t, " AutoLeave:%s", c->auto_leave ? "true" : "false");
}

int raft_entry_to_text(const struct raft_entry *e, char *buf, size_t size)
{
	struct text t = { buf, size, 0 };

	BUG_ON(size && !buf);
	if (size)
		buf[0] = 0;
	add_entry(&t, e);
	return text_end(&t);
}

int raft_message_to_text(const struct raft_message *m, char *buf, size_t size)
{
	struct text t = { buf, size, 0 };

	BUG_ON(size && !buf);
	BUG_ON(m->n_entries && !m->entries);
	if (size)
		buf[0] = 0;
	text_add(&t, "%llx->%llx %s Term:%llu Log:%llu/%llu", (unsigned long long)m->from,
		 (unsigned long long)m->to, message_type_to_text(m->type),
		 (unsigned long long)m->term, (unsigned long long)m->log_term,
		 (unsigned long long)m->index);
	if (m->reject)
		text_add(&t, " Rejected (Hint: %llu)", (unsigned long long)m->reject_hint);
	if (m->commit)
		text_add(&t, " Commit:%llu", (unsigned long long)m->commit);
	if (m->n_entries)
		text_add(&t, " Entries:[");
	for (size_t i = 0; i < m->n_entries; i++) {
		text_add(&t, m->n_entries > 1 ? "\n  " : "");
		add_entry(&t, &m->entries[i]);
	}
	if (m->n_entries)
		text_add(&t, m->n_entries > 1 ? "\n]" : "]");
	if (m->snapshot)
		add_snapshot(&t, m->snapshot);
	return text_end(&t);
}
