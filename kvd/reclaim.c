// SPDX-License-Identifier: Apache-2.0

/*
 * Space given back to the file system: after every compaction, and when a client asks
 * for it (Defragment). The store thread does it in slices between other work, so nobody
 * waits for it but who asked.
 *
 * A run begins when history has been freed and what is pending is stored, and takes along
 * everybody who has asked by then; who asks later waits for the next run, because this one
 * may have passed what he wants to be rid of.
 */

#include "kvd/core_i.h"

void core_reclaim_init(struct core_reclaim *re)
{
	list_init(&re->asked);
	list_init(&re->served);
}

void core_submit_defragment(struct core *core, struct request *request)
{
	struct core_reclaim *re = &core->reclaim;

	if (re->n_asked >= RECLAIMS_ASKED_MAX) {
		core_finish(core, request, &status_too_many_requests);
		return;
	}
	list_add_tail(&re->asked, &request->node);
	re->n_asked++;
}

void core_reclaim_later(struct core *core)
{
	core->reclaim.wanted = true;
}

static void finish_all(struct core *core, struct list *list, const struct status *error)
{
	struct request *r;

	while (!list_empty(list)) {
		r = list_first(list, struct request, node);
		list_del(&r->node);
		core_finish(core, r, error);
	}
}

/* --- a run ---------------------------------------------------------------- */

static bool due(const struct core *core)
{
	const struct core_reclaim *re = &core->reclaim;

	return re->state == RECLAIM_NONE && !re->stopped && (re->wanted || re->n_asked) &&
	       !core->compacting && !core_hashes_compaction(core);
}

void core_run_reclaim(struct core *core)
{
	struct core_reclaim *re = &core->reclaim;

	if (!due(core))
		return;
	re->wanted = false;
	list_splice_tail(&re->served, &re->asked);
	re->n_asked = 0;
	re->began = core_clock(core);
	core->state.figures.defragmenting = true;
	if (core->batch_since)
		re->state = RECLAIM_UNSTORED;
	else
		re->state = core->batch_out ? RECLAIM_STORING : RECLAIM_RUNNING;
}

bool core_reclaim_busy(const struct core *core)
{
	return due(core);
}

bool core_reclaim_wants_batch(const struct core *core)
{
	return core->reclaim.state == RECLAIM_UNSTORED && !list_empty(&core->reclaim.served);
}

void core_reclaim_batch_taken(struct core *core)
{
	if (core->reclaim.state == RECLAIM_UNSTORED)
		core->reclaim.state = RECLAIM_STORING;
}

void core_reclaim_batch_stored(struct core *core)
{
	if (core->reclaim.state == RECLAIM_STORING)
		core->reclaim.state = RECLAIM_RUNNING;
}

struct reclaim_job *core_take_reclaim(struct core *core)
{
	struct core_reclaim *re = &core->reclaim;

	if (re->state != RECLAIM_RUNNING || re->out)
		return NULL;
	re->out = true;
	return &re->job;
}

static void end(struct core *core, const struct status *error)
{
	struct core_reclaim *re = &core->reclaim;
	struct figures *f = &core->state.figures;

	re->state = RECLAIM_NONE;
	f->defragmenting = false;
	if (!error && !list_empty(&re->served))
		histogram_add(&f->defrags, HISTOGRAM_SECONDS_DEFRAG, core_clock(core) - re->began);
	finish_all(core, &re->served, error);
}

void core_reclaimed(struct core *core, struct reclaim_job *job)
{
	struct core_reclaim *re = &core->reclaim;

	BUG_ON(!re->out || job != &re->job);
	re->out = false;
	core->state.db_size = job->size.total;
	core->state.db_size_in_use = job->size.in_use;
	if (re->stopped)
		end(core, &status_stopped);
	else if (!job->more)
		end(core, NULL);
}

void core_stop_reclaim(struct core *core)
{
	struct core_reclaim *re = &core->reclaim;

	re->stopped = true;
	finish_all(core, &re->asked, &status_stopped);
	re->n_asked = 0;
	if (!re->out)
		end(core, &status_stopped);
}
