package cristats

import (
	"context"
	"fmt"
	"time"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/engine/cri"
	"github.com/leaklab/leaklab/harness/part"
	"github.com/leaklab/leaklab/harness/probe"
	"github.com/leaklab/leaklab/scenarios/ttrpc/circle"
)

// setting is one way to bring a node under load.
type setting struct {
	// Small gives the sockets between containerd and the shim the smallest send
	// buffer.
	Small bool
	// Execs is the number of clients that exec one command after the other, at
	// the same time as one asks for stats, one list after the other.
	Execs int
	// Streams lets the execs take the streaming path, as kubectl exec does.
	Streams bool
	// Exposure is how long a storm goes on if there is no deadlock, Storms how
	// many follow each other in a trial, each on a pod of its own, until there
	// is one: it is a matter of chance. 0 means one.
	Exposure time.Duration
	Storms   int
	// Deadline of the stats calls; 0 is none, as in kubelet.
	Deadline time.Duration
	// Restart lets go of the hung calls by restarting containerd instead of
	// killing the shim.
	Restart bool
	// Pods is the number of pods on the node, of which one is under the storm.
	Pods int
}

// trial is one pod under one storm.
type trial struct {
	setting
	wire
	lab    arm.Lab
	number int
	// kubelet asks for stats, storm does the execs: two processes, so that one
	// can go.
	kubelet, storm client
	// proof is the last evidence, dead whether it is a proof.
	proof circle.Look
	dead  bool
	stall stall
}

// run runs the trials one after the other on one node, each with a pod and
// clients of its own, and the rounds of later calls in the last.
func (s setting) run(ctx context.Context, lab arm.Lab) error {
	node, err := startNode(ctx, lab)
	if err != nil {
		return err
	}
	defer endNode(lab, node)
	others, err := s.others(ctx, node)
	if err != nil {
		return err
	}
	trials := lab.Job().Plan.Trials
	for i := 1; i <= trials; i++ {
		lab.Progress("trial %d of %d", i, trials)
		if err := s.trial(ctx, lab, node, others, i, i == trials); err != nil {
			return fmt.Errorf("trial %d: %w", i, err)
		}
	}
	return nil
}

func startNode(ctx context.Context, lab arm.Lab) (*cri.Node, error) {
	lab.Progress("starting containerd")
	return cri.Start(ctx, cri.Options{
		Containerd: lab.Bin(containerdName, "containerd"),
		Ctr:        lab.Bin(containerdName, "ctr"),
		Shims:      lab.Job().Runtimes[shimName],
		Workload:   lab.Bin(workloadName, "workload"),
		Dir:        lab.Dir("node"),
	})
}

// others starts the pods that are left in peace.
func (s setting) others(ctx context.Context, node *cri.Node) ([]cri.Pod, error) {
	var pods []cri.Pod
	for i := 1; i < s.Pods; i++ {
		p, err := node.RunPod(ctx, fmt.Sprintf("other-%d", i))
		if err != nil {
			return nil, err
		}
		pods = append(pods, p)
	}
	return pods, nil
}

// trial lets storms loose until one deadlocks, and then does what the arm is
// about.
func (s setting) trial(ctx context.Context, lab arm.Lab, node *cri.Node, others []cri.Pod, number int, last bool) error {
	t := &trial{setting: s, wire: wire{node: node}, lab: lab, number: number}
	for n := 1; ; n++ {
		if err := t.prepare(ctx, fmt.Sprintf("%d-%d", number, n), others); err != nil {
			return err
		}
		defer t.kubelet.Kill()
		defer t.storm.Kill()
		if err := t.expose(ctx); err != nil {
			return err
		}
		if t.dead || n >= s.Storms {
			break
		}
		lab.Progress("trial %d: no deadlock in storm %d of at most %d", number, n, s.Storms)
		if err := t.cutOff(ctx); err != nil {
			return err
		}
	}
	if t.dead {
		if err := t.leave(ctx); err != nil {
			return err
		}
	} else {
		t.missed()
		if err := t.end(ctx); err != nil {
			return err
		}
	}
	t.stall.tell(t)
	if len(others) > 0 {
		if err := t.radius(ctx, others); err != nil {
			return err
		}
	}
	if last {
		if err := t.later(ctx); err != nil {
			return err
		}
	}
	if err := t.release(ctx); err != nil {
		return err
	}
	return node.RemovePod(ctx, t.pod)
}

// prepare makes the pod and the clients of a storm.
func (t *trial) prepare(ctx context.Context, name string, others []cri.Pod) (err error) {
	if t.pod, err = t.node.RunPod(ctx, "storm-"+name); err != nil {
		return err
	}
	if t.Small {
		if err := t.shrink(); err != nil {
			return err
		}
	}
	if t.kubelet, err = startClient(ctx, t.lab, t.node, "kubelet-"+name, append([]cri.Pod{t.pod}, others...)...); err != nil {
		return err
	}
	if t.storm, err = startClient(ctx, t.lab, t.node, "execs-"+name, t.pod); err != nil {
		t.kubelet.Kill()
		return err
	}
	t.stall.reset()
	return nil
}

// cutOff ends a storm with its pod by force.
func (t *trial) cutOff(ctx context.Context) error {
	t.storm.Kill()
	if err := t.kubelet.tell(ctx, "stop", nil); err != nil {
		return err
	}
	if err := t.pod.KillShim(); err != nil {
		return err
	}
	return t.node.RemovePod(ctx, t.pod)
}

// tell records an outcome of this trial.
func (t *trial) tell(name string, yes bool, at time.Duration, format string, args ...any) {
	t.lab.Outcome(arm.OutcomeResult{Name: name, Trial: t.number, Yes: yes, Seconds: at.Seconds(), Detail: fmt.Sprintf(format, args...)})
}

// expose lets the storm loose and watches for the deadlock: full queues make it
// look. A storm without one is stopped after the exposure, and waited for.
func (t *trial) expose(ctx context.Context) error {
	const every = 10 * time.Millisecond
	command := "execs"
	if t.Streams {
		command = "streams"
	}
	if err := t.kubelet.tell(ctx, "loop", part.Params{"deadlineMs": int(t.Deadline.Milliseconds())}); err != nil {
		return err
	}
	if err := t.storm.tell(ctx, command, part.Params{"workers": t.Execs}); err != nil {
		return err
	}
	start := time.Now()
	for time.Since(start) < t.Exposure {
		c, full, err := t.full()
		if err != nil {
			return err
		}
		t.proof.Connection = c
		if full {
			at := time.Since(start)
			if t.proof, err = t.prove(ctx); err != nil {
				return err
			}
			if t.dead = t.proof.Proven(); t.dead {
				t.found(at)
				return nil
			}
			continue
		}
		if err := t.watchStall(ctx); err != nil {
			return err
		}
		if t.stall.named && t.Storms > 1 {
			return nil // it takes minutes to drain; another storm is due
		}
		if err := sleep(ctx, every); err != nil {
			return err
		}
	}
	return nil
}

// found and missed tell how the storms ended.
func (t *trial) found(at time.Duration) {
	for _, name := range []string{deadlock, stackCircle, fullQueues} {
		t.tell(name, true, at, "%v", t.proof)
	}
	if t.number == 1 {
		t.lab.File("containerd-deadlocked.txt", t.proof.Client.Text())
		t.lab.File("shim-deadlocked.txt", t.proof.Server.Text())
	}
}

func (t *trial) missed() {
	t.tell(deadlock, false, 0, "none in %d storms of at most %v; %v", max(t.Storms, 1), t.Exposure, t.proof)
	t.tell(stackCircle, t.proof.Circle, 0, "%v", t.proof)
	t.tell(fullQueues, t.proof.Queues, 0, "%v", t.proof)
}

// leave takes the storm's clients away, and looks again.
func (t *trial) leave(ctx context.Context) error {
	t.storm.Kill()
	again, err := t.prove(ctx)
	if err != nil {
		return err
	}
	if err := t.kubelet.tell(ctx, "stop", nil); err != nil {
		return err
	}
	if t.Deadline > 0 {
		t.tell(outlives, again.Proven(), 0, "%v", again)
		return nil
	}
	hang, detail, err := t.hangs(ctx, everyPod)
	if err != nil {
		return err
	}
	t.tell(outlives, again.Proven() && hang, 0, "%v; %s", again, detail)
	return nil
}

// everyPod asks for the stats of all pods; 1 is the pod of the trial, and the
// others follow.
const everyPod = 0

// hangs makes two calls for stats without a deadline and reports whether they
// are still out after a while.
func (t *trial) hangs(ctx context.Context, of int) (hang bool, detail string, err error) {
	const calls, patience = 2, 700
	before, err := t.kubelet.status(ctx)
	if err != nil {
		return false, "", err
	}
	if err := t.kubelet.tell(ctx, "stats", part.Params{"n": calls, "of": of, "waitMs": patience}); err != nil {
		return false, "", err
	}
	after, err := t.kubelet.status(ctx)
	if err != nil {
		return false, "", err
	}
	out := after.Stats.hanging() - before.Stats.hanging()
	return out >= calls, fmt.Sprintf("%d of %d new calls for stats were out after %d ms", out, calls, patience), nil
}

// end stops a storm without a deadlock and waits for its calls. Where they hang
// in the other stall, which takes minutes to drain, it cuts them off: the shim
// is killed, and whatever comes later is asked of a pod in its place.
func (t *trial) end(ctx context.Context) error {
	const bound = 2 * time.Minute
	for _, c := range []client{t.kubelet, t.storm} {
		if err := c.tell(ctx, "stop", nil); err != nil {
			return err
		}
	}
	for start := time.Now(); ; {
		k, err := t.kubelet.status(ctx)
		if err != nil {
			return err
		}
		x, err := t.storm.status(ctx)
		if err != nil {
			return err
		}
		out := k.Stats.hanging() + x.Execs.hanging()
		if out == 0 || t.stall.named || time.Since(start) > bound {
			bad := k.Stats.Failed + x.Execs.Failed
			t.tell(allAnswered, out == 0 && bad == 0, time.Since(start), "%d lists and %d execs answered, %d out, %d failed %s%s",
				k.Stats.Answered, x.Execs.Answered, out, bad, k.Stats.FirstError, x.Execs.FirstError)
		}
		switch {
		case out == 0:
			return nil
		case t.stall.named:
			return t.replace(ctx)
		case time.Since(start) > bound:
			return fmt.Errorf("%d calls of the storm are out %v after its end, and it is neither of the two stalls", out, bound)
		}
		if err := t.watchStall(ctx); err != nil {
			return err
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// replace ends the trial's pod by force and starts another in its place.
func (t *trial) replace(ctx context.Context) error {
	if err := t.cutOff(ctx); err != nil {
		return err
	}
	pod, err := t.node.RunPod(ctx, fmt.Sprintf("after-%d", t.number))
	t.pod = pod
	return err
}

// endNode stops containerd and hands over what it and the shims have said.
func endNode(lab arm.Lab, node *cri.Node) {
	if err := node.Stop(); err != nil {
		lab.Note("stopping containerd: %v", err)
	}
	text, err := node.ReadLog()
	if err != nil {
		lab.Note("containerd's log cannot be read: %v", err)
		return
	}
	lab.File("containerd.log", text)
}

// stacks reads what the deciding counters need.
func (t *trial) stacks(ctx context.Context) (caller, containerd probe.Goroutines, err error) {
	if caller, err = t.kubelet.Pprof().Goroutines(ctx); err != nil {
		return nil, nil, err
	}
	containerd, err = t.node.Pprof().Goroutines(ctx)
	return caller, containerd, err
}
