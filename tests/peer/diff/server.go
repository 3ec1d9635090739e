// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A server that was started here, so that it can be ended and started again. It does
// not outlive this program.
type server struct {
	args  []string
	log   string
	cmd   *exec.Cmd
	ended chan struct{}
}

// How long a server may take to end, and to answer after it was started.
const (
	endTimeout   = 30 * time.Second
	startTimeout = 60 * time.Second
)

// run starts command, whose words have no blanks; what it prints is added to log.
func run(command, log string) (*server, error) {
	s := &server{args: strings.Fields(command), log: log}
	return s, s.start()
}

func (s *server) start() error {
	log, err := os.OpenFile(s.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.args[0], s.args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	s.cmd, s.ended = cmd, ended
	go func() {
		cmd.Wait()
		close(ended)
	}()
	return nil
}

// end fails where the server has ended by itself, or does not end.
func (s *server) end(signal syscall.Signal) error {
	select {
	case <-s.ended:
		return fmt.Errorf("the server has ended by itself: %v", s.cmd.ProcessState)
	default:
	}
	s.cmd.Process.Signal(signal)
	select {
	case <-s.ended:
		return nil
	case <-time.After(endTimeout):
		s.cmd.Process.Kill()
		<-s.ended
		return fmt.Errorf("the server does not end by %v", signal)
	}
}
