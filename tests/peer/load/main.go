// SPDX-License-Identifier: Apache-2.0

// load ENDPOINT KEYS: fills a server with keys of 32 bytes and values of 256, in no
// order, a hundred a transaction. Prints how many seconds that took.
package main

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	perTxn  = 100
	clients = 16
)

func die(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "load: "+format+"\n", args...)
	os.Exit(1)
}

func must(err error) {
	if err != nil {
		die("%v", err)
	}
}

// put stores the keys of one transaction: numbers from first on, each thrown to another
// place by a multiplication that is prime to every power of ten.
func put(c *clientv3.Client, r *rand.Rand, first, keys int64) error {
	var ops []clientv3.Op
	value := make([]byte, 256)
	for i := first; i < min(first+perTxn, keys); i++ {
		key := fmt.Sprintf("/registry/%022d", i*7368787%keys)
		r.Read(value)
		ops = append(ops, clientv3.OpPut(key, string(value)))
	}
	_, err := c.Txn(context.Background()).Then(ops...).Commit()
	return err
}

func fill(c *clientv3.Client, keys int64) {
	var wg sync.WaitGroup
	began := time.Now()
	for w := int64(0); w < clients; w++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewSource(w))
			for i := w * perTxn; i < keys; i += clients * perTxn {
				must(put(c, r, i, keys))
			}
		}()
	}
	wg.Wait()
	fmt.Printf("%.2f\n", time.Since(began).Seconds())
}

func main() {
	if len(os.Args) != 3 {
		die("usage: load ENDPOINT KEYS")
	}
	keys, err := strconv.ParseInt(os.Args[2], 10, 64)
	must(err)
	c, err := clientv3.New(clientv3.Config{Endpoints: os.Args[1:2]})
	must(err)
	defer c.Close()
	fill(c, keys)
}
