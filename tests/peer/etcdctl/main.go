// SPDX-License-Identifier: Apache-2.0

// The reference command line client, etcdctl 3.7.1.
package main

import "go.etcd.io/etcd/etcdctl/v3/ctlv3"

func main() { ctlv3.MustStart() }
