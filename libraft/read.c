// SPDX-License-Identifier: Apache-2.0
/*
 * Linearizable reads without the log: thesis 6.4 (ReadIndex).
 *
 * A leader notes its commit index, makes sure with a round of heartbeats that it is
 * still the leader, and then lets the read through once that index is applied. It
 * must have committed an entry of its own term first, or its commit index may lag
 * behind what an earlier leader has acknowledged; reads wait until then.
 *
 * Rounds are numbered within the term, and an answer carries the number of the
 * heartbeat it answers: it vouches for the reads of that round and of those before.
 * A read joins the latest round only while none of its heartbeats has been sent (they
 * are still in the update), so that no answer to it can be older than the read (etcd #20418).
 */
#include "libraft/raft_i.h"

static void wait_release(struct raft_read_wait *w)
{
	blob_put(w->context);
	w->context = NULL;
}

/* Forgets the reads that wait: this member leads no more. */
void reads_reset(struct raft_reads *reads)
{
	for (size_t i = 0; i < reads->n; i++)
		wait_release(&reads->waiting[i]);
	blob_put(reads->round_context);
	free(reads->waiting);
	*reads = (struct raft_reads){ .round_pos = SIZE_MAX };
}

static int hand_read(struct raft_update *up, uint64_t id, uint64_t index)
{
	int ret = vec_reserve(&up->reads, &up->cap_reads, up->n_reads + 1, sizeof(*up->reads));

	if (ret)
		return ret;
	up->reads[up->n_reads++] = (struct raft_read){ id, index };
	return 0;
}

/* Sends @id, in the payload of a single entry; takes its reference. */
static int send_read(struct raft *raft, struct raft_update *up, struct raft_message *m,
		     struct blob *id)
{
	BUG_ON(m->entries || m->n_entries);
	BUG_ON(m->type != RAFT_MSG_READ_INDEX && m->type != RAFT_MSG_READ_INDEX_RESP);
	if (!id)
		return -ENOMEM;
	m->entries = calloc(1, sizeof(*m->entries));
	if (!m->entries) {
		blob_put(id);
		return -ENOMEM;
	}
	m->entries[0].payload = id;
	m->n_entries = 1;
	return raft_send(raft, up, m);
}

static int answer(struct raft *raft, struct raft_update *up, const struct raft_read_wait *w)
{
	struct raft_message m = {
		.type = RAFT_MSG_READ_INDEX_RESP,
		.to = w->from,
		.term = raft->term,
		.index = w->index,
	};

	BUG_ON(w->index > raft->log.commit);
	BUG_ON(w->from == raft->id || !w->from != !w->context);
	if (!w->from)
		return hand_read(up, w->id, w->index);
	return send_read(raft, up, &m, blob_get(w->context));
}

/* Lets go of the first @n, answering them. */
static int answer_first(struct raft *raft, struct raft_update *up, size_t n)
{
	struct raft_reads *reads = &raft->reads;
	int ret = 0;

	BUG_ON(n > reads->n);
	BUG_ON(raft->role != RAFT_LEADER);
	for (size_t i = 0; i < n; i++) {
		if (!ret)
			ret = answer(raft, up, &reads->waiting[i]);
		wait_release(&reads->waiting[i]);
	}
	reads->n -= n;
	memmove(reads->waiting, reads->waiting + n, reads->n * sizeof(*reads->waiting));
	return ret;
}

static bool round_is_unsent(const struct raft_reads *reads, const struct raft_update *up)
{
	return reads->round_context && reads->round_pos < up->n_messages &&
	       up->messages[reads->round_pos].context == reads->round_context;
}

static int begin_round(struct raft *raft, struct raft_update *up)
{
	struct raft_reads *reads = &raft->reads;
	struct blob *context = blob_of_u64_le(reads->round + 1);
	size_t pos = up->n_messages;
	int ret;

	BUG_ON(raft->role != RAFT_LEADER);
	if (!context)
		return -ENOMEM;
	blob_put(reads->round_context);
	reads->round_context = context;
	reads->round++;
	/* One at a time is measured, and given up when its answers would be too late. */
	if (!reads->lease_round || raft->ticks - reads->lease_start >= raft->lease_ticks) {
		reads->lease_round = reads->round;
		reads->lease_start = raft->ticks;
	}
	BUG_ON(!reads->lease_round || reads->lease_round > reads->round);
	ret = broadcast_heartbeat(raft, up);
	reads->round_pos = pos;
	return ret;
}

/*
 * Thesis 6.4.1: whoever answers a heartbeat elects nobody for election_ticks from when
 * it came (owes_lease()), so that what a majority has answered vouches for the time from
 * when it was sent. Not for longer: that a quorum was active some time in the last
 * election timeout, which is what etcd-io/raft goes by, may be said of a leader that
 * has been cut off for twice as long as its followers wait. Nor once another has been
 * told to stand at once, which no lease holds up (3.10); that message may come late.
 */
bool lease_holds(const struct raft *raft)
{
	const struct raft_reads *reads = &raft->reads;

	BUG_ON(reads->lease_end > raft->ticks + raft->lease_ticks);
	BUG_ON(reads->lease_end && raft->role != RAFT_LEADER);
	return raft->ticks < reads->lease_end && !reads->lease_given_up;
}

/* It is time for heartbeats; they begin a round where their answers extend a lease. */
int leader_heartbeat(struct raft *raft, struct raft_update *up)
{
	BUG_ON(raft->role != RAFT_LEADER);
	return raft->lease_ticks ? begin_round(raft, up) : broadcast_heartbeat(raft, up);
}

/* Gives index and round to those of the waiting reads that have none. */
static int start_waiting(struct raft *raft, struct raft_update *up)
{
	struct raft_reads *reads = &raft->reads;
	size_t first = reads->n;
	uint64_t round;

	BUG_ON(!leader_committed_in_term(raft));
	round = round_is_unsent(reads, up) ? reads->round : reads->round + 1;
	while (first && !reads->waiting[first - 1].round)
		first--;
	BUG_ON(first && reads->waiting[first - 1].round > round);
	for (size_t i = first; i < reads->n; i++) {
		reads->waiting[i].index = raft->log.commit;
		reads->waiting[i].round = round;
	}
	if (conf_is_singleton(&raft->conf, raft->id) || lease_holds(raft))
		return answer_first(raft, up, reads->n);
	return round > reads->round ? begin_round(raft, up) : 0;
}

/* The commit index moved: if it reached this term, the first reads may start. */
int reads_release_waiting(struct raft *raft, struct raft_update *up)
{
	struct raft_reads *reads = &raft->reads;

	if (!reads->n || reads->waiting[reads->n - 1].round || !leader_committed_in_term(raft))
		return 0;
	return start_waiting(raft, up);
}

static int leader_read(struct raft *raft, struct raft_update *up,
		       const struct raft_read_wait *wait)
{
	struct raft_reads *reads = &raft->reads;
	int ret;

	BUG_ON(raft->role != RAFT_LEADER || wait->round);
	BUG_ON(reads->n > RAFT_READS_MAX);
	if (reads->n == RAFT_READS_MAX)
		return RAFT_DROPPED;
	ret = vec_reserve(&reads->waiting, &reads->cap, reads->n + 1, sizeof(*wait));
	if (ret)
		return ret;
	reads->waiting[reads->n] = *wait;
	if (wait->context)
		blob_get(wait->context);
	reads->n++;
	/* Thesis 6.4, step 1; etcd #7331. */
	return leader_committed_in_term(raft) ? start_waiting(raft, up) : 0;
}

static uint64_t read_ack_of(const void *arg, uint64_t id)
{
	const struct raft *raft = arg;
	const struct raft_progress *pr = progress_find(raft, id);

	BUG_ON(!pr);
	return id == raft->id ? raft->reads.round : pr->read_ack;
}

/* Thesis 6.4, step 3: a majority has answered a round that was begun after the read. */
int reads_confirm(struct raft *raft, struct raft_update *up)
{
	struct raft_reads *reads = &raft->reads;
	uint64_t round = raft_quorum_index(raft, read_ack_of);
	size_t n = 0;

	BUG_ON(raft->role != RAFT_LEADER);
	BUG_ON(reads->lease_round > reads->round);
	if (reads->lease_round && round >= reads->lease_round) {
		reads->lease_end = reads->lease_start + raft->lease_ticks;
		reads->lease_round = 0;
	}
	while (n < reads->n && reads->waiting[n].round && reads->waiting[n].round <= round)
		n++;
	return n ? answer_first(raft, up, n) : 0;
}

int raft_read(struct raft *raft, struct raft_update *up, uint64_t id)
{
	struct raft_read_wait wait = { .id = id };
	struct raft_message m = { .type = RAFT_MSG_READ_INDEX, .to = raft->leader };

	BUG_ON((raft->role == RAFT_LEADER) != (raft->leader == raft->id));
	BUG_ON(raft->role == RAFT_CANDIDATE && raft->leader);
	if (raft->role == RAFT_LEADER)
		return leader_read(raft, up, &wait);
	if (raft->role != RAFT_FOLLOWER || !raft->leader)
		return RAFT_DROPPED;
	return send_read(raft, up, &m, blob_of_u64_be(id));
}

/* A follower asks; one that is not the leader passes the question on. */
int handle_read_index(struct raft *raft, struct raft_update *up, const struct raft_message *m)
{
	struct raft_read_wait wait = { .from = m->from };
	struct raft_message fwd = {
		.type = RAFT_MSG_READ_INDEX,
		.to = raft->leader,
		.from = m->from,
	};
	int ret;

	BUG_ON(m->n_entries != 1 || !m->entries[0].payload);
	BUG_ON(m->from == raft->id);
	wait.context = m->entries[0].payload;
	if (raft->role == RAFT_LEADER) {
		ret = leader_read(raft, up, &wait);
		return ret < 0 ? ret : 0;
	}
	if (!raft->leader || raft->leader == m->from)
		return 0;
	return send_read(raft, up, &fwd, blob_get(wait.context));
}

int handle_read_index_response(struct raft *raft, struct raft_update *up,
			       const struct raft_message *m)
{
	const struct blob *b = m->entries[0].payload;
	uint64_t id = 0;

	BUG_ON(m->n_entries != 1 || !b);
	BUG_ON(m->term != raft->term);
	if (raft->role != RAFT_FOLLOWER || b->len != sizeof(id)) {
		raft->messages_rejected++;
		return 0;
	}
	for (size_t i = 0; i < sizeof(id); i++)
		id = id << 8 | b->data[i];
	return hand_read(up, id, m->index);
}
