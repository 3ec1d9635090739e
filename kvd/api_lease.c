// SPDX-License-Identifier: Apache-2.0

/* etcdserverpb.Lease */

#include <stdlib.h>

#include "include/wire.h"
#include "kvd/server.h"
#include "lib/proto/rpc.pb-c.h"

/* --- grant and revoke ----------------------------------------------------- */

static void reply_grant(struct request *request)
{
	Etcdserverpb__LeaseGrantResponse response = ETCDSERVERPB__LEASE_GRANT_RESPONSE__INIT;

	response.id = request->lease_id;
	response.ttl = request->lease_ttl;
	api_answer(request, &response.base, &response.header);
}

/* No id given: one is chosen, a positive number. */
static struct blob *choose_id(struct server *server, struct request *request)
{
	Etcdserverpb__LeaseGrantRequest *grant = (void *)request->message;

	while (!grant->id)
		grant->id = (int64_t)(hash_u64(core_request_id(server->core)) >> 1);
	return pb_pack_blob(&grant->base);
}

static void lease_grant(struct grpc_call *call, struct slice message)
{
	struct request *r = api_request(call, REQUEST_LEASE_GRANT,
					&etcdserverpb__lease_grant_request__descriptor, message);
	struct blob *body;

	if (!r)
		return;
	if (api_over_quota(call, 64)) {
		request_free(r);
		return;
	}
	body = choose_id(call_server(call), r);
	if (!body) {
		request_free(r);
		api_fail(call, &status_too_many_requests);
		return;
	}
	api_submit(call, r, blob_slice(body), reply_grant);
	blob_put(body);
}

static void reply_revoke(struct request *request)
{
	Etcdserverpb__LeaseRevokeResponse response = ETCDSERVERPB__LEASE_REVOKE_RESPONSE__INIT;

	api_answer(request, &response.base, &response.header);
}

static void lease_revoke(struct grpc_call *call, struct slice message)
{
	struct request *r = api_request(call, REQUEST_LEASE_REVOKE,
					&etcdserverpb__lease_revoke_request__descriptor, message);

	if (r)
		api_submit(call, r, message, reply_revoke);
}

/* --- what is left, and which there are ------------------------------------ */

static void reply_ttl(struct request *request)
{
	struct grpc_call *call = api_waiting(request);
	Etcdserverpb__LeaseTimeToLiveResponse response =
		ETCDSERVERPB__LEASE_TIME_TO_LIVE_RESPONSE__INIT;
	Etcdserverpb__ResponseHeader header;
	ProtobufCBinaryData *keys = NULL;

	if (call) {
		header = api_header(call_server(call), api_revision(call_server(call)));
		response.header = &header;
		response.id = ((const Etcdserverpb__LeaseTimeToLiveRequest *)request->message)->id;
		response.ttl = request->lease_ttl;
		response.grantedttl = request->lease_granted_ttl;
		keys = calloc(request->n_lease_keys + 1, sizeof(*keys));
		for (size_t i = 0; keys && i < request->n_lease_keys; i++)
			keys[i] = (ProtobufCBinaryData){ request->lease_keys[i].len,
						(uint8_t *)request->lease_keys[i].data };
		response.keys = keys;
		response.n_keys = keys ? request->n_lease_keys : 0;
		if (keys)
			api_reply_pb(call, &response.base);
		else
			api_fail(call, &status_too_many_requests);
		free(keys);
	}
	request_free(request);
}

static void lease_time_to_live(struct grpc_call *call, struct slice message)
{
	struct request *r = api_request(call, REQUEST_LEASE_TTL,
				&etcdserverpb__lease_time_to_live_request__descriptor, message);

	if (r)
		api_submit(call, r, message, reply_ttl);
}

static void add_u64(struct chain *out, uint32_t field, uint64_t v)
{
	uint8_t *p = chain_reserve(out, 2 * WIRE_VARINT_MAX);

	if (p)
		chain_commit(out, (size_t)(wire_put_u64_field(p, field, v) - p));
}

static void lease_leases(struct grpc_call *call, struct slice message)
{
	struct server *s = call_server(call);
	struct response_header header;
	struct lease **leases;
	struct chain out;
	uint8_t *p;
	size_t n;

	if (lessor_all(&core_state(s->core)->lessor, &leases, &n)) {
		api_fail(call, &status_too_many_requests);
		return;
	}
	chain_init(&out);
	server_header(s, api_revision(s), &header);
	respond_header(&header, &out);
	for (size_t i = 0; i < n; i++) {
		p = chain_reserve(&out, 2 * WIRE_VARINT_MAX);
		if (!p)
			break;
		chain_commit(&out, (size_t)(wire_put_len_field(p, 2,
				wire_u64_field_size(1, (uint64_t)leases[i]->id)) - p));
		add_u64(&out, 1, (uint64_t)leases[i]->id);
	}
	free(leases);
	api_reply(call, &out);
}

/* --- keep-alive ----------------------------------------------------------- */

struct keepalive {
	struct grpc_call *call;		/* NULL: gone */
	size_t waiting;
	bool half_closed;
};

static void keepalive_put(struct keepalive *ka)
{
	if (!ka->waiting && !ka->call)
		free(ka);
}

static void keepalive_finish(struct keepalive *ka, const struct status *error)
{
	struct grpc_call *call = ka->call;

	ka->call = NULL;
	grpc_call_set_user(call, NULL);
	grpc_call_finish(call, error ? error->code : GRPC_OK, error ? error->text : NULL);
}

static void reply_keepalive(struct request *request)
{
	struct keepalive *ka = request->owner;
	Etcdserverpb__LeaseKeepAliveResponse response =
		ETCDSERVERPB__LEASE_KEEP_ALIVE_RESPONSE__INIT;
	Etcdserverpb__ResponseHeader header;
	struct chain out;

	ka->waiting--;
	if (ka->call && request->error) {
		keepalive_finish(ka, request->error);
	} else if (ka->call) {
		/* the revision from before the renewal: a revoke is then never older */
		header = api_header(call_server(ka->call), request->result.revision);
		response.header = &header;
		response.id = request->lease_id;
		response.ttl = request->lease_ttl;
		chain_init(&out);
		pb_pack_chain(&response.base, &out);
		grpc_call_send(ka->call, &out);
		if (ka->half_closed && !ka->waiting)
			keepalive_finish(ka, NULL);
	}
	keepalive_put(ka);
	request_free(request);
}

static void keepalive_open(struct grpc_call *call)
{
	struct keepalive *ka = calloc(1, sizeof(*ka));

	if (!ka) {
		api_fail(call, &status_too_many_requests);
		return;
	}
	ka->call = call;
	grpc_call_set_user(call, ka);
}

static void keepalive_message(struct grpc_call *call, struct slice message)
{
	struct keepalive *ka = grpc_call_user(call);
	struct server *s = call_server(call);
	struct request *r;

	if (!ka)
		return;
	r = api_request(call, REQUEST_LEASE_RENEW,
			&etcdserverpb__lease_keep_alive_request__descriptor, message);
	if (!r)
		return;
	r->lease_id = ((const Etcdserverpb__LeaseKeepAliveRequest *)r->message)->id;
	r->result.revision = api_revision(s);
	r->owner = ka;
	r->done = reply_keepalive;
	ka->waiting++;
	core_submit(s->core, r);
}

static void keepalive_half_close(struct grpc_call *call)
{
	struct keepalive *ka = grpc_call_user(call);

	if (!ka)
		return;
	ka->half_closed = true;
	if (ka->waiting)
		return;
	keepalive_finish(ka, NULL);
	keepalive_put(ka);
}

static void keepalive_closed(struct grpc_call *call)
{
	struct keepalive *ka = grpc_call_user(call);

	if (!ka)
		return;
	ka->call = NULL;
	keepalive_put(ka);
}

void api_lease_methods(struct method_table *table)
{
	static const struct grpc_method methods[] = {
		{ .path = "/etcdserverpb.Lease/LeaseGrant", .message = lease_grant },
		{ .path = "/etcdserverpb.Lease/LeaseRevoke", .message = lease_revoke },
		{ .path = "/etcdserverpb.Lease/LeaseTimeToLive", .message = lease_time_to_live },
		{ .path = "/etcdserverpb.Lease/LeaseLeases", .message = lease_leases },
	};
	struct grpc_method m;

	for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
		m = methods[i];
		m.unary = true;
		m.closed = api_closed;
		method_add(table, &m);
	}
	method_add(table, &(struct grpc_method){
		.path = "/etcdserverpb.Lease/LeaseKeepAlive", .open = keepalive_open,
		.message = keepalive_message, .half_close = keepalive_half_close,
		.closed = keepalive_closed });
}
