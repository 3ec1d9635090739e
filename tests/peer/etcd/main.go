// SPDX-License-Identifier: Apache-2.0

// The reference server: etcd 3.7.1 itself, built from its published modules.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
