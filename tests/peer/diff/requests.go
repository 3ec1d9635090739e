// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"math"
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// The random requests: mostly such as clients send, some that no server takes.

// --- keys, revisions, values --------------------------------------------------------

// limit is the most bytes that a request may have: etcd's --max-request-bytes.
const limit = 1536 * 1024

func (g *generator) key() []byte {
	switch g.IntN(60) {
	case 0:
		return nil
	case 1:
		return []byte(pick(g, "\x00", "\xff", "\xff\xff", "k", "k\x00", "k1\x00"))
	case 2:
		return g.binary()
	case 3:
		if g.chance(8) {
			return append([]byte("k"), bytes.Repeat(g.binary(), 1+g.IntN(9000))...)
		}
	}
	return []byte("k" + strconv.Itoa(g.IntN(40)))
}

// binary is a short key of the bytes that sorting and escaping get wrong.
func (g *generator) binary() []byte {
	b := make([]byte, 1+g.IntN(4))
	for i := range b {
		b[i] = pick[byte](g, 0, 1, '/', 'k', 0x7f, 0x80, 0xfe, 0xff)
	}
	return b
}

// span is a key and the end of a range that often makes sense.
func (g *generator) span() (key, end []byte) {
	key = g.key()
	switch g.IntN(24) {
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
	case 14:
		return []byte("k2"), []byte("k1") // nothing is in there
	case 15:
		return key, append(bytes.Clone(key), 0) // one key, said as a range
	case 16:
		return []byte(pick(g, "\x00", "\xff", "\xff\xff")), []byte{0}
	case 17:
		return g.binary(), g.binary()
	}
	return key, nil
}

func (g *generator) value() []byte {
	switch {
	case g.chance(12):
		return nil
	case g.chance(300):
		return bytes.Repeat([]byte{byte(g.IntN(256))}, 1000+g.IntN(200000))
	case g.chance(2000):
		// Around what a request may have, and what a message may have; but not where
		// the length of the request's own id decides.
		return make([]byte, pick(g, limit-1000+g.IntN(800), limit+g.IntN(1000),
			limit+512*1024-500+g.IntN(1000)))
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
	return g.readable()
}

// readable is a revision that is not compacted.
func (g *generator) readable() int64 {
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

// largeTxn writes many keys in one revision, up to all that a request may have: with
// prev_kv an event of it is more than one message, and comes in fragments where asked.
func (g *generator) largeTxn() *pb.TxnRequest {
	t := &pb.TxnRequest{}
	n := 2 + g.IntN(127)
	value := bytes.Repeat([]byte{byte(g.IntN(256))}, pick(g, 0, 100000, limit-20000)/n)
	for i := range n {
		p := &pb.PutRequest{Key: fmt.Appendf(nil, "b%03d", i), Value: value}
		t.Success = append(t.Success,
			&pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: p}})
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

// --- bytes that are no request --------------------------------------------------------

// malformed is a request that was cut short, or has more at its end: a field of another
// version of the API, which is passed over, or what is no field at all.
func (g *generator) malformed() (path string, request []byte) {
	var m proto.Message
	switch g.IntN(4) {
	case 0:
		path, m = pathRange, g.rangeRequest()
	case 1:
		path, m = pathPut, g.put()
	case 2:
		path, m = pathDelete, g.deletion()
	default:
		path, m = pathTimeToLive, &pb.LeaseTimeToLiveRequest{ID: g.leaseID(), Keys: true}
	}
	request = encode(m)
	switch g.IntN(4) {
	case 0:
		return path, append(request, pick(g, "\x00", "\x06", "\x80", "\x0a\x05ab", "\x7c")...)
	case 1:
		return path, append(request, pick(g, "\xb8\x3e\x01", "\xba\x3e\x02ab",
			"\xbd\x3eabcd", "\xb9\x3eabcdefgh")...)
	}
	return path, request[:g.IntN(len(request)+1)]
}
