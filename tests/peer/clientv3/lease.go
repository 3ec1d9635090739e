// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
)

var leaseCases = []testCase{
	{"revoking a lease deletes its keys", func(t *test) {
		l, err := t.c.Grant(t.ctx, 1000)
		t.must(err)
		t.put("a", "1", clientv3.WithLease(l.ID))
		t.put("b", "1", clientv3.WithLease(l.ID))
		t.put("b", "2")
		ttl, err := t.c.TimeToLive(t.ctx, l.ID, clientv3.WithAttachedKeys())
		t.must(err)
		t.equal("granted", ttl.GrantedTTL, 1000)
		t.equal("keys", len(ttl.Keys), 1)
		_, err = t.c.Revoke(t.ctx, l.ID)
		t.must(err)
		t.equal("left", t.keys(t.get("", clientv3.WithPrefix())), "[b]")
		_, err = t.c.Revoke(t.ctx, l.ID)
		t.is(err, rpctypes.ErrLeaseNotFound)
		ttl, err = t.c.TimeToLive(t.ctx, l.ID)
		t.must(err)
		t.equal("gone", ttl.TTL, -1)
	}},
	{"a lease that is not there", func(t *test) {
		_, err := t.c.Put(t.ctx, t.key("a"), "1", clientv3.WithLease(123456789))
		t.is(err, rpctypes.ErrLeaseNotFound)
		_, err = t.c.KeepAliveOnce(t.ctx, 123456789)
		t.is(err, rpctypes.ErrLeaseNotFound)
		_, err = t.c.Grant(t.ctx, 9000000001)
		t.is(err, rpctypes.ErrLeaseTTLTooLarge)
	}},
	{"a lease ends, and its keys with it", func(t *test) {
		l, err := t.c.Grant(t.ctx, 1)
		t.must(err)
		t.equal("raised to the least", l.TTL, 2)
		w := t.watch("a")
		start := time.Now()
		t.put("a", "1", clientv3.WithLease(l.ID))
		t.equal("events", t.events(w, 2), "[PUT a=1 DELETE a=]")
		if d := time.Since(start); d < 1500*time.Millisecond || d > 8*time.Second {
			t.fail("a lease of 2 s ended after %v", d)
		}
	}},
	{"a lease that is kept alive does not end", func(t *test) {
		ctx, cancel := context.WithCancel(t.ctx)
		l, err := t.c.Grant(t.ctx, 2)
		t.must(err)
		t.put("a", "1", clientv3.WithLease(l.ID))
		alive, err := t.c.KeepAlive(ctx, l.ID)
		t.must(err)
		for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
			r, open := <-alive
			t.equal("open", open, true)
			t.equal("TTL", r.TTL, 2)
		}
		t.equal("there", t.get("a").Count, 1)
		w := t.watch("a")
		cancel()
		t.equal("then", t.events(w, 1), "[DELETE a=]")
	}},
	{"leases are listed", func(t *test) {
		l, err := t.c.Grant(t.ctx, 1000)
		t.must(err)
		all, err := t.c.Leases(t.ctx)
		t.must(err)
		found := false
		for _, s := range all.Leases {
			found = found || s.ID == l.ID
		}
		t.equal("found", found, true)
		_, err = t.c.Revoke(t.ctx, l.ID)
		t.must(err)
	}},
	{"a mutex lets one in at a time", mutex},
	{"a mutex is free once its session ends", func(t *test) {
		s1, s2 := t.session(10), t.session(10)
		m1, m2 := concurrency.NewMutex(s1, t.key("m")), concurrency.NewMutex(s2, t.key("m"))
		t.must(m1.Lock(t.ctx))
		t.is(m2.TryLock(t.ctx), concurrency.ErrLocked)
		got := make(chan error, 1)
		go func() { got <- m2.Lock(t.ctx) }()
		t.must(s1.Close())
		t.must(<-got)
		t.must(s2.Close())
	}},
	{"an election has one leader at a time", election},
	{"a queue gives each item once", func(t *test) {
		q := recipe.NewQueue(t.c, t.key("q"))
		for i := 0; i < 10; i++ {
			t.must(q.Enqueue(fmt.Sprint(i)))
		}
		seen := map[string]bool{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := 0; i < 10; i++ {
			wg.Add(1)
			go func() {
				defer wg.Done()
				v, err := q.Dequeue()
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					seen[v] = true
				}
			}()
		}
		wg.Wait()
		t.equal("items", len(seen), 10)
	}},
	{"readers share a lock, a writer does not", func(t *test) {
		s1, s2, s3 := t.session(10), t.session(10), t.session(10)
		r1, r2 := recipe.NewRWMutex(s1, t.key("rw")), recipe.NewRWMutex(s2, t.key("rw"))
		w := recipe.NewRWMutex(s3, t.key("rw"))
		t.must(r1.RLock())
		t.must(r2.RLock())
		got := make(chan error, 1)
		go func() { got <- w.Lock() }()
		t.must(r1.RUnlock())
		t.must(r2.RUnlock())
		t.must(<-got)
		t.must(w.Unlock())
		for _, s := range []*concurrency.Session{s1, s2, s3} {
			t.must(s.Close())
		}
	}},
}

func (t *test) session(ttl int) *concurrency.Session {
	s, err := concurrency.NewSession(t.c, concurrency.WithTTL(ttl), concurrency.WithContext(t.ctx))
	t.must(err)
	return s
}

// room counts who is in it.
type room struct {
	mu              sync.Mutex
	inside, entered int
}

func (r *room) enter(n int) (others int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside += n
	r.entered += max(n, 0)
	return r.inside - n
}

func mutex(t *test) {
	const workers, rounds = 4, 5
	var r room
	errs := make(chan error, workers)
	for w := 0; w < workers; w++ {
		go func() { errs <- r.visit(t, rounds) }()
	}
	for w := 0; w < workers; w++ {
		t.must(<-errs)
	}
	t.equal("entered", r.entered, workers*rounds)
}

// visit enters the room again and again, with a client of its own.
func (r *room) visit(t *test, rounds int) error {
	c := t.dial()
	defer c.Close()
	s, err := concurrency.NewSession(c, concurrency.WithTTL(10))
	if err != nil {
		return err
	}
	defer s.Close()
	m := concurrency.NewMutex(s, t.key("m"))
	for i := 0; i < rounds; i++ {
		if err := m.Lock(t.ctx); err != nil {
			return err
		}
		if others := r.enter(1); others != 0 {
			return fmt.Errorf("%d others were inside", others)
		}
		_, err := c.Get(t.ctx, t.key("m")) // long enough to be met by another
		r.enter(-1)
		if err != nil {
			return err
		}
		if err := m.Unlock(t.ctx); err != nil {
			return err
		}
	}
	return nil
}

func election(t *test) {
	s1, s2 := t.session(10), t.session(10)
	e1, e2 := concurrency.NewElection(s1, t.key("e")), concurrency.NewElection(s2, t.key("e"))
	t.must(e1.Campaign(t.ctx, "one"))
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	seen := e2.Observe(ctx)
	leader := <-seen
	t.equal("leader", string(leader.Kvs[0].Value), "one")
	won := make(chan error, 1)
	go func() { won <- e2.Campaign(t.ctx, "two") }()
	t.must(e1.Proclaim(t.ctx, "one again"))
	leader = <-seen
	t.equal("proclaimed", string(leader.Kvs[0].Value), "one again")
	t.must(e1.Resign(t.ctx))
	t.must(<-won)
	r, err := e2.Leader(t.ctx)
	t.must(err)
	t.equal("leader", string(r.Kvs[0].Value), "two")
	t.must(s1.Close())
	t.must(s2.Close())
}
