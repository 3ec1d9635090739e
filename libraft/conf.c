// SPDX-License-Identifier: Apache-2.0
/*
 * Configurations and their changes, without the members behind them.
 *
 * A change of one voter takes effect at once (thesis 4.1): two majorities that differ
 * by one voter overlap. Any other change goes through a joint configuration (thesis
 * 4.3), in which voters and voters_outgoing must both agree. A member that is still a
 * voter of the outgoing half cannot be a learner as well: it waits in learners_next.
 */
#include "libraft/raft_i.h"

static size_t ids_pos(const uint64_t *ids, size_t n, uint64_t id)
{
	size_t i = 0;

	while (i < n && ids[i] < id)
		i++;
	return i;
}

bool conf_has(const uint64_t *ids, size_t n, uint64_t id)
{
	size_t i = ids_pos(ids, n, id);

	return i < n && ids[i] == id;
}

static int ids_add(uint64_t **ids, size_t *n, uint64_t id)
{
	size_t i = ids_pos(*ids, *n, id);
	uint64_t *grown;

	BUG_ON(!id);
	if (i < *n && (*ids)[i] == id)
		return 0;
	if (*n == RAFT_MEMBERS_MAX)
		return -EINVAL;
	grown = realloc(*ids, (*n + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	memmove(grown + i + 1, grown + i, (*n - i) * sizeof(*grown));
	grown[i] = id;
	*ids = grown;
	++*n;
	BUG_ON(i && grown[i - 1] >= id);
	return 0;
}

static void ids_remove(uint64_t *ids, size_t *n, uint64_t id)
{
	size_t i = ids_pos(ids, *n, id);

	BUG_ON(!id || *n > RAFT_MEMBERS_MAX);
	BUG_ON(i && ids[i - 1] >= id);
	if (i == *n || ids[i] != id)
		return;
	--*n;
	memmove(ids + i, ids + i + 1, (*n - i) * sizeof(*ids));
}

static int ids_copy(const uint64_t *from, size_t n, uint64_t **out, size_t *n_out)
{
	BUG_ON(n > RAFT_MEMBERS_MAX || (n && !from));
	BUG_ON(*n_out);
	if (!n)
		return 0;
	*out = malloc(n * sizeof(**out));
	if (!*out)
		return -ENOMEM;
	memcpy(*out, from, n * sizeof(**out));
	*n_out = n;
	return 0;
}

void raft_conf_state_release(struct raft_conf_state *conf)
{
	if (!conf)
		return;
	BUG_ON(conf->n_voters && !conf->voters);
	BUG_ON(conf->n_voters_outgoing && !conf->voters_outgoing);
	free(conf->voters);
	free(conf->learners);
	free(conf->voters_outgoing);
	free(conf->learners_next);
	*conf = (struct raft_conf_state){ 0 };
}

int conf_copy(const struct raft_conf_state *conf, struct raft_conf_state *out)
{
	struct raft_conf_state c = { .auto_leave = conf->auto_leave };
	int ret;

	BUG_ON(conf == out);
	ret = ids_copy(conf->voters, conf->n_voters, &c.voters, &c.n_voters);
	if (!ret)
		ret = ids_copy(conf->learners, conf->n_learners, &c.learners, &c.n_learners);
	if (!ret)
		ret = ids_copy(conf->voters_outgoing, conf->n_voters_outgoing,
			       &c.voters_outgoing, &c.n_voters_outgoing);
	if (!ret)
		ret = ids_copy(conf->learners_next, conf->n_learners_next, &c.learners_next,
			       &c.n_learners_next);
	if (ret)
		raft_conf_state_release(&c);
	else
		*out = c;
	BUG_ON(!ret && conf_is_joint(out) != conf_is_joint(conf));
	return ret;
}

bool conf_is_joint(const struct raft_conf_state *conf)
{
	return conf->n_voters_outgoing != 0;
}

bool conf_is_voter(const struct raft_conf_state *conf, uint64_t id)
{
	return conf_has(conf->voters, conf->n_voters, id) ||
	       conf_has(conf->voters_outgoing, conf->n_voters_outgoing, id);
}

/* Whether @id decides alone; also in a joint configuration, if it is both halves. */
bool conf_is_singleton(const struct raft_conf_state *conf, uint64_t id)
{
	if (conf_is_joint(conf) && (conf->n_voters_outgoing != 1 || conf->voters_outgoing[0] != id))
		return false;
	return conf->n_voters == 1 && conf->voters[0] == id;
}

static bool ids_are_valid(const uint64_t *ids, size_t n)
{
	if (n > RAFT_MEMBERS_MAX || (n && !ids))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!ids[i] || (i && ids[i] <= ids[i - 1]))
			return false;
	return true;
}

/* Whether it is one that changes could have led to. */
bool conf_is_valid(const struct raft_conf_state *conf)
{
	if (!ids_are_valid(conf->voters, conf->n_voters) ||
	    !ids_are_valid(conf->learners, conf->n_learners) ||
	    !ids_are_valid(conf->voters_outgoing, conf->n_voters_outgoing) ||
	    !ids_are_valid(conf->learners_next, conf->n_learners_next))
		return false;
	for (size_t i = 0; i < conf->n_learners; i++)
		if (conf_is_voter(conf, conf->learners[i]))
			return false;
	for (size_t i = 0; i < conf->n_learners_next; i++) {
		uint64_t id = conf->learners_next[i];

		if (!conf_has(conf->voters_outgoing, conf->n_voters_outgoing, id) ||
		    conf_has(conf->voters, conf->n_voters, id))
			return false;
	}
	if (!conf_is_joint(conf))
		return !conf->auto_leave;
	return conf->n_voters != 0;
}

static void conf_remove(struct raft_conf_state *conf, uint64_t id)
{
	ids_remove(conf->voters, &conf->n_voters, id);
	ids_remove(conf->learners, &conf->n_learners, id);
	ids_remove(conf->learners_next, &conf->n_learners_next, id);
}

static int conf_add_voter(struct raft_conf_state *conf, uint64_t id)
{
	ids_remove(conf->learners, &conf->n_learners, id);
	ids_remove(conf->learners_next, &conf->n_learners_next, id);
	return ids_add(&conf->voters, &conf->n_voters, id);
}

static int conf_add_learner(struct raft_conf_state *conf, uint64_t id)
{
	conf_remove(conf, id);
	if (conf_has(conf->voters_outgoing, conf->n_voters_outgoing, id))
		return ids_add(&conf->learners_next, &conf->n_learners_next, id);
	return ids_add(&conf->learners, &conf->n_learners, id);
}

static int conf_apply_single(struct raft_conf_state *conf, const struct raft_conf_single *c)
{
	BUG_ON(conf->n_voters > RAFT_MEMBERS_MAX);
	BUG_ON(conf->n_learners_next && !conf_is_joint(conf));
	/* A change the application refused has its member zeroed. */
	if (!c->node_id)
		return 0;
	switch (c->type) {
	case RAFT_CONF_ADD_NODE:
		return conf_add_voter(conf, c->node_id);
	case RAFT_CONF_ADD_LEARNER:
		return conf_add_learner(conf, c->node_id);
	case RAFT_CONF_REMOVE_NODE:
		conf_remove(conf, c->node_id);
		return 0;
	case RAFT_CONF_UPDATE_NODE:
		return 0;
	}
	return -EINVAL;
}

static int conf_apply_all(struct raft_conf_state *conf, const struct raft_conf_change *change)
{
	int ret;

	BUG_ON(change->n_changes && !change->changes);
	for (size_t i = 0; i < change->n_changes; i++) {
		ret = conf_apply_single(conf, &change->changes[i]);
		if (ret)
			return ret;
	}
	BUG_ON(conf->n_learners_next > conf->n_voters_outgoing);
	return conf->n_voters ? 0 : -EINVAL;
}

/* Thesis 4.3: from C_old,new to C_new; staged learners become learners. */
static int conf_leave_joint(struct raft_conf_state *conf)
{
	int ret;

	if (!conf_is_joint(conf))
		return -EINVAL;
	BUG_ON(conf->n_learners_next > conf->n_voters_outgoing);
	for (size_t i = 0; i < conf->n_learners_next; i++) {
		ret = ids_add(&conf->learners, &conf->n_learners, conf->learners_next[i]);
		if (ret)
			return ret;
	}
	conf->n_learners_next = 0;
	conf->n_voters_outgoing = 0;
	conf->auto_leave = false;
	BUG_ON(conf_is_joint(conf));
	return 0;
}

/* Thesis 4.3: from C_old to C_old,new. */
static int conf_enter_joint(struct raft_conf_state *conf, const struct raft_conf_change *change)
{
	int ret;

	if (conf_is_joint(conf) || !conf->n_voters)
		return -EINVAL;
	BUG_ON(conf->n_learners_next || conf->auto_leave);
	free(conf->voters_outgoing);
	conf->voters_outgoing = NULL;
	ret = ids_copy(conf->voters, conf->n_voters, &conf->voters_outgoing,
		       &conf->n_voters_outgoing);
	if (ret)
		return ret;
	BUG_ON(conf->n_voters_outgoing != conf->n_voters);
	conf->auto_leave = change->transition != RAFT_CONF_JOINT_EXPLICIT;
	return conf_apply_all(conf, change);
}

static size_t voters_not_in(const struct raft_conf_state *a, const struct raft_conf_state *b)
{
	size_t n = 0;

	for (size_t i = 0; i < a->n_voters; i++)
		n += !conf_has(b->voters, b->n_voters, a->voters[i]);
	return n;
}

/* Thesis 4.1: at most one voter is added or removed. */
static int conf_simple(const struct raft_conf_state *before, struct raft_conf_state *conf,
		       const struct raft_conf_change *change)
{
	int ret;

	BUG_ON(before == conf);
	if (conf_is_joint(conf))
		return -EINVAL;
	ret = conf_apply_all(conf, change);
	if (!ret && voters_not_in(before, conf) + voters_not_in(conf, before) > 1)
		ret = -EINVAL;
	BUG_ON(conf->n_voters_outgoing || conf->n_learners_next);
	return ret;
}

static int conf_change_with(const struct raft_conf_state *conf,
			    const struct raft_conf_change *change, struct raft_conf_state *out,
			    bool simple)
{
	struct raft_conf_state next;
	int ret = conf_copy(conf, &next);

	if (ret)
		return ret;
	if (simple)
		ret = conf_simple(conf, &next, change);
	else if (change->n_changes || change->transition != RAFT_CONF_AUTO)
		ret = conf_enter_joint(&next, change);
	else
		ret = conf_leave_joint(&next);
	if (ret) {
		raft_conf_state_release(&next);
		return ret;
	}
	BUG_ON(conf == out || !conf_is_valid(&next));
	BUG_ON(simple && conf_is_joint(&next));
	*out = next;
	return 0;
}

int conf_change_simple(const struct raft_conf_state *conf, const struct raft_conf_change *change,
		       struct raft_conf_state *out)
{
	return conf_change_with(conf, change, out, true);
}

int conf_change_apply(const struct raft_conf_state *conf, const struct raft_conf_change *change,
		      struct raft_conf_state *out)
{
	bool simple = change->transition == RAFT_CONF_AUTO && change->n_changes == 1;

	return conf_change_with(conf, change, out, simple);
}
