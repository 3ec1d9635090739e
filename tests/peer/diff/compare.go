// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"sort"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The request and the response of each method.
var messages = map[string][2]proto.Message{
	pathRange:       {&pb.RangeRequest{}, &pb.RangeResponse{}},
	pathRangeStream: {&pb.RangeRequest{}, &pb.RangeStreamResponse{}},
	pathPut:         {&pb.PutRequest{}, &pb.PutResponse{}},
	pathDelete:      {&pb.DeleteRangeRequest{}, &pb.DeleteRangeResponse{}},
	pathTxn:         {&pb.TxnRequest{}, &pb.TxnResponse{}},
	pathCompact:     {&pb.CompactionRequest{}, &pb.CompactionResponse{}},
	pathWatch:       {&pb.WatchRequest{}, &pb.WatchResponse{}},
	pathGrant:       {&pb.LeaseGrantRequest{}, &pb.LeaseGrantResponse{}},
	pathRevoke:      {&pb.LeaseRevokeRequest{}, &pb.LeaseRevokeResponse{}},
	pathKeepAlive:   {&pb.LeaseKeepAliveRequest{}, &pb.LeaseKeepAliveResponse{}},
	pathTimeToLive:  {&pb.LeaseTimeToLiveRequest{}, &pb.LeaseTimeToLiveResponse{}},
	pathLeases:      {&pb.LeaseLeasesRequest{}, &pb.LeaseLeasesResponse{}},
	pathHashKV:      {&pb.HashKVRequest{}, &pb.HashKVResponse{}},
}

func encode(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

func decode(path string, which int, b []byte) proto.Message {
	m := messages[path][which].ProtoReflect().New().Interface()
	if err := proto.Unmarshal(b, m); err != nil {
		return nil
	}
	return m
}

// clearHeaders removes from every header, nested ones too, what no two clusters
// have in common.
func clearHeaders(m protoreflect.Message) {
	if h, ok := m.Interface().(*pb.ResponseHeader); ok {
		h.ClusterId, h.MemberId, h.RaftTerm = 0, 0, 0
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.Message() == nil || fd.IsMap() {
			return true
		}
		if fd.IsList() {
			for i := 0; i < v.List().Len(); i++ {
				clearHeaders(v.List().Get(i).Message())
			}
		} else {
			clearHeaders(v.Message())
		}
		return true
	})
}

// normalize makes the answers of two servers comparable byte by byte.
func normalize(m proto.Message) []byte {
	clearHeaders(m.ProtoReflect())
	if t, ok := m.(*pb.LeaseTimeToLiveResponse); ok {
		// the order of the keys is that of a Go map
		sort.Slice(t.Keys, func(i, j int) bool { return bytes.Compare(t.Keys[i], t.Keys[j]) < 0 })
	}
	return encode(m)
}

// same compares; what is left of a lease may differ by slack seconds.
func same(s step, a, b answer, slack int64) bool {
	if a.code != b.code || a.text != b.text {
		return false
	}
	if bytes.Equal(a.response, b.response) {
		return true
	}
	if s.path != pathTimeToLive {
		return false
	}
	x, _ := decode(s.path, 1, a.response).(*pb.LeaseTimeToLiveResponse)
	y, _ := decode(s.path, 1, b.response).(*pb.LeaseTimeToLiveResponse)
	if x == nil || y == nil || x.TTL <= 0 || y.TTL <= 0 {
		return false
	}
	if d := x.TTL - y.TTL; d > slack || d < -slack {
		return false
	}
	x.TTL = y.TTL
	return bytes.Equal(encode(x), encode(y))
}

const maxText = 1 << 16

func text(path string, which int, b []byte) string {
	m := decode(path, which, b)
	if m == nil {
		return fmt.Sprintf("    %d bytes that are no message: %.200q", len(b), b)
	}
	t := prototext.MarshalOptions{Multiline: true, Indent: "  "}.Format(m)
	if len(t) > maxText {
		t = t[:maxText] + fmt.Sprintf("\n... (%d bytes in all)", len(t))
	}
	return "    " + strings.ReplaceAll(strings.TrimSpace(t), "\n", "\n    ")
}

func (s step) String() string {
	switch s.kind {
	case watchOpen, watchClose:
		return fmt.Sprintf("%c: watch stream %d", s.kind, s.stream)
	case restart:
		return fmt.Sprintf("R: restart by signal %d", s.count)
	case watchEvent:
		return fmt.Sprintf("E: events of stream %d watcher %d (at least %d)",
			s.stream, s.id, s.count)
	case watchLost:
		return fmt.Sprintf("N: stream %d watcher %d canceled by a compaction", s.stream, s.id)
	}
	return fmt.Sprintf("%c: %s (stream %d)\n%s", s.kind, s.path, s.stream,
		text(s.path, 0, s.request))
}

func (a answer) String(path string) string {
	if a.late && a.code == 0 {
		return "    too few in time\n" + text(path, 1, a.response)
	}
	if a.code != 0 {
		return fmt.Sprintf("    %v %q", a.code, a.text)
	}
	if a.text != "" {
		return fmt.Sprintf("    in chunks of%s\n", a.text) + text(path, 1, a.response)
	}
	return text(path, 1, a.response)
}

// apart leaves of two texts the lines around the first difference.
func apart(a, b string) (string, string) {
	const before, after = 8, 24
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	n := 0
	for n < len(x) && n < len(y) && x[n] == y[n] {
		n++
	}
	cut := func(lines []string) string {
		from, to := max(0, n-before), min(len(lines), n+after)
		s := strings.Join(lines[from:to], "\n")
		if from > 0 {
			s = fmt.Sprintf("    ... %d equal lines\n", from) + s
		}
		if to < len(lines) {
			s += fmt.Sprintf("\n    ... %d more lines", len(lines)-to)
		}
		return s
	}
	return cut(x), cut(y)
}
