#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# etcfs_two_mounts.sh [SECONDS [SEED]]: two mounts of one prefix are changed at random
# at the same time. In the end they show the same, and so does one that was made later.
. "$(dirname "$0")/etcfs_lib.sh"

need_fuse "two mounts under load"
if ! has python3; then
	skip "two mounts under load" "python3 is not installed"
	finish
fi
start_server "$ETCFS_SERVER" || finish
mount_at "$TMP/a" || finish
mount_at "$TMP/b" || finish
mount_at "$TMP/c" || finish
check "two mounts that are changed at the same time agree" timeout -k 5 100 \
	python3 tests/e2e/etcfs_load.py "${1:-5}" "${2:-1}" "$TMP/a" "$TMP/b" "$TMP/c"
mount_at "$TMP/d" || finish
same "and with what the cluster holds" '' "$(diff -rq --no-dereference "$TMP/a" "$TMP/d")"
finish
