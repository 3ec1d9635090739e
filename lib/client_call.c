// SPDX-License-Identifier: Apache-2.0
/*
 * Unary calls. A call waits in client->waiting until there is a connection, then is
 * on its connection's list until it is answered; a read whose connection fails goes
 * back to waiting. The deadline is kept here, whatever the server does.
 */
#include "lib/client_i.h"

#include <errno.h>

struct client_call {
	struct client *client;
	struct client_conn *conn;	/* NULL: waiting */
	struct list node;		/* client->waiting or conn->calls */
	struct grpc_client_call *grpc;
	const struct client_method *method;
	struct blob *request;
	struct blob *response;		/* as it came; decoded when the status says OK */
	uint64_t deadline;
	client_done_fn *done;
	void *user;
};

static void call_free(struct client_call *call)
{
	call->client->n_calls--;
	list_del(&call->node);
	blob_put(call->request);
	blob_put(call->response);
	free(call);
}

/* Codes after which nobody knows whether a write that was sent has happened. */
static bool code_leaves_doubt(enum grpc_code code)
{
	switch (code) {
	case GRPC_CANCELED:
	case GRPC_UNKNOWN:
	case GRPC_DEADLINE_EXCEEDED:
	case GRPC_INTERNAL:
	case GRPC_UNAVAILABLE:
	case GRPC_DATA_LOSS:
		return true;
	default:
		return false;
	}
}

/* @sent: the request left, so that the server may have handled it. */
static void call_fail(struct client_call *call, enum grpc_code code, const char *text, bool sent)
{
	struct client_result result = {
		.code = code,
		.text = text,
		.unknown = sent && call->method->kind == CLIENT_WRITE && code_leaves_doubt(code),
	};

	list_del(&call->node);
	call->done(call->user, &result);
	call_free(call);
}

static void call_succeed(struct client_call *call)
{
	struct client_result result = { .code = GRPC_OK, .text = "" };
	struct pb_arena arena;
	ProtobufCMessage *response;

	pb_arena_init(&arena);
	if (!call->response) {
		call_fail(call, GRPC_INTERNAL, "there is no response", true);
	} else if (pb_unpack(call->method->response, blob_slice(call->response), &arena,
			     &response)) {
		call_fail(call, GRPC_INTERNAL, "the response could not be decoded", true);
	} else {
		result.response = response;
		list_del(&call->node);
		call->done(call->user, &result);
		call_free(call);
	}
	pb_arena_release(&arena);
}

static void call_message(struct grpc_client_call *grpc, struct slice message)
{
	struct client_call *call = grpc_client_call_user(grpc);

	if (!call->response)
		call->response = blob_copy(message);
}

static void call_wait(struct client_call *call)
{
	call->conn = NULL;
	call->grpc = NULL;
	list_del(&call->node);
	list_add_tail(&call->client->waiting, &call->node);
	client_wake(call->client);
}

static void call_done(struct grpc_client_call *grpc, enum grpc_code code, const char *text)
{
	struct client_call *call = grpc_client_call_user(grpc);
	bool handled = !grpc_client_call_unprocessed(grpc);

	call->grpc = NULL;
	if (code != GRPC_UNAVAILABLE) {
		client_conn_worked(call->conn);
	} else {
		client_conn_retire(call->conn, text);
		if (call->method->kind == CLIENT_READ || !handled) {
			call_wait(call);
			return;
		}
	}
	if (code == GRPC_OK)
		call_succeed(call);
	else
		call_fail(call, code, text, handled);
}

/* Negative errno where it could not be sent; then nothing has changed. */
static int call_send(struct client_call *call, struct client_conn *conn, uint64_t now)
{
	struct grpc_client_callbacks callbacks = {
		.message = call_message, .done = call_done, .user = call,
	};
	struct chain message;
	int err = -ENOMEM;

	chain_init(&message);
	chain_append_blob(&message, call->request, blob_slice(call->request));
	if (!chain_failed(&message))
		err = grpc_client_call_open(conn->grpc, call->method->path, &callbacks,
					    call->deadline - now, &call->grpc);
	if (err) {
		chain_release(&message);
		return err;
	}
	call->conn = conn;
	list_del(&call->node);
	list_add_tail(&conn->calls, &call->node);
	grpc_client_call_send(call->grpc, &message);
	grpc_client_call_half_close(call->grpc);
	return 0;
}

/* Moves the calls of @from whose time is over to @to; says when the next one's is. */
static uint64_t calls_overdue(struct list *from, struct list *to, uint64_t now)
{
	struct client_call *call, *tmp;
	uint64_t next = UINT64_MAX;

	list_for_each_safe(call, tmp, from, node) {
		if (call->deadline > now) {
			next = MIN(next, call->deadline);
			continue;
		}
		list_del(&call->node);
		list_add_tail(to, &call->node);
	}
	return next;
}

static void calls_expire(struct client *client, uint64_t now)
{
	struct list overdue = LIST_INIT(overdue);
	struct client_conn *conn;
	uint64_t next = calls_overdue(&client->waiting, &overdue, now);

	list_for_each(conn, &client->conns, node)
		next = MIN(next, calls_overdue(&conn->calls, &overdue, now));
	if (next != UINT64_MAX)
		client_wake_at(client, next);
	while (!list_empty(&overdue)) {
		struct client_call *call = list_first(&overdue, struct client_call, node);
		bool sent = call->grpc;

		if (client->closing) {
			client_call_cancel(call);
			continue;
		}
		if (sent) {
			/* Where one answer does not come, others may not either. */
			client_conn_retire(call->conn, "no answer in time");
			grpc_client_call_cancel(call->grpc);
			call->grpc = NULL;
		}
		call_fail(call, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded", sent);
	}
}

void client_calls_tick(struct client *client, uint64_t now)
{
	calls_expire(client, now);
	while (!client->closing && client_connected(client) && !list_empty(&client->waiting)) {
		struct client_call *call = list_first(&client->waiting, struct client_call, node);
		int err = call_send(call, client->conn, now);

		if (err == -ENOMEM)
			call_fail(call, GRPC_RESOURCE_EXHAUSTED, strerror(-err), false);
		else if (err)
			client_conn_retire(client->conn, strerror(-err));
	}
}

static struct client_call *call_new(struct client *client, const struct client_method *method,
				    const ProtobufCMessage *request)
{
	struct client_call *call = calloc(1, sizeof(*call));

	if (!call)
		return NULL;
	client->n_calls++;
	call->client = client;
	call->method = method;
	list_init(&call->node);
	call->request = pb_pack_blob(request);
	if (call->request)
		return call;
	call_free(call);
	return NULL;
}

int client_call(struct client *client, const struct client_method *method,
		const ProtobufCMessage *request, unsigned timeout_ms,
		client_done_fn *done, void *user, struct client_call **out)
{
	struct client_call *call;

	BUG_ON(client->closing);
	if (client->n_calls >= CLIENT_CALLS_MAX)
		return -ENOBUFS;
	call = call_new(client, method, request);
	if (!call)
		return -ENOMEM;
	call->done = done;
	call->user = user;
	/* The loop's time is that of its last turn, which may be long ago. */
	uv_update_time(client->loop);
	call->deadline = client_now(client) + (timeout_ms ?: client->timeout_ms);
	list_add_tail(&client->waiting, &call->node);
	if (!client_connected(client) || call_send(call, client->conn, client_now(client)))
		client_wake(client);
	client_wake_at(client, call->deadline);
	if (out)
		*out = call;
	return 0;
}

void client_call_cancel(struct client_call *call)
{
	if (call->grpc)
		grpc_client_call_cancel(call->grpc);
	call_free(call);
}

/* Those that wait, or those on @conn. */
void client_calls_cancel_all(struct client *client, struct client_conn *conn)
{
	struct list *calls = conn ? &conn->calls : &client->waiting;

	while (!list_empty(calls))
		client_call_cancel(list_first(calls, struct client_call, node));
}
