#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# replay.sh [FILE...]: the requests of each recording to a fresh kvd, whose answers
# must be those that etcd 3.7.1 gave. Needs neither etcd nor Go.
. "$(dirname "$0")/../common.sh"

files=("$@")
((${#files[@]})) || files=(tests/diff/answers-*.gz)
total=0 wrong=0
for file in "${files[@]}"; do
	start_server kvd || finish
	out=$(gzip -dc "$file" | "$O/tests/diff/replay" "$URL" 2>&1)
	if [[ ${out##*$'\n'} =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
		total=$((total + BASH_REMATCH[1]))
		wrong=$((wrong + BASH_REMATCH[2]))
		n=${BASH_REMATCH[1]} bad=${BASH_REMATCH[2]}
	else
		wrong=$((wrong + 1)) bad=1
	fi
	if ((bad == 0)); then
		echo "ok - ${file##*/}: $n answers are those of etcd"
	else
		echo "not ok - ${file##*/}"
		{ died; echo "$out"; } | sed 's/^/#   /' | head -100
	fi
	stop "$SERVER"
done
echo "$total passed, $wrong failed"
((wrong == 0))
