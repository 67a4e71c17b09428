package cristats

import "github.com/leaklab/leaklab/harness/arm"

const story = "A kubelet grew past a gigabyte, and so did its containerd, once many kubectl exec had run at the same time. " +
	"The storm deadlocks the ttrpc connection between containerd and one shim (ttrpc 1.0.x), and ListContainerStats, which asks every container in turn " +
	"and which kubelet calls without a deadline, waits for it for ever: each period leaves a goroutine in kubelet and one in containerd. " +
	"containerd 1.5.8, or ttrpc 1.1.0 in containerd alone, does not deadlock; a deadline lets the callers go; killing the one shim or restarting containerd lets go what hangs."

// frames are those of a call for stats that hangs, on both sides, and of the
// circle it waits for.
var frames = []string{
	"(*runtimeServiceClient).ListContainerStats",
	"(*criService).ListContainerStats",
	"tasks.getTasksMetrics",
	"ttrpc.(*Client).dispatch",
	"ttrpc.(*Client).run",
	"ttrpc.(*receiver).run",
	"ttrpc.(*serverConn).run",
	"ttrpc.(*serverConn).run.func1",
	"ttrpc.(*serverConn).run.func2",
}

// one asks that a counter keeps one per operation, nothing that it keeps none.
func one(name string, c arm.Counter) arm.Check { return arm.PerOperation(name, c.Name, 0.98, 1.02) }
func nothing(name string, c arm.Counter) arm.Check {
	return arm.PerOperation(name, c.Name, -0.01, 0.01)
}

// claims are those of the report about kubelet and containerd; the ones about
// ttrpc alone (T1 to T5, T10) are beside the scenario ttrpc.
var claims = []arm.Claim{
	{
		ID:   "T6",
		Says: "ListContainerStats has no timeout, so after the deadlock every call hangs and leaks, in kubelet and in containerd.",
		Checks: []arm.Check{
			arm.Happens("default-1.5.1", deadlock), arm.Happens("default-1.5.1", callsHang),
			one("default-1.5.1", callerHung), one("default-1.5.1", containerdHung),
			one("small-1.5.1", callerHung), one("small-1.5.1", containerdHung),
			nothing("timeout-1.5.1", callerHung), nothing("timeout-1.5.1", containerdHung),
		},
	},
	{
		ID:   "T7",
		Says: "The hang outlives the clients that started the storm of execs.",
		Checks: []arm.Check{
			arm.Happens("small-1.5.1", outlives), arm.Happens("default-1.5.1", outlives), arm.Happens("stream-1.5.1", outlives),
		},
	},
	{
		ID:   "T8",
		Says: "A normal node shows none of it.",
		Checks: []arm.Check{
			arm.NeverHappens("normal-1.5.1", deadlock), arm.Happens("normal-1.5.1", allAnswered), arm.LeavesNothing("normal-1.5.1"),
		},
	},
	{
		ID:   "T9",
		Says: "SIGUSR1 makes the shim print its goroutines, and they show the deadlock.",
		Checks: []arm.Check{
			// The shim's half of the circle is read from nothing else.
			arm.Happens("default-1.5.1", stackCircle), arm.NeverHappens("default-ttrpc-1.1.0", stackCircle),
		},
	},
}
