package memcg

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"golang.org/x/sys/unix"

	"github.com/leaklab/leaklab/harness/arm"
)

// TestMain lets the test binary be the worker, as leaklab is.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "part" {
		if err := Scenario.Parts[os.Args[3]](context.Background(), os.Args[4:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestWorkerDoesAsItIsTold(t *testing.T) {
	g := NewWithT(t)
	w, err := startWorker()
	g.Expect(err).NotTo(HaveOccurred())
	file := filepath.Join(t.TempDir(), "file")
	g.Expect(os.WriteFile(file, nil, 0o644)).To(Succeed())
	g.Expect(w.touch(file)).To(Succeed())
	info, err := os.Stat(file)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(info.Size()).To(BeEquivalentTo(touchPages * os.Getpagesize()))
	g.Expect(w.touch("/no/such/file")).To(MatchError(ContainSubstring("no such file")))

	pid, err := w.fork()
	g.Expect(err).NotTo(HaveOccurred())
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(status)).To(And(ContainSubstring(fmt.Sprintf("PPid:\t%d\n", w.pid())), ContainSubstring("Threads:\t1\n")))
	g.Expect(unix.Kill(pid, unix.SIGKILL)).To(Succeed())
	g.Expect(w.reap(pid)).To(Succeed())
	g.Expect(unix.Kill(pid, 0)).To(MatchError(unix.ESRCH))

	g.Expect(w.exec()).To(Succeed())
	_, err = w.ask("dance")
	g.Expect(err).To(MatchError(ContainSubstring("unknown command")))
	g.Expect(w.stop()).To(Succeed())
}

// The worker must not start threads by itself: each is a fork inside the cgroup.
func TestWorkerStartsNoThreads(t *testing.T) {
	g := NewWithT(t)
	w, err := startWorker()
	g.Expect(err).NotTo(HaveOccurred())
	file := filepath.Join(t.TempDir(), "file")
	g.Expect(os.WriteFile(file, nil, 0o644)).To(Succeed())
	threads := func() string {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.pid()))
		g.Expect(err).NotTo(HaveOccurred())
		_, after, _ := strings.Cut(string(status), "Threads:\t")
		line, _, _ := strings.Cut(after, "\n")
		return line
	}
	g.Expect(w.touch(file)).To(Succeed())
	before := threads()
	for range 200 {
		_, err := w.ask("hello")
		g.Expect(err).NotTo(HaveOccurred())
	}
	g.Expect(threads()).To(Equal(before))
	g.Expect(w.stop()).To(Succeed())
}

// A small tmpfs stands for the hierarchy: it too says ENOSPC when it is full.
func TestQuotaFillsAndRemembers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	g := NewWithT(t)
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "nr_inodes=40"); err != nil {
		t.Skip("cannot mount here: ", err)
	}
	t.Cleanup(func() { unix.Unmount(root, unix.MNT_DETACH) })
	ctx, silent := context.Background(), func(int) {}
	q, err := openQuota(hierarchy{root: root})
	g.Expect(err).NotTo(HaveOccurred())
	full, err := q.fill(ctx, silent)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(full).To(And(BeNumerically(">", 30), BeNumerically("<", 40)))
	g.Expect(q.full).To(MatchError(unix.ENOSPC))

	g.Expect(q.free(10)).To(Succeed())
	for i := range 3 { // lost ones
		g.Expect(os.Mkdir(filepath.Join(root, fmt.Sprint("lost", i)), 0o755)).To(Succeed())
	}
	left, err := q.fill(ctx, silent)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(full - left).To(Equal(3))

	again, err := openQuota(hierarchy{root: root})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(again.living).To(Equal(left))
	g.Expect(again.free(left + 1)).To(MatchError(ContainSubstring("nothing left")))
}

// A pipe that is full stands for a kernel that keeps trying.
func TestWriteIsInterrupted(t *testing.T) {
	g := NewWithT(t)
	fifo := filepath.Join(t.TempDir(), "fifo")
	g.Expect(unix.Mkfifo(fifo, 0o600)).To(Succeed())
	reader, err := os.OpenFile(fifo, os.O_RDWR, 0)
	g.Expect(err).NotTo(HaveOccurred())
	defer reader.Close()
	g.Expect(writeWithin(time.Minute, fifo, "all of it")).To(Succeed())
	start := time.Now()
	g.Expect(writeWithin(50*time.Millisecond, fifo, strings.Repeat("x", 1<<20))).To(Succeed())
	g.Expect(time.Since(start)).To(And(BeNumerically(">=", 50*time.Millisecond), BeNumerically("<", 10*time.Second)))
	g.Expect(writeWithin(time.Minute, "/no/such/file", "1")).To(MatchError(os.ErrNotExist))
}

func TestWhatFullLooksLike(t *testing.T) {
	g := NewWithT(t)
	for _, errno := range []unix.Errno{unix.ENOSPC, unix.ENOMEM, unix.EBUSY, unix.EAGAIN} {
		g.Expect(isFull(&os.PathError{Op: "mkdir", Path: "x", Err: errno})).To(BeTrue(), errno.Error())
	}
	g.Expect(isFull(nil)).To(BeFalse())
	g.Expect(isFull(unix.EPERM)).To(BeFalse())
}

func TestReadingTheKernel(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		g.Expect(os.WriteFile(path, []byte(text), 0o644)).To(Succeed())
		return path
	}
	g.Expect(numCgroups(file("cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t9\t1\nmemory\t5\t70\t1\n"))).To(Equal(70))
	_, err := numCgroups(file("cgroups", "cpu\t1\t9\t1\n"))
	g.Expect(err).To(HaveOccurred())
	file("cgroup.stat", "nr_descendants 3\nnr_dying_descendants 12\n")
	g.Expect(hierarchy{root: dir, v2: true}.dying(3)).To(Equal(12))
	file("memory.swap.current", "8192\n")
	g.Expect(hierarchy{root: dir, v2: true}.inSwap(dir)).To(BeEquivalentTo(8192))
	file("memory.stat", "cache 4096\nswap 4096\ntotal_swap 9\n")
	g.Expect(hierarchy{root: dir}.inSwap(dir)).To(BeEquivalentTo(4096))
	file("memory.stat", "cache 4096\n")
	_, err = hierarchy{root: dir}.inSwap(dir)
	g.Expect(err).To(MatchError(ContainSubstring("swapaccount=1")))
}

// Kernel memory accounting is on where there is nothing to switch, and an error
// where there is nothing to account with.
func TestAccountingOfKernelMemory(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	_, err := hierarchy{root: dir}.accountKernelMemory(dir)
	g.Expect(err).To(MatchError(ContainSubstring("CONFIG_MEMCG_KMEM")))
	g.Expect(hierarchy{root: dir, v2: true}.accountKernelMemory(dir)).To(BeFalse())
	file := filepath.Join(dir, "memory.kmem.limit_in_bytes")
	g.Expect(os.WriteFile(file, nil, 0o644)).To(Succeed())
	g.Expect(hierarchy{root: dir}.accountKernelMemory(dir)).To(BeTrue())
	g.Expect(os.ReadFile(file)).To(BeEquivalentTo("-1"))
}

func TestArms(t *testing.T) {
	g := NewWithT(t)
	names := map[string]bool{}
	for _, a := range Scenario.Arms {
		g.Expect(names[a.Name]).To(BeFalse(), "%s is there once", a.Name)
		names[a.Name] = true
		g.Expect(a.VM.Kernel).NotTo(BeEmpty(), "%s must never fill the host's quota", a.Name)
		g.Expect(a.VM.Shared).To(BeTrue(), a.Name)
		g.Expect(a.Title).NotTo(BeEmpty())
		decides := slices.ContainsFunc(a.Counters, func(c arm.Counter) bool { return c.Decides }) ||
			slices.ContainsFunc(a.Outcomes, func(o arm.Outcome) bool { return o.Decides })
		g.Expect(decides).To(BeTrue(), a.Name)
	}
	for _, c := range claims {
		for _, check := range c.Checks {
			g.Expect(names).To(HaveKey(check.Arm), c.ID)
		}
	}
	// Arms that share a guest follow each other, so that each guest is filled once.
	var guests []string
	for _, a := range Scenario.Arms {
		guest := fmt.Sprint(a.VM)
		if len(guests) == 0 || guests[len(guests)-1] != guest {
			g.Expect(guests).NotTo(ContainElement(guest), a.Name)
			guests = append(guests, guest)
		}
	}
}
