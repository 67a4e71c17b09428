// Package ttrpc is the scenario of the ttrpc client that sends and receives in
// one goroutine (ttrpc 1.0.x): once both directions of its connection are full
// it waits in a write for a peer that waits in a write for it, and every later
// call hangs. Fixed by containerd/ttrpc pull request 94 in 1.1.0.
package ttrpc

import (
	"context"
	"fmt"
	"time"

	"github.com/leaklab/leaklab/harness/arm"
)

// Scenario is the catalogue's entry.
var Scenario = arm.Scenario{
	Name:   "ttrpc",
	Title:  "the ttrpc 1.0.x client deadlocks when both directions are full; every later call hangs",
	Report: "yylt 2021, a kubelet memory leak (claims T1–T5, T10)",
	Story:  story,
	Frames: frames,
	Claims: claims,
	Arms:   arms(),
	Axes:   axes,
}

// The counters, per later call on a connection that came through a storm.
var (
	hungCalls   = arm.Counter{Name: "client goroutines in dispatch", Unit: "goroutines", Documented: 1, Decides: true}
	goroutines  = arm.Counter{Name: "client goroutines", Unit: "goroutines", Documented: 1}
	memory      = arm.Counter{Name: "client heap and stacks in use", Unit: "bytes"}
	residentSet = arm.Counter{Name: "client RSS", Unit: "bytes"}
	descriptors = arm.Counter{Name: "client fds", Unit: "fds"}
)

var counters = []arm.Counter{hungCalls, goroutines, memory, residentSet, descriptors}

// The outcomes.
const (
	deadlock        = "deadlock"
	stackCircle     = "stack circle"
	fullQueues      = "full queues at both ends"
	allAnswered     = "every call of the storm answered"
	callsHang       = "later calls hang"
	callersReleased = "callers come back at their deadline"
	connectionDead  = "connection answers nothing any more"
	drains          = "hung callers let go when the peer goes or reads again"
)

// The settings in which the deadlock is known to come in every trial.
var (
	// unixDefault is a socket as between containerd and a shim, untouched.
	unixDefault = setting{Network: "unix", Callers: 64, Calls: 40, Size: 4096}
	// unixSmall has the smallest send buffer the kernel gives.
	unixSmall = setting{Network: "unix", Sndbuf: 1, Callers: 32, Calls: 60, Size: 1024}
	// tcpSmall is the report's own setting: a small tcp_wmem. The requests and
	// responses under way, 16 MB, are more than both receive buffers can grow to
	// (tcp_rmem ends at 6 MB), or a storm can slip through.
	tcpSmall = setting{Network: "tcp", TCPWmem: "4096 4096 4096", Callers: 256, Calls: 3, Size: 64 << 10}
)

// places are the settings with the words for them.
var places = []struct {
	name, words string
	setting     setting
}{
	{"unix", "a unix socket with the default buffer, 64 callers of 4 KB", unixDefault},
	{"sndbuf", "a unix socket with the smallest SO_SNDBUF, 32 callers of 1 KB", unixSmall},
	{"tcp", "TCP under a small tcp_wmem, 256 callers of 64 KB", tcpSmall},
}

var plan = arm.Plan{Trials: 20, Rounds: 4, MaxRounds: 12, Ops: 50, Warmup: 20, Timeout: 4 * time.Minute}

func arms() []arm.Arm {
	var all []arm.Arm
	leak := func(place int, version string) {
		p := places[place]
		all = append(all, stormArm(arm.Arm{
			Name:  p.name + "-" + version,
			Kind:  arm.Leak,
			Title: fmt.Sprintf("ttrpc %s over %s, deadlocks; each later call without a deadline hangs for ever", version, p.words),
			Outcomes: []arm.Outcome{
				{Name: deadlock, Expect: arm.Always, Decides: true},
				{Name: stackCircle, Expect: arm.Always},
				{Name: fullQueues, Expect: arm.Always},
				{Name: callsHang, Expect: arm.Always},
				{Name: drains, Expect: arm.Always},
			},
		}, p.setting, version))
	}
	leak(0, "v1.0.1")
	leak(0, "v1.0.2")
	leak(1, "v1.0.1")
	leak(2, "v1.0.1")
	never := []arm.Outcome{
		{Name: deadlock, Expect: arm.Never, Decides: true},
		{Name: stackCircle, Expect: arm.Never},
		{Name: fullQueues, Expect: arm.Never},
		{Name: allAnswered, Expect: arm.Always},
		{Name: callsHang, Expect: arm.Never},
	}
	for _, p := range places {
		for _, version := range []string{"v1.1.0", "v1.1.2", newest} {
			all = append(all, stormArm(arm.Arm{
				Name:     p.name + "-" + version,
				Kind:     arm.Mitigation,
				Cure:     "upgrade to ttrpc 1.1.0 or newer",
				Title:    fmt.Sprintf("upgrade: ttrpc %s over %s, answers every call", version, p.words),
				Outcomes: never,
			}, p.setting, version))
		}
	}
	deadline := unixDefault
	deadline.Deadline = 300 * time.Millisecond
	serial := unixDefault
	serial.Callers, serial.Calls = 1, 1000
	wmem := unixDefault
	wmem.TCPWmem, wmem.Callers, wmem.Calls = tcpSmall.TCPWmem, 16, 160
	stalled := setting{Network: "unix", Size: 64 << 10, Deadline: 300 * time.Millisecond}
	return append(all,
		stormArm(arm.Arm{
			Name:  "deadline-v1.0.1",
			Kind:  arm.Mitigation,
			Cure:  "a deadline on every call (the connection stays dead)",
			Title: "timeout: ttrpc v1.0.1 deadlocks as before, but callers with a deadline of 300 ms come back; the connection stays dead",
			Outcomes: []arm.Outcome{
				{Name: deadlock, Expect: arm.Always},
				{Name: stackCircle, Expect: arm.Always},
				{Name: fullQueues, Expect: arm.Always},
				{Name: callersReleased, Expect: arm.Always},
				{Name: connectionDead, Expect: arm.Always},
				{Name: callsHang, Expect: arm.Never},
			},
		}, deadline, "v1.0.1"),
		stormArm(arm.Arm{
			Name:     "serial-v1.0.1",
			Kind:     arm.Control,
			Title:    "ttrpc v1.0.1, one caller at a time: no deadlock",
			Outcomes: never,
		}, serial, "v1.0.1"),
		stormArm(arm.Arm{
			Name:     "unix-tcp_wmem-v1.0.1",
			Kind:     arm.Control,
			Title:    "ttrpc v1.0.1 over a unix socket under the small tcp_wmem, 16 callers of 4 KB: tcp_wmem does not touch a unix socket",
			Outcomes: never,
		}, wmem, "v1.0.1"),
		arm.Arm{
			Name:      "stalled-peer-" + newest,
			Kind:      arm.Leak,
			Title:     "ttrpc " + newest + ", the peer stops reading: callers with a deadline of 300 ms do not come back (containerd/ttrpc issue 174)",
			Operation: "one call with a deadline",
			Counters:  counters,
			Outcomes: []arm.Outcome{
				{Name: callersReleased, Expect: arm.Never},
				{Name: drains, Expect: arm.Always},
			},
			Runtimes: []string{pairName + "@" + newest},
			Plan:     plan,
			Run:      stalled.stalledPeer,
		})
}

// stormArm completes an arm that runs a storm.
func stormArm(a arm.Arm, s setting, version string) arm.Arm {
	a.Operation = "one later call"
	a.Counters = counters
	a.Runtimes = []string{pairName + "@" + version}
	a.Plan = plan
	a.Run = func(ctx context.Context, lab arm.Lab) error { return s.storm(ctx, lab) }
	// An own network namespace also keeps other sockets out of sock_diag.
	a.Needs = []arm.Need{arm.NeedNetNS}
	return a
}
