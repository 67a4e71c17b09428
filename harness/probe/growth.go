package probe

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// DiffProfiles subtracts a profile from a later one of the same kind, both in
// the format of pprof, and returns the difference in that format: what "go tool
// pprof -diff_base" shows.
func DiffProfiles(before, after []byte) ([]byte, error) {
	b, err := profile.ParseData(before)
	if err != nil {
		return nil, fmt.Errorf("the earlier profile: %w", err)
	}
	a, err := profile.ParseData(after)
	if err != nil {
		return nil, fmt.Errorf("the later profile: %w", err)
	}
	b.Scale(-1)
	diff, err := profile.Merge([]*profile.Profile{a, b})
	if err != nil {
		return nil, fmt.Errorf("comparing profiles: %w", err)
	}
	var out bytes.Buffer
	if err := diff.Write(&out); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Since is how many goroutines each stack has gained, most first. Stacks that
// lost some are left out.
func (gs Goroutines) Since(before Goroutines) Goroutines {
	had := map[string]int{}
	for _, s := range before {
		had[s.key()] += s.Count
	}
	now := map[string]*Stack{}
	for _, s := range gs {
		if have := now[s.key()]; have != nil {
			have.Count += s.Count
			continue
		}
		now[s.key()] = &s
	}
	var grown Goroutines
	for key, s := range now {
		if s.Count -= had[key]; s.Count > 0 {
			grown = append(grown, *s)
		}
	}
	slices.SortFunc(grown, func(a, b Stack) int {
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		return strings.Compare(a.key(), b.key())
	})
	return grown
}

// Since is what each allocation site has gained, most bytes first. Sites that
// lost some are left out.
func (h Heap) Since(before Heap) Heap {
	had := map[string]HeapSite{}
	for _, s := range before {
		had[s.Func] = s
	}
	var grown Heap
	for _, s := range h {
		s.Bytes -= had[s.Func].Bytes
		s.Objects -= had[s.Func].Objects
		if s.Bytes > 0 {
			grown = append(grown, s)
		}
	}
	slices.SortStableFunc(grown, func(a, b HeapSite) int { return int(b.Bytes - a.Bytes) })
	return grown
}

// Text renders the largest sites for people.
func (h Heap) Text(most int) []byte {
	var b bytes.Buffer
	total := h.Total()
	fmt.Fprintf(&b, "%d bytes in %d allocation sites\n\n", total, len(h))
	for _, s := range h[:min(len(h), most)] {
		fmt.Fprintf(&b, "%12d bytes %5.1f %% %9d objects  %s\n", s.Bytes, 100*float64(s.Bytes)/float64(total), s.Objects, s.Func)
	}
	return b.Bytes()
}
