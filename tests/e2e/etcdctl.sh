#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# etcdctl.sh: the command lines of etcd against kvd: Debian's etcdctl 3.4 and, where
# it has been built (make peer), etcdctl 3.7.1.
. "$(dirname "$0")/../common.sh"

ctl() { timeout 10 "$CTL" --endpoints "$URL" "$@" 2>&1; }

start_watch() {
	: >"$TMP/watch"
	timeout 20 "$CTL" --endpoints "$URL" watch "$@" >"$TMP/watch" 2>&1 &
	WATCH=$!
	PIDS+=("$WATCH")
}
has_lines() { (($(wc -l <"$TMP/watch") >= $1)); }

kv() {
	same "$V put" OK "$(ctl put a 1)"
	same "$V get" $'a\n1' "$(ctl get a)"
	same "$V get of nothing" '' "$(ctl get none)"
	same "$V put shows what was" $'OK\na\n1' "$(ctl put a 2 --prev-kv)"
	ctl put b/1 x >/dev/null
	ctl put b/2 y >/dev/null
	ctl put b/3 z >/dev/null
	same "$V get by prefix" $'b/1\nb/2\nb/3' "$(ctl get b/ --prefix --keys-only | grep .)"
	same "$V get with a limit" $'x\ny' "$(ctl get b/ --prefix --limit 2 --print-value-only)"
	same "$V get backwards" $'z\ny\nx' \
		"$(ctl get b/ --prefix --order DESCEND --sort-by KEY --print-value-only)"
	same "$V get a range" $'b/1\nx\nb/2\ny' "$(ctl get b/1 b/3)"
	same "$V get from a key on" $'b/2\ny\nb/3\nz' "$(ctl get b/2 --from-key --limit 2)"
	contains "$V get as JSON" '"kvs":[{"key":"YQ=="' "$(ctl get a -w json)"
	contains "$V the header in JSON" '"header":{"cluster_id":' "$(ctl get a -w json)"
	contains "$V get as fields" '"Key" : "a"' "$(ctl get a -w fields)"
	same "$V del" 1 "$(ctl del a)"
	same "$V del shows what was" $'1\nb/1\nx' "$(ctl del b/1 --prev-kv)"
	same "$V del by prefix" 2 "$(ctl del b/ --prefix)"
	same "$V del of nothing" 0 "$(ctl del a)"
	contains "$V put of an empty key" 'key is not provided' "$(ctl put '' 1)"
	contains "$V get of a future revision" 'required revision is a future revision' \
		"$(ctl get a --rev 1000000)"
}

transactions() {
	ctl put flag on >/dev/null
	same "$V txn, true" $'SUCCESS\n\nOK' "$(ctl txn <<-'END'
		value("flag") = "on"

		put flag off

		put flag never

	END
	)"
	same "$V txn, false" $'FAILURE\n\nflag\noff' "$(ctl txn <<-'END'
		value("flag") = "on"

		put flag never

		get flag

	END
	)"
	contains "$V txn with a key twice" 'duplicate key given in txn request' "$(ctl txn <<-'END'

		put a 1
		put a 2


	END
	)"
}

leases() {
	local id
	id=$(ctl lease grant 1000 | sed -n 's/lease \([0-9a-f]*\) granted.*/\1/p')
	contains "$V lease grant" "$id" "$(ctl lease list)"
	same "$V put with a lease" OK "$(ctl put leased 1 --lease "$id")"
	contains "$V lease timetolive" "lease $id granted with TTL(1000s), remaining(" \
		"$(ctl lease timetolive "$id" --keys)"
	contains "$V its keys" 'attached keys([leased])' "$(ctl lease timetolive "$id" --keys)"
	same "$V lease keep-alive" "lease $id keepalived with TTL(1000)" \
		"$(ctl lease keep-alive --once "$id")"
	same "$V lease revoke" "lease $id revoked" "$(ctl lease revoke "$id")"
	same "$V the key is gone" '' "$(ctl get leased)"
	contains "$V revoke again" 'requested lease not found' "$(ctl lease revoke "$id")"
}

watches() {
	local rev
	ctl put w 1 >/dev/null
	rev=$(ctl get w -w json | sed 's/.*"revision":\([0-9]*\).*/\1/')
	start_watch w --rev "$rev" --prev-kv
	until_true 10 has_lines 3
	ctl put w 2 >/dev/null
	ctl del w >/dev/null
	until_true 10 has_lines 13
	stop "$WATCH"
	same "$V watch" $'PUT\nw\n1\nPUT\nw\n1\nw\n2\nDELETE\nw\n2\nw' "$(grep . "$TMP/watch")"
}

maintenance() {
	local rev at=${URL#http://}
	ctl put c 1 >/dev/null
	ctl put c 2 >/dev/null
	rev=$(ctl get c -w json | sed 's/.*"revision":\([0-9]*\).*/\1/')
	same "$V compaction" "compacted revision $rev" "$(ctl compaction "$rev")"
	contains "$V get below it" 'required revision has been compacted' \
		"$(ctl get c --rev $((rev - 1)))"
	contains "$V endpoint health" 'is healthy' "$(ctl endpoint health)"
	contains "$V endpoint status" "$URL, " "$(ctl endpoint status)"
	contains "$V endpoint hashkv" "$at, " "$(URL=$at ctl endpoint hashkv)"
	contains "$V endpoint hashkv of a revision to come" 'is a future revision' \
		"$(URL=$at ctl endpoint hashkv --rev 1000000)"
	same "$V alarm list" '' "$(ctl alarm list)"
	contains "$V member list" started "$(ctl member list)"
}

clients=()
command -v etcdctl >/dev/null && clients+=("$(command -v etcdctl)")
[[ -x $O/peer/etcdctl ]] && clients+=("$O/peer/etcdctl")
[[ -x /usr/bin/etcdctl ]] || skip "Debian's etcdctl" 'no etcdctl (Debian package etcd-client)'
[[ -x $O/peer/etcdctl ]] || skip 'etcdctl 3.7.1' 'no etcdctl 3.7.1 built: make peer'
((${#clients[@]})) || finish
start_server "${SERVER_KIND:-kvd}" || finish
for CTL in "${clients[@]}"; do
	V=$("$CTL" version | sed -n 's/etcdctl version: //p')
	kv
	transactions
	leases
	watches
	maintenance
done
finish
