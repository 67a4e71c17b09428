package ttrpc

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/fault"
	"github.com/leaklab/leaklab/harness/part"
)

// setting is one way to bring a pair under the fault.
type setting struct {
	// Network is "unix", as between containerd and its shims, or "tcp".
	Network string
	// Sndbuf is SO_SNDBUF in bytes on both ends; 0 leaves the default, 1 gives
	// the kernel's smallest.
	Sndbuf int
	// TCPWmem is net.ipv4.tcp_wmem in the arm's network namespace, or empty.
	// tcp_rmem stays at its default: with a tiny receive window fixed versions
	// stall too, for reasons of TCP.
	TCPWmem string
	// Callers make Calls calls each, one after the other, with Size bytes of
	// request and response, at the same time.
	Callers, Calls, Size int
	// Deadline of every call; 0 is none.
	Deadline time.Duration
}

// storm runs the trials, each with a pair of its own, and then the rounds of
// later calls on the pair of one of them.
func (s setting) storm(ctx context.Context, lab arm.Lab) error {
	if s.TCPWmem != "" {
		restore, err := fault.Sysctl("net.ipv4.tcp_wmem", s.TCPWmem)
		if err != nil {
			return err
		}
		defer restore()
	}
	trials := lab.Job().Plan.Trials
	var done atomic.Int64
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(4) // a stuck pair only waits; more at once would slow the others' storms
	for trial := 1; trial < trials; trial++ {
		group.Go(func() error {
			p, _, err := s.trial(groupCtx, lab, trial)
			if err != nil {
				return fmt.Errorf("trial %d: %w", trial, err)
			}
			p.stop()
			lab.Progress("trial %d of %d", done.Add(1), trials)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	p, stuck, err := s.trial(ctx, lab, trials)
	if err != nil {
		return fmt.Errorf("trial %d: %w", trials, err)
	}
	defer p.stop()
	if err := s.later(ctx, lab, p); err != nil {
		return err
	}
	return s.release(ctx, lab, p, stuck)
}

// trial starts a pair, lets the storm loose on it and says whether it
// deadlocked.
func (s setting) trial(ctx context.Context, lab arm.Lab, trial int) (p *pair, stuck bool, err error) {
	p, err = startPair(ctx, lab, s, trial)
	if err != nil {
		return nil, false, err
	}
	defer func() {
		if err != nil {
			p.stop()
		}
	}()
	err = p.client.Ask(ctx, "storm", part.Params{
		"callers": s.Callers, "calls": s.Calls, "size": s.Size, "deadlineMs": int(s.Deadline.Milliseconds()),
	}, nil)
	if err != nil {
		return nil, false, err
	}
	seen, stuck, at, err := p.watch(ctx, s, int64(s.Callers)*int64(s.Calls))
	if err != nil {
		return nil, false, err
	}
	for _, o := range []struct {
		name string
		yes  bool
	}{{deadlock, stuck}, {stackCircle, seen.Circle}, {fullQueues, seen.Queues}} {
		result := arm.OutcomeResult{Name: o.name, Trial: trial, Yes: o.yes}
		if o.yes {
			result.Seconds = at.Seconds()
			result.Detail = seen.String()
		}
		lab.Outcome(result)
	}
	if stuck && trial == 1 {
		lab.File("client-deadlocked.stacks.txt", seen.Client.Text())
		lab.File("server-deadlocked.stacks.txt", seen.Server.Text())
	}
	if !stuck {
		st, err := p.client.status(ctx)
		if err != nil {
			return nil, false, err
		}
		all := st.Answered+st.Released == int64(s.Callers)*int64(s.Calls)
		lab.Outcome(arm.OutcomeResult{Name: allAnswered, Trial: trial, Yes: all, Seconds: at.Seconds(),
			Detail: fmt.Sprintf("%d of %d calls answered", st.Answered, s.Callers*s.Calls)})
		if !all {
			lab.Note("trial %d: stalled, but it is not the circle: %v", trial, seen)
		}
	} else {
		lab.Outcome(arm.OutcomeResult{Name: allAnswered, Trial: trial, Detail: fmt.Sprintf("%d of %d calls answered", seen.answered, s.Callers*s.Calls)})
	}
	return p, stuck, nil
}

// later makes calls on the connection as it is after the storm and samples what
// stays of them.
func (s setting) later(ctx context.Context, lab arm.Lab, p *pair) error {
	if s.Deadline > 0 {
		if err := s.calm(ctx, p); err != nil {
			return err
		}
	}
	before, err := p.client.status(ctx)
	if err != nil {
		return err
	}
	if err := p.client.profile(ctx, lab, "before"); err != nil {
		return err
	}
	calls := int64(0)
	err = lab.Rounds(ctx, arm.Rounds{
		Operate: func(ctx context.Context, n int) error {
			calls += int64(n)
			return s.calls(ctx, p, n)
		},
		Read:   p.read,
		Settle: 5 * time.Second,
		Every:  20 * time.Millisecond,
		Quiet:  60 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	after, err := p.client.status(ctx)
	if err != nil {
		return err
	}
	answered, released := after.Answered-before.Answered, after.Released-before.Released
	lab.Outcome(arm.OutcomeResult{Name: callsHang, Trial: 1, Yes: after.hanging()-before.hanging() > 0,
		Detail: fmt.Sprintf("of %d later calls %d answered, %d released by their deadline, %d hang", calls, answered, released, after.hanging()-before.hanging())})
	if s.Deadline > 0 {
		lab.Outcome(arm.OutcomeResult{Name: callersReleased, Trial: 1, Yes: released+answered == calls,
			Detail: fmt.Sprintf("%d of %d callers came back", released+answered, calls)})
		lab.Outcome(arm.OutcomeResult{Name: connectionDead, Trial: 1, Yes: answered == 0,
			Detail: fmt.Sprintf("%d of %d later calls answered", answered, calls)})
	}
	if err := p.client.profile(ctx, lab, "after"); err != nil {
		return err
	}
	dump, err := p.client.Pprof().Dump(ctx)
	if err != nil {
		return err
	}
	lab.File("client-after-calls.stacks.txt", dump.Text())
	return nil
}

// calm waits until the storm's own callers have come back.
func (s setting) calm(ctx context.Context, p *pair) error {
	if err := p.client.Ask(ctx, "stop", nil, nil); err != nil {
		return err
	}
	for {
		st, err := p.client.status(ctx)
		if err != nil || st.hanging() == 0 {
			return err
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// laterSize is the request size of later calls in bytes: a stats request is
// small.
const laterSize = 64

// calls makes n calls and waits for those that can come back.
func (s setting) calls(ctx context.Context, p *pair, n int) error {
	deadline := int(s.Deadline.Milliseconds())
	if s.Callers == 1 {
		for range n {
			if err := p.client.Ask(ctx, "calls", part.Params{"n": 1, "size": laterSize, "deadlineMs": deadline, "waitMs": 5000}, nil); err != nil {
				return err
			}
		}
		return nil
	}
	wait := 0
	if s.Deadline > 0 {
		wait = deadline + 5000
	}
	return p.client.Ask(ctx, "calls", part.Params{"n": n, "size": laterSize, "deadlineMs": deadline, "waitMs": wait}, nil)
}

// release ends the server: whoever hangs on the connection is let go, which
// tells a leak that is held by the dead connection from goroutines lost for
// good.
func (s setting) release(ctx context.Context, lab arm.Lab, p *pair, stuck bool) error {
	if !stuck || s.Deadline > 0 {
		return nil
	}
	p.server.Kill()
	return p.drain(ctx, lab, "after the peer was killed")
}

// drain samples the client until none of its goroutines is in a call any more,
// or the bound is over.
func (p *pair) drain(ctx context.Context, lab arm.Lab, when string) error {
	for bound := time.Now().Add(10 * time.Second); ; {
		counters, err := p.read(ctx)
		if err != nil {
			return err
		}
		left := counters[hungCalls.Name]
		if left == 0 || time.Now().After(bound) {
			lab.Sample(arm.Sample{Phase: arm.PhaseRelease, Counters: counters, Settled: left == 0})
			lab.Outcome(arm.OutcomeResult{Name: drains, Trial: 1, Yes: left == 0,
				Detail: fmt.Sprintf("%.0f goroutines in dispatch %s", left, when)})
			return nil
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}
