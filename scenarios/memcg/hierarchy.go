package memcg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leaklab/leaklab/harness/fault"
)

// hierarchy is where the kernel's memory cgroups are.
type hierarchy struct {
	root string
	v2   bool
}

// openHierarchy finds the memory controller, of v1 or of v2, and lets the
// children of the root have it.
func openHierarchy() (hierarchy, error) {
	const mount = "/sys/fs/cgroup"
	v1 := hierarchy{root: filepath.Join(mount, "memory")}
	if _, err := os.Stat(filepath.Join(v1.root, "cgroup.procs")); err == nil {
		return v1, nil
	}
	v2 := hierarchy{root: mount, v2: true}
	controllers, err := os.ReadFile(filepath.Join(mount, "cgroup.controllers"))
	if err != nil {
		return hierarchy{}, fmt.Errorf("no memory controller of cgroup v1 and no cgroup v2: %w", err)
	}
	if !hasWord(controllers, "memory") {
		return hierarchy{}, fmt.Errorf("the kernel's cgroup v2 has no memory controller, only %s", bytes.TrimSpace(controllers))
	}
	return v2, v2.enable(v2.root, "memory")
}

func hasWord(text []byte, word string) bool {
	for w := range bytes.FieldsSeq(text) {
		if string(w) == word {
			return true
		}
	}
	return false
}

// enable gives the children of a v2 cgroup a controller.
func (h hierarchy) enable(dir, controller string) error {
	return write(filepath.Join(dir, "cgroup.subtree_control"), "+"+controller)
}

// write is what echo does. (os.WriteFile would truncate, which old kernels'
// cgroup files do not take.)
func write(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// make makes a cgroup. Right after others have been removed the kernel may not
// have their numbers back yet, so a refusal is taken for one only after a while.
func (h hierarchy) make(ctx context.Context, dir string) error {
	const patience, pause = 5 * time.Second, 2 * time.Millisecond
	for deadline := time.Now().Add(patience); ; {
		err := os.Mkdir(dir, 0o755)
		if !isFull(err) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// isFull reports whether mkdir failed for want of a number. Which error says so
// has changed: ENOSPC, ENOMEM on the last kernels of el7, and EBUSY or EAGAIN
// where the id allocator's error is handed on.
func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EAGAIN)
}

// remove removes a cgroup, which may be busy for a moment after its last
// process has gone.
func (h hierarchy) remove(dir string) error {
	const patience, pause = 2 * time.Second, time.Millisecond
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		err := unix.Rmdir(dir)
		if err != unix.EBUSY || time.Now().After(deadline) {
			if err != nil {
				return fmt.Errorf("rmdir %s: %w", dir, err)
			}
			return nil
		}
	}
}

// enter moves a process into a cgroup.
func (h hierarchy) enter(dir string, pid int) error {
	return write(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid))
}

// leave moves processes to the root.
func (h hierarchy) leave(pids ...int) error {
	for _, pid := range pids {
		if err := h.enter(h.root, pid); err != nil {
			return err
		}
	}
	return nil
}

// accountKernelMemory switches accounting of kernel memory on, as the report
// and runc do. Kernels since 4.5 (v2) account it always; since 5.16 they refuse
// the setting. It reports whether there was something to switch.
func (h hierarchy) accountKernelMemory(dir string) (switched bool, err error) {
	if h.v2 {
		return false, nil
	}
	file := filepath.Join(dir, "memory.kmem.limit_in_bytes")
	for _, limit := range []string{"1", "-1"} {
		err := write(file, limit)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTSUP) {
			return false, nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			return false, errors.New("this kernel has no accounting of kernel memory (CONFIG_MEMCG_KMEM)")
		}
		if err != nil {
			return false, fmt.Errorf("switching kernel memory accounting on: %w", err)
		}
	}
	return true, nil
}

// nested lets a cgroup's children be charged to it too, as systemd does for all.
func (h hierarchy) nested(dir string) error {
	if h.v2 {
		return h.enable(dir, "memory")
	}
	file := filepath.Join(dir, "memory.use_hierarchy")
	if was, err := os.ReadFile(file); err == nil && string(bytes.TrimSpace(was)) == "1" {
		return nil
	}
	return write(file, "1")
}

// setSwappiness says how gladly the kernel swaps: v1 has a setting for each
// cgroup, which children take over, v2 one for the whole system.
func (h hierarchy) setSwappiness(value int) (restore func() error, err error) {
	if h.v2 {
		return fault.Sysctl("vm.swappiness", strconv.Itoa(value))
	}
	file := filepath.Join(h.root, "memory.swappiness")
	before, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return func() error { return write(file, string(bytes.TrimSpace(before))) }, write(file, strconv.Itoa(value))
}

// reclaim has the kernel take back what the cgroup's memory holds: to swap, if
// there is some. That not all can be taken is no error.
func (h hierarchy) reclaim(dir string) error {
	if h.v2 {
		file, value := filepath.Join(dir, "memory.reclaim"), strconv.Itoa(touchPages/2*os.Getpagesize())
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) { // before 5.19
			file, value = filepath.Join(dir, "memory.high"), "0"
		}
		return ignore(writeWithin(reclaimBound, file, value), unix.EAGAIN)
	}
	// The kernel gives up after one look at the cgroup's pages, in which it only
	// marks those that were used lately.
	const looks = 6
	var err error
	for range looks {
		if err = write(filepath.Join(dir, "memory.limit_in_bytes"), "0"); err == nil {
			break
		}
	}
	return ignore(err, unix.EBUSY)
}

// reclaimBound is how long the kernel may look for pages. Where there is nothing
// to be had it would sleep between its sixteen tries, for seconds.
const reclaimBound = 100 * time.Millisecond

// writeWithin is write, interrupted when the time is over; that is no error.
func writeWithin(bound time.Duration, file, value string) error {
	fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid, done := unix.Gettid(), make(chan struct{})
	var alarm sync.WaitGroup
	alarm.Go(func() {
		for wait := bound; ; wait = bound / 10 {
			select {
			case <-done:
				return
			case <-time.After(wait):
				// Any signal interrupts the call; this one means nothing to a Go
				// program.
				_ = unix.Tgkill(os.Getpid(), tid, unix.SIGURG)
			}
		}
	})
	// Not by os.File, which would begin again when it is interrupted.
	_, err = unix.Write(fd, []byte(value))
	close(done)
	alarm.Wait()
	if err != nil && err != unix.EINTR {
		return &os.PathError{Op: "write", Path: file, Err: err}
	}
	return nil
}

// inSwap is how much of the cgroup's memory is in swap, in bytes.
func (h hierarchy) inSwap(dir string) (int64, error) {
	if h.v2 {
		text, err := os.ReadFile(filepath.Join(dir, "memory.swap.current"))
		if err != nil {
			return 0, err
		}
		return strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	}
	stat, err := os.ReadFile(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(stat) {
		if n, ok := bytes.CutPrefix(line, []byte("swap ")); ok {
			return strconv.ParseInt(string(bytes.TrimSpace(n)), 10, 64)
		}
	}
	return 0, errors.New("memory.stat does not tell of swap: the kernel does not account it (swapaccount=1)")
}

// forceEmpty asks the kernel to empty a cgroup of v1 before it is removed.
func (h hierarchy) forceEmpty(dir string) error {
	return ignore(writeWithin(reclaimBound, filepath.Join(dir, "memory.force_empty"), "0"), unix.EBUSY)
}

func ignore(err, known error) error {
	if errors.Is(err, known) {
		return nil
	}
	return err
}

// dying is the number of memory cgroups that have been removed and still are in
// the kernel's memory, beside the living ones.
func (h hierarchy) dying(living int) (int, error) {
	if h.v2 {
		stat, err := os.ReadFile(filepath.Join(h.root, "cgroup.stat"))
		if err != nil {
			return 0, err
		}
		for line := range bytes.Lines(stat) {
			if n, ok := bytes.CutPrefix(line, []byte("nr_dying_descendants ")); ok {
				return strconv.Atoi(string(bytes.TrimSpace(n)))
			}
		}
		return 0, errors.New("cgroup.stat does not tell dying cgroups")
	}
	all, err := numCgroups("/proc/cgroups")
	return all - living, err
}

// numCgroups is what /proc/cgroups says of the memory controller.
func numCgroups(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text) {
		// #subsys_name hierarchy num_cgroups enabled
		if f := bytes.Fields(line); len(f) == 4 && string(f[0]) == "memory" {
			return strconv.Atoi(string(f[2]))
		}
	}
	return 0, errors.New("/proc/cgroups does not tell of the memory controller")
}
