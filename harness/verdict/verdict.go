package verdict

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/stat"

	"github.com/leaklab/leaklab/harness/arm"
)

// The decision rule (docs/verdict.md): a counter leaks when its whole interval
// lies above leakShare of the documented slope, and is clean when it lies below
// cleanShare of it.
const (
	leakShare  = 0.5
	cleanShare = 0.01
)

// Counter is what was measured of one counter.
type Counter struct {
	arm.Counter
	// Expected is the slope that this arm expects: the documented one, or 0.
	Expected float64
	Slope    Interval
	// Points is the number of samples behind the fit.
	Points  int
	Verdict arm.Verdict
	// OK says that the verdict is the expected one; always true for a counter
	// that does not decide.
	OK bool
}

// Outcome is what was measured of one yes/no question.
type Outcome struct {
	arm.Outcome
	Yes, Trials int
	Share       Interval
	Verdict     arm.Verdict
	OK          bool
	// Seconds until yes, one per trial that said yes.
	Seconds []float64
}

// Result is an arm's verdict and all that led to it.
type Result struct {
	Verdict  arm.Verdict
	Expected arm.Verdict
	OK       bool
	// Reason says in one sentence what was measured, with the numbers.
	Reason   string
	Counters []Counter
	Outcomes []Outcome
}

// ReadCounter fits one counter over the samples of the rounds.
func ReadCounter(a arm.Arm, c arm.Counter, samples []arm.Sample) Counter {
	r := Counter{Counter: c, Verdict: arm.Inconclusive, OK: true}
	if r.Expect == "" {
		r.Expect = a.Expect()
	}
	if r.Expect == arm.Leaks {
		r.Expected = c.Documented
	}
	var x, y []float64
	for _, s := range samples {
		if v, ok := s.Counters[c.Name]; ok && s.Phase == arm.PhaseRound {
			x, y = append(x, float64(s.Ops)), append(y, v)
		}
	}
	r.Points = len(x)
	r.Slope = Slope(x, y)
	switch {
	case c.Documented <= 0: // nothing to hold it against: recorded only
	case r.Slope.Lo > leakShare*c.Documented:
		r.Verdict = arm.Leaks
	case r.Slope.Hi < cleanShare*c.Documented:
		r.Verdict = arm.Clean
	}
	if c.Decides {
		r.OK = r.Verdict == r.Expect
	}
	return r
}

// ReadOutcome counts one outcome over the trials.
func ReadOutcome(o arm.Outcome, results []arm.OutcomeResult) Outcome {
	r := Outcome{Outcome: o, Verdict: arm.Inconclusive, OK: true}
	for _, res := range results {
		if res.Name != o.Name {
			continue
		}
		r.Trials++
		if res.Yes {
			r.Yes++
			r.Seconds = append(r.Seconds, res.Seconds)
		}
	}
	r.Share = Share(r.Yes, r.Trials)
	// Half of "in every trial" is the analogue of half the documented slope;
	// a single occurrence keeps an arm from being called clean.
	switch {
	case r.Share.Lo > leakShare:
		r.Verdict = arm.Leaks
	case r.Yes == 0 && r.Share.Hi < leakShare:
		r.Verdict = arm.Clean
	}
	switch o.Expect {
	case arm.Always:
		r.OK = r.Trials > 0 && r.Yes == r.Trials
	case arm.Never:
		r.OK = r.Trials > 0 && r.Yes == 0
	}
	return r
}

// Decided reports whether every deciding counter of the arm has a verdict, so
// that more rounds would not change anything.
func Decided(a arm.Arm, samples []arm.Sample) bool {
	for _, c := range a.Counters {
		if c.Decides && ReadCounter(a, c, samples).Verdict == arm.Inconclusive {
			return false
		}
	}
	return true
}

// Judge gives the verdict on a finished run.
func Judge(a arm.Arm, samples []arm.Sample, outcomes []arm.OutcomeResult) Result {
	res := Result{Expected: a.Expect(), Verdict: arm.Clean, OK: true}
	deciding := 0
	weigh := func(decides bool, v arm.Verdict, ok bool) {
		res.OK = res.OK && ok
		if !decides {
			return
		}
		deciding++
		switch {
		case v == arm.Leaks:
			res.Verdict = arm.Leaks
		case v == arm.Inconclusive && res.Verdict == arm.Clean:
			res.Verdict = arm.Inconclusive
		}
	}
	for _, o := range a.Outcomes {
		r := ReadOutcome(o, outcomes)
		weigh(o.Decides, r.Verdict, r.OK)
		res.Outcomes = append(res.Outcomes, r)
	}
	for _, c := range a.Counters {
		r := ReadCounter(a, c, samples)
		weigh(c.Decides, r.Verdict, r.OK)
		res.Counters = append(res.Counters, r)
	}
	if deciding == 0 {
		res.Verdict = arm.Inconclusive
	}
	res.OK = res.OK && res.Verdict == res.Expected
	res.Reason = reason(res)
	return res
}

// reason says what was measured: first what is not as expected, and when all
// is, what decided.
func reason(res Result) string {
	var wrong, right []string
	for _, o := range res.Outcomes {
		s := fmt.Sprintf("%s in %d of %d trials", o.Name, o.Yes, o.Trials)
		switch {
		case !o.OK:
			wrong = append(wrong, fmt.Sprintf("%s, expected %s", s, o.Expect))
		case o.Decides && o.Verdict == arm.Inconclusive:
			wrong = append(wrong, fmt.Sprintf("%s: too few to tell (share between %.2f and %.2f)", s, o.Share.Lo, o.Share.Hi))
		case o.Expect != arm.Shown:
			right = append(right, s)
		}
	}
	for _, c := range res.Counters {
		if !c.Decides {
			continue
		}
		s := fmt.Sprintf("%s: %s per operation", c.Name, c.Slope)
		switch {
		case c.Points == 0:
			wrong = append(wrong, c.Name+": never sampled")
		case !c.OK:
			wrong = append(wrong, fmt.Sprintf("%s, expected %s", s, Number(c.Expected)))
		default:
			right = append(right, s)
		}
	}
	switch {
	case len(wrong) > 0:
		return strings.Join(wrong, "; ")
	case len(right) == 0:
		return "nothing was measured that decides"
	}
	return strings.Join(right, "; ")
}

// String gives the estimate and, where it says more, the interval.
func (in Interval) String() string {
	if in.Lo == in.Hi {
		return Number(in.Estimate)
	}
	if math.IsInf(in.Lo, 0) || math.IsInf(in.Hi, 0) {
		return Number(in.Estimate) + " (too few samples for an interval)"
	}
	return fmt.Sprintf("%s [%s, %s]", Number(in.Estimate), Number(in.Lo), Number(in.Hi))
}

// Number formats a figure for people: four significant digits, no exponent for
// what a slope can be.
func Number(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	if math.Abs(v) >= 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	s := fmt.Sprintf("%.4g", v)
	if strings.Contains(s, "e") {
		return fmt.Sprintf("%.4f", v)
	}
	return s
}

// Median is that of the seconds until yes; nil when they mean nothing.
func (o Outcome) Median() *float64 {
	s := slices.DeleteFunc(slices.Clone(o.Seconds), func(v float64) bool { return v == 0 })
	if len(s) == 0 {
		return nil
	}
	slices.Sort(s)
	m := stat.Quantile(0.5, stat.Empirical, s, nil)
	return &m
}
