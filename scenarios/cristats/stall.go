package cristats

import (
	"context"
	"fmt"
	"time"

	"github.com/leaklab/leaklab/harness/probe"
)

// stall watches for the other way in which a storm of execs stands still in
// containerd 1.5. It looks like the deadlock from outside and is another thing:
// the shim holds eventSendMu while runc starts a process (service.Start). To
// tell of an exit it needs the same mutex (service.sendL), and while it waits
// for that, it takes no further exits. Then its reaper gives up on each of them
// after a second, and among them is the one that the runc at work waits for
// (sys/reaper, Reap): about one exit a second is told. It comes with ttrpc 1.1.0
// too; nobody is in a ttrpc write.
type stall struct {
	answered      int64
	moved, looked time.Time
	// seen is how often the storm stood still so, longest for how long, named
	// whether it does now.
	seen    int
	longest time.Duration
	named   bool
}

// silence is how long nothing must have been answered to look for the stall.
// That alone may as well be a busy machine.
const silence = 3 * time.Second

// watchStall notices when no exec of the storm is answered any more, and looks
// whether the stall is why. It is called often.
func (t *trial) watchStall(ctx context.Context) error {
	st, err := t.storm.status(ctx)
	if err != nil {
		return err
	}
	s, now := &t.stall, time.Now()
	if st.Execs.Answered != s.answered || s.moved.IsZero() {
		s.answered, s.moved, s.looked, s.named = st.Execs.Answered, now, now, false
		return nil
	}
	s.longest = max(s.longest, now.Sub(s.moved))
	if s.named || now.Sub(s.looked) < silence || st.Execs.hanging() == 0 {
		return nil
	}
	s.looked = now
	dump, err := t.node.ShimDump(ctx, t.pod.Shim)
	if err != nil {
		return err
	}
	exits, starts := waitForSendMu(dump)
	if s.named = exits; !exits {
		return nil
	}
	s.seen++
	t.lab.Note("trial %d: %d execs stand still, but it is the other stall: no connection is full, %d starts wait for eventSendMu, and so do the exits", t.number, st.Execs.hanging(), starts)
	if s.seen == 1 {
		t.lab.File(fmt.Sprintf("shim-stalled-%d.txt", t.number), dump.Text())
	}
	return nil
}

// reset begins with a new storm.
func (s *stall) reset() {
	*s = stall{seen: s.seen, longest: s.longest}
}

// tell records whether the stall was there.
func (s *stall) tell(t *trial) {
	t.tell(otherStall, s.seen > 0, 0, "%d times; at most %.1f s without an answered exec", s.seen, s.longest.Seconds())
}

// waitForSendMu reports whether, in a shim's dump, the exits of processes wait
// for eventSendMu while further exits find no taker, and counts the starts that
// wait for it. Starts alone always wait for each other.
func waitForSendMu(shim probe.Goroutines) (exits bool, starts int) {
	telling, queued := false, false
	for _, s := range shim {
		locked := s.Has("sync.(*Mutex).Lock")
		telling = telling || locked && s.Has("(*service).sendL")
		queued = queued || s.Has("reaper.(*Monitor).notify.func1")
		if locked && s.Has("(*service).Start") {
			starts += s.Count
		}
	}
	return telling && queued, starts
}
