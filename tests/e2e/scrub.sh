#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# scrub.sh: a bit that flips on the disk below a running member is found by its scrub,
# named in its log, and told by the CORRUPT alarm.
. "$(dirname "$0")/../common.sh"

ctl() { timeout 10 "$KVCTL" --endpoints "$URL" "$@" 2>&1; }
scrubs() { grep -c 'scrubbed the store' "$LOG"; }
scrubbed() { (($(scrubs) >= $1)); }
alarmed() { [[ $(ctl alarm list) == *CORRUPT* ]]; }
largest() { find "$DIR/member/kv" -name 'revisions.*' -printf '%s %p\n' | sort -n | tail -n 1; }
written() { read -r size file <<<"$(largest)"; ((size > 20 << 20)); }

# a slice of a scrub goes with each heartbeat
start_server kvd --corrupt-check-time=1s --heartbeat-interval=10 || finish
for ((i = 0; i < 60; i++)); do
	"$O/tests/fault/ask" "$URL" put-of key$i $((1 << 20)) >/dev/null
done
check 'the store is scrubbed' until_true 60 scrubbed $(($(scrubs) + 1))
until_true 20 written || not_ok 'most of it is on the disk'
same 'nothing is found' '' "$(ctl alarm list)"
printf '\377\376' | dd of="$file" bs=1 seek=$((5 << 20)) conv=notrunc status=none
check 'damage raises the alarm' until_true 60 alarmed
contains 'the log names the file' "${file##*/}" "$(grep 'the store is damaged' "$LOG")"
contains 'nothing more is written' 'corrupt cluster' "$(ctl put a 1)"
check 'the member lives' alive "$SERVER"
finish
