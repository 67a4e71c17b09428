package bisect

import (
	"fmt"
	"strings"
	"time"
)

// Verdict is what a version is.
type Verdict string

// The verdicts.
const (
	Bad        Verdict = "bad"        // shows the leak
	Good       Verdict = "good"       // does not
	Unclear    Verdict = "unclear"    // gave no clear answer within the bound of trials
	Untestable Verdict = "untestable" // cannot be built or run
)

// Step is the test of one version.
type Step struct {
	Version string  `json:"version"`
	Verdict Verdict `json:"verdict"`
	Counts  Counts  `json:"counts"`
	// Remembered are those of the counts that were known from before.
	Remembered Counts `json:"remembered"`
	// Reason says why it could not be decided.
	Reason string `json:"reason,omitempty"`
	// Risk is the probability that trials like these come from the opposite
	// verdict.
	Risk    float64 `json:"risk"`
	Seconds float64 `json:"seconds"`
}

// Change is where one version is bad and the next one tested is not, or the
// other way round.
type Change struct {
	// Last is the last version before the change, First the first after it.
	Last  string `json:"last"`
	First string `json:"first"`
	// To is what First is.
	To Verdict `json:"to"`
	// Between are versions that could not be tested: the change may be at any
	// of them, or at First.
	Between []string `json:"between"`
}

// Estimate is the chance of reproduction at the bad end.
type Estimate struct {
	Counts Counts `json:"counts"`
	// Least is its lower bound, wrong with the probability Risk.
	Least float64 `json:"least"`
	Risk  float64 `json:"risk"`
}

// Result is the answer and all it rests on.
type Result struct {
	Good string `json:"good"`
	Bad  string `json:"bad"`
	// Versions are those between the ends, oldest first, ends included.
	Versions []string `json:"versions"`
	Settings Settings `json:"settings"`
	// Steps are in the order in which they were made.
	Steps   []Step   `json:"steps"`
	Changes []Change `json:"changes"`
	// Estimate is nil where the chance was known.
	Estimate *Estimate `json:"estimate,omitempty"`
	// Confidence is the one reached: the answer is wrong with at most the rest.
	Confidence float64 `json:"confidence"`
	Seconds    float64 `json:"seconds"`
}

// finish draws the conclusions from the steps.
func (r *run) finish() {
	r.result.Changes = r.search.changes()
	r.result.Seconds = time.Since(r.start).Seconds()
	wrong := 0.0
	if r.result.Estimate != nil {
		wrong = r.result.Estimate.Risk
	}
	for _, s := range r.result.Steps {
		wrong += s.Risk
	}
	r.result.Confidence = max(0, 1-wrong)
}

// Trials is how many were run, remembered ones not counted, and Tested the
// number of versions that were decided.
func (r Result) Trials() (trials, tested int) {
	for _, s := range r.Steps {
		trials += s.Counts.Decided() + s.Counts.Unclear - s.Remembered.Decided() - s.Remembered.Unclear
		if s.Verdict == Bad || s.Verdict == Good {
			tested++
		}
	}
	return trials, tested
}

// Of is what was found of a version; empty where it was not tried.
func (r Result) Of(version string) Verdict {
	for _, s := range r.Steps {
		if s.Version == version {
			return s.Verdict
		}
	}
	return ""
}

// Sentence is the answer in words.
func (r Result) Sentence() string {
	_, tested := r.Trials()
	if tested < 2 {
		return fmt.Sprintf("no answer: %d of %d versions were decided", tested, len(r.Versions))
	}
	sure := fmt.Sprintf("(confidence %.4f; %d of %d versions tested)", r.Confidence, tested, len(r.Versions))
	switch len(r.Changes) {
	case 0:
		count := map[Verdict]int{}
		for _, s := range r.Steps {
			count[s.Verdict]++
		}
		switch {
		case count[Bad] > 0 && count[Good] == 0:
			return fmt.Sprintf("none of the %d versions tested is good %s", count[Bad], sure)
		case count[Good] > 0 && count[Bad] == 0:
			return fmt.Sprintf("none of the %d versions tested is bad %s", count[Good], sure)
		}
		return "no change was found " + sure
	case 1:
		return r.Changes[0].sentence() + " " + sure
	}
	var all []string
	for _, c := range r.Changes {
		all = append(all, c.sentence())
	}
	return fmt.Sprintf("%d changes were found: %s %s", len(all), strings.Join(all, "; "), sure)
}

func (c Change) sentence() string {
	from := Bad
	if c.To == Bad {
		from = Good
	}
	if len(c.Between) == 0 {
		return fmt.Sprintf("%s is the first %s version, %s the last %s one", c.First, c.To, c.Last, from)
	}
	return fmt.Sprintf("the first %s version is one of %s (%s is the last %s one tested, and %s could not be decided)",
		c.To, strings.Join(append(append([]string{}, c.Between...), c.First), ", "), c.Last, from, strings.Join(c.Between, ", "))
}
