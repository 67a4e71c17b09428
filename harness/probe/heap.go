package probe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// HeapSite is what one allocation site holds.
type HeapSite struct {
	// Func is the function that allocates.
	Func string
	// Bytes and Objects are those still in use at the last garbage collection.
	Bytes, Objects int64
}

// Heap is a heap profile by allocating function, largest first. It is exact
// only for a process that runs with GODEBUG=memprofilerate=1.
type Heap []HeapSite

// ParseHeap reads a heap profile (/debug/pprof/heap).
func ParseHeap(data []byte) (Heap, error) {
	p, err := profile.ParseData(data)
	if err != nil {
		return nil, fmt.Errorf("heap profile: %w", err)
	}
	space := slices.IndexFunc(p.SampleType, func(t *profile.ValueType) bool { return t.Type == "inuse_space" })
	objects := slices.IndexFunc(p.SampleType, func(t *profile.ValueType) bool { return t.Type == "inuse_objects" })
	if space < 0 || objects < 0 {
		return nil, fmt.Errorf("heap profile: it has no inuse_space")
	}
	sites := map[string]*HeapSite{}
	for _, s := range p.Sample {
		if len(s.Location) == 0 || len(s.Location[0].Line) == 0 {
			continue
		}
		name := s.Location[0].Line[0].Function.Name
		site := sites[name]
		if site == nil {
			site = &HeapSite{Func: name}
			sites[name] = site
		}
		site.Bytes += s.Value[space]
		site.Objects += s.Value[objects]
	}
	var h Heap
	for _, site := range sites {
		if site.Bytes != 0 {
			h = append(h, *site)
		}
	}
	slices.SortFunc(h, func(a, b HeapSite) int {
		if a.Bytes != b.Bytes {
			return int(b.Bytes - a.Bytes)
		}
		return strings.Compare(a.Func, b.Func)
	})
	return h, nil
}

// At is what the sites whose function ends with name hold together.
func (h Heap) At(name string) HeapSite {
	sum := HeapSite{Func: name}
	for _, s := range h {
		if strings.HasSuffix(s.Func, name) {
			sum.Bytes += s.Bytes
			sum.Objects += s.Objects
		}
	}
	return sum
}

// Total is what all sites hold.
func (h Heap) Total() int64 {
	var n int64
	for _, s := range h {
		n += s.Bytes
	}
	return n
}
