#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# record.sh: writes what etcd 3.7.1 answers to 1,600 requests of each of five seeds
# to tests/diff/answers-SEED.gz, for replay.sh. Needs "make peer".
. "$(dirname "$0")/../common.sh"

for seed in 1 2 3 4 5; do
	start_server etcd || finish
	check "seed $seed" "$O/peer/diff" -a "$URL" -seed "$seed" -n 1600 -hash \
		-record "tests/diff/answers-$seed.gz"
	stop "$SERVER"
done
finish
