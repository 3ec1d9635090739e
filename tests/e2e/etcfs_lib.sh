# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the scripts that mount share. The server is kvd, or what ETCFS_SERVER says:
#	ETCFS_SERVER=etcd tests/e2e/etcfs_programs.sh
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

ETCFS=${ETCFS:-$O/etcfs}
ETCFS_SERVER=${ETCFS_SERVER:-kvd}

# The prefix that is mounted, and the mount.
PREFIX=/config/
MNT=$TMP/mnt

ctl() { timeout 10 "$KVCTL" --endpoints "$URL" "$@"; }
# put KEY VALUE, del KEY, value KEY: below the prefix, as a client elsewhere
put() { ctl put -- "$PREFIX$1" "$2" >/dev/null; }
# and the same, seen in the mount
put_seen() { put "$@" && until_true 5 test -e "$MNT/$1"; }
del() { ctl del -- "$PREFIX$1" >/dev/null; }
value() { ctl get --print-value-only -- "$PREFIX$1"; }
# field KEY NAME: "Version", "ModRevision", ...
field() { ctl get -w fields -- "$PREFIX$1" | sed -n "s/^\"$2\" : //p"; }

has() { command -v "$1" >/dev/null; }

is_mounted() { mountpoint -q "$1"; }
not_mounted() { ! mountpoint -q "$1"; }
gone() { ! alive "$1"; }

# mount_at DIR [FLAG...]: sets FS (pid); waits
mount_at() {
	local dir=$1
	shift
	mkdir -p "$dir"
	MOUNTS+=("$dir")
	# before the program is there to do it: an earlier mount's words are not this one's
	: >"$dir.out"
	"$ETCFS" --endpoints "$URL" --prefix "$PREFIX" "$@" "$dir" >"$dir.out" 2>"$dir.err" &
	FS=$!
	PIDS+=("$FS")
	until_true 10 grep -q 'are mounted' "$dir.out" && return
	not_ok "etcfs mounts" "$(cat "$dir.out" "$dir.err")"
	return 1
}

# Leaves where there is no FUSE, or no mounting.
need_fuse() {
	if [[ ! -e /dev/fuse ]]; then
		skip "$1" "no /dev/fuse"
		finish
	fi
}
