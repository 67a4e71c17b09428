package machine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leaklab/leaklab/harness/arm"
)

// Host is this machine: the agent runs in new mount, pid, ipc, uts and, where
// the arm needs one, network namespaces, with cgroups of its own.
//
// Four processes make it safe. The command starts a guardian, which outlives it;
// the guardian starts an init, which is pid 1 of the new namespaces; init starts
// the agent. Who loses its caller, by whatever signal, ends everything below it,
// and the guardian then removes what does not die with processes: cgroups, and
// the arm's folder.
type Host struct {
	// Spare says that the whole machine is there for the arm, as a box is. Where
	// its kernel has no cgroup namespaces (before 4.6) the arm then gets the
	// machine's own cgroups, and what it leaves in them is removed afterwards.
	Spare bool
}

// Name implements [Machine].
func (Host) Name() string { return "host" }

// RunPrefix starts the names of the folders and cgroups of running arms.
const RunPrefix = "leaklab-run-"

// order is what the guardian is told, and what a later clean-up can read.
type order struct {
	Dir    string `json:"dir"`
	Cgroup string `json:"cgroup,omitempty"`
	UserNS bool   `json:"userns,omitempty"`
	NetNS  bool   `json:"netns,omitempty"`
	// OwnEtc gives the arm a /run and /etc of its own: old engines write there
	// wherever their roots are.
	OwnEtc bool `json:"ownEtc,omitempty"`
	// Program is run instead of init and the agent: a virtual machine. It gets
	// no job from the guardian.
	Program []string `json:"program,omitempty"`
	Job     arm.Job  `json:"job"`
}

// Lacks implements [Machine].
func (Host) Lacks(a arm.Arm) error {
	if a.VM.Kernel != "" {
		return fmt.Errorf("needs a kernel %s of its own: use --machine vm", a.VM.Kernel)
	}
	root := os.Geteuid() == 0
	if a.Has(arm.NeedRoot) && !root {
		return errors.New("needs root: run it with sudo")
	}
	if a.Has(arm.NeedCgroup1) && len(cgroup1Mounts()) == 0 {
		return errors.New("needs cgroup v1, this host has only v2: use --machine vm")
	}
	if a.Has(arm.NeedFUSE) {
		if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
			return fmt.Errorf("needs FUSE (modprobe fuse): %w", err)
		} else {
			f.Close()
		}
	}
	if !root && !userNamespaces() {
		return errors.New("needs root or unprivileged user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)")
	}
	return nil
}

// Run implements [Machine].
func (h Host) Run(ctx context.Context, a arm.Arm, job arm.Job, emit func(arm.Event)) error {
	dir, err := os.MkdirTemp("", RunPrefix)
	if err != nil {
		return fmt.Errorf("no folder for the arm's run: %w", err)
	}
	job.Dir = filepath.Join(dir, "work")
	o := order{Dir: dir, Job: job, NetNS: a.Has(arm.NeedNetNS), UserNS: os.Geteuid() != 0, OwnEtc: a.Has(arm.NeedRoot)}
	if a.Has(arm.NeedCgroup1) {
		o.Job.Cgroup = "/"
		if h.Spare && !cgroupNamespaces() {
			defer removeNewCgroups(topCgroups(), emit)
		} else {
			o.Cgroup = "/" + RunPrefix + randomID()
		}
	}
	guard, stdin, events, stderr, err := startGuardian(o)
	if err != nil {
		os.RemoveAll(dir)
		return err
	}
	stopped := context.AfterFunc(ctx, func() { stdin.Close() })
	err = follow(events, emit)
	stopped()
	stdin.Close()
	io.Copy(io.Discard, events)
	waitErr := guard.Wait()
	if ctx.Err() != nil {
		return ErrInterrupted
	}
	if err == nil && waitErr != nil {
		return fmt.Errorf("cleaning up: %s", firstLine(stderr.String()))
	}
	if errors.Is(err, errAgentGone) && stderr.Len() > 0 {
		return fmt.Errorf("the agent could not run: %s", firstLine(stderr.String()))
	}
	return err
}

// startGuardian starts the guardian in a session of its own, so that the
// terminal's Ctrl-C does not reach it, and gives it its order.
func startGuardian(o order) (cmd *exec.Cmd, stdin io.WriteCloser, events io.Reader, stderr *tail, err error) {
	line, err := json.Marshal(o)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, nil, err
	}
	defer write.Close()
	stderr = new(tail)
	cmd = exec.Command("/proc/self/exe", "guard")
	cmd.Args[0] = "leaklab"
	cmd.Stderr = stderr
	cmd.ExtraFiles = []*os.File{write}
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	// A grandchild that survives must not keep Wait hanging on stderr.
	cmd.WaitDelay = 2 * time.Second
	if stdin, err = cmd.StdinPipe(); err != nil {
		return nil, nil, nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, nil, nil, fmt.Errorf("starting the guardian: %w", err)
	}
	if _, err := stdin.Write(append(line, '\n')); err != nil {
		return nil, nil, nil, nil, fmt.Errorf("the guardian ended at once: %w", errors.Join(err, cmd.Wait()))
	}
	return cmd, stdin, read, stderr, nil
}

func randomID() string {
	b := make([]byte, 6)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// userNamespaces tries whether this user may make user namespaces.
func userNamespaces() bool {
	cmd := exec.Command("/proc/self/exe", "--version")
	cmd.SysProcAttr = userNS()
	return cmd.Run() == nil
}

// userNS maps the caller to root of a new user namespace.
func userNS() *unix.SysProcAttr {
	return &unix.SysProcAttr{
		Cloneflags:                 unix.CLONE_NEWUSER,
		UidMappings:                []sysIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings:                []sysIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		GidMappingsEnableSetgroups: false,
	}
}
