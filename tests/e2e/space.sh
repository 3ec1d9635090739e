#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# space.sh: what the store takes, and how it is had back. The quota's alarm goes as in
# etcd's maintenance guide: fill, be refused, compact, defragment, disarm, go on; by
# etcdctl 3.7.1 where it has been built (make peer), else by kvctl.
. "$(dirname "$0")/../common.sh"

CTL=$KVCTL
[[ -x $O/peer/etcdctl ]] && CTL=$O/peer/etcdctl
ctl() { timeout 60 "$CTL" --endpoints "$URL" --command-timeout 60s "$@" 2>&1; }
ask() { timeout 20 "$O/tests/fault/ask" "$URL" "$@" 2>&1; }
status() { ctl endpoint status -w json | sed "s/.*\"$1\":\([0-9]*\).*/\1/"; }
revision() { ctl get none -w json | sed 's/.*"revision":\([0-9]*\).*/\1/'; }

# What the store's own files take on disk, without its log and its caches.
files() {
	local sum=0 n
	while read -r n; do sum=$((sum + n)); done < <(find "$DIR/member/kv" -type f \
		! -name 'log.*' ! -name 'pages*' -printf '%s\n')
	echo "$sum"
}

MIB=$((1 << 20))
start_server kvd || finish

# --- what compaction removes comes back ---------------------------------------

for ((i = 0; i < 60; i++)); do ask put-of big $MIB >/dev/null; done
ask put-of other $MIB >/dev/null
stored() { (($(status dbSize) > 60 * MIB)); }
check 'values that are written are counted' until_true 20 stored
check 'in use is no more than there is' test "$(status dbSizeInUse)" -le "$(status dbSize)"
check 'all of them are in use' test "$(status dbSizeInUse)" -ge $((60 * MIB))
before=$(files)
check 'the files are that large' test "$before" -gt $((40 * MIB))
ctl compaction "$(revision)" >/dev/null
(for ((i = 0; i < 30; i++)); do ask put during $i; done) >"$TMP/during" 2>&1 &
contains 'defrag' 'Finished defragmenting' "$(ctl defrag)"
wait $!
same 'puts go on meanwhile' 30 "$(grep -c revision: "$TMP/during")"
check 'the size has shrunk' test "$(status dbSize)" -lt $((10 * MIB))
check 'so have the files' test "$(files)" -lt $((10 * MIB))
check 'what is left is in use' test "$(status dbSizeInUse)" -ge $((2 * MIB)) -a \
	"$(status dbSizeInUse)" -lt $((4 * MIB))
same 'and is there' 2 "$(ctl get '' --prefix --keys-only | grep -cE '^(big|other)$')"
contains 'again, with nothing to do' 'Finished defragmenting' "$(ctl defrag)"

pids=()
for ((i = 0; i < 8; i++)); do
	ctl defrag >"$TMP/defrag$i" &
	pids+=($!)
done
wait "${pids[@]}"
same 'eight at once' 8 "$(cat "$TMP"/defrag? | grep -c 'Finished defragmenting')"

# --- without being asked ------------------------------------------------------

for ((i = 0; i < 40; i++)); do ask put-of big $MIB >/dev/null; done
ctl compaction "$(revision)" --physical >/dev/null
small() { (($(status dbSize) < 10 * MIB)); }
check 'compaction alone gives it back too' until_true 30 small

# --- it outlives a restart, and a kill in the middle ---------------------------

for ((i = 0; i < 40; i++)); do ask put-of big $MIB >/dev/null; done
ctl put after 1 >/dev/null
segments() { ls "$DIR/member/kv" | grep revisions; }
reclaiming() { [[ $(segments) != "$before" ]]; }
hash() { ctl endpoint hashkv | sed 's/^[^,]*, //'; }
before=$(segments)
ctl compaction "$(revision)" >/dev/null
kept=$(hash)
ctl defrag >/dev/null &
until_true 10 reclaiming
kill -9 "$SERVER"
wait "$SERVER" 2>/dev/null
wait $!
launch "$KVD"
until_true "$READY_SECONDS" is_ready
same 'killed while it compacts and reclaims: the key is there' $'after\n1' "$(ctl get after)"
same 'and all that is kept' "$kept" "$(hash)"
ctl defrag >/dev/null
check 'and the space comes back' until_true 30 small
stop "$SERVER"
launch "$KVD"
until_true "$READY_SECONDS" is_ready
check 'it is small after a restart too' small
same 'and the same' "$kept" "$(hash)"
contains 'which says something' ', ' "$kept"
stop "$SERVER"

# --- the quota, as in etcd's guide ---------------------------------------------

start_server kvd --quota-backend-bytes $((16 * MIB)) || finish
for ((i = 0; i < 40; i++)); do
	out=$(ask put-of key $MIB)
	[[ $out == *'database space exceeded'* ]] && break
done
contains 'beyond the quota a put is refused' \
	'ResourceExhausted: etcdserver: mvcc: database space exceeded' "$out"
check 'not long before it is used up' test $i -ge 12 -a $i -le 17
check 'the size is within it' test "$(status dbSize)" -le $((17 * MIB))
alarmed() { [[ $(ctl alarm list) == *alarm:NOSPACE* ]]; }
check 'the alarm is raised' until_true 10 alarmed
contains 'status tells of it' 'alarm:NOSPACE' "$(ctl endpoint status)"
contains 'a small put is refused too' 'database space exceeded' "$(ctl put small 1)"
same 'a read is not' 1 "$(ctl get key --keys-only | grep -c .)"
same 'nor a deletion' 0 "$(ctl del none)"
rev=$(revision)
same 'compact' "compacted revision $rev" "$(ctl compaction "$rev")"
contains 'defrag' 'Finished defragmenting' "$(ctl defrag)"
contains 'disarm' 'alarm:NOSPACE' "$(ctl alarm disarm)"
same 'no alarm is left' '' "$(ctl alarm list)"
same 'a put succeeds again' OK "$(ctl put small 1)"
check 'and a large one' test -n "$(ask put-of key $MIB | grep revision:)"
finish
