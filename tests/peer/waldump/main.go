// SPDX-License-Identifier: Apache-2.0

// Waldump reads a write-ahead log as etcd itself does when it starts, and prints what
// is in it, one record a line:
//
//	metadata HEX
//	state TERM VOTE COMMIT
//	entry TYPE TERM INDEX HEX
//
// With -append it then saves one more entry after the last, as etcd would.
package main

import (
	"flag"
	"fmt"
	"os"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

func main() {
	index := flag.Uint64("index", 0, "read what follows the snapshot record of this `index`")
	term := flag.Uint64("term", 0, "the `term` of that snapshot record")
	data := flag.String("append", "", "save an entry with these `data`")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: waldump [flags] DIR")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *index, *term, *data); err != nil {
		fmt.Fprintln(os.Stderr, "waldump:", err)
		os.Exit(1)
	}
}

func run(dir string, index, term uint64, data string) error {
	start := &walpb.Snapshot{Index: &index, Term: &term}
	// ReadAll forgets that it did not find the snapshot; Verify does not.
	if _, err := wal.Verify(zap.NewNop(), dir, start); err != nil {
		return err
	}
	w, err := wal.Open(zap.NewNop(), dir, start)
	if err != nil {
		return err
	}
	defer w.Close()
	metadata, state, entries, err := w.ReadAll()
	if err != nil {
		return err
	}
	fmt.Printf("metadata %x\n", metadata)
	fmt.Printf("state %d %d %d\n", state.GetTerm(), state.GetVote(), state.GetCommit())
	for _, e := range entries {
		fmt.Printf("entry %d %d %d %x\n", e.GetType(), e.GetTerm(), e.GetIndex(), e.GetData())
	}
	if data == "" {
		return nil
	}
	next := index + uint64(len(entries)) + 1
	entry := &raftpb.Entry{Term: state.Term, Index: &next, Data: []byte(data)}
	return w.Save(state, []*raftpb.Entry{entry})
}
