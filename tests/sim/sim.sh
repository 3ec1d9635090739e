#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# sim.sh [SEEDS]: the simulators over many seeds, libraft's over all links of three
# members too, and twice over the same seeds, which must take the same steps.
. "$(dirname "$0")/../common.sh"

SEEDS=${1:-2000}

# says TITLE COMMAND...: passes where COMMAND does
says() {
	local title=$1 out
	shift
	if out=$("$@" 2>&1); then ok "$title"; else not_ok "$title" "$(tail -n 70 <<<"$out")"; fi
}

# hash_of PROGRAM SEEDS FIRST
hash_of() { "$O/$1" --seeds "$2" --first "$3" | sed -n 's/.*, hash //p'; }

# repeats PROGRAM
repeats() {
	local once again other
	once=$(hash_of "$1" 20 1) again=$(hash_of "$1" 20 1) other=$(hash_of "$1" 20 2)
	echo "$once $again $other"
	[[ -n $once && $once == "$again" && $once != "$other" ]]
}

says "$SEEDS seeds keep the promises, with every class of faults" \
	"$O/raft_sim" --seeds "$SEEDS"
says 'the same seed takes the same steps' repeats raft_sim
says 'a stable leader wherever a quorum of three is connected, 64 of 64' "$O/raft_sim" --links
says "$((SEEDS / 10)) seeds of kvd's core give the model's answers" \
	"$O/kvd_sim" --seeds "$((SEEDS / 10))"
says 'the same seed takes the same steps there' repeats kvd_sim
finish
