# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the benchmarks share, after tests/common.sh: load from h2load, which nobody here
# wrote, and the processor time that the server spent on it.

command -v h2load >/dev/null || { echo 'h2load is missing (nghttp2-client)' >&2; exit 2; }
[[ -x $ETCD ]] || { echo "$ETCD is missing: make peer" >&2; exit 2; }
TICK=$(getconf CLK_TCK)

# grpc FILE: frames standard input as one gRPC message
grpc() {
	local n
	cat >"$TMP/message"
	n=$(stat -c %s "$TMP/message")
	{ printf "\\x00$(printf '\\x%02x' $((n >> 24)) $((n >> 16 & 255)) $((n >> 8 & 255)) \
		$((n & 255)))"; cat "$TMP/message"; } >"$1"
}

# cpu PID: clock ticks of user and system time so far
cpu() {
	local stat f
	read -r stat <"/proc/$1/stat"
	read -ra f <<<"${stat##*) }"
	echo $((f[11] + f[12]))
}

# load PID SECONDS CONNECTIONS STREAMS URL BODY: asks the server PID again and again. Sets N
# (answers), RATE (a second), CPU (ns of the server's for each) and OUT, what h2load said.
# The windows are large, so that no answer waits for the client.
load() {
	local ticks bad
	ticks=$(cpu "$1")
	OUT=$(h2load -D "$2" -c "$3" -m "$4" -t 1 -w 24 -W 24 -H content-type:application/grpc \
		-H te:trailers -d "$6" "$5" 2>&1)
	ticks=$(($(cpu "$1") - ticks))
	N=$(sed -n 's/^requests: .* \([0-9]*\) succeeded.*/\1/p' <<<"$OUT")
	bad=$(sed -n 's/^status codes: .* \([0-9]*\) 3xx, \([0-9]*\) 4xx, \([0-9]*\) 5xx/\1\2\3/p' \
		<<<"$OUT")
	((${N:-0})) && [[ $bad == 000 ]] || return 1
	RATE=$((N / $2))
	CPU=$((ticks * 1000000000 / TICK / N))
}
