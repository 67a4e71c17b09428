package dockerstats

import (
	"regexp"
	"time"

	"github.com/leaklab/leaklab/harness/engine"
)

// The report's two lines (claims S1 and S2).
var (
	// The daemon says it once per container when it starts.
	cannotRestore = regexp.MustCompile(`failed to create osl sandbox while trying to restore sandbox \S+: failed to create a netlink handle: failed to set into network namespace \d+ while creating netlink socket: invalid argument`)
	// And this once a second per container for which a call is open.
	notFound = regexp.MustCompile(`^collecting stats for (\S+): sandbox \S+ not found$`)
)

// restoreFailures counts the first line since the daemon was started.
func restoreFailures(log []engine.LogLine, since time.Time) int {
	n := 0
	for _, l := range log {
		if !l.At.Before(since) && cannotRestore.MatchString(l.Text) {
			n++
		}
	}
	return n
}

// notFoundBetween counts the second line by container.
func notFoundBetween(log []engine.LogLine, from, to time.Time) map[string]int {
	n := map[string]int{}
	for _, l := range log {
		m := notFound.FindStringSubmatch(l.Text)
		if m != nil && !l.At.Before(from) && l.At.Before(to) {
			n[m[1]]++
		}
	}
	return n
}

// onceASecond reports whether every one of the containers was named once a
// second during d, give or take the ends, and the ticks that a busy machine
// drops.
func onceASecond(named map[string]int, containers []string, d time.Duration) bool {
	const ends, dropped = 1.5, 0.2
	for _, id := range containers {
		n := float64(named[id])
		if n < (1-dropped)*d.Seconds()-ends || n > d.Seconds()+ends {
			return false
		}
	}
	return d >= 3*time.Second
}
