package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gexec"
	"github.com/prometheus/procfs"

	"github.com/leaklab/leaklab/harness/report"
)

// longArm takes long enough to be disturbed: many trials of a quick arm.
var longArm = []string{"run", "ttrpc/unix-v1.1.0", "--trials", "500"}

// place is a run's own world, so that what it leaves can be told from what
// other runs on this machine are doing.
type place struct{ tmp, out string }

func newPlace() place {
	dir := GinkgoT().TempDir()
	p := place{tmp: filepath.Join(dir, "tmp"), out: filepath.Join(dir, "out")}
	Expect(os.Mkdir(p.tmp, 0o755)).To(Succeed())
	return p
}

func (p place) start(args ...string) *gexec.Session {
	GinkgoHelper()
	cmd := exec.Command(leaklab, append(args, "--out", p.out)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+p.tmp)
	session, err := gexec.Start(cmd, GinkgoWriter, GinkgoWriter)
	Expect(err).NotTo(HaveOccurred())
	return session
}

// processes finds the run's processes: all that work for it have its folder in
// their environment.
func (p place) processes(role string) []int {
	var pids []int
	all, err := procfs.AllProcs()
	Expect(err).NotTo(HaveOccurred())
	for _, proc := range all {
		env, err := proc.Environ()
		if err != nil {
			continue // it has ended
		}
		cmd, err := proc.CmdLine()
		if err != nil || len(cmd) < 2 || role != "" && cmd[1] != role {
			continue
		}
		for _, e := range env {
			if e == "TMPDIR="+p.tmp {
				pids = append(pids, proc.PID)
			}
		}
	}
	return pids
}

// left are the run's processes and folders.
func (p place) left() []string {
	left, err := filepath.Glob(filepath.Join(p.tmp, "*"))
	Expect(err).NotTo(HaveOccurred())
	if len(p.processes("")) > 0 {
		left = append(left, "processes")
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	Expect(err).NotTo(HaveOccurred())
	if strings.Contains(string(mounts), p.tmp) {
		left = append(left, "mounts")
	}
	return left
}

var _ = Describe("bad ends", Label("badends"), func() {
	// running starts a long arm and waits until its subjects are at work.
	running := func(p place) *gexec.Session {
		GinkgoHelper()
		session := p.start(longArm...)
		Eventually(func() []int { return p.processes("call") }).ShouldNot(BeEmpty())
		return session
	}

	It("Ctrl-C stops it, with the results so far and nothing left", func() {
		p := newPlace()
		session := running(p)
		session.Interrupt()
		Eventually(session).Should(gexec.Exit(report.ExitInterrupted))
		Expect(p.left()).To(BeEmpty())
		Expect(filepath.Join(p.out, "result.json")).To(BeARegularFile())
	})

	It("killing the command leaves nothing", func() {
		p := newPlace()
		session := running(p)
		session.Kill()
		Eventually(session).Should(gexec.Exit())
		Eventually(p.left).Should(BeEmpty())
	})

	It("killing the agent is told, and leaves nothing", func() {
		p := newPlace()
		session := running(p)
		for _, pid := range p.processes("agent") {
			Expect(syscall.Kill(pid, syscall.SIGKILL)).To(Succeed())
		}
		Eventually(session).Should(gexec.Exit(report.ExitDiffers))
		Expect(session.Out).To(gbytes.Say("killed"))
		Expect(p.left()).To(BeEmpty())
	})

	It("killing command and guardian leaves what leaklab clean removes", func() {
		p := newPlace()
		session := running(p)
		for _, pid := range append(p.processes("guard"), session.Command.Process.Pid) {
			Expect(syscall.Kill(pid, syscall.SIGKILL)).To(Succeed())
		}
		Eventually(session).Should(gexec.Exit())
		Eventually(func() []int { return p.processes("") }).Should(BeEmpty())
		clean := exec.Command(leaklab, "clean")
		clean.Env = append(os.Environ(), "TMPDIR="+p.tmp)
		Expect(clean.Run()).To(Succeed())
		Expect(p.left()).To(BeEmpty())
	})

	It("two runs at once are both right", func() {
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				defer GinkgoRecover()
				code, result := runJSON("ttrpc/sndbuf-v1.0.1", "ttrpc/sndbuf-v1.1.0")
				Expect(code).To(Equal(report.ExitOK), "%+v", result.Arms)
			})
		}
		both.Wait()
	})

	It("a version that is not served is named, and nothing is cached", func() {
		p := newPlace()
		cmd := exec.Command(leaklab, "run", "ttrpc/unix-v1.0.1", "--runtime", "ttrpc-pair@v1.0.99", "--out", p.out)
		cmd.Env = append(os.Environ(), "LEAKLAB_CACHE="+p.tmp)
		session, err := gexec.Start(cmd, GinkgoWriter, GinkgoWriter)
		Expect(err).NotTo(HaveOccurred())
		Eventually(session, time.Minute).Should(gexec.Exit(report.ExitCannot))
		Expect(session.Out).To(gbytes.Say(`github.com/containerd/ttrpc@v1.0.99`))
		made, err := filepath.Glob(filepath.Join(p.tmp, "runtimes", "*", "manifest.json"))
		Expect(err).NotTo(HaveOccurred())
		Expect(made).To(BeEmpty())
	})

	It("a full disk is told in a line, and the cache stays sound", func() {
		if os.Geteuid() != 0 {
			Skip("mounting a small disk needs root")
		}
		p := newPlace()
		Expect(syscall.Mount("tmpfs", p.tmp, "tmpfs", 0, "size=1m")).To(Succeed())
		DeferCleanup(func() { Expect(syscall.Unmount(p.tmp, 0)).To(Succeed()) })
		build := func() *gexec.Session {
			cmd := exec.Command(leaklab, "runtimes", "build", "ttrpc-pair@v1.0.1")
			cmd.Env = append(os.Environ(), "LEAKLAB_CACHE="+p.tmp)
			session, err := gexec.Start(cmd, GinkgoWriter, GinkgoWriter)
			Expect(err).NotTo(HaveOccurred())
			Eventually(session, 2*time.Minute).Should(gexec.Exit())
			return session
		}
		session := build()
		Expect(session.ExitCode()).To(Equal(report.ExitCannot))
		Expect(string(session.Err.Contents())).To(ContainSubstring("no space left on device"))
		Expect(syscall.Mount("tmpfs", p.tmp, "tmpfs", syscall.MS_REMOUNT, "size=200m")).To(Succeed())
		Expect(build().ExitCode()).To(Equal(report.ExitOK))
	})
})
