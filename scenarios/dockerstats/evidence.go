package dockerstats

import (
	"bytes"
	"context"
	"fmt"
	"regexp"

	"github.com/leaklab/leaklab/harness/engine"
	"github.com/leaklab/leaklab/harness/probe"
)

// profiles are those of the daemon at one moment, in pprof's format.
type profiles map[string][]byte

// takeProfiles takes and delivers them.
func (s *subject) takeProfiles(ctx context.Context, when string) (profiles, error) {
	taken := profiles{}
	for name, query := range map[string]string{"heap": "heap?gc=1", "goroutine": "goroutine"} {
		data, err := s.docker.Pprof().Get(ctx, query)
		if err != nil {
			return nil, err
		}
		taken[name] = data
		s.lab.File(fmt.Sprintf("dockerd-%s.%s.pb.gz", when, name), data)
	}
	return taken, nil
}

// growth delivers what the daemon has gained between two moments: as profiles,
// and as text for people. It returns the heap's part.
func (s *subject) growth(before, after profiles) (probe.Heap, error) {
	for name := range before {
		diff, err := probe.DiffProfiles(before[name], after[name])
		if err != nil {
			return nil, err
		}
		s.lab.File(fmt.Sprintf("dockerd-diff.%s.pb.gz", name), diff)
	}
	var goroutines [2]probe.Goroutines
	var heap [2]probe.Heap
	for i, p := range []profiles{before, after} {
		var err error
		if goroutines[i], err = probe.ParseGoroutineProfile(p["goroutine"]); err != nil {
			return nil, err
		}
		if heap[i], err = probe.ParseHeap(p["heap"]); err != nil {
			return nil, err
		}
	}
	grown := heap[1].Since(heap[0])
	var text bytes.Buffer
	fmt.Fprint(&text, "What dockerd has gained between the first look, before any call, and the last.\n\nGoroutines by stack:\n")
	text.Write(goroutines[1].Since(goroutines[0]).Text())
	fmt.Fprint(&text, "\nHeap by allocation site:\n")
	text.Write(grown.Text(20))
	s.lab.File("dockerd-growth.txt", text.Bytes())
	return grown, nil
}

// most lines of a kind that are kept beside the whole log.
const mostLines = 10

// takeLines delivers the report's log lines as they were found.
func (s *subject) takeLines() error {
	log, err := s.docker.Log()
	if err != nil {
		return err
	}
	var text bytes.Buffer
	for _, pattern := range []*regexp.Regexp{cannotRestore, notFound} {
		n := 0
		for line := range bytes.Lines(log) {
			parsed := engine.ParseLog(line)
			if len(parsed) == 0 || !pattern.MatchString(parsed[0].Text) {
				continue
			}
			if n++; n <= mostLines {
				text.Write(line)
			}
		}
		if n > mostLines {
			fmt.Fprintf(&text, "… and %d more like it\n", n-mostLines)
		}
	}
	if text.Len() > 0 {
		s.lab.File("dockerd-report.lines.txt", text.Bytes())
	}
	return nil
}

// takeDumps delivers the goroutines of both sides with their states.
func (s *subject) takeDumps(ctx context.Context) error {
	for name, p := range map[string]probe.Pprof{"dockerd": s.docker.Pprof(), "caller": s.caller.Pprof()} {
		dump, err := p.Dump(ctx)
		if err != nil {
			return err
		}
		s.lab.File(name+"-after.stacks.txt", dump.Text())
	}
	return nil
}
