// Package runner carries a plan out: it makes the runtimes, hands each arm's
// job to its machine, collects what the agent tells, and has it judged.
package runner

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/plan"
	"github.com/leaklab/leaklab/harness/report"
	"github.com/leaklab/leaklab/harness/runtimes"
	"github.com/leaklab/leaklab/harness/verdict"
)

// Watcher is told how a run goes on. Its methods may be called from several
// goroutines.
type Watcher interface {
	// Preparing is told what is built or fetched.
	Preparing(text string)
	// Started is told that the i-th of n arms begins, Progress what it does.
	Started(step plan.Step, i, n int)
	Progress(step plan.Step, text string)
	Finished(report.Arm)
}

// Runner runs plans.
type Runner struct {
	Cache runtimes.Cache
	// Out is the folder for the evidence.
	Out     string
	Watcher Watcher
	// Jobs is how many arms run at the same time; 0 is one. Arms share nothing
	// but the processors, and most of their time they wait for something to
	// settle.
	Jobs int
}

// Run makes the runtimes, and then runs the steps. What could not be run is in
// the results too, with the reason. The error is that of the results' folder.
func (r Runner) Run(ctx context.Context, steps []plan.Step) ([]report.Arm, error) {
	made := map[string]prepared{}
	for _, s := range steps {
		if s.Machine == nil {
			continue
		}
		for _, recipe := range s.Recipes {
			if _, ok := made[recipe.Ref()]; !ok && ctx.Err() == nil {
				entry, err := r.Cache.Get(ctx, recipe, r.Watcher.Preparing)
				made[recipe.Ref()] = prepared{entry, err}
			}
		}
	}
	results := make([]report.Arm, len(steps))
	arms, ctx := errgroup.WithContext(ctx)
	arms.SetLimit(max(r.Jobs, 1))
	for i, s := range steps {
		arms.Go(func() (err error) {
			r.Watcher.Started(s, i+1, len(steps))
			results[i], err = r.step(ctx, s, made)
			r.Watcher.Finished(results[i])
			return err
		})
	}
	return results, arms.Wait()
}

type prepared struct {
	entry runtimes.Entry
	err   error
}

// step runs one arm.
func (r Runner) step(ctx context.Context, s plan.Step, made map[string]prepared) (report.Arm, error) {
	res := report.Arm{
		Scenario: s.Scenario.Name, Arm: s.Arm.Name, Title: s.Arm.Title, Cure: s.Arm.Cure, Kind: s.Arm.Kind, Operation: s.Arm.Operation,
		Plan: s.Plan, Seed: rand.Uint64(), Expected: s.Arm.Expect(), Verdict: arm.NotRun, OK: true,
		Runtimes: []report.Runtime{}, Counters: []report.Counter{}, Outcomes: []report.Outcome{},
	}
	if s.Machine == nil {
		res.Reason = s.Why.Error()
		return res, nil
	}
	res.Machine = s.Machine.Name()
	if ctx.Err() != nil {
		res.Reason = "interrupted"
		return res, nil
	}
	job := arm.Job{Scenario: res.Scenario, Arm: res.Arm, Plan: s.Plan, Seed: res.Seed, Runtimes: map[string]string{}}
	for _, recipe := range s.Recipes {
		p := made[recipe.Ref()]
		if p.err != nil {
			res.Reason = p.err.Error()
			return res, nil
		}
		job.Runtimes[p.entry.Name] = p.entry.Bin
		res.Runtimes = append(res.Runtimes, report.Runtime{Name: p.entry.Name, Version: p.entry.Version, Digest: p.entry.Digest})
	}
	c := collector{res: &res, dir: r.Out, tell: func(text string) { r.Watcher.Progress(s, text) }}
	start := time.Now()
	err := s.Machine.Run(ctx, s.Arm, job, c.take)
	res.Seconds = time.Since(start).Seconds()
	if c.err != nil {
		return res, c.err
	}
	res.SetVerdict(verdict.Judge(s.Arm, res.Samples, res.Trials))
	switch {
	case ctx.Err() != nil:
		res.Verdict, res.OK, res.Reason = arm.NotRun, true, "interrupted"
	case err != nil:
		// What was measured before the failure is kept, but decides nothing.
		res.Verdict, res.OK, res.Reason = arm.Inconclusive, false, "failed: "+err.Error()
	}
	return res, nil
}

// collector puts an agent's events where they belong.
type collector struct {
	res  *report.Arm
	dir  string
	tell func(string)
	err  error
}

func (c *collector) take(e arm.Event) {
	switch e.Type {
	case arm.EventStarted:
		c.res.Kernel, c.res.Cgroup = e.Fields["kernel"], e.Fields["cgroup"]
	case arm.EventDone:
		c.res.CPU = e.Fields
	case arm.EventProgress:
		c.tell(e.Text)
	case arm.EventSample:
		c.res.Samples = append(c.res.Samples, *e.Sample)
	case arm.EventOutcome:
		c.res.Trials = append(c.res.Trials, *e.Outcome)
	case arm.EventNote:
		c.res.Notes = append(c.res.Notes, e.Text)
	case arm.EventRuntime:
		for i := range c.res.Runtimes {
			if r := &c.res.Runtimes[i]; r.Name == e.Name {
				r.Version, r.Digest = e.Fields["version"], e.Fields["digest"]
			}
		}
	case arm.EventFile:
		if err := c.keep(e.Name, e.Data); err != nil {
			c.err = errors.Join(c.err, err)
		}
	}
}

func (c *collector) keep(name string, data []byte) error {
	if !filepath.IsLocal(name) {
		return fmt.Errorf("the agent named a file %q", name)
	}
	rel := path.Join(c.res.Scenario, c.res.Arm, name)
	file := filepath.Join(c.dir, rel)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("keeping evidence: %w", err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		return fmt.Errorf("keeping evidence: %w", err)
	}
	c.res.Files = append(c.res.Files, rel)
	return nil
}
