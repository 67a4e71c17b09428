package ttrpc

import (
	"context"
	"fmt"
	"time"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/part"
)

// stalledPeer stops the server from reading (SIGSTOP, as a shim that hangs) and
// calls it with a deadline: containerd/ttrpc issue 174 says that a sender can
// block in its write without honouring the context.
func (s setting) stalledPeer(ctx context.Context, lab arm.Lab) error {
	p, err := startPair(ctx, lab, s, 1)
	if err != nil {
		return err
	}
	defer p.stop()
	if err := p.client.Ask(ctx, "calls", part.Params{"n": 1, "size": s.Size, "waitMs": 5000}, nil); err != nil {
		return err
	}
	if err := p.server.freeze(); err != nil {
		return err
	}
	defer p.server.thaw()
	before, err := p.client.status(ctx)
	if err != nil {
		return err
	}
	if before.Answered != 1 {
		return fmt.Errorf("the server did not answer before it was stopped")
	}
	if err := p.client.profile(ctx, lab, "before"); err != nil {
		return err
	}
	deadline := int(s.Deadline.Milliseconds())
	// A caller that is half a second late has not come back at its deadline.
	const late = 500
	calls := 0
	err = lab.Rounds(ctx, arm.Rounds{
		Operate: func(ctx context.Context, n int) error {
			calls += n
			return p.client.Ask(ctx, "calls", part.Params{"n": n, "size": s.Size, "deadlineMs": deadline, "waitMs": deadline + late}, nil)
		},
		Read:   p.read,
		Settle: 5 * time.Second,
		Every:  20 * time.Millisecond,
		Quiet:  60 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	st, err := p.client.status(ctx)
	if err != nil {
		return err
	}
	lab.Outcome(arm.OutcomeResult{Name: callersReleased, Trial: 1, Yes: st.Released == int64(calls),
		Detail: fmt.Sprintf("%d of %d callers were back %d ms after their deadline of %d ms", st.Released, calls, late, deadline)})
	if err := p.client.profile(ctx, lab, "after"); err != nil {
		return err
	}
	dump, err := p.client.Pprof().Dump(ctx)
	if err != nil {
		return err
	}
	lab.File("client-stalled-peer.stacks.txt", dump.Text())

	if err := p.server.thaw(); err != nil {
		return err
	}
	return p.drain(ctx, lab, "once the peer reads again")
}
