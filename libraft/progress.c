// SPDX-License-Identifier: Apache-2.0
/*
 * What a leader knows about the log of each member, and how fast it may send.
 *
 * Probe: the leader does not know where the logs meet; one message is on its way at
 * a time. Replicate: they meet; messages follow each other, up to max_inflight.
 * Snapshot: the member needs entries the leader has forgotten; nothing is sent until
 * it acknowledges something the log can go on from (etcd-io/raft #31), or a report comes.
 * In each of them match < next, whatever comes late (etcd-io/raft #149).
 */
#include "libraft/raft_i.h"

static size_t progress_pos(const struct raft *raft, uint64_t id)
{
	size_t lo = 0, hi = raft->n_progress;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (raft->progress[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	BUG_ON(lo > raft->n_progress || raft->n_progress > raft->cap_progress);
	BUG_ON(lo && raft->progress[lo - 1].id >= id);
	return lo;
}

struct raft_progress *progress_find(const struct raft *raft, uint64_t id)
{
	size_t i = progress_pos(raft, id);

	return i < raft->n_progress && raft->progress[i].id == id ? &raft->progress[i] : NULL;
}

/*
 * A new member is taken to be active, or a leader whose quorum is checked before the
 * member had a chance to answer would step down.
 */
int progress_insert(struct raft *raft, uint64_t id)
{
	size_t i = progress_pos(raft, id);
	struct raft_progress *pr;
	int ret;

	BUG_ON(!id || progress_find(raft, id));
	ret = vec_reserve(&raft->progress, &raft->cap_progress, raft->n_progress + 1,
			  sizeof(*raft->progress));
	if (ret)
		return ret;
	pr = &raft->progress[i];
	memmove(pr + 1, pr, (raft->n_progress++ - i) * sizeof(*pr));
	*pr = (struct raft_progress){ .id = id, .recent_active = true };
	pr->next = MAX(raft->log.last, (uint64_t)1);
	if (id == raft->id) {
		pr->match = raft->log.stored;
		progress_become_replicate(pr);
	}
	BUG_ON(pr->match >= pr->next);
	return 0;
}

void progress_release(struct raft_progress *pr)
{
	free(pr->inflights.index);
	pr->inflights = (struct raft_inflights){ 0 };
}

void progress_remove(struct raft *raft, uint64_t id)
{
	struct raft_progress *pr = progress_find(raft, id);

	BUG_ON(!pr || pr->id != id);
	progress_release(pr);
	raft->n_progress--;
	memmove(pr, pr + 1,
		(size_t)(&raft->progress[raft->n_progress] - pr) * sizeof(*pr));
	BUG_ON(progress_find(raft, id));
}

static void progress_become(struct raft_progress *pr, enum progress_state state)
{
	pr->state = state;
	pr->paused = false;
	pr->pending_snapshot = 0;
	pr->inflights.head = 0;
	pr->inflights.n = 0;
}

/* What a new leader knows of a member: nothing; it tries with its own last entry. */
void progress_reset(struct raft_progress *pr, uint64_t last)
{
	progress_become(pr, PROGRESS_PROBE);
	pr->match = 0;
	pr->next = last + 1;
	pr->sent_commit = 0;
	pr->read_ack = 0;
	pr->recent_active = false;
}

void progress_become_probe(struct raft_progress *pr)
{
	/* Out of a snapshot: it has arrived, unless pending_snapshot was cleared. */
	uint64_t snapshot = pr->state == PROGRESS_SNAPSHOT ? pr->pending_snapshot : 0;

	progress_become(pr, PROGRESS_PROBE);
	pr->next = MAX(pr->match, snapshot) + 1;
	pr->sent_commit = MIN(pr->sent_commit, pr->next - 1);
}

void progress_become_replicate(struct raft_progress *pr)
{
	progress_become(pr, PROGRESS_REPLICATE);
	pr->next = pr->match + 1;
	BUG_ON(pr->inflights.n || pr->paused);
}

void progress_become_snapshot(struct raft_progress *pr, uint64_t index)
{
	BUG_ON(!index || index < pr->match);
	BUG_ON(pr->state == PROGRESS_SNAPSHOT);
	progress_become(pr, PROGRESS_SNAPSHOT);
	pr->pending_snapshot = index;
	pr->next = index + 1;
	pr->sent_commit = index;
}

bool progress_is_paused(const struct raft_progress *pr)
{
	return pr->state == PROGRESS_SNAPSHOT || pr->paused;
}

/* Whether telling the member of @commit now could move its own commit index. */
bool progress_can_bump_commit(const struct raft_progress *pr, uint64_t commit)
{
	return commit > pr->sent_commit && pr->sent_commit < pr->next - 1;
}

bool inflights_full(const struct raft_inflights *in)
{
	return in->cap && in->n == in->cap;
}

static int inflights_add(struct raft_inflights *in, uint64_t index, size_t max)
{
	size_t end;

	if (!in->index) {
		in->index = malloc(max * sizeof(*in->index));
		if (!in->index)
			return -ENOMEM;
		in->cap = max;
	}
	BUG_ON(in->n == in->cap || in->head >= in->cap);
	BUG_ON(in->cap != max);
	end = in->head + in->n++;
	in->index[end < in->cap ? end : end - in->cap] = index;
	return 0;
}

void inflights_free_to(struct raft_inflights *in, uint64_t index)
{
	while (in->n && in->index[in->head] <= index) {
		in->head = in->head + 1 < in->cap ? in->head + 1 : 0;
		in->n--;
	}
}

/* A RAFT_MSG_APP with @n_entries goes out. */
int progress_sent(struct raft_progress *pr, size_t n_entries, size_t max_inflight)
{
	int ret;

	BUG_ON(pr->state == PROGRESS_SNAPSHOT);
	if (pr->state == PROGRESS_PROBE) {
		pr->paused = pr->paused || n_entries;
		return 0;
	}
	if (n_entries) {
		pr->next += n_entries;
		ret = inflights_add(&pr->inflights, pr->next - 1, max_inflight);
		if (ret)
			return ret;
	}
	/* The message that fills the window counts as a probe: silence until it, or a
	 * heartbeat, is answered. */
	pr->paused = inflights_full(&pr->inflights);
	BUG_ON(pr->match >= pr->next);
	return 0;
}

/* The member holds everything up to @index; false: that is old news. */
bool progress_acked(struct raft_progress *pr, uint64_t index)
{
	BUG_ON(pr->match >= pr->next);
	if (index <= pr->match)
		return false;
	pr->match = index;
	pr->next = MAX(pr->next, index + 1);
	pr->paused = false;
	BUG_ON(pr->match >= pr->next);
	return true;
}

/*
 * The member refused what was sent after entry @rejected and asks for what follows
 * @hint; false: the refusal is old, later answers have said more.
 */
bool progress_rejected(struct raft_progress *pr, uint64_t rejected, uint64_t hint)
{
	BUG_ON(pr->match >= pr->next);
	if (pr->state == PROGRESS_REPLICATE) {
		if (rejected <= pr->match)
			return false;
		pr->next = pr->match + 1;
		pr->sent_commit = MIN(pr->sent_commit, pr->next - 1);
		return true;
	}
	/* One probe at a time is on its way: this one must answer it. */
	if (pr->state == PROGRESS_SNAPSHOT || pr->next - 1 != rejected)
		return false;
	pr->next = MAX(MIN(rejected, hint + 1), pr->match + 1);
	BUG_ON(pr->next > rejected + 1);
	pr->sent_commit = MIN(pr->sent_commit, pr->next - 1);
	pr->paused = false;
	return true;
}
