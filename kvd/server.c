// SPDX-License-Identifier: Apache-2.0

/* Starting a member, its turns, and stopping it. */

#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "kvd/server.h"

#define SHUTDOWN_GRACE_MS 3000

static void start_failed(const char *why)
{
	log_fatal("cannot start", LOG_STR("error", why));
	fprintf(stderr, "kvd: %s\n", why);
}

static void die(const char *what, int err)
{
	log_fatal("ending, because nothing that follows would be sure", LOG_STR("while", what),
		  LOG_ERR(err));
	_exit(1);
}

/* --- turns ---------------------------------------------------------------- */

static void became_ready(struct server *s)
{
	struct core_status status;

	core_status(s->core, &status);
	if (s->ready || !status.published)
		return;
	s->ready = true;
	log_info("published local member to cluster through raft",
		 LOG_STR("local-member-name", s->config->name));
	log_info("ready to serve client requests");
	for (size_t i = 0; i < s->config->listen_client_urls.n; i++)
		log_info("serving client traffic insecurely; this is strongly discouraged!",
			 LOG_STR("traffic", "grpc+http"),
			 LOG_STR("address", s->config->listen_client_urls.texts[i]));
	sd_notify(0, "READY=1");
}

static void nothing(uv_idle_t *idle)
{
}

static void turn(struct server *s)
{
	uint64_t now = uv_hrtime();
	int err = core_turn(s->core, now);

	if (err)
		die("carrying out what is committed", err);
	/* a log of a larger group, whose messages nobody here would send */
	if (core_take_messages(s->core))
		die("talking to other members", -ENOTSUP);
	api_watch_deliver(s);
	disk_submit(&s->disk, now, false);
	became_ready(s);
	grpc_server_flush(s->clients);
	/* an idle handle keeps the loop from waiting */
	if (core_busy(s->core))
		uv_idle_start(&s->idle, nothing);
	else
		uv_idle_stop(&s->idle);
}

static void on_check(uv_check_t *check)
{
	turn(check->data);
}

/* --- time ----------------------------------------------------------------- */

static void compact_to(struct server *s, int64_t revision)
{
	Etcdserverpb__CompactionRequest compact = ETCDSERVERPB__COMPACTION_REQUEST__INIT;

	compact.revision = revision;
	log_info("starting auto compaction", LOG_I64("revision", revision));
	if (core_propose_own(s->core, REQUEST_COMPACT, &compact.base))
		log_warn("cannot start the compaction now", LOG_I64("revision", revision));
}

static void on_tick(uv_timer_t *timer)
{
	struct server *s = timer->data;
	uint64_t now = uv_hrtime();
	int64_t revision;
	int err = core_tick(s->core, now);

	if (err)
		die("counting time", err);
	api_watch_tick(s, now);
	if (!core_is_leader(s->core))
		return;
	revision = compactor_due(&s->compactor, now, api_revision(s));
	if (revision > 0)
		compact_to(s, revision);
}

/* --- starting ------------------------------------------------------------- */

/* What a new cluster's log begins with: a change for each member, as in etcd. */
struct first_log {
	struct raft_entry entries[MEMBERS_MAX];
	size_t n;
};

static int first_log_make(const struct kvd_config *config, struct first_log *log,
			  struct disk_first *first)
{
	const struct kvd_first_members *members = &config->initial_cluster;
	uint64_t ids[MEMBERS_MAX];

	if (members->n > MEMBERS_MAX)
		return -E2BIG;
	for (size_t i = 0; i < members->n; i++) {
		const struct kvd_first_member *m = &members->members[i];
		const char *const *urls = (const char *const *)m->peer_urls.texts;

		ids[i] = cluster_member_id(urls, m->peer_urls.n, config->initial_cluster_token);
		log->entries[i] = (struct raft_entry){
			.term = 1, .index = i + 1, .type = RAFT_ENTRY_CONF_CHANGE,
			.payload = cluster_encode_add(i + 1, ids[i], urls, m->peer_urls.n,
						      m->name),
		};
		if (!log->entries[i].payload)
			return -ENOMEM;
		log->n = i + 1;
		if (!strcmp(m->name, config->name))
			first->identity.member_id = ids[i];
	}
	first->identity.cluster_id = cluster_id(ids, members->n);
	first->entries = log->entries;
	first->n_entries = log->n;
	return 0;
}

static int make_first(const struct kvd_config *config, struct first_log *log,
		      struct disk_first *first, char *why, size_t why_size)
{
	int found = disk_probe(config, why, why_size), err;

	if (found)
		return MIN(found, 0);
	err = kvd_options_check_first_start(config, why, why_size);
	if (err)
		return err;
	if (config->existing_cluster || config->initial_cluster.n != 1) {
		snprintf(why, why_size, "a cluster of more than one member is not supported yet: "
			 "give --initial-cluster with %s alone and --initial-cluster-state=new",
			 config->name);
		return -ENOTSUP;
	}
	err = first_log_make(config, log, first);
	if (err)
		snprintf(why, why_size, "cannot make the first log entries: %s",
			 log_strerror(err));
	return err;
}

static int open_core(struct server *s, const struct wal_contents *contents,
		     const struct disk_identity *identity, char *why, size_t why_size)
{
	const struct kvd_config *c = s->config;
	struct core_config config = {
		.member_id = identity->member_id,
		.cluster_id = identity->cluster_id,
		.election_ticks = (uint32_t)(c->election_ms / c->heartbeat_ms),
		.heartbeat_ticks = 1,
		.tick = (uint64_t)c->heartbeat_ms * 1000000,
		.clock = uv_hrtime,
		.snapshot_count = (uint64_t)c->snapshot_count,
		.scrub_period = (uint64_t)c->corrupt_check_ns,
		.quota = c->quota_bytes,
		.name = c->name,
		.client_urls = c->advertise_client_urls.texts,
		.n_client_urls = c->advertise_client_urls.n,
		.hard_state = contents->hard_state,
		.entries = contents->entries,
		.n_entries = contents->n_entries,
	};
	struct mvcc_backend_size size;
	const char *cause = "";
	int err;

	/* request ids of two lives of a member must not meet in one log */
	if (getentropy(&config.seed, sizeof(config.seed)))
		config.seed = uv_hrtime() ^ identity->member_id;
	err = core_open(&config, s->disk.store, &s->core, &cause);
	if (!err) {
		/* the quota counts from the first request on */
		cause = "the size of the store is not known";
		err = mvcc_backend_size(s->disk.backend, &size);
	}
	if (!err) {
		core_state(s->core)->db_size = size.total;
		core_state(s->core)->db_size_in_use = size.in_use;
	}
	if (err)
		snprintf(why, why_size, "cannot open the member in %s: %s (%s)", c->data_dir, cause,
			 log_strerror(err));
	return err;
}

static int open_state(struct server *s, char *why, size_t why_size)
{
	struct wal_contents contents = { 0 };
	struct disk_identity identity = { 0 };
	struct disk_first first = { 0 };
	struct first_log log = { .n = 0 };
	int err = make_first(s->config, &log, &first, why, why_size);

	if (!err)
		err = disk_open(&s->disk, s->config, &first, &contents, &identity, why, why_size);
	if (!err) {
		log_info("opened the log and the store", LOG_HEX("local-member-id",
			 identity.member_id), LOG_HEX("cluster-id", identity.cluster_id),
			 LOG_U64("entries", contents.n_entries),
			 LOG_I64("revision", mvcc_revision(s->disk.store)));
		if (contents.torn_bytes)
			log_warn("the last record of the log was torn; it was never acknowledged, "
				 "and a copy is kept", LOG_U64("bytes", contents.torn_bytes));
		err = open_core(s, &contents, &identity, why, why_size);
	}
	wal_contents_release(&contents);
	for (size_t i = 0; i < log.n; i++)
		blob_put(log.entries[i].payload);
	return err;
}

static void fill_methods(struct server *s, struct grpc_method *methods)
{
	struct method_table table = { methods, 0, s };

	api_kv_methods(&table);
	api_watch_methods(&table);
	api_lease_methods(&table);
	api_cluster_methods(&table);
	api_maintenance_methods(&table);
	api_health_methods(&table);
	methods[table.n].path = NULL;
}

static int listen_all(struct grpc_server *server, const struct kvd_urls *urls, char *why,
		      size_t why_size)
{
	int err;

	for (size_t i = 0; i < urls->n; i++) {
		err = grpc_server_listen(server, urls->texts[i], why, why_size);
		if (err)
			return err;
	}
	return 0;
}

static int listen_clients_and_peers(struct server *s, char *why, size_t why_size)
{
	static const struct grpc_method none[1];
	struct grpc_server_config clients = {
		.methods = s->methods,
		.max_message = (size_t)s->config->max_request_bytes + (512 << 10),
		.max_concurrent_streams = (uint32_t)s->config->max_concurrent_streams,
		.http = http_clients, .user = s,
	};
	struct grpc_server_config peers = {
		.methods = none, .max_message = 1 << 20, .max_concurrent_streams = 100,
		.http = http_peers, .user = s,
	};
	int err;

	if ((err = grpc_server_new(&s->loop, &clients, &s->clients)) ||
	    (err = grpc_server_new(&s->loop, &peers, &s->peers))) {
		snprintf(why, why_size, "cannot make the servers: %s", log_strerror(err));
		return err;
	}
	err = listen_all(s->clients, &s->config->listen_client_urls, why, why_size);
	if (!err)
		err = listen_all(s->peers, &s->config->listen_peer_urls, why, why_size);
	return err;
}

/* --- stopping ------------------------------------------------------------- */

static void on_closed(void *arg)
{
	struct server *s = arg;

	if (--s->n_closing)
		return;
	uv_timer_stop(&s->tick);
	uv_idle_stop(&s->idle);
	uv_stop(&s->loop);
}

static void shut_down(struct server *s, unsigned grace_ms)
{
	struct grpc_server *servers[] = { s->clients, s->peers };

	s->stopping = true;
	s->n_closing = !!s->clients + !!s->peers;
	for (size_t i = 0; i < ARRAY_SIZE(servers); i++)
		if (servers[i])
			grpc_server_shutdown(servers[i], grace_ms, on_closed, s);
}

static void on_signal(uv_signal_t *handle, int signum)
{
	struct server *s = handle->data;

	if (s->stopping)
		return;
	log_info("received signal; shutting down", LOG_STR("signal", strsignal(signum)));
	sd_notify(0, "STOPPING=1");
	shut_down(s, SHUTDOWN_GRACE_MS);
	api_watch_stop(s);
}

/* The listeners of a member that did not come up. No turn is taken any more. */
static void give_up(struct server *s)
{
	uv_check_stop(&s->check);
	shut_down(s, 0);
	if (s->n_closing)
		uv_run(&s->loop, UV_RUN_DEFAULT);
}

/* Everything that was acknowledged goes to the store, so that the next start has
 * nothing to replay. */
static void settle(struct server *s)
{
	uint64_t now;
	int err;

	core_wind_down(s->core);
	do {
		now = uv_hrtime();
		err = core_turn(s->core, now);
		if (err)
			die("stopping", err);
		disk_submit(&s->disk, now, true);
		if (!disk_idle(&s->disk))
			uv_run(&s->loop, UV_RUN_ONCE);
	} while (!disk_idle(&s->disk));
}

static void close_handle(uv_handle_t *handle, void *arg)
{
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

static void count_closed(void *arg)
{
	struct server *s = arg;

	s->n_closing--;
}

/* What a start that failed has opened; nothing is served yet. */
static void close_listeners(struct server *s)
{
	struct grpc_server *servers[] = { s->clients, s->peers };

	for (size_t i = 0; i < ARRAY_SIZE(servers); i++) {
		if (!servers[i])
			continue;
		s->n_closing++;
		grpc_server_shutdown(servers[i], 0, count_closed, s);
	}
	while (s->n_closing)
		uv_run(&s->loop, UV_RUN_ONCE);
}

static void server_release(struct server *s)
{
	if (!s->stopping)
		close_listeners(s);
	disk_stop(&s->disk);
	grpc_server_free(s->clients);
	grpc_server_free(s->peers);
	core_close(s->core);
	disk_close(&s->disk);
	uv_walk(&s->loop, close_handle, NULL);
	uv_run(&s->loop, UV_RUN_DEFAULT);
	uv_loop_close(&s->loop);
	free(s->methods);
	free(s);
}

static int start_handles(struct server *s)
{
	static const int signals[] = { SIGTERM, SIGINT };
	uint64_t tick = (uint64_t)s->config->heartbeat_ms;

	uv_timer_init(&s->loop, &s->tick);
	uv_check_init(&s->loop, &s->check);
	uv_idle_init(&s->loop, &s->idle);
	s->tick.data = s->check.data = s->idle.data = s;
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		uv_signal_init(&s->loop, &s->signals[i]);
		s->signals[i].data = s;
		uv_signal_start(&s->signals[i], on_signal, signals[i]);
	}
	uv_timer_start(&s->tick, on_tick, tick, tick);
	uv_check_start(&s->check, on_check);
	/* the first turn does not wait for a tick */
	uv_idle_start(&s->idle, nothing);
	return disk_start(&s->disk, s->core, &s->loop);
}

static int server_start(struct server *s, char *why, size_t why_size)
{
	int err;

	s->methods = calloc(SERVER_METHODS_MAX, sizeof(*s->methods));
	if (!s->methods)
		return -ENOMEM;
	fill_methods(s, s->methods);
	compactor_init(&s->compactor, s->config->compaction_mode == KVD_COMPACT_REVISION,
		       s->config->compaction_retention, uv_hrtime());
	/* the ports first: a member that cannot be reached has no business with its disk */
	err = listen_clients_and_peers(s, why, why_size);
	if (!err)
		err = open_state(s, why, why_size);
	if (!err && (err = start_handles(s)))
		snprintf(why, why_size, "cannot start threads: %s", log_strerror(err));
	return err;
}

int server_run(const struct kvd_config *config)
{
	struct server *s = calloc(1, sizeof(*s));
	char why[512] = "out of memory";
	int err = s ? 0 : -ENOMEM;

	if (!err) {
		s->config = config;
		list_init(&s->watch_streams);
		uv_loop_init(&s->loop);
		err = server_start(s, why, sizeof(why));
	}
	if (err) {
		start_failed(why);
		if (s) {
			give_up(s);
			server_release(s);
		}
		return 1;
	}
	uv_run(&s->loop, UV_RUN_DEFAULT);
	settle(s);
	log_info("stopped", LOG_I64("revision", api_revision(s)));
	server_release(s);
	return 0;
}
