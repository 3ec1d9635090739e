#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# watch.sh: streams of watches as etcd 3.7.1 answers them, response by response: fragments,
# progress by itself and by request, revisions that are compacted, filters, ids, ten
# thousand watches on one stream, and a client that does not read. Needs "make peer".
. "$(dirname "$0")/../common.sh"

if [[ ! -x $O/peer/watch || ! -x $ETCD ]]; then
	skip 'watches as in etcd' 'no etcd built: make peer'
	finish
fi
for kind in etcd kvd; do
	start_server $kind --watch-progress-notify-interval=1s || finish
	if ! timeout 120 "$O/peer/watch" "${URL#http://}" >"$TMP/$kind" 2>&1; then
		not_ok "the scenes with $kind" "$(tail -n 5 "$TMP/$kind")"
		finish
	fi
	stop "$SERVER"
done
same 'every scene was played' 11 "$(grep -c '^[^ ]' "$TMP/kvd")"

# scene FILE TITLE: its lines
scene() { awk -v title="$2" '/^[^ ]/ { on = $0 == title; next } on' "$1"; }

while read -r title; do
	same "$title" "$(scene "$TMP/etcd" "$title")" "$(scene "$TMP/kvd" "$title")"
done < <(grep '^[^ ]' "$TMP/etcd")
finish
