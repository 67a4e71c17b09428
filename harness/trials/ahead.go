package trials

import (
	"context"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// niceness of what is made ahead: it takes only what the running trials leave.
const niceness = 19

// ahead makes subjects that may be wanted next, one at a time, at the lowest
// priority.
type ahead struct {
	// make makes the subject of one version.
	make func(ctx context.Context, version string) error

	mu sync.Mutex
	// wanted is what was asked for last, queue what is left of it.
	wanted, queue []string
	busy          string
	cancel        context.CancelFunc
	// done is closed when the one that is being made is finished.
	done chan struct{}
	// failed has what could not be made, so that it is not tried twice.
	failed map[string]error
}

// want replaces what is to be made. What is being made goes on.
func (a *ahead) want(ctx context.Context, versions []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wanted, a.queue = versions, slices.Clone(versions)
	if a.busy == "" {
		a.next(ctx)
	}
}

// next starts on the first of the queue. The caller holds the lock.
func (a *ahead) next(ctx context.Context) {
	if len(a.queue) == 0 || ctx.Err() != nil {
		return
	}
	version := a.queue[0]
	a.busy, a.queue = version, a.queue[1:]
	made, cancel := context.WithCancel(ctx)
	a.cancel, a.done = cancel, make(chan struct{})
	go func() {
		// Priorities belong to threads, and children have that of the thread
		// that starts them. A thread that is never unlocked ends with its
		// goroutine. Where the priority cannot be lowered, it is not.
		runtime.LockOSThread()
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, niceness)
		err := a.make(made, version)
		a.mu.Lock()
		defer a.mu.Unlock()
		if err != nil && made.Err() == nil {
			a.failed[version] = err
		}
		cancel()
		close(a.done)
		a.busy = ""
		a.next(ctx)
	}()
}

// yield clears the way for a version that is to be tested now, and returns the
// error if it could not be made. If it is being made, that is given up: at this
// priority it might take for ever, and the compiler's cache keeps what is done.
// So is what nobody wants any more.
func (a *ahead) yield(ctx context.Context, version string) error {
	a.mu.Lock()
	var done chan struct{}
	switch {
	case a.busy == version:
		a.cancel()
		done = a.done
	case a.busy != "" && !slices.Contains(a.wanted, a.busy):
		a.cancel()
	}
	a.mu.Unlock()
	if done != nil {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-done:
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failed[version]
}

// stop gives up what is being made and waits for its end.
func (a *ahead) stop() {
	a.mu.Lock()
	a.queue = nil
	done := a.done
	if a.busy == "" {
		done = nil
	} else {
		a.cancel()
	}
	a.mu.Unlock()
	if done != nil {
		<-done
	}
}
