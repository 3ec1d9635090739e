#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# python_etcd3.sh: Debian's python3-etcd3 against kvd.
. "$(dirname "$0")/../common.sh"

if ! /usr/bin/python3 -c 'import etcd3' 2>/dev/null; then
	skip 'the Python client' 'no python3-etcd3'
	finish
fi
start_server "${SERVER_KIND:-kvd}" || finish
address=${URL#http://}
timeout 60 /usr/bin/python3 tests/e2e/python_etcd3.py "${address%:*}" "${address#*:}"
