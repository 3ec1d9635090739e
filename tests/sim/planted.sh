#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# planted.sh [BUG...]: builds the simulator with each of the bugs in plants/, one at a
# time, and lets it look for it. Prints how many seeds that took and what was seen; the
# median; and the sum.
. "$(dirname "$0")/../common.sh"

SEEDS=${SEEDS:-20000}
LOOK_SECONDS=${LOOK_SECONDS:-90}

eval "flags=($(<"$O/.flags"))"
mkdir -p "$O/planted"

# build BUG: $O/planted/BUG, from the same objects but one
build() {
	local patch=tests/sim/plants/$1.patch file objects=() o
	file=$(sed -n 's/^--- //p' "$patch")
	patch -s -o "$TMP/$1.c" "$file" "$patch" &&
		"${flags[@]}" -include include/banned.h -c -o "$TMP/$1.o" "$TMP/$1.c" || return
	for o in "$O"/obj/libraft/*.o; do
		[[ $o == "$O/obj/${file%.c}.o" ]] || objects+=("$o")
	done
	for o in raft_sim run world net disk node client chaos calm check links; do
		objects+=("$O/obj/tests/sim/$o.o")
	done
	"${flags[@]}" -o "$O/planted/$1" "${objects[@]}" "$TMP/$1.o"
}

# look BUG: sets needed, the seeds until it was found
look() {
	local out
	out=$(timeout "$LOOK_SECONDS" "$O/planted/$1" --seeds "$SEEDS" 2>&1 | grep -a .)
	[[ $(tail -n 1 <<<"$out") =~ ^([0-9]+)\ passed,\ 1\ failed$ ]] || return
	needed=$((BASH_REMATCH[1] + 1))
	seen=$(grep -a '^seed ' <<<"$out" | tail -n 1 | cut -d: -f2-)
}

bugs=("$@")
((${#bugs[@]})) || for f in tests/sim/plants/*.patch; do bugs+=("$(basename "$f" .patch)"); done
all=()
for bug in "${bugs[@]}"; do
	if ! build "$bug"; then
		not_ok "$bug" 'it cannot be built'
	elif look "$bug"; then
		all+=("$needed")
		ok "$(printf '%-26s %6d seeds:%s' "$bug" "$needed" "$seen")"
	else
		not_ok "$bug" "not found with $SEEDS seeds or in $LOOK_SECONDS s"
	fi
done
((${#all[@]})) && printf '%s\n' "${all[@]}" | sort -n |
	awk '{ v[NR] = $1 } END { print "# median " v[int((NR + 1) / 2)] " seeds" }'
finish
