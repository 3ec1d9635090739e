#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# clientv3.sh: etcd's official Go client and its recipes against kvd. Needs "make peer".
. "$(dirname "$0")/../common.sh"

if [[ ! -x $O/peer/clientv3 ]]; then
	skip "etcd's Go client" 'no Go client built: make peer'
	finish
fi
start_server "${SERVER_KIND:-kvd}" || finish
"$O/peer/clientv3" -endpoint "$URL"
