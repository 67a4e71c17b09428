package bisect

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
)

// axis is a simulated one: versions with a chance of showing the leak.
type axis struct {
	versions []string
	// chance per version; below 0 it cannot be built.
	chance []float64
	rng    *rand.Rand
	counts map[string]Counts
	// builds and trials are what a bisection has cost.
	builds, trials int
	// stop ends the bisection after that many calls, if it is not 0.
	stop, calls int
	ahead       [][]string
}

func newAxis(rng *rand.Rand, chance ...float64) *axis {
	a := &axis{chance: chance, rng: rng, counts: map[string]Counts{}}
	for i := range chance {
		a.versions = append(a.versions, fmt.Sprintf("v%d", i))
	}
	return a
}

func (a *axis) Known(_ context.Context, version string) (Counts, error) {
	return a.counts[version], nil
}

func (a *axis) Test(_ context.Context, version string, n int) (Counts, error) {
	if a.calls++; a.stop != 0 && a.calls > a.stop {
		return Counts{}, context.Canceled
	}
	if a.counts[version] == (Counts{}) {
		a.builds++
	}
	var c Counts
	p := a.chance[slices.Index(a.versions, version)]
	if p < 0 {
		return c, fmt.Errorf("%w: it does not compile", ErrCannotTest)
	}
	for range n {
		if a.rng.Float64() < p {
			c.Bad++
		} else {
			c.Good++
		}
	}
	a.trials += n
	a.counts[version] = a.counts[version].Plus(c)
	return c, nil
}

func (a *axis) Ahead(versions []string) { a.ahead = append(a.ahead, versions) }

// run bisects from the last version, which is good, to the first, or the other
// way round.
func (a *axis) run(s Settings) (Result, error) {
	good, bad := a.versions[len(a.versions)-1], a.versions[0]
	if a.chance[0] < a.chance[len(a.chance)-1] {
		good, bad = bad, good
	}
	return Run(context.Background(), a.versions, good, bad, a, s, func(Step) {})
}

// monotone has n versions, of which the first bad ones show the leak: the very
// first, which is the bad end, with the chance p, the others with weakest·p.
func monotone(rng *rand.Rand, n, bad int, p, weakest float64) *axis {
	chance := make([]float64, n)
	for i := range bad {
		chance[i] = p * weakest
	}
	chance[0] = p
	return newAxis(rng, chance...)
}
