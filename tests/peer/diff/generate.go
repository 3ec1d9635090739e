// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"math/rand/v2"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// The generator makes the next step from the seed and from what A answered before.
// The same seed and the same answers make the same steps.
type generator struct {
	*rand.Rand
	*model
	queue    []step
	requests int  // steps so far that a client would call a request
	hash     bool // ask for HashKV too
	gap      int  // requests between two restarts, on average; 0: never
	restarts int  // the request after which the next restart is due
}

func newGenerator(seed uint64, m *model) *generator {
	return &generator{Rand: rand.New(rand.NewPCG(seed, 0x6b7664)), model: m}
}

// restartEvery makes restarts due, at random, gap requests apart on average.
func (g *generator) restartEvery(gap int) {
	g.gap = gap
	if gap > 0 {
		g.restarts = g.requests + 1 + g.IntN(2*gap)
	}
}

// chance is true in one of n calls.
func (g *generator) chance(n int) bool { return g.IntN(n) == 0 }

func pick[T any](g *generator, of ...T) T { return of[g.IntN(len(of))] }

// --- steps --------------------------------------------------------------------------

// next is the next step. The answers to all steps before it have been observed.
func (g *generator) next() step {
	for len(g.queue) == 0 {
		g.requests++
		if g.requests%60 == 0 {
			g.drain()
		}
		if g.hash && g.requests%500 == 0 {
			g.hashKV()
		}
		if g.gap > 0 && g.requests >= g.restarts {
			// nothing more is chosen before the watchers are those made anew: what
			// counted for the old ones would be counted again
			g.restart()
			g.restartEvery(g.gap)
			continue
		}
		g.choose()
	}
	s := g.queue[0]
	g.queue = g.queue[1:]
	return s
}

func (g *generator) add(k kind, path string, m proto.Message) {
	g.queue = append(g.queue, step{kind: k, path: path, request: encode(m)})
}

func (g *generator) hashKV() {
	g.add(unary, pathHashKV, &pb.HashKVRequest{Revision: g.hashable(g.readable())})
}

func (g *generator) choose() {
	switch n := g.IntN(1000); {
	case n < 290:
		g.add(unary, pathPut, g.put())
	case n < 490:
		g.add(unary, pathRange, g.rangeRequest())
	case n < 530:
		g.add(stream, pathRangeStream, g.streamable())
	case n < 610:
		g.add(unary, pathDelete, g.deletion())
	case n < 840:
		g.add(unary, pathTxn, survivable(g.txn(3)))
	case n < 844:
		g.add(unary, pathTxn, g.manyOps())
	case n < 845:
		g.large()
	case n < 853:
		g.compaction()
	case n < 950:
		g.lease()
	case n < 955 && g.hash:
		g.add(unary, pathHashKV, &pb.HashKVRequest{Revision: g.hashable(pick(g, 0, g.revision()))})
	case n < 960:
		path, request := g.malformed()
		g.queue = append(g.queue, step{kind: unary, path: path, request: request})
	default:
		g.watch()
	}
}

// large writes many keys at once, mostly over what an earlier one wrote, and now and
// then removes them all.
func (g *generator) large() {
	g.add(unary, pathTxn, g.largeTxn())
	if g.chance(2) {
		g.add(unary, pathTxn, g.largeTxn())
	}
	if g.chance(2) {
		g.add(unary, pathDelete, &pb.DeleteRangeRequest{Key: []byte("b"), RangeEnd: []byte("c"),
			PrevKv: g.chance(2)})
	}
}

func (g *generator) compaction() {
	r := &pb.CompactionRequest{Revision: g.revision(), Physical: g.chance(2)}
	if low := max(g.compacted, 0); g.chance(2) && g.rev-low > 200 {
		r.Revision = g.rev - g.Int64N(200)
	}
	g.settle()
	// Of a key deleted and put again etcd 3.7.1 loses the put, and dies of reading it;
	// of one put and deleted no watcher from there gets the put.
	for g.changesTwice(r.Revision) {
		r.Revision--
	}
	g.add(unary, pathCompact, r)
}

func (g *generator) lease() {
	switch n := g.IntN(100); {
	case n < 35:
		id := 1 + g.Int64N(60)
		if g.chance(25) {
			id = pick[int64](g, -7, math.MaxInt64)
		}
		// far apart, so that the order of expiry is the same at any speed
		g.add(unary, pathGrant, &pb.LeaseGrantRequest{ID: id, TTL: 1000 * (1 + g.Int64N(9000000))})
	case n < 38:
		g.add(unary, pathGrant, &pb.LeaseGrantRequest{ID: 1 + g.Int64N(60),
			TTL: pick[int64](g, 9000000001, math.MaxInt64)})
	case n < 44: // raised to the least there is, and gone before it ends
		g.add(unary, pathGrant, &pb.LeaseGrantRequest{ID: 999,
			TTL: pick[int64](g, 0, -1, 1, 2, math.MinInt64)})
		g.add(unary, pathRevoke, &pb.LeaseRevokeRequest{ID: 999})
	case n < 47:
		g.add(autoLease, pathGrant, &pb.LeaseGrantRequest{TTL: 500})
	case n < 60:
		g.add(unary, pathRevoke, &pb.LeaseRevokeRequest{ID: g.leaseID()})
	case n < 80:
		r := &pb.LeaseTimeToLiveRequest{ID: g.leaseID(), Keys: !g.chance(3)}
		g.add(unary, pathTimeToLive, r)
	case n < 92:
		g.add(unary, pathLeases, &pb.LeaseLeasesRequest{})
	default:
		g.add(keepAlive, pathKeepAlive, &pb.LeaseKeepAliveRequest{ID: g.leaseID()})
	}
}

// --- watches ------------------------------------------------------------------------

func (g *generator) addWatch(k kind, n int, id int64, m *pb.WatchRequest) {
	s := step{kind: k, stream: uint8(n), id: id, path: pathWatch}
	if m != nil {
		s.request = encode(m)
	}
	g.queue = append(g.queue, s)
}

func (g *generator) watch() {
	n := g.IntN(nStreams)
	st := &g.streams[n]
	c := g.IntN(100)
	switch {
	case !st.open:
		g.addWatch(watchOpen, n, 0, nil)
	case c < 55 && len(st.watchers) < 8:
		g.addWatch(watchMake, n, 0, creation(g.watcher()))
	case c < 75 && len(st.watchers) > 0:
		w := pick(g, st.watchers...)
		g.settleStream(n)
		g.addWatch(watchStop, n, w.id, cancellation(w.id))
	case c < 79:
		id := 100 + g.Int64N(100)
		g.addWatch(watchStray, n, id, cancellation(id))
	case c < 80:
		g.addWatch(watchStray, n, 0, &pb.WatchRequest{}) // asks for nothing
	case c < 92:
		g.settleStream(n)
		if g.mayAsk(st) {
			g.addWatch(watchSync, n, -1, progress())
		}
	default:
		g.settleStream(n)
		g.addWatch(watchClose, n, 0, nil)
	}
}

func (g *generator) watcher() *pb.WatchCreateRequest {
	r := &pb.WatchCreateRequest{PrevKv: g.chance(2), Fragment: g.chance(4),
		ProgressNotify: g.chance(5)}
	r.Key, r.RangeEnd = g.span()
	if g.chance(2) {
		r.StartRevision = g.revision()
	} else if g.chance(6) {
		r.StartRevision = g.rev + 1 + g.Int64N(30)
	}
	if g.chance(4) {
		r.Filters = append(r.Filters, pb.WatchCreateRequest_FilterType(pick[int32](g, 0, 1, 7)))
	}
	if g.chance(20) {
		r.Filters = append(r.Filters, 0, 1)
	}
	if g.chance(4) {
		r.WatchId = pick[int64](g, 1, 2, 3, 4, 5, 1000, math.MaxInt64, -5)
	}
	return r
}

// drain collects what every watcher is owed.
func (g *generator) drain() {
	g.catchUp(5 * time.Second)
	for n := range g.streams {
		g.drainStream(n)
	}
}

func (g *generator) drainStream(n int) {
	for _, w := range g.streams[n].watchers {
		if w.lost {
			if !w.reported {
				g.addWatch(watchLost, n, w.id, nil)
				w.reported = true
			}
			continue
		}
		if owed := g.owed(w); owed > 0 || g.chance(5) {
			g.addWatch(watchEvent, n, w.id, nil)
			g.queue[len(g.queue)-1].count = owed
		}
	}
}

// settleStream drains one stream, which is then free of events.
func (g *generator) settleStream(n int) {
	g.catchUp(5 * time.Second)
	g.drainStream(n)
}

// settle leaves no watcher behind the store: a compaction that meets one cancels
// it or not, as time will have it. A stream that cannot say whether it has caught
// up is closed.
func (g *generator) settle() {
	g.drain()
	for n := range g.streams {
		st := &g.streams[n]
		switch {
		case !st.behind():
		case g.mayAsk(st):
			g.addWatch(watchSync, n, -1, progress())
		default:
			g.addWatch(watchClose, n, 0, nil)
		}
	}
}

// --- restarts -----------------------------------------------------------------------

const shortLease = 998

// restart ends both servers, asked to or killed, after the answer to the same request,
// and starts them again. A client comes back as clients do: every watcher goes on
// where it was, which may be before events that were sent and never looked at.
func (g *generator) restart() {
	g.catchUp(5 * time.Second)
	if g.chance(2) {
		g.drain()
	}
	expires := g.chance(3)
	if expires {
		g.add(unary, pathGrant, &pb.LeaseGrantRequest{ID: shortLease, TTL: 2 + g.Int64N(2)})
		g.add(unary, pathPut, &pb.PutRequest{Key: g.key(), Lease: shortLease})
	}
	g.add(restart, pathRange, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0},
		CountOnly: true})
	g.queue[len(g.queue)-1].count = uint32(pick(g, syscall.SIGTERM, syscall.SIGKILL))
	for n := range g.streams {
		g.watchAgain(n)
	}
	if expires {
		g.add(expiry, pathTimeToLive, &pb.LeaseTimeToLiveRequest{ID: shortLease})
	}
	g.survey()
}

// watchAgain makes the stream and the watchers that it has now, each from the first
// event on that was not counted yet.
func (g *generator) watchAgain(n int) {
	st := &g.streams[n]
	if !st.open {
		return
	}
	g.addWatch(watchOpen, n, 0, nil)
	for _, w := range st.watchers {
		if w.lost {
			continue
		}
		r := proto.Clone(w.request).(*pb.WatchCreateRequest)
		r.StartRevision = max(w.minRev, g.seen(w)+1)
		g.addWatch(watchMake, n, 0, creation(r))
	}
}

// survey looks at all that there is: what a restart may have lost.
func (g *generator) survey() {
	all := func(rev int64) *pb.RangeRequest {
		return &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: rev}
	}
	g.add(unary, pathRange, all(0))
	g.add(unary, pathLeases, &pb.LeaseLeasesRequest{})
	for _, id := range g.leases {
		g.add(unary, pathTimeToLive, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
	}
	for range 3 {
		g.add(unary, pathRange, all(g.readable()))
		if g.hash {
			g.hashKV()
		}
	}
}
