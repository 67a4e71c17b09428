package dockerstop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/fault"
)

// hold is what the containers' first processes hang on. They all read a file of
// one folder: whether they can be killed meanwhile is the only difference
// between the arms.
type hold interface {
	// dir is the folder, to be bound into the containers; file is in it.
	dir() string
	// take returns once the first processes of n running containers are held.
	take(ctx context.Context, n int) error
	// wchan is the kernel's function in which a held process sleeps once it was
	// sent a SIGKILL; empty where it dies.
	wchan() string
	// release lets the processes go, that is, die of the SIGKILL they were sent.
	release() error
	// close lets go of everything, at any time, and may follow release.
	close() error
}

// file is the name of the file that the first processes read.
const file = fault.WedgeFile

// heldParent is the parent of the held containers' cgroups, in the arm's own
// hierarchy.
const heldParent = "/leaklab-held"

// makeHold puts the setting's hold in place. A wedge is mounted here, so it must
// come before the daemons: what is mounted later does not reach a namespace
// that was split off before.
func (s setting) makeHold(lab arm.Lab) (hold, error) {
	dir := lab.Dir("held")
	switch s.Hold {
	case wedgedAnswer, wedgedAbort:
		w, err := fault.Mount(dir)
		if err != nil {
			return nil, err
		}
		return &wedged{Wedge: w, abort: s.Hold == wedgedAbort}, nil
	case frozenParent:
		p, err := newPipe(dir)
		return &frozen{pipe: p, state: filepath.Join("/sys/fs/cgroup/freezer", lab.Job().Cgroup, heldParent, "freezer.state")}, err
	case killable:
		return newPipe(dir)
	}
	return nil, fmt.Errorf("no hold %q", s.Hold)
}

// wedged hangs in a FUSE request that is not answered.
type wedged struct {
	*fault.Wedge
	// abort says that release ends the connection instead of answering.
	abort bool
}

func (w *wedged) dir() string { return w.Dir() }

func (w *wedged) take(ctx context.Context, n int) error { return w.WaitHanging(ctx, n) }

func (w *wedged) wchan() string { return "request_wait_answer" }

func (w *wedged) release() error {
	if w.abort {
		return w.Abort()
	}
	w.Answer()
	return nil
}

func (w *wedged) close() error { return w.Close() }

// pipe waits for a writer of a named pipe. Nobody writes, but a SIGKILL ends it.
type pipe string

func newPipe(dir string) (pipe, error) {
	if err := unix.Mkfifo(filepath.Join(dir, file), 0o644); err != nil {
		return "", fmt.Errorf("making a named pipe: %w", err)
	}
	return pipe(dir), nil
}

func (p pipe) dir() string                     { return string(p) }
func (p pipe) take(context.Context, int) error { return nil }
func (p pipe) wchan() string                   { return "" }
func (p pipe) release() error                  { return nil }
func (p pipe) close() error                    { return nil }

// frozen waits on a named pipe in a frozen cgroup: the freezer of cgroup v1
// takes tasks to where no signal reaches them. It is the containers' parent that
// is frozen, because runc thaws a container's own cgroup when it sends a SIGKILL.
type frozen struct {
	pipe
	state string
}

// freezeBound is how long the freezer may take. It is done at once; a task in
// the middle of something would have to come out of it first.
const freezeBound = 5 * time.Second

func (f *frozen) take(ctx context.Context, _ int) error {
	if err := os.WriteFile(f.state, []byte("FROZEN"), 0o644); err != nil {
		return fmt.Errorf("freezing the containers' parent: %w", err)
	}
	for deadline := time.Now().Add(freezeBound); ; {
		now, err := os.ReadFile(f.state)
		if err != nil || string(bytes.TrimSpace(now)) == "FROZEN" {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the containers' parent is %s, not FROZEN, after %v", bytes.TrimSpace(now), freezeBound)
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

func (f *frozen) wchan() string { return "__refrigerator" }

func (f *frozen) release() error {
	if err := os.WriteFile(f.state, []byte("THAWED"), 0o644); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("thawing the containers' parent: %w", err)
	}
	return nil
}

func (f *frozen) close() error { return f.release() }

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
