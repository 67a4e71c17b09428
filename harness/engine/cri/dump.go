package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
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
	var asked time.Time
	for bound := time.Now().Add(dumpBound); ; {
		// Again, should a dump have come through in pieces.
		if time.Since(asked) > dumpBound/4 {
			if err := unix.Kill(shim, unix.SIGUSR1); err != nil {
				return nil, fmt.Errorf("asking the shim for its stacks: %w", err)
			}
			asked = time.Now()
		}
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

// interloper is a line that containerd wrote while it copied a dump: it logs to
// the same file. Its beginning cannot be part of a dump, whose quotes are
// escaped; its end is the only newline around, for a dump is one line.
var interloper = regexp.MustCompile(`(?:time="\d{4}-|[IWEF]\d{4} \d\d:\d\d:)[^\n]*\n`)

// shimStacks cuts the last whole dump out of a log in logrus's text format, in
// which a message of several lines is one quoted Go string. ok is false while
// there is none.
func shimStacks(log []byte) (dump []byte, ok bool) {
	const begin, end = `msg="=== BEGIN goroutine stack dump ===`, `=== END goroutine stack dump ==="`
	i := bytes.LastIndex(log, []byte(begin))
	if i < 0 {
		return nil, false
	}
	log = interloper.ReplaceAll(log[i+len("msg="):], nil)
	j := bytes.Index(log, []byte(end))
	if j < 0 {
		return nil, false
	}
	text, err := strconv.Unquote(string(log[:j+len(end)]))
	return []byte(text), err == nil
}

// wholeDump is a dump as it is in the log, with what fell into it.
var wholeDump = regexp.MustCompile(`(?s)time="[^"]*" level=info msg="=== BEGIN goroutine stack dump ===.*?=== END goroutine stack dump ===[^\n]*\n`)

// ReadLog is what containerd and its shims have written, without the dumps.
func (n *Node) ReadLog() ([]byte, error) {
	text, err := os.ReadFile(n.Log())
	return withoutDumps(text), err
}

func withoutDumps(log []byte) []byte {
	return wholeDump.ReplaceAllFunc(log, func(dump []byte) []byte {
		// Not from the first byte on, or the dump's own line would be one.
		return bytes.Join(interloper.FindAll(dump[1:], -1), nil)
	})
}
