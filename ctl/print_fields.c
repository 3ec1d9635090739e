// SPDX-License-Identifier: Apache-2.0
/* --write-out=fields: one field a line, "Name" : value. */
#include "ctl/print.h"

#include <inttypes.h>

static void put_i64(const struct ctl *ctl, const char *name, int64_t value)
{
	fprintf(ctl->out, "\"%s\" : %" PRId64 "\n", name, value);
}

static void put_u64(const struct ctl *ctl, const char *name, uint64_t value)
{
	fprintf(ctl->out, "\"%s\" : %" PRIu64 "\n", name, value);
}

static void put_bool(const struct ctl *ctl, const char *name, bool value)
{
	fprintf(ctl->out, "\"%s\" : %s\n", name, value ? "true" : "false");
}

/* Of a member or a cluster. */
static void put_id(const struct ctl *ctl, const char *name, uint64_t id)
{
	fprintf(ctl->out, ctl->line.opt.hex ? "\"%s\" : %" PRIx64 "\n" : "\"%s\" : %" PRIu64 "\n",
		name, id);
}

static void put_lease(const struct ctl *ctl, const char *name, int64_t lease)
{
	if (ctl->line.opt.hex)
		fprintf(ctl->out, "\"%s\" : %016" PRIx64 "\n", name, (uint64_t)lease);
	else
		put_i64(ctl, name, lease);
}

static void put_quoted(const struct ctl *ctl, const char *name, struct slice text)
{
	fprintf(ctl->out, "\"%s\" : ", name);
	text_quote(ctl->out, text);
	fputc('\n', ctl->out);
}

static void put_text(const struct ctl *ctl, const char *name, const char *text)
{
	put_quoted(ctl, name, slice_str(text));
}

static void put_header(const struct ctl *ctl, const Etcdserverpb__ResponseHeader *header)
{
	static const Etcdserverpb__ResponseHeader none = ETCDSERVERPB__RESPONSE_HEADER__INIT;

	if (!header)
		header = &none;
	put_id(ctl, "ClusterID", header->cluster_id);
	put_id(ctl, "MemberID", header->member_id);
	if (header->revision > 0)
		put_i64(ctl, "Revision", header->revision);
	put_u64(ctl, "RaftTerm", header->raft_term);
}

static void put_kv(const struct ctl *ctl, const char *prefix, const Mvccpb__KeyValue *kv)
{
	static const Mvccpb__KeyValue none = MVCCPB__KEY_VALUE__INIT;
	char name[32];

	if (!kv)
		kv = &none;
#define NAME(text) (snprintf(name, sizeof(name), "%s%s", prefix, text), name)
	put_quoted(ctl, NAME("Key"), slice_of(kv->key.data, kv->key.len));
	put_i64(ctl, NAME("CreateRevision"), kv->create_revision);
	put_i64(ctl, NAME("ModRevision"), kv->mod_revision);
	put_i64(ctl, NAME("Version"), kv->version);
	put_quoted(ctl, NAME("Value"), slice_of(kv->value.data, kv->value.len));
	put_lease(ctl, NAME("Lease"), kv->lease);
#undef NAME
}

static void fields_put(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__PutResponse *response = answer;

	put_header(ctl, response->header);
	if (response->prev_kv)
		put_kv(ctl, "Prev", response->prev_kv);
}

static void fields_get(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__RangeResponse *response = answer;

	put_header(ctl, response->header);
	for (size_t i = 0; i < response->n_kvs; i++)
		put_kv(ctl, "", response->kvs[i]);
	put_bool(ctl, "More", response->more);
	put_i64(ctl, "Count", response->count);
}

static void fields_del(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__DeleteRangeResponse *response = answer;

	put_header(ctl, response->header);
	put_i64(ctl, "Deleted", response->deleted);
	for (size_t i = 0; i < response->n_prev_kvs; i++)
		put_kv(ctl, "Prev", response->prev_kvs[i]);
}

static void fields_txn(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__TxnResponse *response = answer;

	put_header(ctl, response->header);
	put_bool(ctl, "Succeeded", response->succeeded);
	for (size_t i = 0; i < response->n_responses; i++) {
		const Etcdserverpb__ResponseOp *op = response->responses[i];

		switch (op->response_case) {
		case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE:
			fields_get(ctl, op->response_range);
			break;
		case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_PUT:
			fields_put(ctl, op->response_put);
			break;
		case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE:
			fields_del(ctl, op->response_delete_range);
			break;
		default:
			put_text(ctl, "Unknown", "unexpected response");
			break;
		}
	}
}

static void fields_watch(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__WatchResponse *response = answer;

	put_header(ctl, response->header);
	for (size_t i = 0; i < response->n_events; i++) {
		const Mvccpb__Event *event = response->events[i];

		fprintf(ctl->out, "\"Type\" : %s\n",
			event->type == MVCCPB__EVENT__EVENT_TYPE__DELETE ? "DELETE" : "PUT");
		if (event->prev_kv)
			put_kv(ctl, "Prev", event->prev_kv);
		put_kv(ctl, "", event->kv);
	}
}

static void fields_grant(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__LeaseGrantResponse *response = answer;

	put_header(ctl, response->header);
	put_lease(ctl, "ID", response->id);
	put_i64(ctl, "TTL", response->ttl);
}

static void fields_revoke(struct ctl *ctl, const void *answer)
{
	const struct show_revoke *revoke = answer;

	put_header(ctl, revoke->response->header);
}

static void fields_keep_alive(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__LeaseKeepAliveResponse *response = answer;

	put_header(ctl, response->header);
	put_lease(ctl, "ID", response->id);
	put_i64(ctl, "TTL", response->ttl);
}

static void fields_time_to_live(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__LeaseTimeToLiveResponse *response = answer;

	put_header(ctl, response->header);
	put_lease(ctl, "ID", response->id);
	put_i64(ctl, "TTL", response->ttl);
	put_i64(ctl, "GrantedTTL", response->grantedttl);
	for (size_t i = 0; i < response->n_keys; i++)
		put_quoted(ctl, "Key", slice_of(response->keys[i].data, response->keys[i].len));
}

static void fields_leases(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__LeaseLeasesResponse *response = answer;

	put_header(ctl, response->header);
	for (size_t i = 0; i < response->n_leases; i++)
		put_lease(ctl, "ID", response->leases[i]->id);
}

static void fields_members(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__MemberListResponse *response = answer;

	put_header(ctl, response->header);
	for (size_t i = 0; i < response->n_members; i++) {
		const Etcdserverpb__Member *member = response->members[i];

		put_id(ctl, "ID", member->id);
		put_text(ctl, "Name", member->name);
		for (size_t j = 0; j < member->n_peerurls; j++)
			put_text(ctl, "PeerURL", member->peerurls[j]);
		for (size_t j = 0; j < member->n_clienturls; j++)
			put_text(ctl, "ClientURL", member->clienturls[j]);
		put_bool(ctl, "IsLearner", member->islearner);
		fputc('\n', ctl->out);
	}
}

static void put_status(const struct ctl *ctl, const struct show_status *status)
{
	const Etcdserverpb__StatusResponse *s = status->response;

	put_header(ctl, s->header);
	put_text(ctl, "Version", s->version);
	put_text(ctl, "StorageVersion", s->storageversion);
	put_i64(ctl, "DBSize", s->dbsize);
	put_i64(ctl, "DBSizeInUse", s->dbsizeinuse);
	put_i64(ctl, "DBSizeQuota", s->dbsizequota);
	put_u64(ctl, "Leader", s->leader);
	put_bool(ctl, "IsLearner", s->islearner);
	put_u64(ctl, "RaftIndex", s->raftindex);
	put_u64(ctl, "RaftTerm", s->raftterm);
	put_u64(ctl, "RaftAppliedIndex", s->raftappliedindex);
	fputs("\"Errors\" : [", ctl->out);
	for (size_t i = 0; i < s->n_errors; i++)
		fprintf(ctl->out, "%s%s", i ? " " : "", s->errors[i]);
	fputs("]\n", ctl->out);
	put_text(ctl, "Endpoint", status->endpoint);
	put_text(ctl, "DowngradeTargetVersion",
		 s->downgradeinfo ? s->downgradeinfo->targetversion : "");
	put_bool(ctl, "DowngradeEnabled", s->downgradeinfo && s->downgradeinfo->enabled);
	fputc('\n', ctl->out);
}

static void fields_status(struct ctl *ctl, const void *answer)
{
	const struct show_statuses *statuses = answer;

	for (size_t i = 0; i < statuses->n; i++)
		put_status(ctl, &statuses->at[i]);
}

static void fields_health(struct ctl *ctl, const void *answer)
{
	const struct show_healths *healths = answer;

	for (size_t i = 0; i < healths->n; i++) {
		const struct show_health *health = &healths->at[i];

		put_text(ctl, "Endpoint", health->endpoint);
		put_bool(ctl, "Health", health->healthy);
		fputs("\"Took\" : ", ctl->out);
		text_duration(ctl->out, health->took);
		fprintf(ctl->out, "\n\"Error\" : %s\n\n", health->error);
	}
}

static void fields_hashes(struct ctl *ctl, const void *answer)
{
	const struct show_hashes *hashes = answer;

	for (size_t i = 0; i < hashes->n; i++) {
		const Etcdserverpb__HashKVResponse *response = hashes->at[i].response;

		put_header(ctl, response->header);
		put_text(ctl, "Endpoint", hashes->at[i].endpoint);
		put_u64(ctl, "Hash", response->hash);
		put_i64(ctl, "HashRevision", response->hash_revision);
		fputc('\n', ctl->out);
	}
}

static void fields_alarms(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__AlarmResponse *response = answer;

	put_header(ctl, response->header);
	for (size_t i = 0; i < response->n_alarms; i++) {
		put_id(ctl, "MemberID", response->alarms[i]->memberid);
		fprintf(ctl->out, "\"AlarmType\" : %s\n\n",
			print_alarm_name(response->alarms[i]->alarm));
	}
}

const struct printer printer_fields = {
	.name = "fields",
	.show = {
		[SHOW_PUT] = fields_put,
		[SHOW_GET] = fields_get,
		[SHOW_DEL] = fields_del,
		[SHOW_TXN] = fields_txn,
		[SHOW_WATCH] = fields_watch,
		[SHOW_GRANT] = fields_grant,
		[SHOW_REVOKE] = fields_revoke,
		[SHOW_KEEP_ALIVE] = fields_keep_alive,
		[SHOW_TIME_TO_LIVE] = fields_time_to_live,
		[SHOW_LEASES] = fields_leases,
		[SHOW_MEMBERS] = fields_members,
		[SHOW_STATUS] = fields_status,
		[SHOW_HEALTH] = fields_health,
		[SHOW_HASHES] = fields_hashes,
		[SHOW_ALARMS] = fields_alarms,
	},
};
