package dockerstop

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/fault"
	"github.com/leaklab/leaklab/harness/probe"
	"github.com/leaklab/leaklab/harness/verdict"
)

// setting is one way to stop containers.
type setting struct {
	// Hold is what keeps them alive.
	Hold holdKind
	// Slave is MountFlags=slave.
	Slave bool
	// Patience of the client of a stop; 0 is one that never gives up.
	Patience time.Duration
	// FineHeap has the daemons sample their heap once a KiB, not once in 512: of
	// a buffer of 4 KiB, 98 of 100 are recorded. To record them all, with a rate
	// of 1, makes the arm ten times as long.
	FineHeap bool
}

// holdKind names a hold and its release.
type holdKind string

const (
	wedgedAnswer holdKind = "FUSE, released by an answer"
	wedgedAbort  holdKind = "FUSE, released by an abort"
	frozenParent holdKind = "frozen parent cgroup"
	killable     holdKind = "none"
)

func (s setting) env() []string {
	if s.FineHeap {
		return []string{"GODEBUG=memprofilerate=1024"}
	}
	return nil
}

// trial is one run of an arm.
type trial struct {
	setting
	arm   arm.Arm
	lab   arm.Lab
	hold  hold
	fleet fleet
	// started is when the last daemon answered first.
	started time.Time
	exits   *exits
	before  profiles
	// clients is the context of all stops' clients; callOff ends it.
	clients context.Context
	callOff context.CancelFunc
}

// run is the whole arm.
//
// A stop can be counted only when dockerd has done all it ever does for it: t
// seconds after its stop signal, ten after its SIGKILL and, from 20.10 on, two
// more. Rounds one after the other on one daemon would take a quarter of a
// minute each, so they run side by side: as many daemons as rounds, and one
// more, of the same version and in the same state, get 0, n, 2n, 3n, … stops at
// the same time, and are read together once the last stop has had its time.
// What each has gained since before its first stop, over its number of stops, is
// fitted as rounds are. The points are even better than rounds: they are
// independent of each other, and the daemon without a stop shows what time alone
// does.
func (s setting) run(ctx context.Context, lab arm.Lab, a arm.Arm) (err error) {
	t := &trial{setting: s, arm: a, lab: lab}
	t.clients, t.callOff = context.WithCancel(ctx)
	defer t.callOff()
	if s.Slave {
		// As systemd leaves them at boot; a slave of nobody would be no slave.
		if err := fault.ShareMounts(); err != nil {
			return err
		}
	}
	if t.hold, err = s.makeHold(lab); err != nil {
		return err
	}
	// Processes that cannot die must be let go before anything else ends.
	defer func() { err = errors.Join(err, t.fleet.end(lab)) }()
	defer func() { err = errors.Join(err, t.hold.close()) }()
	defer func() {
		if t.exits != nil {
			t.exits.stop()
		}
	}()
	if err := t.start(ctx); err != nil {
		return err
	}
	if err := t.rounds(ctx); err != nil {
		return err
	}
	if err := t.look(ctx); err != nil {
		return err
	}
	return t.letGo(ctx)
}

// start brings up daemons and containers, puts the hold on them and reads all
// daemons before the first stop.
func (t *trial) start(ctx context.Context) error {
	plan := t.lab.Job().Plan
	preparing, groupCtx := errgroup.WithContext(ctx)
	for number := range plan.Rounds + 1 {
		t.lab.Progress("starting dockerd %d of %d", number+1, plan.Rounds+1)
		if err := t.add(groupCtx, number, preparing); err != nil {
			// The first to fail has ended what the others do.
			return errors.Join(err, preparing.Wait())
		}
	}
	if err := preparing.Wait(); err != nil {
		return err
	}
	if err := t.hold.take(ctx, len(t.fleet)); err != nil {
		return err
	}
	err := t.fleet.each(ctx, func(ctx context.Context, d *daemon) (err error) {
		d.before, _, err = d.settled(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if t.before, err = t.fleet.top().profiles(ctx); err != nil {
		return err
	}
	t.before.deliver(t.lab, "before")
	return nil
}

// add starts one more daemon, and has it prepared while others start. No two
// start in the same second: dockerd 18.09 takes the ids of its containers from
// math/rand, which libnetwork seeds with the time in seconds (resolver.go, init),
// so both would give their containers the same ids, and containerd names the
// sockets of its shims, in the network namespace, after those.
func (t *trial) add(ctx context.Context, number int, preparing *errgroup.Group) error {
	if number > 0 {
		next := t.started.Truncate(time.Second).Add(time.Second)
		if err := sleep(ctx, time.Until(next)); err != nil {
			return err
		}
	}
	d, err := t.startDaemon(ctx, t.lab, number)
	if err != nil {
		return err
	}
	t.started = time.Now()
	d.dose = number * t.lab.Job().Plan.Ops
	t.fleet = append(t.fleet, d)
	if number == t.lab.Job().Plan.Rounds {
		if err := d.switchDebug(ctx, t.lab); err != nil {
			return err
		}
		if t.exits, err = d.listen(t.lab); err != nil {
			return err
		}
	}
	preparing.Go(func() error {
		if err := d.prepare(ctx, t.lab, t.hold.dir()); err != nil {
			return fmt.Errorf("dockerd %d: %w", number, err)
		}
		return nil
	})
	return nil
}

// rounds gives the daemons their stops and samples them. Where the numbers do
// not decide, it goes on with the same daemons, up to the plan's limit.
func (t *trial) rounds(ctx context.Context) error {
	plan := t.lab.Job().Plan
	var samples []arm.Sample
	for pass := 0; ; pass++ {
		got := t.fleet[1:]
		if pass == 0 {
			got = t.fleet // with the one that gets none
		}
		start := time.Now()
		if err := t.stop(ctx, got, pass); err != nil {
			return err
		}
		took := time.Since(start)
		t.lab.Progress("waiting until every stop has had its time")
		if err := t.hadTheirTime(ctx); err != nil {
			return err
		}
		taken := make([]arm.Sample, len(t.fleet))
		err := got.each(ctx, func(ctx context.Context, d *daemon) error {
			now, still, err := d.settled(ctx)
			d.gain = d.gained(now)
			taken[d.number] = arm.Sample{Phase: arm.PhaseRound, Round: pass*plan.Rounds + d.number, Ops: d.made,
				Counters: d.gain, Seconds: took.Seconds(), Settled: still}
			return err
		})
		if err != nil {
			return err
		}
		for _, d := range got {
			samples = append(samples, taken[d.number])
			t.lab.Sample(taken[d.number])
		}
		if verdict.Decided(t.arm, samples) || (pass+2)*plan.Rounds > plan.MaxRounds {
			return nil
		}
	}
}

// stop gives each daemon its dose: in the first pass its own number of stops, so
// that all numbers differ; in later passes all the largest number, so that they
// still do. It returns once the clients have gone, or are as gone as they get.
func (t *trial) stop(ctx context.Context, daemons fleet, pass int) error {
	largest := t.fleet.top().dose
	t.lab.Progress("up to %d stops per dockerd", largest)
	return daemons.each(ctx, func(ctx context.Context, d *daemon) error {
		n := d.dose
		if pass > 0 {
			n = largest
		}
		if t.Hold == killable {
			return t.stopAgainAndAgain(ctx, d, n)
		}
		back := d.burst(t.clients, n, t.Patience)
		if t.Patience == 0 && n > 0 {
			back = nil // they stay
		}
		select {
		case <-back:
		case <-time.After(patience):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		return nil
	})
}

// stopAgainAndAgain stops a container that does die, a round's number of stops
// at a time, and starts it again after each, so that it runs in the end as it did
// in the beginning.
func (t *trial) stopAgainAndAgain(ctx context.Context, d *daemon, n int) error {
	each := t.lab.Job().Plan.Ops
	for ; n > 0; n -= each {
		select {
		case <-d.burst(t.clients, min(n, each), t.Patience):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := d.startAgain(ctx); err != nil {
			return err
		}
	}
	return nil
}

// timeAfterKill is how long a stop may go on after its SIGKILL: killProcessDirectly
// (18.09) or Kill (20.10) waits 10 s for the exit, and from 20.10 on, or with the
// report's proposal, Kill another 2 s. Half a second is for a busy machine.
const timeAfterKill = 12*time.Second + 500*time.Millisecond

// hadTheirTime waits until every stop has sent its SIGKILL and the time after it
// is over. Under the container's lock dockerd sends some 110 signals a second,
// so a burst is not done with its signals when its clients are gone.
func (t *trial) hadTheirTime(ctx context.Context) error {
	last := time.Now()
	for time.Since(last) < timeAfterKill {
		for _, d := range t.fleet {
			gs, err := d.docker.Pprof().Goroutines(ctx)
			if err != nil {
				return err
			}
			if beforeKill(gs) > 0 {
				last = time.Now()
			}
		}
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// look answers the arm's questions at the daemon with the most stops.
func (t *trial) look(ctx context.Context) error {
	d := t.fleet.top()
	dump, err := d.docker.Pprof().Dump(ctx)
	if err != nil {
		return err
	}
	t.lab.File("dockerd-goroutines.stacks.txt", dump.Text())
	if err := d.deliverSockets(t.lab); err != nil {
		return err
	}
	t.lab.Note("what the clients of %d stops were told: %v", d.made, &d.tally)
	if err := t.lookAtProcess(d); err != nil {
		return err
	}
	if t.arm.Kind == arm.Leak {
		n := pairs(dump)
		t.lab.Outcome(arm.OutcomeResult{Name: lastWaits, Trial: 1, Yes: n == d.made,
			Detail: fmt.Sprintf("of %d stops %d are a goroutine in Kill's last wait and the one in Wait that it started", d.made, n)})
	}
	t.lookAtEvents(d, dump)
	return t.lookAtMemory(ctx, d)
}

// lookAtProcess asks whether the container's first process is unkillable.
func (t *trial) lookAtProcess(d *daemon) error {
	if t.Hold == killable {
		t.lab.Outcome(arm.OutcomeResult{Name: unkillable, Trial: 1, Detail: "every burst of stops has ended it"})
		return nil
	}
	state, wchan, err := probe.State(d.pid)
	if err != nil {
		return fmt.Errorf("the container's first process: %w", err)
	}
	t.lab.Outcome(arm.OutcomeResult{Name: unkillable, Trial: 1, Yes: state == "D" && wchan == t.hold.wchan(),
		Detail: fmt.Sprintf("after %d stops the container's first process is in state %s, in %s", d.made, state, wchan)})
	return nil
}

// lookAtEvents asks where the exit event is: lost on its way, or never sent.
func (t *trial) lookAtEvents(d *daemon, dump probe.Goroutines) {
	stream, received := dump.In(inEvents), dump.In(inReceived)
	t.lab.Outcome(arm.OutcomeResult{Name: listening, Trial: 1, Yes: stream > 0 && received > 0,
		Detail: fmt.Sprintf("%d goroutines in processEventStream, %d in Subscribe", stream, received)})
	sent := t.exits.of(d.id)
	t.lab.Outcome(arm.OutcomeResult{Name: noExit, Trial: 1, Yes: sent == 0,
		Detail: fmt.Sprintf("%d exit events of the container from containerd", sent)})
}

// The report's figures (claim K5).
const (
	reportBytes = 26e9
	reportStops = 786212
)

// lookAtMemory sets what a stop keeps against the report's figures.
func (t *trial) lookAtMemory(ctx context.Context, d *daemon) error {
	after, err := d.profiles(ctx)
	if err != nil {
		return err
	}
	after.deliver(t.lab, "after")
	grown, err := after.since(t.before, t.lab)
	if err != nil {
		return err
	}
	switch {
	case t.FineHeap:
		// What it costs to record so much is in heap and stacks, so they are not
		// told here.
		top, detail := bufioOnTop(grown)
		t.lab.Outcome(arm.OutcomeResult{Name: bufioFirst, Trial: 1, Yes: top, Detail: detail})
	case t.arm.Kind == arm.Leak:
		t.lab.Note("per stop %.1f kB of heap and stacks, %.1f kB of RSS; the report's 26 GB by %d stops are %.1f kB",
			d.gain[memory.Name]/float64(d.made)/1e3, d.gain[residentSet.Name]/float64(d.made)/1e3, reportStops, reportBytes/reportStops/1e3)
	}
	return nil
}

// letGo takes the hold away and sees whether that frees what was left: what
// separates a leak that is held by something from one that is lost for good.
func (t *trial) letGo(ctx context.Context) error {
	if t.Hold == killable {
		return nil
	}
	if t.Patience == 0 {
		if err := t.clientsLeave(ctx); err != nil {
			return err
		}
	}
	t.lab.Progress("releasing: %s", t.Hold)
	start := time.Now()
	if err := t.hold.release(); err != nil {
		return err
	}
	const bound = 10 * time.Second
	err := t.drained(ctx, drains, start, bound, func(gain map[string]float64) bool {
		return gain[killing.Name] == 0 && gain[waiting.Name] == 0 && gain[descriptors.Name] <= 1
	})
	if err != nil {
		return err
	}
	d := t.fleet.top()
	came, err := t.exits.await(ctx, d.id, bound)
	if err != nil {
		return err
	}
	t.lab.Outcome(arm.OutcomeResult{Name: exitComes, Trial: 1, Yes: came,
		Detail: fmt.Sprintf("%d exit events of the container from containerd", t.exits.of(d.id))})
	t.lab.File("containerd-events.lines.txt", []byte(t.exits.String()))
	return nil
}

// clientsLeave calls the clients off that have stayed, and sees one goroutine in
// three go with them.
func (t *trial) clientsLeave(ctx context.Context) error {
	t.lab.Progress("the clients give up")
	start := time.Now()
	t.callOff()
	return t.drained(ctx, oneOfThree, start, 5*time.Second, func(gain map[string]float64) bool {
		return gain[attached.Name] <= 1 && gain[peerless.Name] == float64(t.fleet.top().made) // one is the look itself
	})
}

// drained waits until what the daemon with the most stops has gained is as asked
// for, and tells.
func (t *trial) drained(ctx context.Context, outcome string, start time.Time, bound time.Duration, done func(gain map[string]float64) bool) error {
	d := t.fleet.top()
	for {
		now, err := d.read(ctx)
		if err != nil {
			return err
		}
		gain := d.gained(now)
		yes := done(gain)
		if !yes && time.Since(start) < bound {
			if err := sleep(ctx, 20*time.Millisecond); err != nil {
				return err
			}
			continue
		}
		took := time.Since(start)
		if now, yes, err = d.settled(ctx); err != nil {
			return err
		}
		gain = d.gained(now)
		yes = yes && done(gain)
		t.lab.Sample(arm.Sample{Phase: arm.PhaseRelease, Ops: d.made, Counters: gain, Settled: yes})
		t.lab.Outcome(arm.OutcomeResult{Name: outcome, Trial: 1, Yes: yes, Seconds: took.Seconds(),
			Detail: fmt.Sprintf("of %d stops %.0f goroutines are left in Kill, %.0f in Wait, %.0f all in all, and %.0f fds",
				d.made, gain[killing.Name], gain[waiting.Name], gain[goroutines.Name], gain[descriptors.Name])})
		return nil
	}
}
