#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# run.sh NAME [SECONDS]: lets libFuzzer look for inputs that make $O/fuzz/NAME fail,
# beginning with those in NAME.corpus, one a line in hexadecimal. What it has found
# stays in $O/fuzz/NAME.found, an input that fails in $O/fuzz/. Ends as libFuzzer does.
#
# run.sh NAME --keep: writes as few of the inputs found as cover the same into NAME.corpus.
. "$(dirname "$0")/../common.sh"

name=$1 how=${2:-60}
corpus=tests/fuzz/$name.corpus found=$O/fuzz/$name.found
mkdir -p "$found" "$TMP/kept"

unpack() { # DIR
	local line n=0
	while read -r line; do
		# shellcheck disable=SC2059
		printf "$(sed 's/../\\x&/g' <<<"$line")" >"$1/$((n++))"
	done <"$corpus"
}

pack() { # DIR: the shortest first
	local f
	for f in "$1"/*; do od -An -v -tx1 "$f" | tr -d ' \n'; echo; done |
		awk '{ print length, $0 }' | sort -n | cut -d' ' -f2
}

if [[ $how == --keep ]]; then
	"$O/fuzz/$name" -set_cover_merge=1 -use_counters=0 -max_len=800 \
		"$TMP/kept" "$found" 2>/dev/null || exit
	pack "$TMP/kept" >"$corpus"
	wc -lc <"$corpus" | awk '{ print $1 " inputs, " $2 " bytes" }'
	exit
fi
[[ -e $corpus ]] && unpack "$TMP/kept"
nice -n 19 "$O/fuzz/$name" -max_len=1500 -rss_limit_mb=2000 -max_total_time="$how" \
	-print_final_stats=1 -artifact_prefix="$O/fuzz/" "$found" "$TMP/kept" 2>&1 |
	grep -vE '(NEW|REDUCE|pulse|RELOAD) |# Uses: |recommended dictionary'
exit "${PIPESTATUS[0]}"
