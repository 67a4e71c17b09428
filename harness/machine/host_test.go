package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/leaklab/leaklab/harness/agent"
	"github.com/leaklab/leaklab/harness/arm"
)

// TestMain lets the test binary play guardian, init and agent, as leaklab does.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		var err error
		switch os.Args[1] {
		case "guard":
			err = Guard(os.Stdin)
		case "init":
			err = Init(os.Stdin)
		case "agent":
			var events *os.File
			if events, err = AgentEvents(); err == nil {
				_ = agent.Serve(os.Stdin, events, []arm.Scenario{fake})
			}
		case "box":
			err = Box(os.Stdin, os.Stdout, []arm.Scenario{fake})
		case "--version":
		case "sleeper":
			time.Sleep(time.Hour)
		default:
			os.Exit(m.Run())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// fake are arms that behave well and badly.
var fake = arm.Scenario{Name: "fake", Arms: []arm.Arm{
	{Name: "well", Run: func(_ context.Context, lab arm.Lab) error {
		lab.Note("pid %d", os.Getpid())
		return os.WriteFile(filepath.Join(lab.Dir("x"), "y"), []byte("z"), 0o644)
	}},
	{Name: "error", Run: func(context.Context, arm.Lab) error { return errors.New("the fault would not take") }},
	{Name: "panic", Run: func(context.Context, arm.Lab) error { panic("oops") }},
	// dies as by the OOM killer
	{Name: "killed", Run: func(context.Context, arm.Lab) error { return unix.Kill(os.Getpid(), unix.SIGKILL) }},
	// leaves a process in a session of its own, as a daemon does, and a mount
	{Name: "litters", Run: litter},
	{Name: "litters-and-waits", Run: func(ctx context.Context, lab arm.Lab) error {
		if err := litter(ctx, lab); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}},
	{Name: "waits", Run: func(ctx context.Context, lab arm.Lab) error {
		lab.Note("waiting")
		<-ctx.Done()
		return context.Cause(ctx)
	}},
	// does not care to be stopped
	{Name: "deaf", Run: func(ctx context.Context, lab arm.Lab) error {
		if err := litter(ctx, lab); err != nil {
			return err
		}
		select {}
	}},
}}

func litter(_ context.Context, lab arm.Lab) error {
	mark := filepath.Base(filepath.Dir(lab.Job().Dir))
	cmd := exec.Command("/proc/self/exe", "sleeper", mark)
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", lab.Dir("mnt"), "tmpfs", 0, ""); err != nil {
		return err
	}
	if lab.Job().Cgroup != "" {
		inner := "/sys/fs/cgroup/freezer/inner"
		if err := os.Mkdir(inner, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(inner+"/cgroup.procs", []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
			return err
		}
		if err := os.WriteFile(inner+"/freezer.state", []byte("FROZEN"), 0o644); err != nil {
			return err
		}
	}
	lab.Note("littered %s", mark)
	return nil
}

// start runs an arm of the fake scenario and returns what it told.
func start(ctx context.Context, name string, needs ...arm.Need) (notes []string, err error) {
	a := fake.Arms[slices.IndexFunc(fake.Arms, func(a arm.Arm) bool { return a.Name == name })]
	a.Needs = needs
	err = Host{}.Run(ctx, a, arm.Job{Scenario: "fake", Arm: name}, func(e arm.Event) {
		if e.Type == arm.EventNote {
			notes = append(notes, e.Text)
		}
	})
	return notes, err
}

func needNamespaces(t *testing.T) {
	if err := (Host{}).Lacks(arm.Arm{}); err != nil {
		t.Skip(err)
	}
}

// left looks for anything of this test's runs: processes, cgroups, mounts,
// folders.
func left() []string {
	var found []string
	for _, role := range []string{"guard", "init", "agent", "sleeper"} {
		for _, pid := range roles(role) {
			found = append(found, fmt.Sprintf("%s %d", role, pid))
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	if strings.Contains(string(mounts), RunPrefix) {
		found = append(found, "a mount")
	}
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), RunPrefix+"*"))
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + RunPrefix + "*")
	// Others may be at work on this machine.
	groups = slices.DeleteFunc(groups, held)
	return append(append(found, dirs...), groups...)
}

// ownTemp keeps the test's runs apart from those of others on this machine.
func ownTemp(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
}

func TestHostRuns(t *testing.T) {
	needNamespaces(t)
	ownTemp(t)
	for _, c := range []struct {
		arm  string
		want string
	}{
		{"well", ""},
		{"error", "the fault would not take"},
		{"panic", "panicked: oops"},
		{"killed", "killed"},
		{"litters", ""},
	} {
		t.Run(c.arm, func(t *testing.T) {
			g := NewWithT(t)
			_, err := start(t.Context(), c.arm)
			if c.want == "" {
				g.Expect(err).NotTo(HaveOccurred())
			} else {
				g.Expect(err).To(MatchError(ContainSubstring(c.want)))
				g.Expect(err.Error()).NotTo(ContainSubstring("\n"))
			}
			g.Expect(dirsLeft()).To(BeEmpty())
		})
	}
}

func dirsLeft() []string {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), RunPrefix+"*"))
	return dirs
}

func TestHostAgentIsInOwnPidNamespace(t *testing.T) {
	needNamespaces(t)
	ownTemp(t)
	g := NewWithT(t)
	notes, err := start(t.Context(), "well")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(notes).To(HaveLen(1))
	var pid int
	fmt.Sscanf(notes[0], "pid %d", &pid)
	g.Expect(pid).To(BeNumerically("<", 100))
}

// Whoever is stopped or killed, nothing stays: not the daemon, not the mount,
// not the cgroup with a frozen task in it, not the folder.
func TestHostLeavesNothing(t *testing.T) {
	needNamespaces(t)
	needs := map[string][]arm.Need{"plain": nil}
	if os.Geteuid() == 0 && len(cgroup1Mounts()) > 0 {
		needs["cgroup1"] = []arm.Need{arm.NeedRoot, arm.NeedCgroup1}
	}
	for kind, n := range needs {
		t.Run("interrupted/"+kind, func(t *testing.T) {
			ownTemp(t)
			g := NewWithT(t)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { _, err := start(ctx, "litters-and-waits", n...); done <- err }()
			g.Eventually(sleepers, "10s").ShouldNot(BeEmpty())
			cancel()
			g.Eventually(done, "30s").Should(Receive(MatchError(ErrInterrupted)))
			g.Expect(left()).To(BeEmpty())
		})
		t.Run("agent killed/"+kind, func(t *testing.T) {
			ownTemp(t)
			g := NewWithT(t)
			done := make(chan error)
			go func() { _, err := start(t.Context(), "deaf", n...); done <- err }()
			g.Eventually(sleepers, "10s").ShouldNot(BeEmpty())
			for _, p := range roles("agent") {
				g.Expect(unix.Kill(p, unix.SIGKILL)).To(Succeed())
			}
			g.Eventually(done, "30s").Should(Receive(MatchError(ContainSubstring("killed"))))
			g.Expect(left()).To(BeEmpty())
		})
		t.Run("guardian killed, then cleaned/"+kind, func(t *testing.T) {
			ownTemp(t)
			g := NewWithT(t)
			done := make(chan error)
			go func() { _, err := start(t.Context(), "deaf", n...); done <- err }()
			g.Eventually(sleepers, "10s").ShouldNot(BeEmpty())
			removed, err := CleanStale()
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(removed).To(BeEmpty(), "a living run is left alone")
			for _, p := range roles("guard") {
				g.Expect(unix.Kill(p, unix.SIGKILL)).To(Succeed())
			}
			// A frozen task keeps its namespace, and with it the event stream,
			// until it is thawed: that is what the clean-up is for.
			g.Eventually(func() []int { return roles("guard") }, "10s").Should(BeEmpty())
			_, err = CleanStale()
			g.Expect(err).NotTo(HaveOccurred())
			g.Eventually(done, "30s").Should(Receive(HaveOccurred()))
			g.Eventually(left, "10s").Should(BeEmpty())
		})
	}
}

func sleepers() []int { return roles("sleeper") }

// roles finds the processes of this test that play a role.
func roles(role string) []int {
	var pids []int
	procs, _ := procfs.AllProcs()
	for _, p := range procs {
		exe, _ := p.Executable()
		self, _ := os.Executable()
		if cmd, err := p.CmdLine(); err == nil && len(cmd) > 1 && cmd[1] == role && exe == self {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

func TestReadLineLeavesTheRest(t *testing.T) {
	g := NewWithT(t)
	r := strings.NewReader("first\nsecond\n")
	line, err := readLine(r)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(line)).To(Equal("first"))
	g.Expect(r.Len()).To(Equal(len("second\n")))
}
