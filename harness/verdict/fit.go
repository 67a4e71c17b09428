// Package verdict turns samples and outcomes into slopes with intervals, and
// those into a verdict, by the rules of evidence in docs/verdict.md.
package verdict

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Confidence of every interval in this package.
const Confidence = 0.95

// Interval is an estimate between two bounds.
type Interval struct {
	Estimate, Lo, Hi float64
}

// Slope fits y over x by the Theil–Sen estimator: the median of the slopes
// between all pairs of points, with Sen's distribution-free interval (Sen 1968,
// J. Am. Stat. Assoc. 63:1379) from the exact null distribution of Kendall's S.
// One wild point in nine moves neither. With fewer than five points no such
// interval reaches the confidence, and the bounds are infinite.
func Slope(x, y []float64) Interval {
	var slopes []float64
	for i := range x {
		for j := i + 1; j < len(x); j++ {
			if dx := x[j] - x[i]; dx != 0 {
				slopes = append(slopes, (y[j]-y[i])/dx)
			}
		}
	}
	if len(slopes) == 0 {
		return Interval{math.NaN(), math.Inf(-1), math.Inf(1)}
	}
	slices.Sort(slopes)
	median := stat.Quantile(0.5, stat.Empirical, slopes, nil)
	if n := len(slopes); n%2 == 0 {
		median = (slopes[n/2-1] + slopes[n/2]) / 2
	}
	k := senRank(len(x))
	if k < 1 || k > len(slopes)/2 {
		return Interval{median, math.Inf(-1), math.Inf(1)}
	}
	return Interval{median, slopes[k-1], slopes[len(slopes)-k]}
}

// senRank is the largest k for which the k-th smallest and the k-th largest
// pairwise slope of n points enclose the true slope with the confidence; 0 if
// there is none.
func senRank(n int) int {
	// discordant[d] is the chance of d discordant pairs among n points in
	// random order: the distribution of inversions of a permutation.
	discordant := []float64{1}
	for m := 2; m <= n; m++ {
		next := make([]float64, len(discordant)+m-1)
		for d, p := range discordant {
			for i := range m {
				next[d+i] += p / float64(m)
			}
		}
		discordant = next
	}
	k, tail := 0, 0.0
	for _, p := range discordant {
		tail += p
		if 2*tail > 1-Confidence {
			break
		}
		k++
	}
	return k
}

// Share is the share of yes among n answers with its Clopper–Pearson interval.
func Share(yes, n int) Interval {
	if n == 0 {
		return Interval{math.NaN(), 0, 1}
	}
	tail := (1 - Confidence) / 2
	in := Interval{Estimate: float64(yes) / float64(n), Lo: 0, Hi: 1}
	if yes > 0 {
		in.Lo = distuv.Beta{Alpha: float64(yes), Beta: float64(n - yes + 1)}.Quantile(tail)
	}
	if yes < n {
		in.Hi = distuv.Beta{Alpha: float64(yes + 1), Beta: float64(n - yes)}.Quantile(1 - tail)
	}
	return in
}
