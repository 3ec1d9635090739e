#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# check.sh [O]: every test that needs no more than this machine has. One line for
# each suite, the end of its log where it fails, and the sum alone on the last line.
#
# A suite is a program or script whose last line is "N passed, N failed" or "N
# passed, N failed, N skipped", or a program made with cmocka.
set -u
cd "$(dirname "$0")/.." || exit 2
O=${1:-build}
case $O in /*) ;; *) O=$PWD/$O ;; esac
export O
SUITE_SECONDS=${SUITE_SECONDS:-300}
SUITES=${SUITES:-}	# names, or what they begin with; empty: all

logs=$(mktemp -d "${TMPDIR:-/tmp}/kvd-check.XXXXXX")
trap 'rm -rf "$logs"' EXIT
trap 'exit 1' INT TERM HUP
passed=0 failed=0 skipped=0

# count LOG STATUS: sets good, bad, left from what a suite printed
count() {
	local last
	last=$(tail -n 1 "$1")
	good=0 bad=0 left=0
	if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed(,\ ([0-9]+)\ skipped)?$ ]]; then
		good=${BASH_REMATCH[1]} bad=${BASH_REMATCH[2]} left=${BASH_REMATCH[4]:-0}
	elif grep -q '\[  PASSED  \]' "$1"; then
		good=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$1" | paste -sd+ | bc_sum)
		bad=$(sed -n 's/^\[  FAILED  \] \([0-9]*\) test.*/\1/p' "$1" | paste -sd+ | bc_sum)
		left=$(sed -n 's/^\[  SKIPPED \] \([0-9]*\) test.*/\1/p' "$1" | paste -sd+ | bc_sum)
	elif (($2 == 0)); then
		good=1
	fi
	if (($2 != 0 && bad == 0)); then
		bad=1
	fi
}

bc_sum() { local s; read -r s; echo $((${s:-0})); }

# wanted NAME
wanted() {
	local s
	[[ -z $SUITES ]] && return
	for s in $SUITES; do
		[[ $1 == "$s"* ]] && return
	done
	return 1
}

# shorten LOG: the checks that failed and what they say, or else the end
shorten() {
	local out
	out=$(awk '/^not ok/ { on = 1; print; next } /^#/ && on { print; next } { on = 0 }
		/\[  FAILED  \]|\[  ERROR   \]|ERROR: |runtime error/' "$1" | head -n 60)
	if [[ -n $out ]]; then echo "$out"; else tail -n 25 "$1"; fi
}

# suite NAME COMMAND...
suite() {
	wanted "$1" || return 0
	local name=$1 log=$logs/${1//\//_} status start=$SECONDS
	shift
	timeout -k 10 "$SUITE_SECONDS" "$@" >"$log" 2>&1 </dev/null
	status=$?
	count "$log" "$status"
	passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + left))
	if ((left)) && ! grep -q '# SKIP ' "$log"; then
		echo "# SKIP by $name" >>"$log"
	fi
	if ((bad == 0)); then
		printf '  %-4s %-32s %6d passed%s  %d s\n' ok "$name" "$good" \
			"$( ((left)) && echo ", $left skipped")" $((SECONDS - start))
		return
	fi
	printf '  %-4s %-32s %6d passed, %d failed  %d s\n' FAIL "$name" "$good" "$bad" \
		$((SECONDS - start))
	((status == 124)) && echo "       stopped after $SUITE_SECONDS s"
	shorten "$log" | cut -c1-300 | sed 's/^/       | /'
}

# scripts NAME-OF-DIRECTORY
scripts() {
	local s
	for s in tests/"$1"/*.sh; do
		[[ -x $s ]] && suite "$1/$(basename "$s" .sh)" "$s"
	done
}

for t in "$O"/tests/unit/*; do
	[[ -f $t && -x $t ]] && suite "unit/${t##*/}" "$t"
done
suite sim/raft_script "$O/raft_script" tests/data/raft
suite sim/sim tests/sim/sim.sh
suite lint tests/lint/lint.sh
suite diff/replay tests/diff/replay.sh
if [[ -x $O/peer/diff && -x $O/peer/etcd ]]; then
	suite diff/run tests/diff/run.sh 2500
	compared='etcd 3.7.1 itself and its recorded answers'
else
	compared='the recorded answers of etcd 3.7.1'
	missing='etcd itself (needs Go: make peer), '
fi
scripts e2e
suite fault/power "$O/tests/fault/power"
suite fault/error "$O/tests/fault/error"
suite fault/damage "$O/tests/fault/damage" 200 5
suite fault/memory "$O/tests/fault/memory"
suite fault/kvd_power tests/fault/kvd_power.sh 48
suite fault/bad_input tests/fault/bad_input.sh
suite fault/kill tests/fault/kill.sh 10

echo "compared with $compared"
reasons=$(grep -hoE '# SKIP .*' "$logs"/* | sed 's/# SKIP //' | sort | uniq -c |
	awk '{ n = $1; $1 = ""; printf "%s%s (%d)", sep, substr($0, 2), n; sep = ", " }')
echo "skipped: ${missing:-}${reasons:-nothing else}"
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
