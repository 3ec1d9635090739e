#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# planted.sh [BUG...]: builds the simulators, libraft's or kvd's, with each of the bugs in
# plants/, one at a time, and lets them look for it. Prints how many seeds that took and
# what was seen; the median; and the sum.
. "$(dirname "$0")/../common.sh"

SEEDS=${SEEDS:-20000}
LOOK_SECONDS=${LOOK_SECONDS:-90}

eval "flags=($(<"$O/.flags"))"
mkdir -p "$O/planted"

world=(run world net disk chaos calm check)
raft=(raft_sim node client links)
kvd=(kvd_sim kvd_node kvd_store kvd_client kvd_watch kvd_model)
read -ra libs < <(pkg-config --libs libisal libsystemd libuv libnghttp2 libprotobuf-c jansson \
	yaml-0.1)

# build BUG: $O/planted/BUG; what the patched object has is not taken from the archives
build() {
	local patch=tests/sim/plants/$1.patch file parts=("${world[@]}") rest=("$O/libraft.a") o
	file=$(sed -n 's/^--- //p' "$patch")
	patch -s -o "$TMP/$1.c" "$file" "$patch" &&
		"${flags[@]}" -include include/banned.h -c -o "$TMP/$1.o" "$TMP/$1.c" || return
	if [[ $file == libraft/* ]]; then
		parts+=("${raft[@]}")
	else
		parts+=("${kvd[@]}")
		rest=("$O/kvd.a" "$O/libraft.a" "$O/libmvcc.a" "$O/lib.a" "${libs[@]}" -ldb-5.3
			-lhttp_parser -lcrypto)
	fi
	for o in "${parts[@]}"; do
		rest=("$O/obj/tests/sim/$o.o" "${rest[@]}")
	done
	"${flags[@]}" -o "$O/planted/$1" "$TMP/$1.o" "${rest[@]}"
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
