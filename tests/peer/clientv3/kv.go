// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/namespace"
)

var kvCases = []testCase{
	{"what is put can be read", func(t *test) {
		rev := t.put("a", "1")
		r := t.get("a")
		t.equal("count", r.Count, 1)
		t.equal("value", string(r.Kvs[0].Value), "1")
		t.equal("revision", r.Kvs[0].ModRevision, rev)
		t.equal("version", r.Kvs[0].Version, 1)
		t.equal("missing", t.get("b").Count, 0)
	}},
	{"an empty key is refused", func(t *test) {
		_, err := t.c.Put(t.ctx, "", "1")
		t.is(err, rpctypes.ErrEmptyKey)
		_, err = t.c.Get(t.ctx, "")
		t.is(err, rpctypes.ErrEmptyKey)
	}},
	{"put returns the value before", func(t *test) {
		t.put("a", "1")
		r, err := t.c.Put(t.ctx, t.key("a"), "2", clientv3.WithPrevKV())
		t.must(err)
		t.equal("before", string(r.PrevKv.Value), "1")
	}},
	{"put can keep the value or the lease", func(t *test) {
		_, err := t.c.Put(t.ctx, t.key("a"), "", clientv3.WithIgnoreValue())
		t.is(err, rpctypes.ErrKeyNotFound)
		l, err := t.c.Grant(t.ctx, 100)
		t.must(err)
		t.put("a", "1", clientv3.WithLease(l.ID))
		t.put("a", "2", clientv3.WithIgnoreLease())
		t.equal("lease", t.get("a").Kvs[0].Lease, int64(l.ID))
		t.put("a", "", clientv3.WithIgnoreValue())
		t.equal("value", string(t.get("a").Kvs[0].Value), "2")
		t.equal("lease", t.get("a").Kvs[0].Lease, 0)
		_, err = t.c.Revoke(t.ctx, l.ID)
		t.must(err)
	}},
	{"ranges, limits, orders", ranges},
	{"old revisions can be read until they are compacted", oldRevisions},
	{"delete says what it deleted", func(t *test) {
		for _, k := range []string{"a", "b", "c"} {
			t.put(k, k)
		}
		r, err := t.c.Delete(t.ctx, t.key("a"), clientv3.WithRange(t.key("c")),
			clientv3.WithPrevKV())
		t.must(err)
		t.equal("deleted", r.Deleted, 2)
		t.equal("before", string(r.PrevKvs[1].Value), "b")
		t.equal("left", t.keys(t.get("", clientv3.WithPrefix())), "[c]")
		before := r.Header.Revision
		r, err = t.c.Delete(t.ctx, t.key("none"))
		t.must(err)
		t.equal("nothing deleted", r.Header.Revision, before)
	}},
	{"transactions compare, then act", transactions},
	{"transactions nest", func(t *test) {
		t.put("a", "1")
		one := clientv3.Compare(clientv3.Value(t.key("a")), "=", "1")
		inner := clientv3.OpTxn([]clientv3.Cmp{one},
			[]clientv3.Op{clientv3.OpPut(t.key("b"), "then")},
			[]clientv3.Op{clientv3.OpPut(t.key("b"), "else")})
		r, err := t.c.Txn(t.ctx).Then(clientv3.OpPut(t.key("a"), "2"), inner,
			clientv3.OpGet(t.key("b"))).Commit()
		t.must(err)
		got := r.Responses[2].GetResponseRange().Kvs
		t.equal("compared before any write", string(got[0].Value), "then")
	}},
	{"a transaction puts a key once", func(t *test) {
		put := clientv3.OpPut(t.key("a"), "1")
		_, err := t.c.Txn(t.ctx).Then(put, put).Commit()
		t.is(err, rpctypes.ErrDuplicateKey)
	}},
	{"at most 128 operations", func(t *test) {
		ops := make([]clientv3.Op, 128)
		for i := range ops {
			ops[i] = clientv3.OpPut(t.key(fmt.Sprint(i)), "x")
		}
		_, err := t.c.Txn(t.ctx).Then(ops...).Commit()
		t.must(err)
		_, err = t.c.Txn(t.ctx).Then(append(ops, clientv3.OpGet(t.key("a")))...).Commit()
		t.is(err, rpctypes.ErrTooManyOps)
	}},
	{"STM moves money between accounts", stm},
	{"the namespace wrapper sees its own keys only", func(t *test) {
		kv := namespace.NewKV(t.c.KV, t.prefix)
		_, err := kv.Put(t.ctx, "a", "1")
		t.must(err)
		r, err := kv.Get(t.ctx, "", clientv3.WithPrefix())
		t.must(err)
		t.equal("key", string(r.Kvs[0].Key), "a")
		t.equal("outside", t.get("a").Count, 1)
	}},
}

func ranges(t *test) {
	for i, k := range []string{"b", "a", "d", "c"} {
		t.put(k, fmt.Sprint(9-i))
	}
	all := clientv3.WithPrefix()
	backwards := clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)
	byValue := clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend)
	for _, c := range []struct {
		what, want string
		opts       []clientv3.OpOption
	}{
		{"prefix", "[a b c d]", []clientv3.OpOption{all}},
		{"limit", "[a b]", []clientv3.OpOption{all, clientv3.WithLimit(2)}},
		{"from the end", "[d c b a]", []clientv3.OpOption{all, backwards}},
		{"by value", "[c d a b]", []clientv3.OpOption{all, byValue}},
		{"first made", "[b]", clientv3.WithFirstCreate()},
		{"last changed", "[c]", clientv3.WithLastRev()},
		{"serializable", "[a b c d]", []clientv3.OpOption{all, clientv3.WithSerializable()}},
	} {
		t.equal(c.what, t.keys(t.get("", c.opts...)), c.want)
	}
	r := t.get("b", clientv3.WithRange(t.key("d")), clientv3.WithLimit(1))
	t.equal("range", t.keys(r), "[b]")
	t.equal("more", r.More, true)
	t.equal("count", r.Count, 2)
	t.equal("count only", t.get("", all, clientv3.WithCountOnly()).Count, 4)
	t.equal("keys only", len(t.get("a", clientv3.WithKeysOnly()).Kvs[0].Value), 0)
	t.equal("from key", t.get("c", clientv3.WithFromKey()).Count >= 2, true)
	mod := t.get("d").Kvs[0].ModRevision
	t.equal("changed since", t.keys(t.get("", all, clientv3.WithMinModRev(mod))), "[c d]")
	t.equal("made until", t.keys(t.get("", all, clientv3.WithMaxCreateRev(mod))), "[a b d]")
}

func oldRevisions(t *test) {
	first := t.put("a", "1")
	second := t.put("a", "2")
	t.equal("old", string(t.get("a", clientv3.WithRev(first)).Kvs[0].Value), "1")
	_, err := t.c.Get(t.ctx, t.key("a"), clientv3.WithRev(second+1000000))
	t.is(err, rpctypes.ErrFutureRev)
	_, err = t.c.Compact(t.ctx, second, clientv3.WithCompactPhysical())
	t.must(err)
	_, err = t.c.Get(t.ctx, t.key("a"), clientv3.WithRev(first))
	t.is(err, rpctypes.ErrCompacted)
	t.equal("at it", string(t.get("a", clientv3.WithRev(second)).Kvs[0].Value), "2")
	_, err = t.c.Compact(t.ctx, first)
	t.is(err, rpctypes.ErrCompacted)
	_, err = t.c.Compact(t.ctx, second+1000000)
	t.is(err, rpctypes.ErrFutureRev)
}

func transactions(t *test) {
	rev := t.put("a", "1")
	for _, c := range []struct {
		cmp  clientv3.Cmp
		want bool
	}{
		{clientv3.Compare(clientv3.Value(t.key("a")), "=", "1"), true},
		{clientv3.Compare(clientv3.Value(t.key("a")), "!=", "1"), false},
		{clientv3.Compare(clientv3.Value(t.key("none")), "=", ""), false},
		{clientv3.Compare(clientv3.Version(t.key("a")), ">", 0), true},
		{clientv3.Compare(clientv3.Version(t.key("none")), "=", 0), true},
		{clientv3.Compare(clientv3.CreateRevision(t.key("a")), "=", rev), true},
		{clientv3.Compare(clientv3.ModRevision(t.key("a")), "<", rev), false},
		{clientv3.Compare(clientv3.LeaseValue(t.key("a")), "=", 0), true},
		{clientv3.Compare(clientv3.CreateRevision(t.prefix), ">", 0).WithPrefix(), true},
	} {
		r, err := t.c.Txn(t.ctx).If(c.cmp).Then(clientv3.OpGet(t.key("a"))).
			Else(clientv3.OpGet(t.key("none"))).Commit()
		t.must(err)
		t.equal(fmt.Sprint(c.cmp), r.Succeeded, c.want)
	}
	r, err := t.c.Txn(t.ctx).Then(clientv3.OpPut(t.key("b"), "1"), clientv3.OpPut(t.key("c"), "1"),
		clientv3.OpDelete(t.key("a"))).Commit()
	t.must(err)
	t.equal("one revision", r.Header.Revision, rev+1)
	t.equal("of both", t.get("b").Kvs[0].ModRevision, t.get("c").Kvs[0].ModRevision)
}

func stm(t *test) {
	const accounts, workers, moves = 5, 4, 25
	for i := 0; i < accounts; i++ {
		t.put(fmt.Sprint(i), "100")
	}
	move := func(s concurrency.STM, from, to int) {
		var a, b int
		fmt.Sscan(s.Get(t.key(fmt.Sprint(from))), &a)
		fmt.Sscan(s.Get(t.key(fmt.Sprint(to))), &b)
		s.Put(t.key(fmt.Sprint(from)), fmt.Sprint(a-1))
		s.Put(t.key(fmt.Sprint(to)), fmt.Sprint(b+1))
	}
	var wg sync.WaitGroup
	errs := make(chan error, workers*moves)
	for w := 0; w < workers; w++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; i < moves; i++ {
				from, to := (w+i)%accounts, (w*2+i*3+1)%accounts
				if from == to {
					continue
				}
				_, err := concurrency.NewSTM(t.c, func(s concurrency.STM) error {
					move(s, from, to)
					return nil
				})
				errs <- err
			}
		}()
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.must(err)
	}
	sum := 0
	for _, kv := range t.get("", clientv3.WithPrefix()).Kvs {
		n := 0
		fmt.Sscan(string(kv.Value), &n)
		sum += n
	}
	t.equal("sum", sum, 100*accounts)
}
