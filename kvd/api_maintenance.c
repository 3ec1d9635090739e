// SPDX-License-Identifier: Apache-2.0

/* etcdserverpb.Maintenance: Status, Alarm, Defragment, Hash and HashKV. */

#include <stdlib.h>

#include "kvd/server.h"

#define STORAGE_VERSION "3.7.0"

/* As protobuf's text form has it; etcd's clients print it. */
static char *alarm_text(const struct alarm *alarm)
{
	char *out;
	const char *name = alarm->type == ETCDSERVERPB__ALARM_TYPE__NOSPACE ? "NOSPACE" :
			   alarm->type == ETCDSERVERPB__ALARM_TYPE__CORRUPT ? "CORRUPT" : "NONE";

	return asprintf(&out, "memberID:%llu  alarm:%s", (unsigned long long)alarm->member,
			name) < 0 ? NULL : out;
}

static size_t fill_errors(const struct state *state, bool has_leader, char **errors)
{
	size_t n = 0;

	if (!has_leader)
		errors[n++] = strdup(status_no_leader.text);
	for (size_t i = 0; i < state->n_alarms; i++)
		errors[n++] = alarm_text(&state->alarms[i]);
	while (n && !errors[n - 1])	/* memory was short */
		n--;
	return n;
}

static void maintenance_status(struct grpc_call *call, struct slice message)
{
	Etcdserverpb__StatusResponse r = ETCDSERVERPB__STATUS_RESPONSE__INIT;
	Etcdserverpb__DowngradeInfo downgrade = ETCDSERVERPB__DOWNGRADE_INFO__INIT;
	struct server *s = call_server(call);
	const struct state *state = core_state(s->core);
	Etcdserverpb__ResponseHeader header = api_header(s, api_revision(s));
	char *errors[ALARMS_MAX + 1] = { NULL };
	struct core_status status;

	core_status(s->core, &status);
	r.header = &header;
	r.version = (char *)API_VERSION;
	r.storageversion = (char *)STORAGE_VERSION;
	r.leader = status.raft.leader;
	r.raftindex = status.raft.commit;
	r.raftterm = status.raft.term;
	r.raftappliedindex = status.applied;
	r.dbsize = state->db_size;
	r.dbsizeinuse = state->db_size_in_use;
	r.dbsizequota = state->quota;
	r.downgradeinfo = &downgrade;
	r.errors = errors;
	r.n_errors = fill_errors(state, status.raft.leader, errors);
	api_reply_pb(call, &r.base);
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		free(errors[i]);
}

/* --- alarms --------------------------------------------------------------- */

static bool alarm_wanted(const struct request *request, const struct alarm *alarm)
{
	const Etcdserverpb__AlarmRequest *r = (const void *)request->message;

	return r->alarm == ETCDSERVERPB__ALARM_TYPE__NONE || (int)r->alarm == alarm->type;
}

static void reply_alarm(struct request *request)
{
	const Etcdserverpb__AlarmRequest *r = (const void *)request->message;
	Etcdserverpb__AlarmResponse response = ETCDSERVERPB__ALARM_RESPONSE__INIT;
	Etcdserverpb__AlarmMember members[ALARMS_MAX], *pointers[ALARMS_MAX];
	struct grpc_call *call = api_waiting(request);
	Etcdserverpb__ResponseHeader header;
	const struct state *state;

	for (size_t i = 0; i < ALARMS_MAX; i++) {
		members[i] = (Etcdserverpb__AlarmMember)ETCDSERVERPB__ALARM_MEMBER__INIT;
		pointers[i] = &members[i];
	}
	if (call) {
		state = core_state(call_server(call)->core);
		header = api_header(call_server(call), api_revision(call_server(call)));
		response.header = &header;
		response.alarms = pointers;
		if (r->action != ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__GET) {
			members[0].memberid = request->alarm_member;
			members[0].alarm = r->alarm;
			response.n_alarms = request->alarm_member != 0;
		}
		for (size_t i = 0; !r->action && i < state->n_alarms; i++) {
			if (!alarm_wanted(request, &state->alarms[i]))
				continue;
			members[response.n_alarms].memberid = state->alarms[i].member;
			members[response.n_alarms++].alarm =
				(Etcdserverpb__AlarmType)state->alarms[i].type;
		}
		api_reply_pb(call, &response.base);
	}
	request_free(request);
}

static void maintenance_alarm(struct grpc_call *call, struct slice message)
{
	struct request *r = api_request(call, REQUEST_ALARM,
					&etcdserverpb__alarm_request__descriptor, message);

	if (r)
		api_submit(call, r, message, reply_alarm);
}

/* --- hashes --------------------------------------------------------------- */

static void reply_hash_kv(struct request *request)
{
	Etcdserverpb__HashKVResponse response = ETCDSERVERPB__HASH_KVRESPONSE__INIT;

	response.hash = request->hash.hash;
	response.compact_revision = request->hash.compact_revision;
	response.hash_revision = request->hash.revision;
	api_answer(request, &response.base, &response.header);
}

static void maintenance_hash_kv(struct grpc_call *call, struct slice message)
{
	struct request *r = api_request(call, REQUEST_HASH_KV,
					&etcdserverpb__hash_kvrequest__descriptor, message);

	if (!r)
		return;
	r->hash.revision = ((const Etcdserverpb__HashKVRequest *)r->message)->revision;
	api_submit(call, r, message, reply_hash_kv);
}

static void reply_hash(struct request *request)
{
	Etcdserverpb__HashResponse response = ETCDSERVERPB__HASH_RESPONSE__INIT;

	response.hash = request->hash.hash;
	api_answer(request, &response.base, &response.header);
}

static void maintenance_hash(struct grpc_call *call, struct slice message)
{
	struct request *r = api_request(call, REQUEST_HASH,
					&etcdserverpb__hash_request__descriptor, message);

	if (r)
		api_submit(call, r, message, reply_hash);
}

/* --- space ----------------------------------------------------------------- */

static void reply_defragment(struct request *request)
{
	Etcdserverpb__DefragmentResponse response = ETCDSERVERPB__DEFRAGMENT_RESPONSE__INIT;
	struct grpc_call *call = api_waiting(request);

	if (call) {
		log_info("finished defragment",
			 LOG_I64("db-size", core_state(call_server(call)->core)->db_size));
		api_reply_pb(call, &response.base);
	}
	request_free(request);
}

static void maintenance_defragment(struct grpc_call *call, struct slice message)
{
	struct request *r = api_request(call, REQUEST_DEFRAGMENT,
					&etcdserverpb__defragment_request__descriptor, message);

	if (!r)
		return;
	log_info("starting defragment",
		 LOG_I64("db-size", core_state(call_server(call)->core)->db_size));
	api_submit(call, r, message, reply_defragment);
}

void api_maintenance_methods(struct method_table *table)
{
	method_add(table, &(struct grpc_method){
		.path = "/etcdserverpb.Maintenance/Status", .message = maintenance_status,
		.closed = api_closed, .unary = true });
	method_add(table, &(struct grpc_method){
		.path = "/etcdserverpb.Maintenance/Alarm", .message = maintenance_alarm,
		.closed = api_closed, .unary = true });
	method_add(table, &(struct grpc_method){
		.path = "/etcdserverpb.Maintenance/HashKV", .message = maintenance_hash_kv,
		.closed = api_closed, .unary = true });
	method_add(table, &(struct grpc_method){
		.path = "/etcdserverpb.Maintenance/Defragment", .message = maintenance_defragment,
		.closed = api_closed, .unary = true });
	method_add(table, &(struct grpc_method){
		.path = "/etcdserverpb.Maintenance/Hash", .message = maintenance_hash,
		.closed = api_closed, .unary = true });
}
