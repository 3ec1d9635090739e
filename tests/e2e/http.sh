#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# http.sh: what load balancers, probes and Prometheus ask kvd over HTTP/1.1, beside
# gRPC on the same port. Where etcd 3.7.1 has been built (make peer) its answers are
# what is expected.
. "$(dirname "$0")/../common.sh"

# metric NAME: its value, where it has no labels
metric() { sed -n "s/^$1 //p" <<<"$METRICS"; }

start_server kvd || finish
contains '/health' '"health":"true"' "$(http "$URL" GET /health)"
contains '/health without a quorum read' '"health":"true"' \
	"$(http "$URL" GET '/health?serializable=true')"
same '/livez' 200 "$(http "$URL" GET /livez | head -n 1)"
same '/readyz' 200 "$(http "$URL" GET /readyz | head -n 1)"
contains '/version' '"etcdserver":"3.7' "$(http "$URL" GET /version)"
same 'a path that is not there' 404 "$(http "$URL" GET /nothing | head -n 1)"

before=$("$O/tests/fault/ask" "$URL" put a 1 >/dev/null; http "$URL" GET /metrics)
METRICS=$before
for name in etcd_server_has_leader etcd_server_proposals_committed_total \
	etcd_server_proposals_applied_total etcd_mvcc_db_total_size_in_bytes \
	process_resident_memory_bytes; do
	if [[ -n $(metric "$name") ]]; then ok "the metric $name"
	else not_ok "the metric $name" "$(head -n 5 <<<"$METRICS")"; fi
done
same 'there is a leader' 1 "$(metric etcd_server_has_leader)"
applied=$(metric etcd_server_proposals_applied_total)
"$O/tests/fault/ask" "$URL" put a 2 >/dev/null
METRICS=$(http "$URL" GET /metrics)
if awk "BEGIN { exit !($(metric etcd_server_proposals_applied_total) > ${applied:-0}) }"; then
	ok 'a put counts as applied'
else
	not_ok 'a put counts as applied' \
		"$applied, then $(metric etcd_server_proposals_applied_total)"
fi

# labelled METHOD: how many calls of it ended well
labelled() {
	sed -n "s/^grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"$1\",.*} //p" \
		<<<"$METRICS"
}
same 'puts that were handled' 2 "$(labelled Put)"
same 'ranges that were handled' 0 "$(labelled Range)"
"$O/tests/fault/ask" "$URL" put '' 1 >/dev/null 2>&1
METRICS=$(http "$URL" GET /metrics)
contains 'a put that was refused' 'grpc_code="InvalidArgument",grpc_method="Put"' \
	"$(grep '^grpc_server_handled_total.* 1$' <<<"$METRICS")"
fsyncs=$(metric etcd_disk_wal_fsync_duration_seconds_count)
"$O/tests/fault/ask" "$URL" put a 3 >/dev/null
METRICS=$(http "$URL" GET /metrics)
same 'a put is one sync of the log' $((fsyncs + 1)) \
	"$(metric etcd_disk_wal_fsync_duration_seconds_count)"
committed() {
	METRICS=$(http "$URL" GET /metrics)
	(($(metric etcd_disk_backend_commit_duration_seconds_count) > commits))
}
commits=$(metric etcd_disk_backend_commit_duration_seconds_count)
"$O/tests/fault/ask" "$URL" put a 4 >/dev/null
check 'and is stored a little later' until_true 10 committed
same 'the last bucket has them all' \
	"$(metric etcd_disk_wal_fsync_duration_seconds_count)" \
	"$(metric 'etcd_disk_wal_fsync_duration_seconds_bucket{le="+Inf"}')"
now=$(date +%s) started=$(metric process_start_time_seconds)
check 'it started just now' \
	awk "BEGIN { exit !($started > $now - 60 && $started < $now + 2) }"
# a client that has gone may be closed a little later; the question itself has one open
same_files() {
	METRICS=$(http "$URL" GET /metrics)
	(($(find "/proc/$SERVER/fd" -type l | wc -l) == $(metric process_open_fds) - 1))
}
check 'its files' until_true 5 same_files
# etcd's runtime does so too; each 64 MiB of history are a file, and each client is one
same 'as many as the hard limit allows' "$(ulimit -Hn)" "$(metric process_max_fds)"

if [[ ! -x $ETCD ]]; then
	skip 'the same answers as etcd' 'no etcd built: make peer'
	finish
fi
kvd=$URL
start_server etcd || finish
for path in /health '/health?serializable=true' '/health?exclude=NOSPACE' /livez /readyz \
	'/livez?verbose' /livez/serializable_read /livez/nothing /livez/ /readyz/data_corruption \
	/readyz/non_learner '/readyz/linearizable_read?verbose' '/readyz?exclude=nothing' \
	'/livez?exclude=serializable_read' /readyz/nothing /nothing; do
	same "GET $path as etcd answers it" "$(http "$URL" GET "$path")" \
		"$(http "$kvd" GET "$path")"
done

# What dashboards ask for by name and label, of a server and of its methods; in HTTP/1.0
# an answer is not divided into chunks.
names() {
	HTTP=1.0 http "$1" GET /metrics |
		grep -E -o '^(process_|etcd_disk_(wal_fsync|backend_commit)_)[^ ]*' |
		grep -v network
}
same 'names and buckets are those of etcd' "$(names "$URL" | sort)" "$(names "$kvd" | sort)"
handled() {
	HTTP=1.0 http "$1" GET /metrics | grep '^grpc_server_handled_total{grpc_code="OK"' |
		sed 's/ [0-9]*$//' | sort
}
same 'methods are named as etcd names them' '' \
	"$(comm -13 <(handled "$URL") <(handled "$kvd") | grep -v grpc.health)"
for path in /health /livez /version; do
	same "POST $path as etcd answers it" "$(http "$URL" POST "$path")" \
		"$(http "$kvd" POST "$path")"
done
finish
