package report

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/leaklab/leaklab/harness/probe"
)

// The kinds of evidence, told by how a file's name ends (docs/evidence.md).
const (
	stacksSuffix  = ".stacks.txt"
	profileSuffix = ".pb.gz"
	socketsSuffix = ".sockets.txt"
	linesSuffix   = ".lines.txt"
	logSuffix     = ".log"
)

// Profiles come in pairs, whose names differ in these words only.
const (
	before = "before"
	after  = "after"
)

// profileWords are those in a profile's name that do not say whose it is.
var profileWords = strings.NewReplacer(before, "", ".goroutine", "", "goroutine", "", ".heap", "", "heap", "", "-", " ")

// Evidence is what an arm's files say, ready to be shown.
type Evidence struct {
	// Stacks are dumps of goroutines as they were, Growth what they gained
	// between two profiles.
	Stacks, Growth []StackFile
	Heap           []HeapFile
	Sockets, Lines []TextFile
	Logs           []string
	// Others are files of no kind.
	Others []string
	// Problems are what could not be read, and why.
	Problems []string
}

// StackFile is a dump, the largest groups first.
type StackFile struct {
	Title, File string
	Total       int
	Stacks      []StackGroup
	// Hidden is the number of groups that are left out.
	Hidden int
	Flame  Flame
}

// StackGroup is a number of goroutines at one place.
type StackGroup struct {
	Count      int
	State      string
	Lines      []StackLine
	Documented bool
}

// StackLine is a frame; Documented where the scenario names its function.
type StackLine struct {
	Text       string
	Documented bool
}

// HeapFile is what allocation sites have gained.
type HeapFile struct {
	Title, File string
	Total       int64
	Sites       probe.Heap
	Hidden      int
	Flame       Flame
}

// TextFile is a short text shown as it is.
type TextFile struct {
	Title, File, Text string
	// Hidden is the number of lines that are left out.
	Hidden int
}

// How much of a file the report shows; the file itself is beside it.
const (
	mostStacks = 6
	mostSites  = 10
	mostLines  = 24
)

// ReadEvidence reads an arm's files below the results' folder. One that cannot
// be read must not cost the report of a long run: the page says so.
func ReadEvidence(dir string, a Arm, frames []string) Evidence {
	var ev Evidence
	for _, file := range a.Files {
		if err := ev.read(dir, file, a.Files, frames); err != nil {
			ev.Problems = append(ev.Problems, fmt.Sprintf("%s: %v", path.Base(file), err))
		}
	}
	return ev
}

func (ev *Evidence) read(dir, file string, all, frames []string) error {
	title := func(suffix string) string {
		return strings.ReplaceAll(strings.TrimSuffix(path.Base(file), suffix), "-", " ")
	}
	load := func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, name)) }
	text := func(suffix string) (TextFile, error) {
		data, err := load(file)
		lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
		shown := lines[:min(len(lines), mostLines)]
		return TextFile{title(suffix), file, strings.Join(shown, "\n"), len(lines) - len(shown)}, err
	}
	switch {
	case strings.HasSuffix(file, profileSuffix):
		return ev.growth(dir, file, all, frames)
	case strings.HasSuffix(file, socketsSuffix):
		t, err := text(socketsSuffix)
		ev.Sockets = append(ev.Sockets, t)
		return err
	case strings.HasSuffix(file, linesSuffix):
		t, err := text(linesSuffix)
		ev.Lines = append(ev.Lines, t)
		return err
	case strings.HasSuffix(file, logSuffix):
		ev.Logs = append(ev.Logs, file)
		return nil
	case strings.HasSuffix(file, ".txt"):
		data, err := load(file)
		if err != nil {
			return err
		}
		if s, ok := parseStacks(data, frames); ok {
			s.Title, s.File = title(stacksSuffix), file
			ev.Stacks = append(ev.Stacks, s)
			return nil
		}
	}
	ev.Others = append(ev.Others, file)
	return nil
}

// growth compares a profile with the later one of its pair. Other profiles are
// there for go tool pprof.
func (ev *Evidence) growth(dir, file string, all, frames []string) error {
	name := path.Base(file)
	later := path.Join(path.Dir(file), strings.Replace(name, before, after, 1))
	if !strings.Contains(name, before) || !slices.Contains(all, later) {
		return nil
	}
	first, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return err
	}
	second, err := os.ReadFile(filepath.Join(dir, later))
	if err != nil {
		return err
	}
	diff, err := probe.DiffProfiles(first, second)
	if err != nil {
		return err
	}
	title := strings.TrimSpace(profileWords.Replace(strings.TrimSuffix(name, profileSuffix)))
	if strings.Contains(name, "heap") {
		from, err := probe.ParseHeap(first)
		if err != nil {
			return err
		}
		to, err := probe.ParseHeap(second)
		if err != nil {
			return err
		}
		grown := to.Since(from)
		flame, err := NewFlame(diff, "inuse_space", frames)
		if err != nil {
			return err
		}
		ev.Heap = append(ev.Heap, HeapFile{
			Title: title, File: later, Total: grown.Total(),
			Sites: grown[:min(len(grown), mostSites)], Hidden: max(0, len(grown)-mostSites), Flame: flame,
		})
		return nil
	}
	from, err := probe.ParseGoroutineProfile(first)
	if err != nil {
		return err
	}
	to, err := probe.ParseGoroutineProfile(second)
	if err != nil {
		return err
	}
	grown, _ := parseStacks(to.Since(from).Text(), frames)
	grown.Title, grown.File = title, later
	if grown.Flame, err = NewFlame(diff, "goroutine", frames); err != nil {
		return err
	}
	ev.Growth = append(ev.Growth, grown)
	return nil
}

var (
	stacksHead = regexp.MustCompile(`^(\d+) goroutines$`)
	groupHead  = regexp.MustCompile(`^(\d+) × \[(.*)\]$`)
)

// parseStacks reads what [probe.Goroutines.Text] writes. Documented groups come
// first.
func parseStacks(data []byte, frames []string) (StackFile, bool) {
	var f StackFile
	var groups []StackGroup
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		line := lines.Text()
		if m := stacksHead.FindStringSubmatch(line); m != nil && f.Stacks == nil && len(groups) == 0 {
			f.Total, _ = strconv.Atoi(m[1])
			f.Stacks = []StackGroup{}
			continue
		}
		if f.Stacks == nil {
			return f, false
		}
		if m := groupHead.FindStringSubmatch(line); m != nil {
			n, _ := strconv.Atoi(m[1])
			groups = append(groups, StackGroup{Count: n, State: m[2]})
			continue
		}
		if frame := strings.TrimSpace(line); frame != "" && len(groups) > 0 {
			g := &groups[len(groups)-1]
			if len(g.Lines) == 0 && strings.Contains(frame, " runtime.") {
				continue // how it came to wait says less than what for
			}
			documented := isDocumented(frame, frames)
			g.Lines = append(g.Lines, StackLine{frame, documented})
			g.Documented = g.Documented || documented
		}
	}
	for _, documented := range []bool{true, false} {
		for _, g := range groups {
			// What is alone and not documented is the process's own furniture.
			telling := documented || g.Count > 1
			if g.Documented == documented && telling && len(f.Stacks) < mostStacks {
				f.Stacks = append(f.Stacks, g)
			}
		}
	}
	f.Hidden = len(groups) - len(f.Stacks)
	return f, f.Stacks != nil
}

func isDocumented(function string, frames []string) bool {
	return slices.ContainsFunc(frames, func(name string) bool { return strings.HasSuffix(function, name) })
}
