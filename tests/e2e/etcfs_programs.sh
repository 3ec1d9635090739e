#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# etcfs_programs.sh: programs that know nothing of it, in a mount; and what the
# cluster holds after them.
. "$(dirname "$0")/etcfs_lib.sh"

basics() {
	put_seen a/b hello
	same "cat shows a value" hello "$(cat a/b)"
	echo one >f
	same "echo writes it" one "$(value f)"
	same "in one put" 1 "$(field f Version)"
	echo two >>f
	same "and appends" $'one\ntwo' "$(value f)"
	echo three >f
	same "a write replaces the value" three "$(value f)"
	same "each close is one put" 3 "$(field f Version)"
	printf '' >empty
	same "an empty file is an empty value" 1 "$(field empty Version)"
	touch t
	same "touch makes a file" 1 "$(field t Version)"
	check "flock makes a file that it opens to read" flock r true
	same "in the cluster, too" 1 "$(field r Version)"
	echo x >r
	perl -MFcntl -e 'sysopen(F, "r", O_RDONLY | O_TRUNC); close(F)'
	same "opening to read truncates it there, too" 3 "$(field r Version)"
	rm r
	mv f g
	same "mv moves the key" three "$(value g)"
	same "and leaves nothing" '' "$(value f)"
	rm g
	same "rm deletes it" '' "$(value g)"
	same "ls shows what is there" $'a\nempty\nt' "$(ls)"
	same "ls -l shows the size" 5 "$(stat -c %s a/b)"
	check "a file of the limit is taken" dd if=/dev/zero of=limit bs=1048576 count=1
	same "a larger one is EFBIG" "File too large" \
		"$( (head -c 1048577 /dev/zero >large) 2>&1 | sed 's/.*: //')"
	same "hard links are EPERM" "Operation not permitted" "$(ln t hard 2>&1 | sed 's/.*: //')"
	rm -f empty t limit large
}

directories() {
	mkdir d
	same "mkdir puts a marker" 1 "$(field d/ Version)"
	echo x >d/x
	same "rmdir of what is not empty" "Directory not empty" "$(rmdir d 2>&1 | sed 's/.*: //')"
	mv d e
	same "a directory is renamed with what is in it" x "$(value e/x)"
	same "and its marker" 1 "$(field e/ Version)"
	same "nothing is left of it" '' "$(ctl get --prefix --keys-only "${PREFIX}d")"
	rm e/x
	check "rmdir" rmdir e
	same "the marker is gone" '' "$(field e/ Version)"
	put_seen i/k 1
	rm i/k
	check "rm -r of a directory that is only implied" rm -r i
	put_seen i/k 1
	rm i/k
	check "left alone, it vanishes" until_true 5 test ! -e i
	mkdir many
	for ((i = 0; i < 200; i++)); do put "many/$i" "$i"; done
	check "a directory of 200 files" until_true 5 test -e many/199
	same "is listed whole" 200 "$(find many -type f | wc -l)"
	same "mv of it copies, since one transaction does not hold it" 200 \
		"$(mv many much && find much -type f | wc -l)"
	check "rm -r" rm -r much
}

odd_keys() {
	put 'k/.' dot
	put 'k/..' dots
	put 'k/' slash
	put 'k//z' empty
	put 'k/100%' percent
	put 'k/%2E' escape
	until_true 5 test -e k/%252E
	same "odd keys have names" $'%252E\n%2E\n%2E%2E\n%_\n100%' "$(LC_ALL=C ls k)"
	same "and values" dotdotsescapepercent "$(cat k/%2E k/%2E%2E k/%252E k/100%)"
	same "a key that is also a directory" $'.value\nz' "$(ls -A k/%_)"
	same "has its value in .value" slash "$(cat k/%_/.value)"
	put both 1
	put_seen both/sub 2
	same "a file becomes a directory" 1 "$(cat both/.value)"
	echo 3 >both/.value
	same "writing .value puts the key" 3 "$(value both)"
	rm both/.value
	same "removing it leaves the others" 2 "$(value both/sub)"
	same "sidecars are not shown" '' "$(ls -A | grep etcfs)"
	rm -r both k
}

is_of_this_year() { [[ $(date -r "$1" +%Y) == "$(date +%Y)" ]]; }

metadata() {
	echo x >m
	chmod 600 m
	touch -d '2020-01-02 03:04:05 UTC' m
	ln -s m l
	mkfifo p
	same "the value stays the file's bytes" x "$(value m)"
	same "a link's value is its target" m "$(value l)"
	remount
	same "mode survives a remount" 600 "$(stat -c %a m)"
	same "times do" 1577934245 "$(stat -c %Y m)"
	same "links do" m "$(readlink l)"
	same "a fifo does" fifo "$(stat -c %F p)"
	put m y
	check "a write by others voids the time" until_true 5 is_of_this_year m
	same "but not the mode" 600 "$(stat -c %a m)"
	if has getfattr; then
		same "user.etcd.key" "${PREFIX}m" "$(getfattr --only-values -n user.etcd.key m)"
		same "user.etcd.version" "$(field m Version)" \
			"$(getfattr --only-values -n user.etcd.version m)"
	fi
	mv m n
	same "mv takes the mode along" 600 "$(stat -c %a n)"
	rm n l p
	same "sidecars go with their files" '' \
		"$(ctl get --prefix --keys-only "$PREFIX.etcfs/" | grep .)"
}

concurrency() {
	echo base >c
	exec 7<>c
	put c theirs
	until_true 5 grep -q theirs c
	{ echo mine >&7; } 2>/dev/null
	same "a write over somebody else's change is refused" theirs "$(value c)"
	exec 7>&-
	exec 7>>c
	put c 'theirs
'
	echo one >&7
	exec 7>&-
	same "what is appended goes behind it" $'theirs\none' "$(value c)"
	put_seen gone/x 1
	exec 7<gone/x
	del gone/x
	until_true 5 test ! -e gone
	perl -e 'open(F, "<&=7"); chmod(0600, *F) or die'
	exec 7<&-
	same "the mode of a file that is gone is kept nowhere" '' \
		"$(field .etcfs/meta/file/ Version)"
	put excl theirs
	same "O_EXCL fails where the key is there" 1 \
		"$( (set -C; : >excl) 2>/dev/null; echo $?)"
	rm c excl
}

# The kernel goes on with a directory that could not be removed in front of it.
mounted_over() {
	put_seen over/x 1
	cd over || return
	if ! mount -t tmpfs none "$MNT/over" 2>/dev/null; then
		skip "a directory that is mounted over" "no mount"
		cd "$MNT" || exit
		return
	fi
	del over/x
	check "what is mounted over can vanish" until_true 5 test ! -e "$MNT/over"
	same "nothing can be made in it" "No such file or directory" \
		"$(mkdir y 2>&1 | sed 's/.*: //')"
	same "not elsewhere either" '' "$(field y/ Version)"
	cd "$MNT" || exit
}

use_git() {
	has git || { skip "git" "not installed"; return; }
	mkdir repo && cd repo || return
	check "git init" git init -q .
	echo hi >file
	git config user.email t@example.org
	git config user.name t
	check "git add" git add .
	check "git commit" git commit -q -m first
	check "git fsck" git fsck --strict
	same "git show" hi "$(git show HEAD:file)"
	check "git gc" git gc -q
	cd .. && rm -rf repo
}

use_sqlite() {
	has sqlite3 || { skip "sqlite" "not installed"; return; }
	same "sqlite writes and reads" 3 \
		"$(sqlite3 db 'create table t(a); insert into t values(1),(2);
			select sum(a) from t')"
	same "its file is sound" ok "$(sqlite3 db 'pragma integrity_check')"
	same "in the cluster too" ok "$(value db >"$TMP/db" && truncate -s -1 "$TMP/db" &&
		sqlite3 "$TMP/db" 'pragma integrity_check')"
	same "with a journal of its own" $'wal\n3' "$(sqlite3 wal 'pragma journal_mode=wal;
		create table t(a); insert into t values(1),(2); select sum(a) from t')"
	rm -f db* wal*
}

use_editors() {
	printf 'a\nb\n' >s
	sed -i s/b/c/ s
	same "sed -i" $'a\nc' "$(value s)"
	if has vim; then
		vim -u NONE -es -c '%s/a/x/' -c wq s </dev/null
		same "vim writes in place" $'x\nc' "$(value s)"
		vim -u NONE -es -c 'set backupcopy=no backup' -c '%s/x/y/' -c wq s </dev/null
		same "vim writes by renaming" $'y\nc' "$(value s)"
	else
		skip "vim" "not installed"
	fi
	rm -f s*
}

use_copiers() {
	mkdir -p "$TMP/src/sub"
	echo 1 >"$TMP/src/sub/a"
	chmod 640 "$TMP/src/sub/a"
	touch -d 2020-01-01 "$TMP/src/sub/a"
	ln -s a "$TMP/src/sub/l"
	check "cp -a" cp -a "$TMP/src" cp
	check "copies everything" diff -r "$TMP/src" cp
	same "with mode and time" "$(stat -c '%a %Y' "$TMP/src/sub/a")" \
		"$(stat -c '%a %Y' cp/sub/a)"
	mkdir tar
	check "tar x" tar x -C tar -f <(tar c -C "$TMP/src" .)
	check "unpacks everything" diff -r "$TMP/src" tar
	same "with mode and time too" "$(stat -c '%a %Y' "$TMP/src/sub/a")" \
		"$(stat -c '%a %Y' tar/sub/a)"
	cp /bin/true program
	check "a program runs" ./program
	rm -rf cp tar program
}

remount() {
	cd "$TMP" || exit
	umount "$MNT"
	until_true 10 gone "$FS"
	mount_at "$MNT" || finish
	cd "$MNT" || exit
}

# The cluster does not answer: reads go on, writes end with an error, and later work.
no_quorum() {
	local before=$SECONDS
	echo x >q
	kill -STOP "$SERVER"
	same "reads go on without the cluster" x "$(cat q)"
	same "a write fails after a while" 1 \
		"$(dd if=/dev/zero of=q bs=1 count=1 conv=fsync 2>/dev/null; echo $?)"
	check "not after much longer than the timeout" test $((SECONDS - before)) -le 5
	same "then at once, read-only" "Read-only file system" "$(mkdir qd 2>&1 | sed 's/.*: //')"
	kill -CONT "$SERVER"
	check "and works again when the cluster does" until_true 10 mkdir qd
	kill -STOP "$SERVER"
	same "who waits can be interrupted" 124 "$(timeout -s INT 0.3 mkdir qi; echo $?)"
	kill -CONT "$SERVER"
	until_true 10 touch q
	kill -STOP "$SERVER"
	perl -e '$SIG{USR1} = sub {}; mkdir("qs") or die("$!\n")' &
	waiting=$!
	until_true 5 grep -q 'fuse\|request_wait' "/proc/$waiting/wchan"
	kill -USR1 "$waiting"
	kill -CONT "$SERVER"
	wait "$waiting"
	same "but a signal that is handled is no failure" 0 $?
	rm -rf q qd qi qs
}

endings() {
	cd "$TMP" || exit
	exec 7>"$MNT/held"
	echo unfinished >&7
	kill -TERM "$FS"
	check "SIGTERM ends it while a file is open" until_true 10 gone "$FS"
	wait "$FS"
	same "with success" 0 $?
	check "nothing stays mounted" not_mounted "$MNT"
	same "what was written is in the cluster" unfinished "$(value held)"
	exec 7>&-
	mount_at "$MNT" || finish
	check "fusermount3 -u" fusermount3 -u "$MNT"
	check "ends it too" until_true 10 gone "$FS"
	if unshare -m true 2>/dev/null; then
		contains "without /dev/fuse it says what to do" "--device /dev/fuse" \
			"$(unshare -m sh -c 'mount -t tmpfs none /dev && "$0" "$1"' \
				"$ETCFS" "$MNT" 2>&1)"
	fi
	"$ETCFS" --endpoints http://127.0.0.1:1 --timeout 300ms "$MNT" >"$TMP/out" 2>&1
	same "without a cluster it says so" 1 $?
	contains "and why" "cannot be read" "$(cat "$TMP/out")"
}

not_mounted() { ! is_mounted "$1"; }
no_process_with() { ! pgrep -f -- "$1"; }

standalone() {
	[[ $ETCFS_SERVER == kvd ]] || return
	mkdir -p "$TMP/alone"
	MOUNTS+=("$TMP/alone")
	"$ETCFS" --standalone "$TMP/a" --kvd "$KVD" "$TMP/alone" >"$TMP/alone.out" 2>&1 &
	FS=$!
	PIDS+=("$FS")
	check "etcfs --standalone starts a member" until_true 30 is_mounted "$TMP/alone"
	echo alone >"$TMP/alone/f"
	same "that serves at its socket" alone \
		"$(URL=unix://$TMP/a/client.sock PREFIX=/ value f)"
	kill "$FS"
	check "and ends with it" until_true 10 gone "$FS"
	check "no member is left" until_true 5 no_process_with "$TMP/a/data"

	mkdir -p "$TMP/one"
	MOUNTS+=("$TMP/one")
	"$ETCFS" --standalone "$TMP/one" --kvd "$KVD" >"$TMP/one.out" 2>&1 &
	FS=$!
	PIDS+=("$FS")
	check "--standalone without a mount point" until_true 30 is_mounted "$TMP/one"
	echo one >"$TMP/one/f"
	for ((i = 0; i < 20; i++)); do kill "$FS" 2>/dev/null; done
	check "asked to end many times it ends" until_true 10 gone "$FS"
	check "and leaves no mount" not_mounted "$TMP/one"
}

need_fuse "programs in a mount"
start_server "$ETCFS_SERVER" || finish
mount_at "$MNT" --timeout 2s || finish
cd "$MNT" || exit
basics
directories
odd_keys
concurrency
mounted_over
use_editors
use_copiers
use_git
use_sqlite
no_quorum
metadata
endings
standalone
finish
