// SPDX-License-Identifier: Apache-2.0
/*
 * Watches that survive their connection. Each has a stream of its own.
 *
 * next_revision is the whole state of a watch: everything before it was delivered,
 * nothing from it on. A new stream asks for events from there. It advances only by
 * what is known to be complete: the last revision of a whole response, the
 * revision of a progress notification, or that of the creation of a watch "from now".
 *
 * A response that the server cut into fragments may end in the middle of a revision;
 * its parts are kept as bytes until the last has come, and decoded then: protobuf
 * defines that messages one after the other merge, which appends their events.
 */
#include "lib/client_i.h"

#include <errno.h>

/* What is kept of one response in fragments; protobuf ends at twice that. */
#define WATCH_PARTS_MAX (1u << 30)

struct client_watch {
	struct client *client;
	struct list node;		/* client->watches */
	struct client_watch_args args;	/* its slices point into key and range_end */
	struct blob *key, *range_end;
	struct client_watch_callbacks callbacks;
	int64_t next_revision;		/* 0: from now, not created yet */

	struct client_conn *conn;	/* NULL: no stream */
	struct grpc_client_call *grpc;
	bool created;			/* on this stream */
	bool progress_wanted;		/* ask as soon as it is created */
	uint64_t retry_at;
	unsigned failures;		/* streams lost since the last response */

	uint8_t *parts;			/* fragments of one response */
	size_t parts_len;

	const Etcdserverpb__WatchResponse *canceling;	/* while canceled is called */
	bool in_callback;		/* freeing waits until it returns */
	bool dead;
};

static void watch_free(struct client_watch *watch)
{
	list_del(&watch->node);
	blob_put(watch->key);
	blob_put(watch->range_end);
	free(watch->parts);
	free(watch);
}

static void watch_drop_parts(struct client_watch *watch)
{
	free(watch->parts);
	watch->parts = NULL;
	watch->parts_len = 0;
}

static void watch_close_stream(struct client_watch *watch)
{
	struct grpc_client_call *grpc = watch->grpc;

	watch->grpc = NULL;
	watch->conn = NULL;
	watch->created = false;
	watch_drop_parts(watch);
	if (grpc)
		grpc_client_call_cancel(grpc);
}

/* After a callback: the user may have cancelled the watch in it. */
static void watch_leave_callback(struct client_watch *watch)
{
	watch->in_callback = false;
	if (watch->dead)
		watch_free(watch);
}

static void watch_created(struct client_watch *watch, const Etcdserverpb__WatchResponse *response)
{
	watch->created = true;
	if (!watch->next_revision && response->header)
		watch->next_revision = response->header->revision + 1;
	if (watch->progress_wanted)
		client_watch_progress(watch);
	if (!watch->callbacks.created)
		return;
	watch->in_callback = true;
	watch->callbacks.created(watch->callbacks.user, response);
	watch_leave_callback(watch);
}

static void watch_finish(struct client_watch *watch, const char *reason, int64_t compact_revision)
{
	list_del(&watch->node);
	watch->in_callback = true;
	watch->callbacks.canceled(watch->callbacks.user, reason, compact_revision);
	watch_close_stream(watch);
	watch_free(watch);
}

/* The stream is gone; another is opened after a while. */
static void watch_lost(struct client_watch *watch)
{
	struct client *client = watch->client;

	watch_close_stream(watch);
	watch->failures++;
	watch->retry_at = client_now(client);
	/* The dialling has its own patience; this is for streams that fail alone. */
	if (watch->failures > 1)
		watch->retry_at += client_backoff(watch->failures - 1);
	client_wake_at(client, watch->retry_at);
	if (!watch->callbacks.lost)
		return;
	watch->in_callback = true;
	watch->callbacks.lost(watch->callbacks.user);
	watch_leave_callback(watch);
}

/* Leaves out what was delivered before, so that a careless server repeats nothing. */
static void watch_skip_old(const struct client_watch *watch, Etcdserverpb__WatchResponse *response)
{
	size_t n = 0;

	while (n < response->n_events && response->events[n]->kv &&
	       response->events[n]->kv->mod_revision < watch->next_revision)
		n++;
	response->events += n;
	response->n_events -= n;
}

static void watch_events(struct client_watch *watch, Etcdserverpb__WatchResponse *response)
{
	bool was_progress = !response->n_events;
	const Mvccpb__Event *last;
	int64_t revision = 0;

	watch_skip_old(watch, response);
	if (response->n_events) {
		last = response->events[response->n_events - 1];
		revision = last->kv ? last->kv->mod_revision : 0;
	} else if (!was_progress) {
		return;
	} else if (response->header) {
		revision = response->header->revision;
	}
	watch->next_revision = MAX(watch->next_revision, revision + 1);
	watch->in_callback = true;
	watch->callbacks.events(watch->callbacks.user, response);
	watch_leave_callback(watch);
}

/* The watch may be gone when these return. */
static void watch_response(struct client_watch *watch, Etcdserverpb__WatchResponse *response)
{
	watch->failures = 0;
	client_conn_worked(watch->conn);
	if (response->canceled) {
		watch->canceling = response;
		watch_finish(watch, response->cancel_reason, response->compact_revision);
	} else if (response->created) {
		watch_created(watch, response);
	} else {
		watch_events(watch, response);
	}
}

/* Adds a fragment to those kept. */
static int watch_keep(struct client_watch *watch, struct slice message)
{
	uint8_t *parts;

	if (message.len > WATCH_PARTS_MAX - watch->parts_len)
		return -EMSGSIZE;
	parts = realloc(watch->parts, watch->parts_len + message.len);
	if (!parts)
		return -ENOMEM;
	memcpy(parts + watch->parts_len, message.data, message.len);
	watch->parts = parts;
	watch->parts_len += message.len;
	return 0;
}

/* Decodes @message and what was kept before it; 1 and *@out NULL: more is to come. */
static int watch_decode(struct client_watch *watch, struct slice message, struct pb_arena *arena,
			Etcdserverpb__WatchResponse **out)
{
	ProtobufCMessage *decoded;
	Etcdserverpb__WatchResponse *response;
	int err = pb_unpack(&etcdserverpb__watch_response__descriptor, message, arena, &decoded);

	if (err)
		return err;
	response = (Etcdserverpb__WatchResponse *)decoded;
	*out = response;
	if (!response->fragment && !watch->parts_len)
		return 0;
	*out = NULL;
	err = watch_keep(watch, message);
	if (err || response->fragment)
		return err;
	err = pb_unpack(&etcdserverpb__watch_response__descriptor,
			slice_of(watch->parts, watch->parts_len), arena, &decoded);
	watch_drop_parts(watch);
	if (err)
		return err;
	*out = (Etcdserverpb__WatchResponse *)decoded;
	(*out)->fragment = false;
	return 0;
}

static void watch_message(struct grpc_client_call *grpc, struct slice message)
{
	struct client_watch *watch = grpc_client_call_user(grpc);
	Etcdserverpb__WatchResponse *response;
	struct pb_arena arena;
	int err;

	pb_arena_init(&arena);
	err = watch_decode(watch, message, &arena, &response);
	if (err == -EMSGSIZE)
		watch_finish(watch, "a response is larger than 1 GiB", 0);
	else if (err)
		watch_lost(watch);
	else if (response)
		watch_response(watch, response);
	pb_arena_release(&arena);
}

/* Codes that another try would only meet again. */
static bool code_is_final(enum grpc_code code)
{
	switch (code) {
	case GRPC_INVALID_ARGUMENT:
	case GRPC_PERMISSION_DENIED:
	case GRPC_UNAUTHENTICATED:
	case GRPC_UNIMPLEMENTED:
	case GRPC_FAILED_PRECONDITION:
	case GRPC_RESOURCE_EXHAUSTED:
		return true;
	default:
		return false;
	}
}

static void watch_done(struct grpc_client_call *grpc, enum grpc_code code, const char *text)
{
	struct client_watch *watch = grpc_client_call_user(grpc);
	struct client_conn *conn = watch->conn;

	watch->grpc = NULL;
	if (code_is_final(code)) {
		watch_finish(watch, text, 0);
		return;
	}
	if (code == GRPC_UNAVAILABLE)
		client_conn_retire(conn, text);
	watch_lost(watch);
}

static int watch_send(struct client_watch *watch, const Etcdserverpb__WatchRequest *request)
{
	struct chain message;

	chain_init(&message);
	pb_pack_chain(&request->base, &message);
	if (chain_failed(&message)) {
		chain_release(&message);
		return -ENOMEM;
	}
	grpc_client_call_send(watch->grpc, &message);
	return 0;
}

static int watch_send_create(struct client_watch *watch)
{
	const struct client_watch_args *args = &watch->args;
	Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
	Etcdserverpb__WatchCreateRequest create = ETCDSERVERPB__WATCH_CREATE_REQUEST__INIT;
	Etcdserverpb__WatchCreateRequest__FilterType filters[2];

	create.key = (ProtobufCBinaryData){ args->key.len, (uint8_t *)args->key.data };
	create.range_end = (ProtobufCBinaryData){ args->range_end.len,
						  (uint8_t *)args->range_end.data };
	create.start_revision = watch->next_revision;
	create.prev_kv = args->prev_kv;
	create.progress_notify = args->progress_notify;
	create.fragment = args->fragment;
	create.filters = filters;
	if (args->no_put)
		filters[create.n_filters++] =
			ETCDSERVERPB__WATCH_CREATE_REQUEST__FILTER_TYPE__NOPUT;
	if (args->no_delete)
		filters[create.n_filters++] =
			ETCDSERVERPB__WATCH_CREATE_REQUEST__FILTER_TYPE__NODELETE;
	request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
	request.create_request = &create;
	return watch_send(watch, &request);
}

static void watch_open_stream(struct client_watch *watch, struct client_conn *conn)
{
	struct grpc_client_callbacks callbacks = {
		.message = watch_message, .done = watch_done, .user = watch,
	};

	watch->conn = conn;
	if (grpc_client_call_open(conn->grpc, "/etcdserverpb.Watch/Watch", &callbacks, 0,
				  &watch->grpc)) {
		watch->grpc = NULL;
		watch_lost(watch);
	} else if (watch_send_create(watch)) {
		watch_lost(watch);
	}
}

/* The first watch that has to be opened now; says when the next one is to be. */
static struct client_watch *watch_due(struct client *client, uint64_t now)
{
	struct client_watch *watch;

	list_for_each(watch, &client->watches, node) {
		if (watch->conn)
			continue;
		if (watch->retry_at <= now)
			return watch;
		client_wake_at(client, watch->retry_at);
	}
	return NULL;
}

void client_watches_tick(struct client *client, uint64_t now)
{
	struct client_watch *watch;

	while (client_connected(client) && (watch = watch_due(client, now)))
		watch_open_stream(watch, client->conn);
}

/* Takes the watches off @conn. A callback may change the list, so start over each time. */
void client_watches_leave(struct client *client, const struct client_conn *conn)
{
	struct client_watch *watch;

again:
	list_for_each(watch, &client->watches, node) {
		if (watch->conn == conn) {
			watch_lost(watch);
			goto again;
		}
	}
}

int client_watch_open(struct client *client, const struct client_watch_args *args,
		      const struct client_watch_callbacks *callbacks, struct client_watch **out)
{
	struct client_watch *watch = calloc(1, sizeof(*watch));

	BUG_ON(client->closing || !callbacks->events || !callbacks->canceled);
	if (!watch)
		return -ENOMEM;
	watch->client = client;
	watch->callbacks = *callbacks;
	watch->args = *args;
	watch->next_revision = args->start_revision;
	list_init(&watch->node);
	watch->key = blob_copy(args->key);
	watch->range_end = blob_copy(args->range_end);
	if (!watch->key || !watch->range_end) {
		watch_free(watch);
		return -ENOMEM;
	}
	watch->args.key = blob_slice(watch->key);
	watch->args.range_end = blob_slice(watch->range_end);
	list_add_tail(&client->watches, &watch->node);
	client_wake(client);
	*out = watch;
	return 0;
}

void client_watch_progress(struct client_watch *watch)
{
	Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
	Etcdserverpb__WatchProgressRequest progress = ETCDSERVERPB__WATCH_PROGRESS_REQUEST__INIT;

	request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_PROGRESS_REQUEST;
	request.progress_request = &progress;
	watch->progress_wanted = !watch->created || watch_send(watch, &request);
}

const Etcdserverpb__WatchResponse *client_watch_response(const struct client_watch *watch)
{
	return watch->canceling;
}

void client_watch_cancel(struct client_watch *watch)
{
	list_del(&watch->node);
	watch_close_stream(watch);
	if (watch->in_callback)
		watch->dead = true;
	else
		watch_free(watch);
}

void client_watches_cancel_all(struct client *client)
{
	while (!list_empty(&client->watches))
		client_watch_cancel(list_first(&client->watches, struct client_watch, node));
}
