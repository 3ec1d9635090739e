// SPDX-License-Identifier: Apache-2.0

/*
 * etcdserverpb.Watch. A stream carries many watches; each is a cursor in the store
 * (mvcc_watcher). After every turn the watchers that have become ready are asked for
 * their events; one whose stream is full waits in stream->blocked, and loses nothing,
 * since a cursor that is not asked simply stays where it is.
 *
 * A progress notification says "you have seen everything up to here". It is sent only
 * where that is so: the cursor is at the end, and what it gave has been queued before.
 */

#include <stdlib.h>

#include "kvd/server.h"
#include "lib/proto/rpc.pb-c.h"

#define EVENTS_PER_RESPONSE 1000
/* What gRPC may add to a request of the greatest size; bounds a fragment too. */
#define MESSAGE_OVERHEAD (512 << 10)
#define INVALID_WATCH_ID (-1)

struct watch_stream {
	struct list node;		/* in server->watch_streams */
	struct server *server;
	struct grpc_call *call;
	struct htable watches;		/* by id */
	int64_t next_id;
	struct list blocked;		/* watches that wait for the stream to drain */
	uint64_t next_progress;
};

struct watch {
	struct htable_node by_id;
	struct list node;		/* in stream->blocked */
	struct watch_stream *stream;	/* NULL: gone, freed when the fetch comes back */
	struct mvcc_watcher *watcher;	/* NULL: ended by compaction */
	int64_t id, start_revision;
	bool progress, fragment, fetching;
	bool quiet;			/* nothing sent since the last periodic progress */
	struct mvcc_fetch fetch;
	struct fetch_job job;
};

static struct mvcc *store_of(const struct watch_stream *st)
{
	return core_state(st->server->core)->store;
}

/* --- sending -------------------------------------------------------------- */

static void send_response(struct watch_stream *st, struct respond_watch *w, int64_t revision)
{
	struct chain out;

	server_header(st->server, revision, &w->header);
	chain_init(&out);
	respond_watch(w, &out);
	grpc_call_send(st->call, &out);
}

/* In pieces below the greatest message where the client said that it can join them. */
static void send_fragments(struct watch *w, struct respond_watch *response, int64_t revision)
{
	size_t max = (size_t)w->stream->server->config->max_request_bytes + MESSAGE_OVERHEAD;
	const struct mvcc_event *events = response->events;
	size_t left = response->n_events, n, size;

	while (left) {
		size = 64 + respond_event_size(&events[0]);
		for (n = 1; n < left; n++) {
			size += respond_event_size(&events[n]);
			if (size >= max)
				break;
		}
		response->events = events;
		response->n_events = n;
		response->fragment = n < left;
		send_response(w->stream, response, revision);
		events += n;
		left -= n;
	}
}

static void send_events(struct watch *w, const struct mvcc_events *events)
{
	struct respond_watch response = { .watch_id = w->id, .events = events->events,
					  .n_events = events->n };

	w->quiet = false;
	core_state(w->stream->server->core)->figures.events += events->n;
	if (w->fragment)
		send_fragments(w, &response, events->revision);
	else
		send_response(w->stream, &response, events->revision);
}

/* The history that it would need is gone. Its id stays taken until it is cancelled. */
static void end_compacted(struct watch *w, int64_t compact_revision)
{
	struct respond_watch response = { .watch_id = w->id, .canceled = true,
					  .compact_revision = compact_revision };

	mvcc_unwatch(store_of(w->stream), w->watcher);
	w->watcher = NULL;
	send_response(w->stream, &response, 0);
}

static void deliver(struct watch *w);

static void watch_free(struct watch *w)
{
	mvcc_fetch_release(&w->fetch);
	free(w);
}

static void fetched(struct fetch_job *job)
{
	struct watch *w = container_of(job, struct watch, job);

	w->fetching = false;
	if (!w->stream)
		watch_free(w);
	else if (w->watcher)
		deliver(w);
}

static void fetch(struct watch *w)
{
	w->fetching = true;
	w->job.fetch = &w->fetch;
	w->job.done = fetched;
	core_submit_fetch(w->stream->server->core, &w->job);
}

/* Sends what there is until it is synced, waits for values, or the stream is full. */
static void deliver(struct watch *w)
{
	struct watch_stream *st = w->stream;
	struct mvcc_events events;
	int outcome = 0;

	mvcc_events_init(&events);
	while (!w->fetching && list_empty(&w->node)) {
		if (grpc_call_queued(st->call) >= GRPC_HIGH_WATER) {
			list_add_tail(&st->blocked, &w->node);
			break;
		}
		outcome = mvcc_watch_next(store_of(st), w->watcher, EVENTS_PER_RESPONSE,
					  &w->fetch, &events);
		if (outcome)
			break;
		mvcc_fetch_release(&w->fetch);
		mvcc_fetch_init(&w->fetch);
		if (!events.n)
			break;
		send_events(w, &events);
		mvcc_events_release(&events);
		mvcc_events_init(&events);
	}
	if (outcome == MVCC_COLD)
		fetch(w);
	else if (outcome == MVCC_COMPACTED)
		end_compacted(w, events.compact_revision);
	else if (outcome < 0)
		grpc_call_finish(st->call, status_too_many_requests.code,
				 status_too_many_requests.text);
	mvcc_events_release(&events);
}

void api_watch_deliver(struct server *server)
{
	struct mvcc *store = core_state(server->core)->store;
	struct mvcc_watcher *watcher;

	while ((watcher = mvcc_watch_ready(store)))
		deliver(mvcc_watcher_owner(watcher));
}

/* --- creating and cancelling ---------------------------------------------- */

static struct watch *find_watch(struct watch_stream *st, int64_t id)
{
	struct watch *w;

	htable_for_hash(w, &st->watches, hash_u64((uint64_t)id), struct watch, by_id)
		if (w->id == id)
			return w;
	return NULL;
}

static void refuse(struct watch_stream *st, const char *reason)
{
	struct respond_watch response = { .watch_id = INVALID_WATCH_ID, .created = true,
					  .canceled = true, .cancel_reason = reason };

	send_response(st, &response, mvcc_revision(store_of(st)));
}

/* An id of 0 asks for one. */
static bool choose_id(struct watch_stream *st, int64_t *id)
{
	if (*id)
		return !find_watch(st, *id);
	while (find_watch(st, st->next_id))
		st->next_id++;
	*id = st->next_id++;
	return true;
}

static struct mvcc_watch_args args_of(const Etcdserverpb__WatchCreateRequest *r)
{
	struct mvcc_watch_args args = { .start_revision = r->start_revision,
					.prev_kv = r->prev_kv };

	/* the smallest key is one zero byte */
	args.range.key = r->key.len ? pb_bytes(r->key) : SLICE_LIT("\0");
	args.range.end = pb_bytes(r->range_end);
	for (size_t i = 0; i < r->n_filters; i++) {
		args.no_put |= r->filters[i] ==
			ETCDSERVERPB__WATCH_CREATE_REQUEST__FILTER_TYPE__NOPUT;
		args.no_delete |= r->filters[i] ==
			ETCDSERVERPB__WATCH_CREATE_REQUEST__FILTER_TYPE__NODELETE;
	}
	return args;
}

static bool range_is_empty(const struct mvcc_key_range *range)
{
	if (!range->end.len || (range->end.len == 1 && !range->end.data[0]))
		return false;
	return slice_cmp(range->key, range->end) >= 0;
}

static struct watch *add_watch(struct watch_stream *st, int64_t id,
			       const Etcdserverpb__WatchCreateRequest *r,
			       struct mvcc_watch_args *args)
{
	struct watch *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->stream = st;
	w->id = id;
	w->start_revision = r->start_revision;
	w->progress = r->progress_notify;
	w->fragment = r->fragment;
	w->quiet = true;
	list_init(&w->node);
	mvcc_fetch_init(&w->fetch);
	args->owner = w;
	if (mvcc_watch(store_of(st), args, &w->watcher)) {
		free(w);
		return NULL;
	}
	if (htable_insert(&st->watches, &w->by_id, hash_u64((uint64_t)id))) {
		mvcc_unwatch(store_of(st), w->watcher);
		free(w);
		return NULL;
	}
	return w;
}

static void create(struct watch_stream *st, const Etcdserverpb__WatchCreateRequest *r)
{
	struct respond_watch response = { .watch_id = r->watch_id, .created = true };
	struct mvcc_watch_args args = args_of(r);

	if (r->start_revision < 0)
		refuse(st, status_compacted.text);
	else if (range_is_empty(&args.range))
		refuse(st, "mvcc: watcher range is empty");
	else if (!choose_id(st, &response.watch_id))
		refuse(st, "mvcc: duplicate watch ID provided on the WatchStream");
	else if (!add_watch(st, response.watch_id, r, &args))
		refuse(st, status_too_many_requests.text);
	else
		send_response(st, &response, mvcc_revision(store_of(st)));
}

/* Takes it out of its stream and frees it, now or when its fetch is back. */
static void drop_watch(struct watch *w)
{
	struct watch_stream *st = w->stream;

	if (w->watcher)
		mvcc_unwatch(store_of(st), w->watcher);
	w->watcher = NULL;
	list_del(&w->node);
	htable_delete(&st->watches, &w->by_id);
	w->stream = NULL;
	if (!w->fetching)
		watch_free(w);
}

static void cancel(struct watch_stream *st, int64_t id)
{
	struct respond_watch response = { .watch_id = id, .canceled = true };
	struct watch *w = find_watch(st, id);

	if (!w)
		return;
	drop_watch(w);
	send_response(st, &response, mvcc_revision(store_of(st)));
}

/* --- progress ------------------------------------------------------------- */

static bool synced(const struct watch *w)
{
	const struct mvcc *store = store_of(w->stream);

	return w->watcher && !w->fetching && list_empty(&w->node) &&
	       mvcc_watcher_synced(store, w->watcher) &&
	       w->start_revision <= mvcc_revision(store);
}

static void each_watch(struct watch_stream *st, void (*fn)(struct watch *w, void *arg), void *arg)
{
	struct htable_node *node, *next;

	for (size_t i = 0; st->watches.buckets && i <= st->watches.mask; i++) {
		for (node = st->watches.buckets[i]; node; node = next) {
			next = node->next;
			fn(container_of(node, struct watch, by_id), arg);
		}
	}
}

static void check_synced(struct watch *w, void *arg)
{
	bool *all = arg;

	*all &= synced(w);
}

/* One answer for all watches of the stream, or none where one is behind. */
static void progress_all(struct watch_stream *st)
{
	struct respond_watch response = { .watch_id = INVALID_WATCH_ID };
	bool all = st->watches.count > 0;

	each_watch(st, check_synced, &all);
	if (all)
		send_response(st, &response, mvcc_revision(store_of(st)));
}

static void progress_one(struct watch *w, void *arg)
{
	struct respond_watch response = { .watch_id = w->id };

	if (w->progress && w->quiet && synced(w))
		send_response(w->stream, &response, mvcc_revision(store_of(w->stream)));
	w->quiet = true;
}

/* Up to a tenth is added, so that streams do not all speak at once. */
static uint64_t progress_interval(const struct watch_stream *st)
{
	uint64_t interval = (uint64_t)st->server->config->watch_progress_notify_ns;

	return interval + hash_u64((uintptr_t)st) % (interval / 10 + 1);
}

void api_watch_tick(struct server *server, uint64_t now)
{
	struct watch_stream *st;

	list_for_each(st, &server->watch_streams, node) {
		if (now < st->next_progress)
			continue;
		st->next_progress = now + progress_interval(st);
		each_watch(st, progress_one, NULL);
	}
}

/* --- the stream ----------------------------------------------------------- */

static void watch_open(struct grpc_call *call)
{
	struct watch_stream *st = calloc(1, sizeof(*st));

	if (!st) {
		api_fail(call, &status_too_many_requests);
		return;
	}
	st->server = call_server(call);
	st->call = call;
	st->next_progress = uv_hrtime() + progress_interval(st);
	list_init(&st->blocked);
	list_add_tail(&st->server->watch_streams, &st->node);
	grpc_call_set_user(call, st);
}

static void watch_message(struct grpc_call *call, struct slice message)
{
	struct watch_stream *st = grpc_call_user(call);
	Etcdserverpb__WatchRequest *r;
	ProtobufCMessage *unpacked;
	struct pb_arena arena;

	if (!st)
		return;
	pb_arena_init(&arena);
	if (pb_unpack(&etcdserverpb__watch_request__descriptor, message, &arena, &unpacked)) {
		pb_arena_release(&arena);
		grpc_call_finish(call, GRPC_INTERNAL, "grpc: error unmarshalling request: "
				 "proto: cannot parse invalid wire-format data");
		return;
	}
	r = (Etcdserverpb__WatchRequest *)unpacked;
	if (r->request_union_case == ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST)
		create(st, r->create_request);
	else if (r->request_union_case == ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CANCEL_REQUEST)
		cancel(st, r->cancel_request->watch_id);
	else if (r->request_union_case ==
		 ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_PROGRESS_REQUEST)
		progress_all(st);
	pb_arena_release(&arena);
}

static void watch_writable(struct grpc_call *call)
{
	struct watch_stream *st = grpc_call_user(call);
	struct list blocked;
	struct watch *w;

	if (!st)
		return;
	list_init(&blocked);
	list_splice_tail(&blocked, &st->blocked);
	while (!list_empty(&blocked)) {
		w = list_first(&blocked, struct watch, node);
		list_del(&w->node);
		deliver(w);
	}
}

static void drop_one(struct watch *w, void *arg)
{
	drop_watch(w);
}

static void watch_closed(struct grpc_call *call)
{
	struct watch_stream *st = grpc_call_user(call);

	if (!st)
		return;
	each_watch(st, drop_one, NULL);
	htable_release(&st->watches);
	list_del(&st->node);
	free(st);
}

void api_watch_stop(struct server *server)
{
	struct watch_stream *st, *next;

	list_for_each_safe(st, next, &server->watch_streams, node)
		grpc_call_finish(st->call, status_stopped.code, status_stopped.text);
}

void api_watch_methods(struct method_table *table)
{
	method_add(table, &(struct grpc_method){
		.path = "/etcdserverpb.Watch/Watch", .open = watch_open,
		.message = watch_message, .writable = watch_writable, .closed = watch_closed });
}
