// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/grpc/codes"
)

// A recording is the gzip of a line of magic and of records:
//
//	u32  length of what follows
//	u8   kind, u8 stream, u8 code, u8 length of the path
//	u32  count
//	u64  watcher id
//	     path
//	u32  length, request
//	u32  length, text of the error
//	u32  length, response
//
// Integers are big-endian. The reader in C is tests/diff/replay.c.
const magic = "kvd answers 1\n"

type recorder struct {
	file *os.File
	zip  *gzip.Writer
}

func newRecorder(name string) (*recorder, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	_, err = z.Write([]byte(magic))
	return &recorder{f, z}, err
}

func (r *recorder) write(s step, a answer) error {
	b := []byte{byte(s.kind), s.stream, byte(a.code), byte(len(s.path))}
	b = binary.BigEndian.AppendUint32(b, s.count)
	b = binary.BigEndian.AppendUint64(b, uint64(s.id))
	b = append(b, s.path...)
	for _, part := range [][]byte{s.request, []byte(a.text), a.response} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	_, err := r.zip.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func (r *recorder) close() error {
	return errors.Join(r.zip.Close(), r.file.Close())
}

type player struct {
	in io.Reader
}

func newPlayer(name string) (*player, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	in := bufio.NewReader(z)
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(in, head); err != nil || string(head) != magic {
		return nil, fmt.Errorf("%s is not a recording", name)
	}
	return &player{in}, nil
}

// next returns io.EOF at the end.
func (p *player) next() (step, answer, error) {
	var size [4]byte
	if _, err := io.ReadFull(p.in, size[:]); err != nil {
		return step{}, answer{}, err
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(p.in, b); err != nil {
		return step{}, answer{}, err
	}
	s := step{kind: kind(b[0]), stream: b[1], count: binary.BigEndian.Uint32(b[4:]),
		id: int64(binary.BigEndian.Uint64(b[8:]))}
	a := answer{code: codes.Code(b[2])}
	rest := b[16:]
	s.path, rest = string(rest[:b[3]]), rest[b[3]:]
	part := func() []byte {
		n := binary.BigEndian.Uint32(rest)
		p := rest[4 : 4+n]
		rest = rest[4+n:]
		return p
	}
	s.request = part()
	a.text = string(part())
	a.response = part()
	return s, a, nil
}
