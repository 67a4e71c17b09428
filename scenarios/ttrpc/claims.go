package ttrpc

import "github.com/leaklab/leaklab/harness/arm"

const story = "Clients of containerd hung and grew without end once many execs had run at the same time. " +
	"In ttrpc 1.0.x one goroutine writes requests and hands out responses; when the socket is full both ways " +
	"it waits in a write for a peer that waits in a write for it, and every later call on the connection " +
	"leaves a goroutine behind. " +
	"ttrpc 1.1.0 gives sender and receiver a goroutine each; a deadline lets the callers go, but the connection stays dead."

// frames are the client's goroutine that is stuck, and the callers behind it.
var frames = []string{
	"ttrpc.(*Client).dispatch",
	"ttrpc.(*Client).send",
	"ttrpc.(*Client).run",
	"ttrpc.(*channel).send",
	"ttrpc.(*serverConn).run",
}

// claims are those of the report about ttrpc itself; the ones about containerd
// and kubelet are beside the scenario cristats.
var claims = []arm.Claim{
	{
		ID:   "T1",
		Says: "Many calls at the same time make ttrpc 1.0.x deadlock.",
		Checks: []arm.Check{
			arm.Happens("unix-v1.0.1", deadlock),
			arm.Happens("unix-v1.0.2", deadlock),
			arm.NeverHappens("serial-v1.0.1", deadlock),
		},
	},
	{
		ID:   "T2",
		Says: "The client sends and receives in one goroutine, which waits in a write while responses wait for it.",
		Checks: []arm.Check{
			arm.Happens("unix-v1.0.1", stackCircle),
			arm.Happens("unix-v1.0.1", fullQueues),
		},
	},
	{
		ID:   "T3",
		Says: "On the server the writer is blocked, so handlers pile up behind it and the reader reads no more.",
		Checks: []arm.Check{
			arm.Happens("unix-v1.0.1", stackCircle),
			arm.Happens("sndbuf-v1.0.1", stackCircle),
		},
	},
	{
		ID:   "T4",
		Says: "A small tcp_wmem makes the deadlock easy to reach.",
		Checks: []arm.Check{
			arm.Happens("tcp-v1.0.1", deadlock),
		},
		Correction: &arm.Correction{
			Says: "Over TCP only. containerd and its shims talk over a unix socket, which tcp_wmem does not touch; there SO_SNDBUF decides.",
			Checks: []arm.Check{
				arm.NeverHappens("unix-tcp_wmem-v1.0.1", deadlock),
				arm.Happens("sndbuf-v1.0.1", deadlock),
			},
		},
	},
	{
		ID:   "T5",
		Says: "ttrpc 1.1.0, with sender and receiver apart, is cured.",
		Checks: []arm.Check{
			arm.NeverHappens("unix-v1.1.0", deadlock),
			arm.NeverHappens("sndbuf-v1.1.0", deadlock),
			arm.NeverHappens("tcp-v1.1.0", deadlock),
		},
	},
	{
		ID:   "T10",
		Says: "A deadline lets the callers go.",
		Checks: []arm.Check{
			arm.Happens("deadline-v1.0.1", callersReleased),
			arm.PerOperation("deadline-v1.0.1", hungCalls.Name, -0.01, 0.01),
		},
		Correction: &arm.Correction{
			Says: "The callers only: the connection stays dead and every later call on it fails. In " + newest +
				" a peer that stops reading holds callers past their deadline.",
			Checks: []arm.Check{
				arm.Happens("deadline-v1.0.1", connectionDead),
				arm.NeverHappens("stalled-peer-"+newest, callersReleased),
			},
		},
	},
}
