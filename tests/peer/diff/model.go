// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// What the generator knows of the store, from A's answers alone: enough to ask
// for revisions, leases and watchers that exist, and to say how many events a
// watcher is still owed. The history comes from a watch of A's whole key space.
type model struct {
	rev, compacted int64
	compactions    []int64        // that may be under way, or have left a hash
	unhashed       map[int64]bool // revisions whose HashKV time decides: see hashable()
	leases         []int64
	streams        [nStreams]modelStream
	history        []event
	a              *endpoint
	tail           *watchStream
}

type event struct {
	rev    int64
	key    string
	delete bool
}

type modelStream struct {
	open     bool
	watchers []*modelWatcher
}

type modelWatcher struct {
	request         *pb.WatchCreateRequest
	id              int64
	start           int64
	key, end        string
	minRev          int64
	noPut, noDelete bool
	next            int  // the first entry of history that was not counted
	lost            bool // canceled by a compaction, or about to be
	reported        bool // and the server is asked, or was, whether it said so
	behind          bool // made with a past revision, not known to have caught up
}

const nStreams = 4

func newModel(a *endpoint) (*model, error) {
	m := &model{compacted: -1, unhashed: map[int64]bool{}, a: a}
	if err := m.follow(); err != nil {
		return nil, err
	}
	zero := []byte{0}
	first := a.unary(pathRange, encode(&pb.RangeRequest{Key: zero, RangeEnd: zero}))
	r, _ := decode(pathRange, 1, first.response).(*pb.RangeResponse)
	if first.code != 0 || r == nil {
		return nil, errors.New("A does not answer: " + first.text)
	}
	if r.Header.Revision != 1 {
		return nil, errors.New("A is not empty")
	}
	m.rev = 1
	return m, nil
}

// follow watches A's whole key space from the end of the history that is known. One
// response has whole revisions.
func (m *model) follow() error {
	from := int64(1)
	if n := len(m.history); n > 0 {
		from = m.history[n-1].rev + 1
	}
	s := step{kind: watchOpen, stream: 255, path: pathWatch}
	if r := m.a.do(s); r.code != 0 {
		return errors.New(r.text)
	}
	m.tail = m.a.streams[255]
	delete(m.a.streams, 255)
	zero := []byte{0}
	all := &pb.WatchCreateRequest{Key: zero, RangeEnd: zero, StartRevision: from}
	return m.tail.cs.SendMsg(encode(creation(all)))
}

// catchUp reads the history up to the revision that is known to exist.
func (m *model) catchUp(patience time.Duration) {
	m.tail.wait(patience, func() bool {
		for _, ev := range m.tail.events[0] {
			m.history = append(m.history, event{ev.Kv.ModRevision, string(ev.Kv.Key),
				ev.Type == mvccpb.Event_DELETE})
		}
		m.tail.events[0] = nil
		return len(m.history) == 0 && m.rev == 1 ||
			len(m.history) > 0 && m.history[len(m.history)-1].rev >= m.rev
	})
}

// changesTwice: one of the keys that changed in this revision did so twice.
func (m *model) changesTwice(rev int64) bool {
	changed := map[string]bool{}
	for i := len(m.history) - 1; i >= 0 && m.history[i].rev >= rev; i-- {
		ev := m.history[i]
		if ev.rev == rev && changed[ev.key] {
			return true
		}
		changed[ev.key] = ev.rev == rev
	}
	return false
}

func (w *modelWatcher) wants(ev event) bool {
	if ev.rev < w.minRev || ev.delete && w.noDelete || !ev.delete && w.noPut {
		return false
	}
	switch w.end {
	case "":
		return ev.key == w.key
	case "\x00":
		return ev.key >= w.key
	}
	return ev.key >= w.key && ev.key < w.end
}

// owed counts the events that came into being since it was last asked.
func (m *model) owed(w *modelWatcher) (n uint32) {
	for ; w.next < len(m.history); w.next++ {
		if w.wants(m.history[w.next]) {
			n++
		}
	}
	return n
}

// seen is the last revision all of whose events were counted.
func (m *model) seen(w *modelWatcher) int64 {
	if w.next < len(m.history) {
		return m.history[w.next].rev - 1
	}
	return m.rev
}

// mayAsk: etcd answers a progress request only where every watcher has caught up,
// none waits for a revision to come, and there is one at all.
func (m *model) mayAsk(s *modelStream) bool {
	for _, w := range s.watchers {
		if w.lost || w.start > m.rev {
			return false
		}
	}
	return s.open && len(s.watchers) > 0
}

func (s *modelStream) behind() bool {
	for _, w := range s.watchers {
		if w.behind && !w.lost {
			return true
		}
	}
	return false
}

// find gives the place of a watcher, which keeps its id while it is in the list: where
// a compaction has canceled it, too, until it is canceled by the client.
func (s *modelStream) find(id int64) int {
	return slices.IndexFunc(s.watchers, func(w *modelWatcher) bool { return w.id == id })
}

// observe learns from A's answer to s.
func (m *model) observe(s step, a answer) {
	if a.code != 0 {
		return
	}
	if s.path != "" && s.kind != watchEvent {
		r := decode(s.path, 1, a.response)
		if h, ok := r.(interface{ GetHeader() *pb.ResponseHeader }); ok && h.GetHeader() != nil {
			m.rev = max(m.rev, h.GetHeader().Revision)
		}
		m.observeLease(s, r)
	}
	if s.path == pathCompact {
		m.observeCompaction(decode(s.path, 0, s.request).(*pb.CompactionRequest))
	}
	m.observeWatch(s, a)
}

func (m *model) observeLease(s step, response proto.Message) {
	switch r := response.(type) {
	case *pb.LeaseGrantResponse:
		if s.kind == unary {
			m.leases = append(m.leases, r.ID)
		}
	case *pb.LeaseRevokeResponse:
		id := decode(s.path, 0, s.request).(*pb.LeaseRevokeRequest).ID
		m.forget(id)
	case *pb.LeaseTimeToLiveResponse:
		if s.kind == expiry {
			m.forget(r.ID)
		}
	}
}

func (m *model) forget(lease int64) {
	if i := slices.Index(m.leases, lease); i >= 0 {
		m.leases = slices.Delete(m.leases, i, i+1)
	}
}

// etcd makes a hash of each compaction while it does its work, and HashKV of exactly
// that revision gives it from then on. When that is, is known of a physical compaction
// alone, and only where the one before it was at its end as well.
func (m *model) observeCompaction(r *pb.CompactionRequest) {
	if !r.Physical || m.unhashed[m.compacted] {
		m.unhashed[r.Revision] = true
	}
	m.compacted = r.Revision
	m.compactions = append(m.compactions, r.Revision)
}

// hashable is rev, or the current revision where time would decide about rev.
func (m *model) hashable(rev int64) int64 {
	if m.unhashed[rev] {
		return 0
	}
	return rev
}

func (m *model) observeWatch(s step, a answer) {
	st := &modelStream{}
	if int(s.stream) < nStreams {
		st = &m.streams[s.stream]
	}
	switch s.kind {
	case restart:
		m.streams = [nStreams]modelStream{}
		// the hashes are gone, but for those of compactions that are done again
		for _, rev := range m.compactions {
			m.unhashed[rev] = true
		}
		m.compactions = nil
		if err := m.follow(); err != nil {
			panic(err) // what was there a moment ago is not any more
		}
	case watchOpen:
		*st = modelStream{open: true}
	case watchClose:
		*st = modelStream{}
	case watchMake:
		m.observeMake(st, s, a)
	case watchStop:
		i := st.find(s.id)
		st.watchers = slices.Delete(st.watchers, i, i+1)
	case watchSync:
		for _, w := range st.watchers {
			w.behind = false
		}
	}
}

func (m *model) observeMake(st *modelStream, s step, a answer) {
	r := decode(s.path, 1, a.response).(*pb.WatchResponse)
	q := decode(s.path, 0, s.request).(*pb.WatchRequest).GetCreateRequest()
	if r.Canceled {
		return
	}
	start := q.StartRevision
	w := &modelWatcher{request: q, id: r.WatchId, key: string(q.Key), end: string(q.RangeEnd),
		start: start, minRev: start,
		lost: start > 0 && start < m.compacted, behind: start > 0 && start <= m.rev}
	if w.minRev == 0 {
		w.minRev = m.rev + 1
	}
	if w.key == "" {
		w.key = "\x00"
	}
	for _, f := range q.Filters {
		w.noPut = w.noPut || f == pb.WatchCreateRequest_NOPUT
		w.noDelete = w.noDelete || f == pb.WatchCreateRequest_NODELETE
	}
	st.watchers = append(st.watchers, w)
}

func creation(r *pb.WatchCreateRequest) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}
}

func cancellation(id int64) *pb.WatchRequest {
	r := &pb.WatchCancelRequest{WatchId: id}
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: r}}
}

func progress() *pb.WatchRequest {
	r := &pb.WatchProgressRequest{}
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: r}}
}

// events is how many there are in the answer to a watchEvent.
func events(a answer) uint32 {
	r, _ := decode(pathWatch, 1, a.response).(*pb.WatchResponse)
	return uint32(len(r.GetEvents()))
}
