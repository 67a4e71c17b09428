package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

type sysIDMap = syscall.SysProcIDMap

// stopGrace is how long an agent that was told to stop may take to let go of
// its faults before it is killed.
const stopGrace = 15 * time.Second

// eventsFD is the descriptor on which guardian, init and agent hand down the
// event stream. It is not stdout, so that no stray print can break it.
const eventsFD = 3

// Guard is the guardian: it reads an order, runs init and the agent in new
// namespaces, or a virtual machine, and removes whatever they leave. It is the
// command "leaklab guard", which only machines call.
func Guard(in io.Reader) error {
	// Pdeathsig below is bound to the thread that starts init.
	runtime.LockOSThread()
	signal.Ignore(unix.SIGINT, unix.SIGHUP, unix.SIGTERM, unix.SIGPIPE)
	line, err := readLine(in)
	if err != nil {
		return fmt.Errorf("no order came: %w", err)
	}
	var o order
	if err := json.Unmarshal(line, &o); err != nil {
		return err
	}
	lock := flock.New(filepath.Join(o.Dir, lockFile))
	if err := lock.Lock(); err != nil {
		return err
	}
	defer lock.Unlock()
	if err := os.WriteFile(filepath.Join(o.Dir, orderFile), line, 0o644); err != nil {
		return err
	}
	run := supervise
	if len(o.Program) > 0 {
		run = superviseProgram
	}
	runErr := run(o, in)
	return errors.Join(runErr, o.cleanUp())
}

const (
	lockFile  = "lock"
	orderFile = "order.json"
)

// supervise starts init and waits for it. When the command goes away, or says
// stop, so does init's input, and after a grace init itself.
func supervise(o order, lifeline io.Reader) error {
	if err := os.MkdirAll(o.Job.Dir, 0o755); err != nil {
		return err
	}
	holding, err := makeCgroups(o.Cgroup)
	if err != nil {
		return err
	}
	defer holding.release()
	init := exec.Command("/proc/self/exe", "init")
	init.Args[0] = "leaklab"
	init.Stderr = os.Stderr
	// Closed through its own file: a bare close(2) would be repeated by the
	// file's finalizer, on whatever has got the number since.
	events := os.NewFile(eventsFD, "events")
	init.ExtraFiles = []*os.File{events}
	init.SysProcAttr = namespaces(o)
	stdin, err := init.StdinPipe()
	if err != nil {
		return err
	}
	if err := init.Start(); err != nil {
		return fmt.Errorf("making namespaces: %w", err)
	}
	// The stream must end when init does, not when the guardian does.
	events.Close()
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, lifeline)
		stdin.Close()
		select {
		case <-ended:
		case <-time.After(stopGrace):
			init.Process.Kill()
		}
	}()
	if err := joinCgroups(o.Cgroup, init.Process.Pid); err != nil {
		init.Process.Kill()
		init.Wait()
		return err
	}
	if err := json.NewEncoder(stdin).Encode(o); err != nil {
		init.Process.Kill()
	} else if err := json.NewEncoder(stdin).Encode(o.Job); err != nil {
		init.Process.Kill()
	}
	go thawOnDeath(o.Cgroup, init.Process.Pid, ended)
	init.Wait() // how the agent ended, the event stream tells
	close(ended)
	return nil
}

// superviseProgram runs the order's program: its output is the event stream,
// its input what the command sends, and when the command goes away it is killed.
func superviseProgram(o order, lifeline io.Reader) error {
	program := exec.Command(o.Program[0], o.Program[1:]...)
	program.Dir, program.Stderr = o.Dir, os.Stderr
	events := os.NewFile(eventsFD, "events")
	program.Stdout = events
	program.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	stdin, err := program.StdinPipe()
	if err != nil {
		return err
	}
	if err := program.Start(); err != nil {
		return err
	}
	events.Close()
	go func() {
		io.Copy(stdin, lifeline)
		program.Process.Kill()
	}()
	program.Wait() // how it ended, the event stream tells
	return nil
}

// thawOnDeath looks after one way in which a pid namespace cannot die: a frozen
// task does not take its SIGKILL, and pid 1 waits for it. Once pid 1 is
// exiting, everything below the cgroup is thawed.
func thawOnDeath(cgroup string, pid int, ended <-chan struct{}) {
	if cgroup == "" {
		return
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
			if exiting(pid) {
				thaw(cgroup)
			}
		}
	}
}

// exiting reports whether a process has begun to exit but is not reaped yet.
func exiting(pid int) bool {
	proc, err := procfs.NewProc(pid)
	if err != nil {
		return false
	}
	stat, err := proc.Stat()
	const pfExiting = 0x4 // PF_EXITING, include/linux/sched.h
	return err == nil && (stat.State == "Z" || stat.State == "X" || stat.Flags&pfExiting != 0)
}

func namespaces(o order) *unix.SysProcAttr {
	attr := &unix.SysProcAttr{}
	if o.UserNS {
		attr = userNS()
	}
	attr.Cloneflags |= unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	if o.NetNS {
		attr.Cloneflags |= unix.CLONE_NEWNET
	}
	attr.Pdeathsig = unix.SIGKILL
	return attr
}

// cleanUp removes what does not die with the processes: cgroups, mounts that
// reached this namespace, the arm's folder. It can be repeated.
func (o order) cleanUp() error {
	return errors.Join(removeCgroups(o.Cgroup), unmountBelow(o.Dir), os.RemoveAll(o.Dir))
}

// readLine reads up to a newline and not a byte further, so that the rest can
// be handed to another process.
func readLine(r io.Reader) ([]byte, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		if b[0] == '\n' {
			return line, nil
		}
		line = append(line, b[0])
	}
}
