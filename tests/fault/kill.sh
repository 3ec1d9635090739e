#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# kill.sh [ROUNDS [SEED]]: kill -9 of kvd while eight clients put keys, 200 times;
# after each restart every acknowledged put is there and the revision has not gone
# back. See kill.c.
. "$(dirname "$0")/../common.sh"

rounds=${1:-200}
seed=${2:-1}
DIR=$TMP/data
pick_ports
server_flags
out=$("$O/tests/fault/kill" "$rounds" "$seed" "$URL" "$KVD" "${FLAGS[@]}" 2>"$TMP/log")
status=$?
sed -n 's/^# //p' <<<"$out" | tail -n 5 | sed 's/^/# /'
if ((status == 0)); then
	ok "$rounds kills with puts under way lose nothing that was acknowledged"
else
	not_ok "$rounds kills with puts under way" "$(tail -n 20 "$TMP/log")"
fi
finish
