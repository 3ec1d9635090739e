// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

var watchCases = []testCase{
	{"a watch sees puts and deletes in order", func(t *test) {
		w := t.watch("", clientv3.WithPrefix(), clientv3.WithPrevKV())
		t.put("a", "1")
		t.put("a", "2")
		_, err := t.c.Delete(t.ctx, t.key("a"))
		t.must(err)
		t.equal("events", t.events(w, 3), "[PUT a=1 PUT a=2 was 1 DELETE a= was 2]")
	}},
	{"a watch starts in the past", func(t *test) {
		rev := t.put("a", "1")
		t.put("a", "2")
		w := t.watch("a", clientv3.WithRev(rev))
		t.put("a", "3")
		t.equal("events", t.events(w, 3), "[PUT a=1 PUT a=2 PUT a=3]")
	}},
	{"a watch starts in the future", func(t *test) {
		rev := t.put("a", "1")
		w := t.watch("a", clientv3.WithRev(rev+2))
		t.put("a", "2")
		t.put("a", "3")
		t.equal("events", t.events(w, 1), "[PUT a=3]")
	}},
	{"a watch from before a compaction is told so", func(t *test) {
		rev := t.put("a", "1")
		last := t.put("a", "2")
		_, err := t.c.Compact(t.ctx, last)
		t.must(err)
		for r := range t.watch("a", clientv3.WithRev(rev)) {
			t.equal("compacted at", r.CompactRevision, last)
			return
		}
		t.fail("the channel is closed without a word")
	}},
	{"filters", func(t *test) {
		w := t.watch("a", clientv3.WithFilterPut())
		v := t.watch("a", clientv3.WithFilterDelete())
		t.put("a", "1")
		_, err := t.c.Delete(t.ctx, t.key("a"))
		t.must(err)
		t.put("a", "2")
		t.equal("no puts", t.events(w, 1), "[DELETE a=]")
		t.equal("no deletes", t.events(v, 2), "[PUT a=1 PUT a=2]")
	}},
	{"one transaction comes in one response", func(t *test) {
		w := t.watch("", clientv3.WithPrefix())
		_, err := t.c.Txn(t.ctx).Then(clientv3.OpPut(t.key("a"), "1"),
			clientv3.OpPut(t.key("b"), "1"), clientv3.OpPut(t.key("c"), "1")).Commit()
		t.must(err)
		r := <-w
		t.equal("events", len(r.Events), 3)
	}},
	{"progress can be asked for", func(t *test) {
		w := t.watch("a")
		rev := t.put("b", "1")
		t.must(t.c.RequestProgress(clientv3.WithRequireLeader(t.ctx)))
		select {
		case r := <-w:
			t.equal("progress", r.IsProgressNotify(), true)
			t.equal("revision", r.Header.Revision >= rev, true)
		case <-t.ctx.Done():
			t.fail("no progress")
		}
	}},
	{"a hundred watchers of one stream", func(t *test) {
		var all []clientv3.WatchChan
		for i := 0; i < 100; i++ {
			all = append(all, t.watch(fmt.Sprint(i%10)))
		}
		for i := 0; i < 10; i++ {
			t.put(fmt.Sprint(i), "x")
		}
		for i, w := range all {
			t.equal("event", t.events(w, 1), fmt.Sprintf("[PUT %d=x]", i%10))
		}
	}},
	{"a large history arrives whole, in fragments", func(t *test) {
		value := fmt.Sprintf("%0100000d", 7)
		rev := t.put("a", value)
		for i := 1; i < 60; i++ {
			t.put("a", value)
		}
		n := 0
		for r := range t.watch("a", clientv3.WithRev(rev), clientv3.WithFragment()) {
			if n += len(r.Events); n == 60 {
				return
			}
		}
		t.fail("%d of 60 events", n)
	}},
	{"a watch that is cancelled ends", func(t *test) {
		ctx, cancel := context.WithCancel(t.ctx)
		w := t.c.Watch(clientv3.WithRequireLeader(ctx), t.key("a"), clientv3.WithCreatedNotify())
		r := <-w
		t.equal("created", r.Created, true)
		cancel()
		select {
		case _, open := <-w:
			t.equal("open", open, false)
		case <-time.After(5 * time.Second):
			t.fail("the channel is still open")
		}
	}},
}

// watch is made when it returns, so that what is put after it is seen.
func (t *test) watch(name string, opts ...clientv3.OpOption) clientv3.WatchChan {
	opts = append(opts, clientv3.WithCreatedNotify())
	w := t.c.Watch(clientv3.WithRequireLeader(t.ctx), t.key(name), opts...)
	select {
	case r := <-w:
		t.equal("created", r.Created, true)
	case <-t.ctx.Done():
		t.fail("the watch is not made in time")
	}
	return w
}

func (t *test) events(w clientv3.WatchChan, n int) (all []string) {
	for len(all) < n {
		select {
		case r, open := <-w:
			if !open {
				t.fail("the watch ended after %v", all)
			}
			t.must(r.Err())
			for _, ev := range r.Events {
				name := string(ev.Kv.Key)[len(t.prefix):]
				s := fmt.Sprintf("%v %s=%s", ev.Type, name, ev.Kv.Value)
				if ev.PrevKv != nil {
					s += " was " + string(ev.PrevKv.Value)
				}
				all = append(all, s)
			}
		case <-t.ctx.Done():
			t.fail("%d of %d events: %v", len(all), n, all)
		}
	}
	return all
}
