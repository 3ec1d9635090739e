#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# etcfs_inotify.sh: a change made elsewhere wakes local programs, with the new contents
# there to be read; one made here is heard of once.
. "$(dirname "$0")/etcfs_lib.sh"

# watch NAME PATH...: starts to write events to $TMP/NAME; waits until it watches
watch() {
	local name=$1
	shift
	: >"$TMP/$name.err"
	inotifywait -m -e modify,attrib,close_write,create,delete,delete_self,moved_from,moved_to \
		--format '%e %f' "$@" >>"$TMP/$name" 2>"$TMP/$name.err" &
	WATCH=$!
	PIDS+=("$WATCH")
	until_true 10 grep -q 'Watches established' "$TMP/$name.err"
}
events() { paste -sd' ' "$TMP/$1"; }
saw() { grep -qxF -- "$2" "$TMP/$1"; }
# heard TITLE NAME EVENT...: exactly these, in this order
heard() {
	local title=$1 name=$2 want=$3
	until_true 5 saw "$name" "${@: -1}"
	shift 3
	while (($#)); do want+=" $1"; shift; done
	same "$title" "$want" "$(events "$name")"
	: >"$TMP/$name"
}

others() {
	watch dir "$MNT"
	put new 1
	heard "a put of a new key creates a file" dir "CREATE new" "MODIFY new" \
		"CLOSE_WRITE,CLOSE new"
	same "its contents are there" 1 "$(cat "$MNT/new")"
	put new 22
	heard "a put modifies it" dir "MODIFY new" "CLOSE_WRITE,CLOSE new"
	same "the new contents are there" 22 "$(cat "$MNT/new")"
	same "and the new size" 2 "$(stat -c %s "$MNT/new")"
	del new
	heard "a delete deletes it" dir "DELETE new"
	check "it is not there" test ! -e "$MNT/new"
	put sub/ ''
	heard "a marker creates a directory" dir "CREATE,ISDIR sub"
	del sub/
	heard "its delete deletes it" dir "DELETE,ISDIR sub"
	put key 1
	until_true 5 saw dir "CLOSE_WRITE,CLOSE key"
	: >"$TMP/dir"
	put key/below 2
	heard "a key that becomes a directory" dir "DELETE key" "CREATE,ISDIR key"
	same "keeps its value" 1 "$(cat "$MNT/key/.value")"
	put "$(printf 'mode=%s' x)" 1
	until_true 5 saw dir "CLOSE_WRITE,CLOSE mode=x"
	: >"$TMP/dir"
	put .etcfs/meta/file/mode=x mode=100600
	heard "a sidecar changes attributes" dir "ATTRIB mode=x"
	same "the new mode is there" 600 "$(stat -c %a "$MNT/mode=x")"
	stop "$WATCH"
}

# The contents at the moment of each event, read by a program that waits for it.
contents_at_the_event() {
	local i late=0
	put counter 0
	until_true 5 test -e "$MNT/counter"
	for ((i = 1; i <= 20; i++)); do
		: >"$TMP/established"
		inotifywait -q -q -e modify "$MNT/counter" &
		WATCH=$!
		PIDS+=("$WATCH")
		until_true 5 grep -qs inotify "/proc/$WATCH/fdinfo/3"
		put counter "$i"
		wait "$WATCH"
		[[ $(cat "$MNT/counter") -ge $i ]] || late=$((late + 1))
	done
	same "20 times the contents were there at the event" 0 "$late"
}

watching_a_file() {
	put file 1
	until_true 5 test -e "$MNT/file"
	exec 7<"$MNT/file"
	watch file "$MNT/file"
	put file 2
	heard "a watch of the file itself hears it" file "MODIFY " "CLOSE_WRITE,CLOSE "
	same "it is the same file still" \
		"$(stat -c %i "$MNT/file")" "$(stat -Lc %i /proc/self/fd/7)"
	same "a reader that has it open sees the new contents" 2 "$(cat <&7)"
	exec 7<&-
	stop "$WATCH"
}

ours() {
	watch own "$MNT"
	echo x >"$MNT/own"
	heard "what is done here is heard of once" own "CREATE own" "MODIFY own" \
		"CLOSE_WRITE,CLOSE own"
	put after 1
	heard "and not again when it comes back" own "CREATE after" "MODIFY after" \
		"CLOSE_WRITE,CLOSE after"
	stop "$WATCH"
}

two_mounts() {
	local first=$FS
	mount_at "$TMP/mnt2" || return
	watch second "$TMP/mnt2"
	echo x >"$MNT/two"
	heard "a write in one mount is heard of in the other" second "CREATE two" "MODIFY two" \
		"CLOSE_WRITE,CLOSE two"
	same "with its contents" x "$(cat "$TMP/mnt2/two")"
	rm "$MNT/two"
	heard "and so is a removal" second "DELETE two"
	chmod 600 "$MNT/file"
	heard "and a change of mode" second "ATTRIB file"
	stop "$WATCH"
	stop "$FS"
	FS=$first
}

# put_hundred N: the files from N on, in one transaction
put_hundred() {
	local n
	{
		echo
		for ((n = $1; n < $1 + 100; n++)); do echo "put ${PREFIX}large$n $n"; done
		echo
		echo
	} | ctl txn >/dev/null
}

# A watcher misses nothing of a burst, and ends with the last state.
burst() {
	watch burst "$MNT"
	for ((i = 0; i < 100; i++)); do put "burst$i" "$i"; done
	check "100 files of a burst are heard of" \
		until_true 10 saw burst "CLOSE_WRITE,CLOSE burst99"
	same "each" 100 "$(grep -c '^CREATE burst' "$TMP/burst")"
	for ((i = 0; i < 20000; i += 100)); do put_hundred "$i"; done
	check "20000 files of a larger one, too" \
		until_true 60 saw burst "CLOSE_WRITE,CLOSE large19999"
	same "each of them once" 20000 "$(grep '^CREATE large' "$TMP/burst" | sort -u | wc -l)"
	same "and no more" 20000 "$(grep -c '^CREATE large' "$TMP/burst")"
	stop "$WATCH"
}

# Nothing of this may hang: the daemon is killed while helpers are at work.
killed() {
	for ((i = 0; i < 50; i++)); do put "kill$i" "$i"; done &
	local writer=$!
	kill -9 "$FS"
	check "a daemon that is killed ends at once" until_true 5 gone "$FS"
	wait "$writer" "$FS" 2>/dev/null
	check "its mount can be unmounted" umount -l "$MNT"
}

need_fuse "inotify in a mount"
if ! has inotifywait; then
	skip "inotify in a mount" "inotifywait (inotify-tools) is not installed"
	finish
fi
start_server "$ETCFS_SERVER" || finish
mount_at "$MNT" || finish
others
contents_at_the_event
watching_a_file
ours
two_mounts
burst
killed
finish
