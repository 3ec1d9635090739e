/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A group of members in one process for the tests of libraft: a network that is a
 * bag of messages, and a disk per member whose writes are under way until the test
 * says that they are done. Nothing happens by itself and nothing is random: a test, or
 * its seeded generator, takes every step.
 *
 * After every step raft_check() runs, and the group as a whole is checked for what
 * Raft promises (thesis figure 3.2): one leader a term, the same entry applied at an
 * index everywhere, no read older than what was committed when it was asked.
 */
#ifndef TESTS_RAFT_NET_H
#define TESTS_RAFT_NET_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "include/wire.h"
#include "libraft/raft.h"

#define NET_NODES 8		/* ids 1 .. NET_NODES - 1 */
#define NET_INDEXES 8192
#define NET_TERMS 4096
#define NET_READS 4096

/* What one update brings to disk. */
struct net_write {
	struct raft_entry *entries;
	size_t n_entries;
	struct raft_hard_state hard_state;
	bool hard_state_changed;
	struct raft_snapshot_meta *snapshot;
	struct raft_message *after_store;
	size_t n_after_store;
	struct net_write *next;
};

/* What a crash leaves. */
struct net_disk {
	struct raft_hard_state hard_state;
	struct raft_snapshot_meta snapshot;	/* conf: that of applied */
	uint64_t applied;
	struct raft_entry *entries;
	size_t n_entries;
};

struct net_node {
	struct raft *raft;		/* NULL: down */
	struct raft_update up;
	struct raft_config config;
	struct net_disk disk;
	struct net_write *writes, **writes_end;
	struct raft_entry *committed;	/* to be applied, in this order */
	size_t n_committed;
	bool applying;
	struct raft_read *reads;	/* answered and not looked at yet */
	size_t n_reads;
};

struct net {
	struct net_node node[NET_NODES];
	struct raft_message *bag;
	size_t n_bag, cap_bag;
	bool slow_disk;			/* writes wait for net_write_done() */
	bool cut[NET_NODES][NET_NODES];	/* from, to: messages are lost */
	uint64_t leader[NET_TERMS];	/* of each term */
	struct {
		uint64_t term;
		struct blob *payload;
	} applied[NET_INDEXES];		/* what the first member to apply it found */
	uint64_t commit;		/* the highest anywhere */
	uint64_t snapshots;		/* installed */
	uint64_t read_floor[NET_READS];	/* commit when read id was asked */
};

static inline struct blob *net_blob(const char *text)
{
	struct blob *b = blob_copy(slice_str(text));

	assert_non_null(b);
	return b;
}

/* raftpb.ConfChangeV2 of one change. */
static inline struct blob *net_conf_blob(enum raft_conf_change_type type, uint64_t id)
{
	uint8_t single[32], bytes[64], *p = single, *q = bytes;

	p = wire_put_u64_field(p, 1, type);
	p = wire_put_u64_field(p, 2, id);
	q = wire_put_len_field(q, 2, (size_t)(p - single));
	memcpy(q, single, (size_t)(p - single));
	q += p - single;
	return blob_copy(slice_of(bytes, (size_t)(q - bytes)));
}

/* The same of two changes: it goes through a joint configuration. */
static inline struct blob *net_conf_blob2(enum raft_conf_change_type type, uint64_t id,
					  enum raft_conf_change_type type2, uint64_t id2)
{
	struct blob *a = net_conf_blob(type, id), *b = net_conf_blob(type2, id2);
	struct blob *both = blob_new((size_t)a->len + b->len);

	assert_non_null(both);
	memcpy(both->data, a->data, a->len);
	memcpy(both->data + a->len, b->data, b->len);
	blob_put(a);
	blob_put(b);
	return both;
}

static inline size_t net_conf_decode(const struct blob *b, struct raft_conf_single *out, size_t max)
{
	struct slice s = b ? blob_slice(b) : slice_of(NULL, 0);
	struct wire_field f, g;
	size_t n = 0;

	while (wire_next(&s, &f) == 1) {
		if (f.number != 2 || n == max)
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

static inline void net_bag_add(struct net *net, struct raft_message *m)
{
	if (net->n_bag == net->cap_bag) {
		net->cap_bag = net->cap_bag ? net->cap_bag * 2 : 64;
		net->bag = realloc(net->bag, net->cap_bag * sizeof(*net->bag));
		assert_non_null(net->bag);
	}
	net->bag[net->n_bag++] = *m;
}

static inline void net_message_drop(struct raft_message *m)
{
	struct raft_message *heap = malloc(sizeof(*heap));

	assert_non_null(heap);
	*heap = *m;
	raft_messages_free(heap, 1);
}

/* Moves messages out of an array into the bag, but not over a link that is cut. */
static inline void net_send(struct net *net, struct raft_message *messages, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct raft_message *m = &messages[i];

		assert_true(m->to && m->to < NET_NODES && m->from);
		/* Of a snapshot its sender learns whether it arrived: see net_lose(). */
		if (net->cut[m->from][m->to] && m->type != RAFT_MSG_SNAP)
			net_message_drop(m);
		else
			net_bag_add(net, m);
	}
}

static inline int net_step(struct net *net, uint64_t id, const struct raft_event *event);

static inline void net_apply(struct net *net, uint64_t id, const struct raft_entry *e)
{
	struct net_node *node = &net->node[id];
	struct raft_conf_single singles[8];
	struct raft_conf_change change = { .changes = singles };
	struct raft_event ev = {
		.type = RAFT_CONF_APPLIED,
		.index = e->index,
		.conf_change = &change,
	};

	assert_true(e->index < NET_INDEXES);
	assert_int_equal(e->index, node->disk.applied + 1);
	if (!net->applied[e->index].term) {
		net->applied[e->index].term = e->term;
		net->applied[e->index].payload = e->payload ? blob_get(e->payload) : NULL;
	}
	/* State machine safety. */
	assert_int_equal(net->applied[e->index].term, e->term);
	assert_int_equal(!net->applied[e->index].payload, !e->payload);
	if (e->payload)
		assert_true(slice_eq(blob_slice(net->applied[e->index].payload),
				     blob_slice(e->payload)));
	node->disk.applied = e->index;
	if (e->type != RAFT_ENTRY_NORMAL) {
		change.n_changes = net_conf_decode(e->payload, singles, ARRAY_SIZE(singles));
		assert_int_equal(net_step(net, id, &ev), 0);
		raft_conf_state_release(&node->disk.snapshot.conf);
		assert_int_equal(raft_conf_state(node->raft, &node->disk.snapshot.conf), 0);
	}
}

static inline void net_disk_write(struct net_disk *disk, struct net_write *w)
{
	struct raft_snapshot_meta *s = w->snapshot;
	uint64_t base;
	size_t keep;

	if (s) {
		raft_entries_free(disk->entries, disk->n_entries);
		disk->entries = NULL;
		disk->n_entries = 0;
		raft_conf_state_release(&disk->snapshot.conf);
		disk->snapshot = *s;
		disk->applied = s->index;
		memset(&s->conf, 0, sizeof(s->conf));
	}
	base = disk->snapshot.index;
	if (w->n_entries) {
		assert_true(w->entries[0].index > base);
		keep = w->entries[0].index - base - 1;
		assert_true(keep <= disk->n_entries);
		while (disk->n_entries > keep)
			blob_put(disk->entries[--disk->n_entries].payload);
		disk->entries = realloc(disk->entries,
					(keep + w->n_entries) * sizeof(*disk->entries));
		assert_non_null(disk->entries);
		memcpy(disk->entries + keep, w->entries, w->n_entries * sizeof(*w->entries));
		disk->n_entries = keep + w->n_entries;
		free(w->entries);
		w->entries = NULL;
	}
	if (w->hard_state_changed) {
		assert_true(w->hard_state.term >= disk->hard_state.term);
		disk->hard_state = w->hard_state;
	}
}

static inline struct net_write *net_write_take(struct net_node *node)
{
	struct net_write *w = node->writes;

	node->writes = w->next;
	if (!node->writes)
		node->writes_end = &node->writes;
	return w;
}

/* The oldest write of @id is durable. False: there is none. */
static inline bool net_write_done(struct net *net, uint64_t id)
{
	struct net_node *node = &net->node[id];
	struct raft_event ev = { .type = RAFT_STORED };
	struct net_write *w;

	if (!node->raft || !node->writes)
		return false;
	w = net_write_take(node);
	if (w->snapshot) {
		net->snapshots++;
		ev.index = w->snapshot->index;
		ev.term = w->snapshot->term;
	}
	if (w->n_entries) {
		ev.index = w->entries[w->n_entries - 1].index;
		ev.term = w->entries[w->n_entries - 1].term;
	}
	net_disk_write(&node->disk, w);
	net_send(net, w->after_store, w->n_after_store);
	free(w->after_store);
	if (w->snapshot)
		free(w->snapshot);
	free(w);
	if (ev.index)
		assert_int_equal(net_step(net, id, &ev), 0);
	return true;
}

static inline void net_write_add(struct net_node *node)
{
	struct raft_update *up = &node->up;
	struct net_write *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->entries = up->entries;
	w->n_entries = up->n_entries;
	w->hard_state = up->hard_state;
	w->hard_state_changed = up->hard_state_changed;
	w->snapshot = up->snapshot;
	w->after_store = up->after_store;
	w->n_after_store = up->n_after_store;
	up->entries = NULL;
	up->n_entries = 0;
	up->snapshot = NULL;
	up->after_store = NULL;
	up->n_after_store = 0;
	*node->writes_end = w;
	node->writes_end = &w->next;
}

static inline void net_check(struct net *net, uint64_t id)
{
	struct raft_status st;

	raft_check(net->node[id].raft);
	raft_status(net->node[id].raft, &st);
	assert_true(st.term < NET_TERMS);
	if (st.commit > net->commit)
		net->commit = st.commit;
	if (st.role != RAFT_LEADER)
		return;
	/* Election safety. */
	if (!net->leader[st.term])
		net->leader[st.term] = id;
	assert_int_equal(net->leader[st.term], id);
}

static inline void net_take_reads(struct net *net, struct net_node *node)
{
	struct raft_update *up = &node->up;

	if (!up->n_reads)
		return;
	node->reads = realloc(node->reads, (node->n_reads + up->n_reads) * sizeof(*node->reads));
	assert_non_null(node->reads);
	for (size_t i = 0; i < up->n_reads; i++) {
		struct raft_read r = up->reads[i];

		assert_true(r.id < NET_READS);
		/* Linearizable: nothing committed before the question is missed. */
		assert_true(r.index >= net->read_floor[r.id]);
		node->reads[node->n_reads++] = r;
	}
}

static inline void net_take_committed(struct net_node *node)
{
	struct raft_update *up = &node->up;
	size_t n = node->n_committed + up->n_committed;

	if (!up->n_committed)
		return;
	node->committed = realloc(node->committed, n * sizeof(*node->committed));
	assert_non_null(node->committed);
	memcpy(node->committed + node->n_committed, up->committed,
	       up->n_committed * sizeof(*up->committed));
	node->n_committed = n;
	up->n_committed = 0;
}

/* Applies what is committed, also what becomes so by what is applied. */
static inline void net_apply_all(struct net *net, uint64_t id)
{
	struct net_node *node = &net->node[id];

	if (node->applying)
		return;
	node->applying = true;
	while (node->n_committed) {
		struct raft_event ev = { .type = RAFT_APPLIED };
		struct raft_entry *batch = node->committed;
		size_t n = node->n_committed;

		node->committed = NULL;
		node->n_committed = 0;
		for (size_t i = 0; i < n; i++)
			net_apply(net, id, &batch[i]);
		ev.index = batch[n - 1].index;
		raft_entries_free(batch, n);
		assert_int_equal(net_step(net, id, &ev), 0);
	}
	node->applying = false;
}

/* Does what the update of @id asks for. */
static inline void net_update(struct net *net, uint64_t id)
{
	struct net_node *node = &net->node[id];

	if (!raft_update_pending(&node->up))
		return;
	net_send(net, node->up.messages, node->up.n_messages);
	node->up.n_messages = 0;
	net_take_reads(net, node);
	if (node->up.n_entries || node->up.n_after_store || node->up.snapshot ||
	    node->up.hard_state_changed)
		net_write_add(node);
	net_take_committed(node);
	raft_update_clear(&node->up);
	net_apply_all(net, id);
	while (!net->slow_disk && net_write_done(net, id))
		;
}

/* One event, and what follows from it. Returns what raft_step() did. */
static inline int net_step(struct net *net, uint64_t id, const struct raft_event *event)
{
	struct net_node *node = &net->node[id];
	int ret;

	assert_non_null(node->raft);
	ret = raft_step(node->raft, event, &node->up);
	assert_true(ret >= 0);
	net_check(net, id);
	net_update(net, id);
	return ret;
}

static inline void net_start(struct net *net, uint64_t id)
{
	struct net_node *node = &net->node[id];
	const char *why = "";

	assert_null(node->raft);
	node->config.id = id;
	node->config.hard_state = node->disk.hard_state;
	node->config.snapshot = node->disk.snapshot;
	node->config.applied = node->disk.applied;
	node->config.entries = node->disk.entries;
	node->config.n_entries = node->disk.n_entries;
	node->writes_end = &node->writes;
	raft_update_init(&node->up);
	if (raft_new(&node->config, &node->raft, &why))
		fail_msg("raft_new: %s", why);
	net_check(net, id);
}

/* The member is gone; of the writes under way the first @written have reached the disk. */
static inline void net_crash(struct net *net, uint64_t id, size_t written)
{
	struct net_node *node = &net->node[id];

	for (size_t i = 0; node->writes; i++) {
		struct net_write *w = net_write_take(node);

		if (i < written)
			net_disk_write(&node->disk, w);
		raft_entries_free(w->entries, w->entries ? w->n_entries : 0);
		if (w->snapshot) {
			raft_conf_state_release(&w->snapshot->conf);
			free(w->snapshot);
		}
		raft_messages_free(w->after_store, w->n_after_store);
		free(w);
	}
	raft_update_release(&node->up);
	raft_free(node->raft);
	node->raft = NULL;
	free(node->reads);
	node->reads = NULL;
	node->n_reads = 0;
}

/* A group whose voters are 1 .. @voters, as if they had always been; those who may join
 * later know it, too. */
static inline void net_init(struct net *net, size_t voters)
{
	memset(net, 0, sizeof(*net));
	for (uint64_t id = 1; id < NET_NODES; id++) {
		struct net_node *node = &net->node[id];
		struct raft_conf_state *conf = &node->disk.snapshot.conf;

		node->config = (struct raft_config){
			.seed = id * 7919,
			.election_ticks = 10,
			.heartbeat_ticks = 1,
			.pre_vote = true,
			.check_quorum = true,
			.max_message_bytes = 1 << 20,
			.max_inflight = 64,
		};
		if (!voters)
			continue;
		conf->voters = calloc(voters, sizeof(uint64_t));
		assert_non_null(conf->voters);
		conf->n_voters = voters;
		for (uint64_t i = 1; i <= voters; i++)
			conf->voters[i - 1] = i;
	}
}

static inline void net_start_all(struct net *net, size_t voters)
{
	for (uint64_t id = 1; id <= voters; id++)
		net_start(net, id);
}

static inline void net_release(struct net *net)
{
	for (uint64_t id = 1; id < NET_NODES; id++) {
		struct net_disk *disk = &net->node[id].disk;

		net->node[id].writes_end = &net->node[id].writes;
		net_crash(net, id, 0);
		raft_entries_free(disk->entries, disk->n_entries);
		raft_conf_state_release(&disk->snapshot.conf);
	}
	raft_messages_free(net->bag, net->n_bag);
	for (size_t i = 0; i < NET_INDEXES; i++)
		blob_put(net->applied[i].payload);
}

static inline int net_event(struct net *net, uint64_t id, enum raft_event_type type)
{
	return net_step(net, id, &(struct raft_event){ .type = type });
}

static inline int net_propose_blob(struct net *net, uint64_t id, enum raft_entry_type type,
				   struct blob *b)
{
	struct raft_entry e = { .type = type, .payload = b };
	struct raft_event ev = { .type = RAFT_PROPOSE, .entries = &e, .n_entries = 1 };
	int ret = net_step(net, id, &ev);

	blob_put(b);
	return ret;
}

static inline int net_propose(struct net *net, uint64_t id, const char *text)
{
	return net_propose_blob(net, id, RAFT_ENTRY_NORMAL, net_blob(text));
}

static inline int net_change(struct net *net, uint64_t id, enum raft_conf_change_type type,
			     uint64_t member)
{
	return net_propose_blob(net, id, RAFT_ENTRY_CONF_CHANGE_V2, net_conf_blob(type, member));
}

static inline int net_read(struct net *net, uint64_t id, uint64_t read)
{
	struct raft_event ev = { .type = RAFT_READ, .id = read };

	net->read_floor[read] = net->commit;
	return net_step(net, id, &ev);
}

static inline struct raft_message net_take(struct net *net, size_t i)
{
	struct raft_message m = net->bag[i];

	memmove(net->bag + i, net->bag + i + 1, (--net->n_bag - i) * sizeof(m));
	return m;
}

/* What the transport tells the sender of a snapshot. */
static inline void net_report(struct net *net, const struct raft_message *m, bool arrived)
{
	struct raft_event ev = {
		.type = arrived ? RAFT_SNAPSHOT_SENT : RAFT_SNAPSHOT_FAILED,
		.id = m->to,
	};

	if (m->type == RAFT_MSG_SNAP && net->node[m->from].raft)
		assert_int_equal(net_step(net, m->from, &ev), 0);
}

/* Message @i does not arrive. */
static inline void net_lose(struct net *net, size_t i)
{
	struct raft_message m = net_take(net, i);

	net_report(net, &m, false);
	net_message_drop(&m);
}

/* Takes message @i out of the bag and hands it to whom it is for. */
static inline void net_deliver(struct net *net, size_t i)
{
	struct raft_message m;
	struct raft_event ev = { .type = RAFT_RECEIVE, .message = &m };

	if (!net->node[net->bag[i].to].raft || net->cut[net->bag[i].from][net->bag[i].to]) {
		net_lose(net, i);
		return;
	}
	m = net_take(net, i);
	assert_int_equal(net_step(net, m.to, &ev), 0);
	net_report(net, &m, true);
	net_message_drop(&m);
}

/* Delivers until nothing is on its way. */
static inline void net_settle(struct net *net)
{
	for (size_t n = 0; net->n_bag; n++) {
		assert_true(n < 100000);
		net_deliver(net, 0);
	}
}

/* A message that shares the payloads of @m. */
static inline void net_duplicate(struct net *net, size_t i)
{
	struct raft_message m = net->bag[i];
	struct raft_snapshot_meta *s = m.snapshot;
	size_t bytes = m.n_entries * sizeof(*m.entries);

	if (s)
		return;
	if (m.context)
		blob_get(m.context);
	if (m.n_entries) {
		m.entries = malloc(bytes);
		assert_non_null(m.entries);
		memcpy(m.entries, net->bag[i].entries, bytes);
	}
	for (size_t k = 0; k < m.n_entries; k++)
		if (m.entries[k].payload)
			blob_get(m.entries[k].payload);
	net_bag_add(net, &m);
}

/* The store of @id holds everything up to @index: the log before may go. */
static inline void net_compact(struct net *net, uint64_t id, uint64_t index)
{
	struct net_disk *disk = &net->node[id].disk;
	struct raft_event ev = { .type = RAFT_COMPACT, .index = index };
	size_t n = index - disk->snapshot.index;

	assert_true(index <= disk->applied && n <= disk->n_entries);
	if (!n)
		return;
	disk->snapshot.index = index;
	disk->snapshot.term = disk->entries[n - 1].term;
	for (size_t i = 0; i < n; i++)
		blob_put(disk->entries[i].payload);
	disk->n_entries -= n;
	memmove(disk->entries, disk->entries + n, disk->n_entries * sizeof(*disk->entries));
	assert_int_equal(net_step(net, id, &ev), 0);
}

static inline void net_tick(struct net *net, uint64_t id, size_t n)
{
	while (n--)
		net_event(net, id, RAFT_TICK);
}

static inline struct raft_status net_status(const struct net *net, uint64_t id)
{
	struct raft_status st;

	raft_status(net->node[id].raft, &st);
	return st;
}

/* The leader of the highest term among those that are up; 0 none. */
static inline uint64_t net_leader(const struct net *net)
{
	uint64_t leader = 0, term = 0;

	for (uint64_t id = 1; id < NET_NODES; id++) {
		struct raft_status st;

		if (!net->node[id].raft)
			continue;
		raft_status(net->node[id].raft, &st);
		if (st.role == RAFT_LEADER && st.term > term) {
			leader = id;
			term = st.term;
		}
	}
	return leader;
}

static inline void net_isolate(struct net *net, uint64_t id, bool cut)
{
	for (uint64_t i = 1; i < NET_NODES; i++)
		net->cut[id][i] = net->cut[i][id] = cut;
}

#endif
