// Package agent runs one arm inside a machine: one job in, one stream of events
// out. It is the same on every machine: only who holds the other end of the two
// pipes differs.
//
// The job is the first line of the input. The end of the input, or anything
// after that line, means "stop": the arm's context is cancelled, so that it can
// let go of its faults.
package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/verdict"
)

// Serve reads a job from in, runs its arm and tells of it on out. The returned
// error has been told there too.
func Serve(in io.Reader, out io.Writer, scenarios []arm.Scenario) error {
	b := &bench{enc: json.NewEncoder(out), start: time.Now()}
	err := b.serve(in, scenarios)
	if err != nil {
		b.emit(arm.Event{Type: arm.EventFailed, Text: err.Error()})
	} else {
		b.emit(arm.Event{Type: arm.EventDone, Fields: cpuSeconds()})
	}
	return err
}

// bench implements [arm.Lab] for the one arm of its job.
type bench struct {
	mu    sync.Mutex
	enc   *json.Encoder
	start time.Time
	job   arm.Job
	arm   arm.Arm
}

func (b *bench) serve(in io.Reader, scenarios []arm.Scenario) (err error) {
	lines := bufio.NewReader(in)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("no job came: %w", err)
	}
	if err := json.Unmarshal(line, &b.job); err != nil {
		return fmt.Errorf("the job cannot be read: %w", err)
	}
	if b.arm, err = arm.Find(scenarios, b.job.Scenario, b.job.Arm); err != nil {
		return err
	}
	b.job.Plan = b.job.Plan.Or(b.arm.Plan).Or(arm.DefaultPlan)
	b.emit(arm.Event{Type: arm.EventStarted, Fields: machineFacts()})

	ctx, cancel := context.WithTimeout(context.Background(), b.job.Plan.Timeout)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		lines.ReadByte() // whatever comes, or nobody left to send it
		stop(ErrStopped)
	}()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the arm panicked: %v\n%s", p, debug.Stack())
		}
	}()
	err = b.arm.Run(ctx, b)
	switch cause := context.Cause(ctx); {
	case err == nil:
		return nil
	case cause == ErrStopped:
		return ErrStopped
	case cause == context.DeadlineExceeded:
		return fmt.Errorf("not finished within %v: %w", b.job.Plan.Timeout, err)
	}
	return err
}

// ErrStopped reports a run that was told to stop.
var ErrStopped = fmt.Errorf("stopped before the end")

func (b *bench) emit(e arm.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.Seconds = time.Since(b.start).Seconds()
	// An agent whose stream is broken has nobody to tell; it is being stopped.
	_ = b.enc.Encode(e)
}

func (b *bench) Job() arm.Job { return b.job }

func (b *bench) Bin(runtime, file string) string {
	return filepath.Join(b.job.Runtimes[runtime], file)
}

func (b *bench) Dir(name string) string {
	dir := filepath.Join(b.job.Dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		panic(err) // the arm's folder is fresh and ours; serve reports it
	}
	return dir
}

func (b *bench) Progress(format string, args ...any) {
	b.emit(arm.Event{Type: arm.EventProgress, Text: fmt.Sprintf(format, args...)})
}

func (b *bench) Note(format string, args ...any) {
	b.emit(arm.Event{Type: arm.EventNote, Text: fmt.Sprintf(format, args...)})
}

func (b *bench) File(name string, data []byte) {
	b.emit(arm.Event{Type: arm.EventFile, Name: name, Data: data})
}

func (b *bench) Outcome(o arm.OutcomeResult) {
	b.emit(arm.Event{Type: arm.EventOutcome, Outcome: &o})
}

func (b *bench) Sample(s arm.Sample) {
	b.emit(arm.Event{Type: arm.EventSample, Sample: &s})
}

// Rounds implements [arm.Lab].
func (b *bench) Rounds(ctx context.Context, r arm.Rounds) error {
	plan := b.job.Plan
	b.Progress("warm-up: %d operations", plan.Warmup)
	if err := r.Operate(ctx, plan.Warmup); err != nil {
		return fmt.Errorf("warm-up: %w", err)
	}
	var samples []arm.Sample
	sample := func(round, ops int, took time.Duration) error {
		counters, settled, err := b.settle(ctx, r)
		if err != nil {
			return err
		}
		s := arm.Sample{Phase: arm.PhaseRound, Round: round, Ops: ops, Counters: counters, Seconds: took.Seconds(), Settled: settled}
		samples = append(samples, s)
		b.Sample(s)
		return nil
	}
	if err := sample(0, 0, 0); err != nil {
		return err
	}
	for round := 1; round <= plan.MaxRounds; round++ {
		b.Progress("round %d of %s%s · %d operations", round, limits(plan), b.slopeSoFar(samples), plan.Ops)
		start := time.Now()
		if err := r.Operate(ctx, plan.Ops); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if err := sample(round, round*plan.Ops, time.Since(start)); err != nil {
			return err
		}
		if round >= plan.Rounds && verdict.Decided(b.arm, samples) {
			break
		}
	}
	return nil
}

// limits words how many rounds there will be: "4", or "4 to 12" where more are
// made until the numbers decide.
func limits(p arm.Plan) string {
	if p.MaxRounds <= p.Rounds {
		return fmt.Sprint(p.Rounds)
	}
	return fmt.Sprintf("%d to %d", p.Rounds, p.MaxRounds)
}

// slopeSoFar words the deciding counters' current slopes for the live view.
func (b *bench) slopeSoFar(samples []arm.Sample) string {
	text := ""
	for _, c := range b.arm.Counters {
		if r := verdict.ReadCounter(b.arm, c, samples); c.Decides && r.Points > 1 {
			text += fmt.Sprintf(" · %s %s/op", verdict.Number(r.Slope.Estimate), c.Unit)
		}
	}
	return text
}

// settle reads the counters until those that decide have stood still for
// r.Quiet, or the bound is over. Sizes never stand still in a living process.
func (b *bench) settle(ctx context.Context, r arm.Rounds) (counters map[string]float64, settled bool, err error) {
	every := max(r.Every, 10*time.Millisecond)
	deadline := time.Now().Add(r.Settle)
	last, err := r.Read(ctx)
	if err != nil {
		return nil, false, err
	}
	still := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		case <-time.After(every):
		}
		now, err := r.Read(ctx)
		if err != nil {
			return nil, false, err
		}
		for _, c := range b.arm.Counters {
			if c.Decides && c.Unit != "bytes" && now[c.Name] != last[c.Name] {
				still = time.Now()
			}
		}
		last = now
		if time.Since(still) >= max(r.Quiet, every) {
			return last, true, nil
		}
		if time.Now().After(deadline) {
			return last, false, nil
		}
	}
}

// cpuSeconds are what the agent itself and its subjects (as far as they have
// been reaped) have used.
func cpuSeconds() map[string]string {
	fields := map[string]string{}
	for name, who := range map[string]int{"agent": unix.RUSAGE_SELF, "subjects": unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			fields[name] = fmt.Sprintf("%.3f", time.Duration(u.Utime.Nano()+u.Stime.Nano()).Seconds())
		}
	}
	return fields
}

func machineFacts() map[string]string {
	facts := map[string]string{}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		facts["kernel"] = unix.ByteSliceToString(u.Release[:])
		facts["arch"] = unix.ByteSliceToString(u.Machine[:])
	}
	facts["cgroup"] = cgroupMode()
	return facts
}

func cgroupMode() string {
	var st unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		return "v2"
	}
	if _, err := os.Stat("/sys/fs/cgroup/memory/cgroup.procs"); err == nil {
		return "v1"
	}
	return "none"
}
