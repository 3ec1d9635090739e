// SPDX-License-Identifier: Apache-2.0

/* Proposals: from a request to a log entry, and the core's own. */

#include <stdlib.h>

#include "kvd/core_i.h"

uint64_t core_request_id(struct core *core)
{
	if (!++core->next_id)
		core->next_id = 1;
	return core->next_id;
}

struct request *core_find_proposal(struct core *core, uint64_t id)
{
	struct request *r;

	htable_for_hash(r, &core->by_id, id, struct request, by_id)
		if (r->id == id)
			return r;
	return NULL;
}

void core_forget(struct core *core, struct request *request)
{
	if (!request->in_table)
		return;
	htable_delete(&core->by_id, &request->by_id);
	request->in_table = false;
	core->n_pending--;
}

static void submit_proposal(struct core *core, struct request *request)
{
	BUG_ON(!request->payload || !request->id);
	if (core->lagging || htable_insert(&core->by_id, &request->by_id, request->id)) {
		core_finish(core, request, &status_too_many_requests);
		return;
	}
	request->in_table = true;
	core->n_pending++;
	list_add_tail(&core->proposals, &request->node);
}

void core_submit(struct core *core, struct request *request)
{
	uint64_t election = core->config.election_ticks * core->config.tick;

	request->began = core_clock(core);
	if (!request->deadline)
		request->deadline = core->now + 5000000000ull + 2 * election;
	if (!request_is_read(request->op))
		submit_proposal(core, request);
	else if (request->op == REQUEST_HASH_KV || request->op == REQUEST_HASH)
		core_submit_hash(core, request);
	else if (request->op == REQUEST_DEFRAGMENT)
		core_submit_defragment(core, request);
	else if (request->serializable)
		list_add_tail(&core->reads_confirmed, &request->node);
	else
		list_add_tail(&core->reads_new, &request->node);
}

/* Everything that came in since the last turn, as one batch. */
int core_propose(struct core *core)
{
	struct raft_event event = { .type = RAFT_PROPOSE };
	struct raft_entry *entries;
	struct request *r;
	size_t n = 0;
	int err;

	if (list_empty(&core->proposals))
		return 0;
	list_for_each(r, &core->proposals, node)
		n++;
	entries = calloc(n, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	n = 0;
	list_for_each(r, &core->proposals, node)
		entries[n++] = (struct raft_entry){ .payload = r->payload };
	event.entries = entries;
	event.n_entries = n;
	/* taken before the step: what it commits is applied later in the turn */
	err = core_step(core, &event);
	free(entries);
	/* no leader, or too much under way: they wait for the next turn or their deadline */
	if (err)
		return MIN(err, 0);
	list_for_each(r, &core->proposals, node) {
		blob_put(r->payload);
		r->payload = NULL;
	}
	list_splice_tail(&core->proposed, &core->proposals);
	return 0;
}

/* How many were. */
static size_t expire_list(struct core *core, struct list *list)
{
	struct request *r, *next;
	size_t n = 0;

	list_for_each_safe(r, next, list, node) {
		/* the entry being applied waits for values with it */
		if (r->deadline > core->now ||
		    (core->apply_fetching && core->apply_job.fetch == &r->fetch))
			continue;
		list_del(&r->node);
		core->failed += r->in_table;
		core_forget(core, r);
		core_finish(core, r, &status_timeout);
		n++;
	}
	return n;
}

void core_expire(struct core *core)
{
	struct figures *f = &core->state.figures;

	expire_list(core, &core->proposals);
	expire_list(core, &core->proposed);
	f->failed_reads += expire_list(core, &core->reads_new);
	f->failed_reads += expire_list(core, &core->reads_waiting);
}

/* --- the core's own proposals --------------------------------------------- */

int core_propose_own(struct core *core, enum request_op op, const ProtobufCMessage *message)
{
	struct request *r = request_new(op);
	struct blob *body = pb_pack_blob(message), *payload;
	int err = -ENOMEM;

	if (r && body) {
		r->id = core_request_id(core);
		err = request_encode(r, blob_slice(body));
	}
	/* decoded again, so that it holds its own message */
	if (!err) {
		payload = blob_get(r->payload);
		err = request_decode(r, blob_slice(payload));
		blob_put(payload);
	}
	blob_put(body);
	if (err) {
		request_free(r);
		return err;
	}
	r->done = request_free;
	core_submit(core, r);
	return 0;
}

void core_raise_alarm(struct core *core, int type)
{
	Etcdserverpb__AlarmRequest alarm = ETCDSERVERPB__ALARM_REQUEST__INIT;

	BUG_ON(type < 0 || type >= ALARM_TYPES);
	if (core->now < core->next_alarm[type] || state_alarm_set(&core->state, type))
		return;
	core->next_alarm[type] = core->now + ALARM_PERIOD;
	alarm.memberid = core->config.member_id;
	alarm.action = ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE;
	alarm.alarm = (Etcdserverpb__AlarmType)type;
	/* where memory is short who asked will ask again */
	core_propose_own(core, REQUEST_ALARM, &alarm.base);
}

int core_look_at_leases(struct core *core)
{
	Etcdserverpb__LeaseRevokeRequest revoke = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
	struct lease *lease;
	int err = 0;

	if (core->now < core->next_revoke || core->status.role != RAFT_LEADER)
		return 0;
	core->next_revoke = core->now + REVOKE_PERIOD;
	for (size_t i = 0; !err && i < REVOKE_MAX; i++) {
		lease = lessor_expired(&core->state.lessor, core->now, REVOKE_RETRY);
		if (!lease)
			break;
		revoke.id = lease->id;
		err = core_propose_own(core, REQUEST_LEASE_REVOKE, &revoke.base);
	}
	return err;
}

/*
 * What this member proposed as the leader and could not hand to raft: the next leader
 * begins the time of every lease anew, and may renew it. (etcd asks whether it still leads
 * before it revokes: its pull request 16822.)
 */
void core_drop_revokes(struct core *core)
{
	struct request *r, *next;

	list_for_each_safe(r, next, &core->proposals, node) {
		if (r->op != REQUEST_LEASE_REVOKE || r->done != request_free)
			continue;
		list_del(&r->node);
		core_forget(core, r);
		core_finish(core, r, &status_no_leader);
	}
}

static bool same_strings(char *const *a, size_t n, char *const *b, size_t m)
{
	if (n != m)
		return false;
	for (size_t i = 0; i < n; i++)
		if (strcmp(a[i], b[i]))
			return false;
	return true;
}

static int propose_attributes(struct core *core)
{
	Membershippb__ClusterMemberAttrSetRequest set =
		MEMBERSHIPPB__CLUSTER_MEMBER_ATTR_SET_REQUEST__INIT;
	Membershippb__Attributes attributes = MEMBERSHIPPB__ATTRIBUTES__INIT;

	attributes.name = (char *)core->config.name;
	attributes.client_urls = (char **)core->config.client_urls;
	attributes.n_client_urls = core->config.n_client_urls;
	set.member_id = core->config.member_id;
	set.member_attributes = &attributes;
	return core_propose_own(core, REQUEST_MEMBER_ATTR, &set.base);
}

static int propose_version(struct core *core)
{
	Membershippb__ClusterVersionSetRequest set =
		MEMBERSHIPPB__CLUSTER_VERSION_SET_REQUEST__INIT;

	set.ver = (char *)CLUSTER_VERSION;
	return core_propose_own(core, REQUEST_CLUSTER_VERSION, &set.base);
}

static bool is_published(const struct core *core, const struct member *self)
{
	const struct core_config *c = &core->config;

	return !strcmp(self->name, c->name) &&
	       same_strings(self->client_urls, self->n_client_urls, c->client_urls,
			    c->n_client_urls);
}

/* Tells the cluster this member's name and client URLs where it does not know them;
 * the leader also settles the cluster's version. */
int core_publish(struct core *core)
{
	bool version = core->state.cluster.version[0];
	struct member *self;
	int err = 0;

	if (core->published || !core->status.leader)
		return 0;
	self = cluster_find(&core->state.cluster, core->config.member_id);
	if (!self)
		return 0;
	core->published = version && is_published(core, self) &&
			  core->applied >= core->status.commit;
	if (core->published || core->now < core->next_publish)
		return 0;
	core->next_publish = core->now + PUBLISH_PERIOD;
	if (!version && core->status.role == RAFT_LEADER)
		err = propose_version(core);
	if (!err && !is_published(core, self))
		err = propose_attributes(core);
	return err;
}
