#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# million.sh [KEYS [REPETITIONS]]: kvd and etcd 3.7.1, one after the other, with a million
# keys of 32 bytes and values of 256: time of the load, memory, disk, the time of a count
# and of the first thousand keys with their count, and the time from a restart until
# healthy. Needs curl, h2load and "make peer". Figures are medians.
TMPDIR=${TMPDIR:-${O:-build}}
mkdir -p "$TMPDIR"
. "$(dirname "$0")/../common.sh"
. tests/bench/h2_lib.sh

keys=${1:-1000000}
repetitions=${2:-1}
command -v curl >/dev/null || { echo 'curl is missing' >&2; exit 2; }
READY_SECONDS=60
ASK_SECONDS=5
all='\x0a\x0a/registry/\x12\x0a/registry0'	# RangeRequest: key, range_end
printf "$all"'\x48\x01' | grpc "$TMP/count"	# count_only
printf "$all"'\x18\xe8\x07' | grpc "$TMP/first"	# limit 1000

resident_mb() { awk '/^VmRSS/ {print int($2 / 1024)}' "/proc/$SERVER/status"; }
disk_mb() { du -sm "$DIR" | cut -f1; }
milliseconds() { echo $(($(date +%s%N) / 1000000)); }
healthy() { [[ $(curl -s "$URL/health") == *'"true"'* ]]; }
median() { sort -n | sed -n "$(((repetitions + 1) / 2))p"; }

# note SERVER FIGURE VALUE
note() { echo "$3" >>"$TMP/$1-$2"; }

# of SERVER FIGURE: the median of what was noted
of() { median <"$TMP/$1-$2"; }

# ask SERVER FIGURE: one question at a time; notes the microseconds of one, and of the
# processor
ask() {
	load "$SERVER" "$ASK_SECONDS" 1 1 "$URL/etcdserverpb.KV/Range" "$TMP/$2" ||
		{ not_ok "$1 answers" "$OUT"; finish; }
	note "$1" "$2" $((ASK_SECONDS * 1000000 / N))
	note "$1" "$2-cpu" $((CPU / 1000))
}

# measure SERVER
measure() {
	local name=$1 program=$KVD began
	[[ $name == etcd ]] && program=$ETCD
	start_server "$name" --quota-backend-bytes=8000000000 || finish
	note "$name" load "$("$O/peer/load" "$URL" "$keys")"
	note "$name" memory "$(resident_mb)"
	note "$name" disk "$(disk_mb)"
	ask "$name" count
	ask "$name" first
	stop "$SERVER"
	began=$(milliseconds)
	launch "$program" --quota-backend-bytes=8000000000
	until_true 60 healthy || { not_ok "$name restarts" "$(tail "$LOG")"; finish; }
	note "$name" restart $(($(milliseconds) - began))
	note "$name" restarted "$(resident_mb)"
	stop "$SERVER"
	rm -rf "$DIR"
}

# row TITLE FIGURE
row() {
	awk -v title="$1" -v etcd="$(of etcd "$2")" -v kvd="$(of kvd "$2")" 'BEGIN {
		printf "%-40s %12s %12s %9.2f\n", title, etcd, kvd, kvd ? etcd / kvd : 0 }'
	[[ $(of etcd "$2") && $(of kvd "$2") ]] && ok "$1" >/dev/null || not_ok "$1" 'no figure'
}

for ((i = 0; i < repetitions; i++)); do
	measure etcd
	measure kvd
done
echo "$(nproc) processors, $keys keys, data on $(stat -f -c %T "$TMP"), median of $repetitions"
printf '%-40s %12s %12s %9s\n' '' etcd kvd etcd/kvd
row 'load, 100 puts a transaction, s' load
row 'memory after the load, MB' memory
row 'memory after a restart, MB' restarted
row 'disk, MB' disk
row 'count of all keys, us' count
row 'the same, CPU, us' count-cpu
row 'first 1,000 keys with the count, us' first
row 'the same, CPU, us' first-cpu
row 'restart until healthy, ms' restart
finish
