// SPDX-License-Identifier: Apache-2.0

/* Prometheus' text format, by etcd's names, for what there is to say. */

#include <stdarg.h>
#include <stdio.h>

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

static void write_histogram(const char *name, const char *help, const struct histogram *h,
			    struct chain *out)
{
	uint64_t n = 0;

	put_head(out, name, "histogram", help);
	for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
		n += h->counts[i];
		put(out, "%s_bucket{le=\"%g\"} %llu\n", name, (double)histogram_bound(i) / 1e9,
		    (unsigned long long)n);
	}
	n += h->counts[HISTOGRAM_BOUNDS];
	put(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9g\n%s_count %llu\n", name,
	    (unsigned long long)n, name, (double)h->sum / 1e9, name, (unsigned long long)n);
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

void metrics_write(const struct server *s, struct chain *out)
{
	const struct state *state = core_state(s->core);
	struct grpc_server_stats net;
	struct core_status core;
	struct mvcc_stats store;

	core_status(s->core, &core);
	mvcc_stats(state->store, &store);
	grpc_server_stats(s->clients, &net);
	const struct metric metrics[] = {
		{ "etcd_server_has_leader", "gauge", "Whether or not a leader exists.",
		  core.raft.leader != 0 },
		{ "etcd_server_is_leader", "gauge", "Whether or not this member is the leader.",
		  core_is_leader(s->core) },
		{ "etcd_server_leader_changes_seen_total", "counter",
		  "The number of leader changes seen.", (double)core.leader_changes },
		{ "etcd_server_proposals_committed_total", "gauge",
		  "The index of the last committed entry.", (double)core.raft.commit },
		{ "etcd_server_proposals_applied_total", "gauge",
		  "The index of the last applied entry.", (double)core.applied },
		{ "etcd_server_proposals_pending", "gauge",
		  "The number of proposals that are not applied yet.", (double)core.pending },
		{ "etcd_server_proposals_failed_total", "counter",
		  "The number of proposals that failed.", (double)core.proposals_failed },
		{ "etcd_server_quota_backend_bytes", "gauge", "The quota of the store in bytes.",
		  (double)state->quota },
		{ "etcd_mvcc_db_total_size_in_bytes", "gauge", "Bytes of the store on disk.",
		  (double)state->db_size },
		{ "etcd_mvcc_db_total_size_in_use_in_bytes", "gauge",
		  "Bytes of the store that hold records.", (double)state->db_size_in_use },
		{ "etcd_debugging_mvcc_keys_total", "gauge", "The number of keys.",
		  (double)store.keys },
		{ "etcd_debugging_mvcc_current_revision", "gauge", "The current revision.",
		  (double)mvcc_revision(state->store) },
		{ "etcd_debugging_mvcc_compact_revision", "gauge", "The compact revision.",
		  (double)mvcc_compact_revision(state->store) },
		{ "etcd_debugging_mvcc_watcher_total", "gauge", "The number of watchers.",
		  (double)store.watchers },
		{ "etcd_debugging_mvcc_slow_watcher_total", "gauge",
		  "The number of watchers that are behind.", (double)store.watchers_lagging },
		{ "etcd_network_client_grpc_received_bytes_total", "counter",
		  "Bytes received from clients.", (double)net.bytes_in },
		{ "etcd_network_client_grpc_sent_bytes_total", "counter",
		  "Bytes sent to clients.", (double)net.bytes_out },
		{ "kvd_cache_hits_total", "counter", "Values found in the read cache.",
		  (double)store.cache_hits },
		{ "kvd_cache_misses_total", "counter", "Values fetched from the store.",
		  (double)store.cache_misses },
	};

	write_all(metrics, ARRAY_SIZE(metrics), out);
	write_histogram("etcd_disk_wal_fsync_duration_seconds",
			"The latency distributions of fsync called by WAL.", &s->disk.syncs, out);
	write_histogram("etcd_disk_backend_commit_duration_seconds",
			"The latency distributions of commit called by backend.",
			&s->disk.commits, out);
	write_handled(s, out);
	write_process(out);
}
