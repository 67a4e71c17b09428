package dockerstats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/engine"
	"github.com/leaklab/leaklab/harness/fault"
	"github.com/leaklab/leaklab/harness/part"
	"github.com/leaklab/leaklab/harness/probe"
)

// setting is one way to bring dockerd and its caller together.
type setting struct {
	// Slave is MountFlags=slave. The daemon always has live-restore.
	Slave bool
	// Restarts of the daemon while its containers run.
	Restarts int
	// Containers that are polled; 0 means one.
	Containers int
	// Bridge puts them on the default bridge network instead of none.
	Bridge bool
	// Deadline of every call; 0 is none.
	Deadline time.Duration
	// Stream makes a caller that keeps one streaming call per container.
	Stream bool
	// Cure is what heals the containers after calls have begun to hang.
	Cure func(ctx context.Context, s *subject) error
	// Again restarts the daemon once more after calls have begun to hang.
	Again bool
	// Watch looks at the log at leisure, and at the descriptor limit.
	Watch bool

	// asked are the arm's outcomes; of others nothing is told.
	asked []arm.Outcome
}

func (s setting) containers() int { return max(s.Containers, 1) }

// subject is a running dockerd with containers and a caller.
type subject struct {
	setting setting
	lab     arm.Lab
	docker  *engine.Docker
	caller  *part.Part
	callers int // that were started
	names   []string
	ids     []string
	// broken is when the daemon was last started, opened when the first call
	// was made, last when the last.
	broken, opened, last time.Time
	// patient is whether calls are still worth waiting for: see [subject.poll].
	patient bool
	// seen is the last sample; its heap is missing while things move.
	seen    map[string]float64
	sent    int
	sending time.Duration
}

const image = "workload"

// start brings the engine into the setting's state: containers run, and the
// daemon was restarted under them as often as it says.
func (s setting) start(ctx context.Context, lab arm.Lab) (_ *subject, err error) {
	// As systemd has it; without this a slave namespace is one of nobody.
	if err := fault.ShareMounts(); err != nil {
		return nil, err
	}
	lab.Progress("starting dockerd")
	docker, err := engine.StartDocker(ctx, engine.Options{
		Bin:         lab.Bin("dockerd", ""),
		Dir:         lab.Dir("docker"),
		Run:         engine.DefaultRun,
		SlaveMounts: s.Slave,
		Bridge:      s.Bridge,
		Config:      map[string]any{"live-restore": true, "debug": true},
		Env:         []string{"GODEBUG=memprofilerate=1"}, // exact heap profiles
	})
	if err != nil {
		return nil, err
	}
	sub := &subject{setting: s, lab: lab, docker: docker, patient: true}
	defer func() {
		if err != nil {
			err = errors.Join(err, sub.end())
		}
	}()
	if err := docker.Import(ctx, image, lab.Bin("workload", "workload")); err != nil {
		return nil, err
	}
	for i := range s.containers() {
		name := fmt.Sprintf("c%d", i+1)
		id, err := sub.run(ctx, name)
		if err != nil {
			return nil, err
		}
		sub.names, sub.ids = append(sub.names, name), append(sub.ids, id)
		lab.Progress("%d of %d containers run", i+1, s.containers())
	}
	sub.broken = time.Now()
	for range s.Restarts {
		if err := sub.restart(ctx); err != nil {
			return nil, err
		}
	}
	return sub, sub.startCaller(ctx)
}

// startCaller starts the process that makes the calls.
func (s *subject) startCaller(ctx context.Context) error {
	s.callers++
	// On the arm's own /run, where the path is short enough for a socket.
	control := fmt.Sprintf("/run/%s-%d", callerName, s.callers)
	caller, err := part.Start(ctx, Name, callerName, control,
		"-host", s.docker.Host(), "-containers", strings.Join(s.names, ","))
	if err != nil {
		return err
	}
	s.caller, s.opened, s.patient = caller, time.Time{}, true
	return nil
}

func (s *subject) run(ctx context.Context, name string) (id string, err error) {
	network := "none"
	if s.setting.Bridge {
		network = "bridge"
	}
	return s.docker.Run(ctx, engine.Container{Name: name, Image: image, Cmd: []string{"/workload", "sleep"}, Network: network})
}

func (s *subject) restart(ctx context.Context) error {
	s.lab.Progress("restarting dockerd")
	if err := s.docker.Stop(ctx); err != nil {
		return err
	}
	s.broken = time.Now()
	return s.docker.Start(ctx)
}

// end stops everything and delivers the daemon's log.
func (s *subject) end() error {
	if s.caller != nil {
		s.caller.Kill()
	}
	s.docker.Kill()
	log, err := s.docker.Log()
	if err != nil {
		return err
	}
	s.lab.File("dockerd.log", log)
	return nil
}

// A call that does not hang is answered within two seconds: dockerd looks once
// a second and answers with the second figures it gets. On a busy machine it
// takes longer, so silence alone proves nothing before a longer time is over,
// unless the daemon itself says in its log that it has failed twice.
const (
	patience     = 2500 * time.Millisecond
	longPatience = 12 * time.Second
)

// poll has the caller ask n times for all containers.
//
// Calls are waited for until all are back or prove to hang. Once all of a poll
// have hung, later ones are only made: that they hang too is asked for at the
// end, by [subject.stillHanging].
func (s *subject) poll(ctx context.Context, n int) error {
	if s.opened.IsZero() {
		s.opened = time.Now()
	}
	params := part.Params{"n": n, "deadlineMs": int(s.setting.Deadline.Milliseconds())}
	before, err := s.status(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := s.caller.Ask(ctx, "poll", params, nil); err != nil {
		return err
	}
	s.last = time.Now()
	if !s.patient {
		s.sent += n * len(s.names)
		s.sending += s.last.Sub(start)
		return nil
	}
	for {
		after, err := s.status(ctx)
		switch {
		case err != nil:
			return err
		case after.Failed > 0:
			return fmt.Errorf("%d calls failed: %s", after.Failed, after.FirstError)
		case after.hanging() == before.hanging():
			return nil
		}
		hang, err := s.provenToHang(start)
		if err != nil {
			return err
		}
		if hang {
			s.patient = after.returned() > before.returned()
			return nil
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// provenToHang reports whether calls that were made at a time and are not back
// will not be.
func (s *subject) provenToHang(since time.Time) (bool, error) {
	switch waited := time.Since(since); {
	case waited < patience:
		return false, nil
	case waited > longPatience:
		return true, nil
	}
	log, err := s.docker.LogLines()
	if err != nil {
		return false, err
	}
	failed := notFoundBetween(log, since, time.Now())
	return !slices.ContainsFunc(s.ids, func(id string) bool { return failed[id] < 2 }), nil
}

// stillHanging gives the last calls the time that the first had, and tells how
// all of them ended.
func (s *subject) stillHanging(ctx context.Context) (status, error) {
	for {
		st, err := s.status(ctx)
		if err != nil || st.hanging() == 0 {
			return st, err
		}
		hang, err := s.provenToHang(s.last)
		if err != nil || hang {
			return st, err
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return status{}, err
		}
	}
}

func (s *subject) status(ctx context.Context) (status, error) {
	var st status
	err := s.caller.Ask(ctx, "status", nil, &st)
	return st, err
}

// read samples both sides. The heap is looked at once the rest stands still:
// it takes a garbage collection of the daemon, and no verdict on what moves.
func (s *subject) read(ctx context.Context) (map[string]float64, error) {
	counters, err := s.readDaemon(ctx)
	if err != nil {
		return nil, err
	}
	gs, err := s.caller.Pprof().Goroutines(ctx)
	if err != nil {
		return nil, err
	}
	proc, err := probe.ReadProcess(s.caller.PID())
	if err != nil {
		return nil, err
	}
	counters[callerGoroutines] = float64(gs.Total())
	counters[callerFDs] = float64(proc.FDs)
	counters[callerRSS] = float64(proc.RSS)

	still := true
	for _, name := range []string{inContainerStats, dockerdFDs, callerGoroutines, callerFDs} {
		still = still && counters[name] == s.seen[name]
	}
	heap, read := s.seen[subscribed]
	if still && !read {
		if heap, err = s.readHeap(ctx); err != nil {
			return nil, err
		}
	}
	if still {
		counters[subscribed] = heap
	}
	s.seen = counters
	return counters, nil
}

// readHeap is what the daemon's subscriptions hold, in bytes.
func (s *subject) readHeap(ctx context.Context) (float64, error) {
	heap, err := s.docker.Pprof().Heap(ctx)
	return float64(heap.At("pubsub.(*Publisher).SubscribeTopic").Bytes), err
}

// readDaemon samples the daemon's side alone, without its heap.
func (s *subject) readDaemon(ctx context.Context) (map[string]float64, error) {
	gs, err := s.docker.Pprof().Goroutines(ctx)
	if err != nil {
		return nil, err
	}
	proc, err := probe.ReadProcess(s.docker.PID())
	if err != nil {
		return nil, err
	}
	return map[string]float64{
		inContainerStats: float64(gs.In("daemon.(*Daemon).ContainerStats")),
		dockerdFDs:       float64(proc.FDs),
		dockerdTotal:     float64(gs.Total()),
		dockerdRSS:       float64(proc.RSS),
	}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
