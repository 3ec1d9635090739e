// SPDX-License-Identifier: Apache-2.0

/*
 * Reads. Linearizable ones ask raft together with all that came in the same turn; raft
 * answers with the index that must be applied first. Where no answer comes they are asked
 * again, as a new attempt. A serializable one goes straight to the last step.
 */

#include "kvd/core_i.h"

void core_reask_reads(struct core *core)
{
	list_splice_tail(&core->reads_new, &core->reads_waiting);
}

int core_ask_reads(struct core *core)
{
	struct raft_event event = { .type = RAFT_READ };
	struct request *r;
	struct list asked;
	int err;

	/* what raft was to say may be lost, with a message or a leader */
	if (!list_empty(&core->reads_waiting) && core->now >= core->next_read)
		core_reask_reads(core);
	if (list_empty(&core->reads_new))
		return 0;
	core->next_read = core->now + READ_RETRY;
	event.id = ++core->read_seq;
	list_for_each(r, &core->reads_new, node)
		r->id = event.id;
	/* moved first: a group of one is answered within the step */
	list_init(&asked);
	list_splice_tail(&asked, &core->reads_new);
	list_splice_tail(&core->reads_waiting, &asked);
	err = core_step(core, &event);
	if (err != RAFT_DROPPED)
		return MIN(err, 0);
	/* no leader: asked again next turn, until the deadline */
	while (!list_empty(&core->reads_waiting)) {
		r = list_entry(core->reads_waiting.prev, struct request, node);
		if (r->id != event.id)
			break;
		list_del(&r->node);
		list_add(&core->reads_new, &r->node);
	}
	return 0;
}

/* Not where it was asked by an earlier life of this member, or has been asked anew since. */
static bool is_waiting(const struct core *core, uint64_t id)
{
	const struct request *r;

	list_for_each(r, &core->reads_waiting, node)
		if (r->id >= id)
			return r->id == id;
	return false;
}

/* Called with what raft just answered in core->update. */
void core_confirm_reads(struct core *core)
{
	struct request *r;

	for (size_t i = 0; i < core->update.n_reads; i++) {
		if (!is_waiting(core, core->update.reads[i].id))
			continue;
		/* attempts are confirmed in order, so it is a prefix of the list */
		while (!list_empty(&core->reads_waiting)) {
			r = list_first(&core->reads_waiting, struct request, node);
			if (r->id > core->update.reads[i].id)
				break;
			r->index = core->update.reads[i].index;
			list_del(&r->node);
			list_add_tail(&core->reads_confirmed, &r->node);
		}
	}
}

static void read_fetched(struct fetch_job *job)
{
	struct request *r = container_of(job, struct request, job);
	struct core *core = r->owner_core;

	list_add_tail(&core->reads_confirmed, &r->node);
}

/* @r is in no list; it comes back to one where it has to wait. */
static void run_read(struct core *core, struct request *r)
{
	uint64_t began = core_clock(core);
	int err = state_read(&core->state, r, core->now);

	if (!err && r->op == REQUEST_RANGE)
		figures_count_range(&core->state.figures, r, core_clock(core) - began);
	if (err == -EAGAIN) {
		list_add_tail(&core->reads_confirmed, &r->node);
	} else if (err == MVCC_COLD) {
		r->owner_core = core;
		r->job.fetch = &r->fetch;
		r->job.done = read_fetched;
		core_submit_fetch(core, &r->job);
	} else if (err >= 0) {
		core_finish(core, r, NULL);
	} else {
		core_finish(core, r, &status_too_many_requests);
	}
}

/* What the first of these reads look at begins to come from memory. Gives how many. */
static size_t look_ahead(struct core *core, const struct list *reads)
{
	struct slice keys[READS_AHEAD];
	struct request *r;
	size_t n = 0;

	list_for_each(r, reads, node) {
		if (n == READS_AHEAD)
			break;
		keys[n++] = state_read_key(r);
	}
	mvcc_ahead(core->state.store, keys, n);
	return n;
}

int core_run_reads(struct core *core)
{
	struct request *r, *next;
	struct list ready;

	list_init(&ready);
	list_for_each_safe(r, next, &core->reads_confirmed, node)
		if (r->index <= core->applied) {
			list_del(&r->node);
			list_add_tail(&ready, &r->node);
		}
	while (!list_empty(&ready))
		for (size_t n = look_ahead(core, &ready); n; n--) {
			r = list_first(&ready, struct request, node);
			list_del(&r->node);
			run_read(core, r);
		}
	return 0;
}

void core_submit_fetch(struct core *core, struct fetch_job *job)
{
	list_add_tail(&core->fetches, &job->node);
}

struct fetch_job *core_take_fetch(struct core *core)
{
	struct fetch_job *job;

	if (list_empty(&core->fetches))
		return NULL;
	job = list_first(&core->fetches, struct fetch_job, node);
	list_del(&job->node);
	return job;
}

void core_fetched(struct core *core, struct fetch_job *job)
{
	job->done(job);
}
