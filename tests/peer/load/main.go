// SPDX-License-Identifier: Apache-2.0

// load ENDPOINT KEYS: fills a server with keys of 32 bytes and values of 256, in no
// order, a hundred a transaction; then asks for their count, and for the first thousand
// with the count. Prints "NAME FIGURE" lines: seconds of the load, and microseconds of one
// answer (the median of 41).
package main

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	prefix    = "/registry/"
	perTxn    = 100
	clients   = 16
	questions = 41
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
		key := fmt.Sprintf("%s%022d", prefix, i*7368787%keys)
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
	fmt.Printf("load %.2f\n", time.Since(began).Seconds())
}

func ask(c *clientv3.Client, name string, keys int64, opts ...clientv3.OpOption) {
	var times []time.Duration
	for i := 0; i < questions; i++ {
		began := time.Now()
		got, err := c.Get(context.Background(), prefix,
			append(opts, clientv3.WithPrefix())...)
		must(err)
		if got.Count != keys {
			die("%d keys instead of %d", got.Count, keys)
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	fmt.Printf("%s %d\n", name, times[questions/2].Microseconds())
}

func main() {
	if len(os.Args) != 3 {
		die("usage: load ENDPOINT KEYS")
	}
	keys, err := strconv.ParseInt(os.Args[2], 10, 64)
	must(err)
	c, err := clientv3.New(clientv3.Config{Endpoints: os.Args[1:2],
		MaxCallRecvMsgSize: 1 << 30})
	must(err)
	defer c.Close()
	fill(c, keys)
	ask(c, "count", keys, clientv3.WithCountOnly())
	ask(c, "first", keys, clientv3.WithLimit(1000))
}
