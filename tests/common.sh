# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the test scripts share; they source this file first.
#
#	ok TITLE, not_ok TITLE [REASON]	one check
#	check TITLE COMMAND...		passes where COMMAND succeeds
#	same TITLE WANT HAVE		passes where two texts are equal
#	skip TITLE WHY			a check that cannot run here
#	start_server kvd|etcd [FLAG...]	sets URL, PEER_URL, DIR, SERVER (pid); waits
#	finish				prints the sum and exits
#
# Servers listen on random ports of the loopback interface. Whatever was started
# here is killed, and whatever was written removed, when the script ends, however
# it ends.

set -u
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$TOP" || exit 2
O=${O:-build}
case $O in /*) ;; *) O=$TOP/$O ;; esac
KVD=${KVD:-$O/kvd}
KVCTL=${KVCTL:-$O/kvctl}
ETCD=${ETCD:-$O/peer/etcd}
READY_SECONDS=${READY_SECONDS:-30}

TMP=$(mktemp -d "${TMPDIR:-/tmp}/kvd-test.XXXXXX")
PIDS=()
MOUNTS=()
passed=0 failed=0 skipped=0

cleanup() {
	local i
	for ((i = ${#PIDS[@]} - 1; i >= 0; i--)); do
		kill "${PIDS[i]}" 2>/dev/null
	done
	for ((i = ${#PIDS[@]} - 1; i >= 0; i--)); do
		stop "${PIDS[i]}"
	done
	for i in "${MOUNTS[@]}"; do
		umount -l "$i" 2>/dev/null
	done
	rm -rf "$TMP"
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

# stop PID: asks, then insists after five seconds; reaps.
stop() {
	local deadline=$((SECONDS + 5))
	kill "$1" 2>/dev/null
	while alive "$1"; do
		if ((SECONDS >= deadline)); then
			kill -9 "$1" 2>/dev/null
			break
		fi
		pause
	done
	wait "$1" 2>/dev/null
}

# alive PID: running, and not merely waiting to be reaped.
alive() {
	local stat
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
	stat=${stat##*) }
	[[ ${stat:0:1} != Z ]]
}

# A short breath between two looks at a condition.
pause() { sleep 0.02; }

# until_true SECONDS COMMAND...: looks until COMMAND succeeds.
until_true() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < deadline)) || return 1
		pause
	done
}

ok() {
	passed=$((passed + 1))
	echo "ok $((passed + failed + skipped)) - $1"
}

not_ok() {
	failed=$((failed + 1))
	echo "not ok $((passed + failed + skipped)) - $1"
	[[ -z ${2:-} ]] || sed 's/^/#   /' <<<"$2" | head -40
}

skip() {
	skipped=$((skipped + 1))
	echo "ok $((passed + failed + skipped)) - $1 # SKIP $2"
}

check() {
	local title=$1 out
	shift
	if out=$("$@" 2>&1); then ok "$title"; else not_ok "$title" "$*
$out"; fi
}

same() {
	if [[ $2 == "$3" ]]; then ok "$1"; else not_ok "$1" "expected: $2
got:      $3"; fi
}

# contains TITLE PART TEXT
contains() {
	if [[ $3 == *"$2"* ]]; then ok "$1"; else not_ok "$1" "no '$2' in:
$3"; fi
}

finish() {
	if ((skipped)); then
		echo "$passed passed, $failed failed, $skipped skipped"
	else
		echo "$passed passed, $failed failed"
	fi
	((failed == 0))
	exit
}

# free_port: sets PORT to one that nothing listens on.
free_port() {
	while :; do
		PORT=$((20001 + RANDOM % 12000))
		(exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null || return 0
	done
}

pick_ports() {
	free_port
	URL=http://127.0.0.1:$PORT
	free_port
	PEER_URL=http://127.0.0.1:$PORT
}

# server_flags: those of a cluster of one at URL and PEER_URL, with its data in DIR
server_flags() {
	FLAGS=(--name default --data-dir "$DIR"
		--listen-client-urls "$URL" --advertise-client-urls "$URL"
		--listen-peer-urls "$PEER_URL" --initial-advertise-peer-urls "$PEER_URL"
		--initial-cluster "default=$PEER_URL")
}

# launch PROGRAM [FLAG...]: starts it at URL; LOG has what it says since.
launch() {
	local program=$1
	shift
	server_flags
	LOG=${LOG_FILE:-$DIR.log}
	: >"$LOG"
	"$program" "${FLAGS[@]}" "$@" >"$LOG" 2>&1 &
	SERVER=$!
	PIDS+=("$SERVER")
}

# died: what the server said last, where it is gone and should not be
died() {
	alive "$SERVER" && return
	echo "the server has ended:"
	grep -v '^{"level":"info"' "$LOG" | tail -n 30
}

is_ready() { grep -q 'ready to serve client requests' "$LOG" || ! alive "$SERVER"; }

servers=0
start_server() {
	local program=$KVD
	[[ $1 == etcd ]] && program=$ETCD
	shift
	servers=$((servers + 1))
	DIR=$TMP/data$servers
	pick_ports
	launch "$program" "$@"
	until_true "$READY_SECONDS" is_ready
	alive "$SERVER" && return
	not_ok "$program starts" "$(tail -n 20 "$LOG")"
	return 1
}

# http URL METHOD PATH: the status on the first line, then the body. Bare machines have no
# curl. HTTP=1.0 asks for a body that is not in chunks.
http() {
	local address=${1#http://} status line
	exec 3<>"/dev/tcp/${address%:*}/${address#*:}" || return
	printf '%s %s HTTP/%s\r\nHost: %s\r\nConnection: close\r\n\r\n' "$2" "$3" \
		"${HTTP:-1.1}" "$address" >&3
	read -r _ status _ <&3
	while read -r line <&3 && [[ $line != $'\r' ]]; do :; done
	echo "$status"
	timeout 5 cat <&3
	exec 3>&-
}
