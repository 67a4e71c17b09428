// Package probe reads what a living process holds: goroutines by stack, heap by
// allocation site, descriptors, sockets with their queues and peers, memory.
// It only looks; what the figures mean is the verdict's business.
package probe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/google/pprof/profile"
	"github.com/maruel/panicparse/v2/stack"
)

// Frame is one call of a stack.
type Frame struct {
	// Func is the full name: "github.com/containerd/ttrpc.(*Client).run".
	Func string
	// File is the base name of the source file.
	File string
	Line int
}

// String is "file.go:line func", the function without its package's path.
func (f Frame) String() string {
	return fmt.Sprintf("%s:%d %s", f.File, f.Line, path.Base(f.Func))
}

// Stack is a number of goroutines that are at the same place.
type Stack struct {
	Count int
	// State is what they wait for ("IO wait", "chan send", "select", …) where
	// the dump tells it, and Minutes since when.
	State   string
	Minutes int
	// Frames are innermost first.
	Frames []Frame
	// Members are the goroutines themselves, where the dump names them.
	Members []Goroutine
}

// Goroutine is one goroutine of a dump and who started it.
type Goroutine struct {
	// ID is its number in the process, Parent that of the goroutine that
	// started it (0 where the dump does not tell: before Go 1.21, and for main).
	ID, Parent int
	// StartedBy is the function that started it.
	StartedBy string
}

// Has reports whether a frame's function ends with name: "ttrpc.(*Client).run".
func (s Stack) Has(name string) bool {
	return slices.ContainsFunc(s.Frames, func(f Frame) bool { return strings.HasSuffix(f.Func, name) })
}

// Goroutines are all goroutines of a process, grouped by stack, most first.
type Goroutines []Stack

// ParseGoroutineProfile reads a goroutine profile in the format of pprof
// (/debug/pprof/goroutine).
func ParseGoroutineProfile(data []byte) (Goroutines, error) {
	p, err := profile.ParseData(data)
	if err != nil {
		return nil, fmt.Errorf("goroutine profile: %w", err)
	}
	var gs Goroutines
	for _, sample := range p.Sample {
		s := Stack{Count: int(sample.Value[0])}
		for _, loc := range sample.Location {
			for _, line := range loc.Line {
				s.Frames = append(s.Frames, Frame{line.Function.Name, path.Base(line.Function.Filename), int(line.Line)})
			}
		}
		gs = append(gs, s)
	}
	gs.sort()
	return gs, nil
}

// ParseGoroutineDump reads a dump as text, with states and waiting times:
// /debug/pprof/goroutine?debug=2, or what a program prints on SIGQUIT or, if it
// has such a handler, SIGUSR1. Text around the dump is passed over.
func ParseGoroutineDump(text []byte) (Goroutines, error) {
	opts := stack.DefaultOpts()
	opts.GuessPaths = false
	opts.AnalyzeSources = false
	snapshot, _, err := stack.ScanSnapshot(bytes.NewReader(text), io.Discard, opts)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("goroutine dump: %w", err)
	}
	if snapshot == nil {
		return nil, errors.New("goroutine dump: there is none in the text")
	}
	groups := map[string]*Stack{}
	var order []string
	for _, g := range snapshot.Goroutines {
		s := Stack{Count: 1, State: g.State, Minutes: g.SleepMax}
		for _, c := range g.Stack.Calls {
			s.Frames = append(s.Frames, Frame{c.Func.Complete, c.SrcName, c.Line})
		}
		s.Members = []Goroutine{member(g)}
		key := s.State + "\n" + s.key()
		if have := groups[key]; have != nil {
			have.Count++
			have.Members = append(have.Members, s.Members...)
			have.Minutes = max(have.Minutes, s.Minutes)
			continue
		}
		groups[key] = &s
		order = append(order, key)
	}
	var gs Goroutines
	for _, key := range order {
		gs = append(gs, *groups[key])
	}
	gs.sort()
	return gs, nil
}

// member reads the line "created by F in goroutine N".
func member(g *stack.Goroutine) Goroutine {
	m := Goroutine{ID: g.ID}
	if calls := g.CreatedBy.Calls; len(calls) > 0 {
		by, parent, told := strings.Cut(calls[0].Func.Complete, " in goroutine ")
		m.StartedBy = by
		if n, err := strconv.Atoi(parent); told && err == nil {
			m.Parent = n
		}
	}
	return m
}

func (s Stack) key() string {
	var b strings.Builder
	for _, f := range s.Frames {
		fmt.Fprintf(&b, "%s %s:%d\n", f.Func, f.File, f.Line)
	}
	return b.String()
}

func (gs Goroutines) sort() {
	slices.SortStableFunc(gs, func(a, b Stack) int { return b.Count - a.Count })
}

// Total is the number of goroutines.
func (gs Goroutines) Total() int {
	n := 0
	for _, s := range gs {
		n += s.Count
	}
	return n
}

// In is the number of goroutines whose stack holds all the named functions.
func (gs Goroutines) In(names ...string) int {
	n := 0
	for _, s := range gs.Holding(names...) {
		n += s.Count
	}
	return n
}

// Holding are the stacks that hold all the named functions.
func (gs Goroutines) Holding(names ...string) Goroutines {
	var with Goroutines
	for _, s := range gs {
		if !slices.ContainsFunc(names, func(name string) bool { return !s.Has(name) }) {
			with = append(with, s)
		}
	}
	return with
}

// Text renders the stacks for people.
func (gs Goroutines) Text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d goroutines\n", gs.Total())
	for _, s := range gs {
		state := s.State
		if s.Minutes > 0 {
			state += fmt.Sprintf(", %d minutes", s.Minutes)
		}
		fmt.Fprintf(&b, "\n%d × [%s]\n", s.Count, state)
		for _, f := range s.Frames {
			fmt.Fprintf(&b, "    %s\n", f)
		}
	}
	return b.Bytes()
}
