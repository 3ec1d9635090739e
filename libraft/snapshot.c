// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshots, for a member that needs entries the leader has forgotten: thesis chapter 5.
 * libraft carries only what identifies one; the bytes are between the two callers.
 */
#include "libraft/raft_i.h"

void snapshot_meta_free(struct raft_snapshot_meta *meta)
{
	if (!meta)
		return;
	raft_conf_state_release(&meta->conf);
	free(meta);
}

int snapshot_meta_copy(const struct raft_snapshot_meta *from, struct raft_snapshot_meta **out)
{
	struct raft_snapshot_meta *meta = calloc(1, sizeof(*meta));
	int ret;

	BUG_ON(!from->index || !from->term);
	BUG_ON(!conf_is_valid(&from->conf));
	if (!meta)
		return -ENOMEM;
	meta->index = from->index;
	meta->term = from->term;
	ret = conf_copy(&from->conf, &meta->conf);
	if (ret)
		free(meta);
	else
		*out = meta;
	return ret;
}

int send_snapshot(struct raft *raft, struct raft_update *up, struct raft_progress *pr)
{
	/* The entry of the configuration is being applied, if it is not yet. */
	struct raft_snapshot_meta meta = {
		.index = MAX(raft->log.applied, raft->conf_index),
		.conf = raft->conf,
	};
	struct raft_message m = { .type = RAFT_MSG_SNAP, .to = pr->id, .term = raft->term };
	int ret;

	BUG_ON(raft->role != RAFT_LEADER);
	/* One that does not answer is not worth a snapshot. */
	if (!pr->recent_active)
		return 0;
	BUG_ON(!log_term(&raft->log, meta.index, &meta.term) || !meta.index);
	ret = snapshot_meta_copy(&meta, &m.snapshot);
	if (ret)
		return ret;
	BUG_ON(meta.index > raft->log.commit || meta.index < raft->log.base);
	progress_become_snapshot(pr, meta.index);
	return raft_send(raft, up, &m);
}

/* Whether the transfer of one worked. Either way one heartbeat's answer is awaited
 * before going on: to let it be installed, or not to try again at once. */
void snapshot_reported(struct raft *raft, uint64_t id, bool failed)
{
	struct raft_progress *pr = progress_find(raft, id);

	if (raft->role != RAFT_LEADER || !pr || pr->state != PROGRESS_SNAPSHOT)
		return;
	BUG_ON(pr->id == raft->id || !pr->pending_snapshot);
	if (failed)
		pr->pending_snapshot = 0;
	progress_become_probe(pr);
	BUG_ON(pr->match >= pr->next || pr->next > raft->log.last + 1);
	pr->paused = true;
}

static bool is_member(const struct raft *raft, const struct raft_conf_state *conf)
{
	return conf_is_voter(conf, raft->id) ||
	       conf_has(conf->learners, conf->n_learners, raft->id);
}

static int restore(struct raft *raft, struct raft_update *up,
		   const struct raft_snapshot_meta *meta)
{
	struct raft_snapshot_meta *copy;
	struct raft_conf_state conf;
	int ret = snapshot_meta_copy(meta, &copy);

	BUG_ON(meta->index <= raft->log.commit);
	if (ret)
		return ret;
	ret = log_restore(&raft->log, up, meta->index, meta->term);
	if (ret) {
		snapshot_meta_free(copy);
		return ret;
	}
	BUG_ON(raft->log.last != meta->index || up->n_entries);
	snapshot_meta_free(up->snapshot);
	up->snapshot = copy;
	up->must_sync = true;
	/* The snapshot holds what these would do. */
	while (up->n_committed)
		blob_put(up->committed[--up->n_committed].payload);
	ret = conf_copy(&meta->conf, &conf);
	return ret ? ret : raft_conf_switch(raft, &conf);
}

int handle_snapshot(struct raft *raft, struct raft_update *up, const struct raft_message *m)
{
	const struct raft_snapshot_meta *meta = m->snapshot;
	struct raft_message reply = {
		.type = RAFT_MSG_APP_RESP,
		.to = m->from,
		.term = raft->term,
	};
	int ret;

	BUG_ON(raft->role != RAFT_FOLLOWER || !meta);
	BUG_ON(raft->leader != m->from || m->term != raft->term);
	if (meta->index > raft->log.commit && is_member(raft, &meta->conf)) {
		if (log_matches(&raft->log, meta->index, meta->term)) {
			/* The log is there already, only the commit index was not. */
			raft_commit_to(raft, meta->index);
		} else {
			ret = restore(raft, up, meta);
			if (ret)
				return ret;
		}
	}
	reply.index = raft->log.commit;
	BUG_ON(reply.index > raft->log.last);
	return raft_send(raft, up, &reply);
}
