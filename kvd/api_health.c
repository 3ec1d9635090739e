// SPDX-License-Identifier: Apache-2.0

/* grpc.health.v1.Health: the whole server is the only service it knows. */

#include "kvd/server.h"
#include "lib/proto/health.pb-c.h"

#define HEALTH(status) GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##status

static bool knows_service(struct grpc_call *call, struct slice message)
{
	ProtobufCMessage *unpacked;
	struct pb_arena arena;
	bool known;

	pb_arena_init(&arena);
	known = !pb_unpack(&grpc__health__v1__health_check_request__descriptor, message, &arena,
			   &unpacked) &&
		!*((Grpc__Health__V1__HealthCheckRequest *)unpacked)->service;
	pb_arena_release(&arena);
	return known;
}

static int serving(const struct server *s)
{
	return s->ready && !s->stopping ? HEALTH(SERVING) : HEALTH(NOT_SERVING);
}

static void health_check(struct grpc_call *call, struct slice message)
{
	Grpc__Health__V1__HealthCheckResponse r = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

	if (!knows_service(call, message)) {
		grpc_call_finish(call, GRPC_NOT_FOUND, "unknown service");
		return;
	}
	r.status = serving(call_server(call));
	api_reply_pb(call, &r.base);
}

/* The status now; the stream then stays open, as the protocol has it. A server that
 * stops ends the stream. */
static void health_watch(struct grpc_call *call, struct slice message)
{
	Grpc__Health__V1__HealthCheckResponse r = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
	struct chain out;

	r.status = knows_service(call, message) ? serving(call_server(call)) :
						  HEALTH(SERVICE_UNKNOWN);
	chain_init(&out);
	pb_pack_chain(&r.base, &out);
	grpc_call_send(call, &out);
}

void api_health_methods(struct method_table *table)
{
	method_add(table, &(struct grpc_method){
		.path = "/grpc.health.v1.Health/Check", .message = health_check, .unary = true });
	method_add(table, &(struct grpc_method){
		.path = "/grpc.health.v1.Health/Watch", .message = health_watch });
}
