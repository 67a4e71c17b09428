package dockerstop

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// tally is how a daemon's stops ended for their clients.
type tally struct {
	mu sync.Mutex
	// stopped were told that the container has stopped (204), or had before
	// (304); the docker client does not tell them apart.
	stopped int
	// left are clients that gave up, or were called off.
	left int
	// refused were answered with an error.
	refused int
	refusal string
}

func (t *tally) count(ctx context.Context, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
		t.stopped++
	case ctx.Err() != nil:
		t.left++
	default:
		t.refused++
		t.refusal = err.Error()
	}
}

func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := fmt.Sprintf("%d answered that it has stopped, %d clients gave up", t.stopped, t.left)
	if t.refused > 0 {
		text += fmt.Sprintf(", %d answered with an error (%.120s)", t.refused, t.refusal)
	}
	return text
}

// burst makes n stops at once, each on a connection of its own and with a client
// that gives up after patience, as kubelet's does; 0 is never. It returns a
// channel that is closed when all clients have come back.
func (d *daemon) burst(ctx context.Context, n int, patience time.Duration) <-chan struct{} {
	d.made += n
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			ctx, cancel := ctx, context.CancelFunc(func() {})
			if patience > 0 {
				ctx, cancel = context.WithTimeout(ctx, patience)
			}
			defer cancel()
			d.tally.count(ctx, d.stop(ctx, d.id))
		})
	}
	back := make(chan struct{})
	go func() { all.Wait(); close(back) }()
	return back
}
