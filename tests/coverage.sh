#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# coverage.sh O: runs the unit tests and the programs of tests/fault that are built in O,
# which was made with --coverage, and prints for each file of the two libraries how many
# of its lines were run. With MISSED=1 those that were not follow, by number.
set -u
cd "$(dirname "$0")/.." || exit 2
O=$1
MISSED=${MISSED:-}
TMP=$(mktemp -d "${TMPDIR:-/tmp}/kvd-cover.XXXXXX")
trap 'rm -rf "$TMP"' EXIT

find "$O" -name '*.gcda' -delete
failed=0
programs=("$O"/tests/unit/{mvcc,raft}_* "$O"/raft_script
	"$O"/tests/fault/{power,error,damage,memory})
for t in "${programs[@]}"; do
	[[ -f $t && -x $t ]] || continue
	args=()
	[[ $t == */raft_script ]] && args=(tests/data/raft)
	"$t" "${args[@]}" >"$TMP/log" 2>&1 && continue
	failed=$((failed + 1))
	echo "$t fails:"
	tail -n 5 "$TMP/log"
done

# lines DIR FILE: "run of it" and the numbers of those that were not
lines() {
	gcov -t -o "$O/obj/$1" "$2" 2>/dev/null | awk -v file="$2" '
		/^ *-: *0:Source:/ { mine = $0 ~ "Source:" file "$"; next }
		!mine { next }
		/^ *#+:/ { split($0, part, ":"); missed = missed " " part[2] + 0; n++; next }
		/^ *[0-9]+\*?:/ { n++; hit++ }
		END { print hit + 0, n + 0, missed }'
}

for dir in libmvcc libraft; do
	hit=0 all=0
	for file in "$dir"/*.c; do
		read -r h n missed < <(lines "$dir" "$file")
		((n)) || continue
		hit=$((hit + h)) all=$((all + n))
		awk -v f="$file" -v h="$h" -v n="$n" \
			'BEGIN { printf "%-28s %6.2f %% of %4d\n", f, 100 * h / n, n }'
		[[ -z $MISSED || -z $missed ]] || fold -s -w 90 <<<"$missed" | sed 's/^/    /'
	done
	awk -v f="$dir" -v h="$hit" -v n="$all" \
		'BEGIN { printf "%-28s %6.2f %% of %4d\n", f, n ? 100 * h / n : 0, n }'
done
((failed == 0))
