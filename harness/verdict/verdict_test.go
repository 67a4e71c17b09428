package verdict

import (
	"math"
	"math/rand/v2"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/leaklab/leaklab/harness/arm"
)

var counter = arm.Counter{Name: "goroutines", Unit: "goroutines", Documented: 1, Decides: true}

// series makes samples of one counter, n operations apart.
func series(n int, values ...float64) []arm.Sample {
	var samples []arm.Sample
	for i, v := range values {
		samples = append(samples, arm.Sample{Phase: arm.PhaseRound, Round: i, Ops: i * n, Counters: map[string]float64{counter.Name: v}})
	}
	return samples
}

func TestKnownSeries(t *testing.T) {
	for _, c := range []struct {
		name   string
		n      int
		values []float64
		want   arm.Verdict
	}{
		{"flat", 50, []float64{7, 7, 7, 7, 7}, arm.Clean},
		{"noisy flat, many operations", 1000, []float64{20, 22, 19, 21, 20, 22, 20, 21, 19}, arm.Clean},
		{"noisy flat, too few operations to tell", 20, []float64{20, 24, 19, 23, 20}, arm.Inconclusive},
		{"exact slope", 50, []float64{3, 53, 103, 153, 203}, arm.Leaks},
		{"slope with warm-up", 50, []float64{3, 73, 123, 173, 223}, arm.Leaks},
		{"half the documented slope", 50, []float64{0, 25, 50, 75, 100}, arm.Inconclusive},
		{"a thirtieth of it", 300, []float64{0, 10, 20, 30, 40}, arm.Inconclusive},
		{"a backlog that drains", 50, []float64{3, 53, 60, 20, 3, 3, 3}, arm.Inconclusive},
		{"a backlog that has drained", 50, []float64{90, 3, 3, 3, 3, 3, 3, 3, 3}, arm.Clean},
		{"flat with one outlier", 50, []float64{3, 3, 3, 40, 3, 3, 3, 3, 3}, arm.Clean},
		{"slope with one outlier", 50, []float64{3, 53, 103, 900, 203, 253, 303, 353, 403}, arm.Leaks},
		{"four samples have no interval", 50, []float64{3, 53, 103, 153}, arm.Inconclusive},
		{"one sample", 50, []float64{3}, arm.Inconclusive},
		{"none", 50, nil, arm.Inconclusive},
		{"falling", 50, []float64{203, 153, 103, 53, 3}, arm.Clean},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := NewWithT(t)
			r := ReadCounter(arm.Arm{Kind: arm.Leak}, counter, series(c.n, c.values...))
			g.Expect(r.Verdict).To(Equal(c.want), "slope %v", r.Slope)
		})
	}
}

func TestOnlyRoundsAreFitted(t *testing.T) {
	g := NewWithT(t)
	samples := series(50, 3, 53, 103, 153, 203)
	samples = append(samples, arm.Sample{Phase: arm.PhaseRelease, Counters: map[string]float64{counter.Name: 0}})
	samples = append(samples, arm.Sample{Phase: arm.PhaseRound, Ops: 999, Counters: map[string]float64{"another": 1}})
	r := ReadCounter(arm.Arm{Kind: arm.Leak}, counter, samples)
	g.Expect(r.Points).To(Equal(5))
	g.Expect(r.Slope).To(Equal(Interval{1, 1, 1}))
}

// rounds simulates an arm that goes on until it is decided, as the agent does.
func rounds(a arm.Arm, ops, least, most int, value func(ops int) float64) arm.Verdict {
	var samples []arm.Sample
	for round := 0; round <= most; round++ {
		samples = append(samples, arm.Sample{
			Phase: arm.PhaseRound, Round: round, Ops: round * ops,
			Counters: map[string]float64{counter.Name: value(round * ops)},
		})
		if round >= least && Decided(a, samples) {
			break
		}
	}
	return Judge(a, samples, nil).Verdict
}

// The error rates that docs/verdict.md states: on series as real probes give
// them (whole numbers, a few goroutines or descriptors of noise, now and then
// a burst) no flat one is called leaking and no leaking one clean.
func TestErrorRates(t *testing.T) {
	const runs = 10_000
	a := arm.Arm{Kind: arm.Leak, Counters: []arm.Counter{counter}}
	rng := rand.New(rand.NewPCG(1, 2))
	noise := func() float64 {
		v := math.Round(rng.NormFloat64() * 1.5)
		if rng.IntN(40) == 0 {
			v += float64(rng.IntN(60)) // a probe's, or a neighbour's, burst
		}
		return v
	}
	count := map[string]map[arm.Verdict]int{"flat": {}, "leaking": {}}
	for range runs {
		count["flat"][rounds(a, 50, 4, 12, func(int) float64 { return 30 + noise() })]++
		count["leaking"][rounds(a, 50, 4, 12, func(ops int) float64 { return 30 + float64(ops) + noise() })]++
	}
	t.Logf("flat: %v; leaking: %v", count["flat"], count["leaking"])
	g := NewWithT(t)
	g.Expect(count["flat"][arm.Leaks]).To(BeZero())
	g.Expect(count["leaking"][arm.Clean]).To(BeZero())
	g.Expect(count["leaking"][arm.Leaks]).To(BeNumerically(">", runs*99/100))
}

// The interval holds the true slope as often as it says.
func TestSlopeCoverage(t *testing.T) {
	g := NewWithT(t)
	rng := rand.New(rand.NewPCG(3, 4))
	for _, points := range []int{5, 8, 13} {
		const runs = 4000
		inside := 0
		for range runs {
			var x, y []float64
			for i := range points {
				x, y = append(x, float64(i)), append(y, 2*float64(i)+rng.NormFloat64())
			}
			if in := Slope(x, y); in.Lo <= 2 && 2 <= in.Hi {
				inside++
			}
		}
		g.Expect(float64(inside)/runs).To(BeNumerically(">", Confidence-0.01), "%d points", points)
	}
}

func TestShare(t *testing.T) {
	for _, c := range []struct {
		yes, n int
		lo, hi float64 // Clopper–Pearson, from published tables
	}{
		{0, 20, 0, 0.1684}, {20, 20, 0.8316, 1}, {10, 20, 0.2720, 0.7280}, {0, 1, 0, 0.975}, {6, 6, 0.5407, 1},
	} {
		g := NewWithT(t)
		in := Share(c.yes, c.n)
		g.Expect(in.Lo).To(BeNumerically("~", c.lo, 1e-4), "%d of %d", c.yes, c.n)
		g.Expect(in.Hi).To(BeNumerically("~", c.hi, 1e-4), "%d of %d", c.yes, c.n)
	}
	g := NewWithT(t)
	none := Share(0, 0)
	g.Expect(none.Lo).To(Equal(0.0))
	g.Expect(none.Hi).To(Equal(1.0))
}

// answers makes n results of one outcome, the first yes of them yes.
func answers(name string, yes, n int) []arm.OutcomeResult {
	var all []arm.OutcomeResult
	for i := range n {
		all = append(all, arm.OutcomeResult{Name: name, Trial: i + 1, Yes: i < yes, Seconds: 0.01})
	}
	return all
}

func TestJudge(t *testing.T) {
	deadlock := func(e arm.Share, decides bool) []arm.Outcome {
		return []arm.Outcome{{Name: "deadlock", Expect: e, Decides: decides}}
	}
	leaking, flat := series(50, 0, 50, 100, 150, 200), series(50, 3, 3, 3, 3, 3)
	for _, c := range []struct {
		name     string
		arm      arm.Arm
		samples  []arm.Sample
		outcomes []arm.OutcomeResult
		want     arm.Verdict
		ok       bool
		reason   string
	}{
		{"leak as documented", arm.Arm{Kind: arm.Leak, Counters: []arm.Counter{counter}}, leaking, nil, arm.Leaks, true, "goroutines: 1 per operation"},
		{"a leak arm that reads clean fails", arm.Arm{Kind: arm.Leak, Counters: []arm.Counter{counter}}, flat, nil, arm.Clean, false, "goroutines: 0 per operation, expected 1"},
		{"a mitigation that leaks fails", arm.Arm{Kind: arm.Mitigation, Counters: []arm.Counter{counter}}, leaking, nil, arm.Leaks, false, "goroutines: 1 per operation, expected 0"},
		{"a control that leaks fails", arm.Arm{Kind: arm.Control, Counters: []arm.Counter{counter}}, leaking, nil, arm.Leaks, false, "expected 0"},
		{"never sampled", arm.Arm{Kind: arm.Control, Counters: []arm.Counter{counter}}, nil, nil, arm.Inconclusive, false, "goroutines: never sampled"},
		{"nothing decides", arm.Arm{Kind: arm.Control}, flat, nil, arm.Inconclusive, false, "nothing was measured that decides"},
		{"every trial", arm.Arm{Kind: arm.Leak, Outcomes: deadlock(arm.Always, true)}, nil, answers("deadlock", 20, 20), arm.Leaks, true, "deadlock in 20 of 20 trials"},
		{"all but one trial", arm.Arm{Kind: arm.Leak, Outcomes: deadlock(arm.Always, true)}, nil, answers("deadlock", 19, 20), arm.Leaks, false, "deadlock in 19 of 20 trials, expected in every trial"},
		{"no trial", arm.Arm{Kind: arm.Mitigation, Outcomes: deadlock(arm.Never, true)}, nil, answers("deadlock", 0, 20), arm.Clean, true, "deadlock in 0 of 20 trials"},
		{"one trial is enough to fail a mitigation", arm.Arm{Kind: arm.Mitigation, Outcomes: deadlock(arm.Never, true)}, nil, answers("deadlock", 1, 20), arm.Inconclusive, false, "deadlock in 1 of 20 trials, expected in no trial"},
		{"too few trials", arm.Arm{Kind: arm.Mitigation, Outcomes: deadlock(arm.Never, true)}, nil, answers("deadlock", 0, 3), arm.Inconclusive, false, "too few to tell"},
		{"a precondition does not decide", arm.Arm{Kind: arm.Mitigation, Counters: []arm.Counter{counter}, Outcomes: deadlock(arm.Always, false)}, flat, answers("deadlock", 6, 6), arm.Clean, true, "deadlock in 6 of 6 trials; goroutines: 0"},
		{"but it must hold", arm.Arm{Kind: arm.Mitigation, Counters: []arm.Counter{counter}, Outcomes: deadlock(arm.Always, false)}, flat, answers("deadlock", 0, 6), arm.Clean, false, "deadlock in 0 of 6 trials, expected in every trial"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := NewWithT(t)
			r := Judge(c.arm, c.samples, c.outcomes)
			g.Expect(r.Verdict).To(Equal(c.want))
			g.Expect(r.OK).To(Equal(c.ok))
			g.Expect(r.Reason).To(ContainSubstring(c.reason))
		})
	}
}

func TestNumber(t *testing.T) {
	g := NewWithT(t)
	for v, want := range map[float64]string{1: "1", 0: "0", 2.0000: "2", 1.99951: "2", 0.00001: "0.0000", 18534.2: "18534", 0.5: "0.5", -3: "-3"} {
		g.Expect(Number(v)).To(Equal(want))
	}
	g.Expect(Number(math.NaN())).To(Equal("–"))
}
