/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The v3 client: what etcfs and kvctl talk to a cluster with. Works against kvd and
 * against etcd. Everything runs on the given libuv loop and its thread.
 *
 * Requests and responses are protobuf-c messages (lib/proto/rpc.pb-c.h). A request
 * is encoded before client_call() returns; a response is valid during the callback.
 *
 * Failover: endpoints are tried in turn. A call that could not be sent, or that
 * came back UNAVAILABLE, is sent again to the next endpoint until its deadline, if
 * it reads (CLIENT_READ); one that writes is sent again only when it certainly was
 * not handled (it never left, or the server refused the stream). Otherwise its
 * error says that the outcome is not known.
 *
 * Watches and keep-alives outlive a connection, and one that went silent: an endpoint
 * that cannot reach a quorum for probe_ms is left for the next, at the latest after
 * twice that.
 */
#ifndef LIB_CLIENT_H
#define LIB_CLIENT_H

#include <protobuf-c/protobuf-c.h>
#include <uv.h>

#include "include/slice.h"
#include "lib/grpc.h"
#include "lib/proto/rpc.pb-c.h"

struct client;
struct client_call;
struct client_watch;
struct client_keepalive;

struct client_config {
	uv_loop_t *loop;
	const char *const *endpoints;	/* http://host:port, host:port, unix://path; copied */
	size_t n_endpoints;
	unsigned dial_timeout_ms;	/* 0: 2000 */
	unsigned timeout_ms;		/* of a call, where it gives none; 0: 5000 */
	unsigned probe_ms;		/* how often a connection with watches or keep-alives on
					   it is asked for a sign of the quorum; 0: 5000 */
};

int client_new(const struct client_config *config, struct client **out, char *why, size_t why_size);
/* Cancels everything (no callbacks), closes the connection, then calls @done. */
void client_close(struct client *client, void (*done)(void *arg), void *arg);

/* --- unary calls -------------------------------------------------------------- */

enum client_call_kind { CLIENT_READ, CLIENT_WRITE };

struct client_result {
	enum grpc_code code;
	const char *text;			/* of an error; "" else */
	const ProtobufCMessage *response;	/* NULL unless code is GRPC_OK */
	bool unknown;				/* a write that may or may not have happened */
};

struct client_method {
	const char *path;
	enum client_call_kind kind;
	const ProtobufCMessageDescriptor *response;
};

/* One for each unary RPC: client_kv_put, client_kv_range, ... (lib/client_methods.c). */
extern const struct client_method client_kv_range, client_kv_put, client_kv_delete_range,
	client_kv_txn, client_kv_compact, client_lease_grant, client_lease_revoke,
	client_lease_time_to_live, client_lease_leases, client_cluster_member_list,
	client_maintenance_status, client_maintenance_alarm, client_maintenance_hash_kv,
	client_maintenance_defragment;

typedef void client_done_fn(void *user, const struct client_result *result);

/* @timeout_ms 0: the client's. @out may be NULL; with it client_call_cancel() works
 * until @done was called. -ENOMEM, or -ENOBUFS beyond CLIENT_CALLS_MAX calls at once;
 * then @done is not called. */
#define CLIENT_CALLS_MAX 65536
int client_call(struct client *client, const struct client_method *method,
		const ProtobufCMessage *request, unsigned timeout_ms,
		client_done_fn *done, void *user, struct client_call **out);
/* No callback follows. A write may have happened all the same. */
void client_call_cancel(struct client_call *call);

/* The endpoint in use, for messages. */
const char *client_endpoint(const struct client *client);
/* Why the last connection was given up, "endpoint: reason"; "" where none was. */
const char *client_last_error(const struct client *client);

/* --- watch ---------------------------------------------------------------------- */

struct client_watch_args {
	struct slice key, range_end;		/* copied */
	int64_t start_revision;			/* 0: from now */
	bool prev_kv, progress_notify, no_put, no_delete, fragment;
};

struct client_watch_callbacks {
	/* The server made the watch (again, after a reconnect). header is the response's. */
	void (*created)(void *user, const Etcdserverpb__WatchResponse *response);
	/* Events, or a progress notification (no events). Never the same revision twice. */
	void (*events)(void *user, const Etcdserverpb__WatchResponse *response);
	/* The connection was lost; it resumes by itself after the last revision seen.
	 * May be NULL. */
	void (*lost)(void *user);
	/* Final: cancelled by the server. compact_revision is not 0 where the resume
	 * revision was compacted. The watch is freed after it returns. */
	void (*canceled)(void *user, const char *reason, int64_t compact_revision);
	void *user;
};

int client_watch_open(struct client *client, const struct client_watch_args *args,
		      const struct client_watch_callbacks *callbacks, struct client_watch **out);
/* Asks the server for a progress notification now. */
void client_watch_progress(struct client_watch *watch);
void client_watch_cancel(struct client_watch *watch);
/* During canceled: the server's response; NULL where the stream itself was refused. */
const Etcdserverpb__WatchResponse *client_watch_response(const struct client_watch *watch);

/* --- lease keep-alive --------------------------------------------------------------- */

/* Renews the lease every third of its TTL. @renewed is called after each answer with
 * the new TTL; 0 means the lease is gone, and the keep-alive is freed after it. */
int client_keepalive_open(struct client *client, int64_t lease,
			  void (*renewed)(void *user, int64_t lease, int64_t ttl), void *user,
			  struct client_keepalive **out);
void client_keepalive_cancel(struct client_keepalive *keepalive);
/* During renewed: the header of the answer; may be NULL. */
const Etcdserverpb__ResponseHeader *client_keepalive_header(const struct client *client);

#endif
