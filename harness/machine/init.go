package machine

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Init is pid 1 of the arm's namespaces: it makes them a place to work in,
// starts the agent and reaps whatever loses its parent. When the agent ends, so
// does init, and with it everything in the namespace. It is the command
// "leaklab init", which only the guardian calls.
func Init(in io.Reader) error {
	// A cgroup namespace belongs to the thread that made it: the agent must be
	// started by that one.
	runtime.LockOSThread()
	line, err := readLine(in)
	if err != nil {
		return fmt.Errorf("no order came: %w", err)
	}
	var o order
	if err := json.Unmarshal(line, &o); err != nil {
		return err
	}
	if err := furnish(o); err != nil {
		return err
	}
	events := os.NewFile(eventsFD, "events")
	agent, err := os.StartProcess("/proc/self/exe", []string{"leaklab", "agent"}, &os.ProcAttr{
		Dir: o.Job.Dir,
		Env: os.Environ(),
		// The job is the rest of the input, and its end the signal to stop.
		Files: []*os.File{os.Stdin, os.Stderr, os.Stderr, events},
	})
	if err != nil {
		return err
	}
	events.Close()
	return reapUntil(agent.Pid)
}

// reapUntil reaps every child until one of them has ended.
func reapUntil(pid int) error {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case got == pid && status.Signaled():
			return fmt.Errorf("the agent was killed by %v", status.Signal())
		case got == pid:
			return nil
		}
	}
}

// furnish mounts what the arm needs in the new namespaces.
func furnish(o order) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if o.NetNS {
		if err := loopbackUp(); err != nil {
			return err
		}
	}
	if o.Cgroup != "" {
		if err := ownCgroups(); err != nil {
			return err
		}
	}
	if o.OwnEtc {
		return ownEtc()
	}
	return nil
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("bringing up loopback: %w", err)
	}
	return nil
}

// ownCgroups makes the arm's cgroup the root of what is seen below
// /sys/fs/cgroup, so that engines make their cgroups inside it.
func ownCgroups() error {
	mounts := cgroup1Mounts()
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("making a cgroup namespace: %w", err)
	}
	const root = "/sys/fs/cgroup"
	if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755"); err != nil {
		return err
	}
	for _, h := range mounts {
		dir := filepath.Join(root, filepath.Base(h.Path))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("cgroup", dir, "cgroup", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, h.Options); err != nil {
			return fmt.Errorf("mounting cgroup %s: %w", h.Options, err)
		}
	}
	return nil
}

// ownEtc gives the namespace a /run of its own and an /etc whose changes stay
// in it.
func ownEtc() error {
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("own /run: %w", err)
	}
	// Below the fresh /run, because a path of the user's choice may hold what
	// the option string of an overlay cannot.
	const upper, work = "/run/leaklab-etc/upper", "/run/leaklab-etc/work"
	for _, d := range []string{upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir="+upper+",workdir="+work); err != nil {
		return fmt.Errorf("own /etc (an overlay): %w", err)
	}
	return nil
}
