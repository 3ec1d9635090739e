// SPDX-License-Identifier: Apache-2.0
/*
 * Lease keep-alives: one stream for all of them, opened while there is one. A lease
 * is renewed a third of its TTL after the last answer; a renewal that is not answered
 * is sent again. Only the server says that a lease is gone.
 */
#include "lib/client_i.h"

#include <errno.h>

#define RENEW_AGAIN_MS 1000	/* after a renewal that was not answered */

struct client_keepalive {
	struct client *client;
	struct list node;		/* client->keepalives */
	int64_t lease;
	uint64_t due;			/* when to send the next renewal */
	void (*renewed)(void *user, int64_t lease, int64_t ttl);
	void *user;
};

static void stream_close(struct client *client)
{
	struct client_lease_stream *stream = &client->lease_stream;
	struct grpc_client_call *grpc = stream->grpc;

	stream->grpc = NULL;
	stream->conn = NULL;
	if (grpc)
		grpc_client_call_cancel(grpc);
}

/* Every lease is renewed at once on the next stream: time may have been lost. */
static void stream_lost(struct client *client)
{
	struct client_lease_stream *stream = &client->lease_stream;
	struct client_keepalive *keepalive;

	stream_close(client);
	stream->failures++;
	stream->retry_at = client_now(client);
	if (stream->failures > 1)
		stream->retry_at += client_backoff(stream->failures - 1);
	list_for_each(keepalive, &client->keepalives, node)
		keepalive->due = 0;
	client_wake_at(client, stream->retry_at);
}

/* Tells one keep-alive; it may be cancelled, or the client closed, meanwhile. */
static void keepalive_answered(struct client_keepalive *keepalive, int64_t ttl)
{
	struct client *client = keepalive->client;
	void (*renewed)(void *user, int64_t lease, int64_t ttl) = keepalive->renewed;
	void *user = keepalive->user;
	int64_t lease = keepalive->lease;

	list_del(&keepalive->node);
	if (ttl > 0) {
		keepalive->due = client_now(client) + (uint64_t)ttl * 1000 / 3;
		client_wake_at(client, keepalive->due);
		list_add_tail(&client->keepalives, &keepalive->node);
	} else {
		free(keepalive);
	}
	renewed(user, lease, ttl);
}

static void keepalives_answered(struct client *client, int64_t lease, int64_t ttl)
{
	struct list answered = LIST_INIT(answered);
	struct client_keepalive *keepalive, *tmp;

	list_for_each_safe(keepalive, tmp, &client->keepalives, node) {
		if (keepalive->lease != lease)
			continue;
		list_del(&keepalive->node);
		list_add_tail(&answered, &keepalive->node);
	}
	while (!list_empty(&answered)) {
		keepalive = list_first(&answered, struct client_keepalive, node);
		if (client->closing)
			client_keepalive_cancel(keepalive);
		else
			keepalive_answered(keepalive, MAX(ttl, (int64_t)0));
	}
}

static void stream_message(struct grpc_client_call *grpc, struct slice message)
{
	struct client *client = grpc_client_call_user(grpc);
	const Etcdserverpb__LeaseKeepAliveResponse *response;
	struct pb_arena arena;
	ProtobufCMessage *decoded;

	pb_arena_init(&arena);
	if (pb_unpack(&etcdserverpb__lease_keep_alive_response__descriptor, message, &arena,
		      &decoded)) {
		stream_lost(client);
	} else {
		response = (const Etcdserverpb__LeaseKeepAliveResponse *)decoded;
		client->lease_stream.failures = 0;
		client_conn_worked(client->lease_stream.conn);
		client->lease_stream.header = response->header;
		keepalives_answered(client, response->id, response->ttl);
		client->lease_stream.header = NULL;
	}
	pb_arena_release(&arena);
}

static void stream_done(struct grpc_client_call *grpc, enum grpc_code code, const char *text)
{
	struct client *client = grpc_client_call_user(grpc);
	struct client_conn *conn = client->lease_stream.conn;

	client->lease_stream.grpc = NULL;
	if (code == GRPC_UNAVAILABLE)
		client_conn_retire(conn, text);
	stream_lost(client);
}

const Etcdserverpb__ResponseHeader *client_keepalive_header(const struct client *client)
{
	return client->lease_stream.header;
}

static void stream_open(struct client *client)
{
	struct client_lease_stream *stream = &client->lease_stream;
	struct grpc_client_callbacks callbacks = {
		.message = stream_message, .done = stream_done, .user = client,
	};

	stream->conn = client->conn;
	if (grpc_client_call_open(client->conn->grpc, "/etcdserverpb.Lease/LeaseKeepAlive",
				  &callbacks, 0, &stream->grpc)) {
		stream->grpc = NULL;
		stream_lost(client);
	}
}

static void keepalive_send(struct client_keepalive *keepalive, uint64_t now)
{
	Etcdserverpb__LeaseKeepAliveRequest request = ETCDSERVERPB__LEASE_KEEP_ALIVE_REQUEST__INIT;
	struct chain message;

	request.id = keepalive->lease;
	keepalive->due = now + RENEW_AGAIN_MS;
	chain_init(&message);
	pb_pack_chain(&request.base, &message);
	if (chain_failed(&message))
		chain_release(&message);
	else
		grpc_client_call_send(keepalive->client->lease_stream.grpc, &message);
}

void client_keepalives_tick(struct client *client, uint64_t now)
{
	struct client_lease_stream *stream = &client->lease_stream;
	struct client_keepalive *keepalive;

	if (list_empty(&client->keepalives)) {
		stream_close(client);
		return;
	}
	if (!stream->grpc && client_connected(client) && now >= stream->retry_at)
		stream_open(client);
	if (!stream->grpc) {
		if (client_connected(client))
			client_wake_at(client, stream->retry_at);
		return;
	}
	list_for_each(keepalive, &client->keepalives, node) {
		if (now >= keepalive->due)
			keepalive_send(keepalive, now);
		client_wake_at(client, keepalive->due);
	}
}

void client_keepalives_leave(struct client *client, const struct client_conn *conn)
{
	if (client->lease_stream.conn == conn)
		stream_lost(client);
}

int client_keepalive_open(struct client *client, int64_t lease,
			  void (*renewed)(void *user, int64_t lease, int64_t ttl), void *user,
			  struct client_keepalive **out)
{
	struct client_keepalive *keepalive = calloc(1, sizeof(*keepalive));

	BUG_ON(client->closing || !renewed);
	if (!keepalive)
		return -ENOMEM;
	keepalive->client = client;
	keepalive->lease = lease;
	keepalive->renewed = renewed;
	keepalive->user = user;
	list_add_tail(&client->keepalives, &keepalive->node);
	client_wake(client);
	*out = keepalive;
	return 0;
}

void client_keepalive_cancel(struct client_keepalive *keepalive)
{
	client_wake(keepalive->client);
	list_del(&keepalive->node);
	free(keepalive);
}

void client_keepalives_cancel_all(struct client *client)
{
	while (!list_empty(&client->keepalives))
		client_keepalive_cancel(list_first(&client->keepalives,
						   struct client_keepalive, node));
	stream_close(client);
}
