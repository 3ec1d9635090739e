// SPDX-License-Identifier: Apache-2.0
/*
 * Arbitrary bytes become a member of a group, what it found on disk, and a sequence of
 * events: any message at all from the network; from its own side only what the contract
 * in raft.h allows, in any order and at any speed. No assertion may fail, raft_check()
 * holds after every step, and nothing leaks.
 *
 * The number of bytes that an event takes is small, so that the fuzzer can build long
 * histories; fields are given as distances from what would make sense.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "include/bug.h"
#include "include/wire.h"
#include "libraft/raft.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EVENTS_MAX 2000
#define WRITES_MAX 16

struct input {
	const uint8_t *p, *end;
};

struct member {
	struct raft *raft;
	struct raft_update up;
	struct raft_event writes[WRITES_MAX];	/* appends on their way to disk */
	size_t n_writes;
	struct raft_entry *committed;		/* to be applied */
	size_t n_committed, applied;
};

static uint8_t take(struct input *in)
{
	return in->p < in->end ? *in->p++ : 0;
}

/* Mostly close to @around; else one of the borders, or anything. */
static uint64_t take_near(struct input *in, uint64_t around)
{
	static const uint64_t borders[] = {
		0, 1, UINT64_MAX, UINT64_MAX >> 1, UINT64_MAX >> 2, (UINT64_MAX >> 2) - 1,
		1ull << 32, 1ull << 33,
	};
	uint8_t b = take(in);
	uint64_t v = 0;

	if (b < 0xe0)
		return around + b % 16 - 4;
	if (b < 0xf8)
		return borders[b % ARRAY_SIZE(borders)];
	for (int i = 0; i < 8; i++)
		v = v << 8 | take(in);
	return v;
}

static struct blob *take_blob(struct input *in)
{
	uint8_t b = take(in);
	struct blob *blob;

	if (b < 0x60)
		return NULL;
	blob = b < 0xf0 ? blob_new(b % 17) : blob_copy(SLICE_LIT("CampaignTransfer"));
	BUG_ON(!blob);
	for (size_t i = 0; b < 0xf0 && i < blob->len; i++)
		blob->data[i] = i ? 0 : take(in);
	return blob;
}

/* The payload of a change: of one member, of two, or of none. */
static struct blob *take_change(struct input *in)
{
	uint8_t bytes[64], *p = bytes;
	uint8_t b = take(in);

	if (b & 0x80)
		return take_blob(in);
	if (b & 4)
		p = wire_put_u64_field(p, 1, b & 3);
	for (int i = 0; i < (b >> 4 & 3); i++) {
		uint8_t single[16], *q = single, c = take(in);

		q = wire_put_u64_field(q, 1, c & 3);
		q = wire_put_u64_field(q, 2, c >> 4 & 7);
		p = wire_put_len_field(p, 2, (size_t)(q - single));
		memcpy(p, single, (size_t)(q - single));
		p += q - single;
	}
	return blob_copy(slice_of(bytes, (size_t)(p - bytes)));
}

static struct raft_entry *take_entries(struct input *in, size_t n, uint64_t index, uint64_t term)
{
	struct raft_entry *e = calloc(n + 1, sizeof(*e));

	BUG_ON(!e);
	for (size_t i = 0; i < n; i++) {
		uint8_t b = take(in);

		term += b & 1;
		e[i] = (struct raft_entry){ .index = index + i, .term = term };
		if ((b >> 1 & 7) == 7)
			e[i].type = (enum raft_entry_type)(b >> 4 & 3);
		if (b >= 0xf0)
			e[i].term = take_near(in, term);
		if (b >= 0xf8)
			e[i].index = take_near(in, index + i);
		e[i].payload = e[i].type == RAFT_ENTRY_NORMAL ? take_blob(in) : take_change(in);
	}
	return e;
}

/* The bits of a byte are the ids; now and then something that is no configuration. */
static uint64_t *take_ids(struct input *in, size_t *n)
{
	uint64_t *ids = calloc(9, sizeof(*ids));
	uint8_t b = take(in);

	BUG_ON(!ids);
	*n = 0;
	for (uint64_t id = 0; id < 8; id++)
		if (b & 1 << id)
			ids[(*n)++] = id;
	return ids;
}

static void take_conf(struct input *in, struct raft_conf_state *conf)
{
	uint8_t b = take(in);

	conf->voters = take_ids(in, &conf->n_voters);
	if (b & 1)
		conf->learners = take_ids(in, &conf->n_learners);
	if (b & 2)
		conf->voters_outgoing = take_ids(in, &conf->n_voters_outgoing);
	if (b & 4)
		conf->learners_next = take_ids(in, &conf->n_learners_next);
	conf->auto_leave = b & 8;
}

static void take_message(struct input *in, const struct raft_status *st, struct raft_message *m)
{
	uint8_t type = take(in), who = take(in), flags = take(in);

	*m = (struct raft_message){
		.type = (enum raft_message_type)(2 + type % 17),
		.to = who < 0xf0 ? st->id : who & 7,
		.from = who < 0xf8 ? 1u + who % 5 : take_near(in, 1),
		.term = st->term + (flags & 3) - !!(flags & 8),
		.log_term = st->term - (flags >> 2 & 1),
		.index = take_near(in, flags & 0x10 ? st->last_index : st->commit),
		.reject = flags & 0x20,
	};
	if (m->type == RAFT_MSG_PROP || m->type == RAFT_MSG_READ_INDEX)
		m->term = flags & 3 ? 0 : 1;
	if (flags & 0x40) {
		m->log_term = take_near(in, st->term);
		m->term = take_near(in, m->term);
		m->reject_hint = take_near(in, st->commit);
	}
	m->commit = take_near(in, st->commit);
	if (flags & 0x80) {
		m->n_entries = take(in) % 8;
		m->entries = take_entries(in, m->n_entries, m->index + 1, m->log_term);
		m->context = take_blob(in);
	}
	if (m->type == RAFT_MSG_SNAP && (type < 0xf0)) {
		m->snapshot = calloc(1, sizeof(*m->snapshot));
		BUG_ON(!m->snapshot);
		m->snapshot->index = take_near(in, m->index);
		m->snapshot->term = take_near(in, m->log_term);
		take_conf(in, &m->snapshot->conf);
	}
}

static int step(struct member *x, const struct raft_event *ev)
{
	int ret = raft_step(x->raft, ev, &x->up);

	BUG_ON(ret < 0 && (ret != -EINVAL || ev->type != RAFT_CONF_APPLIED));
	raft_check(x->raft);
	return ret;
}

static void receive(struct member *x, struct input *in, const struct raft_status *st)
{
	struct raft_message *m = malloc(sizeof(*m));
	struct raft_event ev = { .type = RAFT_RECEIVE, .message = m };
	char text[64];

	BUG_ON(!m);
	take_message(in, st, m);
	BUG_ON(raft_message_to_text(m, text, sizeof(text)) <= 0);
	step(x, &ev);
	raft_messages_free(m, 1);
}

static void propose(struct member *x, struct input *in)
{
	size_t n = 1 + take(in) % 4;
	struct raft_entry *e = take_entries(in, n, 0, 0);
	struct raft_event ev = { .type = RAFT_PROPOSE, .entries = e, .n_entries = n };

	for (size_t i = 0; i < n; i++)
		e[i].type %= 3;
	step(x, &ev);
	raft_entries_free(e, n);
}

/* --- the caller's duties ----------------------------------------------------------- */

static void drop_committed(struct member *x)
{
	for (size_t i = x->applied; i < x->n_committed; i++)
		blob_put(x->committed[i].payload);
	x->applied = x->n_committed = 0;
}

static void take_committed(struct member *x)
{
	struct raft_update *up = &x->up;
	size_t n = x->n_committed + up->n_committed;

	if (!up->n_committed)
		return;
	x->committed = realloc(x->committed, n * sizeof(*x->committed));
	BUG_ON(!x->committed);
	memcpy(x->committed + x->n_committed, up->committed,
	       up->n_committed * sizeof(*up->committed));
	x->n_committed = n;
	up->n_committed = 0;
}

/* One update goes to disk. */
static void turn(struct member *x)
{
	struct raft_update *up = &x->up;
	struct raft_event *w = &x->writes[x->n_writes];

	if (x->n_writes == WRITES_MAX)
		return;
	*w = (struct raft_event){ .type = RAFT_STORED };
	if (up->snapshot) {
		drop_committed(x);
		w->index = up->snapshot->index;
		w->term = up->snapshot->term;
	}
	take_committed(x);
	if (up->n_entries) {
		w->index = up->entries[up->n_entries - 1].index;
		w->term = up->entries[up->n_entries - 1].term;
	}
	x->n_writes += w->index != 0;
	raft_update_clear(up);
}

/* The oldest of its writes is durable. */
static void stored(struct member *x)
{
	struct raft_event ev = x->writes[0];

	if (!x->n_writes)
		return;
	memmove(x->writes, x->writes + 1, --x->n_writes * sizeof(ev));
	step(x, &ev);
}

static size_t decode(const struct raft_entry *e, struct raft_conf_change *change,
		     struct raft_conf_single *out, size_t max)
{
	struct slice s = e->payload ? blob_slice(e->payload) : slice_of(NULL, 0);
	struct wire_field f, g;
	size_t n = 0;

	while (wire_next(&s, &f) == 1) {
		if (f.number == 1 && f.value < 3)
			change->transition = (enum raft_conf_transition)f.value;
		if (f.number != 2 || f.type != WIRE_LEN || n == max)
			continue;
		out[n] = (struct raft_conf_single){ 0 };
		while (wire_next(&f.bytes, &g) == 1) {
			if (g.number == 1)
				out[n].type = (enum raft_conf_change_type)g.value;
			else if (g.number == 2)
				out[n].node_id = g.value;
		}
		n++;
	}
	return n;
}

static void apply(struct member *x, bool refuse)
{
	struct raft_conf_single singles[8];
	struct raft_conf_change change = { .changes = singles };
	struct raft_event conf = { .type = RAFT_CONF_APPLIED }, ev = { .type = RAFT_APPLIED };
	struct raft_entry e;

	if (x->applied == x->n_committed)
		return;
	e = x->committed[x->applied++];
	conf.index = ev.index = e.index;
	change.n_changes = decode(&e, &change, singles, ARRAY_SIZE(singles));
	conf.conf_change = refuse ? NULL : &change;
	blob_put(e.payload);
	if (e.type != RAFT_ENTRY_NORMAL)
		step(x, &conf);
	step(x, &ev);
}

static void compact(struct member *x, const struct raft_status *st, uint8_t back)
{
	step(x, &(struct raft_event){
		.type = RAFT_COMPACT, .index = st->applied - MIN(st->applied, (uint64_t)back % 8),
	});
}

static void tick(struct member *x, size_t n)
{
	while (n--)
		step(x, &(struct raft_event){ .type = RAFT_TICK });
}

static void look(const struct member *x)
{
	struct raft_conf_state conf;
	struct raft_member member;

	for (uint64_t id = 0; id < 6; id++)
		(void)raft_member(x->raft, id, &member);
	BUG_ON(raft_conf_state(x->raft, &conf));
	raft_conf_state_release(&conf);
}

/* Whatever that member was asked for is granted: so that elections are won. */
static void grant(struct member *x, const struct raft_status *st, uint8_t from)
{
	bool pre = st->role == RAFT_PRE_CANDIDATE;
	struct raft_message m = {
		.type = pre ? RAFT_MSG_PRE_VOTE_RESP : RAFT_MSG_VOTE_RESP,
		.to = st->id, .from = 1 + from % 5, .term = st->term + pre,
	};

	step(x, &(struct raft_event){ .type = RAFT_RECEIVE, .message = &m });
}

/* A member has stored all of the log, or answers a round of heartbeats: so that leaders
 * commit, apply changes of the configuration, and answer reads. */
static void ack(struct member *x, struct input *in, const struct raft_status *st, uint8_t from)
{
	bool heartbeat = from & 8;
	struct raft_message m = {
		.type = heartbeat ? RAFT_MSG_HEARTBEAT_RESP : RAFT_MSG_APP_RESP,
		.to = st->id, .from = 1 + from % 8 % 5, .term = st->term,
		.index = heartbeat ? 0 : st->last_index,
	};

	if (heartbeat) {
		m.context = blob_new(8);
		BUG_ON(!m.context);
		memset(m.context->data, 0, 8);
		m.context->data[0] = take(in);
	}
	step(x, &(struct raft_event){ .type = RAFT_RECEIVE, .message = &m });
	blob_put(m.context);
}

static void one_event(struct member *x, struct input *in)
{
	static const enum raft_event_type about_a_member[] = {
		RAFT_TRANSFER, RAFT_UNREACHABLE, RAFT_SNAPSHOT_SENT, RAFT_SNAPSHOT_FAILED,
	};
	uint8_t b = take(in), arg = b >> 4;
	struct raft_status st;

	raft_status(x->raft, &st);
	switch (b & 15) {
	case 0:
		return tick(x, 1 + arg);
	case 1:
		return turn(x);
	case 2:
		return stored(x);
	case 3:
		return apply(x, arg == 15);
	case 4:
		return compact(x, &st, arg);
	case 5:
		return propose(x, in);
	case 6:
		step(x, &(struct raft_event){ .type = RAFT_READ, .id = arg });
		return;
	case 7:
		step(x, &(struct raft_event){
			.type = about_a_member[arg % 4], .id = 1 + arg / 4,
		});
		return;
	case 8:
		step(x, &(struct raft_event){
			.type = arg & 1 ? RAFT_CAMPAIGN : RAFT_FORGET_LEADER,
		});
		return look(x);
	case 9:
		return grant(x, &st, arg);
	case 10:
		return ack(x, in, &st, arg);
	default:
		return receive(x, in, &st);
	}
}

static int start(struct member *x, struct input *in)
{
	uint8_t b = take(in), c = take(in), d = take(in);
	struct raft_config config = {
		.id = 1, .seed = d, .election_ticks = 4 + (d & 3), .heartbeat_ticks = 1 + (d >> 7),
		.pre_vote = b & 1, .check_quorum = b & 2, .lease_ticks = (b & 6) == 6 ? 2 : 0,
		.max_message_bytes = b & 8 ? 40 : 1 << 20,
		.max_inflight = b & 16 ? 2 : 64,
		.max_uncommitted_bytes = b & 32 ? 30 : 0,
		.max_committed_bytes = b & 64 ? 20 : 0,
		.n_entries = c & 7,
	};
	struct raft_entry *entries;
	const char *why;
	int ret;

	take_conf(in, &config.snapshot.conf);
	config.snapshot.index = b & 128 ? c >> 4 : 0;
	config.snapshot.term = config.snapshot.index ? 1 + (d >> 4 & 1) : 0;
	entries = take_entries(in, config.n_entries, config.snapshot.index + 1,
			       config.snapshot.term);
	config.entries = entries;
	config.applied = config.snapshot.index + (c >> 3 & 1);
	config.hard_state.term = take_near(in, 4);
	config.hard_state.vote = take(in) & 3;
	config.hard_state.commit = take_near(in, config.applied + 4);
	ret = raft_new(&config, &x->raft, &why);
	BUG_ON(ret && (ret != -EINVAL || !why));
	raft_entries_free(entries, config.n_entries);
	raft_conf_state_release(&config.snapshot.conf);
	return ret;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, data + size };
	struct member x = { 0 };

	raft_update_init(&x.up);
	if (start(&x, &in))
		return 0;
	raft_check(x.raft);
	for (size_t i = 0; i < EVENTS_MAX && in.p < in.end; i++)
		one_event(&x, &in);
	drop_committed(&x);
	free(x.committed);
	raft_update_release(&x.up);
	raft_free(x.raft);
	return 0;
}
