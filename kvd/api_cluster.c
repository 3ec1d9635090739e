// SPDX-License-Identifier: Apache-2.0

/* etcdserverpb.Cluster, as far as one member needs it: who is there. */

#include <stdlib.h>

#include "kvd/server.h"

static void fill_member(Etcdserverpb__Member *out, const struct member *m)
{
	*out = (Etcdserverpb__Member)ETCDSERVERPB__MEMBER__INIT;
	out->id = m->id;
	out->name = m->name;
	out->peerurls = m->peer_urls;
	out->n_peerurls = m->n_peer_urls;
	out->clienturls = m->client_urls;
	out->n_clienturls = m->n_client_urls;
	out->islearner = m->learner;
}

static void reply_list(struct request *request)
{
	Etcdserverpb__MemberListResponse response = ETCDSERVERPB__MEMBER_LIST_RESPONSE__INIT;
	Etcdserverpb__Member members[MEMBERS_MAX], *pointers[MEMBERS_MAX];
	struct grpc_call *call = api_waiting(request);
	Etcdserverpb__ResponseHeader header;
	const struct cluster *cluster;

	if (call) {
		cluster = &core_state(call_server(call)->core)->cluster;
		/* the cluster's headers carry no revision */
		header = api_header(call_server(call), 0);
		for (size_t i = 0; i < cluster->n_members; i++) {
			fill_member(&members[i], &cluster->members[i]);
			pointers[i] = &members[i];
		}
		response.header = &header;
		response.members = pointers;
		response.n_members = cluster->n_members;
		api_reply_pb(call, &response.base);
	}
	request_free(request);
}

static void member_list(struct grpc_call *call, struct slice message)
{
	struct request *r = api_request(call, REQUEST_BARRIER,
				&etcdserverpb__member_list_request__descriptor, message);

	if (!r)
		return;
	r->serializable = !((const Etcdserverpb__MemberListRequest *)r->message)->linearizable;
	api_submit(call, r, message, reply_list);
}

void api_cluster_methods(struct method_table *table)
{
	method_add(table, &(struct grpc_method){
		.path = "/etcdserverpb.Cluster/MemberList", .message = member_list,
		.closed = api_closed, .unary = true });
}
