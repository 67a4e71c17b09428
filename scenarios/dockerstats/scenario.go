// Package dockerstats is the scenario of the stats calls that never return
// (dockerd up to 17.11): with live-restore and MountFlags=slave a restarted
// daemon cannot restore its containers' network sandboxes, so collecting their
// stats fails for ever, and a call that wants one answer waits for it as long
// as its client does.
package dockerstats

import (
	"context"
	"fmt"
	"time"

	"github.com/leaklab/leaklab/harness/arm"
)

// Name is how users ask for the scenario.
const Name = "dockerstats"

// Scenario is the catalogue's entry.
var Scenario = arm.Scenario{
	Name:   Name,
	Title:  "dockerd 1.13.1: after a restart with live-restore and MountFlags=slave every stats call hangs and leaks",
	Report: "a dockerd memory leak with live-restore (claims S1–S17)",
	Story:  story,
	Frames: frames,
	Claims: claims,
	Arms:   arms(),
	Axes:   axes,
	Parts:  map[string]func(context.Context, []string) error{callerName: runCaller},
}

// The names of the counters.
const (
	inContainerStats = "dockerd goroutines in ContainerStats"
	dockerdFDs       = "dockerd fds"
	subscribed       = "dockerd heap of SubscribeTopic"
	callerGoroutines = "caller goroutines"
	callerFDs        = "caller fds"
	dockerdTotal     = "dockerd goroutines"
	dockerdRSS       = "dockerd RSS"
	callerRSS        = "caller RSS"
)

// channelBytes is what SubscribeTopic holds per call: a channel of 1024
// interfaces of 16 bytes, which Go rounds up to 18 KiB, and its share of the
// publisher's map (measured over 8000 calls).
const channelBytes = 18.1 * 1024

// counters per operation, where an operation makes n calls.
func counters(n int) []arm.Counter {
	perCall := []arm.Counter{
		{Name: inContainerStats, Unit: "goroutines", Documented: 1, Decides: true},
		{Name: dockerdFDs, Unit: "fds", Documented: 1, Decides: true},
		{Name: subscribed, Unit: "bytes", Documented: channelBytes, Decides: true},
		// The caller's own, and net/http's reader and writer of the connection.
		{Name: callerGoroutines, Unit: "goroutines", Documented: 3, Decides: true},
		{Name: callerFDs, Unit: "fds", Documented: 1, Decides: true},
		// ContainerStats, the API's Cancellable and net/http's reader, as built
		// with today's Go: recorded, as it is not the report's.
		{Name: dockerdTotal, Unit: "goroutines", Documented: 3},
		{Name: dockerdRSS, Unit: "bytes"},
		{Name: callerRSS, Unit: "bytes"},
	}
	for i := range perCall {
		perCall[i].Documented *= float64(n)
	}
	return perCall
}

// The outcomes, with the claims they answer.
const (
	sandboxLost  = "dockerd cannot restore the sandbox (S1)"
	logged       = "\"sandbox not found\" is logged once a second per container (S2)"
	silent       = "the log is silent without an open call (S12)"
	oneCallLogs  = "one open call starts the log (S12)"
	silentAgain  = "the log is silent again once the caller is gone (S12)"
	neverReturns = "no call returns (S3)"
	allAnswered  = "every call is answered"
	allEmpty     = "the answers hold no figures"
	backInTime   = "every call comes back at its deadline (S8)"
	streamsStay  = "one stream per container stays open (S9)"
	topOfHeap    = "SubscribeTopic is on top of the heap's growth (S4)"
	callerNamed  = "the peers of dockerd's sockets name the caller (S13)"
	released     = "all is released when the caller exits"
	cured        = "the calls that hung return at the cure (S17)"
	addressTwice = "a new container gets the IP of one that runs (S15)"
	restartFrees = "a restart frees what the last daemon held"
	mute         = "at its descriptor limit dockerd answers nobody"
)

// broken is the report's own state.
var broken = setting{Slave: true, Restarts: 1}

// The plans: calls that hang are made at once, calls that are answered take
// dockerd two seconds a round.
var (
	hanging  = arm.Plan{Rounds: 4, MaxRounds: 12, Ops: 500, Warmup: 500, Timeout: 6 * time.Minute}
	answered = arm.Plan{Rounds: 4, MaxRounds: 10, Ops: 300, Warmup: 300, Timeout: 6 * time.Minute}
)

const (
	dockerd1131 = "dockerd@1.13.1"
	dockerd1809 = "dockerd@18.09"
)

func outcomes(expect arm.Share, names ...string) []arm.Outcome {
	var all []arm.Outcome
	for _, name := range names {
		all = append(all, arm.Outcome{Name: name, Expect: expect})
	}
	return all
}

func always(names ...string) []arm.Outcome { return outcomes(arm.Always, names...) }
func never(names ...string) []arm.Outcome  { return outcomes(arm.Never, names...) }

func with(lists ...[]arm.Outcome) []arm.Outcome {
	var all []arm.Outcome
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// leaking are the outcomes of every arm that leaks as the report says.
var leaking = always(sandboxLost, logged, neverReturns, topOfHeap, callerNamed, released)

func arms() []arm.Arm {
	var all []arm.Arm
	add := func(s setting, runtime string, a arm.Arm) {
		a.Operation = "one stats call"
		if n := s.containers(); n > 1 {
			a.Operation = fmt.Sprintf("one poll of all %d containers", n)
		}
		if s.Stream {
			a.Operation = "one period of a caller that streams"
		}
		if a.Counters == nil {
			a.Counters = counters(s.containers())
		}
		a.Runtimes = []string{runtime, "workload@1"}
		a.Needs = []arm.Need{arm.NeedRoot, arm.NeedCgroup1, arm.NeedNetNS}
		s.asked = a.Outcomes
		a.Run = func(ctx context.Context, lab arm.Lab) error { return s.observe(ctx, lab) }
		all = append(all, a)
	}

	watched := broken
	watched.Watch = true
	add(watched, dockerd1131, arm.Arm{
		Name: "leak", Kind: arm.Leak, Plan: hanging,
		Title:    "dockerd 1.13.1 with MountFlags=slave, restarted under live-restore: stats calls without a deadline hang for ever",
		Outcomes: with(leaking, always(silent, oneCallLogs, mute, silentAgain)),
	})
	for _, n := range []int{5, 20} {
		s := broken
		s.Containers = n
		plan := hanging
		plan.Ops, plan.Warmup = 200/n, 200/n
		add(s, dockerd1131, arm.Arm{
			Name: fmt.Sprintf("leak-%d-containers", n), Kind: arm.Leak, Plan: plan,
			Title:    fmt.Sprintf("the same with %d containers: a poll leaks %d times as much, a call as much as before (S6)", n, n),
			Outcomes: leaking,
		})
	}
	bridge := broken
	bridge.Bridge = true
	add(bridge, dockerd1131, arm.Arm{
		Name: "leak-bridge", Kind: arm.Leak, Plan: hanging,
		Title:    "the same on the bridge network: the restarted daemon also forgets which addresses are in use",
		Outcomes: with(leaking, always(addressTwice)),
	})
	again := broken
	again.Again = true
	add(again, dockerd1131, arm.Arm{
		Name: "leak-restarted-again", Kind: arm.Leak, Plan: hanging,
		Title:    "dockerd restarted once more to get rid of the leak: it leaks again (S16)",
		Outcomes: with(leaking, always(restartFrees)),
	})

	deadline := broken
	deadline.Deadline = 300 * time.Millisecond
	add(deadline, dockerd1131, arm.Arm{
		Name: "deadline", Kind: arm.Mitigation, Plan: answered,
		Cure:     "give stats calls a deadline",
		Title:    "the same fault, but callers give up after 300 ms, as agent 1.18.1 in its way (S14): nothing stays behind",
		Outcomes: with(always(sandboxLost, backInTime, released), never(neverReturns)),
	})
	add(setting{Restarts: 1, Bridge: true}, dockerd1131, arm.Arm{
		Name: "no-slave", Kind: arm.Mitigation, Plan: answered,
		Cure:     "run dockerd without MountFlags=slave",
		Title:    "without MountFlags=slave the restarted daemon restores the sandbox, stats are answered, no address is given twice (S10)",
		Outcomes: with(always(allAnswered, released), never(sandboxLost, logged, addressTwice)),
	})
	restarted := broken
	restarted.Cure = restartContainers
	add(restarted, dockerd1131, arm.Arm{
		Name: "container-restarted", Kind: arm.Mitigation, Plan: answered,
		Cure:     "restart the container",
		Title:    "the same fault, then the container is restarted: its calls return and later ones are answered (S17)",
		Outcomes: always(sandboxLost, cured, allAnswered, released),
	})
	removed := broken
	removed.Cure = replaceContainers
	add(removed, dockerd1131, arm.Arm{
		Name: "container-removed", Kind: arm.Mitigation, Plan: answered,
		Cure:     "remove the container and make it anew",
		Title:    "the same fault, then the container is removed and made anew: its calls return and later ones are answered (S17)",
		Outcomes: always(sandboxLost, cured, allAnswered, released),
	})
	add(broken, dockerd1809, arm.Arm{
		Name: "upgrade-18.09", Kind: arm.Mitigation, Plan: answered,
		Cure:     "upgrade to dockerd 18.09",
		Title:    "the same fault on dockerd 18.09: the sandbox is lost too, but calls are answered, without figures",
		Outcomes: always(sandboxLost, allEmpty, released),
	})
	add(setting{Slave: true}, dockerd1131, arm.Arm{
		Name: "never-restarted", Kind: arm.Control, Plan: answered,
		Title:    "MountFlags=slave and live-restore, but never restarted: stats are answered (S11)",
		Outcomes: with(always(allAnswered, released), never(sandboxLost, logged)),
	})
	stream := broken
	stream.Stream = true
	add(stream, dockerd1131, arm.Arm{
		Name: "streaming", Kind: arm.Control, Plan: answered,
		Title:    "the same fault, but the caller streams: it waits for ever too, in one call that it does not repeat (S9)",
		Outcomes: always(sandboxLost, logged, streamsStay, released),
	})
	return all
}
