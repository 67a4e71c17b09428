package arm

import (
	"context"
	"time"
)

// Job is what an agent is told: one arm, how much of it, and where its
// runtimes are on the agent's machine.
type Job struct {
	Scenario string `json:"scenario"`
	Arm      string `json:"arm"`
	Plan     Plan   `json:"plan"`
	Seed     uint64 `json:"seed"`
	// Runtimes maps the name of a runtime ("dockerd") to its folder of
	// binaries. Which version is in it is the command's business.
	Runtimes map[string]string `json:"runtimes"`
	// Dir is an empty folder for everything the arm writes; the machine
	// removes it afterwards.
	Dir string `json:"dir"`
	// Cgroup is the arm's own cgroup, a path below each controller's root, or
	// empty where it has none.
	Cgroup string `json:"cgroup,omitempty"`
}

// EventType says what an event tells.
type EventType string

// The events, in the order in which they usually come.
const (
	EventStarted  EventType = "started"  // the agent is up; Fields describe the machine
	EventProgress EventType = "progress" // a short text for whoever watches
	EventSample   EventType = "sample"   // the counters after a round
	EventOutcome  EventType = "outcome"  // a yes or no of one trial
	EventNote     EventType = "note"     // a finding worth a line in the report
	EventFile     EventType = "file"     // a piece of evidence: stacks, a log, a profile
	EventRuntime  EventType = "runtime"  // the machine uses a runtime of its own: Name, and its version and digest in Fields
	EventDone     EventType = "done"     // Fields hold the CPU seconds of agent and subjects
	EventFailed   EventType = "failed"   // Text says why; nothing after it
)

// Event is one line of the stream by which an agent tells of its run.
type Event struct {
	Type EventType `json:"type"`
	// Seconds since the agent started, on the agent's clock.
	Seconds float64 `json:"t"`
	Text    string  `json:"text,omitempty"`
	// Sample and Outcome belong to the event of that name.
	Sample  *Sample        `json:"sample,omitempty"`
	Outcome *OutcomeResult `json:"outcome,omitempty"`
	// Name and Data are a file's; a runtime has a Name too.
	Name string `json:"name,omitempty"`
	Data []byte `json:"data,omitempty"`
	// Fields are facts by name: kernel, cgroup mode, …
	Fields map[string]string `json:"fields,omitempty"`
}

// Phase tells the parts of a run apart.
type Phase string

// The phases. Only rounds are fitted.
const (
	PhaseWarmup  Phase = "warm-up"
	PhaseRound   Phase = "round"
	PhaseRelease Phase = "release"
)

// Sample is the counters' state once things have settled after a round.
type Sample struct {
	Phase Phase `json:"phase"`
	Round int   `json:"round"`
	// Ops is the number of operations since the end of the warm-up.
	Ops      int                `json:"ops"`
	Counters map[string]float64 `json:"counters"`
	// Seconds is how long the operations before this sample took, without the
	// settling.
	Seconds float64 `json:"seconds,omitempty"`
	// Settled is false where the bound was over before the counters stopped
	// moving.
	Settled bool `json:"settled"`
}

// OutcomeResult is the answer to one question in one trial.
type OutcomeResult struct {
	Name  string `json:"name"`
	Trial int    `json:"trial"`
	Yes   bool   `json:"yes"`
	// Seconds until it was so (0 where that means nothing).
	Seconds float64 `json:"seconds,omitempty"`
	Detail  string  `json:"detail,omitempty"`
}

// Lab is what an arm's Run gets: its job, its tools, and the ways to tell what
// it sees. Its methods may be called from several goroutines.
type Lab interface {
	Job() Job
	// Bin is the path of a binary of a runtime, e.g. Bin("dockerd", "dockerd").
	Bin(runtime, file string) string
	// Dir makes and returns a folder of the arm's own.
	Dir(name string) string

	Progress(format string, args ...any)
	Note(format string, args ...any)
	// File keeps a piece of evidence. How its name ends says what it is, so that
	// the report can show it: *.stacks.txt, X-before and X-after.goroutine.pb.gz
	// or .heap.pb.gz, *.sockets.txt, *.lines.txt, *.log (docs/evidence.md).
	File(name string, data []byte)
	Outcome(OutcomeResult)
	Sample(Sample)
	// Rounds runs the warm-up and the rounds of the plan and samples after
	// each. It stops once the deciding counters are decided, or at the limit.
	Rounds(ctx context.Context, r Rounds) error
}

// Rounds says how one round is run and read.
type Rounds struct {
	// Operate runs n operations. They are the arm's own, so an error ends the
	// arm.
	Operate func(ctx context.Context, n int) error
	// Read samples the counters.
	Read func(ctx context.Context) (map[string]float64, error)
	// Settle is the bound after each round for the counters to stop moving, and
	// Every the pause between two looks.
	Settle time.Duration
	Every  time.Duration
	// Quiet is how long the counters must have stood still to count as
	// settled; at least two looks.
	Quiet time.Duration
}
