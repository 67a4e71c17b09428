package ttrpc

import (
	"context"
	"fmt"
	"time"

	"github.com/leaklab/leaklab/scenarios/ttrpc/circle"
)

// proof is the evidence of one look at a silent pair.
type proof struct {
	circle.Look
	// answered is the number of calls that have been answered so far.
	answered int64
}

// look takes the evidence.
func (p *pair) look(ctx context.Context, network string) (proof, error) {
	var pr proof
	var err error
	if pr.Client, err = p.client.Pprof().Dump(ctx); err != nil {
		return pr, err
	}
	if pr.Server, err = p.server.Pprof().Dump(ctx); err != nil {
		return pr, err
	}
	client, err := p.client.status(ctx)
	if err != nil {
		return pr, err
	}
	server, err := p.server.status(ctx)
	if err != nil {
		return pr, err
	}
	pr.answered = client.Answered
	pr.Circle = circle.Client(pr.Client) && circle.Server(pr.Server)
	found, err := circle.Connections(network, p.client.PID(), p.server.PID())
	if err != nil {
		return pr, err
	}
	if len(found) != 1 {
		return pr, fmt.Errorf("%d %s connections between client and server, not one", len(found), network)
	}
	pr.Connection = found[0]
	pr.Queues = found[0].Full([2]int64{client.Sndbuf, server.Sndbuf})
	return pr, nil
}

// confirm joins two looks; a call that was answered in between disproves.
func (a proof) confirm(b proof) proof {
	joined := proof{circle.Confirm(a.Look, b.Look), b.answered}
	if a.answered != b.answered {
		joined.Circle, joined.Queues = false, false
	}
	return joined
}

func (a proof) String() string {
	return fmt.Sprintf("%v; %d calls answered", a.Look, a.answered)
}

// watch waits until a storm of calls is over or has come to a stand. Silence
// only makes it look; what it looks for twice, with nothing moved in between,
// is the circle and the queues.
func (p *pair) watch(ctx context.Context, s setting, calls int64) (last proof, stuck bool, at time.Duration, err error) {
	const (
		every   = 5 * time.Millisecond
		silence = 60 * time.Millisecond
		between = 100 * time.Millisecond
		bound   = 30 * time.Second
	)
	start := time.Now()
	moved, answered := start, int64(-1)
	for time.Since(moved) < bound {
		st, err := p.client.status(ctx)
		if err != nil {
			return last, false, 0, err
		}
		if st.Failed > 0 {
			return last, false, 0, fmt.Errorf("%d calls failed: %s", st.Failed, st.FirstError)
		}
		if st.Answered+st.Released == calls {
			return last, false, time.Since(start), nil
		}
		if st.Answered != answered {
			moved, answered = time.Now(), st.Answered
		}
		if time.Since(moved) > silence {
			first, err := p.look(ctx, s.Network)
			if err != nil {
				return last, false, 0, err
			}
			if err := sleep(ctx, between); err != nil {
				return last, false, 0, err
			}
			if last, err = p.look(ctx, s.Network); err != nil {
				return last, false, 0, err
			}
			if last = first.confirm(last); last.Proven() {
				return last, true, moved.Sub(start), nil
			}
		}
		if err := sleep(ctx, every); err != nil {
			return last, false, 0, err
		}
	}
	return last, false, time.Since(start), nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
