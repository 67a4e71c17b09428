package bisect

import (
	"context"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mathext"
)

// test is Wald's sequential probability ratio test of one version: bad, that is
// showing the leak in a share of trials of at least chance, against good, that
// is showing it in at most noise. By Ville's inequality each wrong answer has at
// most the probability risk, wherever trials were stopped, looked at or
// continued in between.
type test struct {
	chance, noise, risk float64
}

// badStep and goodStep are what one trial adds to the logarithm of the ratio.
func (t test) badStep() float64  { return math.Log(t.chance / t.noise) }
func (t test) goodStep() float64 { return math.Log((1 - t.chance) / (1 - t.noise)) }

// bound is where the logarithm of the ratio decides, either way.
func (t test) bound() float64 { return -math.Log(t.risk) }

func (t test) ratio(c Counts) float64 {
	return float64(c.Bad)*t.badStep() + float64(c.Good)*t.goodStep()
}

// verdict is [Unclear] while the trials do not suffice.
func (t test) verdict(c Counts) Verdict {
	// The sums of a bound that is met exactly differ in their last bit.
	const rounding = 1e-9
	switch ratio := t.ratio(c); {
	case ratio >= t.bound()-rounding:
		return Bad
	case ratio <= -t.bound()+rounding:
		return Good
	}
	return Unclear
}

// more is how many further trials to run: as many as would call the version
// good if none of them were bad, or as would call it bad if it showed the leak
// in a share of seen, whichever is fewer. A version that has not shown it in
// that many is most likely good, and the rest is run at once.
func (t test) more(c Counts, seen float64) int {
	ratio := t.ratio(c)
	toGood := math.Ceil((t.bound() + ratio) / -t.goodStep())
	if c.Bad == 0 && c.Good > 0 {
		return int(toGood)
	}
	toBad := math.Ceil((t.bound() - ratio) / t.badStep() / max(seen, t.chance))
	return max(1, int(min(toGood, toBad)))
}

// reached is the probability of a wrong answer, for the report: by Ville's
// inequality, that a version of the opposite verdict ever shows such trials.
func (t test) reached(c Counts) float64 { return math.Exp(-math.Abs(t.ratio(c))) }

// decide runs trials until the version of step is decided.
func (r *run) decide(ctx context.Context, step *Step) error {
	estimating := r.chance == 0
	// Until the chance is known the bad end is only asked whether it is bad.
	t := test{chance: r.chance, noise: r.settings.Noise}
	if estimating {
		t.chance = r.settings.Rarest
	}
	known, err := r.tester.Known(ctx, step.Version)
	if err != nil {
		return err
	}
	step.Counts, step.Remembered = known, known
	t.risk = r.budget.next()
	for silent := 0; ; {
		step.Verdict = t.verdict(step.Counts)
		enough := step.Verdict != Unclear
		if estimating && step.Verdict == Bad {
			enough = step.Counts.Bad >= r.settings.Reproductions
		}
		if enough {
			break
		}
		left := r.settings.MaxTrials - step.Counts.Decided()
		if left <= 0 {
			step.Reason = fmt.Sprintf("%v, and more than %d are not run", step.Counts, r.settings.MaxTrials)
			break
		}
		n := t.more(step.Counts, r.seen)
		if estimating {
			n = r.toEstimate(t, step.Counts)
		}
		got, err := r.tester.Test(ctx, step.Version, min(n, left))
		step.Counts = step.Counts.Plus(got)
		if err != nil {
			return err
		}
		if got.Decided() > 0 {
			silent = 0
		} else if silent++; silent == maxUnclear {
			step.Verdict, step.Reason = Unclear, step.Counts.String()
			break
		}
	}
	if step.Verdict == Bad || step.Verdict == Good {
		step.Risk = t.reached(step.Counts)
	}
	if estimating && step.Verdict == Bad {
		return r.estimate(step.Counts)
	}
	return nil
}

// toEstimate is how many more trials the bad end needs for the estimate, going
// by what it has shown so far.
func (r *run) toEstimate(t test, c Counts) int {
	switch {
	case c.Bad >= r.settings.Reproductions: // and still not told from noise
		return t.more(c, float64(c.Bad)/float64(c.Decided()))
	case c.Bad > 0:
		return int(math.Ceil(float64(r.settings.Reproductions-c.Bad) * float64(c.Decided()) / float64(c.Bad)))
	case c.Good > 0:
		return t.more(c, 0)
	}
	return r.settings.Reproductions
}

// estimate takes the chance of reproduction from the bad end.
func (r *run) estimate(c Counts) error {
	risk := r.budget.estimate
	r.result.Estimate = &Estimate{
		Counts: c, Least: leastChance(c, risk), Risk: risk,
	}
	r.seen = float64(c.Bad) / float64(c.Decided())
	r.chance = r.settings.Weakest * r.result.Estimate.Least
	t := test{chance: r.chance, noise: r.settings.Noise, risk: r.budget.first}
	if r.chance <= r.settings.Noise || t.more(Counts{Good: 1}, 0) > r.settings.MaxTrials {
		return fmt.Errorf("%w: the bad end is %v, so versions in between may show it in as few as %.2g of the trials; %d trials per version are the bound",
			ErrTooRare, c, r.chance, r.settings.MaxTrials)
	}
	return nil
}

// leastChance is a lower bound of the chance behind bad and good trials that is
// wrong with at most the probability risk, however the number of trials came
// about: the chance at which the likelihood falls below risk times that of the
// uniform mixture of all chances (Ville's inequality again; Robbins 1970, Ann.
// Math. Stat. 41:1397).
func leastChance(c Counts, risk float64) float64 {
	bad, good := float64(c.Bad), float64(c.Good)
	if c.Bad == 0 {
		return 0
	}
	mixture := mathext.Lbeta(bad+1, good+1)
	tooLow := func(p float64) bool {
		return bad*math.Log(p)+good*math.Log1p(-p) < mixture+math.Log(risk)
	}
	// Below the share that was seen the likelihood only rises.
	low, high := 0.0, bad/(bad+good)
	if high == 1 {
		high = 1 - 1e-12
	}
	for range 60 {
		if middle := (low + high) / 2; tooLow(middle) {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

// budget shares the probability of a wrong answer out among the tests (union
// bound): an answer can only be wrong if one of the tests is that would have
// led to the right one. Three quarters are for the estimate and for the tests
// that a plain search takes; what takes more than those shares the last quarter
// in halving parts, so that the sum stays below the whole however many come.
type budget struct {
	estimate, first float64
	tests, planned  int
	rest            float64
}

func newBudget(s Settings, versions int) *budget {
	planned := 2
	switch {
	case s.All:
		planned = versions
	case versions > 2:
		planned += int(math.Ceil(math.Log2(float64(versions-1)))) + s.Probes
	}
	wrong := 1 - s.Confidence
	parts := planned
	if s.Chance == 0 {
		parts++
	}
	b := &budget{planned: planned, first: 0.75 * wrong / float64(parts), rest: 0.25 * wrong}
	if s.Chance == 0 {
		b.estimate = b.first
	}
	return b
}

// next is the risk that the next test may run.
func (b *budget) next() float64 {
	block := b.tests / b.planned
	b.tests++
	if block == 0 {
		return b.first
	}
	return b.rest / math.Exp2(float64(block)) / float64(b.planned)
}
