// SPDX-License-Identifier: Apache-2.0

/* What the services share: from a call to a request and back. */

#include <errno.h>

#include "kvd/server.h"
#include "kvd/validate.h"

void method_add(struct method_table *table, const struct grpc_method *method)
{
	BUG_ON(table->n + 1 >= SERVER_METHODS_MAX);
	table->methods[table->n] = *method;
	table->methods[table->n++].user = table->server;
}

void server_header(const struct server *server, int64_t revision, struct response_header *out)
{
	struct core_status status;

	core_status(server->core, &status);
	*out = (struct response_header){ core_config(server->core)->cluster_id,
					 status.raft.id, revision, status.raft.term };
}

Etcdserverpb__ResponseHeader api_header(const struct server *server, int64_t revision)
{
	Etcdserverpb__ResponseHeader out = ETCDSERVERPB__RESPONSE_HEADER__INIT;
	struct response_header h;

	server_header(server, revision, &h);
	out.cluster_id = h.cluster_id;
	out.member_id = h.member_id;
	out.revision = h.revision;
	out.raft_term = h.raft_term;
	return out;
}

int64_t api_revision(const struct server *server)
{
	return mvcc_revision(core_state(server->core)->store);
}

void api_fail(struct grpc_call *call, const struct status *status)
{
	grpc_call_set_user(call, NULL);
	grpc_call_finish(call, status->code, status->text);
}

static void fail_unpack(struct grpc_call *call, const ProtobufCMessageDescriptor *type, int err)
{
	/* deeper than any budget of operations allows, but not than the format does */
	if (err == PB_TOO_DEEP)
		grpc_call_finish(call, status_too_many_ops.code, status_too_many_ops.text);
	else if (err == PB_MUCH_TOO_DEEP)
		grpc_call_finish(call, GRPC_INTERNAL, "grpc: error unmarshalling request: "
				 "proto: exceeded maximum recursion depth");
	else if (err == -ENOMEM)
		grpc_call_finish(call, status_too_many_requests.code,
				 status_too_many_requests.text);
	else
		grpc_call_finish(call, GRPC_INTERNAL, "grpc: error unmarshalling request: "
				 "proto: cannot parse invalid wire-format data");
}

struct request *api_request(struct grpc_call *call, enum request_op op,
			    const ProtobufCMessageDescriptor *type, struct slice message)
{
	struct request *r = request_new(op);
	ProtobufCMessage *unpacked;
	int err = r ? pb_unpack(type, message, &r->arena, &unpacked) : -ENOMEM;

	if (err) {
		request_free(r);
		fail_unpack(call, type, err);
		return NULL;
	}
	r->message = unpacked;
	return r;
}

void api_submit(struct grpc_call *call, struct request *request, struct slice body,
		void (*done)(struct request *request))
{
	struct server *s = call_server(call);

	request->done = done;
	if (!request_is_read(request->op)) {
		request->id = core_request_id(s->core);
		if (request_encode(request, body)) {
			request_free(request);
			api_fail(call, &status_too_many_requests);
			return;
		}
		if (request->payload->len > (uint64_t)s->config->max_request_bytes) {
			request_free(request);
			api_fail(call, &status_request_too_large);
			return;
		}
	}
	request->owner = call;
	grpc_call_set_user(call, request);
	core_submit(s->core, request);
}

struct grpc_call *api_waiting(struct request *request)
{
	struct grpc_call *call = request->owner;

	request->owner = NULL;
	if (!call)
		return NULL;
	grpc_call_set_user(call, NULL);
	if (!request->error)
		return call;
	grpc_call_finish(call, request->error->code, request->error->text);
	return NULL;
}

void api_closed(struct grpc_call *call)
{
	struct request *request = grpc_call_user(call);

	if (request)
		request->owner = NULL;
}

void api_reply(struct grpc_call *call, struct chain *message)
{
	if (chain_failed(message)) {
		chain_release(message);
		api_fail(call, &status_too_many_requests);
		return;
	}
	grpc_call_send(call, message);
	grpc_call_finish(call, GRPC_OK, NULL);
}

void api_reply_pb(struct grpc_call *call, const ProtobufCMessage *message)
{
	struct chain chain;

	chain_init(&chain);
	pb_pack_chain(message, &chain);
	api_reply(call, &chain);
}

void api_answer(struct request *request, const ProtobufCMessage *response,
		Etcdserverpb__ResponseHeader **header)
{
	struct grpc_call *call = api_waiting(request);
	Etcdserverpb__ResponseHeader h;

	if (call) {
		h = api_header(call_server(call), request->result.revision);
		*header = &h;
		api_reply_pb(call, response);
		*header = NULL;
	}
	request_free(request);
}

bool api_over_quota(struct grpc_call *call, int64_t cost)
{
	struct core *core = call_server(call)->core;

	if (state_has_room(core_state(core), cost))
		return false;
	core_raise_alarm(core, ETCDSERVERPB__ALARM_TYPE__NOSPACE);
	api_fail(call, &status_no_space);
	return true;
}
