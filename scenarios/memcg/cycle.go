package memcg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/fault"
)

// forks says what the process in the cgroup starts there.
type forks int

const (
	noFork   forks = iota
	sleeper        // one child that lives on outside when the cgroup goes
	twoExecs       // two programs, one after the other, dead and reaped
)

// pages says what becomes of a file in memory (tmpfs) that the process writes in
// the cgroup.
type pages int

const (
	noPages   pages = iota
	kept            // they stay where they are
	reclaimed       // the kernel is made to reclaim them before the cgroup goes
	emptied         // the same by memory.force_empty
)

// swapping says what swap there is.
type swapping int

const (
	noSwap   swapping = iota
	swapOn            // while the arm runs
	swapAway          // and swapped off after each round
)

// recipe is what one cycle does between making a cgroup and removing it.
type recipe struct {
	// kmem switches the accounting of kernel memory on.
	kmem  bool
	forks forks
	// levels is 2 for a pod with a container in it.
	levels     int
	pages      pages
	swap       swapping
	swappiness int
	// cure drops caches and shrinks slabs after each round.
	cure bool
}

// bench is a recipe at work.
type bench struct {
	recipe
	lab    arm.Lab
	h      hierarchy
	quota  *quota
	worker *worker
	swap   *fault.Swap
	files  string // folder of the written files
	// unswappy sets the system's swappiness back.
	unswappy func() error

	baseLiving, baseDying int
	cycles                int
	sleepers              []int
	// charged is the number of cycles that were seen to account kernel memory,
	// inSwap of those whose cgroup had pages in swap when it went.
	charged, inSwap int
}

// zramBytes is ample for the pages of all cycles. They compress to little.
const zramBytes = 256 << 20

// open prepares an arm: everything that its cycles need, and a full quota.
func open(ctx context.Context, lab arm.Lab, r recipe) (b *bench, err error) {
	b = &bench{recipe: r, lab: lab, files: lab.Dir("files")}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.h, err = openHierarchy(); err != nil {
		return b, err
	}
	if b.quota, err = openQuota(b.h); err != nil {
		return b, err
	}
	if b.worker, err = startWorker(); err != nil {
		return b, err
	}
	if r.swap != noSwap {
		if b.swap, err = fault.SwapOn(zramBytes); err != nil {
			return b, err
		}
	}
	if r.pages != noPages {
		if b.unswappy, err = b.h.setSwappiness(r.swappiness); err != nil {
			return b, err
		}
	}
	return b, b.fillFirst(ctx)
}

// fillFirst fills the quota and takes what then lives as the base. Numbers that
// an earlier arm has let go may still be on their way back.
func (b *bench) fillFirst(ctx context.Context) error {
	const quiet, most = 500 * time.Millisecond, 20
	start, before := time.Now(), b.quota.living
	for range most {
		was := b.quota.living
		if _, err := b.fill(ctx); err != nil {
			return err
		}
		if b.quota.living == was {
			break
		}
		time.Sleep(quiet)
	}
	b.baseLiving = b.quota.living
	b.lab.Note("%d memory cgroups live at the full quota, then mkdir says %q (%d made in %.1f s)",
		b.baseLiving, b.quota.full, b.baseLiving-before, time.Since(start).Seconds())
	var err error
	b.baseDying, err = b.h.dying(b.baseLiving)
	return err
}

func (b *bench) fill(ctx context.Context) (int, error) {
	return b.quota.fill(ctx, func(living int) { b.lab.Progress("filling the quota: %d memory cgroups", living) })
}

// operate frees room for n cycles and runs them.
func (b *bench) operate(ctx context.Context, n int) error {
	// Beside those that may be lost, a cycle needs its own.
	if err := b.quota.free((n + 1) * b.levels); err != nil {
		return err
	}
	if b.swap != nil && b.recipe.swap == swapAway && b.cycles > 0 {
		if err := b.swap.On(); err != nil {
			return err
		}
	}
	for range n {
		if err := b.cycle(ctx); err != nil {
			return fmt.Errorf("cycle %d: %w", b.cycles, err)
		}
		b.cycles++
	}
	if b.swap != nil && b.recipe.swap == swapAway {
		if err := b.swap.Off(); err != nil {
			return err
		}
	}
	if b.cure {
		return b.freeMemory()
	}
	return nil
}

// cycle is the operation: make a cgroup, use it, remove it.
func (b *bench) cycle(ctx context.Context) error {
	dirs, err := b.makeCgroups(ctx, "cycle")
	if err != nil {
		return err
	}
	inner := dirs[len(dirs)-1]
	file := filepath.Join(b.files, strconv.Itoa(b.cycles))
	if b.pages != noPages {
		// Made out here, so that only its pages are charged inside.
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			return err
		}
	}
	inside, err := b.use(inner, file)
	if err != nil {
		return err
	}
	if err := b.h.leave(inside...); err != nil {
		return err
	}
	switch b.pages {
	case reclaimed:
		err = b.h.reclaim(inner)
	case emptied:
		err = b.h.forceEmpty(inner)
	}
	if err != nil {
		return err
	}
	if b.swap != nil {
		bytes, err := b.h.inSwap(inner)
		if err != nil {
			return err
		}
		if bytes > 0 {
			b.inSwap++
		}
	}
	return b.removeCgroups(dirs)
}

// makeCgroups makes the cgroup, or the nest, and returns it from the outside in.
func (b *bench) makeCgroups(ctx context.Context, name string) ([]string, error) {
	dir := filepath.Join(b.h.root, name)
	var dirs []string
	for level := range b.levels {
		if level > 0 {
			dir = filepath.Join(dir, "container")
		}
		if err := b.h.make(ctx, dir); err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
		if level+1 < b.levels {
			if err := b.h.nested(dir); err != nil {
				return nil, err
			}
		}
		if b.kmem {
			if _, err := b.h.accountKernelMemory(dir); err != nil {
				return nil, err
			}
		}
	}
	return dirs, nil
}

// use has the worker do its part inside, and returns the pids that are there.
func (b *bench) use(dir, file string) ([]int, error) {
	inside := []int{b.worker.pid()}
	if err := b.h.enter(dir, b.worker.pid()); err != nil {
		return nil, err
	}
	switch b.forks {
	case sleeper:
		pid, err := b.worker.fork()
		if err != nil {
			return nil, err
		}
		b.sleepers = append(b.sleepers, pid)
		inside = append(inside, pid)
	case twoExecs:
		for range 2 {
			if err := b.worker.exec(); err != nil {
				return nil, err
			}
		}
	}
	if b.pages != noPages {
		if err := b.worker.touch(file); err != nil {
			return nil, err
		}
	}
	if usage, err := os.ReadFile(filepath.Join(dir, "memory.kmem.usage_in_bytes")); err == nil && strings.TrimSpace(string(usage)) != "0" {
		b.charged++
	}
	return inside, nil
}

// removeCgroups removes the nest from the inside out.
func (b *bench) removeCgroups(dirs []string) error {
	for i := range dirs {
		if err := b.h.remove(dirs[len(dirs)-1-i]); err != nil {
			return err
		}
	}
	return nil
}

// freeMemory is what administrators try first: drop all caches and give back
// every free page of the slab allocator.
func (b *bench) freeMemory() error {
	unix.Sync()
	if err := write("/proc/sys/vm/drop_caches", "3"); err != nil {
		return err
	}
	slabs, err := filepath.Glob("/sys/kernel/slab/*/shrink")
	if err != nil {
		return err
	}
	for _, s := range slabs {
		// Caches come and go, and some cannot be shrunk.
		_ = write(s, "1")
	}
	return nil
}

// read fills the quota up and counts what is missing.
func (b *bench) read(ctx context.Context) (map[string]float64, error) {
	living, err := b.fill(ctx)
	if err != nil {
		return nil, err
	}
	dying, err := b.h.dying(living)
	if err != nil {
		return nil, err
	}
	return map[string]float64{
		lost.Name:  float64(b.baseLiving - living),
		dead.Name:  float64(dying - b.baseDying),
		alive.Name: float64(living),
	}, nil
}

// settled reads until two looks agree.
func (b *bench) settled(ctx context.Context) (map[string]float64, error) {
	last, err := b.read(ctx)
	for deadline := time.Now().Add(settleBound); err == nil && time.Now().Before(deadline); {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(settleQuiet):
		}
		now, readErr := b.read(ctx)
		if readErr != nil {
			return nil, readErr
		}
		if now[lost.Name] == last[lost.Name] && now[dead.Name] == last[dead.Name] {
			return now, nil
		}
		last = now
	}
	return last, err
}

// killSleepers ends the forked children.
func (b *bench) killSleepers() error {
	for _, pid := range b.sleepers {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			return err
		}
		if err := b.worker.reap(pid); err != nil {
			return err
		}
	}
	b.sleepers = nil
	return nil
}

// removeFiles deletes the files that were written.
func (b *bench) removeFiles() error {
	if err := os.RemoveAll(b.files); err != nil {
		return err
	}
	return os.Mkdir(b.files, 0o755)
}

// close takes away what the arm has put in place; the full quota stays.
func (b *bench) close() error {
	var errs []error
	if b.worker != nil {
		errs = append(errs, b.killSleepers(), b.worker.stop())
	}
	errs = append(errs, b.removeFiles())
	if b.swap != nil {
		errs = append(errs, b.swap.Remove())
	}
	if b.unswappy != nil {
		errs = append(errs, b.unswappy())
	}
	if b.quota != nil {
		errs = append(errs, unix.Close(b.quota.fd))
	}
	return errors.Join(errs...)
}
