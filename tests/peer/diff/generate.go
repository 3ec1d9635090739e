// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strconv"
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
}

func newGenerator(seed uint64, m *model) *generator {
	return &generator{Rand: rand.New(rand.NewPCG(seed, 0x6b7664)), model: m}
}

// chance is true in one of n calls.
func (g *generator) chance(n int) bool { return g.IntN(n) == 0 }

func pick[T any](g *generator, of ...T) T { return of[g.IntN(len(of))] }

// --- keys, revisions, values --------------------------------------------------------

func (g *generator) key() []byte {
	switch g.IntN(40) {
	case 0:
		return nil
	case 1:
		return []byte(pick(g, "\x00", "\xff", "\xff\xff", "k", "k\x00", "k1\x00"))
	}
	return []byte("k" + strconv.Itoa(g.IntN(40)))
}

// span is a key and the end of a range that often makes sense.
func (g *generator) span() (key, end []byte) {
	key = g.key()
	switch g.IntN(20) {
	case 0, 1, 2, 3:
		return key, g.key() // as often as not the wrong way round
	case 4, 5, 6:
		return key, []byte{0} // all from key on
	case 7, 8:
		return []byte{0}, []byte{0}
	case 9:
		return []byte("k"), []byte("l")
	case 10, 11:
		return []byte("k1"), []byte("k2")
	case 12:
		return key, key
	case 13:
		return []byte{0}, []byte{0xff}
	}
	return key, nil
}

func (g *generator) value() []byte {
	switch {
	case g.chance(12):
		return nil
	case g.chance(300):
		return bytes.Repeat([]byte{byte(g.IntN(256))}, 1000+g.IntN(200000))
	case g.chance(3000):
		return make([]byte, 1600000+g.IntN(10000)) // more than a request may have
	}
	return []byte("v" + strconv.Itoa(g.IntN(1000)))
}

// revision is mostly one that can be read.
func (g *generator) revision() int64 {
	switch g.IntN(14) {
	case 0:
		return g.compacted
	case 1:
		return g.compacted - 1
	case 2:
		return g.compacted + 1
	case 3:
		return g.rev + 1
	case 4:
		return g.rev
	case 5:
		return pick[int64](g, g.rev+100, -1, math.MaxInt64, math.MinInt64, 1)
	}
	low := max(g.compacted, 1)
	return low + g.Int64N(g.rev-low+1)
}

func (g *generator) leaseID() int64 {
	switch {
	case len(g.leases) > 0 && !g.chance(12):
		return pick(g, g.leases...)
	case g.chance(10):
		return pick[int64](g, 0, -7, math.MaxInt64)
	}
	return 1 + g.Int64N(60)
}

// --- requests -----------------------------------------------------------------------

func (g *generator) put() *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.chance(3)}
	if g.chance(4) {
		r.Lease = g.leaseID()
	}
	if g.chance(10) {
		r.IgnoreLease = true
		if !g.chance(6) {
			r.Lease = 0
		}
	}
	if g.chance(10) {
		r.IgnoreValue = true
		if !g.chance(6) {
			r.Value = nil
		}
	}
	return r
}

func (g *generator) rangeRequest() *pb.RangeRequest {
	r := &pb.RangeRequest{Serializable: g.chance(3)}
	r.Key, r.RangeEnd = g.span()
	if g.chance(3) {
		r.Limit = pick[int64](g, 1, 2, 3, 5, 10, 11, 25, 1000, -1, math.MaxInt64, math.MinInt64)
	}
	if g.chance(3) {
		r.Revision = g.revision()
	}
	if g.chance(3) {
		r.SortOrder = pb.RangeRequest_SortOrder(g.IntN(3))
		r.SortTarget = pb.RangeRequest_SortTarget(g.IntN(5))
	}
	if g.chance(60) {
		r.SortOrder = pick(g, pb.RangeRequest_SortOrder(3), -1)
	}
	if g.chance(60) {
		r.SortTarget = pick(g, pb.RangeRequest_SortTarget(5), 77, -1)
	}
	r.KeysOnly = g.chance(7)
	r.CountOnly = g.chance(9)
	for _, bound := range []*int64{&r.MinModRevision, &r.MaxModRevision,
		&r.MinCreateRevision, &r.MaxCreateRevision} {
		if g.chance(14) {
			*bound = g.revision()
		}
	}
	return r
}

// streamable is mostly what RangeStream takes: no order, no bounds.
func (g *generator) streamable() *pb.RangeRequest {
	r := g.rangeRequest()
	if !g.chance(8) {
		r.SortOrder, r.SortTarget = 0, 0
		r.MinModRevision, r.MaxModRevision, r.MinCreateRevision, r.MaxCreateRevision = 0, 0, 0, 0
	}
	return r
}

func (g *generator) deletion() *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{PrevKv: g.chance(3), Key: g.key()}
	if g.chance(4) {
		r.Key, r.RangeEnd = g.span()
	}
	return r
}

func (g *generator) compare() *pb.Compare {
	c := &pb.Compare{Key: g.key(), Result: pb.Compare_CompareResult(g.IntN(4)),
		Target: pb.Compare_CompareTarget(g.IntN(5))}
	if g.chance(4) {
		c.Key, c.RangeEnd = g.span()
	}
	target := int(c.Target)
	switch g.IntN(50) {
	case 0:
		c.Result = pick(g, pb.Compare_CompareResult(4), -1)
	case 1:
		c.Target = pick(g, pb.Compare_CompareTarget(5), -1)
	case 2:
		target = g.IntN(6) // a value of another kind than the target, or none
	}
	switch target {
	case 0:
		c.TargetUnion = &pb.Compare_Version{Version: g.Int64N(4)}
	case 1:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: pick(g, 0, g.revision())}
	case 2:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: pick(g, 0, g.revision())}
	case 3:
		c.TargetUnion = &pb.Compare_Value{Value: g.value()}
	case 4:
		c.TargetUnion = &pb.Compare_Lease{Lease: pick(g, 0, g.leaseID())}
	}
	return c
}

func (g *generator) op(depth int) *pb.RequestOp {
	switch n := g.IntN(20); {
	case n < 7:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: g.rangeRequest()}}
	case n < 14:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: g.put()}}
	case n < 17 || depth == 0:
		d := g.deletion()
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: d}}
	case g.chance(15):
		return &pb.RequestOp{}
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: g.txn(depth - 1)}}
}

func (g *generator) txn(depth int) *pb.TxnRequest {
	t := &pb.TxnRequest{}
	for i := g.IntN(3); i > 0; i-- {
		t.Compare = append(t.Compare, g.compare())
	}
	for i := g.IntN(4); i > 0; i-- {
		t.Success = append(t.Success, g.op(depth))
	}
	for i := g.IntN(4); i > 0; i-- {
		t.Failure = append(t.Failure, g.op(depth))
	}
	return t
}

// manyOps is at the limit of 128 operations, or above it, nested or not.
func (g *generator) manyOps() *pb.TxnRequest {
	t := &pb.TxnRequest{}
	count := &pb.RangeRequest{Key: []byte("k1"), CountOnly: true}
	one := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: count}}
	for i := 126 + g.IntN(4); i > 0; i-- {
		t.Success = append(t.Success, one)
	}
	if g.chance(2) {
		inner := &pb.TxnRequest{Success: []*pb.RequestOp{one, one, one}[:g.IntN(4)]}
		t.Failure = []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: inner}}}
	}
	return t
}

// survivable: etcd 3.7.1 dies, at every start again, of a transaction that deletes
// a key with a from-key range and then puts it with ignore_value or ignore_lease.
func survivable(t *pb.TxnRequest) *pb.TxnRequest {
	fromKey := false
	walk(t, func(op *pb.RequestOp) {
		fromKey = fromKey || bytes.Equal(op.GetRequestDeleteRange().GetRangeEnd(), []byte{0})
	})
	walk(t, func(op *pb.RequestOp) {
		if p := op.GetRequestPut(); p != nil && fromKey {
			p.IgnoreValue, p.IgnoreLease = false, false
		}
	})
	return t
}

func walk(t *pb.TxnRequest, visit func(*pb.RequestOp)) {
	for _, ops := range [][]*pb.RequestOp{t.Success, t.Failure} {
		for _, op := range ops {
			visit(op)
			if op.GetRequestTxn() != nil {
				walk(op.GetRequestTxn(), visit)
			}
		}
	}
}

// --- steps --------------------------------------------------------------------------

// next is the next step. The answers to all steps before it have been observed.
func (g *generator) next() step {
	for len(g.queue) == 0 {
		g.requests++
		if g.requests%60 == 0 {
			g.drain()
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
		g.add(unary, pathTxn, survivable(g.txn(2)))
	case n < 845:
		g.add(unary, pathTxn, g.manyOps())
	case n < 853:
		g.compaction()
	case n < 950:
		g.lease()
	case n < 955 && g.hash:
		g.add(unary, pathHashKV, &pb.HashKVRequest{Revision: pick(g, 0, g.revision())})
	default:
		g.watch()
	}
}

func (g *generator) compaction() {
	r := &pb.CompactionRequest{Revision: g.revision(), Physical: g.chance(2)}
	if low := max(g.compacted, 0); g.chance(2) && g.rev-low > 200 {
		r.Revision = g.rev - g.Int64N(200)
	}
	g.settle()
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
	case c < 80:
		id := 100 + g.Int64N(100)
		g.addWatch(watchStray, n, id, cancellation(id))
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
