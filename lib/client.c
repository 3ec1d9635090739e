// SPDX-License-Identifier: Apache-2.0
/*
 * The client's connection: which endpoint, when to dial, when to give one up.
 */
#include "lib/client_i.h"

#include <errno.h>

#include "lib/url_i.h"

uint64_t client_now(const struct client *client)
{
	return uv_now(client->loop);
}

bool client_connected(const struct client *client)
{
	return client->conn && client->conn->connected;
}

const char *client_endpoint(const struct client *client)
{
	if (client->conn)
		return client->conn->endpoint;
	return client->endpoints[client->next_endpoint];
}

const char *client_last_error(const struct client *client)
{
	return client->why;
}

uint64_t client_backoff(unsigned failures)
{
	uint64_t ms = CLIENT_BACKOFF_MIN_MS;

	while (failures-- > 1 && ms < CLIENT_BACKOFF_MAX_MS)
		ms *= 2;
	return MIN(ms, (uint64_t)CLIENT_BACKOFF_MAX_MS);
}

/* Nothing is pending that a connection would serve. */
static bool client_idle(const struct client *client)
{
	return list_empty(&client->waiting) && list_empty(&client->watches) &&
	       list_empty(&client->keepalives);
}

static void client_set_why(struct client *client, const char *endpoint, const char *text)
{
	snprintf(client->why, sizeof(client->why), "%s: %s", endpoint, text);
}

void client_conn_worked(struct client_conn *conn)
{
	if (!conn->retired)
		conn->client->failures = 0;
}

void client_conn_retire(struct client_conn *conn, const char *why)
{
	struct client *client = conn->client;
	unsigned rounds;

	if (conn->retired)
		return;
	BUG_ON(client->conn != conn);
	conn->retired = true;
	client->conn = NULL;
	client_set_why(client, conn->endpoint, why);
	client->next_endpoint = (client->next_endpoint + 1) % client->n_endpoints;
	client->failures++;
	/* The other endpoints get their turn at once; then it takes patience. */
	rounds = client->failures / (unsigned)client->n_endpoints;
	client->dial_at = client_now(client);
	if (client->failures % client->n_endpoints == 0)
		client->dial_at += client_backoff(rounds);
	client_wake(client);
}

static void conn_connected(struct grpc_conn *grpc)
{
	struct client_conn *conn = grpc_conn_user(grpc);

	conn->connected = true;
	conn->client->probe_at = client_now(conn->client) + conn->client->probe_ms;
	client_wake(conn->client);
}

static void client_free(struct client *client)
{
	for (size_t i = 0; i < client->n_endpoints; i++)
		free(client->endpoints[i]);
	free(client->endpoints);
	free(client);
}

static void client_finish_close(struct client *client)
{
	void (*closed)(void *arg) = client->closed;
	void *arg = client->closed_arg;

	if (!client->timer_closed || !list_empty(&client->conns))
		return;
	client_free(client);
	if (closed)
		closed(arg);
}

static void conn_closed(struct grpc_conn *grpc, int error, const char *text)
{
	struct client_conn *conn = grpc_conn_user(grpc);
	struct client *client = conn->client;

	BUG_ON(!list_empty(&conn->calls));
	client_conn_retire(conn, text && *text ? text : "connection closed");
	client_watches_leave(client, conn);
	client_keepalives_leave(client, conn);
	list_del(&conn->node);
	free(conn);
	if (client->closing)
		client_finish_close(client);
}

static void client_dial(struct client *client, uint64_t now)
{
	struct grpc_conn_callbacks callbacks = {
		.connected = conn_connected, .closed = conn_closed,
	};
	struct client_conn *conn = calloc(1, sizeof(*conn));
	int err;

	if (!conn) {
		client->dial_at = now + CLIENT_BACKOFF_MAX_MS;
		return;
	}
	conn->client = client;
	conn->endpoint = client->endpoints[client->next_endpoint];
	conn->dial_deadline = now + client->dial_timeout_ms;
	list_init(&conn->calls);
	list_add(&client->conns, &conn->node);
	client->conn = conn;
	callbacks.user = conn;
	err = grpc_conn_open(client->loop, conn->endpoint, &callbacks, &conn->grpc);
	if (!err)
		return;
	client_conn_retire(conn, strerror(-err));
	list_del(&conn->node);
	free(conn);
}

/* Dials where there is something to send; gives up on a connection that does not come. */
static void client_dial_tick(struct client *client, uint64_t now)
{
	if (client->conn && !client->conn->connected && now >= client->conn->dial_deadline)
		client_conn_retire(client->conn, "dialing timed out");
	if (!client->conn && !client_idle(client) && now >= client->dial_at)
		client_dial(client, now);
	if (!client->conn && !client_idle(client))
		client_wake_at(client, client->dial_at);
	if (client->conn && !client->conn->connected)
		client_wake_at(client, client->conn->dial_deadline);
}

/* Takes the streams off retired connections and closes those that are done with. */
static void client_reap(struct client *client)
{
	struct client_conn *conn, *tmp;

	list_for_each_safe(conn, tmp, &client->conns, node) {
		if (!conn->retired)
			continue;
		client_watches_leave(client, conn);
		client_keepalives_leave(client, conn);
	}
	list_for_each_safe(conn, tmp, &client->conns, node) {
		if (!conn->retired || conn->closing || !list_empty(&conn->calls))
			continue;
		conn->closing = true;
		grpc_conn_close(conn->grpc);
	}
}

static void probe_done(void *user, const struct client_result *result)
{
	struct client *client = user;

	client->probe = NULL;
	client->probe_at = client_now(client) + client->probe_ms;
	client_wake_at(client, client->probe_at);
}

/*
 * A watch hears nothing when nothing changes, and nothing when the network or the
 * member behind it is cut off from the cluster. So a connection with streams on it is
 * asked now and then for something that takes a quorum; client_call.c retires the
 * connection when the answer is UNAVAILABLE or does not come.
 */
static void client_probe_tick(struct client *client, uint64_t now)
{
	Etcdserverpb__MemberListRequest request = ETCDSERVERPB__MEMBER_LIST_REQUEST__INIT;

	if (!client_connected(client) || client->probe ||
	    (list_empty(&client->watches) && list_empty(&client->keepalives)))
		return;
	if (now < client->probe_at) {
		client_wake_at(client, client->probe_at);
		return;
	}
	request.linearizable = true;
	if (client_call(client, &client_cluster_member_list, &request.base, client->probe_ms,
			probe_done, client, &client->probe)) {
		client->probe_at = now + client->probe_ms;
		client_wake_at(client, client->probe_at);
	}
}

static void client_tick(uv_timer_t *timer)
{
	struct client *client = timer->data;
	uint64_t now = client_now(client);

	client->wake_at = UINT64_MAX;
	if (client->closing)
		return;
	client_reap(client);
	client_calls_tick(client, now);
	client_dial_tick(client, now);
	client_watches_tick(client, now);
	client_keepalives_tick(client, now);
	client_probe_tick(client, now);
}

void client_wake_at(struct client *client, uint64_t at)
{
	uint64_t now = client_now(client);

	if (client->closing || at >= client->wake_at)
		return;
	client->wake_at = at;
	uv_timer_start(&client->timer, client_tick, at > now ? at - now : 0, 0);
}

/* An address that cannot be one is refused now rather than tried for ever. */
static int client_copy_endpoints(struct client *client, const struct client_config *config,
				 char *why, size_t why_size)
{
	struct url url;
	int err;

	snprintf(why, why_size, "out of memory");
	client->endpoints = calloc(config->n_endpoints, sizeof(*client->endpoints));
	if (!client->endpoints)
		return -ENOMEM;
	for (size_t i = 0; i < config->n_endpoints; i++) {
		client->endpoints[i] = strdup(config->endpoints[i]);
		if (!client->endpoints[i])
			return -ENOMEM;
		client->n_endpoints++;
		err = url_parse(config->endpoints[i], &url, why, why_size);
		if (err)
			return err;
	}
	return 0;
}

int client_new(const struct client_config *config, struct client **out, char *why, size_t why_size)
{
	struct client *client;
	int err;

	if (!config->n_endpoints) {
		snprintf(why, why_size, "no endpoint is given; name at least one, as host:port");
		return -EINVAL;
	}
	client = calloc(1, sizeof(*client));
	if (!client) {
		snprintf(why, why_size, "out of memory");
		return -ENOMEM;
	}
	err = client_copy_endpoints(client, config, why, why_size);
	if (!err)
		err = uv_timer_init(config->loop, &client->timer);
	if (err) {
		client_free(client);
		return err;
	}
	client->loop = config->loop;
	client->timer.data = client;
	client->wake_at = UINT64_MAX;
	client->dial_timeout_ms = config->dial_timeout_ms ?: CLIENT_DIAL_TIMEOUT_MS;
	client->timeout_ms = config->timeout_ms ?: CLIENT_TIMEOUT_MS;
	client->probe_ms = config->probe_ms ?: CLIENT_PROBE_MS;
	list_init(&client->conns);
	list_init(&client->waiting);
	list_init(&client->watches);
	list_init(&client->keepalives);
	*out = client;
	return 0;
}

static void client_timer_closed(uv_handle_t *handle)
{
	struct client *client = handle->data;

	client->timer_closed = true;
	client_finish_close(client);
}

void client_close(struct client *client, void (*done)(void *arg), void *arg)
{
	struct client_conn *conn, *tmp;

	BUG_ON(client->closing);
	client->closing = true;
	client->closed = done;
	client->closed_arg = arg;
	client_watches_cancel_all(client);
	client_keepalives_cancel_all(client);
	client_calls_cancel_all(client, NULL);
	list_for_each(conn, &client->conns, node)
		client_calls_cancel_all(client, conn);
	uv_close((uv_handle_t *)&client->timer, client_timer_closed);
	list_for_each_safe(conn, tmp, &client->conns, node) {
		if (conn->closing)
			continue;
		conn->closing = true;
		grpc_conn_close(conn->grpc);
	}
}
