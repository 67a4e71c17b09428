// Package trials runs an arm with one version of its subject after the other and
// counts what its trials show: what a bisection asks. It remembers by the
// digests of the subjects, and makes the next ones while one is running.
package trials

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/bisect"
	"github.com/leaklab/leaklab/harness/machine"
	"github.com/leaklab/leaklab/harness/plan"
	"github.com/leaklab/leaklab/harness/report"
	"github.com/leaklab/leaklab/harness/runner"
	"github.com/leaklab/leaklab/harness/runtimes"
	"github.com/leaklab/leaklab/harness/store"
)

// Tester implements [bisect.Tester] for one axis of a scenario.
type Tester struct {
	Scenario arm.Scenario
	Axis     arm.Axis
	Families runtimes.Families
	// Machines returns those that can run a version. Where the axis varies
	// kernels they run the version's, of which identity says exactly which it
	// is.
	Machines func(ctx context.Context, kernel string, progress func(string)) (machines []machine.Machine, identity string, err error)
	// Machine is the name of the one wanted, or empty.
	Machine string
	Cache   runtimes.Cache
	Memory  Memory
	// Again forgets what is remembered of each version when it comes to it.
	Again bool
	// NoAhead makes each subject only when it is tested.
	NoAhead bool
	// Out is the folder for the evidence of each version.
	Out     string
	Watcher runner.Watcher

	once    sync.Once
	ahead   *ahead
	ctx     context.Context
	stopCtx context.CancelFunc
	// evidence is what was run in this process, by version.
	evidence map[string][]report.Arm
}

// BySlopes reports whether the arm decides by slopes alone: each run is one
// trial then, and otherwise a run has several.
func BySlopes(a arm.Arm) bool {
	return !slices.ContainsFunc(a.Outcomes, func(o arm.Outcome) bool { return o.Decides })
}

func (t *Tester) init() {
	t.once.Do(func() {
		t.ctx, t.stopCtx = context.WithCancel(context.Background())
		t.evidence = map[string][]report.Arm{}
		t.ahead = &ahead{failed: map[string]error{}, make: t.make}
	})
}

// Close ends what is being made ahead.
func (t *Tester) Close() {
	t.init()
	t.ahead.stop()
	t.stopCtx()
}

// Ahead implements [bisect.Tester].
func (t *Tester) Ahead(versions []string) {
	t.init()
	if !t.NoAhead && !t.Axis.Kernel {
		t.ahead.want(t.ctx, versions)
	}
}

// make builds or fetches the subject of a version.
func (t *Tester) make(ctx context.Context, version string) error {
	step, _, err := t.step(ctx, version, 1)
	if err != nil {
		return err
	}
	for _, recipe := range step.Recipes {
		// Who waits for it is told by the runner; nobody watches here.
		if _, err := t.Cache.Get(ctx, recipe, func(string) {}); err != nil {
			return err
		}
	}
	return nil
}

// step plans n trials of a version, and says what their answers depend on.
func (t *Tester) step(ctx context.Context, version string, n int) (step plan.Step, s subject, err error) {
	a, err := t.Axis.ArmOf(t.Scenario)
	if err != nil {
		return step, s, err
	}
	w := plan.Wishes{Patterns: []string{t.Scenario.Name + "/" + a.Name}, Machine: t.Machine}
	if !BySlopes(a) {
		w.Plan.Trials = n
	}
	kernel := ""
	if t.Axis.Kernel {
		kernel = version
	} else {
		w.Replace = t.Axis.Subject(version)
	}
	machines, identity, err := t.Machines(ctx, kernel, t.Watcher.Preparing)
	if err != nil {
		return step, s, cannot(ctx, err)
	}
	steps, err := plan.Make([]arm.Scenario{t.Scenario}, t.Families, machines, w)
	if err != nil {
		return step, s, cannot(ctx, err)
	}
	if step = steps[0]; step.Machine == nil {
		return step, s, cannot(ctx, step.Why)
	}
	s, err = describe(ctx, step, identity)
	return step, s, err
}

// cannot makes an error one of the version, unless it is an interruption.
func cannot(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %w", bisect.ErrCannotTest, err)
}

// describe says what a step's answer depends on.
func describe(ctx context.Context, step plan.Step, kernel string) (subject, error) {
	s := subject{
		Scenario: step.Scenario.Name, Arm: step.Arm.Name, Plan: step.Plan,
		Runtimes: map[string]string{}, Machine: step.Machine.Name(), Kernel: kernel,
	}
	s.Plan.Trials = 0
	if kernel == "" {
		var u unix.Utsname
		if err := unix.Uname(&u); err != nil {
			return s, err
		}
		s.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	for _, r := range step.Recipes {
		digest, _, err := runtimes.Digest(ctx, r)
		if err != nil {
			return s, cannot(ctx, err)
		}
		s.Runtimes[r.Ref()] = digest
	}
	var err error
	s.Leaklab, err = self()
	return s, err
}

// self is the SHA-256 of the running program.
var self = sync.OnceValues(func() (string, error) { return store.HashFile("/proc/self/exe") })

// Known implements [bisect.Tester].
func (t *Tester) Known(ctx context.Context, version string) (bisect.Counts, error) {
	t.init()
	_, s, err := t.step(ctx, version, 1)
	if err != nil {
		return bisect.Counts{}, err
	}
	if t.Again {
		return bisect.Counts{}, t.Memory.forget(s)
	}
	r, err := t.Memory.recall(s)
	if err == nil && r.Cannot != "" {
		err = fmt.Errorf("%w: %s (found %s ago)", bisect.ErrCannotTest, r.Cannot, time.Since(r.Since).Round(time.Minute))
	}
	return r.Counts, err
}

// Test implements [bisect.Tester]. A run has at most as many trials as the
// arm's own plan, which its timeout is made for.
func (t *Tester) Test(ctx context.Context, version string, n int) (bisect.Counts, error) {
	t.init()
	var all bisect.Counts
	failed := 0
	for asked := 0; asked < n && ctx.Err() == nil; {
		a, err := t.Axis.ArmOf(t.Scenario)
		if err != nil {
			return all, err
		}
		batch := 1
		if !BySlopes(a) {
			batch = min(n-asked, a.Plan.Or(arm.DefaultPlan).Trials)
		}
		asked += batch
		step, s, err := t.step(ctx, version, batch)
		if err != nil {
			return all, err
		}
		got, err := t.run(ctx, version, step)
		var broken *failure
		if errors.As(err, &broken) {
			// Once may be chance, as when memory was short.
			if failed++; failed < 2 {
				asked -= batch
				continue
			}
			// Not remembered: the machine may have been too busy.
			return all, fmt.Errorf("%w: %w", bisect.ErrCannotTest, err)
		}
		if ctx.Err() != nil {
			break
		}
		var cannot error
		if errors.Is(err, bisect.ErrCannotTest) {
			cannot = errors.New(strings.TrimPrefix(err.Error(), bisect.ErrCannotTest.Error()+": "))
		}
		if err != nil && cannot == nil {
			return all, err
		}
		if addErr := t.Memory.add(ctx, s, got, cannot); addErr != nil {
			return all, addErr
		}
		if all = all.Plus(got); err != nil {
			return all, err
		}
	}
	return all, context.Cause(ctx)
}

// failure is a run that ended before it had measured what decides.
type failure struct{ reason string }

func (f *failure) Error() string { return f.reason }

// run runs a step once and counts its trials.
func (t *Tester) run(ctx context.Context, version string, step plan.Step) (bisect.Counts, error) {
	if err := t.ahead.yield(ctx, version); err != nil {
		return bisect.Counts{}, fmt.Errorf("%w: %w", bisect.ErrCannotTest, err)
	}
	out := filepath.Join(t.Out, Folder(version))
	if err := report.OpenFolder(out); err != nil {
		return bisect.Counts{}, err
	}
	results, err := runner.Runner{Cache: t.Cache, Out: out, Watcher: t.Watcher}.Run(ctx, []plan.Step{step})
	if m, ok := step.Machine.(io.Closer); ok {
		err = errors.Join(err, m.Close())
	}
	if err != nil {
		return bisect.Counts{}, err
	}
	res := results[0]
	t.evidence[version] = append(t.evidence[version], res)
	switch {
	case ctx.Err() != nil:
		return bisect.Counts{}, context.Cause(ctx)
	case res.Verdict == arm.NotRun:
		return bisect.Counts{}, fmt.Errorf("%w: %s", bisect.ErrCannotTest, res.Reason)
	case strings.HasPrefix(res.Reason, "failed: "):
		return bisect.Counts{}, &failure{res.Reason}
	}
	return Count(res, t.Axis.Requires), nil
}

// Evidence is what was run of a version in this process.
func (t *Tester) Evidence(version string) []report.Arm { return t.evidence[version] }

// Folder is the name of a version's folder of evidence.
func Folder(version string) string {
	return strings.Map(func(c rune) rune {
		if strings.ContainsRune(`/:#?& @`, c) {
			return '_'
		}
		return c
	}, version)
}

// Count reads a result as trials: by its deciding outcomes, a trial each, or
// where an arm has none by its verdict, one trial. A trial without the outcomes
// that are required counts neither way.
func Count(res report.Arm, requires []string) bisect.Counts {
	decides := map[string]bool{}
	for _, o := range res.Outcomes {
		decides[o.Name] = o.Decides
	}
	bad, lacking := map[int]bool{}, map[int]bool{}
	for _, o := range res.Trials {
		if decides[o.Name] {
			bad[o.Trial] = bad[o.Trial] || o.Yes
		}
		if slices.Contains(requires, o.Name) && !o.Yes {
			lacking[o.Trial] = true
		}
	}
	var c bisect.Counts
	if len(bad) == 0 {
		switch {
		case len(lacking) > 0 || res.Verdict != arm.Leaks && res.Verdict != arm.Clean:
			c.Unclear++
		case res.Verdict == arm.Leaks:
			c.Bad++
		default:
			c.Good++
		}
		return c
	}
	for trial, yes := range bad {
		switch {
		case lacking[trial]:
			c.Unclear++
		case yes:
			c.Bad++
		default:
			c.Good++
		}
	}
	return c
}
