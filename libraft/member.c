// SPDX-License-Identifier: Apache-2.0
/*
 * The configuration in force, and what changes with it. A configuration takes effect
 * when its entry is applied, as in etcd (the thesis: when it is appended), so at most
 * one change may be under way, and the next waits until it is applied here.
 */
#include "include/wire.h"
#include "libraft/raft_i.h"

uint64_t raft_quorum_index(const struct raft *raft, quorum_acked_fn *acked)
{
	const struct raft_conf_state *c = &raft->conf;
	struct quorum_ids in = { c->voters, c->n_voters };
	struct quorum_ids out = { c->voters_outgoing, c->n_voters_outgoing };

	BUG_ON(!c->n_voters);
	return MIN(quorum_index(in, acked, raft), quorum_index(out, acked, raft));
}

enum quorum_result raft_quorum_vote(const struct raft *raft, quorum_vote_fn *vote)
{
	const struct raft_conf_state *c = &raft->conf;
	struct quorum_ids in = { c->voters, c->n_voters };
	struct quorum_ids out = { c->voters_outgoing, c->n_voters_outgoing };

	BUG_ON(!c->n_voters);
	return quorum_joint(quorum_vote(in, vote, raft), quorum_vote(out, vote, raft));
}

static int progress_want(struct raft *raft, const uint64_t *ids, size_t n, bool learner)
{
	BUG_ON(n && !ids);
	for (size_t i = 0; i < n; i++) {
		int ret = progress_find(raft, ids[i]) ? 0 : progress_insert(raft, ids[i]);

		if (ret)
			return ret;
		progress_find(raft, ids[i])->learner = learner;
	}
	BUG_ON(raft->n_progress < n);
	return 0;
}

/* Puts @conf in force and takes what it owns, also where it fails. */
int raft_conf_switch(struct raft *raft, struct raft_conf_state *conf)
{
	int ret;

	BUG_ON(!conf_is_valid(conf));
	BUG_ON(conf == &raft->conf);
	raft_conf_state_release(&raft->conf);
	raft->conf = *conf;
	conf = &raft->conf;
	for (size_t i = raft->n_progress; i-- > 0; ) {
		uint64_t id = raft->progress[i].id;

		if (!conf_is_voter(conf, id) && !conf_has(conf->learners, conf->n_learners, id))
			progress_remove(raft, id);
	}
	ret = progress_want(raft, conf->voters, conf->n_voters, false);
	if (!ret)
		ret = progress_want(raft, conf->voters_outgoing, conf->n_voters_outgoing, false);
	if (!ret)
		ret = progress_want(raft, conf->learners, conf->n_learners, true);
	return ret;
}

/* A leader: the first change in its log that is not in force; UINT64_MAX none. Its log
 * only grows, so each entry is looked at once. */
uint64_t raft_next_change(struct raft *raft)
{
	uint64_t known = MAX(MAX(raft->log.applied, raft->conf_index), raft->no_change_to);
	uint64_t to = MIN(raft->pending_conf, raft->log.last);

	BUG_ON(raft->role != RAFT_LEADER);
	for (; known < to; known++)
		if (log_entry(&raft->log, known + 1)->type != RAFT_ENTRY_NORMAL)
			break;
	raft->no_change_to = known;
	BUG_ON(raft->no_change_to > raft->log.last);
	return known < to ? known + 1 : UINT64_MAX;
}

/*
 * A change is taken up once the one before it is in force: so all but the last in the
 * log are committed. A member that did not know that might stand for election, or be
 * elected, in a configuration that shares no quorum with the one in force.
 */
void raft_commit_changes(struct raft *raft)
{
	struct raft_log *log = &raft->log;
	uint64_t later = 0, i = log->last;

	for (; i > log->commit; i--) {
		if (log_entry(log, i)->type == RAFT_ENTRY_NORMAL)
			continue;
		if (later)
			break;
		later = i;
	}
	BUG_ON(i > log->last);
	if (i > log->commit)
		raft_commit_to(raft, i);
	BUG_ON(log->commit < i || log->commit > log->last);
}

/* A leader whose configuration has changed. Thesis 4.2.2: it steps down where it is no voter
 * any more; made a learner, too (etcd-io/raft #83). */
static int leader_conf_changed(struct raft *raft, struct raft_update *up)
{
	bool advanced;
	int ret;

	BUG_ON(raft->role != RAFT_LEADER);
	if (!conf_is_voter(&raft->conf, raft->id)) {
		become_follower(raft, raft->term, 0);
		return 0;
	}
	BUG_ON(!progress_find(raft, raft->id));
	/* A majority two changes ahead need not know of those who granted the lease. */
	raft->reads.lease_end = 0;
	ret = leader_maybe_commit(raft, up, &advanced);
	/* A quorum that has changed may also confirm more reads. */
	if (!ret)
		ret = reads_confirm(raft, up);
	/* New members are sent to at once; all are if more is committed now. */
	if (!ret)
		ret = broadcast_append(raft, up, advanced);
	if (raft->transferee && !conf_is_voter(&raft->conf, raft->transferee))
		raft->transferee = 0;
	return ret;
}

static bool changes_nothing(const struct raft *raft, const struct raft_conf_change *change)
{
	BUG_ON(raft->conf.auto_leave && !conf_is_joint(&raft->conf));
	if (!change)
		return true;
	BUG_ON(change->n_changes && !change->changes);
	if (!change->n_changes)
		return !conf_is_joint(&raft->conf);
	for (size_t i = 0; i < change->n_changes; i++)
		if (change->changes[i].node_id)
			return false;
	return true;
}

int raft_conf_applied(struct raft *raft, struct raft_update *up,
		      const struct raft_event *event)
{
	const struct raft_conf_change *change = event->conf_change, leave = { 0 };
	struct raft_conf_state conf;
	int ret, err;

	BUG_ON(event->index > raft->log.handed);
	/* A snapshot that has come meanwhile is the configuration's later state. */
	if (event->index && event->index <= raft->log.applied)
		return 0;
	raft->conf_index = MAX(raft->conf_index, event->index);
	if (changes_nothing(raft, change))
		return raft->role == RAFT_LEADER ? leader_conf_changed(raft, up) : 0;
	ret = conf_change_apply(&raft->conf, change->n_changes ? change : &leave, &conf);
	if (!ret)
		ret = raft_conf_switch(raft, &conf);
	if (raft->role != RAFT_LEADER || (ret && ret != -EINVAL))
		return ret;
	BUG_ON(raft->conf_index < event->index);
	/* Also where nothing has changed: what follows the entry may count now. */
	err = leader_conf_changed(raft, up);
	return err ? err : ret;
}

/* ConfChangeV2 field 2 lists the changes; without any it leaves a joint configuration. */
static bool wants_leave_joint(const struct raft_entry *e)
{
	struct slice bytes = { NULL, 0 };
	struct wire_field f;

	BUG_ON(e->type == RAFT_ENTRY_NORMAL);
	BUG_ON((unsigned int)e->type > RAFT_ENTRY_CONF_CHANGE_V2);
	if (e->type != RAFT_ENTRY_CONF_CHANGE_V2)
		return false;
	if (e->payload)
		bytes = blob_slice(e->payload);
	while (wire_next(&bytes, &f) == 1)
		if (f.number == 2)
			return false;
	return true;
}

/* Thesis 4.1: no change is taken up while another is under way. */
bool conf_change_is_refused(const struct raft *raft, const struct raft_entry *e)
{
	BUG_ON(raft->role != RAFT_LEADER);
	BUG_ON(e->type == RAFT_ENTRY_NORMAL);
	if (raft->pending_conf > raft->log.applied)
		return true;
	return conf_is_joint(&raft->conf) != wants_leave_joint(e);
}

/* Leaves a joint configuration that says to leave itself, once nothing is under way;
 * any later leader tries it too, when its first entry is applied. */
int raft_auto_leave(struct raft *raft, struct raft_update *up)
{
	int ret;

	if (raft->role != RAFT_LEADER || !raft->conf.auto_leave)
		return 0;
	if (raft->log.applied < raft->pending_conf || raft->transferee)
		return 0;
	BUG_ON(!conf_is_joint(&raft->conf));
	BUG_ON(raft->pending_conf > raft->log.last);
	ret = leader_append_empty(raft, up, RAFT_ENTRY_CONF_CHANGE_V2);
	return ret ? ret : broadcast_append(raft, up, true);
}
