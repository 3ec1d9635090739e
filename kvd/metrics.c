// SPDX-License-Identifier: Apache-2.0

/* Prometheus' text format, by etcd's names, for what there is to say. */

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kvd/server.h"

struct metric {
	const char *name, *type, *help;
	double value;
};

static double resident_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	long pages = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%*s %ld", &pages) != 1)
		pages = 0;
	fclose(f);
	return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void write_all(const struct metric *m, size_t n, struct chain *out)
{
	char text[512];
	int len;

	for (size_t i = 0; i < n; i++) {
		len = snprintf(text, sizeof(text), "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n",
			       m[i].name, m[i].help, m[i].name, m[i].type, m[i].name, m[i].value);
		BUG_ON(len < 0 || (size_t)len >= sizeof(text));
		chain_append(out, slice_of(text, (size_t)len));
	}
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
		{ "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
		  resident_bytes() },
		{ "process_cpu_seconds_total", "counter", "User and system time in seconds.",
		  cpu_seconds() },
	};

	write_all(metrics, ARRAY_SIZE(metrics), out);
}
