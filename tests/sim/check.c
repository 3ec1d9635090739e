// SPDX-License-Identifier: Apache-2.0
/*
 * What Raft promises (thesis figure 3.2 and section 6.4), checked over the whole group
 * after every step, from outside: against what left the members and what their disks
 * hold.
 *
 * Election safety: at most one leader in a term; and where it comes from, at most one
 * vote of a member in a term, also across crashes.
 * Log matching: entries with the same index and term are the same, and so are those
 * before them.
 * Leader completeness: a leader's log has what was committed in earlier terms.
 * State machine safety: the same entry is committed, and applied, at an index everywhere.
 * Durability: what is committed is on the disks of a quorum; what is acknowledged, and
 * what is to be applied, on the member's own.
 * Linearizability: a read misses nothing that was committed when it was asked.
 * Configuration: at most one change is under way.
 */
#include "tests/sim/sim.h"

#define LL(v) ((unsigned long long)(v))

void check_begin(struct sim *s)
{
	struct sim_oracle *o = &s->oracle, fresh = { .seen = o->seen, .cap_seen = o->cap_seen };

	fresh.reads = o->reads;
	fresh.cap_reads = o->cap_reads;
	*o = fresh;
}

/* What the member's log holds after a start is what its disk has. */
void check_started(struct sim *s, struct sim_node *n)
{
	raft_check(n->raft);
	raft_status(n->raft, &n->was);
	memset(n->changes, 0, sizeof(n->changes));
	n->terms[n->disk.base] = n->disk.base_term;
	for (size_t i = 0; i < n->disk.n_entries; i++) {
		const struct raft_entry *e = &n->disk.entries[i];

		n->terms[e->index] = e->term;
		n->changes[e->index] = e->type != RAFT_ENTRY_NORMAL;
	}
	if (n->was.role != RAFT_FOLLOWER)
		sim_fail(s, "%d starts as something else than a follower", (int)n->id);
}

/* Keeps n->terms what the log is. */
void check_holds(struct sim *s, struct sim_node *n, const struct raft_entry *e, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (e[i].index >= SIM_INDEXES)
			sim_fail(s, "the log grows beyond the simulator's limit");
		n->terms[e[i].index] = e[i].term;
		n->changes[e[i].index] = e[i].type != RAFT_ENTRY_NORMAL;
	}
}

/* Also before the update is handed out. */
static void follow_log(struct sim *s, struct sim_node *n)
{
	const struct raft_update *up = &n->up;

	if (up->snapshot)
		n->terms[up->snapshot->index] = up->snapshot->term;
	check_holds(s, n, up->entries, up->n_entries);
}

static bool quorum_has_stored(struct sim *s, const uint64_t *ids, size_t count, uint64_t index,
			      uint64_t term)
{
	size_t have = 0;

	for (size_t i = 0; i < count; i++)
		have += disk_has(&s->node[ids[i]], index, term);
	return !count || have > count / 2;
}

/*
 * Thesis 3.6.2: a leader commits an entry of its own term that a quorum has stored, or
 * else a change of the configuration before such a one, which is counted for itself.
 */
static void check_leader_commit(struct sim *s, struct sim_node *n, const struct raft_status *st)
{
	struct raft_conf_state c;
	uint64_t own = st->commit;

	while (own < st->last_index && n->terms[own] != st->term)
		own++;
	if (n->terms[own] != st->term || (own != st->commit && !n->changes[st->commit]))
		sim_fail(s, "leader %d of term %llu commits %llu of term %llu by counting",
			 (int)n->id, LL(st->term), LL(st->commit), LL(n->terms[st->commit]));
	BUG_ON(raft_conf_state(n->raft, &c));
	if (!quorum_has_stored(s, c.voters, c.n_voters, own, st->term) ||
	    !quorum_has_stored(s, c.voters_outgoing, c.n_voters_outgoing, own, st->term))
		sim_fail(s, "leader %d commits %llu, which no quorum has stored", (int)n->id,
			 LL(st->commit));
	raft_conf_state_release(&c);
}

/* State machine safety, when an entry becomes known to be committed. */
static void check_commit(struct sim *s, struct sim_node *n, const struct raft_status *st)
{
	struct sim_oracle *o = &s->oracle;
	uint64_t i = MAX(n->was.commit + 1, st->first_index);

	for (; i <= st->commit; i++) {
		if (!o->committed[i].term) {
			o->committed[i].term = n->terms[i];
			o->committed[i].in_term = st->term;
			s->count[SIM_COMMIT]++;
		}
		if (o->committed[i].term != n->terms[i])
			sim_fail(s, "%d has %llu/%llu committed, another has %llu/%llu",
				 (int)n->id, LL(n->terms[i]), LL(i), LL(o->committed[i].term),
				 LL(i));
	}
	o->commit = MAX(o->commit, st->commit);
	if (st->role == RAFT_LEADER)
		check_leader_commit(s, n, st);
}

static void check_elected(struct sim *s, struct sim_node *n, const struct raft_status *st)
{
	struct sim_oracle *o = &s->oracle;

	s->count[SIM_ELECTION]++;
	sim_trace(s, "%d leads term %llu", (int)n->id, LL(st->term));
	if (o->leader[st->term] && o->leader[st->term] != n->id)
		sim_fail(s, "%d and %d lead term %llu", (int)o->leader[st->term], (int)n->id,
			 LL(st->term));
	o->leader[st->term] = n->id;
	for (uint64_t i = st->first_index; i <= o->commit; i++)
		if (o->committed[i].term && o->committed[i].in_term < st->term &&
		    (i > st->last_index || n->terms[i] != o->committed[i].term))
			sim_fail(s, "leader %d of term %llu lacks %llu/%llu of term %llu",
				 (int)n->id, LL(st->term), LL(o->committed[i].term), LL(i),
				 LL(o->committed[i].in_term));
}

void check_step(struct sim *s, struct sim_node *n)
{
	struct raft_status st;

	raft_check(n->raft);
	raft_status(n->raft, &st);
	follow_log(s, n);
	if (st.term >= SIM_TERMS)
		sim_fail(s, "more terms than the simulator's limit");
	if (st.term < n->was.term || st.commit < n->was.commit || st.applied < n->was.applied)
		sim_fail(s, "%d goes back", (int)n->id);
	if (st.role == RAFT_LEADER && (n->was.role != RAFT_LEADER || n->was.term != st.term))
		check_elected(s, n, &st);
	if (st.commit > n->was.commit)
		check_commit(s, n, &st);
	if (st.transferee != n->was.transferee && st.transferee)
		s->count[SIM_TRANSFER]++;
	n->was = st;
}

/*
 * Log matching, of entries that reach a disk or the network; those that a crash takes
 * out of memory before have never been. By induction it suffices to know an entry and
 * the term of the one before.
 */
static void check_entry(struct sim *s, uint64_t id, const struct raft_entry *e, uint64_t before)
{
	struct sim_oracle *o = &s->oracle;
	struct sim_entry_seen now = {
		.term = e->term,
		.before = before,
		.digest = sim_digest(e),
		.next = o->first_seen[e->index],
	};

	for (uint32_t i = now.next; i; i = o->seen[i - 1].next) {
		const struct sim_entry_seen *old = &o->seen[i - 1];

		if (old->term != now.term)
			continue;
		if (old->before != now.before || old->digest != now.digest)
			sim_fail(s, "%d has another entry %llu/%llu than was seen before",
				 (int)id, LL(e->term), LL(e->index));
		return;
	}
	if (o->n_seen == o->cap_seen) {
		o->cap_seen = o->cap_seen ? o->cap_seen * 2 : 1024;
		o->seen = sim_alloc(o->seen, o->cap_seen, sizeof(*o->seen));
	}
	o->seen[o->n_seen++] = now;
	o->first_seen[e->index] = o->n_seen;
}

/* Entries that follow one of term @before. */
void check_entries(struct sim *s, uint64_t id, const struct raft_entry *e, size_t n,
		   uint64_t before)
{
	for (size_t i = 0; i < n; i++) {
		check_entry(s, id, &e[i], before);
		before = e[i].term;
	}
}

/* Thesis 4.1: a change waits until the one before it is applied. */
static void check_change(struct sim *s, struct sim_node *n, const struct raft_entry *e)
{
	if (e->type == RAFT_ENTRY_NORMAL || n->was.role != RAFT_LEADER)
		return;
	for (uint64_t i = n->was.applied + 1; i < e->index; i++)
		if (n->changes[i])
			sim_fail(s, "leader %d takes up change %llu while %llu is under way",
				 (int)n->id, LL(e->index), LL(i));
}

/* An update as it is handed out. */
void check_update(struct sim *s, struct sim_node *n)
{
	const struct raft_update *up = &n->up;

	for (size_t i = 0; i < up->n_entries; i++) {
		check_change(s, n, &up->entries[i]);
		sim_mix(s, up->entries[i].index << 16 ^ up->entries[i].term);
	}
	for (size_t i = 0; i < up->n_committed; i++) {
		const struct raft_entry *e = &up->committed[i];

		if (e->index > n->disk.base + n->disk.n_entries ||
		    !disk_has(n, e->index, e->term))
			sim_fail(s, "%d is to apply %llu/%llu, which its disk does not have",
				 (int)n->id, LL(e->term), LL(e->index));
	}
	if (up->role_changed)
		sim_trace(s, "%d: %s, term %llu, leader %d", (int)n->id,
			  raft_role_to_text(n->was.role), LL(n->was.term), (int)n->was.leader);
}

static void check_vote(struct sim *s, uint64_t voter, uint64_t term, uint64_t candidate)
{
	uint64_t *vote = &s->oracle.vote[voter][term];

	if (*vote && *vote != candidate)
		sim_fail(s, "%d votes for %d and for %d in term %llu", (int)voter, (int)*vote,
			 (int)candidate, LL(term));
	*vote = candidate;
}

static bool is_of_leader(enum raft_message_type type)
{
	return type == RAFT_MSG_APP || type == RAFT_MSG_HEARTBEAT || type == RAFT_MSG_SNAP ||
	       type == RAFT_MSG_TIMEOUT_NOW;
}

/* A message that leaves its sender. */
void check_send(struct sim *s, const struct raft_message *m)
{
	const struct sim_node *n = &s->node[m->from];
	struct raft_hard_state hs = n->disk.hard_state;

	if (m->term >= SIM_TERMS)
		sim_fail(s, "more terms than the simulator's limit");
	if (m->type == RAFT_MSG_VOTE)
		check_vote(s, m->from, m->term, m->from);
	if (m->type == RAFT_MSG_VOTE_RESP && !m->reject)
		check_vote(s, m->from, m->term, m->to);
	if (m->type == RAFT_MSG_APP)
		check_entries(s, m->from, m->entries, m->n_entries, m->log_term);
	if (m->type == RAFT_MSG_TIMEOUT_NOW)
		s->count[SIM_TRANSFERRED]++;
	/* It may know of a later term by now; of this one its vote is no secret to its disk. */
	if ((m->type == RAFT_MSG_VOTE || (m->type == RAFT_MSG_VOTE_RESP && !m->reject)) &&
	    hs.term < m->term)
		sim_fail(s, "%d sends its vote in term %llu before it is stored", (int)n->id,
			 LL(m->term));
	if (is_of_leader(m->type) && hs.term < m->term)
		sim_fail(s, "%d leads term %llu before its vote in it is stored", (int)n->id,
			 LL(m->term));
	/* A later leader may have had it overwritten in the same write: then it never counts. */
	if (m->type == RAFT_MSG_APP_RESP && !m->reject && hs.term <= m->term &&
	    m->index > n->disk.base + n->disk.n_entries)
		sim_fail(s, "%d acknowledges %llu before it is stored", (int)n->id, LL(m->index));
}

void check_apply(struct sim *s, struct sim_node *n, const struct raft_entry *e)
{
	struct sim_oracle *o = &s->oracle;
	uint64_t digest = sim_digest(e), value;

	if (e->index != n->machine.applied + 1)
		sim_fail(s, "%d applies %llu after %llu", (int)n->id, LL(e->index),
			 LL(n->machine.applied));
	if (!o->applied[e->index].term) {
		o->applied[e->index].term = e->term;
		o->applied[e->index].digest = digest;
	}
	if (o->applied[e->index].term != e->term || o->applied[e->index].digest != digest)
		sim_fail(s, "%d applies another entry at %llu than others", (int)n->id,
			 LL(e->index));
	if (s->calm && s->probe_value && e->payload && e->payload->len >= sizeof(value)) {
		memcpy(&value, e->payload->data, sizeof(value));
		if (value == s->probe_value && !o->probe)
			o->probe = e->index;
	}
	sim_mix(s, n->id << 32 ^ e->index);
}

/* Returns the id for a read that @n is asked now. */
uint64_t check_read_asked(struct sim *s, struct sim_node *n)
{
	struct sim_oracle *o = &s->oracle;

	if (o->n_reads == o->cap_reads) {
		o->cap_reads = o->cap_reads ? o->cap_reads * 2 : 256;
		o->reads = sim_alloc(o->reads, o->cap_reads, sizeof(*o->reads));
	}
	s->count[SIM_READ]++;
	o->reads[o->n_reads++] = (struct sim_read_asked){
		.node = n->id, .life = n->life, .floor = o->commit,
	};
	return o->n_reads;
}

void check_read_answered(struct sim *s, struct sim_node *n, const struct raft_read *read)
{
	struct sim_oracle *o = &s->oracle;
	struct sim_read_asked *asked;

	if (!read->id || read->id > o->n_reads)
		sim_fail(s, "%d answers a read that nobody asked", (int)n->id);
	asked = &o->reads[read->id - 1];
	if (asked->node != n->id)
		sim_fail(s, "%d answers a read of %d", (int)n->id, (int)asked->node);
	if (read->index < asked->floor)
		sim_fail(s, "%d reads at %llu; when it was asked %llu was committed", (int)n->id,
			 LL(read->index), LL(asked->floor));
	asked->answered = true;
	s->count[SIM_READ_ANSWERED]++;
	s->count[SIM_READ_LEASED] += n->was.lease;
}
