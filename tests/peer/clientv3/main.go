// SPDX-License-Identifier: Apache-2.0

// Clientv3 drives a server with etcd's own Go client and its recipes: what an
// application that was written for etcd does. Only KV, Watch and Lease are needed.
//
//	clientv3 -endpoint URL [-run REGEXP]
//
// The keys of each case begin with its own prefix, so one server can serve many runs.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// A test has a client and a prefix of its own.
type test struct {
	ctx    context.Context
	c      *clientv3.Client
	prefix string
	dial   func() *clientv3.Client
}

// A failure ends the case it happens in.
type failure string

func (t *test) fail(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }

func (t *test) must(err error) {
	if err != nil {
		t.fail("%v", err)
	}
}

func (t *test) is(err, want error) {
	if err == nil || err.Error() != want.Error() {
		t.fail("error %v, expected %v", err, want)
	}
}

func (t *test) equal(what string, have, want any) {
	if fmt.Sprint(have) != fmt.Sprint(want) {
		t.fail("%s: %v, expected %v", what, have, want)
	}
}

func (t *test) key(name string) string { return t.prefix + name }

func (t *test) put(name, value string, opts ...clientv3.OpOption) int64 {
	r, err := t.c.Put(t.ctx, t.key(name), value, opts...)
	t.must(err)
	return r.Header.Revision
}

func (t *test) get(name string, opts ...clientv3.OpOption) *clientv3.GetResponse {
	r, err := t.c.Get(t.ctx, t.key(name), opts...)
	t.must(err)
	return r
}

// keys are the names in a response, without the prefix.
func (t *test) keys(r *clientv3.GetResponse) (names []string) {
	for _, kv := range r.Kvs {
		names = append(names, string(kv.Key)[len(t.prefix):])
	}
	return names
}

type testCase struct {
	title string
	run   func(*test)
}

func runCase(c testCase, t *test) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			err = fmt.Errorf("%s", string(r))
		default:
			panic(r)
		}
	}()
	c.run(t)
	return nil
}

func main() {
	endpoint := flag.String("endpoint", "http://127.0.0.1:2379", "of the server")
	only := flag.String("run", "", "run the cases whose title matches")
	flag.Parse()
	which := regexp.MustCompile(*only)
	dial := func() *clientv3.Client {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{*endpoint},
			DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
		if err != nil {
			fmt.Fprintln(os.Stderr, "clientv3:", err)
			os.Exit(2)
		}
		return c
	}
	n, passed, failed := 0, 0, 0
	base := fmt.Sprintf("clientv3/%d/", time.Now().UnixNano())
	for _, c := range slices.Concat(kvCases, watchCases, leaseCases) {
		if !which.MatchString(c.title) {
			continue
		}
		n++
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		t := &test{ctx: ctx, c: dial(), prefix: fmt.Sprintf("%s%03d/", base, n), dial: dial}
		if err := runCase(c, t); err != nil {
			failed++
			fmt.Printf("not ok %d - %s\n#   %v\n", n, c.title, err)
		} else {
			passed++
			fmt.Printf("ok %d - %s\n", n, c.title)
		}
		t.c.Close()
		cancel()
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
