// SPDX-License-Identifier: Apache-2.0

/*
 * HashKV: what members compare to find out whether they hold the same. Hash is the same
 * of the newest revision, with what is stored beside the keys put before it; not,
 * unlike etcd's, with how far the log is applied, so that members agree whose log has
 * gone on without changing anything.
 *
 * One hash at a time, in slices: some keys of the index in each turn, and then some
 * records on the store thread. Meanwhile history is not freed, nor does a client's hash
 * begin while it is being freed, so that either has its turn.
 *
 * As etcd, a member makes a hash of each compaction, of everything up to it as it was
 * before, and keeps a few: the hashes of two members can be compared at a revision at
 * which both have compacted, however long ago.
 */

#include <stdlib.h>

#include "kvd/core_i.h"

void core_hash_init(struct core_hashes *h)
{
	list_init(&h->asked);
	list_init(&h->compactions);
}

static void free_job(struct hash_job *job)
{
	if (job)
		mvcc_hash_release(&job->hash);
	free(job);
}

/* --- beginning ------------------------------------------------------------ */

int core_hash_compaction(struct core *core, int64_t previous)
{
	struct core_hashes *h = &core->hashes;
	struct hash_job *job = calloc(1, sizeof(*job)), *oldest;

	if (!job)
		return -ENOMEM;
	mvcc_hash_begin_compaction(core->state.store, previous, &job->hash);
	list_add_tail(&h->compactions, &job->node);
	if (++h->n_compactions <= HASHES_KEPT)
		return 0;
	/* it would be the first to be forgotten */
	oldest = list_first(&h->compactions, struct hash_job, node);
	list_del(&oldest->node);
	h->n_compactions--;
	free_job(oldest);
	return 0;
}

bool core_hashes_compaction(const struct core *core)
{
	return core->hashes.job || core->hashes.n_compactions;
}

void core_submit_hash(struct core *core, struct request *request)
{
	if (core->hashes.n_asked >= HASHES_ASKED_MAX) {
		core_finish(core, request, &status_too_many_requests);
		return;
	}
	list_add_tail(&core->hashes.asked, &request->node);
	core->hashes.n_asked++;
}

static struct request *take_asked(struct core_hashes *h)
{
	struct request *r = list_first(&h->asked, struct request, node);

	list_del(&r->node);
	h->n_asked--;
	return r;
}

static const struct hash_answer *find_kept(const struct core_hashes *h, int64_t revision)
{
	for (size_t i = 0; i < h->n_kept; i++)
		if (h->kept[i].revision == revision)
			return &h->kept[i];
	return NULL;
}

static void begin(struct core *core, struct hash_job *job, struct request *asked)
{
	core->hashes.job = job;
	core->hashes.asked_by = asked;
	core->hashes.walked = false;
	/* everything that counts is in the store with this entry */
	core->hashes.index = core->applied;
	core->hashes.began = core_clock(core);
}

/* Begins the hash that a client asked for, or answers at once. */
static void begin_asked(struct core *core)
{
	struct core_hashes *h = &core->hashes;
	struct request *r = take_asked(h);
	const struct hash_answer *kept = r->op == REQUEST_HASH_KV ?
		find_kept(h, r->hash.revision) : NULL;
	struct hash_job *job;
	int outcome;

	if (kept) {
		r->hash = *kept;
		r->result.revision = mvcc_revision(core->state.store);
		core_finish(core, r, NULL);
		return;
	}
	job = calloc(1, sizeof(*job));
	if (!job) {
		core_finish(core, r, &status_too_many_requests);
		return;
	}
	outcome = mvcc_hash_begin(core->state.store, r->hash.revision, &job->hash);
	if (outcome) {
		free(job);
		core_finish(core, r, state_status_of(outcome));
		return;
	}
	if (r->op == REQUEST_HASH)
		job->crc = state_hash(&core->state);
	begin(core, job, r);
}

static void begin_next(struct core *core)
{
	struct core_hashes *h = &core->hashes;
	struct hash_job *job;

	while (!h->job && !h->stopped) {
		if (h->n_compactions) {
			job = list_first(&h->compactions, struct hash_job, node);
			list_del(&job->node);
			h->n_compactions--;
			begin(core, job, NULL);
		} else if (h->n_asked && !core->compacting) {
			begin_asked(core);
		} else {
			break;
		}
	}
}

/* --- under way ------------------------------------------------------------ */

int core_run_hashes(struct core *core)
{
	struct core_hashes *h = &core->hashes;
	int r;

	begin_next(core);
	if (!h->job || h->walked)
		return 0;
	r = mvcc_hash_step(core->state.store, &h->job->hash, HASH_SLICE);
	h->walked = !r;
	return MIN(r, 0);
}

bool core_hash_busy(const struct core *core)
{
	const struct core_hashes *h = &core->hashes;

	if (!h->job)
		return !h->stopped && (h->n_compactions || (h->n_asked && !core->compacting));
	return !h->walked;
}

bool core_hash_wants_batch(const struct core *core)
{
	return core->hashes.job && core->stored < core->hashes.index;
}

struct hash_job *core_take_hash(struct core *core)
{
	struct core_hashes *h = &core->hashes;

	if (!h->job || !h->walked || h->out || core_hash_wants_batch(core))
		return NULL;
	h->out = true;
	return h->job;
}

/* In order of revision; the newest stay. */
static void keep(struct core_hashes *h, const struct hash_answer *answer)
{
	if (h->n_kept == HASHES_KEPT)
		memmove(h->kept, h->kept + 1, --h->n_kept * sizeof(h->kept[0]));
	BUG_ON(h->n_kept && h->kept[h->n_kept - 1].revision >= answer->revision);
	h->kept[h->n_kept++] = *answer;
}

/* Ends the hash that is under way. */
static void end(struct core *core, const struct status *error)
{
	struct core_hashes *h = &core->hashes;
	struct hash_job *job = h->job;
	struct figures *f = &core->state.figures;
	struct request *r = h->asked_by;
	struct hash_answer answer = { job->hash.revision, job->hash.compact_revision, job->crc };

	h->job = NULL;
	h->asked_by = NULL;
	if (r) {
		r->hash = answer;
		r->result.revision = job->hash.current;
		histogram_add(r->op == REQUEST_HASH ? &f->hashes : &f->key_hashes,
			      HISTOGRAM_SECONDS_HASH, core_clock(core) - h->began);
	} else if (!error) {
		keep(h, &answer);
	}
	free_job(job);
	if (r)
		core_finish(core, r, error);
}

void core_hashed(struct core *core, struct hash_job *job)
{
	struct core_hashes *h = &core->hashes;

	BUG_ON(!h->out || h->job != job);
	h->out = false;
	if (h->stopped)
		end(core, &status_stopped);
	else if (!job->more)
		end(core, NULL);
}

void core_stop_hashes(struct core *core)
{
	struct core_hashes *h = &core->hashes;
	struct hash_job *job, *next;

	h->stopped = true;
	list_for_each_safe(job, next, &h->compactions, node)
		free_job(job);
	list_init(&h->compactions);
	h->n_compactions = 0;
	while (h->n_asked)
		core_finish(core, take_asked(h), &status_stopped);
	if (h->job && !h->out)
		end(core, &status_stopped);
}
