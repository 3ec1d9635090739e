// SPDX-License-Identifier: Apache-2.0

// Diff sends the same random requests to two servers of the etcd API and compares
// every answer and every watch event.
//
//	diff -a URL -b URL -seed N -n N     compare two servers
//	     -a-run COMMAND -b-run COMMAND  ... that it starts, and restarts at times
//	diff -a URL -record FILE ...        write A's answers to FILE
//	diff -b URL -replay FILE            compare B with the answers in FILE
//
// The servers start empty. Compared are the response or the code and text of the
// error, after cluster, member and term have been taken out of the headers; what
// is left of a lease may differ by two seconds.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

type options struct {
	a, b, record, replay string
	aRun, bRun, log      string
	seed                 uint64
	n, show, giveUp      int
	restarts             int
	hash                 bool
	slack                int64
}

func main() {
	var o options
	flag.StringVar(&o.a, "a", "", "the reference, as http://host:port")
	flag.StringVar(&o.b, "b", "", "the server under test")
	flag.StringVar(&o.aRun, "a-run", "", "the command that starts A")
	flag.StringVar(&o.bRun, "b-run", "", "the command that starts B")
	flag.StringVar(&o.log, "log", "server", "what they print goes to this file .a.log, .b.log")
	flag.IntVar(&o.restarts, "restarts", 0, "requests between two restarts; 0: none")
	flag.StringVar(&o.record, "record", "", "write A's answers to this file")
	flag.StringVar(&o.replay, "replay", "", "take A's answers from this file")
	flag.Uint64Var(&o.seed, "seed", 1, "of the random requests")
	flag.IntVar(&o.n, "n", 10000, "how many requests")
	flag.IntVar(&o.show, "show", 1, "how many differences to print")
	flag.IntVar(&o.giveUp, "give-up", 100, "stop after so many differences")
	flag.BoolVar(&o.hash, "hash", false, "compare HashKV too")
	flag.Int64Var(&o.slack, "slack", 2, "seconds that the rest of a lease may differ by")
	flag.Parse()
	failed, err := compare(&o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "diff:", err)
		os.Exit(2)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// source is where the steps and A's answers come from.
type source func() (step, answer, error)

// open connects to a server, and starts it where there is a command.
func open(url, command, log string) (e *endpoint, err error) {
	var s *server
	if command != "" {
		if s, err = run(command, log); err != nil {
			return nil, err
		}
	}
	return dial(url, s)
}

func compare(o *options) (int, error) {
	t := &tally{o: o}
	if o.b != "" {
		b, err := open(o.b, o.bRun, o.log+".b.log")
		if err != nil {
			return 0, err
		}
		t.b = b
	}
	next, err := replayed(o)
	if o.replay == "" {
		next, err = t.live()
	}
	if err != nil {
		return 0, err
	}
	if o.record != "" {
		if t.recorder, err = newRecorder(o.record); err != nil {
			return 0, err
		}
	}
	for t.failed < o.giveUp {
		s, a, err := next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = t.take(s, a)
		}
		if err != nil {
			return t.failed, err
		}
	}
	if t.recorder != nil {
		if err := t.recorder.close(); err != nil {
			return t.failed, err
		}
	}
	fmt.Printf("%d passed, %d failed\n", t.passed, t.failed)
	return t.failed, nil
}

func replayed(o *options) (source, error) {
	if o.replay == "" {
		return nil, nil
	}
	o.slack = max(o.slack, 3600)
	p, err := newPlayer(o.replay)
	if err != nil {
		return nil, err
	}
	return p.next, nil
}

type tally struct {
	o              *options
	a, b           *endpoint
	recorder       *recorder
	passed, failed int
	pending        chan answer // B's answer to the step that A was asked too
}

// live asks A, and B at the same time.
func (t *tally) live() (source, error) {
	a, err := open(t.o.a, t.o.aRun, t.o.log+".a.log")
	if err != nil {
		return nil, err
	}
	t.a = a
	m, err := newModel(a)
	if err != nil {
		return nil, err
	}
	g := newGenerator(t.o.seed, m)
	g.hash = t.o.hash
	g.restartEvery(t.o.restarts)
	t.pending = make(chan answer, 1)
	last := false
	return func() (step, answer, error) {
		if g.requests >= t.o.n && len(g.queue) == 0 {
			if last {
				return step{}, answer{}, io.EOF
			}
			g.drain()
			g.survey()
			last = true
		}
		s := g.next()
		if t.b != nil {
			go func() { t.pending <- t.b.do(s) }()
		}
		r := a.do(s)
		g.observe(s, r)
		return s, r, nil
	}, nil
}

// slack is how many seconds the rest of a lease may differ by: a restart makes all of
// them begin anew, and takes one server longer than the other.
func (t *tally) slack() int64 {
	if t.a == nil {
		return t.o.slack
	}
	return t.o.slack + int64((max(t.a.restarted, t.b.restarted)+time.Second-1)/time.Second)
}

func (t *tally) take(s step, a answer) error {
	if t.recorder != nil {
		if s.kind == watchEvent {
			s.count = events(a)
		}
		if err := t.recorder.write(s, a); err != nil {
			return err
		}
	}
	if t.b == nil {
		t.passed++
		return nil
	}
	var b answer
	if t.pending != nil {
		b = <-t.pending
	} else {
		b = t.b.do(s)
	}
	if !a.late && same(s, a, b, t.slack()) {
		t.passed++
		return nil
	}
	t.failed++
	if t.failed <= t.o.show {
		x, y := apart(a.String(s.path), b.String(s.path))
		fmt.Printf("difference %d, after %d equal answers, seed %d\n%v\n",
			t.failed, t.passed, t.o.seed, s)
		fmt.Printf("  A answers\n%s\n  B answers\n%s\n", x, y)
	}
	return nil
}
