// SPDX-License-Identifier: Apache-2.0
/* Making a member from what was found on disk, and looking at it. */
#include "libraft/raft_i.h"

/* NULL, or what is wrong with it. */
static const char *config_error(const struct raft_config *c)
{
	if (!c->id)
		return "the member's id is 0";
	if (!c->heartbeat_ticks)
		return "heartbeat_ticks is 0";
	if (c->election_ticks <= c->heartbeat_ticks)
		return "election_ticks is not greater than heartbeat_ticks";
	if (c->election_ticks > UINT32_MAX / 4)
		return "election_ticks is too large";
	if (c->lease_ticks && (!c->check_quorum || c->lease_ticks >= c->election_ticks))
		return "lease reads need check_quorum, and lease_ticks below election_ticks";
	if (!c->max_inflight || c->max_inflight > SIZE_MAX / sizeof(uint64_t))
		return "max_inflight is 0 or too large";
	return NULL;
}

/* The log must go on from the snapshot without a gap, and its terms never fall. */
static const char *entries_error(const struct raft_config *c)
{
	uint64_t term = c->snapshot.term;

	for (size_t i = 0; i < c->n_entries; i++) {
		const struct raft_entry *e = &c->entries[i];

		if (e->index != c->snapshot.index + 1 + i)
			return "the log has a gap";
		if (!e->term || e->term < term)
			return "a term in the log is lower than the one before it";
		if ((unsigned int)e->type > RAFT_ENTRY_CONF_CHANGE_V2)
			return "an entry in the log has an unknown type";
		term = e->term;
	}
	return term > RAFT_TERM_MAX ? "a term in the log is too large" : NULL;
}

static const char *disk_error(const struct raft_config *c)
{
	uint64_t last = c->snapshot.index + c->n_entries;

	if (c->n_entries && !c->entries)
		return "entries is NULL";
	if (c->snapshot.index > RAFT_INDEX_MAX || c->n_entries > RAFT_INDEX_MAX)
		return "an index is too large";
	if (!c->snapshot.index != !c->snapshot.term)
		return "the snapshot has an index without a term, or a term without an index";
	if (!conf_is_valid(&c->snapshot.conf))
		return "the configuration contradicts itself";
	if (c->applied < c->snapshot.index || c->applied > last)
		return "applied is outside the log";
	if (c->hard_state.commit > last)
		return "commit is beyond the end of the log: entries are missing";
	if (c->hard_state.term > RAFT_TERM_MAX)
		return "the term is too large";
	return entries_error(c);
}

static struct raft *raft_of_config(const struct raft_config *c)
{
	struct raft *raft = calloc(1, sizeof(*raft));

	if (!raft)
		return NULL;
	raft->id = c->id;
	raft->random = c->seed;
	raft->election_ticks = c->election_ticks;
	raft->heartbeat_ticks = c->heartbeat_ticks;
	raft->lease_ticks = c->lease_ticks;
	raft->pre_vote = c->pre_vote;
	raft->check_quorum = c->check_quorum;
	raft->max_message_bytes = c->max_message_bytes;
	raft->max_inflight = c->max_inflight;
	raft->max_uncommitted_bytes = c->max_uncommitted_bytes;
	raft->max_committed_bytes = c->max_committed_bytes;
	raft->reads.round_pos = SIZE_MAX;
	raft->election_timeout = election_timeout_draw(raft);
	BUG_ON(!raft->id || raft->role != RAFT_FOLLOWER);
	BUG_ON(raft->election_timeout < raft->election_ticks);
	return raft;
}

/*
 * Thesis 3.8: term and vote as stored. The commit index on disk may lag behind what
 * was applied (etcd #10217), and the term behind the last entry's where a crash came between the
 * two; no vote of that term can have left this member then.
 */
static int raft_load(struct raft *raft, const struct raft_config *c)
{
	struct raft_log *log = &raft->log;
	struct raft_conf_state conf;
	int ret;

	BUG_ON(log->last || raft->n_progress);
	log->base = log->last = log->stored = c->snapshot.index;
	log->base_term = c->snapshot.term;
	ret = log_load(log, c->entries, c->n_entries);
	if (ret)
		return ret;
	log->applied = log->handed = c->applied;
	log->commit = MAX(c->hard_state.commit, c->applied);
	raft->handed_hard_state = c->hard_state;
	raft->term = c->hard_state.term;
	raft->vote = c->hard_state.vote;
	if (log_last_term(log) > raft->term) {
		raft->term = log_last_term(log);
		raft->vote = 0;
	}
	raft->handed_soft_state.term = raft->term;
	raft_commit_changes(raft);
	BUG_ON(log->handed > log->commit || log->commit > log->stored);
	ret = conf_copy(&c->snapshot.conf, &conf);
	return ret ? ret : raft_conf_switch(raft, &conf);
}

int raft_new(const struct raft_config *config, struct raft **out, const char **why)
{
	const char *error = config_error(config);
	struct raft *raft;
	int ret;

	BUG_ON(!out || !why);
	if (!error)
		error = disk_error(config);
	if (error) {
		*why = error;
		return -EINVAL;
	}
	raft = raft_of_config(config);
	ret = raft ? raft_load(raft, config) : -ENOMEM;
	if (ret) {
		*why = "out of memory";
		raft_free(raft);
		return ret;
	}
	BUG_ON(raft->role != RAFT_FOLLOWER || raft->term < config->hard_state.term);
	*out = raft;
	return 0;
}

void raft_free(struct raft *raft)
{
	if (!raft)
		return;
	BUG_ON(raft->n_progress > raft->cap_progress);
	BUG_ON(raft->log.last < raft->log.base);
	reads_reset(&raft->reads);
	for (size_t i = 0; i < raft->n_progress; i++)
		progress_release(&raft->progress[i]);
	free(raft->progress);
	raft_conf_state_release(&raft->conf);
	log_release(&raft->log);
	free(raft);
}

void raft_status(const struct raft *raft, struct raft_status *out)
{
	const struct raft_log *log = &raft->log;

	BUG_ON(log->commit > log->last || log->stored > log->last);
	BUG_ON(raft->transferee && raft->role != RAFT_LEADER);
	*out = (struct raft_status){
		.role = raft->role,
		.id = raft->id,
		.term = raft->term,
		.vote = raft->vote,
		.leader = raft->leader,
		.commit = log->commit,
		.applied = log->applied,
		.first_index = log->base + 1,
		.last_index = log->last,
		.stored = log->stored,
		.transferee = raft->transferee,
		.learner = conf_has(raft->conf.learners, raft->conf.n_learners, raft->id),
		.lease = lease_holds(raft),
		.messages_rejected = raft->messages_rejected,
	};
}

bool raft_member(const struct raft *raft, uint64_t id, struct raft_member *out)
{
	const struct raft_progress *pr = progress_find(raft, id);

	if (raft->role != RAFT_LEADER || !pr)
		return false;
	BUG_ON(!out);
	BUG_ON(pr->match >= pr->next || pr->match > raft->log.last);
	*out = (struct raft_member){
		.match = pr->match,
		.learner = pr->learner,
		.active = pr->recent_active || id == raft->id,
		.snapshot = pr->state == PROGRESS_SNAPSHOT,
	};
	return true;
}

int raft_conf_state(const struct raft *raft, struct raft_conf_state *out)
{
	return conf_copy(&raft->conf, out);
}

static void progress_check(const struct raft *raft, const struct raft_progress *pr)
{
	const struct raft_conf_state *c = &raft->conf;
	const struct raft_inflights *in = &pr->inflights;
	uint64_t before = 0;

	BUG_ON(pr->learner != conf_has(c->learners, c->n_learners, pr->id));
	BUG_ON(!pr->learner && !conf_is_voter(c, pr->id));
	BUG_ON(in->n > in->cap || in->n > raft->max_inflight);
	BUG_ON(in->n && pr->state != PROGRESS_REPLICATE);
	if (raft->role != RAFT_LEADER)
		return;
	BUG_ON(pr->match >= pr->next || pr->next > raft->log.last + 1);
	BUG_ON(pr->read_ack > raft->reads.round);
	BUG_ON(pr->id == raft->id && pr->match != raft->log.stored);
	BUG_ON((pr->state == PROGRESS_SNAPSHOT) != (pr->pending_snapshot != 0));
	for (size_t i = 0; i < in->n; i++) {
		uint64_t index = in->index[(in->head + i) % in->cap];

		BUG_ON(index <= before || index >= pr->next);
		before = index;
	}
}

static void reads_check(const struct raft *raft)
{
	const struct raft_reads *reads = &raft->reads;
	uint64_t before = 1;

	BUG_ON(lease_holds(raft) && !raft->lease_ticks);
	BUG_ON(reads->lease_round > reads->round || reads->lease_start > raft->ticks);
	BUG_ON(reads->n > reads->cap || reads->n > RAFT_READS_MAX);
	BUG_ON(reads->n && raft->role != RAFT_LEADER);
	for (size_t i = 0; i < reads->n; i++) {
		const struct raft_read_wait *w = &reads->waiting[i];

		BUG_ON(w->round > reads->round || w->index > raft->log.commit);
		BUG_ON(!w->from != !w->context);
		if (!w->round)
			before = UINT64_MAX;
		BUG_ON(w->round && w->round < before);
		before = MAX(before, w->round);
	}
}

void raft_check(const struct raft *raft)
{
	const struct raft_conf_state *c = &raft->conf;
	size_t members = 0;

	log_check(&raft->log, raft->term);
	reads_check(raft);
	BUG_ON(!conf_is_valid(c));
	for (size_t i = 0; i < raft->n_progress; i++) {
		BUG_ON(i && raft->progress[i].id <= raft->progress[i - 1].id);
		progress_check(raft, &raft->progress[i]);
		members++;
	}
	for (size_t i = 0; i < c->n_voters_outgoing; i++)
		members -= !conf_has(c->voters, c->n_voters, c->voters_outgoing[i]);
	BUG_ON(members != c->n_voters + c->n_learners);
	BUG_ON(raft->role != RAFT_FOLLOWER && !conf_is_voter(c, raft->id));
	BUG_ON((raft->role == RAFT_LEADER) != (raft->leader == raft->id));
	BUG_ON(raft->role == RAFT_LEADER && raft->vote != raft->id);
	BUG_ON(raft->role == RAFT_CANDIDATE && raft->vote != raft->id);
	BUG_ON(raft->role == RAFT_LEADER && log_last_term(&raft->log) != raft->term);
	BUG_ON(raft->role != RAFT_LEADER && (raft->term_start || raft->transferee));
	BUG_ON(raft->election_timeout < raft->election_ticks ||
	       raft->election_timeout >= 2 * raft->election_ticks);
}
