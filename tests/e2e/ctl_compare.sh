#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# ctl_compare.sh: kvctl against etcdctl 3.7.1. Two servers of the same kind get the
# same commands, one from each program; what the programs print, and their exit
# status, must be the same once identifiers and ports are. SERVER_KINDS says which
# servers: etcd, kvd or both.
. "$(dirname "$0")/../common.sh"

ETCDCTL=${ETCDCTL:-$O/peer/etcdctl}
if [[ ! -x $ETCDCTL || ! -x $ETCD ]]; then
	skip 'kvctl and etcdctl 3.7.1 print the same' 'no etcdctl 3.7.1 built: make peer'
	finish
fi
# What the environment sets for either program is not what is compared.
for variable in "${!ETCDCTL_@}" "${!KVCTL_@}"; do
	[[ $variable == ETCDCTL ]] || unset "$variable"
done

declare -A PROGRAM=([etcdctl]=$ETCDCTL [kvctl]=$KVCTL)
declare -A EP PEER CLUSTER MEMBER LEASE REV
WANT_ERRORS=exact

# run WHO ARG...: one command of WHO on its server, IN on its standard input. @L is
# its lease, @R its revision of the moment. Leaves WHO.out, WHO.err and STATUS.
run() {
	local who=$1 arg args=()
	shift
	for arg; do
		arg=${arg//@L/${LEASE[$who]:-}}
		args+=("${arg//@R/${REV[$who]:-}}")
	done
	printf '%b' "${IN:-}" | sed "s/@L/${LEASE[$who]:-}/g" |
		timeout 20 "${PROGRAM[$who]}" --endpoints "${EP[$who]}" "${args[@]}" \
		>"$TMP/$who.out" 2>"$TMP/$who.err"
	STATUS=${PIPESTATUS[2]}
}

# What two runs may differ in: identifiers, ports, times, what Go logs, and in tables
# the width that follows from them.
plain() {
	local who=$1
	sed -E -e '/^\{"level":/d' -e "s/${CLUSTER[$who]:-@}/CLUSTER/g" \
		-e "s/${MEMBER[$who]:-@}/MEMBER/g" -e "s/${LEASE[$who]:-@}/LEASE/g" \
		-e "s/${CLUSTER[$who,u]:-@}/CLUSTER/g" -e "s/${MEMBER[$who,u]:-@}/MEMBER/g" \
		-e "s/${LEASE[$who,u]:-@}/LEASE/g" \
		-e "s/${EP[$who]#*:}/PORT/g" -e "s/${PEER[$who]#http://*:}/PEER/g" \
		-e 's/(took = |took":"|"Took" : )[0-9.]+(µs|ms|s)/\1TIME/' \
		-e 's/took [0-9.]+(µs|ms|s)/took TIME/' -e 's/(memberID:[A-Z]+) +alarm/\1 alarm/' \
		-e 's/remaining\([0-9]+s\)/remaining(TTL)/' -e 's/"ttl":[0-9]+/"ttl":TTL/'
}

# An error's own line; with WANT_ERRORS=some only that there is one, as the words about
# options are each program's own.
errors() {
	if [[ $WANT_ERRORS == exact ]]; then
		plain "$1" <"$TMP/$1.err" | grep -v '^kvctl: '
	else
		grep -o '^Error:' "$TMP/$1.err" | sort -u
	fi
}

# both ARG...: the same command from both; the title is the command.
both() {
	local who text=()
	for who in etcdctl kvctl; do
		run "$who" "$@"
		text+=("$(plain "$who" <"$TMP/$who.out" | cat -A)
errors: $(errors "$who")
status: $STATUS")
	done
	same "$KIND: $*" "${text[0]}" "${text[1]}"
}

# The same command from both on one server, where what it shows depends on the server.
both_there() {
	local table own=()
	for table in EP PEER CLUSTER MEMBER; do
		local -n of=$table
		own+=("${of[kvctl]}" "${of[kvctl,u]:-}")
		of[kvctl]=${of[etcdctl]}
		of[kvctl,u]=${of[etcdctl,u]:-}
	done
	both "$@"
	for table in EP PEER CLUSTER MEMBER; do
		local -n of=$table
		of[kvctl]=${own[0]}
		of[kvctl,u]=${own[1]}
		own=("${own[@]:2}")
	done
}

formats() {
	local format
	for format in simple json fields table; do
		both "$@" -w $format
		both "$@" -w $format --hex
	done
}

# A lease on each server.
grant() {
	local who
	for who in etcdctl kvctl; do
		LEASE[$who]=$("$ETCDCTL" --endpoints "${EP[$who]}" lease grant "$1" |
			sed -n 's/lease \([0-9a-f]*\) granted.*/\1/p')
		LEASE[$who,u]=$((16#${LEASE[$who]}))
	done
}

note_revision() {
	local who
	for who in etcdctl kvctl; do
		REV[$who]=$("$ETCDCTL" --endpoints "${EP[$who]}" get @ -w json |
			sed 's/.*"revision":\([0-9]*\).*/\1/')
	done
}

# Identifiers as --hex and as plain output have them.
note_ids() {
	local who json
	for who in etcdctl kvctl; do
		json=$("$ETCDCTL" --endpoints "${EP[$who]}" member list -w json --hex)
		CLUSTER[$who]=$(sed 's/.*"cluster_id":"\([0-9a-f]*\)".*/\1/' <<<"$json")
		MEMBER[$who]=$(sed 's/.*"member_id":"\([0-9a-f]*\)".*/\1/' <<<"$json")
		CLUSTER[$who,u]=$(printf %u "0x${CLUSTER[$who]}")
		MEMBER[$who,u]=$(printf %u "0x${MEMBER[$who]}")
	done
}

kv() {
	formats get nothing
	formats put a 1
	formats put a 2 --prev-kv
	formats get a
	formats get a --keys-only
	formats del a
	both put a 1
	formats del a --prev-kv
	both put b/1 $'line\n"quoted"\ttab \\ \x01\x7f'
	both put b/2 'ümlaut 日本 \xff'
	both put b/3 $'\xff\xfe<html>&'
	both put b/4 ''
	formats get b/ --prefix
	both get b/ --prefix --print-value-only
	both get b/ --prefix --limit 2 -w json
	both get b/ --prefix --count-only -w fields
	both get b/ --prefix --count-only
	both get b/ --print-value-only --prefix -w json
	both get b/2 b/4
	both get b/2 --from-key
	both get '' --from-key
	both get '' --prefix
	for order in ascend DESCEND; do
		for by in create Key MODIFY value VERSION; do
			both get b/ --prefix --order "$order" --sort-by "$by"
		done
	done
	both get b/ --prefix --sort-by value
	both get b/ --prefix --consistency s
	both get b/1 --rev 5
	both get b/1 --rev 100000
	both get b/ --prefix --min-mod-rev 20 --max-mod-rev 24
	both get b/ --prefix --min-create-rev 20 --max-create-rev 24
	IN='from\0input\n' both put c
	both get c -w json
	both get c -w fields
	both put c --ignore-value
	both put none --ignore-value
	both put c x --ignore-lease
	both put -- -dash -value
	both get -- -dash
	both del b/1 b/3 --range
	both del b/ --prefix --prev-kv
	both del c --from-key
	both put '' x
}

leases() {
	both lease list
	grant 1000
	both put k1 v --lease @L
	both put k1 v --ignore-lease
	both get k1 -w fields --hex
	for w in simple json fields; do
		both lease timetolive @L -w $w
		both lease timetolive @L --keys -w $w
		both lease keep-alive --once @L -w $w
		both lease list -w $w
		both lease list -w $w --hex
	done
	both lease timetolive 1234
	both lease timetolive 1234 --keys -w json
	both lease keep-alive --once 1234
	both lease keep-alive 1234
	both lease revoke 1234
	both lease revoke @L
	both get k1
	for w in json fields table; do
		grant 1000
		both lease revoke @L -w $w
	done
	both put k1 v --lease 1234
	both lease grant 99999999999
}

transactions() {
	IN='\n\n\n' both txn
	IN='\nput t 1\nput "t 2" '"'single quoted'"'\n\n\n' both txn
	IN='val("t") = "1"\nver("t") > "0"\n\n'
	IN+='get t\nget t --prefix\ndel "t 2" --prev-kv\nput t 2 --prev-kv\n\nput t never\n\n'
	both txn
	for w in simple json fields; do
		IN='c("t") != "0"\nm("t") < "100000"\ncreate("t") > "0"\nmod("t") > "0"\n'
		IN+='version("t") > "0"\nvalue("t") != "x"\n\n'
		IN+='get t\nput u "\\x00\\xff"\ndel v\n\nget t\n\n'
		both txn -w $w
	done
	unset IN
	IN='val("t") = "wrong"\n\nget t\n\nget t\nget u\n\n' both txn -i
	IN='  ver( "t") > "0"   trailing\n\nget t  \n\n\n' both txn
	IN='nonsense\n' both txn
	IN='ver("t" > "0"\n' both txn
	IN='ver("t")>"0"\n' both txn
	IN='ver("t") > "x"\n' both txn
	IN='what("t") > "0"\n' both txn
	IN='ver("t") > "0"' both txn
	IN='\nput\n' both txn
	IN='\nfly t 1\n' both txn
	WANT_ERRORS=some
	IN='\nget t --nope\n' both txn
	WANT_ERRORS=exact
	IN='\nput t 1\nput t 2\n\n\n' both txn
	IN='\nput t "unended\n\n\n' both txn
}

# watch_both N ARG...: what both print of what happened, N lines of it.
watch_both() {
	local who n=$1 text=() pid
	shift
	for who in etcdctl kvctl; do
		: >"$TMP/$who.out"
		timeout 20 "${PROGRAM[$who]}" --endpoints "${EP[$who]}" watch \
			"${@//@R/${REV[$who]}}" >"$TMP/$who.out" 2>"$TMP/$who.err" &
		pid=$!
		PIDS+=("$pid")
		until_true 10 has_lines "$who" "$n" || true
		kill "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
		text+=("$(plain "$who" <"$TMP/$who.out" | cat -A)
errors: $(errors "$who")")
	done
	same "$KIND: watch $*" "${text[0]}" "${text[1]}"
}
has_lines() { (($(wc -l <"$TMP/$1.out") >= $2)); }

watches() {
	local who
	both put w 1
	note_revision
	both put w 2
	both del w
	both put w/x 3
	watch_both 8 w --rev @R
	watch_both 13 w --rev @R --prev-kv
	watch_both 3 w/ --prefix --rev @R
	watch_both 11 w x --rev @R
	watch_both 1 w --rev @R -w json
	watch_both 1 w --rev @R -w json --prev-kv
	watch_both 25 w --rev @R -w fields
	watch_both 20 w --rev @R -- sh -c 'env | grep ^ETCD_WATCH | sort'
	both watch w --rev @R -- false
	both watch w --rev @R -w table
	raw
	both compaction @R
	both watch w --rev 1
	both watch w --rev 1 -w json
	both watch w --rev 1 -w fields
	both watch
	both watch w --
	both watch a b --prefix
	IN='nonsense\n\nwatch\n' both watch -i
	IN='watch w --\n' both watch -i
}

cluster() {
	formats member list
	both member list --consistency s
	for w in simple json fields table; do
		both_there endpoint status -w $w
		both_there endpoint status -w $w --hex
		both_there endpoint status -w $w --cluster
	done
	for w in simple json fields; do
		both endpoint health -w $w
		both endpoint health -w $w --cluster
	done
	for w in simple json fields table; do
		both_there endpoint hashkv -w $w
		both_there endpoint hashkv -w $w --hex --rev 5
		both_there endpoint hashkv -w $w --cluster
		both_there endpoint hashkv -w $w --rev 100000
	done
	both defrag x
	both defrag --cluster
	both endpoint hashkv -w protobuf
	both endpoint status -w protobuf
	both endpoint health -w protobuf
}

# raised WHO: it has the alarm.
raised() { "$ETCDCTL" --endpoints "${EP[$1]}" alarm list | grep -q NOSPACE; }

# Of servers that have no room at all.
alarms() {
	local who w
	formats alarm list
	formats alarm disarm
	for w in simple json fields; do
		both put a 1
		for who in etcdctl kvctl; do
			until_true 10 raised "$who" || true
		done
		both alarm list -w $w
		both alarm list -w $w --hex
		both_there alarm list -w protobuf
		both endpoint health -w $w
		both alarm disarm -w $w
		both alarm list -w $w
	done
	both alarm list x
	both alarm disarm x
}

# begin FLAG...: a server for each program.
begin() {
	local who
	for who in etcdctl kvctl; do
		start_server "$KIND" "$@" || finish
		EP[$who]=${URL#http://}
		PEER[$who]=$PEER_URL
		unset "LEASE[$who]" "LEASE[$who,u]"
	done
	note_ids
}

# The bytes of messages, which have identifiers in them: from one server.
raw() {
	both_there get w -w protobuf
	both_there get '' --prefix -w protobuf
	both_there del none -w protobuf
	both_there member list -w protobuf
	IN='\nget w\ndel none\n\n\n' both_there txn -w protobuf
}

errors_of_use() {
	both get
	both get a b --prefix
	both get a --prefix --from-key
	both get a --keys-only --count-only
	both get a --order up
	both get a --sort-by colour
	both get a --consistency x
	both get a -w yaml
	both get a --min-mod-rev 5 --max-mod-rev 3
	both get a --min-create-rev 5 --max-create-rev 3
	both put
	both put a
	both put a b --ignore-value
	both put a b --lease xyz
	both put a b --lease 123456789012345678901
	both del
	both del a b c
	both del a --prefix --from-key
	both del a b --prefix
	both txn x
	both compaction
	both compaction x
	both compaction 100000
	both compaction 0
	both lease grant
	both lease grant x
	both lease revoke
	both lease revoke x
	both lease timetolive
	both lease timetolive x
	both lease keep-alive
	WANT_ERRORS=some
	both bogus
	both --bogus
	both get --bogus
	both get a --limit x
	both get a --limit
	WANT_ERRORS=exact
}

for KIND in ${SERVER_KINDS:-etcd kvd}; do
	if [[ $KIND == kvd && ! -x $KVD ]]; then
		skip 'the same against kvd' 'no kvd built'
		continue
	fi
	begin
	kv
	leases
	transactions
	watches
	cluster
	errors_of_use
	begin --quota-backend-bytes=1000
	alarms
done
finish
