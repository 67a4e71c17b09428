package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/kernel"
)

// guestSpec is everything that makes one guest differ from another.
type guestSpec struct {
	Kernel   kernel.Kernel
	VM       arm.VM
	Needs    []arm.Need
	Runtimes map[string]string
}

// guest is a running virtual machine, as the host sees it.
type guest struct {
	spec   guestSpec
	guard  *exec.Cmd
	stdin  io.WriteCloser
	events *bufio.Reader
	stderr *tail
	// facts go into the record of every arm that runs in it.
	facts map[string]string
	ready bool
	ended bool
}

// startGuest boots a guest and waits until its init is ready for a job.
func startGuest(ctx context.Context, spec guestSpec, job arm.Job, accel accelerator, patience time.Duration) (*guest, error) {
	dir, err := os.MkdirTemp("", RunPrefix)
	if err != nil {
		return nil, fmt.Errorf("no folder for the guest: %w", err)
	}
	q, size, err := prepare(spec, dir)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	q.Accel = accel
	start := time.Now()
	cmd, stdin, events, stderr, err := startGuardian(order{Dir: dir, Program: q.args(), Job: job})
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	g := &guest{
		spec: spec, guard: cmd, stdin: stdin, stderr: stderr,
		events: bufio.NewReaderSize(events, eventBuffer),
	}
	if err := g.await(ctx, patience); err != nil {
		closeErr := g.close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, errors.Join(fmt.Errorf("kernel %s does not boot (%s, %s): %w (%s)", spec.Kernel.Release, q.Board, accel, err, tellingLine(g.console())), closeErr)
	}
	g.facts = map[string]string{
		"accelerator":     string(accel),
		"board":           string(q.Board),
		"kernel origin":   spec.Kernel.Origin,
		"kernel digest":   spec.Kernel.Digest,
		"boot seconds":    strconv.FormatFloat(time.Since(start).Seconds(), 'f', 2, 64),
		"initramfs bytes": strconv.FormatInt(size, 10),
	}
	return g, nil
}

// prepare writes the guest's initramfs to dir and says how QEMU is called.
func prepare(spec guestSpec, dir string) (qemu, int64, error) {
	k := spec.Kernel
	modules, err := k.Modules()
	if err != nil {
		return qemu{}, 0, err
	}
	pvh, err := k.PVH()
	if err != nil {
		return qemu{}, 0, err
	}
	board, port, wanted := layout(pvh, modules.Has)
	needs := func(n arm.Need) bool { return slices.Contains(spec.Needs, n) }
	for _, m := range moduleWishes {
		// Without the module it may still be built in, of which a bare image
		// tells nothing; the guest looks.
		if needs(m.need) && modules.Has(m.module) {
			wanted = append(wanted, m.module)
		}
	}
	loaded, err := modules.Load(append(wanted, spec.VM.Modules...)...)
	if err != nil {
		return qemu{}, 0, err
	}
	config := guestConfig{Port: port, CgroupV2: spec.VM.CgroupV2, Cgroups: needs(arm.NeedCgroup1) || needs(arm.NeedRoot), FUSE: needs(arm.NeedFUSE)}
	for _, m := range loaded {
		config.Modules = append(config.Modules, m.Name)
	}
	q := qemu{
		Board: board, Port: port, OldKernel: k.Series("3.10"),
		CPUs: spec.VM.CPUs, Cmdline: spec.VM.Cmdline, Kernel: k.Image(), Initramfs: filepath.Join(dir, "initramfs.cpio"),
	}
	if board == boardMicroVM {
		q.Kernel = k.Vmlinux()
	}
	size, err := initramfs{Config: config, Modules: loaded, Runtimes: spec.Runtimes}.write(q.Initramfs)
	// The archive lies in memory twice while the kernel unpacks it.
	q.MemoryMB = memoryMB(arm.Arm{VM: spec.VM}) + int(2*size>>20)
	return q, size, err
}

// moduleWishes are the modules behind what arms need. On a host the kernel has
// modprobe load most of them when they are first used; a guest has none.
var moduleWishes = []struct {
	need   arm.Need
	module string
}{
	{arm.NeedFUSE, "fuse"},
	{arm.NeedRoot, "overlay"}, // engines keep their images in it
	// Sockets and their peers are counted through sock_diag.
	{arm.NeedNetNS, "unix_diag"},
	{arm.NeedNetNS, "tcp_diag"},
	// Engines' default networks.
	{arm.NeedNetNS, "bridge"},
	{arm.NeedNetNS, "veth"},
}

// eventBuffer holds at least the longest pause of whoever reads the events.
const eventBuffer = 1 << 16

// await waits until the guest's init says that it is ready.
func (g *guest) await(ctx context.Context, patience time.Duration) error {
	release := g.watch(ctx, patience)
	defer release()
	for {
		line, err := g.events.ReadBytes('\n')
		if err != nil {
			if release() {
				return fmt.Errorf("no sign of life within %v", patience)
			}
			return errAgentGone
		}
		var e arm.Event
		switch {
		case len(line) <= 1:
			continue
		case json.Unmarshal(line, &e) != nil:
			return fmt.Errorf("its first words make no sense: %.60q", line)
		case e.Type == eventReady:
			g.ready = true
			return nil
		case e.Type == arm.EventFailed:
			return &AgentError{Text: e.Text}
		}
	}
}

// run gives the guest a job and hands on its events.
func (g *guest) run(ctx context.Context, job arm.Job, emit func(arm.Event)) error {
	if !g.ready {
		if err := g.await(ctx, bootPatience); err != nil {
			return err
		}
	}
	g.ready = false
	release := g.watch(ctx, job.Plan.Timeout+jobPatience)
	defer release()
	if err := json.NewEncoder(g.stdin).Encode(job); err != nil {
		return errAgentGone
	}
	err := follow(g.events, func(e arm.Event) {
		if e.Type == arm.EventStarted {
			for name, value := range g.facts {
				e.Fields[name] = value
			}
		}
		emit(e)
	})
	if release() && ctx.Err() == nil {
		return fmt.Errorf("the guest hangs: nothing within %v of its bound of %v", jobPatience, job.Plan.Timeout)
	}
	return err
}

// watch ends the guest when ctx does or patience is over. The function that it
// returns stops that, and reports whether it had come to it.
func (g *guest) watch(ctx context.Context, patience time.Duration) (release func() bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	stop := context.AfterFunc(ctx, func() { g.stdin.Close() })
	fired := false
	return func() bool {
		fired = !stop() && ctx.Err() != context.Canceled || fired
		cancel()
		return fired
	}
}

// close ends the guest and waits until nothing of it is left.
func (g *guest) close() error {
	if g == nil || g.ended {
		return nil
	}
	g.ended = true
	g.stdin.Close()
	io.Copy(io.Discard, g.events)
	if err := g.guard.Wait(); err != nil {
		return fmt.Errorf("ending the guest: %w: %s", err, firstLine(g.console()))
	}
	return nil
}

// console is the end of what the guest, or QEMU itself, has printed. It is
// complete once the guest has been closed.
func (g *guest) console() string { return g.stderr.String() }
