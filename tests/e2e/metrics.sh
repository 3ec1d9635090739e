#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# metrics.sh: /metrics. What it says is true; and, where etcd has been built (make
# peer), each metric that both have is of the same type, with the same words, labels
# and buckets, and nothing else of etcd's is missing than what is listed here.
. "$(dirname "$0")/../common.sh"

# What there is nothing to say of: bbolt's insides (commits in three parts, read
# transactions, which kvd's store does not have), snapshots and peers (not yet), the
# queue of events (there is none: a watcher is a cursor), etcd's v2 store and
# feature gates, Go, and the database's pause for compaction (it makes none).
ABSENT='etcd_debugging_auth_revision
etcd_debugging_disk_backend_commit_(rebalance|spill|write)_duration_seconds
etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds
etcd_debugging_mvcc_pending_events_total
etcd_debugging_server_watch_send_loop_.*
etcd_debugging_snap_.*
etcd_debugging_store_.*
etcd_disk_backend_snapshot_duration_seconds
etcd_grpc_proxy_.*
etcd_mvcc_db_open_read_transactions
etcd_network_known_peers
etcd_server_client_requests_total
etcd_server_feature_enabled
etcd_server_go_version
etcd_server_heartbeat_send_failures_total
etcd_server_learner_promote_successes
etcd_server_slow_read_indexes_total
etcd_server_snapshot_apply_in_progress_total
etcd_snap_.*'

ctl() { timeout 10 "$KVCTL" --endpoints "$URL" "$@" 2>&1; }

# A little of everything.
work() {
	local i
	for i in 1 2 3; do ctl put key "value $i"; done
	ctl get key
	ctl txn <<<$'\nput a 1\nput b 2\n\n'
	ctl del a
	ctl compaction 3 --physical
	ctl lease grant 100
	ctl put key x --lease 123456
} >/dev/null

metrics_of() { HTTP=1.0 http "$1" GET /metrics | tail -n +2; }

# shape FILE: for each metric of etcd's a line: name, type, words; labels; buckets
shape() {
	awk '/^# HELP etcd_/ { name = $3; sub("# HELP [^ ]* ", ""); help[name] = $0; next }
		/^# TYPE etcd_/ { type[$3] = $4; next }
		/^etcd_/ {
			name = $0; sub(/[ {].*/, "", name)
			base = name; sub(/_(bucket|sum|count)$/, "", base)
			if (!(base in type)) base = name
			text = $0; sub(/^[^{ ]*/, "", text); sub(/ [^ ]*$/, "", text)
			if (name ~ /_bucket$/) {
				le = text; sub(/.*le="/, "", le); sub(/".*/, "", le)
				if (le != "+Inf") le += 0
				if (!seen[base, le]++) buckets[base] = buckets[base] " " le
			}
			gsub(/="[^"]*"/, "", text); sub(/,?le/, "", text)
			gsub(/[{}]/, "", text)
			if (name !~ /_bucket$/) labels[base] = text
		}
		END { for (name in type) print name, type[name], help[name] "|" labels[name] \
			"|" buckets[name] }' "$1" | sort
}

# value NAME[LABELS]: of the last /metrics
value() { grep -v '^#' "$TMP/metrics" | grep -F "$1 " | sed 's/.* //'; }

start_server kvd || finish
work
http "$URL" GET /health >/dev/null
timeout 20 "$KVCTL" --endpoints "$URL" watch key >"$TMP/watch" 2>&1 &
PIDS+=($!)
watching() { metrics_of "$URL" | grep -qx 'etcd_debugging_mvcc_watcher_total 1'; }
check 'a watcher is counted' until_true 10 watching
ctl put key watched >/dev/null
metrics_of "$URL" >"$TMP/metrics"

while read -r want name; do
	same "$name" "$want" "$(value "$name")"
done <<'END'
6 etcd_mvcc_put_total
1 etcd_mvcc_range_total
1 etcd_mvcc_delete_total
1 etcd_mvcc_txn_total
44 etcd_debugging_mvcc_total_put_size_in_bytes
2 etcd_debugging_mvcc_keys_total
7 etcd_debugging_mvcc_current_revision
3 etcd_debugging_mvcc_compact_revision
1 etcd_debugging_mvcc_db_compaction_keys_total
1 etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count
1 etcd_debugging_mvcc_watch_stream_total
1 etcd_debugging_mvcc_events_total
1 etcd_debugging_lease_granted_total
100 etcd_debugging_lease_ttl_total_sum
0 etcd_debugging_lease_revoked_total
1 etcd_server_health_success
0 etcd_server_is_learner
5 etcd_server_request_duration_seconds_count{success="true",type="Put"}
1 etcd_server_request_duration_seconds_count{success="true",type="Range"}
1 etcd_server_apply_duration_seconds_count{op="Put",success="false",version="v3"}
4 etcd_server_apply_duration_seconds_count{op="Put",success="true",version="v3"}
1 etcd_server_range_duration_seconds_count{success="true"}
1 etcd_server_apply_duration_seconds_count{op="Txn",success="true",version="v3"}
END
now=$(date +%s)
ended=$(value etcd_debugging_mvcc_db_compaction_last)
check 'when the last compaction ended' test $((now - ended)) -ge 0 -a $((now - ended)) -le 60
check 'the log was written to' test "$(value etcd_disk_wal_write_bytes_total)" -gt 500
same 'every HELP has its TYPE' "$(grep -c '^# HELP' "$TMP/metrics")" \
	"$(grep -c '^# TYPE' "$TMP/metrics")"
same 'no metric twice' '' "$(grep -v '^#' "$TMP/metrics" | sed 's/ [^ ]*$//' | sort | uniq -d)"

if [[ ! -x $ETCD ]]; then
	skip 'the same as in etcd' 'no etcd built: make peer'
	finish
fi
shape "$TMP/metrics" >"$TMP/kvd"
start_server etcd || finish
work
metrics_of "$URL" | shape /dev/stdin >"$TMP/etcd"
join -j 1 -v 1 <(cut -d' ' -f1 "$TMP/etcd") <(cut -d' ' -f1 "$TMP/kvd") |
	grep -vxE "${ABSENT//$'\n'/|}" >"$TMP/missing"
same 'nothing of etcd is missing that is not listed' '' "$(<"$TMP/missing")"
same 'nothing is called after etcd that etcd does not have' '' \
	"$(join -j 1 -v 2 <(cut -d' ' -f1 "$TMP/etcd") <(cut -d' ' -f1 "$TMP/kvd"))"
while read -r line; do
	name=${line%% *}
	same "$name as in etcd" "$(grep "^$name " "$TMP/etcd")" "$line"
done <"$TMP/kvd"
finish
