package bisect

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	. "github.com/onsi/gomega"
)

func seeded(n uint64) *rand.Rand { return rand.New(rand.NewPCG(7, n)) }

// certain are settings for simulated versions that always show the leak.
var certain = func() Settings {
	s := DefaultSettings.ForSlopes()
	s.Probes = 0
	return s
}()

func TestEveryMonotoneAxis(t *testing.T) {
	g := NewWithT(t)
	for n := 2; n <= 20; n++ {
		for bad := 1; bad < n; bad++ {
			a := monotone(seeded(1), n, bad, 1, 1)
			r, err := a.run(certain)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(r.Changes).To(Equal([]Change{{
				Last: a.versions[bad-1], First: a.versions[bad], To: Good, Between: []string{}}}))
			g.Expect(r.Confidence).To(BeNumerically(">=", certain.Confidence))
			// Both ends, and a halving each.
			g.Expect(a.builds).To(BeNumerically("<=", 2+math.Ceil(math.Log2(float64(n-1)))))
			g.Expect(a.trials).To(Equal(a.builds), "one run decides")
		}
	}
}

func TestFirstBad(t *testing.T) {
	g := NewWithT(t)
	a := newAxis(seeded(1), 0, 0, 0, 1, 1, 1, 1, 1)
	r, err := a.run(certain)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.Sentence()).To(HavePrefix("v3 is the first bad version, v2 the last good one (confidence 0.99"))
}

func TestUnbuildableVersions(t *testing.T) {
	const x = -1 // cannot be built
	for _, c := range []struct {
		chance []float64
		want   string
	}{
		{[]float64{1, 1, x, x, x, 0, 0, 0}, "the first good version is one of v2, v3, v4, v5 (v1 is the last bad one tested, and v2, v3, v4 could not be decided)"},
		{[]float64{1, x, x, x, x, x, x, 0}, "the first good version is one of v1, v2, v3, v4, v5, v6, v7 (v0"},
		{[]float64{1, x, x, x, x, 1, 0, 0}, "v6 is the first good version, v5 the last bad one"},
		{[]float64{1, 1, 0, x, x, x, x, 0}, "v2 is the first good version, v1 the last bad one"},
		{[]float64{1, 0}, "v1 is the first good version, v0 the last bad one"},
	} {
		g := NewWithT(t)
		r, err := newAxis(seeded(1), c.chance...).run(certain)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(r.Sentence()).To(HavePrefix(c.want), "%v", c.chance)
	}
}

func TestMoreThanOneChange(t *testing.T) {
	// Fixed in v4, back in v9, fixed again in v13.
	chance := []float64{1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0}
	want := []string{"v4", "v9", "v13"}
	firsts := func(r Result) (all []string) {
		for _, c := range r.Changes {
			all = append(all, c.First)
		}
		return all
	}
	t.Run("a full scan finds all", func(t *testing.T) {
		g := NewWithT(t)
		s := certain
		s.All = true
		r, err := newAxis(seeded(1), chance...).run(s)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(firsts(r)).To(Equal(want))
		g.Expect(r.Steps).To(HaveLen(len(chance)))
		g.Expect(r.Sentence()).To(HavePrefix("3 changes were found: v4 is the first good version, v3 the last bad one; v9 is the first bad version"))
	})
	t.Run("probes find them", func(t *testing.T) {
		g := NewWithT(t)
		s := certain
		s.Probes = 2
		r, err := newAxis(seeded(1), chance...).run(s)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(firsts(r)).To(Equal(want))
	})
	t.Run("without, one of them is found", func(t *testing.T) {
		g := NewWithT(t)
		r, err := newAxis(seeded(1), chance...).run(certain)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(r.Changes).To(HaveLen(1))
		g.Expect(want).To(ContainElement(r.Changes[0].First))
	})
}

func TestWrongEnds(t *testing.T) {
	run := func(s Settings, chance ...float64) (Result, error) {
		a := newAxis(seeded(1), chance...)
		return Run(t.Context(), a.versions, a.versions[len(chance)-1], a.versions[0], a, s, func(Step) {})
	}
	t.Run("the good end is bad", func(t *testing.T) {
		g := NewWithT(t)
		r, err := run(certain, 1, 1, 1)
		g.Expect(err).To(MatchError("v2 was given as good, but is bad (bad in 1 of 1 trials)"))
		g.Expect(r.Sentence()).To(HavePrefix("none of the 2 versions tested is good"))
	})
	t.Run("a full scan says so of all", func(t *testing.T) {
		g := NewWithT(t)
		s := certain
		s.All = true
		r, err := run(s, 1, 1, 1, 1)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(r.Sentence()).To(HavePrefix("none of the 4 versions tested is good"))
	})
	t.Run("without a good end all are asked", func(t *testing.T) {
		g := NewWithT(t)
		s := certain
		s.All = true
		a := newAxis(seeded(1), 1, 1, 1, 1)
		r, err := Run(t.Context(), a.versions, "", "v2", a, s, func(Step) {})
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(r.Sentence()).To(HavePrefix("none of the 4 versions tested is good (confidence 0.99"))
		a = newAxis(seeded(1), 0, 1, 1, 0)
		r, err = Run(t.Context(), a.versions, "", "v2", a, s, func(Step) {})
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(r.Sentence()).To(HavePrefix("2 changes were found: v1 is the first bad version, v0 the last good one; v3 is the first good version, v2 the last bad one"))
		_, err = Run(t.Context(), a.versions, "", "v2", a, certain, func(Step) {})
		g.Expect(err).To(MatchError("without a good end all versions have to be tested"))
	})
	t.Run("the bad end is good", func(t *testing.T) {
		g := NewWithT(t)
		_, err := run(DefaultSettings, 0, 0, 0)
		var end *EndError
		g.Expect(errors.As(err, &end)).To(BeTrue())
		g.Expect(err).To(MatchError(ContainSubstring("v0 was given as bad, but is good (bad in 0 of ")))
	})
	t.Run("an end cannot be built", func(t *testing.T) {
		g := NewWithT(t)
		r, err := run(certain, -1, 0)
		g.Expect(err).To(MatchError("the bad end v0 cannot be tested: cannot test: it does not compile"))
		g.Expect(r.Sentence()).To(Equal("no answer: 0 of 2 versions were decided"))
	})
	t.Run("not on the axis", func(t *testing.T) {
		g := NewWithT(t)
		a := newAxis(seeded(1), 1, 0)
		_, err := Run(t.Context(), a.versions, "v7", "v0", a, certain, func(Step) {})
		g.Expect(err).To(MatchError(`the good end "v7" is not among the versions`))
		_, err = Run(t.Context(), a.versions, "v0", "v0", a, certain, func(Step) {})
		g.Expect(err).To(MatchError(`both ends are "v0"`))
	})
	t.Run("too rare", func(t *testing.T) {
		g := NewWithT(t)
		s := DefaultSettings
		s.Rarest, s.MaxTrials = 0.002, 1_000_000
		_, err := run(s, 0.002, 0)
		g.Expect(err).To(MatchError(ErrTooRare))
	})
}

// silent gives no answers for one version, and those of an axis for the others.
type silent struct {
	*axis
	version string
}

func (s silent) Test(ctx context.Context, version string, n int) (Counts, error) {
	if version == s.version {
		return Counts{Unclear: n}, nil
	}
	return s.axis.Test(ctx, version, n)
}

func TestAVersionWithoutAnAnswerIsPassedBy(t *testing.T) {
	g := NewWithT(t)
	a := newAxis(seeded(1), 1, 1, 1, 0, 0)
	r, err := Run(t.Context(), a.versions, "v4", "v0", silent{a, "v2"}, certain, func(Step) {})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.Of("v2")).To(Equal(Unclear))
	g.Expect(r.Changes).To(Equal([]Change{{Last: "v1", First: "v3", To: Good, Between: []string{"v2"}}}))
}

func TestInterruptedAndContinued(t *testing.T) {
	g := NewWithT(t)
	whole := monotone(seeded(3), 12, 7, 0.5, 0.5)
	want, err := whole.run(DefaultSettings)
	g.Expect(err).NotTo(HaveOccurred())

	parts := monotone(seeded(3), 12, 7, 0.5, 0.5)
	var got Result
	for range 50 {
		parts.calls, parts.stop = 0, 1
		if got, err = parts.run(DefaultSettings); err == nil {
			break
		}
		g.Expect(err).To(MatchError(context.Canceled))
	}
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(got.Changes).To(Equal(want.Changes))
	g.Expect(parts.builds).To(Equal(whole.builds), "nothing is built twice")

	// Once more: all is known.
	before := parts.trials
	again, err := parts.run(DefaultSettings)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(parts.trials).To(Equal(before))
	g.Expect(again.Changes).To(Equal(want.Changes))
	trials, _ := again.Trials()
	g.Expect(trials).To(BeZero())
}

func TestWhatMayFollowIsPrepared(t *testing.T) {
	g := NewWithT(t)
	a := monotone(seeded(1), 17, 9, 1, 1)
	_, err := a.run(certain)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(a.ahead[0]).To(Equal([]string{"v16"}), "while the bad end runs")
	g.Expect(a.ahead[1]).To(Equal([]string{"v8"}), "while the good end runs")
	g.Expect(a.ahead[2]).To(Equal([]string{"v12", "v4", "v7"}), "while the middle runs")
}

func TestSettingsAreChecked(t *testing.T) {
	for _, change := range []func(*Settings){
		func(s *Settings) { s.Confidence = 1 },
		func(s *Settings) { s.Confidence = 0.4 },
		func(s *Settings) { s.Noise = 0 },
		func(s *Settings) { s.Chance = 1 },
		func(s *Settings) { s.Weakest = 0 },
		func(s *Settings) { s.MaxTrials = 0 },
	} {
		s := DefaultSettings
		change(&s)
		a := newAxis(seeded(1), 1, 0)
		_, err := a.run(s)
		NewWithT(t).Expect(err).To(HaveOccurred(), "%+v", s)
	}
}

// The lower bound of the chance is wrong as seldom as it says, although the
// number of trials depends on what they showed.
func TestLeastChance(t *testing.T) {
	const risk, runs = 0.05, 4000
	rng := seeded(5)
	for _, p := range []float64{0.05, 0.3, 0.9} {
		wrong := 0
		for range runs {
			var c Counts
			for c.Bad < 20 {
				if rng.Float64() < p {
					c.Bad++
				} else {
					c.Good++
				}
			}
			if leastChance(c, risk) > p {
				wrong++
			}
		}
		NewWithT(t).Expect(float64(wrong)/runs).To(BeNumerically("<", risk), "chance %v", p)
	}
	g := NewWithT(t)
	g.Expect(leastChance(Counts{Good: 10}, risk)).To(BeZero())
	g.Expect(leastChance(Counts{Bad: 20}, 0.001)).To(BeNumerically("~", 0.608, 0.001))
}

// The whole budget is never spent, however many tests there are.
func TestBudget(t *testing.T) {
	for _, versions := range []int{2, 3, 11, 300} {
		b := newBudget(DefaultSettings, versions)
		sum := b.estimate
		for range 100 * versions {
			sum += b.next()
		}
		NewWithT(t).Expect(sum).To(BeNumerically("<=", 1-DefaultSettings.Confidence+1e-12), "%d versions", versions)
	}
}

// The error rates that docs/bisect.md states. Where versions are as rare as the
// settings allow (half of the bad end) a wrong answer has at most the chance
// that was asked for; so it has with noise.
func TestErrorRates(t *testing.T) {
	const runs = 2000
	for _, c := range []struct {
		confidence, chance, weakest, noise float64
		versions                           int
	}{
		{0.99, 1, 1, 0, 11},
		{0.99, 1, 0.5, 0, 11},
		{0.99, 0.5, 0.5, 0, 11},
		{0.99, 0.2, 0.5, 0, 32},
		{0.99, 0.05, 0.5, 0, 11},
		{0.99, 0.5, 0.5, 0.001, 32},
		{0.90, 1, 0.5, 0, 11},
		{0.90, 0.5, 0.5, 0.001, 32},
		{0.90, 0.05, 0.5, 0.001, 11},
		{0.60, 0.5, 0.5, 0.001, 11},
	} {
		rng := seeded(11)
		s := DefaultSettings
		s.Confidence, s.Probes = c.confidence, 0
		wrong, rare, trials := 0, 0, 0
		for range runs {
			bad := 1 + rng.IntN(c.versions-1)
			a := monotone(rng, c.versions, bad, c.chance, c.weakest)
			for i := range a.chance[bad:] {
				a.chance[bad+i] = c.noise
			}
			r, err := a.run(s)
			trials += a.trials
			switch {
			case errors.Is(err, ErrTooRare):
				rare++ // an honest answer, and none
			case err != nil || len(r.Changes) != 1 || r.Changes[0].First != a.versions[bad]:
				wrong++
			}
		}
		rate := float64(wrong) / runs
		t.Logf("confidence %.2f, chance %.2f (others %.2f of it), noise %.3f, %2d versions: wrong %.4f, too rare %d of %d, %.0f trials",
			c.confidence, c.chance, c.weakest, c.noise, c.versions, rate, rare, runs, float64(trials)/runs)
		NewWithT(t).Expect(rate).To(BeNumerically("<=", 1-c.confidence))
		NewWithT(t).Expect(rare).To(BeNumerically("<", runs/20))
	}
}

// The simulated axes of the benchmark, and what there is to compare with.
func BenchmarkSimulatedAxes(b *testing.B) {
	for _, versions := range []int{11, 32, 200} {
		for _, chance := range []float64{1, 0.3} {
			b.Run(fmt.Sprintf("%d versions, chance %v", versions, chance), func(b *testing.B) {
				s := DefaultSettings
				s.Probes = 0
				all := s
				all.All = true
				var builds, trials, scanBuilds, scanTrials int
				for n := range b.N {
					rng := seeded(uint64(n))
					bad := 1 + rng.IntN(versions-1)
					a := monotone(rng, versions, bad, chance, 1)
					scan := newAxis(rng, slices.Clone(a.chance)...)
					if _, err := a.run(s); err != nil {
						b.Fatal(err)
					}
					if _, err := scan.run(all); err != nil {
						b.Fatal(err)
					}
					builds, trials = builds+a.builds, trials+a.trials
					scanBuilds, scanTrials = scanBuilds+scan.builds, scanTrials+scan.trials
				}
				per := func(n int) float64 { return float64(n) / float64(b.N) }
				b.ReportMetric(per(builds), "builds")
				// One answer of yes or no halves what is possible; the ends
				// themselves are not taken on trust.
				b.ReportMetric(2+math.Log2(float64(versions-1)), "builds-minimum")
				b.ReportMetric(per(scanBuilds), "builds-scan")
				b.ReportMetric(per(trials), "trials")
				b.ReportMetric(per(scanTrials), "trials-scan")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
