#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# run.sh [O [MOUNTPOINT]]: one member on the standard ports, mounted. In the
# foreground; Ctrl-C unmounts and stops it. The data stays in O/data for the next run.
# CLIENT and PEER name other URLs to serve at.
set -u
cd "$(dirname "$0")/.." || exit 2
O=${1:-build}
MNT=${2:-etc}
DATA=$O/data
LOG=$O/kvd.log
CLIENT=${CLIENT:-http://127.0.0.1:2379}
PEER=${PEER:-http://127.0.0.1:2380}
kvd='' fs='' made=''

say() { printf '%s\n' "$*"; }
die() { printf 'run: %s\n' "$*" >&2; exit 1; }

# end PID SECONDS: asks it to end, then insists
end() {
	local deadline=$((SECONDS + $2))
	[[ -n $1 ]] || return
	kill "$1" 2>/dev/null
	while kill -0 "$1" 2>/dev/null; do
		((SECONDS < deadline)) || { kill -9 "$1" 2>/dev/null; break; }
		sleep 0.05
	done
	wait "$1" 2>/dev/null
}

cleanup() {
	trap '' INT TERM HUP
	end "$fs" 10
	mountpoint -q "$MNT" 2>/dev/null && { umount "$MNT" || umount -l "$MNT"; } 2>/dev/null
	end "$kvd" 10
	[[ -z $made ]] || rmdir "$MNT" 2>/dev/null
	say "stopped; the data is kept in $DATA"
}

start_kvd() {
	setsid "$O/kvd" --name default --data-dir "$DATA" \
		--listen-client-urls "$CLIENT" --advertise-client-urls "$CLIENT" \
		--listen-peer-urls "$PEER" --initial-advertise-peer-urls "$PEER" \
		--initial-cluster "default=$PEER" >"$LOG" 2>&1 </dev/null &
	kvd=$!
	trap cleanup EXIT
	trap 'exit 0' INT TERM HUP
	for ((i = 0; i < 600; i++)); do
		grep -q 'ready to serve client requests' "$LOG" && return
		kill -0 "$kvd" 2>/dev/null || break
		sleep 0.05
	done
	grep -v '^{' "$LOG" >&2
	die "kvd does not start; see $LOG"
}

# Why the mount cannot be; nothing where it can.
no_mount() {
	if [[ ! -e /dev/fuse ]]; then
		say 'There is no /dev/fuse here, so nothing is mounted. Load the module'
		say '("modprobe fuse") or, in a container, start it with --device /dev/fuse'
		say '--cap-add SYS_ADMIN.'
	elif [[ ! -r /dev/fuse || ! -w /dev/fuse ]]; then
		say "/dev/fuse may not be opened by $(id -un), so nothing is mounted. Run this as"
		say 'root, or have "chmod 666 /dev/fuse" done.'
	fi
}

start_mount() {
	mountpoint -q "$MNT" 2>/dev/null && die "$MNT is a mount already: umount $MNT"
	if [[ ! -d $MNT ]]; then
		mkdir -p "$MNT" || die "$MNT cannot be made"
		made=1
	fi
	"$O/etcfs" --endpoints "$CLIENT" "$MNT" </dev/null &
	fs=$!
	for ((i = 0; i < 200; i++)); do
		mountpoint -q "$MNT" 2>/dev/null && return
		kill -0 "$fs" 2>/dev/null || die 'etcfs does not start'
		sleep 0.05
	done
	die "$MNT is not mounted in time"
}

explain() {
	local where=
	[[ $CLIENT == http://127.0.0.1:2379 ]] || where=" --endpoints $CLIENT"
	say ''
	say "kvd serves the etcd API at $CLIENT"
	if [[ -n $fs ]]; then
		say "and its keys are files below $(cd "$MNT" && pwd). In another terminal, try:"
		say ''
		say "    echo 'hello, world' > $MNT/motd; cat $MNT/motd"
		say "    inotifywait -m $MNT &            # Debian package inotify-tools"
	else
		say 'In another terminal, try:'
		say ''
	fi
	say "    $O/kvctl$where put /motd 'hello again'"
	say "    $O/kvctl$where get --prefix /"
	say "    $O/kvctl$where endpoint status"
	say ''
	say 'Ctrl-C stops it.'
}

mkdir -p "$O" || exit 1
for program in kvd etcfs kvctl; do
	[[ -x $O/$program ]] || die "$O/$program is missing: make"
done
start_kvd
why=$(no_mount)
if [[ -n $why ]]; then
	say "$why"
else
	start_mount
fi
explain
wait -n $kvd $fs
[[ -z $fs ]] || kill -0 "$fs" 2>/dev/null || say 'etcfs has ended'
kill -0 "$kvd" 2>/dev/null || { grep -v '^{' "$LOG"; say "kvd has ended; see $LOG"; exit 1; }
