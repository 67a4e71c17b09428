// Package bisect finds the version at which a leak came or went, by trials that
// may each miss it, and says how sure the answer is.
//
// It knows no scenario: a [Tester] runs the trials. How it decides, and the
// error rates measured, are in docs/bisect.md. The shape of the search (test
// both ends first, estimate the chance of reproduction, report the confidence)
// follows syzkaller's pkg/bisect.
package bisect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Tester runs trials on versions.
type Tester interface {
	// Known returns what was counted of a version before, without running
	// anything; zero counts where nothing was.
	Known(ctx context.Context, version string) (Counts, error)
	// Test runs about n more trials and returns what they showed. Both methods
	// return an error that is [ErrCannotTest] where the version cannot be had or
	// run at all; any other error ends the bisection.
	Test(ctx context.Context, version string, n int) (Counts, error)
	// Ahead is told which versions may be tested next, likeliest first, so that
	// they can be prepared. It must not block.
	Ahead(versions []string)
}

// ErrCannotTest reports a version that is skipped: it cannot be built or does
// not run.
var ErrCannotTest = errors.New("cannot test")

// Counts are the trials of one version.
type Counts struct {
	// Bad trials showed the leak, Good ones did not.
	Bad  int `json:"bad"`
	Good int `json:"good"`
	// Unclear trials ended without an answer and count neither way.
	Unclear int `json:"unclear,omitempty"`
}

// Decided is the number of trials with an answer.
func (c Counts) Decided() int { return c.Bad + c.Good }

// Plus adds counts.
func (c Counts) Plus(d Counts) Counts {
	return Counts{c.Bad + d.Bad, c.Good + d.Good, c.Unclear + d.Unclear}
}

// String words the trials: "bad in 3 of 20 trials".
func (c Counts) String() string {
	s := fmt.Sprintf("bad in %d of %d trials", c.Bad, c.Decided())
	if c.Unclear > 0 {
		s += fmt.Sprintf(", %d without an answer", c.Unclear)
	}
	return s
}

// Settings are the promises and bounds of a bisection. [DefaultSettings] are
// what docs/bisect.md gives error rates for.
type Settings struct {
	// Confidence is the least chance that the whole answer is right.
	Confidence float64 `json:"confidence"`
	// Chance is the least chance per trial that a bad version shows the leak,
	// where that is known; 0 has it estimated at the bad end.
	Chance float64 `json:"chance,omitempty"`
	// Noise is the most chance per trial that a good version seems to show it.
	Noise float64 `json:"noise"`
	// Weakest is how much rarer another bad version may show the leak than the
	// bad end, as a share of what was estimated there.
	Weakest float64 `json:"weakest"`
	// Rarest is the least chance that is looked for at the bad end.
	Rarest float64 `json:"rarest"`
	// Reproductions at the bad end make the estimate of the chance.
	Reproductions int `json:"reproductions"`
	// MaxTrials bounds the trials of one version.
	MaxTrials int `json:"maxTrials"`
	// Probes is how many versions away from the answer are tested as well, in
	// the largest gaps, in search of further changes.
	Probes int `json:"probes"`
	// All tests every version.
	All bool `json:"all,omitempty"`
}

// DefaultSettings are for leaks that are a matter of chance.
var DefaultSettings = Settings{
	Confidence: 0.99, Noise: 0.001, Weakest: 0.5, Rarest: 0.05,
	Reproductions: 20, MaxTrials: 5000, Probes: 2,
}

// ForSlopes are the settings where each trial is a whole run of an arm that
// decides by slopes over many operations: none of the 20,000 series simulated in
// harness/verdict was misread, which puts the chance of that below 0.0004 (98 %
// confidence, 10,000 series each way). One run then decides.
func (s Settings) ForSlopes() Settings {
	s.Chance, s.Noise = 0.9996, 0.0004
	return s
}

// maxUnclear is how many times in a row a version may be tested without any
// answer before it is left as unclear.
const maxUnclear = 3

// Check says what keeps a bisection from beginning.
func Check(versions []string, good, bad string, s Settings) error {
	if err := s.check(); err != nil {
		return err
	}
	switch {
	case good == "" && !s.All:
		return errors.New("without a good end all versions have to be tested")
	case good != "" && !slices.Contains(versions, good):
		return fmt.Errorf("the good end %q is not among the versions", good)
	case !slices.Contains(versions, bad):
		return fmt.Errorf("the bad end %q is not among the versions", bad)
	case good == bad:
		return fmt.Errorf("both ends are %q", good)
	}
	return nil
}

func (s Settings) check() error {
	switch {
	case !(s.Confidence > 0.5 && s.Confidence < 1):
		return fmt.Errorf("a confidence of %v: want one between 0.5 and 1", s.Confidence)
	case !(s.Noise > 0 && s.Noise < s.Rarest && s.Rarest < 1):
		return fmt.Errorf("a noise of %v and a rarest chance of %v: want 0 < noise < rarest < 1", s.Noise, s.Rarest)
	case s.Chance != 0 && !(s.Chance > s.Noise && s.Chance < 1):
		return fmt.Errorf("a chance of %v: want one between the noise and 1", s.Chance)
	case !(s.Weakest > 0 && s.Weakest <= 1):
		return fmt.Errorf("a weakest share of %v: want one between 0 and 1", s.Weakest)
	case s.Reproductions < 1 || s.MaxTrials < 1:
		return errors.New("at least one reproduction and one trial are needed")
	}
	return nil
}

// EndError reports an end that is not what it was given as: there is nothing to
// search between them.
type EndError struct {
	Version string
	// Given is what the version was given as, Counts what it showed.
	Given  Verdict
	Found  Verdict
	Counts Counts
	Reason string
}

func (e *EndError) Error() string {
	switch e.Found {
	case Untestable:
		return fmt.Sprintf("the %s end %s cannot be tested: %s", e.Given, e.Version, e.Reason)
	case Unclear:
		return fmt.Sprintf("the %s end %s gives no clear answer: %s", e.Given, e.Version, e.Reason)
	}
	return fmt.Sprintf("%s was given as %s, but is %s (%v)", e.Version, e.Given, e.Found, e.Counts)
}

// ErrTooRare reports a leak that the bad end shows too seldom for any number of
// trials within the bound to tell good from bad.
var ErrTooRare = errors.New("the leak is too rare to bisect")

// Run looks for the change between good and bad, which must be among the
// versions (oldest first). Without a good end ("") it asks whether any of them is
// good. Every finished step is handed to watch.
//
// The result holds what was found so far also when there is an error: an
// [EndError], [ErrTooRare], or the tester's own, such as an interruption.
func Run(ctx context.Context, versions []string, good, bad string, t Tester, s Settings, watch func(Step)) (Result, error) {
	if err := Check(versions, good, bad, s); err != nil {
		return Result{}, err
	}
	if good != "" {
		g, b := slices.Index(versions, good), slices.Index(versions, bad)
		versions = versions[min(g, b) : max(g, b)+1]
	}
	r := &run{
		tester: t, settings: s, watch: watch, start: time.Now(),
		search: search{versions: versions, found: map[int]Verdict{}},
		budget: newBudget(s, len(versions)),
		chance: s.Chance,
	}
	r.result = Result{Good: good, Bad: bad, Versions: versions, Settings: s, Steps: []Step{}}
	err := r.run(ctx, slices.Index(versions, good), slices.Index(versions, bad)) // -1 for none
	r.finish()
	return r.result, err
}

// run is one bisection under way.
type run struct {
	tester   Tester
	settings Settings
	watch    func(Step)
	start    time.Time
	search   search
	budget   *budget
	// chance is the least chance per trial that a bad version shows the leak;
	// 0 until it is known.
	chance float64
	// seen is the share of trials in which the bad end showed it.
	seen   float64
	result Result
}

func (r *run) run(ctx context.Context, good, bad int) error {
	if err := r.end(ctx, bad, good, Bad); err != nil {
		return err
	}
	if good >= 0 {
		middle := r.search.with(good, Good).change()
		if err := r.end(ctx, good, middle, Good); err != nil {
			// A full scan answers also where nothing is good.
			var wrong *EndError
			if !r.settings.All || !errors.As(err, &wrong) {
				return err
			}
		}
	}
	probes := r.settings.Probes
	for {
		at := r.search.change()
		if at < 0 && r.settings.All {
			at = r.search.untried()
		}
		if at < 0 && probes > 0 {
			at = r.search.probe()
			probes--
		}
		if at < 0 {
			return nil
		}
		r.ahead(at)
		if _, err := r.step(ctx, at); err != nil {
			return err
		}
	}
}

// ahead names the versions that may follow the one at index at.
func (r *run) ahead(at int) {
	var next []string
	for _, v := range []Verdict{Bad, Good, Untestable} {
		if i := r.search.with(at, v).change(); i >= 0 && !slices.Contains(next, r.search.versions[i]) {
			next = append(next, r.search.versions[i])
		}
	}
	if i := r.search.with(at, Untestable).untried(); len(next) == 0 && r.settings.All && i >= 0 {
		next = append(next, r.search.versions[i])
	}
	r.tester.Ahead(next)
}

// end tests one end, and next (which may be none, -1) will follow.
func (r *run) end(ctx context.Context, at, next int, given Verdict) error {
	if next >= 0 {
		r.tester.Ahead([]string{r.search.versions[next]})
	}
	step, err := r.step(ctx, at)
	if err != nil {
		return err
	}
	if step.Verdict != given {
		return &EndError{Version: step.Version, Given: given, Found: step.Verdict, Counts: step.Counts, Reason: step.Reason}
	}
	return nil
}

// step tests one version until it is decided, and keeps what was found.
func (r *run) step(ctx context.Context, at int) (Step, error) {
	step := Step{Version: r.search.versions[at]}
	start := time.Now()
	err := r.decide(ctx, &step)
	step.Seconds = time.Since(start).Seconds()
	if errors.Is(err, ErrCannotTest) {
		step.Verdict, step.Reason, err = Untestable, err.Error(), nil
	}
	if err != nil {
		return step, err
	}
	r.search.found[at] = step.Verdict
	r.result.Steps = append(r.result.Steps, step)
	r.watch(step)
	return step, nil
}
