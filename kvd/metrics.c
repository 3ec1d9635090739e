// SPDX-License-Identifier: Apache-2.0

/* Prometheus' text format, by etcd's names, for what there is to say. */

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "kvd/process.h"
#include "kvd/server.h"

struct metric {
	const char *name, *type, *help;
	double value;
};

static void __printf(2, 3) put(struct chain *out, const char *format, ...)
{
	char text[512];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	BUG_ON(len < 0 || (size_t)len >= sizeof(text));
	chain_append(out, slice_of(text, (size_t)len));
}

static void put_head(struct chain *out, const char *name, const char *type, const char *help)
{
	put(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void write_all(const struct metric *m, size_t n, struct chain *out)
{
	for (size_t i = 0; i < n; i++) {
		put_head(out, m[i].name, m[i].type, m[i].help);
		put(out, "%s %.17g\n", m[i].name, m[i].value);
	}
}

/* @labels: "" or ones that end in a comma. */
static void write_samples(const char *name, const char *labels, enum histogram_shape shape,
			  const struct histogram *h, struct chain *out)
{
	const struct histogram_bounds *b = &histogram_bounds[shape];
	uint64_t n = 0, all = histogram_count(h);
	int len = (int)strlen(labels);
	char own[128] = "";

	for (size_t i = 0; i < b->n; i++) {
		n += h->counts[i];
		put(out, "%s_bucket{%sle=\"%.10g\"} %llu\n", name, labels,
		    (double)(b->first << i) / b->unit, (unsigned long long)n);
	}
	if (len)
		snprintf(own, sizeof(own), "{%.*s}", len - 1, labels);
	put(out, "%s_bucket{%sle=\"+Inf\"} %llu\n%s_sum%s %.9g\n%s_count%s %llu\n", name, labels,
	    (unsigned long long)all, name, own, (double)h->sum / b->unit, name, own,
	    (unsigned long long)all);
}

static void write_histogram(const char *name, const char *help, enum histogram_shape shape,
			    const struct histogram *h, struct chain *out)
{
	put_head(out, name, "histogram", help);
	write_samples(name, "", shape, h, out);
}

/* As go-grpc-prometheus names them; those that the API has for streams. */
static const char *method_type(const struct grpc_method *method)
{
	static const char *const both_ways[] = {
		"/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseKeepAlive",
	};

	if (method->unary)
		return "unary";
	for (size_t i = 0; i < ARRAY_SIZE(both_ways); i++)
		if (!strcmp(method->path, both_ways[i]))
			return "bidi_stream";
	return "server_stream";
}

/* Every method with OK, and with the other codes that it ever ended with. */
static void write_handled(const struct server *s, struct chain *out)
{
	static const char name[] = "grpc_server_handled_total";
	const struct grpc_method *method;
	const uint64_t *handled;
	const char *slash;

	put_head(out, name, "counter",
		 "Total number of RPCs completed on the server, regardless of success or failure.");
	for (size_t i = 0; s->methods[i].path; i++) {
		method = &s->methods[i];
		handled = grpc_server_handled(s->clients, i);
		slash = strrchr(method->path, '/');
		for (int code = 0; code < GRPC_CODES; code++) {
			if (code != GRPC_OK && !handled[code])
				continue;
			put(out, "%s{grpc_code=\"%s\",grpc_method=\"%s\",grpc_service=\"%.*s\","
			    "grpc_type=\"%s\"} %llu\n", name,
			    grpc_code_name((enum grpc_code)code), slash + 1,
			    (int)(slash - method->path - 1), method->path + 1,
			    method_type(method), (unsigned long long)handled[code]);
		}
	}
}

static void write_process(struct chain *out)
{
	struct process p;

	process_read(&p);
	const struct metric metrics[] = {
		{ "process_cpu_seconds_total", "counter", "User and system time in seconds.",
		  p.cpu_seconds },
		{ "process_max_fds", "gauge", "Maximum number of open file descriptors.",
		  p.max_fds },
		{ "process_open_fds", "gauge", "Number of open file descriptors.", p.open_fds },
		{ "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
		  p.resident_bytes },
		{ "process_start_time_seconds", "gauge",
		  "Start time of the process since the epoch in seconds.", p.start_seconds },
		{ "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.",
		  p.virtual_bytes },
		{ "process_virtual_memory_max_bytes", "gauge",
		  "Maximum amount of virtual memory available in bytes.", p.max_virtual_bytes },
	};

	write_all(metrics, ARRAY_SIZE(metrics), out);
}

/* --- by kind -------------------------------------------------------------- */

static void write_server(const struct server *s, struct chain *out)
{
	const struct state *state = core_state(s->core);
	const struct figures *f = &state->figures;
	struct core_status core;

	core_status(s->core, &core);
	const struct metric metrics[] = {
		{ "etcd_server_has_leader", "gauge",
		  "Whether or not a leader exists. 1 is existence, 0 is not.",
		  core.raft.leader != 0 },
		{ "etcd_server_is_leader", "gauge",
		  "Whether or not this member is a leader. 1 if is, 0 otherwise.",
		  core_is_leader(s->core) },
		{ "etcd_server_is_learner", "gauge",
		  "Whether or not this member is a learner. 1 if is, 0 otherwise.",
		  core.raft.learner },
		{ "etcd_server_leader_changes_seen_total", "counter",
		  "The number of leader changes seen.", (double)core.leader_changes },
		{ "etcd_server_proposals_committed_total", "gauge",
		  "The total number of consensus proposals committed.",
		  (double)core.raft.commit },
		{ "etcd_server_proposals_applied_total", "gauge",
		  "The total number of consensus proposals applied.", (double)core.applied },
		{ "etcd_server_proposals_pending", "gauge",
		  "The current number of pending proposals to commit.", (double)core.pending },
		{ "etcd_server_proposals_failed_total", "counter",
		  "The total number of failed proposals seen.", (double)core.proposals_failed },
		{ "etcd_server_read_indexes_failed_total", "counter",
		  "The total number of failed read indexes seen.", (double)f->failed_reads },
		{ "etcd_server_slow_apply_total", "counter", "The total number of slow apply "
		  "requests (likely overloaded from slow disk).", (double)f->slow_applies },
		{ "etcd_server_health_success", "counter",
		  "The total number of successful health checks", (double)f->health_good },
		{ "etcd_server_health_failures", "counter",
		  "The total number of failed health checks", (double)f->health_bad },
		{ "etcd_server_quota_backend_bytes", "gauge",
		  "Current backend storage quota size in bytes.", (double)state->quota },
	};

	write_all(metrics, ARRAY_SIZE(metrics), out);
}

/* Gauges that are 1, and say what they have to say by a label. */
static void write_versions(const struct server *s, struct chain *out)
{
	const char *cluster = core_state(s->core)->cluster.version;

	put_head(out, "etcd_server_id", "gauge", "Server or member ID in hexadecimal format. 1 for "
		 "'server_id' label with current ID.");
	put(out, "etcd_server_id{server_id=\"%llx\"} 1\n",
	    (unsigned long long)core_config(s->core)->member_id);
	put_head(out, "etcd_server_version", "gauge",
		 "Which version is running. 1 for 'server_version' label with current version.");
	put(out, "etcd_server_version{server_version=\"%s\"} 1\n", API_VERSION);
	if (!*cluster)
		return;
	put_head(out, "etcd_cluster_version", "gauge", "Which version is running. 1 for "
		 "'cluster_version' label with current cluster version");
	/* major and minor alone */
	put(out, "etcd_cluster_version{cluster_version=\"%.*s\"} 1\n",
	    (int)(strrchr(cluster, '.') - cluster), cluster);
}

static double count_streams(const struct server *s)
{
	struct list *stream;
	double n = 0;

	for (stream = s->watch_streams.next; stream != &s->watch_streams; stream = stream->next)
		n++;
	return n;
}

/* The time of day at which the last compaction ended; 0: none since the start. */
static double compaction_ended(const struct figures *f)
{
	if (!f->compaction_ended)
		return 0;
	return (double)(time(NULL) - (time_t)((uv_hrtime() - f->compaction_ended) / 1000000000));
}

static void write_keys(const struct server *s, struct chain *out)
{
	const struct state *state = core_state(s->core);
	const struct figures *f = &state->figures;
	struct mvcc_stats store;

	mvcc_stats(state->store, &store);
	const struct metric metrics[] = {
		{ "etcd_mvcc_range_total", "counter",
		  "Total number of ranges seen by this member.", (double)f->ranges },
		{ "etcd_mvcc_put_total", "counter", "Total number of puts seen by this member.",
		  (double)f->puts },
		{ "etcd_mvcc_delete_total", "counter",
		  "Total number of deletes seen by this member.", (double)f->deletes },
		{ "etcd_mvcc_txn_total", "counter", "Total number of txns seen by this member.",
		  (double)f->txns },
		{ "etcd_debugging_mvcc_total_put_size_in_bytes", "gauge",
		  "The total size of put kv pairs seen by this member.", (double)f->put_bytes },
		{ "etcd_debugging_mvcc_keys_total", "gauge", "Total number of keys.",
		  (double)store.keys },
		{ "etcd_debugging_mvcc_current_revision", "gauge",
		  "The current revision of store.", (double)mvcc_revision(state->store) },
		{ "etcd_debugging_mvcc_compact_revision", "gauge",
		  "The revision of the last compaction in store.",
		  (double)mvcc_compact_revision(state->store) },
		{ "etcd_debugging_mvcc_db_compaction_keys_total", "counter",
		  "Total number of db keys compacted.", (double)f->compacted_revisions },
		{ "etcd_debugging_mvcc_db_compaction_last", "gauge", "The unix time of the last "
		  "db compaction. Resets to 0 on start.", compaction_ended(f) },
		{ "etcd_debugging_mvcc_watch_stream_total", "gauge",
		  "Total number of watch streams.", count_streams(s) },
		{ "etcd_debugging_mvcc_watcher_total", "gauge", "Total number of watchers.",
		  (double)store.watchers },
		{ "etcd_debugging_mvcc_slow_watcher_total", "gauge",
		  "Total number of unsynced slow watchers.", (double)store.watchers_lagging },
		{ "etcd_debugging_mvcc_events_total", "counter",
		  "Total number of events sent by this member.", (double)f->events },
		{ "kvd_cache_hits_total", "counter", "Values found in the read cache.",
		  (double)store.cache_hits },
		{ "kvd_cache_misses_total", "counter", "Values fetched from the store.",
		  (double)store.cache_misses },
	};

	write_all(metrics, ARRAY_SIZE(metrics), out);
	write_histogram("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
			"Bucketed histogram of index compaction pause duration.",
			HISTOGRAM_MS_PAUSE, &f->compaction_pauses, out);
	write_histogram("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
			"Bucketed histogram of db compaction total duration.",
			HISTOGRAM_MS_TOTAL, &f->compactions, out);
	write_histogram("etcd_mvcc_hash_duration_seconds",
			"The latency distribution of storage hash operation.",
			HISTOGRAM_SECONDS_HASH, &f->hashes, out);
	write_histogram("etcd_mvcc_hash_rev_duration_seconds",
			"The latency distribution of storage hash by revision operation.",
			HISTOGRAM_SECONDS_HASH, &f->key_hashes, out);
}

static void write_leases(const struct figures *f, struct chain *out)
{
	const struct metric metrics[] = {
		{ "etcd_debugging_lease_granted_total", "counter",
		  "The total number of granted leases.", (double)f->leases_granted },
		{ "etcd_debugging_lease_revoked_total", "counter",
		  "The total number of revoked leases.", (double)f->leases_revoked },
		{ "etcd_debugging_lease_renewed_total", "counter",
		  "The number of renewed leases seen by the leader.",
		  (double)f->leases_renewed },
		{ "etcd_debugging_server_lease_expired_total", "counter",
		  "The total number of expired leases.", (double)f->leases_expired },
	};

	write_all(metrics, ARRAY_SIZE(metrics), out);
	write_histogram("etcd_debugging_lease_ttl_total", "Bucketed histogram of lease TTLs.",
			HISTOGRAM_TTL, &f->lease_ttls, out);
}

static void write_disk(const struct server *s, struct chain *out)
{
	const struct state *state = core_state(s->core);
	const struct metric metrics[] = {
		{ "etcd_mvcc_db_total_size_in_bytes", "gauge", "Total size of the underlying "
		  "database physically allocated in bytes.", (double)state->db_size },
		{ "etcd_mvcc_db_total_size_in_use_in_bytes", "gauge", "Total size of the "
		  "underlying database logically in use in bytes.",
		  (double)state->db_size_in_use },
		{ "etcd_disk_wal_write_bytes_total", "gauge",
		  "Total number of bytes written in WAL.", (double)s->disk.written },
		{ "etcd_disk_defrag_inflight", "gauge", "Whether or not defrag is active on the "
		  "member. 1 means active, 0 means not.", state->figures.defragmenting },
	};

	write_all(metrics, ARRAY_SIZE(metrics), out);
	write_histogram("etcd_disk_wal_write_duration_seconds",
			"The latency distributions of write called by WAL.",
			HISTOGRAM_SECONDS, &s->disk.writes, out);
	write_histogram("etcd_disk_wal_fsync_duration_seconds",
			"The latency distributions of fsync called by WAL.",
			HISTOGRAM_SECONDS, &s->disk.syncs, out);
	write_histogram("etcd_disk_backend_commit_duration_seconds",
			"The latency distributions of commit called by backend.",
			HISTOGRAM_SECONDS, &s->disk.commits, out);
	write_histogram("etcd_disk_backend_defrag_duration_seconds",
			"The latency distribution of backend defragmentation.",
			HISTOGRAM_SECONDS_DEFRAG, &state->figures.defrags, out);
}

/* Those that there were. */
static void write_requests(const struct figures *f, struct chain *out)
{
	static const char requests[] = "etcd_server_request_duration_seconds";
	static const char applies[] = "etcd_server_apply_duration_seconds";
	static const char ranges[] = "etcd_server_range_duration_seconds";
	char labels[96];

	put_head(out, requests, "histogram",
		 "Response latency distribution in seconds for each type.");
	for (int i = 0; i < 2 * REQUEST_OPS; i++) {
		if (!histogram_count(&f->requests[i / 2][i % 2]))
			continue;
		snprintf(labels, sizeof(labels), "success=\"%s\",type=\"%s\",",
			 i % 2 ? "true" : "false", figures_op_name((enum request_op)(i / 2)));
		write_samples(requests, labels, HISTOGRAM_SECONDS, &f->requests[i / 2][i % 2],
			      out);
	}
	put_head(out, applies, "histogram",
		 "The latency distributions of v2 apply called by backend.");
	for (int i = 0; i < 2 * REQUEST_OPS; i++) {
		if (!histogram_count(&f->applies[i / 2][i % 2]))
			continue;
		snprintf(labels, sizeof(labels), "op=\"%s\",success=\"%s\",version=\"v3\",",
			 figures_op_name((enum request_op)(i / 2)), i % 2 ? "true" : "false");
		write_samples(applies, labels, HISTOGRAM_SECONDS_APPLY,
			      &f->applies[i / 2][i % 2], out);
	}
	put_head(out, ranges, "histogram", "The latency distributions of txn.Range");
	for (int i = 0; i < 2; i++)
		if (histogram_count(&f->range_times[i]))
			write_samples(ranges, i ? "success=\"true\"," : "success=\"false\",",
				      HISTOGRAM_SECONDS_APPLY, &f->range_times[i], out);
}

static void write_network(const struct server *s, struct chain *out)
{
	struct grpc_server_stats net;

	grpc_server_stats(s->clients, &net);
	const struct metric metrics[] = {
		{ "etcd_network_client_grpc_received_bytes_total", "counter",
		  "The total number of bytes received from grpc clients.", (double)net.bytes_in },
		{ "etcd_network_client_grpc_sent_bytes_total", "counter",
		  "The total number of bytes sent to grpc clients.", (double)net.bytes_out },
	};

	write_all(metrics, ARRAY_SIZE(metrics), out);
	write_handled(s, out);
}

void metrics_write(const struct server *s, struct chain *out)
{
	const struct figures *f = &core_state(s->core)->figures;

	write_server(s, out);
	write_versions(s, out);
	write_keys(s, out);
	write_leases(f, out);
	write_disk(s, out);
	write_requests(f, out);
	write_network(s, out);
	write_process(out);
}
