package cristats

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/part"
	"github.com/leaklab/leaklab/harness/probe"
)

// streamCost measures what a streaming exec costs containerd: while it is open,
// and what stays once it has run to its end.
func streamCost(ctx context.Context, lab arm.Lab) error {
	node, err := startNode(ctx, lab)
	if err != nil {
		return err
	}
	defer endNode(lab, node)
	pod, err := node.RunPod(ctx, "streams")
	if err != nil {
		return err
	}
	c, err := startClient(ctx, lab, node, "streams", pod)
	if err != nil {
		return err
	}
	defer c.Kill()
	w := wire{node, pod}
	err = lab.Rounds(ctx, arm.Rounds{
		Operate: func(ctx context.Context, n int) error {
			return c.run(ctx, "streams", 2, (n+1)/2)
		},
		Read: func(ctx context.Context) (map[string]float64, error) {
			gs, err := node.Pprof().Goroutines(ctx)
			if err != nil {
				return nil, err
			}
			proc, err := probe.ReadProcess(node.PID())
			return map[string]float64{
				streamsHeld.Name:     float64(ofStreams(gs)),
				containerdTotal.Name: float64(gs.Total()),
				containerdRSS.Name:   float64(proc.RSS),
				containerdFDs.Name:   float64(proc.FDs),
			}, err
		},
		Settle: 10 * time.Second,
		Every:  50 * time.Millisecond,
		Quiet:  300 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	return w.openStreams(ctx, lab, c)
}

// run does so many execs in each of some workers and waits for them.
func (c client) run(ctx context.Context, command string, workers, times int) error {
	before, err := c.status(ctx)
	if err != nil {
		return err
	}
	if err := c.tell(ctx, command, part.Params{"workers": workers, "times": times, "waitMs": 120_000}); err != nil {
		return err
	}
	after, err := c.status(ctx)
	if err != nil {
		return err
	}
	if got := after.Execs.Answered - before.Execs.Answered; got != int64(workers*times) {
		return fmt.Errorf("%d of %d execs were answered: %s", got, workers*times, after.Execs.FirstError)
	}
	return nil
}

// openStreams holds some streaming execs open and counts.
func (w wire) openStreams(ctx context.Context, lab arm.Lab, c client) error {
	const open = 10
	type look struct{ containerd, shim probe.Goroutines }
	dump := func() (l look, err error) {
		if l.containerd, err = w.node.Pprof().Dump(ctx); err != nil {
			return l, err
		}
		l.shim, err = w.node.ShimDump(ctx, w.pod.Shim)
		return l, err
	}
	before, err := dump()
	if err != nil {
		return err
	}
	if err := c.tell(ctx, "open", part.Params{"n": open}); err != nil {
		return err
	}
	// A stream is open before its command runs.
	if err := sleep(ctx, 2*time.Second); err != nil {
		return err
	}
	during, err := dump()
	if err != nil {
		return err
	}
	lab.File("containerd-open-streams.txt", during.containerd.Text())
	lab.File("shim-open-streams.txt", during.shim.Text())
	if err := c.tell(ctx, "close", nil); err != nil {
		return err
	}
	if err := sleep(ctx, time.Second); err != nil {
		return err
	}
	after, err := dump()
	if err != nil {
		return err
	}
	per := func(a, b probe.Goroutines) float64 { return float64(b.Total()-a.Total()) / open }
	lab.Outcome(arm.OutcomeResult{Name: streamsCost, Trial: 1, Yes: ofStreams(during.containerd) >= 3*open,
		Detail: fmt.Sprintf("per open streaming exec %.1f goroutines in containerd (%.1f of them in its streaming server) and %.1f in the shim",
			per(before.containerd, during.containerd), float64(ofStreams(during.containerd)-ofStreams(before.containerd))/open, per(before.shim, during.shim))})
	lab.Outcome(arm.OutcomeResult{Name: streamsEnd, Trial: 1, Yes: ofStreams(after.containerd) == ofStreams(before.containerd),
		Detail: fmt.Sprintf("%d goroutines in the streaming server before, %d with %d streams open, %d after", ofStreams(before.containerd), ofStreams(during.containerd), open, ofStreams(after.containerd))})
	return nil
}

// ofStreams counts the goroutines of containerd that serve streaming execs.
func ofStreams(gs probe.Goroutines) int {
	n := 0
	for _, s := range gs {
		if slices.ContainsFunc(s.Frames, func(f probe.Frame) bool {
			return strings.Contains(f.Func, "spdystream.") || strings.Contains(f.Func, "/streaming/remotecommand.") || strings.Contains(f.Func, "httpstream/spdy.")
		}) {
			n += s.Count
		}
	}
	return n
}
