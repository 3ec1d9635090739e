#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# million.sh [KEYS [REPETITIONS]]: kvd and etcd 3.7.1, one after the other, with a million
# keys of 32 bytes and values of 256: time of the load, memory, disk, the time of a count
# and of the first thousand keys with their count, and the time from a restart until
# healthy. Needs curl and "make peer". Figures are medians.
TMPDIR=${TMPDIR:-${O:-build}}
mkdir -p "$TMPDIR"
. "$(dirname "$0")/../common.sh"

keys=${1:-1000000}
repetitions=${2:-1}
LOAD=$O/peer/load
[[ -x $ETCD && -x $LOAD ]] || { echo "$ETCD or $LOAD is missing: make peer" >&2; exit 2; }
command -v curl >/dev/null || { echo 'curl is missing' >&2; exit 2; }
READY_SECONDS=60

resident_mb() { awk '/^VmRSS/ {print int($2 / 1024)}' "/proc/$SERVER/status"; }
disk_mb() { du -sm "$DIR" | cut -f1; }
milliseconds() { echo $(($(date +%s%N) / 1000000)); }
healthy() { [[ $(curl -s "$URL/health") == *'"true"'* ]]; }
median() { sort -n | sed -n "$(((repetitions + 1) / 2))p"; }

# note SERVER FIGURE VALUE
note() { echo "$3" >>"$TMP/$1-$2"; }

# of SERVER FIGURE: the median of what was noted
of() { median <"$TMP/$1-$2"; }

# measure SERVER
measure() {
	local name=$1 program=$KVD figure value began
	[[ $name == etcd ]] && program=$ETCD
	start_server "$name" --quota-backend-bytes=8000000000 || finish
	while read -r figure value; do
		note "$name" "$figure" "$value"
	done < <("$LOAD" "$URL" "$keys")
	note "$name" memory "$(resident_mb)"
	note "$name" disk "$(disk_mb)"
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
row 'first 1,000 keys with the count, us' first
row 'restart until healthy, ms' restart
finish
