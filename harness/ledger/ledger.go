// Package ledger works out, from results, what has been measured of the
// sentences of the field reports. Nothing in it is written by hand: a claim is
// data beside its scenario, and its verdict follows from the newest results.
package ledger

import (
	"fmt"
	"slices"
	"strings"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/report"
)

// Judge gives the verdict on every claim of the scenarios, each arm's newest
// usable result deciding.
func Judge(scenarios []arm.Scenario, runs []report.Run) []report.Claim {
	var claims []report.Claim
	for _, s := range scenarios {
		newest := newestArms(s, runs)
		for _, c := range s.Claims {
			claims = append(claims, judge(s, c, newest))
		}
	}
	slices.SortStableFunc(claims, func(a, b report.Claim) int { return compareIDs(a.ID, b.ID) })
	return claims
}

// newestArms finds the newest result of each arm. A run of an arm with another
// version of its subject says nothing about the claim, and one that could not
// run, or broke off, stands back behind one that came to its end.
func newestArms(s arm.Scenario, runs []report.Run) map[string]report.Arm {
	runs = slices.Clone(runs)
	slices.SortStableFunc(runs, func(a, b report.Run) int { return b.Started.Compare(a.Started) })
	newest := map[string]report.Arm{}
	for _, r := range runs {
		for _, got := range r.Arms {
			i := slices.IndexFunc(s.Arms, func(a arm.Arm) bool { return a.Name == got.Arm })
			if got.Scenario != s.Name || i < 0 || !ownSubjects(s.Arms[i], got) {
				continue
			}
			have, known := newest[got.Arm]
			if !known || whyNot(have) != "" && whyNot(got) == "" {
				newest[got.Arm] = got
			}
		}
	}
	return newest
}

// whyNot says why a result tells nothing; empty when it does.
func whyNot(a report.Arm) string {
	if a.Verdict == arm.NotRun || strings.HasPrefix(a.Reason, "failed: ") {
		return a.Reason
	}
	return ""
}

func ownSubjects(a arm.Arm, got report.Arm) bool {
	if got.Verdict == arm.NotRun {
		return true
	}
	return slices.EqualFunc(a.Runtimes, got.Runtimes, func(ref string, r report.Runtime) bool {
		return ref == r.Name+"@"+r.Version
	})
}

// finding is what one check, or several, came to.
type finding int

// The findings, the gravest last.
const (
	holds finding = iota
	open
	absent
	fails
)

func judge(s arm.Scenario, c arm.Claim, newest map[string]report.Arm) report.Claim {
	r := report.Claim{ID: c.ID, Scenario: s.Name, Says: c.Says, Report: s.Report, Verdict: arm.NotHere, Missing: c.Missing}
	if len(c.Checks) == 0 {
		return r
	}
	f, figures, missing := checkAll(c.Checks, newest)
	r.Arms = armsOf(c.Checks)
	r.Figure = figures.words(len(r.Arms) > 1 || c.Correction != nil)
	switch f {
	case fails:
		r.Verdict = arm.Refuted
	case absent:
		r.Figure, r.Missing = "", missing
	case open:
		r.Verdict = arm.Undecided
	case holds:
		r.Verdict = arm.Confirmed
	}
	if c.Correction == nil || f == absent {
		return r
	}
	more, figures, missing := checkAll(c.Correction.Checks, newest)
	switch more {
	case holds:
		r.Verdict, r.Correction = arm.Refined, c.Correction.Says
		r.Figure += "; " + figures.words(true)
		for _, a := range armsOf(c.Correction.Checks) {
			r.Arms = appendNew(r.Arms, a)
		}
	case absent:
		r.Missing = missing
	}
	return r
}

func armsOf(checks []arm.Check) []string {
	var names []string
	for _, c := range checks {
		names = appendNew(names, c.Arm)
	}
	return names
}

// checkAll joins the findings of checks: the gravest counts.
func checkAll(checks []arm.Check, newest map[string]report.Arm) (all finding, figures figures, missing string) {
	var never, lacks []string
	for _, c := range checks {
		a, ran := newest[c.Arm]
		f, figure := absent, ""
		switch {
		case !ran:
			never = appendNew(never, c.Arm)
		case whyNot(a) != "":
			lacks = appendNew(lacks, fmt.Sprintf("arm %s: %s", c.Arm, whyNot(a)))
		default:
			if f, figure = check(c, a); f == absent {
				lacks = appendNew(lacks, fmt.Sprintf("arm %s has not measured %q", c.Arm, c.Outcome+c.Counter))
			}
		}
		all = max(all, f)
		if figure != "" {
			figures = figures.with(figure, c.Arm)
		}
	}
	if len(never) > 0 {
		lacks = append(lacks, "no result of "+strings.Join(never, ", "))
	}
	return all, figures, strings.Join(lacks, "; ")
}

// figures are what was measured, each with the arms that gave it.
type figures []struct {
	figure string
	arms   []string
}

func (fs figures) with(figure, name string) figures {
	for i := range fs {
		if fs[i].figure == figure {
			fs[i].arms = appendNew(fs[i].arms, name)
			return fs
		}
	}
	return append(fs, struct {
		figure string
		arms   []string
	}{figure, []string{name}})
}

// words lists the figures, with their arms where there are several.
func (fs figures) words(named bool) string {
	var all []string
	for _, f := range fs {
		words := f.figure
		if named {
			words += " (" + strings.Join(f.arms, ", ") + ")"
		}
		all = append(all, words)
	}
	return strings.Join(all, "; ")
}

func appendNew(all []string, s string) []string {
	if slices.Contains(all, s) {
		return all
	}
	return append(all, s)
}

// check asks one thing of an arm's result and words what was measured.
func check(c arm.Check, a report.Arm) (finding, string) {
	switch {
	case c.Outcome != "":
		for _, o := range a.Outcomes {
			if o.Name == c.Outcome {
				return checkOutcome(c, o), fmt.Sprintf("%s: %d of %d", o.Name, o.Yes, o.Trials)
			}
		}
	case c.Counter != "":
		for _, k := range a.Counters {
			if k.Name == c.Counter {
				return checkCounter(c, k), fmt.Sprintf("%s: %s %s per operation", k.Name, k.String(), k.Unit)
			}
		}
	case c.Verdict != "":
		figure := string(a.Verdict)
		switch a.Verdict {
		case c.Verdict:
			return holds, figure
		case arm.Inconclusive:
			return open, figure
		}
		return fails, figure
	}
	return absent, ""
}

func checkOutcome(c arm.Check, o report.Outcome) finding {
	switch {
	case o.Trials == 0:
		return absent
	case c.Share == arm.Never && o.Yes == 0, c.Share == arm.Always && o.Yes == o.Trials:
		return holds
	case c.Share == arm.Never, o.Yes == 0:
		return fails
	case o.Lo > 0.5:
		return holds
	}
	return open
}

func checkCounter(c arm.Check, k report.Counter) finding {
	switch {
	case k.Slope == nil:
		return absent
	case k.Lo == nil || k.Hi == nil:
		return open
	case *k.Lo >= c.Lo && *k.Hi <= c.Hi:
		return holds
	case *k.Lo > c.Hi || *k.Hi < c.Lo:
		return fails
	}
	return open
}

// compareIDs orders T9 before T10, and the reports by their letters.
func compareIDs(a, b string) int {
	var ka, kb rune
	var na, nb int
	fmt.Sscanf(a, "%c%d", &ka, &na) // an id of another shape sorts first
	fmt.Sscanf(b, "%c%d", &kb, &nb)
	if ka != kb {
		return reportOrder(ka) - reportOrder(kb)
	}
	return na - nb
}

// reportOrder is the order of the reports in the lab's papers.
func reportOrder(letter rune) int { return strings.IndexRune("SKTM", letter) }
