package dockerstop

import (
	"slices"

	"github.com/leaklab/leaklab/harness/probe"
)

// The functions of the documented stacks, by the end of their names.
const (
	inStop     = "daemon.(*Daemon).containerStop"
	inKill     = "daemon.(*Daemon).Kill"
	inSending  = "daemon.(*Daemon).killPossiblyDeadProcess"
	inDirect   = "daemon.killProcessDirectly"
	inWait     = "container.(*State).Wait.func1"
	inConn     = "http.(*connReader).backgroundRead"
	inEvents   = "(*client).processEventStream"
	inReceived = "(*eventRemote).Subscribe.func1"
)

// beforeKill is the number of stops that have not sent their SIGKILL yet: they
// wait for t seconds, or for their turn under the container's lock.
func beforeKill(gs probe.Goroutines) int {
	n := 0
	for _, s := range gs.Holding(inStop) {
		if !s.Has(inKill) || s.Has(inSending) {
			n += s.Count
		}
	}
	return n
}

// lastWait are the stacks of stops that wait in Kill itself: for a process that
// was sent its last SIGKILL. In 18.09 that wait has no end.
func lastWait(gs probe.Goroutines) probe.Goroutines {
	return slices.DeleteFunc(gs.Holding(inKill), func(s probe.Stack) bool { return s.Has(inSending) || s.Has(inDirect) })
}

// pairs is the number of stops that are as the report has them: a goroutine in
// Kill's last wait, and one in the select of Wait that it started. A dockerd
// built by a Go before 1.21 does not tell who started whom; there it is the
// smaller of the two numbers.
func pairs(dump probe.Goroutines) int {
	waits := dump.Holding(inWait)
	killers := map[int]bool{}
	for _, s := range lastWait(dump) {
		for _, g := range s.Members {
			killers[g.ID] = true
		}
	}
	paired, told := 0, false
	for _, s := range waits {
		for _, g := range s.Members {
			told = told || g.Parent != 0
			if killers[g.Parent] {
				paired++
			}
		}
	}
	if !told {
		return min(len(killers), waits.Total())
	}
	return paired
}
