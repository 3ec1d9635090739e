// SPDX-License-Identifier: Apache-2.0

package main

import (
	"google.golang.org/grpc/codes"
)

// A step is one thing done to a server, and an answer what came of it. Both are
// plain bytes, so that a run can be written to a file and read back by a program
// in another language (tests/diff/replay.c).
type kind byte

const (
	unary      kind = 'U' // one request, one response
	stream     kind = 'S' // one request, a stream of responses, merged into one
	keepAlive  kind = 'K' // a stream with one request and one response
	autoLease  kind = 'G' // grants a lease whose id the server picks; revokes it
	watchOpen  kind = 'O' // opens watch stream number .stream
	watchClose kind = 'X' // ends it
	watchMake  kind = 'W' // creates a watcher; waits for the answer "created"
	watchStop  kind = 'C' // cancels a watcher that exists; waits for "canceled"
	watchStray kind = 'Y' // cancels a watcher that does not exist; no answer comes
	watchLost  kind = 'N' // waits until watcher .id is canceled by a compaction
	watchSync  kind = 'P' // asks for progress until the answer comes
	watchEvent kind = 'E' // waits until watcher .id has .count events
	restart    kind = 'R' // ends the server by signal .count, starts it, and asks until it answers
	expiry     kind = 'L' // asks for the lease until it is gone
)

type step struct {
	kind    kind
	stream  uint8
	count   uint32
	id      int64
	path    string // of the gRPC method
	request []byte
}

type answer struct {
	code     codes.Code
	text     string
	response []byte // normalized: see normalize()
	late     bool   // what had to come did not come in time: a failure, even of both
}

const (
	pathRange       = "/etcdserverpb.KV/Range"
	pathRangeStream = "/etcdserverpb.KV/RangeStream"
	pathPut         = "/etcdserverpb.KV/Put"
	pathDelete      = "/etcdserverpb.KV/DeleteRange"
	pathTxn         = "/etcdserverpb.KV/Txn"
	pathCompact     = "/etcdserverpb.KV/Compact"
	pathWatch       = "/etcdserverpb.Watch/Watch"
	pathGrant       = "/etcdserverpb.Lease/LeaseGrant"
	pathRevoke      = "/etcdserverpb.Lease/LeaseRevoke"
	pathKeepAlive   = "/etcdserverpb.Lease/LeaseKeepAlive"
	pathTimeToLive  = "/etcdserverpb.Lease/LeaseTimeToLive"
	pathLeases      = "/etcdserverpb.Lease/LeaseLeases"
	pathHashKV      = "/etcdserverpb.Maintenance/HashKV"
)
