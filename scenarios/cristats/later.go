package cristats

import (
	"context"
	"time"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/engine/cri"
	"github.com/leaklab/leaklab/harness/part"
	"github.com/leaklab/leaklab/harness/probe"
)

// The documented frames: a call for stats in the caller, and what it waits for
// in containerd.
const (
	frameCaller = "(*runtimeServiceClient).ListContainerStats"
	frameCRI    = "(*criService).ListContainerStats"
	frameTTRPC  = "ttrpc.(*Client).dispatch"
)

// read samples the caller and containerd.
func (t *trial) read(ctx context.Context) (map[string]float64, error) {
	caller, containerd, err := t.stacks(ctx)
	if err != nil {
		return nil, err
	}
	st, err := t.kubelet.status(ctx)
	if err != nil {
		return nil, err
	}
	callerProc, err := probe.ReadProcess(t.kubelet.PID())
	if err != nil {
		return nil, err
	}
	containerdProc, err := probe.ReadProcess(t.node.PID())
	if err != nil {
		return nil, err
	}
	memory, err := t.node.Pprof().Memory(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]float64{
		callerHung.Name:       float64(caller.In(frameCaller)),
		containerdHung.Name:   float64(containerd.In(frameCRI, frameTTRPC)),
		callerTotal.Name:      float64(caller.Total()),
		containerdTotal.Name:  float64(containerd.Total()),
		callerMemory.Name:     float64(st.HeapAndStack),
		containerdMemory.Name: memory,
		callerRSS.Name:        float64(callerProc.RSS),
		containerdRSS.Name:    float64(containerdProc.RSS),
		callerFDs.Name:        float64(callerProc.FDs),
		containerdFDs.Name:    float64(containerdProc.FDs),
	}, nil
}

// later asks for stats again and again, as kubelet does every period, on the
// node as it is after the storm, and samples what stays of the calls.
func (t *trial) later(ctx context.Context) error {
	before, err := t.calm(ctx)
	if err != nil {
		return err
	}
	calls := int64(0)
	err = t.lab.Rounds(ctx, arm.Rounds{
		Operate: func(ctx context.Context, n int) error {
			calls += int64(n)
			p := part.Params{"n": n}
			if t.Deadline > 0 {
				p["deadlineMs"] = int(t.Deadline.Milliseconds())
				p["waitMs"] = p["deadlineMs"] + 5000
			}
			return t.kubelet.tell(ctx, "stats", p)
		},
		Read:   t.read,
		Settle: 5 * time.Second,
		Every:  30 * time.Millisecond,
		Quiet:  90 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	after, err := t.kubelet.status(ctx)
	if err != nil {
		return err
	}
	answered, released := after.Stats.Answered-before.Stats.Answered, after.Stats.Released-before.Stats.Released
	hang := after.Stats.hanging() - before.Stats.hanging()
	empty := after.Stats.Empty - before.Stats.Empty
	t.tell(callsHang, hang > 0, 0, "of %d later calls %d answered, %d answered without figures, %d released by their deadline, %d hang, %d failed",
		calls, answered, empty, released, hang, after.Stats.Failed-before.Stats.Failed)
	if t.Deadline > 0 {
		t.tell(callersReleased, released+empty+answered == calls, 0, "%d of %d callers came back, %d of them with a list without the container's figures",
			released+empty+answered, calls, empty)
		still, err := t.prove(ctx)
		if err != nil {
			return err
		}
		t.tell(connectionDead, answered == 0 && still.Proven(), 0, "%d of %d later calls answered; %v", answered, calls, still)
	}
	caller, err := t.kubelet.Pprof().Dump(ctx)
	if err != nil {
		return err
	}
	containerd, err := t.node.Pprof().Dump(ctx)
	if err != nil {
		return err
	}
	t.lab.File("caller-after-calls.txt", caller.Text())
	t.lab.File("containerd-after-calls.txt", containerd.Text())
	return nil
}

// calm waits for calls that will come back by their deadline.
func (t *trial) calm(ctx context.Context) (callerStatus, error) {
	for {
		st, err := t.kubelet.status(ctx)
		if err != nil || t.Deadline == 0 || st.Stats.hanging() == 0 {
			return st, err
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return st, err
		}
	}
}

// release lets go of what hangs: by the death of the shim or, where the setting
// says so, a restart of containerd. It tells a leak that the dead connection
// holds from goroutines lost for good.
func (t *trial) release(ctx context.Context) error {
	if !t.dead {
		return nil
	}
	how := "the shim was killed"
	if t.Restart {
		how = "containerd was restarted"
		if err := t.node.Restart(ctx); err != nil {
			return err
		}
	} else if err := t.pod.KillShim(); err != nil {
		return err
	}
	const bound = 15 * time.Second
	start := time.Now()
	var counters map[string]float64
	for {
		var err error
		if counters, err = t.read(ctx); err != nil {
			return err
		}
		if counters[callerHung.Name]+counters[containerdHung.Name] == 0 || time.Since(start) > bound {
			break
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	caller, containerd := counters[callerHung.Name], counters[containerdHung.Name]
	t.lab.Sample(arm.Sample{Phase: arm.PhaseRelease, Round: t.number, Counters: counters, Settled: caller+containerd == 0})
	t.tell(letGo, caller+containerd == 0, time.Since(start), "%.0f calls hang in the caller and %.0f in containerd after %s", caller, containerd, how)
	before, err := t.kubelet.status(ctx)
	if err != nil {
		return err
	}
	if err := t.kubelet.tell(ctx, "stats", part.Params{"n": 1, "deadlineMs": 5000, "waitMs": 6000}); err != nil {
		return err
	}
	after, err := t.kubelet.status(ctx)
	if err != nil {
		return err
	}
	// A container whose shim was killed has no figures any more.
	again := after.Stats.Answered > before.Stats.Answered || !t.Restart && after.Stats.Empty > before.Stats.Empty
	t.tell(answersAgain, again, 0, "a call for stats after %s: %+v", how, after.Stats)
	return nil
}

// radius shows how far one dead connection reaches: the list of all pods hangs,
// questions about single other pods are answered.
func (t *trial) radius(ctx context.Context, others []cri.Pod) error {
	if !t.dead {
		t.tell(allHang, false, 0, "no deadlock")
		return nil
	}
	hang, detail, err := t.hangs(ctx, everyPod)
	if err != nil {
		return err
	}
	t.tell(allHang, hang, 0, "%s of all %d pods", detail, len(others)+1)
	hang, detail, err = t.hangs(ctx, 1)
	if err != nil {
		return err
	}
	t.tell(podHangs, hang, 0, "%s of the pod itself", detail)
	answered := 0
	for i := range others {
		before, err := t.kubelet.status(ctx)
		if err != nil {
			return err
		}
		if err := t.kubelet.tell(ctx, "stats", part.Params{"n": 1, "of": 2 + i, "deadlineMs": 5000, "waitMs": 6000}); err != nil {
			return err
		}
		after, err := t.kubelet.status(ctx)
		if err != nil {
			return err
		}
		if after.Stats.Answered == before.Stats.Answered+1 && after.Listed == 1 {
			answered++
		}
	}
	t.tell(othersAnswer, answered == len(others), 0, "%d of %d other pods answer when asked alone", answered, len(others))
	return nil
}
