package memcg

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/leaklab/leaklab/harness/arm"
)

// Numbers come back through work queues of the kernel, after a grace period.
const (
	settleBound = 15 * time.Second
	settleEvery = 150 * time.Millisecond
	settleQuiet = 450 * time.Millisecond
)

// run measures what a recipe's cycles cost, then lets go of what holds it.
func (r recipe) run(ctx context.Context, lab arm.Lab) (err error) {
	b, err := open(ctx, lab, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	err = lab.Rounds(ctx, arm.Rounds{Operate: b.operate, Read: b.read, Settle: settleBound, Every: settleEvery, Quiet: settleQuiet})
	if err != nil {
		return err
	}
	if b.kmem {
		b.lab.Outcome(arm.OutcomeResult{
			Name: charged, Yes: b.charged == b.cycles, Detail: fmt.Sprintf("in %d of %d cycles", b.charged, b.cycles),
		})
	}
	return b.release(ctx)
}

// release lets go of what a leak may hang on, one thing after the other, and
// counts what comes back.
func (b *bench) release(ctx context.Context) error {
	last, err := b.settled(ctx)
	if err != nil {
		return err
	}
	step := 0
	after := func(what string) (map[string]float64, error) {
		now, err := b.settled(ctx)
		if err != nil {
			return nil, fmt.Errorf("after %s: %w", what, err)
		}
		step++
		b.lab.Sample(arm.Sample{Phase: arm.PhaseRelease, Round: step, Ops: b.cycles, Counters: now, Settled: true})
		b.lab.Note("%s: %.0f of %.0f lost numbers came back, %.0f of %.0f dying cgroups went",
			what, last[lost.Name]-now[lost.Name], last[lost.Name], last[dead.Name]-now[dead.Name], last[dead.Name])
		return now, nil
	}
	if len(b.sleepers) > 0 {
		if err := b.killSleepers(); err != nil {
			return err
		}
		now, err := after("killing and reaping the forked children")
		if err != nil {
			return err
		}
		last = now
	}
	if b.swap != nil && b.recipe.swap == swapOn {
		detail := fmt.Sprintf("in %d of %d cycles", b.inSwap, b.cycles)
		b.lab.Outcome(arm.OutcomeResult{Name: swapped, Yes: b.inSwap == b.cycles, Detail: detail})
		b.lab.Outcome(arm.OutcomeResult{Name: anySwapped, Yes: b.inSwap > 0, Detail: detail})
		if err := b.swap.Off(); err != nil {
			return err
		}
		now, err := after("swapoff")
		if err != nil {
			return err
		}
		b.lab.Outcome(arm.OutcomeResult{Name: givenBack, Yes: now[lost.Name] <= 0, Detail: fmt.Sprintf("%.0f still lost", now[lost.Name])})
		last = now
	}
	if b.pages == kept {
		if err := b.removeFiles(); err != nil {
			return err
		}
		// A page may still wait in a batch of the processor's own.
		few := last[dead.Name] / 10
		if err := b.awaitDying(ctx, int(few)); err != nil {
			return err
		}
		now, err := after("deleting the files")
		if err != nil {
			return err
		}
		b.lab.Outcome(arm.OutcomeResult{Name: dyingGo, Yes: now[dead.Name] <= few, Detail: fmt.Sprintf("%.0f still dying", now[dead.Name])})
	}
	return nil
}

// awaitDying waits until no more than few cgroups are dying, or the bound is
// over. They go one by one, in a work queue.
func (b *bench) awaitDying(ctx context.Context, few int) error {
	for deadline := time.Now().Add(settleBound); time.Now().Before(deadline); {
		dying, err := b.h.dying(b.quota.living)
		if err != nil || dying-b.baseDying <= few {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(settleEvery):
		}
	}
	return nil
}

// sevenSteps is the report's own procedure, literally, once per trial.
func (r recipe) sevenSteps(ctx context.Context, lab arm.Lab) (err error) {
	b, err := open(ctx, lab, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for trial := range lab.Job().Plan.Trials {
		lab.Progress("trial %d", trial+1)
		if err := b.oneTrial(ctx, trial); err != nil {
			return fmt.Errorf("trial %d: %w", trial+1, err)
		}
	}
	return nil
}

// oneTrial begins at step 2 with a full quota.
func (b *bench) oneTrial(ctx context.Context, trial int) error {
	tell := func(name string, yes bool, detail string) {
		b.lab.Outcome(arm.OutcomeResult{Name: name, Trial: trial, Yes: yes, Detail: detail})
	}
	if _, err := b.settled(ctx); err != nil {
		return err
	}
	tell(quotaFull, b.quota.living < 1<<16, fmt.Sprintf("%d made, then %v", b.quota.living, b.quota.full))
	// One removed makes room for one: the cgroup "test".
	if err := b.quota.free(1); err != nil {
		return err
	}
	dirs, err := b.makeCgroups(ctx, "test")
	tell(oneForOne, err == nil, fmt.Sprint(err))
	if err != nil {
		return nil // what follows would mean nothing
	}
	// Steps 3 to 6.
	inside, err := b.use(dirs[0], "")
	if err != nil {
		return err
	}
	if err := b.h.leave(inside...); err != nil {
		return err
	}
	if err := b.removeCgroups(dirs); err != nil {
		return err
	}
	// Step 7, with the patience that numbers need to come back.
	last, err := b.makeCgroups(ctx, "xx")
	if err != nil && !isFull(err) {
		return err
	}
	tell(stepSeven, err != nil, fmt.Sprint(err))
	if err == nil {
		err = b.removeCgroups(last)
	} else {
		err = nil
	}
	return errors.Join(err, b.killSleepers())
}
