#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# run.sh [SECONDS [REPETITIONS]]: kvd and etcd 3.7.1 side by side, under h2load, which
# nobody here wrote. Needs h2load (Debian package nghttp2-client) and "make peer".
#
# Both servers run with the same flags, on the same disk, and take turns within each
# repetition. The table has the median rate of each, and the processor time, user and
# system, that the server spent on one request; a busy machine disturbs that least.
# Values have 256 bytes; h2load sends the same request, so the same key, every time.
TMPDIR=${TMPDIR:-${O:-build}}
mkdir -p "$TMPDIR"
. "$(dirname "$0")/../common.sh"
. tests/bench/h2_lib.sh

seconds=${1:-4}
repetitions=${2:-3}
{ printf '\x0a\x05bench\x12\x80\x02'; head -c 256 /dev/zero | tr '\0' v; } | grpc "$TMP/put"
printf '\x0a\x05bench' | grpc "$TMP/range"
printf '\x0a\x05bench\x38\x01' | grpc "$TMP/serializable"

# ROWS: title, method, body, connections, streams
ROWS=(
	'put, 100x10|KV/Put|put|100|10'
	'put, one at a time|KV/Put|put|1|1'
	'linearizable range, 100x10|KV/Range|range|100|10'
	'linearizable range, one at a time|KV/Range|range|1|1'
	'serializable range, 100x10|KV/Range|serializable|100|10'
)

revision() {
	"$O/tests/fault/ask" "$1" get bench | sed -n 's/^ *revision: //p' | head -n 1
}

# measure URL PID ROW SECONDS: sets RATE (a second) and CPU (ns a request)
measure() {
	local title method body c m before after
	IFS='|' read -r title method body c m <<<"$3"
	before=$(revision "$1")
	load "$2" "$4" "$c" "$m" "$1/etcdserverpb.$method" "$TMP/$body" ||
		{ not_ok "$title" "$OUT"; return 1; }
	after=$(revision "$1")
	if [[ $body == put ]] && ((after - before < N)); then
		not_ok "$title" "$N puts answered, but only $((after - before)) revisions made"
		return 1
	fi
}

median() { sort -n | sed -n "$(((repetitions + 1) / 2))p"; }
per_us() { printf '%d.%d' $(($1 / 1000)) $(($1 % 1000 / 100)); }
ratio() { printf '%d.%02d' $(($1 / $2)) $(($1 % $2 * 100 / $2)); }

start_server etcd || finish
urls[0]=$URL pids[0]=$SERVER
start_server kvd || finish
urls[1]=$URL pids[1]=$SERVER
for u in "${urls[@]}"; do "$O/tests/fault/ask" "$u" put bench v >/dev/null; done

echo "$(nproc) processors, data on $(stat -f -c %T "$TMP"), $seconds s, median of $repetitions"
printf '%-36s %12s %12s %7s %11s %11s %7s\n' '' 'etcd 1/s' 'kvd 1/s' ratio \
	'etcd us' 'kvd us' ratio
for row in "${ROWS[@]}"; do
	: >"$TMP/rate0"; : >"$TMP/rate1"; : >"$TMP/cpu0"; : >"$TMP/cpu1"
	for ((i = 0; i <= repetitions; i++)); do
		for s in 0 1; do
			# the first turn warms up and does not count
			measure "${urls[s]}" "${pids[s]}" "$row" $((i ? seconds : 1)) || finish
			((i)) || continue
			echo "$RATE" >>"$TMP/rate$s"
			echo "$CPU" >>"$TMP/cpu$s"
		done
	done
	for s in 0 1; do
		rate[s]=$(median <"$TMP/rate$s") cost[s]=$(median <"$TMP/cpu$s")
	done
	printf '%-36s %12d %12d %7s %11s %11s %7s\n' "${row%%|*}" "${rate[0]}" "${rate[1]}" \
		"$(ratio "${rate[1]}" "${rate[0]}")" "$(per_us "${cost[0]}")" \
		"$(per_us "${cost[1]}")" "$(ratio "${cost[0]}" $((cost[1] ? cost[1] : 1)))"
	passed=$((passed + 1))
done
finish
