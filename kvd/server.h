/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A running member: the loop, the listeners, the core and the disks, and the services
 * between them. Everything here belongs to the loop's thread.
 */
#ifndef KVD_SERVER_H
#define KVD_SERVER_H

#include "kvd/compactor.h"
#include "kvd/core.h"
#include "kvd/disk.h"
#include "kvd/options.h"
#include "kvd/respond.h"
#include "lib/grpc.h"
#include "lib/proto/rpc.pb-c.h"

struct server {
	uv_loop_t loop;
	const struct kvd_config *config;
	struct disk disk;
	struct core *core;
	struct grpc_server *clients, *peers;
	struct grpc_method *methods;
	uv_timer_t tick;
	uv_check_t check;
	uv_idle_t idle;			/* runs while the core has more to do at once */
	uv_signal_t signals[2];
	struct compactor compactor;
	struct list watch_streams;	/* of api_watch.c */
	size_t n_closing;
	bool ready, stopping;
};

/* Runs until SIGTERM or SIGINT. The process's exit code. */
int server_run(const struct kvd_config *config);

/* The store's revision now. */
int64_t api_revision(const struct server *server);
/* The header as a message, for responses that protobuf-c packs. */
Etcdserverpb__ResponseHeader api_header(const struct server *server, int64_t revision);
void server_header(const struct server *server, int64_t revision, struct response_header *out);

/* --- services: each adds its methods to a table --------------------------- */

#define SERVER_METHODS_MAX 48

struct method_table {
	struct grpc_method *methods;
	size_t n;
	struct server *server;
};

void method_add(struct method_table *table, const struct grpc_method *method);
void api_kv_methods(struct method_table *table);
void api_watch_methods(struct method_table *table);
void api_lease_methods(struct method_table *table);
void api_cluster_methods(struct method_table *table);
void api_maintenance_methods(struct method_table *table);
void api_health_methods(struct method_table *table);

/* After each turn: sends what watchers are waiting for. */
void api_watch_deliver(struct server *server);
/* Progress notifications that are due. */
void api_watch_tick(struct server *server, uint64_t now);

/* Ends every stream: watches have no end of their own to wait for. */
void api_watch_stop(struct server *server);

/* http.c */
void http_clients(void *user, const struct http_request *request, struct http_response *response);
void http_peers(void *user, const struct http_request *request, struct http_response *response);
/* metrics.c */
void metrics_write(const struct server *server, struct chain *out);

/* --- what the services share ---------------------------------------------- */

static inline struct server *call_server(struct grpc_call *call)
{
	return grpc_call_method(call)->user;
}

/* Decodes a request message into a new request; on failure the call is finished and
 * NULL returned. */
struct request *api_request(struct grpc_call *call, enum request_op op,
			    const ProtobufCMessageDescriptor *type, struct slice message);
/* Gives the call to the request, encodes it for the log where it goes there, and
 * submits. @body: the message's bytes, as they came. @done frees the request. */
void api_submit(struct grpc_call *call, struct request *request, struct slice body,
		void (*done)(struct request *request));
/* The call that waits for @request, which it then no longer does; NULL: it is gone.
 * Where the request failed the call is finished with its error, and NULL returned. */
struct grpc_call *api_waiting(struct request *request);
/* For grpc_method.closed: nobody waits for the request any more. */
void api_closed(struct grpc_call *call);
void api_fail(struct grpc_call *call, const struct status *status);
/* Sends the one message of a unary call and ends it. */
void api_reply(struct grpc_call *call, struct chain *message);
void api_reply_pb(struct grpc_call *call, const ProtobufCMessage *message);
/* Both for a request that is done, which it frees: with the revision of its result in
 * @header, which is the response's. */
void api_answer(struct request *request, const ProtobufCMessage *response,
		Etcdserverpb__ResponseHeader **header);
/* Raises the NOSPACE alarm and fails the call where @cost does not fit any more. */
bool api_over_quota(struct grpc_call *call, int64_t cost);

#endif
