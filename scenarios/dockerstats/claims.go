package dockerstats

import (
	"github.com/leaklab/leaklab/harness/arm"
)

const story = "A monitoring agent asked dockerd for the stats of every container, again and again, and dockerd grew to tens of gigabytes. " +
	"With MountFlags=slave the files of the containers' network namespaces are mounted where only that run of the daemon sees them; " +
	"restarted under live-restore it cannot restore the sandboxes, collecting stats fails for ever, and a call without a deadline waits for ever, " +
	"with a channel, three goroutines and a connection. " +
	"A deadline in the caller, dropping MountFlags=slave, restarting or removing the container, or dockerd 18.09 end it."

// frames are those of a call that hangs, on both sides.
var frames = []string{
	"daemon.(*Daemon).ContainerStats",
	"router.Cancellable.cancellableHandler.func1",
	"http.(*connReader).backgroundRead",
	"client.(*Client).ContainerStats",
}

// about asks for a slope within two hundredths.
func about(name, counter string, slope float64) arm.Check {
	return arm.PerOperation(name, counter, 0.98*slope, 1.02*slope)
}

// nothing asks that a counter keeps nothing per operation.
func nothing(name, counter string) arm.Check { return arm.PerOperation(name, counter, -0.01, 0.01) }

// claims are those of the report.
var claims = []arm.Claim{
	{
		ID:     "S1",
		Says:   "After a restart with live-restore and MountFlags=slave dockerd logs that it cannot set into the network namespace of a sandbox it restores.",
		Checks: []arm.Check{arm.Happens("leak", sandboxLost), arm.NeverHappens("no-slave", sandboxLost), arm.NeverHappens("never-restarted", sandboxLost)},
	},
	{
		ID:     "S2",
		Says:   "While a stats call is open it logs, once a second per container, that the sandbox is not found.",
		Checks: []arm.Check{arm.Happens("leak", logged), arm.Happens("leak-20-containers", logged), arm.NeverHappens("no-slave", logged)},
	},
	{
		ID:     "S3",
		Says:   "A non-streaming stats call of a client without a timeout never returns.",
		Checks: []arm.Check{arm.Happens("leak", neverReturns)},
	},
	{
		ID:     "S4",
		Says:   "SubscribeTopic, a channel per call, is on top of the heap profile.",
		Checks: []arm.Check{arm.Happens("leak", topOfHeap), about("leak", subscribed, channelBytes)},
	},
	{
		ID:     "S5",
		Says:   "Each call leaks one descriptor in dockerd and one in the caller.",
		Checks: []arm.Check{about("leak", dockerdFDs, 1), about("leak", callerFDs, 1)},
	},
	{
		ID:   "S6",
		Says: "The leak grows with the number of containers that are polled.",
		Checks: []arm.Check{
			about("leak", dockerdFDs, 1), about("leak-5-containers", dockerdFDs, 5), about("leak-20-containers", dockerdFDs, 20),
			about("leak-5-containers", subscribed, 5*channelBytes), about("leak-20-containers", subscribed, 20*channelBytes),
		},
	},
	{
		ID:   "S7",
		Says: "20 containers polled every 10 s leave 172,800 channels and 345,600 sockets a day.",
		// 8640 polls a day: 20 channels each, 20 sockets on either side.
		Checks: []arm.Check{
			about("leak-20-containers", inContainerStats, 20), about("leak-20-containers", dockerdFDs, 20), about("leak-20-containers", callerFDs, 20),
		},
	},
	{
		ID:     "S8",
		Says:   "A call that its client gives up is released.",
		Checks: []arm.Check{arm.Happens("deadline", backInTime), nothing("deadline", inContainerStats), nothing("deadline", dockerdFDs), arm.Happens("leak", released)},
	},
	{
		ID:     "S9",
		Says:   "Streaming calls do not pile up.",
		Checks: []arm.Check{arm.Happens("streaming", streamsStay), arm.LeavesNothing("streaming")},
	},
	{
		ID:     "S10",
		Says:   "Without MountFlags=slave the sandbox is restored and nothing leaks.",
		Checks: []arm.Check{arm.Happens("no-slave", allAnswered), arm.LeavesNothing("no-slave")},
	},
	{
		ID:     "S11",
		Says:   "live-restore alone, without a restart of dockerd, does not leak.",
		Checks: []arm.Check{arm.Happens("never-restarted", allAnswered), arm.LeavesNothing("never-restarted")},
	},
	{
		ID:     "S12",
		Says:   "Without an open stats call the log is silent; one call starts it.",
		Checks: []arm.Check{arm.Happens("leak", silent), arm.Happens("leak", oneCallLogs), arm.Happens("leak", silentAgain)},
	},
	{
		ID:     "S13",
		Says:   "The peers of dockerd's sockets lead to the process that calls.",
		Checks: []arm.Check{arm.Happens("leak", callerNamed)},
	},
	{
		ID:     "S14",
		Says:   "The agent that gives up its calls (1.18.1) does not leak, the one with context.Background() (1.20.0) does.",
		Checks: []arm.Check{arm.Reads("leak", arm.Leaks), arm.LeavesNothing("deadline")},
	},
	{
		ID:     "S15",
		Says:   "On the bridge network the failed restore can give one address to two containers.",
		Checks: []arm.Check{arm.Happens("leak-bridge", addressTwice), arm.NeverHappens("no-slave", addressTwice)},
	},
	{
		ID:     "S16",
		Says:   "Restarting dockerd does not cure it: it leaks again.",
		Checks: []arm.Check{arm.Happens("leak-restarted-again", restartFrees), arm.Reads("leak-restarted-again", arm.Leaks)},
	},
	{
		ID:   "S17",
		Says: "Restarting or removing the container heals it (not in the report).",
		Checks: []arm.Check{
			arm.Happens("container-restarted", cured), arm.LeavesNothing("container-restarted"),
			arm.Happens("container-removed", cured), arm.LeavesNothing("container-removed"),
		},
	},
}
