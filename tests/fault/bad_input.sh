#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# bad_input.sh: what kvd does with input that nobody should give it. A clear error
# each time, no crash, and nothing lost that was acknowledged.
. "$(dirname "$0")/../common.sh"

ask() { "$O/tests/fault/ask" "$URL" "$@" 2>&1; }
last() { tail -n 1 <<<"$1"; }

# serves TITLE: the server is there and has what was put first
serves() {
	local have
	have=$(ask get first)
	if alive "$SERVER" && [[ $have == *'value: "1"'* && $(last "$have") == OK ]]; then
		ok "$1"
	else
		not_ok "$1" "$have
$(tail -n 5 "$LOG")"
	fi
}

# --- bytes that are no request ------------------------------------------------

# throw FILE: sends it to the port and waits until the server has had enough
throw() {
	{
		exec 3<>"/dev/tcp/127.0.0.1/${URL##*:}" && cat "$1" >&3
		timeout 1 cat <&3
		exec 3>&-
	} >/dev/null 2>&1
}

garbage() {
	local preface='PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
	head -c 4096 /dev/urandom >"$TMP/random"
	throw "$TMP/random"
	serves 'after random bytes'
	printf '%s\r\n' 'GET / HTTP/9.9' >"$TMP/version"
	throw "$TMP/version"
	serves 'after a request of another HTTP'
	{ printf 'GET /'; head -c 200000 /dev/zero | tr '\0' a; } >"$TMP/long"
	throw "$TMP/long"
	serves 'after a path without an end'
	{ printf "$preface"; cat "$TMP/random"; } >"$TMP/frames"
	throw "$TMP/frames"
	serves 'after an HTTP/2 preface and random frames'
	{ printf "$preface"; printf '\xff\xff\xff\x00\x00\x00\x00\x00\x01'; } >"$TMP/frame"
	throw "$TMP/frame"
	serves 'after a frame that claims 16 MiB'
	: >"$TMP/nothing"
	throw "$TMP/nothing"
	serves 'after a connection without a byte'
}

# --- requests that are refused ------------------------------------------------

requests() {
	local before
	same 'a request over 1.5 MiB' 'InvalidArgument: etcdserver: request is too large' \
		"$(ask put-of large 1600000)"
	same 'a message over 2 MiB' \
		'ResourceExhausted: grpc: received message larger than max (2200012 vs. 2097152)' \
		"$(ask put-of large 2200000)"
	same 'transactions nested 128 deep' OK "$(last "$(ask nest 128)")"
	for n in 129 1000 4990; do
		same "transactions nested $n deep" \
			'InvalidArgument: etcdserver: too many operations in txn request' \
			"$(last "$(ask nest "$n")")"
	done
	for n in 10000 60000; do
		contains "transactions nested $n deep" 'exceeded maximum recursion depth' \
			"$(last "$(ask nest "$n")")"
	done
	contains 'bytes that are no message' 'Internal: grpc: error unmarshalling request' \
		"$(printf '\xff\xff\xff\xff\xff' | ask raw /etcdserverpb.KV/Put)"
	same 'a service that does not exist' 'Unimplemented: unknown service nope.X' \
		"$(ask raw /nope.X/Y </dev/null)"
	same 'a method that does not exist' \
		'Unimplemented: unknown method Nope for service etcdserverpb.KV' \
		"$(ask raw /etcdserverpb.KV/Nope </dev/null)"
	before=$(ask get first)
	same 'the transaction that ends etcd 3.7.1' \
		'InvalidArgument: etcdserver: key not found' "$(ask deadly first)"
	same 'and it changes nothing' "$before" "$(ask get first)"
	same 'an empty request' 'InvalidArgument: etcdserver: key is not provided' \
		"$(ask raw /etcdserverpb.KV/Put </dev/null)"
	for n in Range RangeStream; do
		contains "two messages to $n" 'Internal: cardinality violation: received multiple' \
			"$(printf '\x0a\x05first' | ask twice /etcdserverpb.KV/$n)"
	done
	serves 'after all of these'
}

# --- starts that are refused --------------------------------------------------

# refuses TITLE PART COMMAND...: ends by itself, with an error that says PART
refuses() {
	local title=$1 part=$2 out status
	shift 2
	out=$(timeout -k 1 20 "$@" 2>&1)
	status=$?
	if ((status == 0 || status >= 124)); then
		not_ok "$title" "status $status
$(tail -n 10 <<<"$out")"
	elif ! grep -qiE -- "$part" <<<"$out"; then
		not_ok "$title" "no '$part' in:
$(tail -n 10 <<<"$out")"
	else
		ok "$title"
	fi
}

starts() {
	local dir=$DIR url=$URL
	refuses 'an option that does not exist' 'nonsense' "$KVD" --nonsense=1
	refuses 'a number that is none' 'snapshot-count' "$KVD" --snapshot-count=many
	refuses 'a duration that is none' 'auto-compaction|backend-batch-interval' \
		"$KVD" --backend-batch-interval=soon
	refuses 'a file of options that does not exist' 'none.yaml' \
		"$KVD" --config-file="$TMP/none.yaml"
	DIR=$TMP/other
	server_flags
	refuses 'a port that is in use' "${url##*:}" "$KVD" "${FLAGS[@]}"
	DIR=$dir
	pick_ports
	server_flags
	refuses 'a data directory that is in use' 'in use|lock' "$KVD" "${FLAGS[@]}"
	URL=$url
}

# --- data that is not kvd's ---------------------------------------------------

foreign_data() {
	pick_ports
	DIR=$TMP/file
	head -c 1000 /dev/urandom >"$DIR"
	server_flags
	refuses 'a data directory that is a file' "$DIR|directory" "$KVD" "${FLAGS[@]}"

	DIR=$TMP/random-wal
	mkdir -p "$DIR/member/wal"
	head -c 100000 /dev/urandom >"$DIR/member/wal/0000000000000000-0000000000000000.wal"
	chmod -R go= "$DIR"
	server_flags
	refuses 'a log of random bytes' 'wal|log' "$KVD" "${FLAGS[@]}"

	if [[ ! -x $ETCD ]]; then
		skip "etcd's data directory" 'no etcd built: make peer'
		return
	fi
	start_server etcd || return
	ask put first 1 >/dev/null
	stop "$SERVER"
	refuses "etcd's data directory" "$DIR|etcd|store|kv\.db" "$KVD" "${FLAGS[@]}"
	launch "$ETCD"
	until_true 20 is_ready
	serves 'which etcd can still use'
	stop "$SERVER"
}

# flip FILE OFFSET: inverts one byte
flip() {
	local byte
	byte=$(od -An -tu1 -j "$2" -N 1 "$1")
	printf "\\x$(printf %x $((byte ^ 255)))" |
		dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

damaged_log() {
	local wal size
	start_server kvd || return
	for i in {1..40}; do ask put "key$i" "$(printf 'v%050d' "$i")" >/dev/null; done
	kill -9 "$SERVER"
	wait "$SERVER" 2>/dev/null
	wal=$(find "$DIR/member/wal" -name '*.wal' | sort | tail -n 1)
	cp -a "$DIR" "$TMP/copy"
	# in the middle of what was written: the key's number is found in its record
	size=$(grep -abo key20 "$wal" | head -n 1 | cut -d: -f1)
	flip "$wal" "$size"
	refuses 'a log that is damaged in the middle' 'wal|crc|damage|corrupt' "$KVD" "${FLAGS[@]}"
	rm -rf "$DIR"
	cp -a "$TMP/copy" "$DIR"
	launch "$KVD"
	until_true 20 is_ready
	contains 'the same log undamaged' 'value: "v0' "$(ask get key40)"
	stop "$SERVER"
}

# A store that was put back from an older copy, from before the log was cut: what is
# between the two is nowhere, and must not be passed over.
old_store() {
	start_server kvd || return
	ask put first 1 >/dev/null
	stop "$SERVER"
	cp -a "$DIR/member/kv" "$TMP/old-kv"
	launch "$KVD"
	until_true 20 is_ready
	for i in {1..40}; do ask put-of "key$i" $((1 << 20)) >/dev/null; done
	stop "$SERVER"
	check 'the beginning of the log is cut' test ! -e \
		"$DIR/member/wal/0000000000000000-0000000000000000.wal"
	mv "$DIR/member/kv" "$TMP/new-kv"
	mv "$TMP/old-kv" "$DIR/member/kv"
	server_flags
	refuses 'a store that is older than the log' \
		'the log begins at entry [0-9]+, but the store ends at [0-9]+: restore' \
		"$KVD" "${FLAGS[@]}"
	rm -r "$DIR/member/kv"
	refuses 'a store that is gone' 'the store ends at 0: restore' "$KVD" "${FLAGS[@]}"
	rm -rf "$DIR/member/kv"
	mv "$TMP/new-kv" "$DIR/member/kv"
	launch "$KVD"
	until_true 20 is_ready
	contains 'the newer store put back' 'key40' "$(ask get key40)"
	stop "$SERVER"
}

# --- a full disk --------------------------------------------------------------

# full_disk MIB BYTES: of that size, filled with values of so many bytes
full_disk() {
	local acked=() lost='' i status have bytes=$2
	mkdir -p "$TMP/disk"
	if ! mount -t tmpfs -o size="$1m" none "$TMP/disk" 2>/dev/null; then
		skip 'a full disk' 'no right to mount'
		return
	fi
	MOUNTS+=("$TMP/disk")
	DIR=$TMP/disk/data
	pick_ports
	LOG_FILE=$TMP/disk.log
	launch "$KVD"
	until_true 20 is_ready
	for ((i = 0; i < 600; i++)); do
		[[ $(last "$(ask put-of "full$i" "$bytes")") == OK ]] || break
		acked+=("full$i")
	done
	((i < 600)) && ok "a full disk: puts fail after $i" || not_ok 'a full disk: puts fail'
	if alive "$SERVER"; then
		contains 'and kvd still reads' OK "$(last "$(ask get full0)")"
		stop "$SERVER"
	else
		wait "$SERVER"
		status=$?
		((status < 128)) && ok "and kvd ends with an error" ||
			not_ok 'and kvd ends with an error' "status $status"
	fi
	contains 'and says why' 'o space left' "$(<"$LOG")"
	launch "$KVD"
	until_true 20 is_ready
	same 'and does not take it for damage' '' "$(grep -i damaged "$LOG")"
	stop "$SERVER"
	mount -o remount,size=400m "$TMP/disk"
	launch "$KVD"
	until_true 20 is_ready
	for i in "${acked[@]}"; do
		have=$(ask get "$i")
		[[ $have == *"($bytes bytes)"* ]] || lost+="$i: $(last "$have")"$'\n'
	done
	same "with room again: ${#acked[@]} acknowledged puts are there" '' "$lost"
	same 'and puts work' OK "$(last "$(ask put after 1)")"
	stop "$SERVER"
	umount "$TMP/disk"
}

start_server kvd || finish
ask put first 1 >/dev/null
serves 'kvd serves'
garbage
requests
starts
kill "$SERVER"
until_true 10 eval '! alive "$SERVER"'
wait "$SERVER"
same 'kvd ends with status 0 when asked to' 0 $?
launch "$KVD"
until_true 20 is_ready
serves 'and has everything at its next start'
stop "$SERVER"
foreign_data
damaged_log
old_store
full_disk 100 300000
full_disk 50 700000
finish
