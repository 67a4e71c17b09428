package cristats

import (
	"context"
	"fmt"
	"time"

	"github.com/leaklab/leaklab/harness/engine/cri"
	"github.com/leaklab/leaklab/harness/fault"
	"github.com/leaklab/leaklab/scenarios/ttrpc/circle"
)

// wire is what connects containerd with the shim of one pod: a ttrpc connection
// for the sandbox and one for the container.
type wire struct {
	node *cri.Node
	pod  cri.Pod
}

func (w wire) connections() ([]circle.Connection, error) {
	found, err := circle.Connections(circle.Unix, w.node.PID(), w.pod.Shim)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no connection between containerd and the shim of pod %.12s", w.pod.ID)
	}
	return found, nil
}

// shrink gives both ends of every connection the smallest send buffer.
func (w wire) shrink() error {
	conns, err := w.connections()
	if err != nil {
		return err
	}
	for _, c := range conns {
		for i, pid := range w.pids() {
			if err := fault.SetSndbuf(pid, c.Ends[i].Inode, 1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w wire) pids() [2]int { return [2]int{w.node.PID(), w.pod.Shim} }

// full finds the connection that is full in both directions.
func (w wire) full() (c circle.Connection, ok bool, err error) {
	conns, err := w.connections()
	if err != nil {
		return c, false, err
	}
	for _, c := range conns {
		if c.Ends[0].Recv == 0 || c.Ends[1].Recv == 0 {
			continue
		}
		var sndbuf [2]int64
		for i, pid := range w.pids() {
			n, err := fault.Sndbuf(pid, c.Ends[i].Inode)
			if err != nil {
				return c, false, err
			}
			sndbuf[i] = int64(n)
		}
		if c.Full(sndbuf) {
			return c, true, nil
		}
	}
	return conns[len(conns)-1], false, nil
}

// look takes the evidence once.
func (w wire) look(ctx context.Context) (l circle.Look, err error) {
	if l.Client, err = w.node.Pprof().Dump(ctx); err != nil {
		return l, err
	}
	if l.Server, err = w.node.ShimDump(ctx, w.pod.Shim); err != nil {
		return l, err
	}
	l.Circle = circle.Client(l.Client) && circle.Server(l.Server)
	l.Connection, l.Queues, err = w.full()
	return l, err
}

// prove takes the evidence twice, with a pause in which nothing must move.
func (w wire) prove(ctx context.Context) (circle.Look, error) {
	const between = 100 * time.Millisecond
	first, err := w.look(ctx)
	if err != nil {
		return first, err
	}
	if err := sleep(ctx, between); err != nil {
		return first, err
	}
	second, err := w.look(ctx)
	return circle.Confirm(first, second), err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
