// Package arm holds the words of the lab: scenario, arm, counter, outcome,
// verdict, and the job and events by which an arm's run is ordered and told.
package arm

import (
	"context"
	"slices"
	"time"
)

// Scenario is one documented leak: the report that describes it and the arms
// that reproduce it.
type Scenario struct {
	// Name is how users ask for it, e.g. "ttrpc".
	Name string
	// Title says what leaks, in one line.
	Title string
	// Report names the field report (see the scenario's README for its story).
	Report string
	// Story tells in three sentences what happens, why, and what cures it.
	Story string
	// Frames are the functions of the documented stacks, by the end of
	// their names: "ttrpc.(*Client).dispatch". Reports point them out.
	Frames []string
	// Claims are the sentences of the report that can be checked.
	Claims []Claim
	// Arms are run in this order.
	Arms []Arm
	// Axes are the ways to bisect it.
	Axes []Axis
	// Parts are the lab's own helper programs that must be separate processes
	// (callers, mostly), by name. They run as "leaklab part <scenario> <name> …".
	Parts map[string]func(ctx context.Context, args []string) error
}

// Kind says what an arm is there to show.
type Kind string

// The kinds of arm.
const (
	Leak       Kind = "leak"       // the leak as documented
	Mitigation Kind = "mitigation" // the fault is there, the cure removes the leak
	Control    Kind = "control"    // without the fault nothing leaks
)

// Verdict is what an arm's run amounts to.
type Verdict string

// The verdicts.
const (
	Leaks        Verdict = "leaks"
	Clean        Verdict = "clean"
	Inconclusive Verdict = "inconclusive"
	NotRun       Verdict = "not run"
)

// Need is something a machine must offer for an arm to run on it.
type Need string

// The needs.
const (
	NeedRoot    Need = "root"    // real root: mounts, cgroups, killing by cgroup
	NeedCgroup1 Need = "cgroup1" // the controllers of cgroup v1
	NeedFUSE    Need = "fuse"    // /dev/fuse
	NeedNetNS   Need = "netns"   // an own network namespace with writable sysctls
)

// VM is what an arm asks of a virtual machine. Zero fields mean the default.
type VM struct {
	// Kernel is the series that the arm is about: "3.10". Such an arm runs on
	// no other kernel, and never on the host's.
	Kernel string
	// CgroupV2 gives the guest a unified hierarchy; otherwise it has those of v1.
	CgroupV2 bool
	// MemoryMB is the guest's memory in MiB, CPUs the number of its processors.
	MemoryMB int
	CPUs     int
	// Modules are loaded before the agent starts, with what they depend on. A
	// kernel that has one of them built in is as good.
	Modules []string
	// Cmdline are boot parameters, such as "cgroup.memory=nokmem". A kernel
	// that does not know one of them cannot run the arm.
	Cmdline []string
	// Shared lets arms whose VM is the same follow each other in one guest. Each
	// then finds what the others have left in the kernel.
	Shared bool
}

// Arm is one way to run a scenario, and what it expects to see.
type Arm struct {
	// Name is unique within the scenario: "unix-v1.0.1".
	Name string
	Kind Kind
	// Title says in one sentence what is done and what should come of it.
	Title string
	// Cure names, in a mitigation, what a reader can do: "upgrade to ttrpc 1.1.0".
	Cure string
	// Operation is the unit that leaks: "one RPC".
	Operation string
	// Counters are what is counted per operation; Outcomes what is answered
	// with yes or no per trial.
	Counters []Counter
	Outcomes []Outcome
	// Runtimes are the subjects, as "name@version".
	Runtimes []string
	Needs    []Need
	// VM says what the arm needs where it runs in a virtual machine.
	VM   VM
	Plan Plan
	// Run puts the fault in place, runs the operations and samples. It is
	// called on the machine, by the agent.
	Run func(ctx context.Context, lab Lab) error `json:"-"`
}

// Expect is the verdict that the arm's kind asks for.
func (a Arm) Expect() Verdict {
	if a.Kind == Leak {
		return Leaks
	}
	return Clean
}

// Has reports whether the arm needs n.
func (a Arm) Has(n Need) bool { return slices.Contains(a.Needs, n) }

// Counter is something counted over operations. Its slope is what stays behind
// per operation.
type Counter struct {
	// Name is the key in samples: "client goroutines in dispatch".
	Name string `json:"name"`
	// Unit of the slope's numerator: "goroutines", "fds", "bytes".
	Unit string `json:"unit"`
	// Documented is the leak's slope per operation as the report, or the
	// reading of the code, has it. It scales the decision also in arms that
	// expect none.
	Documented float64 `json:"documented"`
	// Decides says that the arm's verdict rests on it. A counter that does not
	// decide is recorded and shown.
	Decides bool `json:"decides"`
	// Expect is the reading a deciding counter must have for the arm to be as
	// expected; empty means the arm's own expectation.
	Expect Verdict `json:"expect,omitempty"`
}

// Share says how often a yes/no outcome is expected.
type Share string

// The shares.
const (
	Always Share = "in every trial"
	Never  Share = "in no trial"
	Shown  Share = "" // measured and shown, nothing expected
)

// Outcome is a question answered once per trial.
type Outcome struct {
	// Name is a short statement: "deadlock".
	Name string `json:"name"`
	// Expect is how often it should hold.
	Expect Share `json:"expect"`
	// Decides says that the outcome is the leak itself: where it happens the
	// arm leaks. An outcome that does not decide is evidence or a
	// precondition, and must still be as expected.
	Decides bool `json:"decides"`
}

// Plan is how much is run. Zero fields mean the default.
type Plan struct {
	// Trials is the number of independent repetitions of the whole fault.
	Trials int `json:"trials,omitempty"`
	// Rounds is the least number of counted rounds, MaxRounds the most.
	Rounds    int `json:"rounds,omitempty"`
	MaxRounds int `json:"maxRounds,omitempty"`
	// Ops is the number of operations per round, Warmup before the first.
	Ops    int `json:"ops,omitempty"`
	Warmup int `json:"warmup,omitempty"`
	// Timeout bounds the whole arm on its machine.
	Timeout time.Duration `json:"timeout,omitempty"`
}

// Or fills what p leaves open from q.
func (p Plan) Or(q Plan) Plan {
	pick := func(a, b int) int {
		if a != 0 {
			return a
		}
		return b
	}
	p.Trials = pick(p.Trials, q.Trials)
	p.Rounds = pick(p.Rounds, q.Rounds)
	p.MaxRounds = pick(p.MaxRounds, q.MaxRounds)
	p.Ops = pick(p.Ops, q.Ops)
	p.Warmup = pick(p.Warmup, q.Warmup)
	if p.Timeout == 0 {
		p.Timeout = q.Timeout
	}
	return p
}

// DefaultPlan is what an arm gets that says nothing: the least that the rules
// of evidence allow.
var DefaultPlan = Plan{Trials: 1, Rounds: 4, MaxRounds: 12, Ops: 50, Warmup: 20, Timeout: 5 * time.Minute}
