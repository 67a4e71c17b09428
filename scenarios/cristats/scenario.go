// Package cristats is the scenario of kubelet's stats: ListContainerStats has no
// timeout, the ttrpc 1.0.x connection of containerd to one shim deadlocks under
// a storm of execs, and from then on every call for stats hangs and leaks in
// kubelet and in containerd. It runs the real containerd, shim and runc behind
// the real CRI.
package cristats

import (
	"context"
	"slices"
	"time"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/engine/recipe"
)

// Scenario is the catalogue's entry.
var Scenario = arm.Scenario{
	Name:   "cristats",
	Title:  "an exec storm deadlocks containerd's connection to a shim; every ListContainerStats hangs in kubelet and containerd",
	Report: "yylt 2021, a kubelet memory leak (claims T1, T4–T10)",
	Story:  story,
	Frames: frames,
	Claims: claims,
	Arms:   arms(),
	Axes:   axes,
	Parts: map[string]func(context.Context, []string) error{
		callerPart: runCaller,
	},
}

// The counters, per later call for stats.
var (
	callerHung       = arm.Counter{Name: "caller goroutines in ListContainerStats", Unit: "goroutines", Documented: 1, Decides: true}
	containerdHung   = arm.Counter{Name: "containerd goroutines in ListContainerStats and ttrpc dispatch", Unit: "goroutines", Documented: 1, Decides: true}
	callerTotal      = arm.Counter{Name: "caller goroutines", Unit: "goroutines", Documented: 1}
	containerdTotal  = arm.Counter{Name: "containerd goroutines", Unit: "goroutines", Documented: 1}
	callerMemory     = arm.Counter{Name: "caller heap and stacks in use", Unit: "bytes"}
	containerdMemory = arm.Counter{Name: "containerd heap and stacks in use", Unit: "bytes"}
	callerRSS        = arm.Counter{Name: "caller RSS", Unit: "bytes"}
	containerdRSS    = arm.Counter{Name: "containerd RSS", Unit: "bytes"}
	callerFDs        = arm.Counter{Name: "caller fds", Unit: "fds"}
	containerdFDs    = arm.Counter{Name: "containerd fds", Unit: "fds"}
	// The report: a streaming exec takes at least three goroutines.
	streamsHeld = arm.Counter{Name: "containerd goroutines of streaming execs", Unit: "goroutines", Documented: 3, Decides: true}
)

var counters = []arm.Counter{
	callerHung, containerdHung, callerTotal, containerdTotal, callerMemory, containerdMemory, callerRSS, containerdRSS, callerFDs, containerdFDs,
}

// The outcomes.
const (
	deadlock        = "deadlock"
	stackCircle     = "stack circle through containerd and shim"
	fullQueues      = "full queues at both ends"
	outlives        = "hang outlives the storm's clients"
	callsHang       = "later calls for stats hang"
	allAnswered     = "every call of the storm answered"
	letGo           = "hung calls let go by the release"
	answersAgain    = "stats answered again after the release"
	callersReleased = "callers come back at their deadline"
	connectionDead  = "connection answers nothing any more"
	otherStall      = "other stall (eventSendMu), not counted"
	allHang         = "the list of all pods hangs"
	podHangs        = "stats of the dead pod alone hang"
	othersAnswer    = "stats of the other pods alone answered"
	streamsCost     = "an open streaming exec holds three goroutines of containerd's or more"
	streamsEnd      = "containerd's goroutines of streams end with the streams"
)

// The runtimes.
const (
	containerdName = recipe.CRIContainerdName
	shimName       = recipe.CRIShimName
	workloadName   = "workload"

	// shipped is the containerd of the report, with ttrpc 1.0.2 as it came.
	shipped = "1.5.1"
	// fixedTTRPC is the same containerd with nothing but ttrpc replaced.
	fixedTTRPC = "1.5.1+ttrpc1.1.0"
	// upgraded is the first release that requires ttrpc 1.1.0.
	upgraded = "1.5.8"
)

// The storms. Up to ten execs at a time keep clear of the other stall.
var (
	small    = setting{Small: true, Execs: 10, Exposure: exposed, Storms: 4}
	standard = setting{Execs: 200, Exposure: 2 * exposed, Storms: 6}
)

// exposed is how long a storm goes on that finds nothing: more than ten times as
// long as the same storm takes to deadlock.
const exposed = 4 * time.Second

var plan = arm.Plan{Trials: 6, Rounds: 4, MaxRounds: 12, Ops: 100, Warmup: 20, Timeout: 6 * time.Minute}

func arms() []arm.Arm {
	proof := []arm.Outcome{
		{Name: deadlock, Expect: arm.Always, Decides: true},
		{Name: stackCircle, Expect: arm.Always},
		{Name: fullQueues, Expect: arm.Always},
		{Name: outlives, Expect: arm.Always},
		{Name: callsHang, Expect: arm.Always},
		{Name: letGo, Expect: arm.Always},
		{Name: answersAgain, Expect: arm.Always},
		{Name: otherStall},
	}
	never := []arm.Outcome{
		{Name: deadlock, Expect: arm.Never, Decides: true},
		{Name: stackCircle, Expect: arm.Never},
		{Name: fullQueues, Expect: arm.Never},
		{Name: allAnswered, Expect: arm.Always},
		{Name: callsHang, Expect: arm.Never},
		{Name: otherStall},
	}
	// 200 execs at a time run into the other stall, whatever the ttrpc.
	neverDefault := slices.Clone(never)
	neverDefault[3].Expect = arm.Shown
	restart, timeout, ten, stream, quiet := small, small, small, standard, setting{Execs: 1, Exposure: exposed}
	restart.Restart = true
	timeout.Deadline = 500 * time.Millisecond
	ten.Pods = 10
	stream.Streams = true
	once := func(s setting) setting { s.Exposure, s.Storms = exposed, 1; return s }
	all := []arm.Arm{
		stormArm("small-1.5.1", arm.Leak, small, shipped, shipped, proof,
			"containerd 1.5.1 with the smallest socket buffers deadlocks under 10 execs at a time; killing the shim lets go"),
		stormArm("default-1.5.1", arm.Leak, standard, shipped, shipped, proof,
			"containerd 1.5.1 untouched deadlocks under 200 execs at a time, as in the report"),
		stormArm("stream-1.5.1", arm.Leak, stream, shipped, shipped, proof,
			"the same by 200 streaming execs (SPDY), as kubectl exec does"),
		stormArm("small-ttrpc-1.1.0-in-shim", arm.Leak, small, shipped, fixedTTRPC, proof,
			"ttrpc 1.1.0 in the shim alone changes nothing: the client decides"),
		stormArm("restart-1.5.1", arm.Leak, restart, shipped, shipped, proof,
			"containerd 1.5.1 as in small; restarting containerd lets go, and the same shim answers again"),
		stormArm("pods-1.5.1", arm.Leak, ten, shipped, shipped, append([]arm.Outcome{
			{Name: allHang, Expect: arm.Always}, {Name: podHangs, Expect: arm.Always}, {Name: othersAnswer, Expect: arm.Always}}, proof...),
			"10 pods, one dead connection: the list of all hangs, each other pod asked alone answers"),
		stormArm("small-ttrpc-1.1.0-in-containerd", arm.Mitigation, once(small), fixedTTRPC, shipped, never,
			"ttrpc 1.1.0 in containerd alone: no deadlock"),
		stormArm("small-ttrpc-1.1.0", arm.Mitigation, once(small), fixedTTRPC, fixedTTRPC, never,
			"ttrpc 1.1.0 in containerd and shim: no deadlock"),
		stormArm("default-ttrpc-1.1.0", arm.Mitigation, once(standard), fixedTTRPC, fixedTTRPC, neverDefault,
			"ttrpc 1.1.0 in both, untouched buffers, 200 execs at a time: no deadlock"),
		stormArm("small-1.5.8", arm.Mitigation, once(small), upgraded, upgraded, never,
			"upgrade: containerd 1.5.8, which requires ttrpc 1.1.0: no deadlock"),
		stormArm("default-1.5.8", arm.Mitigation, once(standard), upgraded, upgraded, neverDefault,
			"upgrade: containerd 1.5.8, untouched buffers, 200 execs at a time: no deadlock"),
		stormArm("timeout-1.5.1", arm.Mitigation, timeout, shipped, shipped, []arm.Outcome{
			{Name: deadlock, Expect: arm.Always},
			{Name: stackCircle, Expect: arm.Always},
			{Name: fullQueues, Expect: arm.Always},
			{Name: outlives, Expect: arm.Always},
			{Name: callersReleased, Expect: arm.Always},
			{Name: connectionDead, Expect: arm.Always},
			{Name: callsHang, Expect: arm.Never},
			{Name: letGo, Expect: arm.Always},
			{Name: otherStall},
		}, "containerd 1.5.1 deadlocks as in small, but calls for stats with a deadline of 500 ms come back; the connection stays dead"),
		stormArm("normal-1.5.1", arm.Control, quiet, shipped, shipped, never,
			"containerd 1.5.1 on a normal node, stats and one exec at a time for as long: nothing hangs"),
		nodeArm(arm.Arm{
			Name:      "stream-cost-1.5.1",
			Kind:      arm.Control,
			Title:     "what streaming execs (SPDY, kubectl exec) cost containerd 1.5.1 while they are open; run to their end they leave nothing",
			Operation: "one streaming exec, run to its end",
			Counters:  []arm.Counter{streamsHeld, containerdTotal, containerdRSS, containerdFDs},
			Outcomes:  []arm.Outcome{{Name: streamsCost, Expect: arm.Always}, {Name: streamsEnd, Expect: arm.Always}},
			// An exec takes a tenth of a second, a call for stats a thousandth.
			Plan: arm.Plan{Ops: 20, Warmup: 4},
			Run:  streamCost,
		}, shipped, shipped),
	}
	for i := range all {
		all[i].Cure = cures[all[i].Name]
	}
	return all
}

// cures are what a reader can do, by the mitigation that shows it.
var cures = map[string]string{
	"small-ttrpc-1.1.0-in-containerd": "build containerd with ttrpc 1.1.0; shims may stay as they are",
	"small-ttrpc-1.1.0":               "build containerd and shim with ttrpc 1.1.0",
	"default-ttrpc-1.1.0":             "build containerd and shim with ttrpc 1.1.0",
	"small-1.5.8":                     "upgrade to containerd 1.5.8",
	"default-1.5.8":                   "upgrade to containerd 1.5.8",
	"timeout-1.5.1":                   "a deadline on every call for stats (the connection stays dead)",
}

// stormArm is an arm that runs a storm.
func stormArm(name string, kind arm.Kind, s setting, containerd, shim string, outcomes []arm.Outcome, title string) arm.Arm {
	return nodeArm(arm.Arm{
		Name:      name,
		Kind:      kind,
		Title:     title,
		Cure:      cures[name],
		Operation: "one later ListContainerStats",
		Counters:  counters,
		Outcomes:  outcomes,
		Run:       s.run,
	}, containerd, shim)
}

// nodeArm completes an arm that runs on a node.
func nodeArm(a arm.Arm, containerd, shim string) arm.Arm {
	a.Runtimes = []string{containerdName + "@" + containerd, shimName + "@" + shim, workloadName + "@" + recipe.WorkloadVersion}
	// An own network namespace keeps containerd's streaming port and other
	// sockets apart.
	a.Needs = []arm.Need{arm.NeedRoot, arm.NeedCgroup1, arm.NeedNetNS}
	a.Plan = a.Plan.Or(plan)
	return a
}
