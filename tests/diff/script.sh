#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# script.sh [FILE...]: gives scripts under tests/data/mvcc, which libmvcc is tested with,
# to etcd 3.7.1: what they expect of libmvcc is what etcd answers. The scripts are those
# that do nothing but what the API can ask for. Needs "make peer" and python3.
. "$(dirname "$0")/../common.sh"

files=("$@")
((${#files[@]})) || files=(tests/data/mvcc/{hash,history,keys,leases,ranges,sorting,stream}.txt)
[[ -x $ETCD ]] || { echo "$ETCD is missing: make peer" >&2; exit 2; }
for file in "${files[@]}"; do
	start_server etcd || finish
	out=$(python3 tests/diff/script.py "$URL" "$file" 2>&1)
	status=$?
	if ((status == 0)); then
		ok "${file##*/}: ${out##*$'\n'}"
	else
		not_ok "${file##*/}" "$out"
	fi
	stop "$SERVER"
done
finish
