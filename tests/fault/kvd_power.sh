#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# kvd_power.sh [CUTS [SEED]]: a running kvd loses its power; what it acknowledged is
# there when it starts again. See kvd_power.c. Then the same with --unsafe-no-fsync,
# which must not go well: so the test is one that sees.
[[ -w /dev/shm ]] && export TMPDIR=${TMPDIR:-/dev/shm}
. "$(dirname "$0")/../common.sh"

cuts=${1:-60}
seed=${2:-1}

# cut CUTS [FLAG...]: sets out and status
cut() {
	local cuts=$1
	shift
	DIR=$TMP/data
	rm -rf "$DIR" "$DIR.trace"
	pick_ports
	server_flags
	out=$("$O/tests/fault/kvd_power" "$cuts" "$seed" "$URL" "$DIR" "$O/tests/fault/kvd" \
		"${FLAGS[@]}" --snapshot-count 200 "$@" 2>&1)
	status=$?
}

cut "$cuts"
grep '^#' <<<"$out" | grep -v '^# record' | tail -n 12
if ((status == 0)); then
	ok "$cuts cuts of power lose nothing that was acknowledged"
else
	not_ok "$cuts cuts of power, seed $seed" "$(grep -v ' are right$' <<<"$out" | head -n 30)"
fi

cut 12 --unsafe-no-fsync
if ((status != 0)) && grep -q '^# record' <<<"$out"; then
	ok 'without the syncs of the log something is lost'
else
	not_ok 'without the syncs of the log something is lost' "$out"
fi
finish
