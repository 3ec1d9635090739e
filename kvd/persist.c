// SPDX-License-Identifier: Apache-2.0

/* What goes out to the disks: appends to the log, batches to the store. */

#include <stdlib.h>

#include "include/endian_bytes.h"
#include "kvd/core_i.h"
#include "lib/proto/raft.pb-c.h"

/* --- the log -------------------------------------------------------------- */

/* Gives @append the newest hard state that the log does not have. */
static void take_hard_state(struct core *core, struct core_append *append)
{
	append->hard_state = core->hard_state;
	append->has_hard_state = core->hard_state_due;
	core->hard_state_due = false;
}

void core_append_free(struct core_append *append)
{
	raft_entries_free(append->entries, append->n_entries);
	raft_conf_state_release(&append->snapshot.conf);
	core_messages_free(append->after);
	free(append);
}

/*
 * Makes an append of the entries and hard state in core->update. A commit index that
 * moved, and nothing else, is not worth a write of its own: it is known again after a
 * restart, and goes with the next append. Messages that wait make one all the same: what
 * they say may rest on an append before.
 */
int core_queue_append(struct core *core, struct core_messages *after)
{
	struct raft_update *up = &core->update;
	struct core_append *append;

	if (up->hard_state_changed) {
		core->hard_state = up->hard_state;
		core->hard_state_due = true;
	}
	if (!up->n_entries && !up->must_sync && !after)
		return 0;
	append = calloc(1, sizeof(*append));
	if (!append) {
		core_messages_free(after);
		return -ENOMEM;
	}
	append->after = after;
	append->entries = up->entries;
	append->n_entries = up->n_entries;
	append->sync = up->must_sync;
	take_hard_state(core, append);
	up->entries = NULL;
	up->n_entries = up->cap_entries = 0;
	list_add_tail(&core->appends, &append->node);
	return 0;
}

struct core_append *core_take_append(struct core *core)
{
	struct core_append *append;

	if (list_empty(&core->appends))
		return NULL;
	append = list_first(&core->appends, struct core_append, node);
	list_del(&append->node);
	return append;
}

int core_appended(struct core *core, struct core_append *append)
{
	struct raft_event event = { .type = RAFT_STORED };
	int err = 0;

	if (append->after)
		list_add_tail(&core->messages, &append->after->node);
	append->after = NULL;
	if (append->n_entries) {
		event.index = append->entries[append->n_entries - 1].index;
		event.term = append->entries[append->n_entries - 1].term;
		err = core_step(core, &event);
	}
	core_append_free(append);
	return MIN(err, 0);
}

/* --- the store ------------------------------------------------------------ */

/* Something was applied that a batch must hold. */
void core_note_applied(struct core *core)
{
	if (!core->batch_since)
		core->batch_since = core->now ? core->now : 1;
}

static bool store_is_behind(const struct core *core)
{
	struct mvcc_stats stats;

	if (mvcc_batch_pending(core->state.store) >= UNSTORED_CHANGES_MAX)
		return true;
	mvcc_stats(core->state.store, &stats);
	return stats.pending_bytes >= UNSTORED_BYTES_MAX;
}

bool core_may_apply(const struct core *core)
{
	return !core->apply_fetching && !store_is_behind(core);
}

static bool sync_due(const struct core *core)
{
	return core->applied >= core->synced + core->config.snapshot_count ||
	       core->unsynced_bytes >= UNSYNCED_BYTES_MAX;
}

/* Somebody waits for what a compaction removed to be stored. */
static bool compaction_due(const struct core *core)
{
	return !core->compacting && !list_empty(&core->compacts);
}

static bool batch_due(const struct core *core, uint64_t now, bool all)
{
	if (core->batch_out || !core->batch_since)
		return false;
	return all || now >= core->batch_since + BATCH_AGE || sync_due(core) ||
	       compaction_due(core) || store_is_behind(core) ||
	       core_hash_wants_batch(core) || core_reclaim_wants_batch(core) ||
	       mvcc_batch_pending(core->state.store) >= BATCH_CHANGES;
}

static int put_conf(struct core *core)
{
	Raftpb__ConfState record = RAFTPB__CONF_STATE__INIT;
	struct raft_conf_state conf;
	struct blob *b;
	int err = raft_conf_state(core->raft, &conf);

	if (err)
		return err;
	record.voters = conf.voters;
	record.n_voters = conf.n_voters;
	record.learners = conf.learners;
	record.n_learners = conf.n_learners;
	record.voters_outgoing = conf.voters_outgoing;
	record.n_voters_outgoing = conf.n_voters_outgoing;
	record.learners_next = conf.learners_next;
	record.n_learners_next = conf.n_learners_next;
	record.has_auto_leave = true;
	record.auto_leave = conf.auto_leave;
	b = pb_pack_blob(&record.base);
	raft_conf_state_release(&conf);
	err = b ? mvcc_record_put(core->state.store, BUCKET_META, SLICE_LIT("conf"),
				  blob_slice(b)) : -ENOMEM;
	blob_put(b);
	return err;
}

static int put_applied(struct core *core)
{
	uint8_t value[24];

	put_be64(value, core->applied);
	put_be64(value + 8, core->applied_term);
	put_be64(value + 16, core->config.cluster_id);
	return mvcc_record_put(core->state.store, BUCKET_META, SLICE_LIT("applied"),
			       slice_of(value, sizeof(value)));
}

/*
 * The applied index, its term and the configuration go into the same transaction as
 * what they account for.
 */
struct core_batch *core_take_batch(struct core *core, uint64_t now, bool all)
{
	struct core_batch *batch;

	if (!batch_due(core, now, all))
		return NULL;
	batch = calloc(1, sizeof(*batch));
	if (!batch || put_conf(core) || put_applied(core)) {
		free(batch);
		return NULL;	/* tried again next turn */
	}
	batch->sync = all || sync_due(core);
	if (batch->sync)
		core->unsynced_bytes = 0;
	batch->batch = mvcc_batch_take(core->state.store);
	BUG_ON(!batch->batch);
	core->batch_out = true;
	if (compaction_due(core))
		list_splice_tail(&core->storing, &core->compacts);
	core_reclaim_batch_taken(core);
	core->batch_since = 0;
	core->batch_index = core->applied;
	core->batch_term = core->applied_term;
	return batch;
}

/* The store is durable up to core->synced: the log may lose what is well below it. */
static void release_log(struct core *core)
{
	struct core_append *append;
	uint64_t trailing = core->state.cluster.n_members > 1 ? TRAILING_ENTRIES : 0;
	uint64_t keep = core->synced > trailing ? core->synced - trailing : 0;

	append = calloc(1, sizeof(*append));
	if (!append)
		return;		/* the next sync does it */
	if (raft_conf_state(core->raft, &append->snapshot.conf)) {
		free(append);
		return;
	}
	take_hard_state(core, append);
	append->snapshot.index = core->synced;
	append->snapshot.term = core->stored_term;
	append->release_index = keep;
	list_add_tail(&core->appends, &append->node);
	core->forget = keep;
}

static int forget_entries(struct core *core, size_t n)
{
	uint64_t first = core->status.first_index;
	struct raft_event event = { .type = RAFT_COMPACT };
	int err;

	if (core->forget < first)
		return 0;
	event.index = MIN(core->forget, first + n - 1);
	err = core_step(core, &event);
	raft_status(core->raft, &core->status);
	/* raft needs them yet: the next sync asks again */
	if (core->status.first_index == first)
		core->forget = 0;
	return MIN(err, 0);
}

int core_give_back(struct core *core, size_t entries, size_t changes)
{
	int err = forget_entries(core, TRIM_SLICE + 2 * entries);

	core->giving_back = mvcc_trim(core->state.store, TRIM_SLICE + 2 * changes) ||
		core->forget >= core->status.first_index;
	return err;
}

void core_stored(struct core *core, struct core_batch *batch)
{
	struct request *r;

	BUG_ON(!core->batch_out);
	mvcc_batch_done(core->state.store, batch->batch);
	core->batch_out = false;
	core_reclaim_batch_stored(core);
	core->stored = core->batch_index;
	core->stored_term = core->batch_term;
	while (!list_empty(&core->storing)) {
		r = list_first(&core->storing, struct request, node);
		list_del(&r->node);
		core_finish(core, r, NULL);
	}
	core->state.db_size = batch->size.total;
	core->state.db_size_in_use = batch->size.in_use;
	if (batch->sync) {
		core->synced = core->stored;
		release_log(core);
	}
	free(batch);
}
