#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# run.sh [N [SEED...]]: the same N random requests in all (50,000, over five seeds)
# to etcd 3.7.1 and to kvd; prints the first difference of each seed. Both servers
# start empty for each seed. Needs "make peer". OTHER=etcd compares etcd with itself,
# which must show no difference. DIFF_FLAGS are passed on.
. "$(dirname "$0")/../common.sh"

n=${1:-50000}
shift
seeds=("${@:-}")
[[ -n ${seeds[0]} ]] || seeds=(1 2 3 4 5)
diff=$O/peer/diff
for program in "$diff" "$ETCD"; do
	[[ -x $program ]] || { echo "$program is missing: make peer" >&2; exit 2; }
done

total=0 wrong=0
for seed in "${seeds[@]}"; do
	start_server etcd || finish
	a=$URL first=$SERVER
	start_server "${OTHER:-kvd}" || finish
	out=$("$diff" -a "$a" -b "$URL" -seed "$seed" -n $((n / ${#seeds[@]})) \
		-hash ${DIFF_FLAGS:-} 2>&1)
	status=$?
	last=${out##*$'\n'}
	if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
		total=$((total + BASH_REMATCH[1]))
		wrong=$((wrong + BASH_REMATCH[2]))
	else
		wrong=$((wrong + 1))
	fi
	if ((status == 0)); then
		echo "ok - seed $seed: ${BASH_REMATCH[1]} answers are equal"
	else
		echo "not ok - seed $seed"
		{ died; echo "$out"; } | sed 's/^/#   /'
	fi
	stop "$first"
	stop "$SERVER"
done
echo "$total passed, $wrong failed"
((wrong == 0))
