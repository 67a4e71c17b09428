package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leaklab/leaklab/harness/probe"
)

// dumpBound is how long a shim may take to write its stacks.
const dumpBound = 20 * time.Second

// ShimDump reads the goroutines of a shim, which writes them to its log on
// SIGUSR1; containerd copies that log to its own. Dumps of several shims must
// not be taken at the same time.
func (n *Node) ShimDump(ctx context.Context, shim int) (probe.Goroutines, error) {
	log, err := os.Open(n.Log())
	if err != nil {
		return nil, err
	}
	defer log.Close()
	start, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if err := unix.Kill(shim, unix.SIGUSR1); err != nil {
		return nil, fmt.Errorf("asking the shim for its stacks: %w", err)
	}
	for bound := time.Now().Add(dumpBound); ; {
		text, err := io.ReadAll(io.NewSectionReader(log, start, 1<<30))
		if err != nil {
			return nil, err
		}
		if dump, ok := shimStacks(text); ok {
			return probe.ParseGoroutineDump(dump)
		}
		if time.Now().After(bound) {
			return nil, errors.New("the shim has not written its stacks to containerd's log")
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// shimStacks cuts the last whole dump out of a log in logrus's text format, in
// which a message of several lines is one quoted Go string. ok is false while
// there is none.
func shimStacks(log []byte) (dump []byte, ok bool) {
	const begin, end = `msg="=== BEGIN goroutine stack dump ===`, `=== END goroutine stack dump ==="`
	i := bytes.LastIndex(log, []byte(begin))
	if i < 0 {
		return nil, false
	}
	log = log[i+len("msg="):]
	j := bytes.Index(log, []byte(end))
	if j < 0 {
		return nil, false
	}
	text, err := strconv.Unquote(string(log[:j+len(end)]))
	return []byte(text), err == nil
}

// ReadLog is what containerd and its shims have written, without the dumps.
func (n *Node) ReadLog() ([]byte, error) {
	text, err := os.ReadFile(n.Log())
	if err != nil {
		return nil, err
	}
	var kept []byte
	for line := range bytes.Lines(text) {
		if !bytes.Contains(line, []byte("=== BEGIN goroutine stack dump ===")) {
			kept = append(kept, line...)
		}
	}
	return kept, nil
}
