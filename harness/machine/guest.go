package machine

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leaklab/leaklab/harness/arm"
)

// GuestInit is the name under which a guest's kernel starts leaklab as its init.
// Arguments would not do: kernels add boot parameters that they do not know.
const GuestInit = "/leaklab-guest"

// InGuest reports whether this process is the init of a guest, to be handed
// over to [Guest].
func InGuest() bool { return os.Getpid() == 1 && os.Args[0] == GuestInit }

// guestConfig tells a guest's init what to set up.
type guestConfig struct {
	Port port `json:"port"`
	// Modules are loaded in this order.
	Modules  []string `json:"modules,omitempty"`
	CgroupV2 bool     `json:"cgroupV2,omitempty"`
	// Cgroups and FUSE are to be there, or the guest fails.
	Cgroups bool `json:"cgroups,omitempty"`
	FUSE    bool `json:"fuse,omitempty"`
}

// guestWork is the folder of a guest's arm.
const guestWork = "/tmp/work"

// eventReady is what a guest's init says whenever it can take a job.
const eventReady arm.EventType = "ready"

// Guest is pid 1 of a virtual machine: it makes the bare kernel a place to work
// in, says that it is ready, and runs agents, one job after the other. When it
// cannot go on it says why on the console and ends the machine; it returns only
// if that fails.
func Guest() error {
	if err := guestMain(); err != nil {
		fmt.Fprintln(os.Stderr, "leaklab:", err)
	}
	// With reboot=t this is a triple fault, at which QEMU ends.
	return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

func guestMain() error {
	if err := ownRoot(); err != nil {
		return err
	}
	config, err := readGuestConfig()
	if err != nil {
		return err
	}
	for _, name := range config.Modules {
		if err := loadModule(name); err != nil {
			return err
		}
	}
	p, err := openPort(config.Port)
	if err != nil {
		return err
	}
	if err := config.furnish(); err != nil {
		return errors.Join(err, tell(p, arm.Event{Type: arm.EventFailed, Text: err.Error()}))
	}
	jobs := bufio.NewReader(p)
	for {
		if err := tell(p, arm.Event{Type: eventReady}); err != nil {
			return err
		}
		job, err := jobs.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("reading a job: %w", err)
		}
		if err := runAgent(job, p); err != nil {
			err = errors.Join(err, tell(p, arm.Event{Type: arm.EventFailed, Text: err.Error() + " (the guest's memory may be too small)"}))
			return err
		}
	}
}

func tell(p *os.File, e arm.Event) error { return json.NewEncoder(p).Encode(e) }

// runAgent runs one agent to its end and removes what it has left.
func runAgent(job []byte, p *os.File) error {
	if err := os.MkdirAll(guestWork, 0o755); err != nil {
		return err
	}
	in, out, err := os.Pipe()
	if err != nil {
		return err
	}
	// Held open: its end would tell the agent to stop.
	defer out.Close()
	agent, err := os.StartProcess("/proc/self/exe", []string{"leaklab", "agent"}, &os.ProcAttr{
		Dir:   guestWork,
		Env:   []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TMPDIR=/tmp"},
		Files: []*os.File{in, os.Stderr, os.Stderr, p},
	})
	in.Close()
	if err != nil {
		return err
	}
	if _, err := out.Write(job); err != nil {
		return err
	}
	if err := reapUntil(agent.Pid); err != nil {
		return err
	}
	_ = unix.Kill(-1, unix.SIGKILL) // ESRCH where nothing is left
	return errors.Join(unmountBelow(guestWork), os.RemoveAll(guestWork))
}

// ownRoot makes the initramfs a root that can be pivoted away from, as
// containers want: the kernel's own first root cannot.
func ownRoot() error {
	for _, m := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := mountNew(m.kind, m.at, ""); err != nil {
			return err
		}
	}
	const copy = "/root.again"
	if err := os.Mkdir(copy, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("/", copy, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("binding the root: %w", err)
	}
	if err := errors.Join(unix.Chdir(copy), unix.Mount(".", "/", "", unix.MS_MOVE, ""), unix.Chroot("."), unix.Chdir("/")); err != nil {
		return fmt.Errorf("moving the root: %w", err)
	}
	return nil
}

func mountNew(kind, at, options string) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(kind, at, kind, 0, options); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", kind, at, err)
	}
	return nil
}

func readGuestConfig() (guestConfig, error) {
	var c guestConfig
	text, err := os.ReadFile("/" + configFile)
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(text, &c)
}

func loadModule(name string) error {
	file := filepath.Join("/", modulesDir, name)
	object, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := unix.InitModule(object, ""); err != nil && err != unix.EEXIST {
		return fmt.Errorf("loading module %s: %w", name, err)
	}
	return os.Remove(file)
}

// furnish sets up what agents and engines expect of a system.
func (c guestConfig) furnish() error {
	for _, m := range []struct{ kind, at, options string }{
		{"tmpfs", "/tmp", "mode=1777"},
		{"tmpfs", "/run", "mode=755"},
		{"tmpfs", "/var", "mode=755"},
		{"tmpfs", "/dev/shm", "mode=1777"},
		{"devpts", "/dev/pts", "mode=620,ptmxmode=666"},
	} {
		if err := mountNew(m.kind, m.at, m.options); err != nil {
			return err
		}
	}
	if err := errors.Join(os.MkdirAll("/var/lib", 0o755), os.MkdirAll("/root", 0o700), os.Symlink("/proc/self/fd", "/dev/fd")); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("guest")); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	if err := c.mountCgroups(); err != nil {
		return err
	}
	if _, err := os.Stat("/dev/fuse"); c.FUSE && err != nil {
		return fmt.Errorf("this kernel has no FUSE: %w", err)
	}
	return nil
}

// mountCgroups mounts the unified hierarchy, or one of v1 for each controller.
func (c guestConfig) mountCgroups() error {
	const root = "/sys/fs/cgroup"
	if c.CgroupV2 {
		return mountNew("cgroup2", root, "")
	}
	controllers, err := controllersOf("/proc/cgroups")
	if err != nil {
		return err
	}
	if c.Cgroups && len(controllers) == 0 {
		return errors.New("this kernel has no controllers of cgroup v1")
	}
	if err := mountNew("tmpfs", root, "mode=755"); err != nil {
		return err
	}
	for _, name := range controllers {
		// A controller that this kernel has for v2 alone says EINVAL.
		if err := mountNew("cgroup", filepath.Join(root, name), name); errors.Is(err, unix.EINVAL) {
			if err := os.Remove(filepath.Join(root, name)); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
	}
	return mountNew("cgroup", filepath.Join(root, "systemd"), "none,name=systemd")
}

// controllersOf lists the enabled controllers of a /proc/cgroups.
func controllersOf(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		// #subsys_name hierarchy num_cgroups enabled
		if f := strings.Fields(line); len(f) == 4 && !strings.HasPrefix(f[0], "#") && f[3] == "1" {
			names = append(names, f[0])
		}
	}
	return names, nil
}

// openPort opens the guest's end of the stream of jobs and events.
func openPort(p port) (*os.File, error) {
	path := "/dev/" + string(p)
	if p == portVirtio {
		var err error
		if path, err = virtioPort(); err != nil {
			return nil, err
		}
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the port %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	if p == portSerial {
		return f, makeRaw(fd)
	}
	return f, nil
}

// virtioPort waits until the kernel has found its port, and returns its device.
func virtioPort() (string, error) {
	const patience = 10 * time.Second
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return "", err
		}
		for _, file := range names {
			if name, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(name)) == portName {
				return filepath.Join("/dev", filepath.Base(filepath.Dir(file))), nil
			}
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("the kernel found no virtio port within %v", patience)
		}
	}
}

// makeRaw keeps a terminal from changing what passes through it.
func makeRaw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8 | unix.CREAD | unix.CLOCAL
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}
