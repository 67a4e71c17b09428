package dockerstop

import "github.com/leaklab/leaklab/harness/arm"

const story = "A dockerd had grown to 26 GB and to 80 % of its host's descriptors: kubelet stopped containers again and again that could not be stopped, because a process of theirs was in state D. " +
	"Kill in 18.09 waits for the exit event without a timeout, so each stop leaves its handler, the goroutine of its wait and its connection, although the client has long given up. " +
	"A timeout for that last wait cures it, as the report proposed and 20.10 has it; and everything drains as soon as the process can die."

// frames are the two big heads of the report's goroutine profile.
var frames = []string{inKill, inWait}

// The arms that claims rest on.
const (
	wedgedArm   = "wedged-18.09"
	slaveArm    = "slave-18.09"
	frozenArm   = "frozen-18.09"
	attachedArm = "attached-18.09"
	heapArm     = "heap-18.09"
	timeoutArm  = "timeout-18.09"
	upgradeArm  = "upgrade-20.10"
	killableArm = "killable-18.09"
)

// exactly asks for a slope, up to a goroutine or descriptor that comes or goes
// between two of five samples.
func exactly(arms string, c arm.Counter, slope float64) arm.Check {
	return arm.PerOperation(arms, c.Name, slope-0.1, slope+0.1)
}

// claims are those of the report.
var claims = []arm.Claim{
	{
		ID:   "K1",
		Says: "Every stop of a container with an unkillable process leaves exactly two goroutines in dockerd.",
		Checks: []arm.Check{
			exactly(wedgedArm, goroutines, 2),
			exactly(frozenArm, goroutines, 2),
			exactly(killableArm, goroutines, 0),
		},
		Correction: &arm.Correction{
			Says: "Three while its client is attached: the third reads from the connection and goes with the client.",
			Checks: []arm.Check{
				exactly(attachedArm, goroutines, 3),
				arm.Happens(attachedArm, oneOfThree),
			},
		},
	},
	{
		ID:   "K2",
		Says: "One of the two waits in (*Daemon).Kill for its last container.Wait, the other in the select of (*State).Wait.",
		Checks: []arm.Check{
			exactly(wedgedArm, killing, 1),
			exactly(wedgedArm, waiting, 1),
			arm.Happens(wedgedArm, lastWaits),
		},
	},
	{
		ID:   "K3",
		Says: "Every stop leaves one descriptor, a unix socket whose peer shows as 0.",
		Checks: []arm.Check{
			exactly(wedgedArm, descriptors, 1),
			exactly(wedgedArm, peerless, 1),
			exactly(attachedArm, peerless, 0),
		},
	},
	{
		ID:     "K4",
		Says:   "In the heap profile bufio.NewReaderSize and NewWriterSize are on top.",
		Checks: []arm.Check{arm.Happens(heapArm, bufioFirst)},
	},
	{
		ID:   "K5",
		Says: "26 GB by 786,212 stops: a stop keeps some 33 kB (checked to a factor of two: it is another Go, and dockerd's own share is in the 26 GB).",
		Checks: []arm.Check{
			arm.PerOperation(wedgedArm, memory.Name, memory.Documented/2, memory.Documented*2),
		},
	},
	{
		ID:   "K6",
		Says: "The goroutines that receive containerd's events are alive: no event was lost.",
		Checks: []arm.Check{
			arm.Happens(wedgedArm, listening),
			arm.Happens(frozenArm, listening),
		},
	},
	{
		ID:   "K7",
		Says: "The exit event is never sent, because a process of the container is in state D.",
		Checks: []arm.Check{
			arm.Happens(wedgedArm, noExit),
			arm.Happens(wedgedArm, unkillable),
			arm.Happens(wedgedArm, exitComes),
			arm.NeverHappens(killableArm, noExit),
		},
	},
	{
		ID:   "K8",
		Says: "Stops repeated by a client with a timeout, as kubelet makes them, are enough.",
		Checks: []arm.Check{
			arm.Reads(wedgedArm, arm.Leaks),
			arm.Reads(slaveArm, arm.Leaks),
			arm.LeavesNothing(killableArm),
		},
	},
	{
		ID:   "K9",
		Says: "With a timeout for the last wait nothing leaks.",
		Checks: []arm.Check{
			arm.LeavesNothing(timeoutArm),
			arm.LeavesNothing(upgradeArm),
			arm.Happens(timeoutArm, unkillable),
		},
	},
	{
		ID:     "K10",
		Says:   "Debug mode can be switched on in a running dockerd: debug in daemon.json, and SIGHUP.",
		Checks: []arm.Check{arm.Happens(wedgedArm, debugBySIGHUP)},
		Correction: &arm.Correction{
			Says:   "For the profiles it is not needed: 18.09 serves them without debug mode.",
			Checks: []arm.Check{arm.Happens(wedgedArm, profilesAnyway)},
		},
	},
	{
		ID:   "K11",
		Says: "When the process can die, everything drains (not in the report).",
		Checks: []arm.Check{
			arm.Happens(wedgedArm, drains),
			arm.Happens(slaveArm, drains),
			arm.Happens(frozenArm, drains),
		},
	},
}
