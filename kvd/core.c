// SPDX-License-Identifier: Apache-2.0

/* Opening, turns, and applying what is committed. */

#include <stdlib.h>

#include "include/endian_bytes.h"
#include "kvd/core_i.h"
#include "lib/proto/raft.pb-c.h"

#define QUOTA_DEFAULT (2ll << 30)

uint64_t core_clock(const struct core *core)
{
	return core->config.clock ? core->config.clock() : core->now;
}

void core_finish(struct core *core, struct request *request, const struct status *error)
{
	if (error)
		request->error = error;
	if (!request->part && figures_op_name(request->op))
		figures_count_request(&core->state.figures, request,
				      core_clock(core) - request->began);
	request->done(request);
}

/* --- opening -------------------------------------------------------------- */

struct core_applied core_applied_in(const struct mvcc *store)
{
	struct slice s = mvcc_record_get(store, BUCKET_META, SLICE_LIT("applied"));

	if (s.len != 24)
		return (struct core_applied){ 0 };
	return (struct core_applied){
		get_be64(s.data), get_be64(s.data + 8), get_be64(s.data + 16),
	};
}

static int copy_ids(const uint64_t *from, size_t n, uint64_t **out, size_t *n_out)
{
	*out = calloc(n + 1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	if (n)
		memcpy(*out, from, n * sizeof(**out));
	*n_out = n;
	return 0;
}

static int copy_conf(const Raftpb__ConfState *from, struct raft_conf_state *to)
{
	int err;

	to->auto_leave = from->auto_leave;
	if ((err = copy_ids(from->voters, from->n_voters, &to->voters, &to->n_voters)) ||
	    (err = copy_ids(from->learners, from->n_learners, &to->learners,
			    &to->n_learners)) ||
	    (err = copy_ids(from->voters_outgoing, from->n_voters_outgoing,
			    &to->voters_outgoing, &to->n_voters_outgoing)))
		return err;
	return copy_ids(from->learners_next, from->n_learners_next, &to->learners_next,
			&to->n_learners_next);
}

/* The configuration as of the applied index: a record of the store. */
static int load_conf(const struct mvcc *store, struct raft_conf_state *conf)
{
	struct slice s = mvcc_record_get(store, BUCKET_META, SLICE_LIT("conf"));
	ProtobufCMessage *message;
	struct pb_arena arena;
	int err;

	if (!s.len)
		return 0;
	pb_arena_init(&arena);
	err = pb_unpack(&raftpb__conf_state__descriptor, s, &arena, &message);
	if (!err)
		err = copy_conf((Raftpb__ConfState *)message, conf);
	pb_arena_release(&arena);
	return err > 0 ? -EBADMSG : err;
}

static int open_raft(struct core *core, struct mvcc *store, const char **why)
{
	const struct core_config *c = &core->config;
	struct raft_config raft = {
		.id = c->member_id,
		.seed = c->seed,
		.election_ticks = c->election_ticks,
		.heartbeat_ticks = c->heartbeat_ticks,
		.pre_vote = true,
		.check_quorum = true,
		.max_message_bytes = 1 << 20,
		.max_inflight = 512,
		.max_uncommitted_bytes = 1 << 30,
		.max_committed_bytes = 8 << 20,
		.hard_state = c->hard_state,
		.entries = c->entries,
		.n_entries = c->n_entries,
	};
	int err = load_conf(store, &raft.snapshot.conf);

	raft.snapshot.index = raft.applied = core->applied;
	raft.snapshot.term = core->applied_term;
	if (c->n_entries && c->entries[0].index <= core->applied) {
		raft.snapshot.index = c->entries[0].index - 1;
		raft.snapshot.term = c->log_term;
	}
	raft.hard_state.commit = MAX(raft.hard_state.commit, core->applied);
	*why = "the configuration in the store cannot be read";
	if (!err)
		err = raft_new(&raft, &core->raft, why);
	raft_conf_state_release(&raft.snapshot.conf);
	return err;
}

int core_open(const struct core_config *config, struct mvcc *store, struct core **out,
	      const char **why)
{
	uint64_t election = config->election_ticks * config->tick;
	struct core *core = calloc(1, sizeof(*core));
	struct core_applied applied;
	int err;

	*why = "out of memory";
	if (!core)
		return -ENOMEM;
	core->config = *config;
	applied = core_applied_in(store);
	core->applied = core->stored = core->synced = core->reported = applied.index;
	core->applied_term = core->stored_term = applied.term;
	core->next_id = hash_u64(config->seed) | 1;
	/* a late answer to an attempt of an earlier life must not confirm one of this */
	core->read_seq = hash_u64(config->seed + 1) >> 1;
	raft_update_init(&core->update);
	list_init(&core->proposals);
	list_init(&core->proposed);
	list_init(&core->reads_new);
	list_init(&core->reads_waiting);
	list_init(&core->reads_confirmed);
	list_init(&core->compacts);
	list_init(&core->storing);
	list_init(&core->messages);
	list_init(&core->appends);
	list_init(&core->fetches);
	core_hash_init(&core->hashes);
	core_reclaim_init(&core->reclaim);
	*why = "the leases, members or alarms in the store cannot be read";
	/* the shortest lease outlives an election and a half */
	err = state_open(&core->state, store,
			 (int64_t)((election * 3 / 2 + 999999999) / 1000000000));
	if (!err)
		err = open_raft(core, store, why);
	if (err) {
		core_close(core);
		return err;
	}
	core->config.entries = NULL;
	core->state.quota = config->quota ? config->quota : QUOTA_DEFAULT;
	core->compacting = true;	/* one may have been interrupted */
	raft_status(core->raft, &core->status);
	/* hands out what is committed in the log but not in the store */
	err = core_step(core, &(struct raft_event){ .type = RAFT_APPLIED,
						    .index = core->applied });
	if (err < 0) {
		core_close(core);
		return err;
	}
	*out = core;
	return 0;
}

static void finish_list(struct core *core, struct list *list)
{
	struct request *r;

	while (!list_empty(list)) {
		r = list_first(list, struct request, node);
		list_del(&r->node);
		core_forget(core, r);
		core_finish(core, r, &status_stopped);
	}
}

void core_close(struct core *core)
{
	struct core_messages *messages;
	struct core_append *append;

	if (!core)
		return;
	finish_list(core, &core->proposals);
	finish_list(core, &core->proposed);
	finish_list(core, &core->reads_new);
	finish_list(core, &core->reads_waiting);
	finish_list(core, &core->reads_confirmed);
	finish_list(core, &core->compacts);
	finish_list(core, &core->storing);
	core->hashes.out = core->reclaim.out = false;
	core_stop_hashes(core);
	core_stop_reclaim(core);
	while ((append = core_take_append(core)))
		core_append_free(append);
	while ((messages = core_take_messages(core)))
		core_messages_free(messages);
	for (size_t i = core->queue_at; i < core->queue_n; i++)
		blob_put(core->queue[i].payload);
	free(core->queue);
	request_free(core->apply_scratch);
	htable_release(&core->by_id);
	raft_update_release(&core->update);
	raft_free(core->raft);
	state_release(&core->state);
	free(core);
}

const struct core_config *core_config(const struct core *core)
{
	return &core->config;
}

struct state *core_state(struct core *core)
{
	return &core->state;
}

bool core_is_leader(const struct core *core)
{
	return core->status.role == RAFT_LEADER;
}

void core_status(const struct core *core, struct core_status *out)
{
	out->raft = core->status;
	out->applied = core->applied;
	out->pending = core->n_pending;
	out->proposals_failed = core->failed;
	out->leader_changes = core->leader_changes;
	out->published = core->published;
}

/* --- raft ----------------------------------------------------------------- */

/* Copies what is committed to the end of the queue. */
static int queue_committed(struct core *core)
{
	size_t n = core->update.n_committed, left = core->queue_n - core->queue_at, cap;
	struct raft_entry *queue;

	if (core->queue_at && core->queue_n + n > core->queue_cap) {
		memmove(core->queue, core->queue + core->queue_at, left * sizeof(*queue));
		core->queue_at = 0;
		core->queue_n = left;
	}
	if (core->queue_n + n > core->queue_cap) {
		cap = MAX(core->queue_cap * 2, core->queue_n + n);
		queue = realloc(core->queue, cap * sizeof(*queue));
		if (!queue)
			return -ENOMEM;
		core->queue = queue;
		core->queue_cap = cap;
	}
	for (size_t i = 0; i < n; i++) {
		core->queue[core->queue_n] = core->update.committed[i];
		if (core->queue[core->queue_n].payload)
			blob_get(core->queue[core->queue_n].payload);
		core->queue_n++;
	}
	return 0;
}

static void role_changed(struct core *core)
{
	if (core->status.leader && core->status.leader != core->last_leader) {
		core->leader_changes++;
		core->last_leader = core->status.leader;
	}
	core_reask_reads(core);
	if (core->status.role == RAFT_LEADER || !core->state.lessor.primary)
		return;
	lessor_demote(&core->state.lessor);
	core_drop_revokes(core);
}

/* In a turn, which knows the time: what made this member the leader may have been a
 * message that waited while the process was stopped. */
static int promote(struct core *core)
{
	uint64_t election = core->config.election_ticks * core->config.tick;

	if (core->status.role != RAFT_LEADER || core->state.lessor.primary)
		return 0;
	return lessor_promote(&core->state.lessor, core->now, election);
}

/* Steps raft and takes in what comes of it. */
int core_step(struct core *core, const struct raft_event *event)
{
	int outcome = raft_step(core->raft, event, &core->update), err = 0;
	struct core_messages *after = NULL;

	if (outcome < 0 || !raft_update_pending(&core->update))
		return outcome;
	raft_status(core->raft, &core->status);
	/* one that is so far behind that the log is not enough ends here, with an error */
	if (core->update.snapshot)
		return -ENOTSUP;
	if (core->update.role_changed)
		role_changed(core);
	err = queue_committed(core);
	if (!err)
		err = core_queue_messages(core, &after);
	if (!err)
		err = core_queue_append(core, after);
	core_confirm_reads(core);
	raft_update_clear(&core->update);
	return err ? err : outcome;
}

int core_tick(struct core *core, uint64_t now)
{
	core->now = now;
	core_expire(core);
	core_scrub_tick(core);
	return core_step(core, &(struct raft_event){ .type = RAFT_TICK });
}

/* --- applying ------------------------------------------------------------- */

static int apply_conf_change(struct core *core, const struct raft_entry *entry)
{
	struct raft_conf_single single;
	struct raft_conf_change change;
	struct raft_event event = { .type = RAFT_CONF_APPLIED, .index = entry->index,
				    .conf_change = &change };
	int err = cluster_decode_change(entry, &single, &change);

	if (!err)
		err = cluster_apply_change(&core->state.cluster, core->state.store, entry);
	return err ? err : core_step(core, &event);
}

/* The request that the entry at the head of the queue carries: the one that waits
 * here, or one made from the payload. */
static int request_of(struct core *core, const struct raft_entry *entry, struct request **out)
{
	struct slice payload = blob_slice(entry->payload);
	struct request *r = core->apply_scratch;
	int err;

	if (!r)
		r = core_find_proposal(core, request_id_of(payload));
	if (!r) {
		r = core->apply_scratch = request_new(REQUEST_PUT);
		if (!r)
			return -ENOMEM;
		err = request_decode(r, payload);
		if (err)
			return err;
	}
	*out = r;
	return 0;
}

static void apply_fetched(struct fetch_job *job)
{
	struct core *core = container_of(job, struct core, apply_job);

	core->apply_fetching = false;
}

static void begin_compaction(struct core *core)
{
	if (!core->compacting)
		core->compaction_began = core_clock(core);
	core->compacting = true;
}

/* Hands the result to whoever waits. */
static void applied_request(struct core *core, struct request *r)
{
	if (r->op == REQUEST_COMPACT && !r->error)
		begin_compaction(core);
	if (r->op == REQUEST_LEASE_REVOKE && r->done == request_free && !r->error)
		core->state.figures.leases_expired++;
	if (r == core->apply_scratch) {
		core->apply_scratch = NULL;
		request_free(r);
		return;
	}
	core_forget(core, r);
	list_del(&r->node);
	if (r->op == REQUEST_COMPACT && r->physical && !r->error) {
		list_add_tail(&core->compacts, &r->node);
		return;
	}
	core_finish(core, r, NULL);
}

/* 0; 1: it waits for values from the store; negative: final. */
static int apply_entry(struct core *core, const struct raft_entry *entry)
{
	int64_t compacted = mvcc_compact_revision(core->state.store);
	struct request *r = NULL;
	uint64_t began;
	int err;

	if (entry->type != RAFT_ENTRY_NORMAL)
		return apply_conf_change(core, entry);
	if (!entry->payload || !entry->payload->len)
		return 0;
	began = core_clock(core);
	err = request_of(core, entry, &r);
	if (!err)
		err = state_apply(&core->state, r, core->now);
	if (err < 0)
		return err;
	if (err) {
		BUG_ON(err != MVCC_COLD);
		core->apply_job.fetch = &r->fetch;
		core->apply_job.done = apply_fetched;
		core->apply_fetching = true;
		core_submit_fetch(core, &core->apply_job);
		return 1;
	}
	figures_count_apply(&core->state.figures, r, core_clock(core) - began);
	applied_request(core, r);
	if (mvcc_compact_revision(core->state.store) != compacted)
		return core_hash_compaction(core, compacted);
	return 0;
}

static int apply_queue(struct core *core)
{
	struct raft_entry *entry;
	int err;

	while (core->queue_at < core->queue_n && core_may_apply(core)) {
		entry = &core->queue[core->queue_at];
		BUG_ON(entry->index != core->applied + 1);
		err = apply_entry(core, entry);
		if (err)
			return MIN(err, 0);
		/* applying a change steps raft, which may have moved the queue */
		entry = &core->queue[core->queue_at++];
		core->applied = entry->index;
		core->applied_term = entry->term;
		core->unsynced_bytes += entry->payload ? entry->payload->len : 0;
		blob_put(entry->payload);
		core_note_applied(core);
	}
	if (core->queue_at == core->queue_n)
		core->queue_at = core->queue_n = 0;
	return 0;
}

/* A group of one need not wait for its election timeout. */
static int campaign_alone(struct core *core)
{
	struct raft_conf_state conf;
	bool alone;
	int err;

	if (core->campaigned || core->status.leader || core->applied < core->status.commit)
		return 0;
	err = raft_conf_state(core->raft, &conf);
	if (err)
		return err;
	alone = conf.n_voters == 1 && conf.voters[0] == core->config.member_id &&
		!conf.n_voters_outgoing;
	raft_conf_state_release(&conf);
	if (!alone)
		return 0;
	core->campaigned = true;
	return core_step(core, &(struct raft_event){ .type = RAFT_CAMPAIGN });
}

/* --- compaction in slices ------------------------------------------------- */

/* Notes a slice that took from @began on and removed @removed revisions. */
static void count_slice(struct core *core, uint64_t began, int64_t removed)
{
	struct figures *f = &core->state.figures;
	uint64_t now = core_clock(core);

	/* after a start it only becomes clear with the first one whether there is any */
	if (!core->compaction_began && !removed)
		return;
	if (!core->compaction_began)
		core->compaction_began = began;
	f->compacted_revisions += (uint64_t)removed;
	histogram_add(&f->compaction_pauses, HISTOGRAM_MS_PAUSE, now - began);
	if (core->compacting)
		return;
	core_reclaim_later(core);
	f->compaction_ended = now;
	histogram_add(&f->compactions, HISTOGRAM_MS_TOTAL, now - core->compaction_began);
	core->compaction_began = 0;
}

static int64_t count_revisions(const struct core *core)
{
	struct mvcc_stats stats;

	mvcc_stats(core->state.store, &stats);
	return stats.revisions;
}

/* Not faster than the store takes it: what waits to be stored holds puts back. */
static bool may_compact(const struct core *core)
{
	return core->compacting && !core_hashes_compaction(core) &&
	       mvcc_batch_pending(core->state.store) < BATCH_CHANGES;
}

static int compact_slice(struct core *core)
{
	int64_t before;
	uint64_t began;
	int more;

	if (!may_compact(core))
		return 0;
	before = count_revisions(core);
	began = core_clock(core);
	more = mvcc_compact_step(core->state.store, COMPACT_SLICE);
	if (more < 0)
		return more;
	core_note_applied(core);
	core->compacting = more > 0;
	count_slice(core, began, before - count_revisions(core));
	return 0;
}

/* --- the turn ------------------------------------------------------------- */

static int apply_and_tell(struct core *core)
{
	struct raft_event event = { .type = RAFT_APPLIED };
	int err;

	do {
		err = apply_queue(core);
		if (err < 0 || core->reported == core->applied)
			return err;
		event.index = core->reported = core->applied;
		err = core_step(core, &event);
	} while (err >= 0 && core->queue_at < core->queue_n && core_may_apply(core));
	return MIN(err, 0);
}

int core_turn(struct core *core, uint64_t now)
{
	size_t pending = mvcc_batch_pending(core->state.store);
	uint64_t applied = core->applied;
	int err;

	core->now = now;
	err = promote(core);
	if (!err)
		err = apply_and_tell(core);
	core->lagging = core->status.commit > core->applied + APPLY_GAP_MAX;
	if (err < 0 || (err = campaign_alone(core)) < 0 ||
	    (err = core_look_at_leases(core)) < 0 || (err = core_publish(core)) < 0 ||
	    (err = core_propose(core)) < 0 || (err = core_ask_reads(core)) < 0 ||
	    (err = core_run_hashes(core)) < 0 || (err = compact_slice(core)) < 0 ||
	    (err = core_run_reads(core)) < 0)
		return err;
	core_run_reclaim(core);
	return core_give_back(core, core->applied - applied,
			      mvcc_batch_pending(core->state.store) - pending);
}

void core_wind_down(struct core *core)
{
	/* who waits for the space learns that it is not free yet */
	if (core->compacting)
		finish_list(core, &core->compacts);
	core->compacting = false;
	core_stop_hashes(core);
	core_stop_reclaim(core);
	core->scrub.stopped = true;
}

bool core_busy(const struct core *core)
{
	return may_compact(core) || core_hash_busy(core) ||
	       core_reclaim_busy(core) || core->giving_back ||
	       (core->queue_at < core->queue_n && core_may_apply(core));
}
