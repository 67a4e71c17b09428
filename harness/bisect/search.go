package bisect

import (
	"maps"
	"slices"
)

// search holds what was found of each version, and picks the next one to test.
type search struct {
	versions []string
	// found has every version that was tried, by index.
	found map[int]Verdict
}

// decided are the indices of the versions that are bad or good, in order.
func (s search) decided() []int {
	var all []int
	for i := range s.versions {
		if v := s.found[i]; v == Bad || v == Good {
			all = append(all, i)
		}
	}
	return all
}

// tried reports whether a version was tried, with whatever result.
func (s search) tried(i int) bool { _, ok := s.found[i]; return ok }

// change returns the version to test where neighbours differ, or -1 where every
// change is as narrow as it gets.
func (s search) change() int {
	all := s.decided()
	for k := 1; k < len(all); k++ {
		if s.found[all[k-1]] != s.found[all[k]] {
			if at := s.between(all[k-1], all[k]); at >= 0 {
				return at
			}
		}
	}
	return -1
}

// between picks the untried version nearest to the middle, by doubling steps
// away from those that could not be tested: what breaks a build breaks its
// neighbours too. It returns -1 if all were tried.
func (s search) between(low, high int) int {
	middle := (low + high) / 2
	reach := high - low
	distances := []int{0, 1}
	for d := 2; d < reach; d *= 2 {
		distances = append(distances, d)
	}
	for d := range reach {
		distances = append(distances, d)
	}
	for _, d := range distances {
		for _, at := range []int{middle - d, middle + d} {
			if at > low && at < high && !s.tried(at) {
				return at
			}
		}
	}
	return -1
}

// probe picks the middle of the largest gap between versions of one verdict, or
// -1 where there is none.
func (s search) probe() int {
	all := s.decided()
	best, gap := -1, 0
	for k := 1; k < len(all); k++ {
		untried := 0
		for i := all[k-1] + 1; i < all[k]; i++ {
			if !s.tried(i) {
				untried++
			}
		}
		if untried > gap {
			best, gap = s.between(all[k-1], all[k]), untried
		}
	}
	return best
}

// untried returns the oldest version that was not tried, or -1.
func (s search) untried() int {
	for i := range s.versions {
		if !s.tried(i) {
			return i
		}
	}
	return -1
}

// with is what would be known if one version more were found.
func (s search) with(at int, v Verdict) search {
	then := search{s.versions, maps.Clone(s.found)}
	then.found[at] = v
	return then
}

// changes are the places where the verdict differs between neighbours.
func (s search) changes() []Change {
	all := s.decided()
	changes := []Change{}
	for k := 1; k < len(all); k++ {
		low, high := all[k-1], all[k]
		if s.found[low] == s.found[high] {
			continue
		}
		changes = append(changes, Change{
			Last: s.versions[low], First: s.versions[high], To: s.found[high],
			Between: slices.Clone(s.versions[low+1 : high]),
		})
	}
	return changes
}
