package cristats

import (
	"testing"

	"github.com/leaklab/leaklab/harness/probe"
)

func TestWaitForSendMu(t *testing.T) {
	stack := func(funcs ...string) probe.Stack {
		s := probe.Stack{Count: 3}
		for _, f := range funcs {
			s.Frames = append(s.Frames, probe.Frame{Func: f})
		}
		return s
	}
	const (
		lock   = "sync.(*Mutex).Lock"
		start  = "github.com/containerd/containerd/runtime/v2/runc/v2.(*service).Start"
		send   = "github.com/containerd/containerd/runtime/v2/runc/v2.(*service).sendL"
		notify = "github.com/containerd/containerd/sys/reaper.(*Monitor).notify.func1"
	)
	for name, c := range map[string]struct {
		dump   probe.Goroutines
		exits  bool
		starts int
	}{
		"the stall":                {probe.Goroutines{stack(lock, start), stack(lock, send), stack(notify)}, true, 3},
		"starts wait as always":    {probe.Goroutines{stack(lock, start)}, false, 3},
		"an exit waits its turn":   {probe.Goroutines{stack(lock, start), stack(lock, send)}, false, 3},
		"an exit is told of":       {probe.Goroutines{stack(send), stack(notify)}, false, 0},
		"nothing waits for a lock": {probe.Goroutines{stack(start)}, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			exits, starts := waitForSendMu(c.dump)
			if exits != c.exits || starts != c.starts {
				t.Errorf("got %v, %d; want %v, %d", exits, starts, c.exits, c.starts)
			}
		})
	}
}
