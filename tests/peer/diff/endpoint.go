// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// rawCodec sends the bytes of a request as they are and returns those of a response.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (rawCodec) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), b...)
	return nil
}
func (rawCodec) Name() string { return "proto" }

type endpoint struct {
	url     string
	server  *server // where it was started here
	conn    *grpc.ClientConn
	streams map[uint8]*watchStream
	// How long to wait for what has to come; cut short once something did not.
	patience time.Duration
	// How long the last restart took: within it the leases began anew.
	restarted time.Duration
}

var bidirectional = &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

const callTimeout = 10 * time.Second

// dial connects to the server at url; one that was started here is waited for.
func dial(url string, server *server) (*endpoint, error) {
	e := &endpoint{url: strings.TrimPrefix(url, "http://"), server: server,
		streams: map[uint8]*watchStream{}, patience: 5 * time.Second}
	if err := e.connect(); err != nil || server == nil {
		return e, err
	}
	a := e.untilAnswered(pathRange, encode(&pb.RangeRequest{Key: []byte{0}}))
	if a.code != 0 {
		return nil, fmt.Errorf("%s does not answer: %s", server.args[0], a.text)
	}
	return e, nil
}

func (e *endpoint) connect() (err error) {
	quick := grpc.ConnectParams{MinConnectTimeout: time.Second,
		Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.2,
			MaxDelay: 100 * time.Millisecond}}
	e.conn, err = grpc.NewClient("passthrough:///"+e.url,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(quick),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}),
			grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)))
	return err
}

// restart ends the server and starts it again, with all that a client then has lost.
func (e *endpoint) restart(s step) answer {
	began := time.Now()
	defer func() { e.restarted = time.Since(began) }()
	for _, w := range e.streams {
		w.cancel()
	}
	e.streams = map[uint8]*watchStream{}
	e.conn.Close()
	err := errors.New("the server was not started here")
	if e.server != nil {
		err = e.server.end(syscall.Signal(s.count))
	}
	if err == nil {
		err = e.server.start()
	}
	if err == nil {
		err = e.connect()
	}
	if err != nil {
		return answer{code: codes.Internal, text: err.Error()}
	}
	return e.untilAnswered(s.path, s.request)
}

// untilAnswered asks while the server is not there yet, or has no leader yet.
func (e *endpoint) untilAnswered(path string, request []byte) answer {
	for end := time.Now().Add(startTimeout); ; time.Sleep(10 * time.Millisecond) {
		a := e.unary(path, request)
		if a.code != codes.Unavailable && a.code != codes.DeadlineExceeded ||
			time.Now().After(end) {
			return a
		}
	}
}

const expiryTimeout = 30 * time.Second

// expire asks for the lease until it is gone.
func (e *endpoint) expire(s step) answer {
	for end := time.Now().Add(expiryTimeout); ; time.Sleep(10 * time.Millisecond) {
		a := e.unary(s.path, s.request)
		m, _ := decode(s.path, 1, a.response).(*pb.LeaseTimeToLiveResponse)
		if a.code != 0 || m == nil || m.GrantedTTL == 0 || time.Now().After(end) {
			return a
		}
	}
}

func failure(err error) answer {
	s := status.Convert(err)
	// Go's protobuf puts one of two blanks there, by a hash of its own binary
	text := strings.Replace(s.Message(), "proto:\u00a0", "proto: ", 1)
	return answer{code: s.Code(), text: text}
}

func (e *endpoint) do(s step) answer {
	switch s.kind {
	case unary:
		return e.unary(s.path, s.request)
	case stream:
		return e.stream(s)
	case keepAlive:
		return e.keepAlive(s)
	case autoLease:
		return e.autoLease(s)
	case restart:
		return e.restart(s)
	case expiry:
		return e.expire(s)
	case watchOpen:
		return e.openWatch(s)
	}
	w := e.streams[s.stream]
	if w == nil {
		return answer{code: codes.Internal, text: "the watch stream is not open"}
	}
	return w.do(e, s)
}

func (e *endpoint) unary(path string, request []byte) answer {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	var out []byte
	if err := e.conn.Invoke(ctx, path, request, &out); err != nil {
		return failure(err)
	}
	return respond(path, out)
}

func respond(path string, b []byte) answer {
	m := decode(path, 1, b)
	if m == nil {
		return answer{code: codes.Internal, text: "the response is no message of its type"}
	}
	return answer{response: normalize(m)}
}

// stream merges the chunks into one response. How many keys each of them had is part
// of the answer, up to the size from which on the server may make it depend on bytes.
func (e *endpoint) stream(s step) answer {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	cs, err := e.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, s.path)
	if err == nil {
		err = cs.SendMsg(s.request)
	}
	if err == nil || err == io.EOF {
		err = cs.CloseSend()
	}
	all := &pb.RangeStreamResponse{RangeResponse: &pb.RangeResponse{}}
	chunks := ""
	for err == nil {
		var b []byte
		if err = cs.RecvMsg(&b); err == nil {
			m := &pb.RangeStreamResponse{}
			if err = proto.Unmarshal(b, m); err == nil {
				chunks += fmt.Sprintf(" %d", len(m.RangeResponse.GetKvs()))
				proto.Merge(all, m)
			}
		}
	}
	if err != io.EOF {
		return failure(err)
	}
	if proto.Size(all) >= chunksBelow {
		chunks = ""
	}
	return answer{text: chunks, response: normalize(all)}
}

const chunksBelow = 512 * 1024

func (e *endpoint) keepAlive(s step) answer {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	cs, err := e.conn.NewStream(ctx, bidirectional, s.path)
	if err != nil {
		return failure(err)
	}
	var b []byte
	if err = cs.SendMsg(s.request); err == nil {
		err = cs.RecvMsg(&b)
	}
	if err != nil {
		return failure(err)
	}
	cs.CloseSend()
	return respond(s.path, b)
}

// autoLease compares everything but the id that the server picked.
func (e *endpoint) autoLease(s step) answer {
	a := e.unary(pathGrant, s.request)
	m, _ := decode(pathGrant, 1, a.response).(*pb.LeaseGrantResponse)
	if a.code != 0 || m == nil {
		return a
	}
	if m.ID <= 0 {
		return answer{code: codes.Internal, text: "the lease has no positive id"}
	}
	revoke := e.unary(pathRevoke, encode(&pb.LeaseRevokeRequest{ID: m.ID}))
	if revoke.code != 0 {
		return revoke
	}
	m.ID = 0
	return answer{response: encode(m)}
}

// --- watch streams ------------------------------------------------------------

type watchStream struct {
	cs     grpc.ClientStream
	cancel context.CancelFunc

	mu       sync.Mutex
	changed  chan struct{} // closed, and made anew, at every response
	control  []*pb.WatchResponse
	progress []*pb.WatchResponse
	events   map[int64][]*mvccpb.Event
	last     map[int64]int64 // per watcher: the last revision in full, or promised
	whole    map[int64]bool  // watchers that did not ask for fragments
	partial  map[int64]bool  // watchers whose last response was a fragment, not the last
	broken   string          // the first thing that no server may do
	err      error
}

func (e *endpoint) openWatch(s step) answer {
	ctx, cancel := context.WithCancel(context.Background())
	cs, err := e.conn.NewStream(ctx, bidirectional, s.path)
	if err != nil {
		cancel()
		return failure(err)
	}
	w := &watchStream{cs: cs, cancel: cancel, changed: make(chan struct{}),
		events: map[int64][]*mvccpb.Event{}, last: map[int64]int64{}, whole: map[int64]bool{},
		partial: map[int64]bool{}}
	e.streams[s.stream] = w
	go w.receive()
	return answer{}
}

func (w *watchStream) receive() {
	for {
		var b []byte
		m := &pb.WatchResponse{}
		err := w.cs.RecvMsg(&b)
		if err == nil {
			err = proto.Unmarshal(b, m)
		}
		w.mu.Lock()
		if err == nil {
			w.take(m)
		} else {
			w.err = err
		}
		close(w.changed)
		w.changed = make(chan struct{})
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (w *watchStream) take(m *pb.WatchResponse) {
	switch {
	case m.Created || m.Canceled:
		w.control = append(w.control, m)
		if m.Created {
			w.last[m.WatchId] = 0
		}
	case len(m.Events) == 0:
		w.progress = append(w.progress, m)
		for id := range w.last {
			if m.WatchId == -1 || m.WatchId == id {
				w.last[id] = max(w.last[id], m.Header.GetRevision())
			}
		}
	default:
		w.check(m)
		w.events[m.WatchId] = append(w.events[m.WatchId], m.Events...)
	}
}

// check holds for every server: revisions only grow, none is split over two
// responses unless asked for and said so, and none comes after progress said it was
// passed.
func (w *watchStream) check(m *pb.WatchResponse) {
	last := w.last[m.WatchId]
	for _, ev := range m.Events {
		rev := ev.Kv.GetModRevision()
		if rev < last || rev == last && !w.partial[m.WatchId] && ev == m.Events[0] {
			w.fault("watcher %d: revision %d comes after %d", m.WatchId, rev, last)
		}
		last = max(last, rev)
	}
	if m.Header.GetRevision() < last {
		w.fault("watcher %d: the header has revision %d, an event %d",
			m.WatchId, m.Header.GetRevision(), last)
	}
	if m.Fragment && w.whole[m.WatchId] {
		w.fault("watcher %d did not ask for fragments", m.WatchId)
	}
	w.last[m.WatchId] = last
	w.partial[m.WatchId] = m.Fragment
}

func (w *watchStream) fault(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
	}
}

// wait calls done under the lock after every response until it says true.
func (w *watchStream) wait(patience time.Duration, done func() bool) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		w.mu.Lock()
		ok, err, changed := done(), w.err, w.changed
		w.mu.Unlock()
		if ok {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-deadline.C:
			return errors.New("no answer in time")
		}
	}
}

func (w *watchStream) do(e *endpoint, s step) answer {
	a, err := w.step(e, s)
	if err != nil {
		e.patience = min(e.patience, 500*time.Millisecond)
		return answer{code: codes.DeadlineExceeded, text: err.Error(), late: true}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != "" {
		return answer{code: codes.Internal, text: w.broken}
	}
	return a
}

func (w *watchStream) step(e *endpoint, s step) (answer, error) {
	switch s.kind {
	case watchClose:
		return answer{}, w.close(e, s)
	case watchStray:
		return answer{}, w.cs.SendMsg(s.request)
	case watchEvent:
		return w.takeEvents(e, s)
	case watchSync:
		return w.sync(e, s)
	}
	if s.kind != watchLost {
		if err := w.cs.SendMsg(s.request); err != nil {
			return answer{}, err
		}
	}
	m, err := w.controlFor(e, s)
	if err != nil {
		return answer{}, err
	}
	return answer{response: normalize(m)}, nil
}

func (w *watchStream) controlFor(e *endpoint, s step) (*pb.WatchResponse, error) {
	var found *pb.WatchResponse
	err := w.wait(e.patience, func() bool {
		for i, m := range w.control {
			if m.Created == (s.kind == watchMake) && (m.Created || m.WatchId == s.id) {
				found = m
				w.control = append(w.control[:i], w.control[i+1:]...)
				if m.Created {
					r := decode(s.path, 0, s.request).(*pb.WatchRequest)
					w.whole[m.WatchId] = !r.GetCreateRequest().GetFragment()
				}
				return true
			}
		}
		return false
	})
	return found, err
}

// takeEvents waits for as many events as must come and takes all that did.
func (w *watchStream) takeEvents(e *endpoint, s step) (answer, error) {
	late := w.wait(e.patience, func() bool { return len(w.events[s.id]) >= int(s.count) })
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return answer{}, w.err
	}
	if late != nil {
		e.patience = min(e.patience, 500*time.Millisecond)
	}
	m := &pb.WatchResponse{WatchId: s.id, Events: w.events[s.id]}
	delete(w.events, s.id)
	return answer{response: encode(m), late: late != nil}, nil
}

// sync asks again and again: the request is dropped while a watcher catches up.
func (w *watchStream) sync(e *endpoint, s step) (answer, error) {
	w.mu.Lock()
	w.progress = nil
	w.mu.Unlock()
	for end := time.Now().Add(e.patience); ; {
		if err := w.cs.SendMsg(s.request); err != nil {
			return answer{}, err
		}
		var m *pb.WatchResponse
		err := w.wait(20*time.Millisecond, func() bool {
			if len(w.progress) > 0 {
				m = w.progress[0]
			}
			return m != nil
		})
		if err == nil {
			m = proto.Clone(m).(*pb.WatchResponse)
			return answer{response: normalize(m)}, nil
		}
		if time.Now().After(end) {
			return answer{}, errors.New("no progress in time")
		}
	}
}

// close reports what came and was not asked for.
func (w *watchStream) close(e *endpoint, s step) error {
	delete(e.streams, s.stream)
	w.mu.Lock()
	early := w.err
	w.mu.Unlock()
	w.cancel()
	if early != nil {
		return early
	}
	w.wait(e.patience, func() bool { return w.err != nil })
	if len(w.control) > 0 {
		return fmt.Errorf("an answer too many: %v", w.control[0])
	}
	for id, evs := range w.events {
		return fmt.Errorf("%d events too many of watcher %d", len(evs), id)
	}
	return nil
}
