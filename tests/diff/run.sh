#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# run.sh [N [SEED...]]: the same N random requests in all (50,000, over five seeds)
# to etcd 3.7.1 and to kvd; prints the first difference of each seed. Both servers
# start empty for each seed, and are restarted together now and then, by SIGTERM or
# SIGKILL. The even seeds give kvd next to no cache, so that it reads from its disk.
# Needs "make peer". OTHER=etcd compares etcd with itself, which must show no
# difference. DIFF_FLAGS are passed on.
. "$(dirname "$0")/../common.sh"

n=${1:-50000}
shift
seeds=("${@:-}")
[[ -n ${seeds[0]} ]] || seeds=(1 2 3 4 5)
diff=$O/peer/diff
for program in "$diff" "$ETCD"; do
	[[ -x $program ]] || { echo "$program is missing: make peer" >&2; exit 2; }
done
each=$((n / ${#seeds[@]}))
restarts=$((each / 4 > 5000 ? 5000 : each / 4))
((restarts)) || restarts=1

# server NAME PROGRAM [FLAG...]: sets URL and COMMAND
server() {
	DIR=$TMP/$1
	pick_ports
	server_flags
	COMMAND="$2 ${FLAGS[*]} --snapshot-count 3000 ${*:3}"
}

# complaints LOG: what a server said last that is no routine
complaints() {
	grep -vE '^{"level":"(info|warn)"' "$1" | tail -n 20 | sed "s|^|${1##*/}: |"
}

total=0 wrong=0
for seed in "${seeds[@]}"; do
	other=("$KVD")
	[[ ${OTHER:-kvd} == etcd ]] && other=("$ETCD")
	((seed % 2)) || [[ ${OTHER:-kvd} == etcd ]] || other+=(--cache-bytes 65536)
	server "a$seed" "$ETCD"
	a=$URL a_run=$COMMAND
	server "b$seed" "${other[@]}"
	"$diff" -a "$a" -a-run "$a_run" -b "$URL" -b-run "$COMMAND" -log "$TMP/$seed" \
		-seed "$seed" -n "$each" -hash -restarts "$restarts" ${DIFF_FLAGS:-} \
		>"$TMP/out" 2>&1 &
	PIDS+=("$!")
	wait "$!"
	status=$?
	out=$(<"$TMP/out")
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
		{ echo "$out"; complaints "$TMP/$seed.a.log"; complaints "$TMP/$seed.b.log"; } |
			cut -c1-300 | sed 's/^/#   /'
	fi
	rm -rf "$TMP/a$seed" "$TMP/b$seed"
done
echo "$total passed, $wrong failed"
((wrong == 0))
