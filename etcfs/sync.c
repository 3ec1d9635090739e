// SPDX-License-Identifier: Apache-2.0
/*
 * The tree follows the cluster. The prefix is read once, page by page at one
 * revision, and watched from the next revision on; where the watch cannot resume,
 * because what it missed was compacted, it is read again and compared.
 *
 * Our own writes come back by the watch. Events wait in a queue while a write of
 * ours to the same key is under way; when its answer is there the tree has the new
 * revision, and an event that is not newer changes nothing.
 */
#include <errno.h>

#include "etcfs/etcfs_i.h"
#include "lib/log.h"

#define PAGE_FIRST 64
#define PAGE_MAX 10000
#define PAGE_BYTES (4u << 20)	/* what an answer should not be much larger than */
#define PROBE_MS 1000
#define RELOAD_MS 1000

struct event {
	struct list link;
	bool put;
	struct slice key, value;	/* behind this structure */
	struct version version;
};

struct own_delete {
	struct list link;
	int64_t revision;
	size_t len;
	uint8_t key[];
};

static struct slice of_pb(ProtobufCBinaryData b)
{
	return slice_of(b.data, b.len);
}

static ProtobufCBinaryData to_pb(struct slice s)
{
	return (ProtobufCBinaryData){ .len = s.len, .data = (uint8_t *)s.data };
}

/* --- events ----------------------------------------------------------------------- */

void sync_deleted(struct fs *fs, struct slice key, int64_t revision)
{
	struct own_delete *own;

	if (fs->sync.revision >= revision)
		return;
	own = malloc(sizeof(*own) + key.len);
	if (!own)
		return;		/* the file may be seen again for a moment */
	own->revision = revision;
	own->len = key.len;
	memcpy(own->key, key.data, key.len);
	list_add_tail(&fs->sync.deletes, &own->link);
}

/* What was read, or watched, of the key is older than its deletion by us. */
static bool deleted_by_us(struct fs *fs, struct slice key, int64_t revision)
{
	struct own_delete *own;

	list_for_each(own, &fs->sync.deletes, link)
		if (revision <= own->revision &&
		    slice_eq(slice_of(own->key, own->len), key))
			return true;
	return false;
}

static void reached(struct fs *fs, int64_t revision)
{
	struct own_delete *own, *tmp;

	if (revision <= fs->sync.revision)
		return;
	fs->sync.revision = revision;
	list_for_each_safe(own, tmp, &fs->sync.deletes, link) {
		if (own->revision > revision)
			continue;
		list_del(&own->link);
		free(own);
	}
}

static struct event *event_new(struct fs *fs, const Mvccpb__Event *from)
{
	const Mvccpb__KeyValue *kv = from->kv;
	size_t lead = strlen(fs->prefix);
	struct event *event;
	uint8_t *bytes;

	if (!kv || kv->key.len < lead)
		return NULL;
	event = malloc(sizeof(*event) + kv->key.len + kv->value.len);
	if (!event)
		return NULL;
	bytes = (uint8_t *)(event + 1);
	if (kv->key.len)
		memcpy(bytes, kv->key.data, kv->key.len);
	if (kv->value.len)
		memcpy(bytes + kv->key.len, kv->value.data, kv->value.len);
	event->put = from->type == MVCCPB__EVENT__EVENT_TYPE__PUT;
	event->key = slice_of(bytes + lead, kv->key.len - lead);
	event->value = slice_of(bytes + kv->key.len, kv->value.len);
	event->version = (struct version){
		.create_revision = kv->create_revision, .mod_revision = kv->mod_revision,
		.version = kv->version, .lease = kv->lease,
	};
	return event;
}

static void apply(struct fs *fs, const struct event *event)
{
	struct tree_put put = {
		.key = event->key, .value = event->value, .version = event->version,
	};

	if (deleted_by_us(fs, event->key, event->version.mod_revision))
		return;
	fs->echo.applied++;
	if (!event->put)
		tree_delete(&fs->tree, event->key, event->version.mod_revision);
	else if (tree_put(&fs->tree, &put, NULL))
		log_error("no memory for a change made elsewhere",
			  LOG_BYTES("key", event->key));
}

void sync_apply(struct fs *fs)
{
	struct sync *sync = &fs->sync;
	size_t lead = strlen(fs->prefix);
	struct event *event;

	fs_now(fs);
	while (!list_empty(&sync->events)) {
		event = list_first(&sync->events, struct event, link);
		/* the key with its prefix stands right before */
		if (ops_write(fs, slice_of(event->key.data - lead, event->key.len + lead)))
			break;
		list_del(&event->link);
		apply(fs, event);
		if (list_empty(&sync->events) ||
		    list_first(&sync->events, struct event, link)->version.mod_revision !=
		    event->version.mod_revision)
			reached(fs, event->version.mod_revision);
		free(event);
	}
	echo_settle(fs);
}

/* --- the watch -------------------------------------------------------------------- */

static void on_events(void *user, const Etcdserverpb__WatchResponse *response)
{
	struct fs *fs = user;

	for (size_t i = 0; i < response->n_events; i++) {
		struct event *event = event_new(fs, response->events[i]);

		if (event)
			list_add_tail(&fs->sync.events, &event->link);
	}
	sync_apply(fs);
}

static void on_created(void *user, const Etcdserverpb__WatchResponse *response)
{
	struct fs *fs = user;

	log_debug("watching the prefix", LOG_I64("from", fs->sync.revision + 1),
		  LOG_STR("endpoint", client_endpoint(fs->client)));
}

static void on_lost(void *user)
{
	struct fs *fs = user;

	log_warn("the connection to the cluster was lost; reads go on from memory",
		 LOG_STR("endpoint", client_endpoint(fs->client)));
}

static void load(struct fs *fs);

static void on_reload(uv_timer_t *timer)
{
	load(timer->data);
}

static void on_canceled(void *user, const char *reason, int64_t compact_revision)
{
	struct fs *fs = user;

	log_warn("the watch ended; reading the prefix again", LOG_STR("reason", reason),
		 LOG_I64("compact-revision", compact_revision));
	fs->sync.watch = NULL;
	uv_timer_start(&fs->sync.reload, on_reload, compact_revision ? 0 : RELOAD_MS, 0);
}

static int watch(struct fs *fs)
{
	static const uint8_t zero[1];
	struct txn scratch;
	struct client_watch_args args = {
		.key = slice_str(fs->prefix), .start_revision = fs->sync.revision + 1,
		.fragment = true, .progress_notify = true,
	};
	struct client_watch_callbacks callbacks = {
		.created = on_created, .events = on_events, .lost = on_lost,
		.canceled = on_canceled, .user = fs,
	};
	int err;

	if (!args.key.len)
		args.key = slice_of(zero, 1);
	txn_init(&scratch);
	args.range_end = txn_prefix_end(&scratch, slice_str(fs->prefix));
	err = scratch.failed ? -ENOMEM :
	      client_watch_open(fs->client, &args, &callbacks, &fs->sync.watch);
	txn_release(&scratch);
	return err;
}

/* --- loading ---------------------------------------------------------------------- */

static void loaded(struct fs *fs, int err, const char *why)
{
	struct sync *sync = &fs->sync;

	free((void *)sync->next_key.data);
	sync->next_key = slice_of(NULL, 0);
	if (!err) {
		reached(fs, sync->loading);
		err = tree_sweep(&fs->tree, sync->loading);
	}
	if (!err)
		err = watch(fs);
	if (sync->loaded) {
		sync->loaded(fs, err, why);
		sync->loaded = NULL;
	} else if (err) {
		log_warn("the prefix could not be read", LOG_STR("reason", why), LOG_ERR(err));
		uv_timer_start(&sync->reload, on_reload, RELOAD_MS, 0);
	}
	echo_settle(fs);
}

static void load_page(struct fs *fs);

static void keep_page(struct fs *fs, const Etcdserverpb__RangeResponse *response, size_t *bytes)
{
	size_t lead = strlen(fs->prefix);

	for (size_t i = 0; i < response->n_kvs; i++) {
		const Mvccpb__KeyValue *kv = response->kvs[i];
		struct tree_put put = {
			.key = slice_of(kv->key.data + lead, kv->key.len - lead),
			.value = of_pb(kv->value),
			.version = { kv->create_revision, kv->mod_revision, kv->version,
				     kv->lease },
		};

		*bytes += kv->key.len + kv->value.len;
		if (kv->key.len < lead || deleted_by_us(fs, put.key, kv->mod_revision))
			continue;
		if (tree_put(&fs->tree, &put, NULL))
			log_error("no memory for a key", LOG_BYTES("key", put.key));
	}
}

static void on_page(void *user, const struct client_result *result)
{
	const Etcdserverpb__RangeResponse *response;
	struct fs *fs = user;
	struct sync *sync = &fs->sync;
	const Mvccpb__KeyValue *last;
	size_t bytes = 0;
	uint8_t *next;

	if (result->code != GRPC_OK) {
		loaded(fs, -EIO, result->text);
		return;
	}
	response = (const Etcdserverpb__RangeResponse *)result->response;
	if (!sync->loading)
		sync->loading = response->header->revision;
	fs_now(fs);
	keep_page(fs, response, &bytes);
	if (!response->more || !response->n_kvs) {
		loaded(fs, 0, "");
		return;
	}
	if (bytes > PAGE_BYTES)
		sync->page = MAX(sync->page / 2, 1);
	else if (bytes < PAGE_BYTES / 4)
		sync->page = MIN(sync->page * 2, PAGE_MAX);
	last = response->kvs[response->n_kvs - 1];
	next = malloc(last->key.len + 1);
	if (!next) {
		loaded(fs, -ENOMEM, "no memory");
		return;
	}
	memcpy(next, last->key.data, last->key.len);
	next[last->key.len] = 0;
	free((void *)sync->next_key.data);
	sync->next_key = slice_of(next, last->key.len + 1);
	load_page(fs);
}

static void load_page(struct fs *fs)
{
	Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
	struct sync *sync = &fs->sync;
	struct txn scratch;
	int err = -ENOMEM;

	txn_init(&scratch);
	range.key = to_pb(sync->next_key);
	range.range_end = to_pb(txn_prefix_end(&scratch, slice_str(fs->prefix)));
	range.limit = sync->page;
	range.revision = sync->loading;
	if (!scratch.failed)
		err = client_call(fs->client, &client_kv_range, &range.base,
				  (unsigned)MILLISECONDS(fs->config->timeout), on_page, fs, NULL);
	txn_release(&scratch);
	if (err)
		loaded(fs, err, "no memory");
}

/* Starts at the prefix; the empty one starts at the first key there can be. */
static void load(struct fs *fs)
{
	struct sync *sync = &fs->sync;
	size_t len = MAX(strlen(fs->prefix), (size_t)1);
	uint8_t *key = malloc(len);

	if (!key) {
		loaded(fs, -ENOMEM, "no memory");
		return;
	}
	memcpy(key, fs->prefix, len);
	free((void *)sync->next_key.data);
	sync->next_key = slice_of(key, len);
	sync->loading = 0;
	sync->page = PAGE_FIRST;
	fs->tree.generation++;
	load_page(fs);
}

/* --- with and without a quorum ------------------------------------------------------ */

static void on_status(void *user, const struct client_result *result)
{
	const Etcdserverpb__StatusResponse *status;
	struct fs *fs = user;

	if (result->code != GRPC_OK)
		return;
	status = (const Etcdserverpb__StatusResponse *)result->response;
	fs->sync.db_size = status->dbsizeinuse;
	fs->sync.db_quota = status->dbsizequota;
}

void sync_status(struct fs *fs)
{
	Etcdserverpb__StatusRequest status = ETCDSERVERPB__STATUS_REQUEST__INIT;

	client_call(fs->client, &client_maintenance_status, &status.base, 0, on_status, fs, NULL);
}

static void on_probe(void *user, const struct client_result *result)
{
	struct fs *fs = user;

	fs->sync.probing = false;
	if (result->code == GRPC_OK)
		sync_health(fs, 0);
}

/* A linearizable read is answered only by a member that has a quorum. */
static void probe(uv_timer_t *timer)
{
	Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
	struct fs *fs = timer->data;

	if (fs->sync.probing)
		return;
	range.key = to_pb(SLICE_LIT("/"));
	range.count_only = true;
	fs->sync.probing = !client_call(fs->client, &client_kv_range, &range.base, PROBE_MS,
					on_probe, fs, NULL);
}

void sync_health(struct fs *fs, int err)
{
	struct sync *sync = &fs->sync;
	bool lost = err == -ETIMEDOUT || err == -EIO;

	if ((err && !lost) || lost == sync->lost)
		return;
	sync->lost = lost;
	if (lost) {
		log_warn("no quorum: read-only until it is back");
		uv_timer_start(&sync->probe, probe, PROBE_MS, PROBE_MS);
	} else {
		log_info("the quorum is back: writable again");
		uv_timer_stop(&sync->probe);
	}
}

int sync_start(struct fs *fs, void (*on_loaded)(struct fs *fs, int err, const char *why))
{
	struct sync *sync = &fs->sync;

	list_init(&sync->events);
	list_init(&sync->deletes);
	uv_timer_init(fs->loop, &sync->probe);
	uv_timer_init(fs->loop, &sync->reload);
	sync->probe.data = sync->reload.data = fs;
	sync->loaded = on_loaded;
	load(fs);
	sync_status(fs);
	return 0;
}

void sync_stop(struct fs *fs)
{
	struct sync *sync = &fs->sync;
	struct event *event, *tmp;
	struct own_delete *own, *next;

	if (sync->watch)
		client_watch_cancel(sync->watch);
	sync->watch = NULL;
	list_for_each_safe(event, tmp, &sync->events, link)
		free(event);
	list_for_each_safe(own, next, &sync->deletes, link)
		free(own);
	list_init(&sync->events);
	list_init(&sync->deletes);
	free((void *)sync->next_key.data);
	uv_close((uv_handle_t *)&sync->probe, NULL);
	uv_close((uv_handle_t *)&sync->reload, NULL);
}
