package dockerstats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/part"
	"github.com/leaklab/leaklab/harness/probe"
)

// observe runs one arm: engine and fault, calls, evidence, release.
func (s setting) observe(ctx context.Context, lab arm.Lab) (err error) {
	sub, err := s.start(ctx, lab)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sub.end()) }()
	if err := sub.tellRestore(); err != nil {
		return err
	}
	if s.Watch {
		if err := sub.watchLog(ctx); err != nil {
			return err
		}
	}
	if s.Bridge {
		if err := sub.tellAddresses(ctx); err != nil {
			return err
		}
	}
	if s.Again {
		if err := sub.restartAgain(ctx); err != nil {
			return err
		}
	}
	if s.Cure != nil {
		if err := sub.cure(ctx); err != nil {
			return err
		}
	}
	before, err := sub.takeProfiles(ctx, "before")
	if err != nil {
		return err
	}
	start, err := sub.status(ctx)
	if err != nil {
		return err
	}
	if err := sub.rounds(ctx); err != nil {
		return err
	}
	end, err := sub.stillHanging(ctx)
	if err != nil {
		return err
	}
	if err := sub.conclude(ctx, before, end.since(start)); err != nil {
		return err
	}
	if s.Watch {
		if err := sub.atLimit(ctx); err != nil {
			return err
		}
	}
	return sub.release(ctx)
}

func (s *subject) rounds(ctx context.Context) error {
	operate := s.poll
	if s.setting.Stream {
		operate = s.stream
	}
	return s.lab.Rounds(ctx, arm.Rounds{
		Operate: func(ctx context.Context, n int) error {
			s.seen = nil
			return operate(ctx, n)
		},
		Read:   s.read,
		Settle: 10 * time.Second,
		Every:  50 * time.Millisecond,
		Quiet:  150 * time.Millisecond,
	})
}

func (s *subject) stream(ctx context.Context, n int) error {
	if s.opened.IsZero() {
		s.opened = time.Now()
	}
	return s.caller.Ask(ctx, "stream", part.Params{"n": n}, nil)
}

// tell answers a question, if the arm asks it.
func (s *subject) tell(name string, yes bool, format string, args ...any) {
	if slices.ContainsFunc(s.setting.asked, func(o arm.Outcome) bool { return o.Name == name }) {
		s.lab.Outcome(arm.OutcomeResult{Name: name, Trial: 1, Yes: yes, Detail: fmt.Sprintf(format, args...)})
	}
}

// tellRestore looks for the line with which a daemon fails to restore a sandbox.
func (s *subject) tellRestore() error {
	log, err := s.docker.LogLines()
	if err != nil {
		return err
	}
	n := restoreFailures(log, s.broken)
	s.tell(sandboxLost, n == len(s.ids), "logged %d times for %d containers", n, len(s.ids))
	return nil
}

// watchLog answers claim S12: the daemon complains only while a call is open.
func (s *subject) watchLog(ctx context.Context) error {
	const window = 2200 * time.Millisecond
	count := func(from, to time.Time) (n int, err error) {
		log, err := s.docker.LogLines()
		for _, lines := range notFoundBetween(log, from, to) {
			n += lines
		}
		return n, err
	}
	if err := sleep(ctx, window); err != nil {
		return err
	}
	n, err := count(s.broken, time.Now())
	if err != nil {
		return err
	}
	s.tell(silent, n == 0, "%d lines in %v without a call", n, time.Since(s.broken).Round(time.Millisecond))
	from := time.Now()
	if err := s.poll(ctx, 1); err != nil {
		return err
	}
	if n, err = count(from, time.Now()); err != nil {
		return err
	}
	s.tell(oneCallLogs, n >= 2, "%d lines in %v with one call", n, time.Since(from).Round(time.Millisecond))
	return nil
}

// restartAgain answers claim S16. The caller starts anew with the daemon, as
// its calls ended with the last one.
func (s *subject) restartAgain(ctx context.Context) error {
	const calls = 50
	if err := s.poll(ctx, calls); err != nil {
		return err
	}
	before, err := s.readDaemon(ctx)
	if err != nil {
		return err
	}
	s.caller.Kill()
	if err := s.restart(ctx); err != nil {
		return err
	}
	after, err := s.readDaemon(ctx)
	if err != nil {
		return err
	}
	s.tell(restartFrees, before[inContainerStats] == calls && after[inContainerStats] == 0,
		"goroutines in ContainerStats: %.0f before, %.0f after", before[inContainerStats], after[inContainerStats])
	if err := s.startCaller(ctx); err != nil {
		return err
	}
	return s.tellRestore()
}

// conclude answers what the calls of the rounds have shown, and delivers the
// evidence.
func (s *subject) conclude(ctx context.Context, before profiles, calls status) error {
	if err := s.takeDumps(ctx); err != nil {
		return err
	}
	if err := s.takeLines(); err != nil {
		return err
	}
	after, err := s.takeProfiles(ctx, "after")
	if err != nil {
		return err
	}
	grown, err := s.growth(before, after)
	if err != nil {
		return err
	}
	top := "nothing"
	if len(grown) > 0 {
		top = fmt.Sprintf("%s holds %.0f %% of it", grown[0].Func, 100*float64(grown[0].Bytes)/float64(grown.Total()))
	}
	s.tell(topOfHeap, len(grown) > 0 && strings.HasSuffix(grown[0].Func, "pubsub.(*Publisher).SubscribeTopic"), "%s", top)

	s.tell(neverReturns, calls.Started > 0 && calls.returned() == 0, "%v", calls)
	s.tell(allAnswered, calls.Started > 0 && calls.Answered == calls.Started, "%v", calls)
	s.tell(allEmpty, calls.Started > 0 && calls.Empty == calls.Started, "%v", calls)
	s.tell(backInTime, calls.Started > 0 && calls.Released == calls.Started, "%v", calls)
	s.tell(streamsStay, calls.Streams == int64(len(s.names)), "%d streams for %d containers", calls.Streams, len(s.names))

	now := time.Now()
	log, err := s.docker.LogLines()
	if err != nil {
		return err
	}
	named := notFoundBetween(log, s.opened, now)
	open := now.Sub(s.opened)
	lines := 0
	for _, n := range named {
		lines += n
	}
	s.tell(logged, onceASecond(named, s.ids, open), "%d lines for %d containers in %.1f s", lines, len(s.ids), open.Seconds())

	count, err := s.peers()
	if err != nil {
		return err
	}
	var owner probe.Owner
	if owners := byCount(count); len(owners) > 0 {
		owner = owners[0]
	}
	n := count[owner]
	s.tell(callerNamed, owner.Name == callerName && owner.PID == s.caller.PID() && int64(n) >= calls.hanging(),
		"%d connections of %s, %d calls hang", n, owner, calls.hanging())
	if s.sent > 0 {
		return s.tellHeadline()
	}
	return nil
}

// releaseBound is how long the daemon may take to let go. It takes less than a
// second, unless the machine is busy.
const releaseBound = 20 * time.Second

// release ends the caller, and with it what the daemon holds for it.
func (s *subject) release(ctx context.Context) error {
	s.caller.Kill()
	gone := time.Now()
	for {
		counters, err := s.readDaemon(ctx)
		if err != nil {
			return err
		}
		left := counters[inContainerStats]
		if left == 0 || time.Since(gone) > releaseBound {
			if counters[subscribed], err = s.readHeap(ctx); err != nil {
				return err
			}
			s.lab.Sample(arm.Sample{Phase: arm.PhaseRelease, Counters: counters, Settled: left == 0})
			s.tell(released, left == 0, "%.0f goroutines in ContainerStats, %.0f fds after %.2f s", left, counters[dockerdFDs], time.Since(gone).Seconds())
			break
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	if !s.setting.Watch {
		return nil
	}
	// The look that is under way may still say a line.
	if err := sleep(ctx, 1200*time.Millisecond); err != nil {
		return err
	}
	from := time.Now()
	if err := sleep(ctx, 1500*time.Millisecond); err != nil {
		return err
	}
	log, err := s.docker.LogLines()
	if err != nil {
		return err
	}
	again := notFoundBetween(log, from, time.Now())
	s.tell(silentAgain, len(again) == 0, "lines after the caller's exit: %v", again)
	return nil
}
