// SPDX-License-Identifier: Apache-2.0
/*
 * Log replication, the leader's side: thesis 3.5 and 3.6, pipelined as 10.2.1
 * describes: entries go to the followers while the leader's own disk is writing them.
 */
#include "libraft/raft_i.h"

/* How many entries from @first on go into one message: at least one, if there is one. */
static size_t entries_that_fit(const struct raft *raft, uint64_t first)
{
	size_t n = 0, bytes = 0;

	BUG_ON(first <= raft->log.base);
	for (uint64_t i = first; i <= raft->log.last; i++, n++) {
		bytes += entry_bytes(log_entry(&raft->log, i));
		if (n == RAFT_ENTRIES_MAX || (n && bytes > raft->max_message_bytes))
			break;
	}
	BUG_ON(!n != (first > raft->log.last));
	return n;
}

static int message_take_entries(const struct raft *raft, struct raft_message *m, uint64_t first,
				size_t n)
{
	BUG_ON(m->entries);
	BUG_ON(first + n > raft->log.last + 1);
	if (!n)
		return 0;
	m->entries = malloc(n * sizeof(*m->entries));
	if (!m->entries)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		m->entries[i] = *log_entry(&raft->log, first + i);
		if (m->entries[i].payload)
			blob_get(m->entries[i].payload);
	}
	m->n_entries = n;
	return 0;
}

/*
 * Sends what @pr lacks, if it may be sent anything now; a message without entries
 * only with @even_empty. While the window is full only empty ones go out: should all
 * that filled it be lost, the answer to an empty one gets things going again (etcd #14633).
 */
int send_append(struct raft *raft, struct raft_update *up, struct raft_progress *pr,
		bool even_empty, bool *sent)
{
	struct raft_message m = {
		.type = RAFT_MSG_APP,
		.to = pr->id,
		.term = raft->term,
		.index = pr->next - 1,
		.commit = raft->log.commit,
	};
	size_t n = 0;
	int ret;

	BUG_ON(raft->role != RAFT_LEADER || pr->id == raft->id);
	BUG_ON(pr->match >= pr->next || pr->next > raft->log.last + 1);
	*sent = false;
	if (progress_is_paused(pr))
		return 0;
	if (!log_term(&raft->log, m.index, &m.log_term))
		return send_snapshot(raft, up, pr);
	if (pr->state != PROGRESS_REPLICATE || !inflights_full(&pr->inflights))
		n = entries_that_fit(raft, pr->next);
	if (!n && !even_empty)
		return 0;
	ret = message_take_entries(raft, &m, pr->next, n);
	if (!ret)
		ret = raft_send(raft, up, &m);
	if (ret)
		return ret;
	*sent = true;
	pr->sent_commit = raft->log.commit;
	return progress_sent(pr, n, raft->max_inflight);
}

/* Sends to @pr until it has everything or its window is full. */
static int send_appends(struct raft *raft, struct raft_update *up, struct raft_progress *pr,
			bool even_empty)
{
	bool sent;
	int ret;

	BUG_ON(raft->role != RAFT_LEADER || pr->id == raft->id);
	do {
		ret = send_append(raft, up, pr, even_empty, &sent);
		even_empty = false;
	} while (!ret && sent && pr->state == PROGRESS_REPLICATE);
	BUG_ON(pr->match >= pr->next);
	return ret;
}

int broadcast_append(struct raft *raft, struct raft_update *up, bool even_empty)
{
	BUG_ON(raft->role != RAFT_LEADER);
	BUG_ON(!raft->n_progress);
	for (size_t i = 0; i < raft->n_progress; i++) {
		int ret;

		if (raft->progress[i].id == raft->id)
			continue;
		ret = send_appends(raft, up, &raft->progress[i], even_empty);
		if (ret)
			return ret;
	}
	return 0;
}

/*
 * A heartbeat tells no commit index beyond what the follower is known to hold: its log
 * may differ from the leader's after that (etcd #10166).
 */
int broadcast_heartbeat(struct raft *raft, struct raft_update *up)
{
	struct raft_reads *reads = &raft->reads;

	BUG_ON(raft->role != RAFT_LEADER);
	for (size_t i = 0; i < raft->n_progress; i++) {
		struct raft_progress *pr = &raft->progress[i];
		struct raft_message m = {
			.type = RAFT_MSG_HEARTBEAT,
			.to = pr->id,
			.term = raft->term,
			.commit = MIN(pr->match, raft->log.commit),
		};
		int ret;

		BUG_ON(pr->match > raft->log.last);
		if (pr->id == raft->id)
			continue;
		if ((reads->n || raft->lease_ticks) && reads->round_context)
			m.context = blob_get(reads->round_context);
		pr->sent_commit = m.commit;
		ret = raft_send(raft, up, &m);
		if (ret)
			return ret;
	}
	/* A read that comes later needs heartbeats of its own. */
	reads->round_pos = SIZE_MAX;
	return 0;
}

bool leader_committed_in_term(const struct raft *raft)
{
	BUG_ON(raft->role != RAFT_LEADER);
	BUG_ON(!raft->term_start);
	return raft->log.commit >= raft->term_start;
}

void raft_commit_to(struct raft *raft, uint64_t index)
{
	struct raft_log *log = &raft->log;

	BUG_ON(index > log->last);
	while (log->commit < index) {
		uint64_t bytes = entry_bytes(log_entry(log, ++log->commit));

		/* Those of earlier terms were never counted, so this may fall short. */
		raft->uncommitted_bytes -= MIN(bytes, raft->uncommitted_bytes);
	}
	BUG_ON(log->commit < index || log->commit > log->last);
}

static uint64_t match_of(const void *arg, uint64_t id)
{
	const struct raft_progress *pr = progress_find(arg, id);

	BUG_ON(!pr);
	return pr->match;
}

/*
 * Thesis 3.6.2: by counting, a leader commits only entries of its own term; those
 * before are committed with them. But what follows a change of the configuration is
 * counted when that change is in force, not by the quorum before it.
 */
int leader_maybe_commit(struct raft *raft, struct raft_update *up, bool *advanced)
{
	uint64_t index = raft_quorum_index(raft, match_of);

	BUG_ON(raft->role != RAFT_LEADER);
	BUG_ON(index > raft->log.last);
	*advanced = false;
	if (index <= raft->log.commit || !log_matches(&raft->log, index, raft->term))
		return 0;
	index = MIN(index, raft_next_change(raft));
	if (index <= raft->log.commit)
		return 0;
	*advanced = true;
	raft_commit_to(raft, index);
	BUG_ON(raft->log.commit < raft->log.handed);
	return reads_release_waiting(raft, up);
}

/* The leader's own disk has caught up: now, not earlier, it counts itself. */
int leader_stored(struct raft *raft, struct raft_update *up)
{
	struct raft_progress *own = progress_find(raft, raft->id);
	bool advanced;
	int ret;

	BUG_ON(raft->role != RAFT_LEADER);
	if (!own)
		return 0;
	BUG_ON(own->match > raft->log.stored);
	own->match = raft->log.stored;
	own->next = own->match + 1;
	ret = leader_maybe_commit(raft, up, &advanced);
	return ret || !advanced ? ret : broadcast_append(raft, up, true);
}

/* etcd's MaxUncommittedEntriesSize: a leader that cannot commit does not grow for ever. */
static bool has_room(struct raft *raft, const struct raft_entry *entries, size_t n)
{
	uint64_t bytes = 0;

	BUG_ON(raft->role != RAFT_LEADER || !n);
	for (size_t i = 0; i < n; i++)
		bytes += entry_bytes(&entries[i]);
	/* The first is let in however large it is, and empty ones always are. */
	if (raft->max_uncommitted_bytes && raft->uncommitted_bytes && bytes &&
	    raft->uncommitted_bytes + bytes > raft->max_uncommitted_bytes)
		return false;
	raft->uncommitted_bytes += bytes;
	BUG_ON(raft->uncommitted_bytes < bytes);
	return true;
}

static void leader_push(struct raft *raft, struct raft_update *up, const struct raft_entry *from)
{
	struct raft_entry e = {
		.term = raft->term,
		.index = raft->log.last + 1,
		.type = from->type,
		.payload = from->payload,
	};

	if (e.type != RAFT_ENTRY_NORMAL) {
		if (conf_change_is_refused(raft, &e)) {
			/* Its payload was counted as uncommitted and will never be. */
			BUG_ON(raft->uncommitted_bytes < entry_bytes(from));
			raft->uncommitted_bytes -= entry_bytes(from);
			e.type = RAFT_ENTRY_NORMAL;
			e.payload = NULL;
		} else {
			raft->pending_conf = e.index;
		}
	}
	log_push(&raft->log, up, &e);
	BUG_ON(raft->pending_conf > raft->log.last);
}

static int leader_append(struct raft *raft, struct raft_update *up,
			 const struct raft_entry *entries, size_t n)
{
	struct raft_progress *own = progress_find(raft, raft->id);
	int ret = log_begin(&raft->log, up, raft->log.last + 1, n);

	BUG_ON(raft->role != RAFT_LEADER || !own);
	if (ret)
		return ret;
	for (size_t i = 0; i < n; i++)
		leader_push(raft, up, &entries[i]);
	BUG_ON(log_last_term(&raft->log) != raft->term);
	return 0;
}

/* A new leader's first entry, or the one that leaves a joint configuration. */
int leader_append_empty(struct raft *raft, struct raft_update *up, enum raft_entry_type type)
{
	struct raft_entry e = { .type = type };

	return leader_append(raft, up, &e, 1);
}

int leader_propose(struct raft *raft, struct raft_update *up, const struct raft_entry *entries,
		   size_t n)
{
	int ret;

	BUG_ON(raft->role != RAFT_LEADER || !n);
	BUG_ON(raft->leader != raft->id);
	/* Thesis 3.10: nothing new is taken up while leadership is handed over. */
	if (raft->transferee || !progress_find(raft, raft->id))
		return RAFT_DROPPED;
	if (n > RAFT_INDEX_MAX - raft->log.last)
		return RAFT_DROPPED;
	if (!has_room(raft, entries, n))
		return RAFT_TOO_MUCH;
	ret = leader_append(raft, up, entries, n);
	return ret ? ret : broadcast_append(raft, up, true);
}

/*
 * Thesis 3.5, the consistency check, with both sides skipping a term at a time: the
 * follower's hint is the last entry it has with a term not above that of the probe;
 * the leader goes on from its last entry with a term not above the hint's.
 */
static int append_rejected(struct raft *raft, struct raft_update *up, struct raft_progress *pr,
			   const struct raft_message *m)
{
	uint64_t hint = m->reject_hint, term;
	bool sent;

	BUG_ON(!m->reject || m->index > raft->log.last);
	if (m->log_term)
		hint = log_find_conflict(&raft->log, hint, m->log_term, &term);
	if (!progress_rejected(pr, m->index, hint))
		return 0;
	if (pr->state == PROGRESS_REPLICATE)
		progress_become_probe(pr);
	BUG_ON(pr->match >= pr->next || pr->next > m->index + 1);
	return send_append(raft, up, pr, true, &sent);
}

static void append_accepted(struct raft *raft, struct raft_progress *pr, uint64_t index)
{
	BUG_ON(pr->match < index || index > raft->log.last);
	switch (pr->state) {
	case PROGRESS_PROBE:
		progress_become_replicate(pr);
		break;
	case PROGRESS_SNAPSHOT:
		/* Whichever snapshot it was that arrived: the log can go on from here. */
		if (pr->match < raft->log.base)
			break;
		progress_become_probe(pr);
		progress_become_replicate(pr);
		break;
	case PROGRESS_REPLICATE:
		inflights_free_to(&pr->inflights, index);
		break;
	}
	BUG_ON(pr->match >= pr->next || pr->next > raft->log.last + 1);
}

int handle_append_response(struct raft *raft, struct raft_update *up,
			   const struct raft_message *m)
{
	struct raft_progress *pr = progress_find(raft, m->from);
	bool advanced;
	int ret;

	BUG_ON(raft->role != RAFT_LEADER || m->term != raft->term);
	BUG_ON(m->index > raft->log.last);
	if (!pr)
		return 0;
	pr->recent_active = true;
	if (m->reject)
		return append_rejected(raft, up, pr, m);
	if (!progress_acked(pr, m->index) &&
	    !(pr->match == m->index && pr->state == PROGRESS_PROBE))
		return 0;
	append_accepted(raft, pr, m->index);
	ret = leader_maybe_commit(raft, up, &advanced);
	if (ret)
		return ret;
	if (advanced)
		ret = broadcast_append(raft, up, true);
	else if (progress_can_bump_commit(pr, raft->log.commit))
		ret = send_appends(raft, up, pr, true);
	else
		ret = send_appends(raft, up, pr, false);
	return ret ? ret : transfer_caught_up(raft, up, pr);
}

int handle_heartbeat_response(struct raft *raft, struct raft_update *up,
			      const struct raft_message *m)
{
	struct raft_progress *pr = progress_find(raft, m->from);
	uint64_t round = 0;
	bool sent;
	int ret;

	BUG_ON(raft->role != RAFT_LEADER || m->term != raft->term);
	if (!pr)
		return 0;
	pr->recent_active = true;
	pr->paused = false;
	if (pr->match < raft->log.last || pr->state == PROGRESS_PROBE) {
		ret = send_append(raft, up, pr, true, &sent);
		if (ret)
			return ret;
	}
	if (!m->context || m->context->len != sizeof(round))
		return 0;
	for (size_t i = 0; i < sizeof(round); i++)
		round |= (uint64_t)m->context->data[i] << (8 * i);
	if (round > raft->reads.round)
		return 0;
	pr->read_ack = MAX(pr->read_ack, round);
	BUG_ON(pr->read_ack > raft->reads.round);
	return reads_confirm(raft, up);
}
