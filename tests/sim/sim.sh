#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# sim.sh [SEEDS]: the simulator over many seeds, over all links of three members, and
# twice over the same seeds, which must take the same steps.
. "$(dirname "$0")/../common.sh"

SEEDS=${1:-2000}

# says TITLE COMMAND...: passes where COMMAND does
says() {
	local title=$1 out
	shift
	if out=$("$@" 2>&1); then ok "$title"; else not_ok "$title" "$(tail -n 70 <<<"$out")"; fi
}

# hash_of SEEDS FIRST
hash_of() { "$O/raft_sim" --seeds "$1" --first "$2" | sed -n 's/.*, hash //p'; }

repeats() {
	local once again other
	once=$(hash_of 20 1) again=$(hash_of 20 1) other=$(hash_of 20 2)
	echo "$once $again $other"
	[[ -n $once && $once == "$again" && $once != "$other" ]]
}

says "$SEEDS seeds keep the promises, with every class of faults" \
	"$O/raft_sim" --seeds "$SEEDS"
says 'the same seed takes the same steps' repeats
says 'a stable leader wherever a quorum of three is connected, 64 of 64' "$O/raft_sim" --links
finish
