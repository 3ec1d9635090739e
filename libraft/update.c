// SPDX-License-Identifier: Apache-2.0
/* What raft_step() hands out: growing an update, filling it, giving it back. */
#include "libraft/raft_i.h"

/* Makes room for @need elements of @size bytes in the array that @array points to. */
int vec_reserve(void *array, size_t *cap, size_t need, size_t size)
{
	size_t n = *cap ? *cap : 8;
	void *old, *grown;

	BUG_ON(!size || need > SIZE_MAX / size / 2);
	memcpy(&old, array, sizeof(old));
	/* An array that the caller took away leaves its capacity behind. */
	if (old && need <= *cap)
		return 0;
	while (n < need)
		n *= 2;
	grown = realloc(old, n * size);
	if (!grown)
		return -ENOMEM;
	memcpy(array, &grown, sizeof(grown));
	*cap = n;
	BUG_ON(*cap < need);
	return 0;
}

static struct blob *blob_of_bytes(const uint8_t bytes[8])
{
	return blob_copy(slice_of(bytes, 8));
}

struct blob *blob_of_u64_le(uint64_t v)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(v >> (8 * i));
	return blob_of_bytes(bytes);
}

struct blob *blob_of_u64_be(uint64_t v)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(v >> (56 - 8 * i));
	return blob_of_bytes(bytes);
}

void raft_entries_free(struct raft_entry *entries, size_t n)
{
	for (size_t i = 0; i < n; i++)
		blob_put(entries[i].payload);
	free(entries);
}

int entries_copy(const struct raft_entry *from, size_t n, struct raft_entry **out)
{
	struct raft_entry *to;

	BUG_ON(!n || !from);
	BUG_ON(n > SIZE_MAX / sizeof(*to));
	to = malloc(n * sizeof(*to));
	if (!to)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		to[i] = from[i];
		if (to[i].payload)
			blob_get(to[i].payload);
	}
	*out = to;
	return 0;
}

void message_release(struct raft_message *m)
{
	raft_entries_free(m->entries, m->n_entries);
	blob_put(m->context);
	snapshot_meta_free(m->snapshot);
	*m = (struct raft_message){ 0 };
}

void raft_messages_free(struct raft_message *messages, size_t n)
{
	for (size_t i = 0; i < n; i++)
		message_release(&messages[i]);
	free(messages);
}

/*
 * Thesis 3.8: whatever promises that something is stored goes out after it is. A vote
 * request waits too: it says that this member voted for itself. So does all that a
 * leader elected by itself alone sends before its first entry is stored, since until
 * then it may forget that it ever was the leader of this term; also when a change of
 * the configuration has given it company by then.
 */
static bool needs_storage(const struct raft *raft, enum raft_message_type type)
{
	switch (type) {
	case RAFT_MSG_APP_RESP:
	case RAFT_MSG_VOTE:
	case RAFT_MSG_VOTE_RESP:
	case RAFT_MSG_PRE_VOTE_RESP:
		return true;
	case RAFT_MSG_APP:
	case RAFT_MSG_HEARTBEAT:
	case RAFT_MSG_SNAP:
	case RAFT_MSG_TIMEOUT_NOW:
		BUG_ON(raft->role != RAFT_LEADER);
		BUG_ON(!raft->term_start);
		return raft->elected_alone && raft->log.stored < raft->term_start;
	default:
		return false;
	}
}

/* Takes what @m owns, also where it fails. */
int raft_send(struct raft *raft, struct raft_update *up, struct raft_message *m)
{
	int ret;

	BUG_ON(!m->to || m->to == raft->id);
	BUG_ON(!m->n_entries != !m->entries);
	if (!m->from)
		m->from = raft->id;
	if (needs_storage(raft, m->type)) {
		ret = vec_reserve(&up->after_store, &up->cap_after_store,
				  up->n_after_store + 1, sizeof(*m));
		if (!ret)
			up->after_store[up->n_after_store++] = *m;
	} else {
		ret = vec_reserve(&up->messages, &up->cap_messages, up->n_messages + 1,
				  sizeof(*m));
		if (!ret)
			up->messages[up->n_messages++] = *m;
	}
	if (ret)
		message_release(m);
	return ret;
}

/* Drops the entries at and after @index: they are to be overwritten. */
void update_truncate(struct raft_update *up, uint64_t index)
{
	while (up->n_entries && up->entries[up->n_entries - 1].index >= index)
		blob_put(up->entries[--up->n_entries].payload);
}

/*
 * Entries that are committed, and durable here as well: what is applied must never be
 * unknown to this member after a crash (etcd #14370). At least one is handed out, however large,
 * when none is under way.
 */
static int hand_committed(struct raft *raft, struct raft_update *up)
{
	struct raft_log *log = &raft->log;
	uint64_t to = MIN(log->commit, log->stored);
	int ret;

	if (log->handed >= to || log->snapshot)
		return 0;
	while (log->handed < to) {
		const struct raft_entry *e = log_entry(log, log->handed + 1);
		size_t bytes = entry_bytes(e);

		if (raft->max_committed_bytes && log->handed > log->applied &&
		    log->handed_bytes + bytes > raft->max_committed_bytes)
			break;
		ret = vec_reserve(&up->committed, &up->cap_committed, up->n_committed + 1,
				  sizeof(*e));
		if (ret)
			return ret;
		up->committed[up->n_committed++] = *e;
		if (e->payload)
			blob_get(e->payload);
		log->handed_bytes += bytes;
		log->handed++;
	}
	BUG_ON(log->handed > log->commit || log->handed > log->stored);
	BUG_ON(up->n_committed && up->committed[up->n_committed - 1].index != log->handed);
	return 0;
}

static void hand_hard_state(struct raft *raft, struct raft_update *up)
{
	struct raft_hard_state *old = &raft->handed_hard_state;
	struct raft_hard_state now = { raft->term, raft->vote, raft->log.commit };

	BUG_ON(now.term < old->term || now.commit < old->commit);
	/* Thesis 3.4: one vote a term. */
	BUG_ON(now.term == old->term && old->vote && now.vote != old->vote);
	if (now.term == old->term && now.vote == old->vote && now.commit == old->commit)
		return;
	if (now.term != old->term || now.vote != old->vote)
		up->must_sync = true;
	up->hard_state = now;
	up->hard_state_changed = true;
	*old = now;
}

/* Every step ends here. */
int update_finish(struct raft *raft, struct raft_update *up)
{
	int ret = hand_committed(raft, up);

	BUG_ON(raft->handed_soft_state.term > raft->term);
	if (ret)
		return ret;
	hand_hard_state(raft, up);
	if (raft->handed_soft_state.role != raft->role ||
	    raft->handed_soft_state.leader != raft->leader ||
	    raft->handed_soft_state.term != raft->term)
		up->role_changed = true;
	raft->handed_soft_state.role = raft->role;
	raft->handed_soft_state.leader = raft->leader;
	raft->handed_soft_state.term = raft->term;
	BUG_ON(raft->handed_hard_state.term != raft->term);
	BUG_ON(raft->handed_hard_state.commit != raft->log.commit);
	return 0;
}

void raft_update_init(struct raft_update *up)
{
	*up = (struct raft_update){ 0 };
}

bool raft_update_pending(const struct raft_update *up)
{
	return up->n_messages || up->n_after_store || up->n_entries || up->n_committed ||
	       up->n_reads || up->snapshot || up->hard_state_changed || up->role_changed;
}

/* Empties it and keeps the arrays for the next turn. */
void raft_update_clear(struct raft_update *up)
{
	struct raft_update kept = { 0 };

	BUG_ON(up->n_messages && !up->messages);
	BUG_ON(up->n_entries && !up->entries);
	for (size_t i = 0; i < up->n_messages; i++)
		message_release(&up->messages[i]);
	for (size_t i = 0; i < up->n_after_store; i++)
		message_release(&up->after_store[i]);
	update_truncate(up, 0);
	for (size_t i = 0; i < up->n_committed; i++)
		blob_put(up->committed[i].payload);
	snapshot_meta_free(up->snapshot);
#define KEEP(array) (kept.array = up->array, kept.cap_##array = up->array ? up->cap_##array : 0)
	KEEP(messages);
	KEEP(after_store);
	KEEP(entries);
	KEEP(committed);
	KEEP(reads);
#undef KEEP
	*up = kept;
}

void raft_update_release(struct raft_update *up)
{
	if (!up)
		return;
	raft_update_clear(up);
	BUG_ON(raft_update_pending(up));
	BUG_ON(up->must_sync);
	free(up->messages);
	free(up->after_store);
	free(up->entries);
	free(up->committed);
	free(up->reads);
	raft_update_init(up);
}
