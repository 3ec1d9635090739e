// SPDX-License-Identifier: Apache-2.0

// watch ENDPOINT: what a server answers on streams of watches, as text: one line a
// response. Revisions are counted from the first one of each scene, so that two servers
// can be compared. The server must send progress each second and be used by nobody else.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	large = 1 << 20
	many  = 10000
)

type scene struct {
	kv     pb.KVClient
	watch  pb.WatchClient
	ctx    context.Context
	stream pb.Watch_WatchClient
	base   int64 // the revision before the scene
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "watch:", err)
		os.Exit(1)
	}
}

func (s *scene) put(key, value string) {
	_, err := s.kv.Put(s.ctx, &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
	must(err)
}

func (s *scene) del(key string) {
	_, err := s.kv.DeleteRange(s.ctx, &pb.DeleteRangeRequest{Key: []byte(key)})
	must(err)
}

func (s *scene) compact(revision int64) {
	r := &pb.CompactionRequest{Revision: s.base + revision, Physical: true}
	_, err := s.kv.Compact(s.ctx, r)
	must(err)
}

func (s *scene) open() {
	var err error
	s.stream, err = s.watch.Watch(s.ctx)
	must(err)
}

func (s *scene) create(r *pb.WatchCreateRequest) {
	if r.StartRevision > 0 {
		r.StartRevision += s.base
	}
	if r.Key == nil {
		r.Key = []byte("k")
	}
	must(s.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: r}}))
}

func (s *scene) cancel(id int64) {
	must(s.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{
		CancelRequest: &pb.WatchCancelRequest{WatchId: id}}}))
}

func (s *scene) progress() {
	must(s.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{
		ProgressRequest: &pb.WatchProgressRequest{}}}))
}

func (s *scene) rev(r int64) int64 {
	if r == 0 {
		return 0
	}
	return r - s.base
}

func (s *scene) recv() *pb.WatchResponse {
	r, err := s.stream.Recv()
	must(err)
	return r
}

func (s *scene) text(r *pb.WatchResponse) string {
	var b strings.Builder
	fmt.Fprintf(&b, "id %d at %d", r.WatchId, s.rev(r.Header.Revision))
	if r.Created {
		b.WriteString(" created")
	}
	if r.Canceled {
		fmt.Fprintf(&b, " canceled %q", r.CancelReason)
	}
	if r.CompactRevision != 0 {
		fmt.Fprintf(&b, " compacted %d", s.rev(r.CompactRevision))
	}
	if r.Fragment {
		b.WriteString(" fragment")
	}
	for _, e := range r.Events {
		fmt.Fprintf(&b, " [%v %s %d", e.Type, e.Kv.Key, s.rev(e.Kv.ModRevision))
		if len(e.Kv.Value) > 20 {
			fmt.Fprintf(&b, " %d bytes", len(e.Kv.Value))
		} else {
			fmt.Fprintf(&b, " %s", e.Kv.Value)
		}
		if e.PrevKv != nil {
			fmt.Fprintf(&b, " prev %d %s", s.rev(e.PrevKv.ModRevision), e.PrevKv.Value)
		}
		b.WriteString("]")
	}
	return b.String()
}

// show prints the next n responses.
func (s *scene) show(n int) {
	for i := 0; i < n; i++ {
		fmt.Println("  ", s.text(s.recv()))
	}
}

// --- scenes -----------------------------------------------------------------

func fragments(s *scene) {
	value := strings.Repeat("x", large)
	for i := 0; i < 4; i++ {
		s.put("k", value)
	}
	s.create(&pb.WatchCreateRequest{StartRevision: 1, Fragment: true})
	for last := false; !last; {
		r := s.recv()
		fmt.Println("  ", s.text(r))
		last = len(r.Events) > 0 && !r.Fragment
	}
	s.create(&pb.WatchCreateRequest{StartRevision: 4, Fragment: true})
	s.show(2)
}

func periodicProgress(s *scene) {
	s.put("k", "1")
	s.create(&pb.WatchCreateRequest{ProgressNotify: true})
	s.create(&pb.WatchCreateRequest{})
	s.show(2)
	s.show(2)
	s.put("other", "1")
	s.show(1)
}

func manualProgress(s *scene) {
	s.put("k", "1")
	s.create(&pb.WatchCreateRequest{})
	s.create(&pb.WatchCreateRequest{StartRevision: 1})
	s.show(3)
	s.put("other", "1")
	s.progress()
	s.show(1)
	s.put("k", "2")
	s.show(2)
	s.progress()
	s.show(1)
}

func compacted(s *scene) {
	for i := 1; i <= 5; i++ {
		s.put("k", fmt.Sprint(i))
	}
	s.compact(3)
	s.create(&pb.WatchCreateRequest{StartRevision: 2})
	s.show(2)
	s.create(&pb.WatchCreateRequest{StartRevision: 3, PrevKv: true})
	s.show(2)
	s.create(&pb.WatchCreateRequest{StartRevision: 5, PrevKv: true})
	s.show(2)
}

func compactedBehind(s *scene) {
	s.create(&pb.WatchCreateRequest{PrevKv: true})
	s.show(1)
	for i := 1; i <= 5; i++ {
		s.put("k", fmt.Sprint(i))
		s.show(1)
	}
	s.compact(5)
	s.put("k", "6")
	s.del("k")
	s.show(2)
}

func filters(s *scene) {
	s.create(&pb.WatchCreateRequest{PrevKv: true,
		Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT}})
	s.create(&pb.WatchCreateRequest{
		Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE}})
	s.create(&pb.WatchCreateRequest{Filters: []pb.WatchCreateRequest_FilterType{
		pb.WatchCreateRequest_NODELETE, pb.WatchCreateRequest_NOPUT}})
	s.show(3)
	s.put("k", "1")
	s.show(1)
	s.del("k")
	s.show(1)
	s.put("k", "2")
	s.show(1)
	s.progress()
	s.show(1)
}

func ids(s *scene) {
	for _, id := range []int64{0, 7, 7, 0, 1, 2, 0, -1, -5, 1 << 40} {
		s.create(&pb.WatchCreateRequest{WatchId: id, Key: []byte("nothing")})
		s.show(1)
	}
	s.cancel(7)
	s.show(1)
	s.cancel(7)
	s.cancel(99)
	s.create(&pb.WatchCreateRequest{WatchId: 7, Key: []byte("nothing")})
	s.show(1)
}

func refused(s *scene) {
	s.put("k", "1")
	s.create(&pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("a")})
	s.show(1)
	s.create(&pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("a")})
	s.show(1)
	s.create(&pb.WatchCreateRequest{StartRevision: -1})
	s.show(1)
	s.create(&pb.WatchCreateRequest{Key: []byte{}, RangeEnd: []byte{0}})
	s.show(1)
	s.put("k", "2")
	s.show(1)
}

func future(s *scene) {
	s.create(&pb.WatchCreateRequest{StartRevision: 3})
	s.show(1)
	for i := 1; i <= 4; i++ {
		s.put("k", fmt.Sprint(i))
	}
	seen := 0
	for seen < 2 {
		for _, e := range s.recv().Events {
			fmt.Printf("   event at %d\n", s.rev(e.Kv.ModRevision))
			seen++
		}
	}
}

// One stream with ten thousand watches, all of one key; each is told once.
func multitude(s *scene) {
	seen := map[int64]int{}
	go func() {
		for i := 0; i < many; i++ {
			s.create(&pb.WatchCreateRequest{})
		}
	}()
	for i := 0; i < many; i++ {
		if r := s.recv(); !r.Created {
			fmt.Println("  ", s.text(r))
		}
	}
	s.put("k", "1")
	for i := 0; i < many; i++ {
		r := s.recv()
		if len(r.Events) != 1 || s.rev(r.Events[0].Kv.ModRevision) != 1 {
			fmt.Println("  ", s.text(r))
		}
		seen[r.WatchId]++
	}
	fmt.Printf("   %d were told\n", len(seen))
	s.progress()
	s.show(1)
}

// A client that does not read, while much is written and compacted: what it then gets is
// in order and without a gap; it may end with the compact revision.
func slow(s *scene) {
	value := strings.Repeat("x", 64<<10)
	s.create(&pb.WatchCreateRequest{})
	s.show(1)
	for i := 1; i <= 400; i++ {
		s.put("k", value)
	}
	s.compact(390)
	next := int64(1)
	for next <= 400 {
		r := s.recv()
		if r.Canceled {
			if r.CompactRevision-s.base != 390 {
				fmt.Println("  ", s.text(r))
			}
			break
		}
		for _, e := range r.Events {
			if s.rev(e.Kv.ModRevision) != next {
				fmt.Printf("   %d where %d is due\n", s.rev(e.Kv.ModRevision), next)
			}
			next++
		}
	}
	fmt.Println("   in order, without a gap")
}

func main() {
	conn, err := grpc.NewClient(os.Args[1],
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	must(err)
	for _, scenes := range []struct {
		title string
		play  func(*scene)
	}{
		{"fragments", fragments},
		{"periodic progress", periodicProgress},
		{"progress by request", manualProgress},
		{"from a compacted revision", compacted},
		{"compacted behind it", compactedBehind},
		{"filters", filters},
		{"ids", ids},
		{"refused", refused},
		{"from a revision to come", future},
		{"ten thousand on one stream", multitude},
		{"a client that does not read", slow},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		s := &scene{kv: pb.NewKVClient(conn), watch: pb.NewWatchClient(conn), ctx: ctx}
		r, err := s.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
		must(err)
		s.base = r.Header.Revision
		s.open()
		fmt.Println(scenes.title)
		scenes.play(s)
		cancel()
	}
}
