// Package dockerstop is the scenario of "docker stop" on a container whose
// process cannot be killed: dockerd 18.09 waits for its exit without a timeout,
// and every stop leaves two goroutines and a descriptor behind.
package dockerstop

import (
	"context"
	"slices"
	"time"

	"github.com/leaklab/leaklab/harness/arm"
)

// Scenario is the catalogue's entry.
var Scenario = arm.Scenario{
	Name:   "dockerstop",
	Title:  "dockerd 18.09 keeps two goroutines and a descriptor of every stop of a container that cannot be killed",
	Report: "yylt 2021, dockerd at 26 GB and out of descriptors (claims K1–K11)",
	Story:  story,
	Frames: frames,
	Claims: claims,
	Arms:   arms(),
	Axes:   axes,
}

// The counters, per stop once it has had its time.
var (
	killing     = arm.Counter{Name: "goroutines in (*Daemon).Kill", Unit: "goroutines", Documented: 1, Decides: true}
	waiting     = arm.Counter{Name: "goroutines in (*State).Wait.func1", Unit: "goroutines", Documented: 1, Decides: true}
	descriptors = arm.Counter{Name: "dockerd fds", Unit: "fds", Documented: 1, Decides: true}
	peerless    = arm.Counter{Name: "dockerd's connections without a peer", Unit: "sockets", Documented: 1, Decides: true}
	// attached are the goroutines that notice when a client goes: while it is
	// there, the third of a stop.
	attached    = arm.Counter{Name: "goroutines of clients that are there", Unit: "goroutines", Documented: 1}
	goroutines  = arm.Counter{Name: "dockerd goroutines", Unit: "goroutines", Documented: 2}
	memory      = arm.Counter{Name: "dockerd heap and stacks in use", Unit: "bytes", Documented: reportBytes / reportStops}
	residentSet = arm.Counter{Name: "dockerd RSS", Unit: "bytes"}
)

var counters = []arm.Counter{killing, waiting, descriptors, peerless, attached, goroutines, memory, residentSet}

// attachedCounters are for clients that stay: their connections have a peer, and
// each has a goroutine more.
func attachedCounters() []arm.Counter {
	here, alone, all := attached, peerless, goroutines
	here.Decides, alone.Expect, all.Documented = true, arm.Clean, 3
	return []arm.Counter{killing, waiting, descriptors, here, alone, all, memory, residentSet}
}

// The outcomes.
const (
	unkillable     = "the container's first process is in state D"
	noExit         = "containerd sent no exit event"
	lastWaits      = "the stops wait in Kill's last wait"
	listening      = "dockerd listens to containerd's events"
	debugBySIGHUP  = "debug mode on by daemon.json and SIGHUP"
	profilesAnyway = "profiles are served without debug mode"
	bufioFirst     = "bufio's buffers are on top of the heap's growth"
	oneOfThree     = "one goroutine in three goes with the client"
	drains         = "everything drains once the process can die"
	exitComes      = "then the exit event comes"
)

// held are the outcomes of every arm whose container cannot be killed: that the
// fault is there, and that it is the process and not an event that got lost.
var held = []arm.Outcome{
	{Name: unkillable, Expect: arm.Always},
	{Name: noExit, Expect: arm.Always},
	{Name: listening, Expect: arm.Always},
	{Name: debugBySIGHUP, Expect: arm.Always},
	{Name: profilesAnyway},
	{Name: drains, Expect: arm.Always},
	{Name: exitComes, Expect: arm.Always},
}

// leaking are the outcomes of a leak arm.
func leaking(more ...arm.Outcome) []arm.Outcome {
	return slices.Concat(more, []arm.Outcome{{Name: lastWaits, Expect: arm.Always}}, held)
}

// patience is kubelet's: t, and two seconds more.
const patience = 3 * time.Second

var plan = arm.Plan{Trials: 1, Rounds: 4, MaxRounds: 12, Ops: 20, Timeout: 4 * time.Minute}

func arms() []arm.Arm {
	wedge := setting{Hold: wedgedAnswer, Patience: patience}
	slave := setting{Hold: wedgedAbort, Patience: patience, Slave: true}
	frozen := setting{Hold: frozenParent, Patience: patience}
	stays := setting{Hold: wedgedAnswer}
	heap := setting{Hold: wedgedAnswer, Patience: patience, FineHeap: true}
	control := setting{Hold: killable, Patience: patience}

	return []arm.Arm{
		stopArm(arm.Arm{
			Name:  wedgedArm,
			Kind:  arm.Leak,
			Title: "18.09, the container's pid 1 hangs in a FUSE read; stops with t=1 whose client gives up after 3 s: two goroutines and an fd stay of each",
		}, wedge, "18.09"),
		stopArm(arm.Arm{
			Name:  slaveArm,
			Kind:  arm.Leak,
			Title: "the same with dockerd under MountFlags=slave: it changes nothing",
		}, slave, "18.09"),
		stopArm(arm.Arm{
			Name:  frozenArm,
			Kind:  arm.Leak,
			Title: "the same with a process that cannot be killed because its parent cgroup is frozen",
		}, frozen, "18.09"),
		stopArm(arm.Arm{
			Name:     attachedArm,
			Kind:     arm.Leak,
			Title:    "the same with clients that do not give up: three goroutines per stop, and one in three goes with the client",
			Counters: attachedCounters(),
			Outcomes: leaking(arm.Outcome{Name: oneOfThree, Expect: arm.Always}),
		}, stays, "18.09"),
		stopArm(arm.Arm{
			Name:     heapArm,
			Kind:     arm.Leak,
			Title:    "the same with a fine heap profile: where a stop's memory is",
			Outcomes: leaking(arm.Outcome{Name: bufioFirst, Expect: arm.Always}),
		}, heap, "18.09"),
		stopArm(arm.Arm{
			Name:  timeoutArm,
			Kind:  arm.Mitigation,
			Title: "the report's proposal: 18.09 with a timeout for Kill's last wait, and no other change, leaves nothing",
			Cure:  "give the last wait in (*Daemon).Kill a timeout",
		}, wedge, "18.09-kill-timeout"),
		stopArm(arm.Arm{
			Name:  upgradeArm,
			Kind:  arm.Mitigation,
			Title: "upgrade: 20.10.24 leaves nothing of a stop that fails",
			Cure:  "upgrade to Docker 20.10",
		}, wedge, "20.10.24"),
		stopArm(arm.Arm{
			Name:  killableArm,
			Kind:  arm.Control,
			Title: "18.09, a container that is as deaf to SIGTERM but dies of SIGKILL: stops leave nothing",
			Outcomes: []arm.Outcome{
				{Name: unkillable, Expect: arm.Never},
				{Name: noExit, Expect: arm.Never},
				{Name: listening, Expect: arm.Always},
				{Name: debugBySIGHUP, Expect: arm.Always},
				{Name: profilesAnyway},
			},
		}, control, "18.09"),
	}
}

// stopArm completes an arm.
func stopArm(a arm.Arm, s setting, version string) arm.Arm {
	a.Operation = "one stop"
	a.Runtimes = []string{"dockerd@" + version, "workload@1"}
	a.Plan = plan
	if a.Counters == nil {
		a.Counters = counters
	}
	switch {
	case a.Outcomes != nil:
	case a.Kind == arm.Leak:
		a.Outcomes = leaking()
	default:
		a.Outcomes = held
	}
	a.Needs = []arm.Need{arm.NeedRoot, arm.NeedCgroup1, arm.NeedNetNS}
	if s.Hold == wedgedAnswer || s.Hold == wedgedAbort {
		a.Needs = append(a.Needs, arm.NeedFUSE)
	}
	a.Run = func(ctx context.Context, lab arm.Lab) error { return s.run(ctx, lab, a) }
	return a
}
