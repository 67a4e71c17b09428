// Package report keeps a run's results and shows them: a table for the
// terminal, result.json, junit.xml, samples.csv and the evidence as files.
package report

import (
	"math"
	"slices"
	"time"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/verdict"
)

// Schema is the version of result.json; docs/result.md describes it.
const Schema = 1

// Run is everything a run of leaklab found, and what is needed to repeat it.
type Run struct {
	Schema  int       `json:"schema"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	// Command is the command line, Version that of leaklab.
	Command []string          `json:"command"`
	Version string            `json:"version"`
	Host    map[string]string `json:"host"`
	// Scenarios describe those whose arms were run; Claims are what this run
	// says about the sentences of their reports.
	Scenarios []Scenario `json:"scenarios,omitempty"`
	Arms      []Arm      `json:"arms"`
	Claims    []Claim    `json:"claims,omitempty"`
	// Out is the folder of the results.
	Out string `json:"out,omitempty"`
}

// Scenario is what a report says of a scenario besides its arms.
type Scenario struct {
	Name   string `json:"name"`
	Title  string `json:"title"`
	Report string `json:"report"`
	Story  string `json:"story,omitempty"`
	// Frames are the functions of the documented stacks.
	Frames []string `json:"frames,omitempty"`
}

// Claim is a report's sentence with what was measured of it.
type Claim struct {
	ID       string           `json:"id"`
	Scenario string           `json:"scenario"`
	Says     string           `json:"says"`
	Report   string           `json:"report"`
	Verdict  arm.ClaimVerdict `json:"verdict"`
	// Figure is what was measured, in words; Arms are where.
	Figure string   `json:"figure,omitempty"`
	Arms   []string `json:"arms,omitempty"`
	// Correction is what is true instead or besides, where the verdict is
	// refined.
	Correction string `json:"correction,omitempty"`
	// Missing says what it would take, where the verdict is not run here.
	Missing string `json:"missing,omitempty"`
}

// Describe picks the scenarios of some results from the catalogue, in its order.
func Describe(all []arm.Scenario, arms []Arm) []Scenario {
	var described []Scenario
	for _, s := range all {
		if slices.ContainsFunc(arms, func(a Arm) bool { return a.Scenario == s.Name }) {
			described = append(described, Scenario{s.Name, s.Title, s.Report, s.Story, s.Frames})
		}
	}
	return described
}

// Arm is one arm's result.
type Arm struct {
	Scenario string    `json:"scenario"`
	Arm      string    `json:"arm"`
	Title    string    `json:"title"`
	Cure     string    `json:"cure,omitempty"`
	Kind     arm.Kind  `json:"kind"`
	Machine  string    `json:"machine"`
	Kernel   string    `json:"kernel"`
	Cgroup   string    `json:"cgroup,omitempty"`
	Runtimes []Runtime `json:"runtimes"`

	Verdict  arm.Verdict `json:"verdict"`
	Expected arm.Verdict `json:"expected"`
	OK       bool        `json:"ok"`
	Reason   string      `json:"reason"`
	// Operation is what the counters are counted per.
	Operation string    `json:"operation"`
	Counters  []Counter `json:"counters"`
	Outcomes  []Outcome `json:"outcomes"`
	Notes     []string  `json:"notes,omitempty"`

	Plan    arm.Plan            `json:"plan"`
	Seed    uint64              `json:"seed"`
	Seconds float64             `json:"seconds"`
	Samples []arm.Sample        `json:"samples,omitempty"`
	Trials  []arm.OutcomeResult `json:"trials,omitempty"`
	// CPU are the seconds that the agent ("agent") and what it started
	// ("subjects") have used.
	CPU map[string]string `json:"cpu,omitempty"`
	// Files are the pieces of evidence, below the results' folder.
	Files []string `json:"files,omitempty"`
}

// Name is "scenario/arm".
func (a Arm) Name() string { return a.Scenario + "/" + a.Arm }

// Runtime says exactly which subject was used.
type Runtime struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Digest  string `json:"digest"`
}

// Counter is a counter's slope per operation. Bounds that do not exist are
// null.
type Counter struct {
	Name       string      `json:"name"`
	Unit       string      `json:"unit"`
	Documented float64     `json:"documented"`
	Expected   float64     `json:"expected"`
	Slope      *float64    `json:"slope"`
	Lo         *float64    `json:"lo"`
	Hi         *float64    `json:"hi"`
	Decides    bool        `json:"decides"`
	Verdict    arm.Verdict `json:"verdict"`
	OK         bool        `json:"ok"`
}

// Outcome is the share of trials in which something was so.
type Outcome struct {
	Name     string    `json:"name"`
	Expected arm.Share `json:"expected"`
	Yes      int       `json:"yes"`
	Trials   int       `json:"trials"`
	Lo       float64   `json:"lo"`
	Hi       float64   `json:"hi"`
	// Median of the seconds until it was so.
	Seconds *float64 `json:"seconds,omitempty"`
	Decides bool     `json:"decides"`
	OK      bool     `json:"ok"`
}

// SetVerdict copies a verdict into the result.
func (a *Arm) SetVerdict(v verdict.Result) {
	a.Verdict, a.Expected, a.OK, a.Reason = v.Verdict, v.Expected, v.OK, v.Reason
	a.Counters, a.Outcomes = []Counter{}, []Outcome{}
	for _, c := range v.Counters {
		a.Counters = append(a.Counters, Counter{
			Name: c.Name, Unit: c.Unit, Documented: c.Documented, Expected: c.Expected,
			Slope: finite(c.Slope.Estimate), Lo: finite(c.Slope.Lo), Hi: finite(c.Slope.Hi),
			Decides: c.Decides, Verdict: c.Verdict, OK: c.OK,
		})
	}
	for _, o := range v.Outcomes {
		a.Outcomes = append(a.Outcomes, Outcome{
			Name: o.Name, Expected: o.Expect, Yes: o.Yes, Trials: o.Trials,
			Lo: o.Share.Lo, Hi: o.Share.Hi, Seconds: o.Median(), Decides: o.Decides, OK: o.OK,
		})
	}
}

// finite is nil for what JSON cannot say.
func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// Exit codes of the command, as documented in the README.
const (
	ExitOK          = 0
	ExitDiffers     = 1
	ExitUsage       = 2
	ExitCannot      = 3
	ExitInterrupted = 130
)

// ExitCode is 0 when all that ran was as expected, 1 when something was not,
// and 3 when nothing could run.
func (r Run) ExitCode() int {
	ran := false
	for _, a := range r.Arms {
		if a.Verdict == arm.NotRun {
			continue
		}
		ran = true
		if !a.OK {
			return ExitDiffers
		}
	}
	if !ran {
		return ExitCannot
	}
	return ExitOK
}
