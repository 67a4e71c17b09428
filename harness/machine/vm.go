package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/procfs"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/kernel"
)

// VM is a throw-away virtual machine with a kernel of its own: QEMU without
// disks and network. The agent is the same binary in an initramfs; job and
// events pass through one port, the guest's console through another.
//
// QEMU runs below a guardian like the host's agents, so it ends with the
// command, by whatever signal. Guests are fresh for each arm, except for arms
// that share one (see [arm.VM]); Close ends the last of those.
type VM struct {
	// Kernels is where kernels come from.
	Kernels kernel.Cache
	// Kernel, when it is set, is the user's choice for every arm. Arms about
	// another series cannot run then, unless Force is set.
	Kernel *kernel.Kernel
	Force  bool

	one     sync.Mutex               // one guest at a time: emulated, it takes a processor
	kernels map[string]kernel.Kernel // those that were looked up
	warm    *guest                   // a guest whose arm has ended, fit for more
}

// DefaultKernel is for arms that are about no kernel: it has everything that
// old engines want, cgroup v1 included.
const DefaultKernel = "6.1"

const qemuBinary = "qemu-system-x86_64"

// Name implements [Machine].
func (*VM) Name() string { return "vm" }

// Lacks implements [Machine].
func (v *VM) Lacks(a arm.Arm) error {
	if _, err := exec.LookPath(qemuBinary); err != nil {
		return errors.New("needs QEMU (" + qemuBinary + "; on Debian: apt-get install --no-install-recommends qemu-system-x86)")
	}
	if err := selfIsStatic(); err != nil {
		return err
	}
	if err := enoughMemory(memoryMB(a)); err != nil {
		return err
	}
	name, err := v.kernelName(a)
	if err != nil {
		return err
	}
	k := v.Kernel
	if k == nil {
		if err := v.Kernels.Obtainable(name); err != nil {
			return err
		}
		found, err := v.Kernels.Find(name)
		if err != nil {
			return nil // it will be fetched
		}
		k = &found
	}
	if err := hasModules(*k, a.VM.Modules); err != nil {
		return err
	}
	return knowsCmdline(*k, a.VM.Cmdline)
}

// hasModules reports the first module that a kernel has not.
func hasModules(k kernel.Kernel, names []string) error {
	modules, err := k.Modules()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !modules.Has(name) {
			return fmt.Errorf("kernel %s has no module %s (a bare image needs --modules, also for what is built in)", k.Release, name)
		}
	}
	return nil
}

// kernelName is the kernel that an arm gets, as the cache knows it; empty for
// the user's own.
func (v *VM) kernelName(a arm.Arm) (string, error) {
	series := a.VM.Kernel
	switch {
	case v.Kernel == nil && series == "":
		return DefaultKernel, nil
	case v.Kernel == nil:
		return series, nil
	case series == "" || v.Force || v.Kernel.Series(series):
		return "", nil
	}
	return "", fmt.Errorf("is about kernel %s, the one asked for is %s", series, v.Kernel.Release)
}

// kernelFor makes the arm's kernel ready.
func (v *VM) kernelFor(ctx context.Context, a arm.Arm, progress func(string)) (kernel.Kernel, error) {
	name, err := v.kernelName(a)
	if err != nil {
		return kernel.Kernel{}, err
	}
	if name == "" {
		return *v.Kernel, nil
	}
	if k, ok := v.kernels[name]; ok {
		return k, nil
	}
	k, err := v.Kernels.Named(ctx, name, progress)
	if err != nil {
		return kernel.Kernel{}, err
	}
	if v.kernels == nil {
		v.kernels = map[string]kernel.Kernel{}
	}
	v.kernels[name] = k
	return k, nil
}

// knowsCmdline reports the first boot parameter that a kernel does not know.
func knowsCmdline(k kernel.Kernel, cmdline []string) error {
	for _, arg := range cmdline {
		name, _, _ := strings.Cut(arg, "=")
		knows, err := k.Knows(name + "=")
		if err != nil {
			return err
		}
		if !knows {
			return fmt.Errorf("kernel %s does not know the boot parameter %s", k.Release, arg)
		}
	}
	return nil
}

// selfIsStatic reports whether this binary can run in a guest that has no
// libraries.
func selfIsStatic() error {
	if interpreter("/proc/self/exe") != "" {
		return errors.New("this leaklab is linked dynamically: build it with CGO_ENABLED=0")
	}
	return nil
}

// enoughMemory reports whether the host has room for a guest: what it has, and
// as much again as QEMU takes for itself.
func enoughMemory(guestMB int) error {
	const qemuMB = 256
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return err
	}
	info, err := fs.Meminfo()
	if err != nil || info.MemAvailable == nil {
		return err
	}
	if free := int(*info.MemAvailable >> 10); free < guestMB+qemuMB {
		return fmt.Errorf("needs %d MiB of free memory for its guest, there are %d", guestMB+qemuMB, free)
	}
	return nil
}

// Run implements [Machine].
func (v *VM) Run(ctx context.Context, a arm.Arm, job arm.Job, emit func(arm.Event)) error {
	v.one.Lock()
	defer v.one.Unlock()
	g, err := v.guestFor(ctx, a, job, emit)
	if err != nil {
		if ctx.Err() != nil {
			return ErrInterrupted
		}
		return err
	}
	job.Dir, job.Runtimes = guestWork, guestRuntimes(job.Runtimes)
	if a.Has(arm.NeedCgroup1) {
		job.Cgroup = "/"
	}
	err = g.run(ctx, job, emit)
	if err == nil && a.VM.Shared && ctx.Err() == nil {
		v.warm = g
		return nil
	}
	closeErr := g.close()
	switch {
	case ctx.Err() != nil:
		return ErrInterrupted
	case errors.Is(err, errAgentGone):
		emit(arm.Event{Type: arm.EventFile, Name: "console.log", Data: []byte(g.console())})
		return fmt.Errorf("the guest ended without a last word: %s", tellingLine(g.console()))
	case err != nil:
		return err
	}
	return closeErr
}

// Close ends the guest that is kept for further arms, if there is one.
func (v *VM) Close() error {
	g := v.warm
	v.warm = nil
	if g == nil {
		return nil
	}
	return g.close()
}

// guestFor returns the guest that earlier arms have left for this one, or a
// fresh one.
func (v *VM) guestFor(ctx context.Context, a arm.Arm, job arm.Job, emit func(arm.Event)) (*guest, error) {
	progress := func(text string) { emit(arm.Event{Type: arm.EventProgress, Text: text}) }
	k, err := v.kernelFor(ctx, a, progress)
	if err != nil {
		return nil, err
	}
	if err := knowsCmdline(k, a.VM.Cmdline); err != nil {
		return nil, err
	}
	spec := guestSpec{Kernel: k, VM: a.VM, Needs: a.Needs, Runtimes: job.Runtimes}
	if g := v.warm; g != nil && a.VM.Shared && reflect.DeepEqual(g.spec, spec) {
		v.warm = nil
		return g, nil
	}
	if err := v.Close(); err != nil {
		return nil, err
	}
	return v.boot(ctx, spec, job, progress)
}

// boot starts a guest with KVM if that works here, else without.
func (v *VM) boot(ctx context.Context, spec guestSpec, job arm.Job, progress func(string)) (*guest, error) {
	probe := accelProbe{Dir: v.Kernels.Dir}
	accel, err := probe.known()
	if err != nil {
		return nil, err
	}
	if accel == "" {
		progress("trying KVM")
		g, err := startGuest(ctx, spec, job, accelKVM, kvmPatience)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		accel = accelTCG
		if err == nil {
			accel = accelKVM
		}
		if rememberErr := probe.remember(accel); rememberErr != nil {
			return nil, errors.Join(rememberErr, g.close())
		}
		if err == nil {
			return g, nil
		}
	}
	progress("booting kernel " + spec.Kernel.Release + " (" + string(accel) + ")")
	return startGuest(ctx, spec, job, accel, bootPatience)
}

const (
	// bootPatience is how long a guest may take to its first line: an emulated
	// one on a busy machine needs a multiple of its usual 2 to 4 seconds.
	bootPatience = 2 * time.Minute
	// kvmPatience is the same for a trial of KVM, which boots in under a second
	// where it works.
	kvmPatience = 15 * time.Second
	// jobPatience is how long beyond its own bound an arm may stay silent before
	// its guest counts as hung. An emulated guest's clock may lag.
	jobPatience = time.Minute
)

// memoryMB is what an arm's guest gets.
func memoryMB(a arm.Arm) int {
	const least = 768
	return max(a.VM.MemoryMB, least)
}

// tellingLine picks from a console what most likely ended the guest.
func tellingLine(console string) string {
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(console, "\r", "")), "\n")
	for _, sign := range []string{"leaklab:", qemuBinary + ":", "Out of memory", "BUG:", "Oops", "Kernel panic"} {
		for _, line := range lines {
			if strings.Contains(line, sign) {
				return strings.TrimSpace(line)
			}
		}
	}
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	return "its console is empty"
}

// guestRuntimes are the runtimes' folders as the guest has them.
func guestRuntimes(runtimes map[string]string) map[string]string {
	in := map[string]string{}
	for name := range runtimes {
		in[name] = "/" + runtimesDir + "/" + name
	}
	return in
}

// readable is for the initramfs, whose self must be the running binary even
// when its file has been replaced.
func readable(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}
