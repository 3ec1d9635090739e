/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the client: what client*.c share.
 *
 * A client uses one connection at a time. A connection that fails, or that leads to
 * a member that cannot serve, is retired: nothing new is sent on it, its streams
 * (watches, lease keep-alives) move to the next endpoint, and it is closed when the
 * last unary call on it has been answered, so that no write is cut off whose answer
 * may still come. At most one connection is not retired.
 *
 * Nothing is moved or closed from inside a callback of the transport: callbacks mark
 * and wake, and the client's one timer does the work in client_tick(). Each part
 * of the client has a tick function that does what is due and says with
 * client_wake_at() when it wants to be called next.
 */
#ifndef LIB_CLIENT_I_H
#define LIB_CLIENT_I_H

#include "include/blob.h"
#include "include/list.h"
#include "lib/client.h"
#include "lib/pb.h"

enum {
	CLIENT_DIAL_TIMEOUT_MS = 2000,
	CLIENT_TIMEOUT_MS = 5000,
	CLIENT_BACKOFF_MIN_MS = 50,	/* after a round of failed endpoints, doubled to */
	CLIENT_BACKOFF_MAX_MS = 1000,
	CLIENT_PROBE_MS = 5000,
	CLIENT_WHY_SIZE = 256,
};

struct client_conn {
	struct client *client;
	struct list node;		/* client->conns */
	struct list calls;		/* unary calls sent and not answered */
	struct grpc_conn *grpc;
	const char *endpoint;
	uint64_t dial_deadline;
	bool connected;
	bool retired;
	bool closing;
};

/* The one LeaseKeepAlive stream, shared by every struct client_keepalive. */
struct client_lease_stream {
	struct client_conn *conn;	/* NULL: not open */
	struct grpc_client_call *grpc;
	const Etcdserverpb__ResponseHeader *header;	/* of the answer being told */
	uint64_t retry_at;
	unsigned failures;
};

struct client {
	uv_loop_t *loop;
	uv_timer_t timer;
	uint64_t wake_at;		/* when the timer is set to fire; UINT64_MAX: not */
	char **endpoints;
	size_t n_endpoints;
	size_t next_endpoint;
	unsigned dial_timeout_ms, timeout_ms, probe_ms;

	struct client_conn *conn;	/* the one in use; NULL: none */
	struct list conns;		/* it and the retired ones */
	uint64_t dial_at;		/* not before */
	unsigned failures;		/* connections lost since the last good answer */
	char why[CLIENT_WHY_SIZE];	/* why the last connection failed */

	struct list waiting;		/* unary calls that are not sent */
	size_t n_calls;			/* all, sent or not */
	struct list watches;
	struct list keepalives;
	struct client_lease_stream lease_stream;
	struct client_call *probe;
	uint64_t probe_at;

	bool closing, timer_closed;
	void (*closed)(void *arg);
	void *closed_arg;
};

/* client.c */
uint64_t client_now(const struct client *client);	/* ms */
void client_wake_at(struct client *client, uint64_t at);
static inline void client_wake(struct client *client) { client_wake_at(client, 0); }
bool client_connected(const struct client *client);
/* Stops using @conn, because of @why where that is news. Idempotent. */
void client_conn_retire(struct client_conn *conn, const char *why);
/* A good answer came: the next failure starts counting anew. */
void client_conn_worked(struct client_conn *conn);
/* How long to wait after the @failures-th failure in a row of one thing. */
uint64_t client_backoff(unsigned failures);

/* client_call.c */
void client_calls_tick(struct client *client, uint64_t now);
void client_calls_cancel_all(struct client *client, struct client_conn *conn);

/* client_watch.c */
void client_watches_tick(struct client *client, uint64_t now);
void client_watches_leave(struct client *client, const struct client_conn *conn);
void client_watches_cancel_all(struct client *client);

/* client_keepalive.c */
void client_keepalives_tick(struct client *client, uint64_t now);
void client_keepalives_leave(struct client *client, const struct client_conn *conn);
void client_keepalives_cancel_all(struct client *client);

#endif
