package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/u-root/u-root/pkg/cpio"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/kernel"
)

func TestLayout(t *testing.T) {
	none := func(string) bool { return false }
	all := func(string) bool { return true }
	for _, c := range []struct {
		pvh     bool
		has     func(string) bool
		board   board
		port    port
		modules []string
	}{
		{true, all, boardMicroVM, portSerial, nil},
		{false, none, boardPC, portSerial, nil},
		{false, all, boardPC, portVirtio, []string{"virtio_pci", "virtio_console"}},
		{false, func(m string) bool { return m == "virtio_pci" }, boardPC, portSerial, nil},
	} {
		g := NewWithT(t)
		b, p, m := layout(c.pvh, c.has)
		g.Expect([]any{b, p, m}).To(Equal([]any{c.board, c.port, c.modules}))
	}
}

func TestQEMUCommandLine(t *testing.T) {
	line := func(q qemu) string { return strings.Join(q.args(), " ") }
	base := qemu{Accel: accelTCG, Board: boardMicroVM, Port: portSerial, MemoryMB: 512, Kernel: "/k/vmlinux", Initramfs: "/d/i.cpio"}
	g := NewWithT(t)
	micro := line(base)
	g.Expect(micro).To(HavePrefix(qemuBinary + " "))
	for _, part := range []string{
		"-M microvm,x-option-roms=off,acpi=off", "-bios qboot.rom", "-device isa-serial,chardev=port,index=1",
		"-accel tcg,thread=single", "-cpu qemu64,-cx16", "-m 512 -smp 1", "-no-reboot", "8250.nr_uarts=2", "panic=-1", "rdinit=" + GuestInit,
	} {
		g.Expect(micro).To(ContainSubstring(part))
	}
	g.Expect(micro).NotTo(ContainSubstring("-net"), "no network device")

	pc := base
	pc.Board, pc.Port, pc.CPUs, pc.Cmdline = boardPC, portVirtio, 2, []string{"cgroup.memory=nokmem"}
	g.Expect(line(pc)).To(And(
		ContainSubstring("-M pc"), ContainSubstring("-device virtserialport,chardev=port,name="+portName),
		ContainSubstring("-smp 2"), ContainSubstring("cgroup.memory=nokmem"), ContainSubstring("8250.nr_uarts=1"),
	))
	serial := base
	serial.Board = boardPC
	g.Expect(line(serial)).To(ContainSubstring("-serial chardev:console"))
	g.Expect(line(serial)).To(ContainSubstring("-serial chardev:port"))

	fast := base
	fast.Accel = accelKVM
	g.Expect(line(fast)).To(And(ContainSubstring("-accel kvm"), ContainSubstring("-cpu host")))
	fast.OldKernel = true
	g.Expect(line(fast)).To(ContainSubstring("-cpu qemu64"))
}

func TestInitramfs(t *testing.T) {
	g := NewWithT(t)
	runtime := t.TempDir()
	g.Expect(os.WriteFile(filepath.Join(runtime, "tool"), []byte("#!/bin/sh\n"), 0o755)).To(Succeed())
	g.Expect(os.Symlink("tool", filepath.Join(runtime, "alias"))).To(Succeed())
	file := filepath.Join(t.TempDir(), "i.cpio")
	config := guestConfig{Port: portSerial, Modules: []string{"fuse"}}
	size, err := initramfs{
		Config:   config,
		Modules:  []kernel.Module{{Name: "fuse", Object: []byte("object")}},
		Runtimes: map[string]string{"dockerd": runtime},
	}.write(file)
	g.Expect(err).NotTo(HaveOccurred())
	f, err := os.Open(file)
	g.Expect(err).NotTo(HaveOccurred())
	defer f.Close()
	info, err := f.Stat()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(info.Size()).To(Equal(size))

	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(f))
	g.Expect(err).NotTo(HaveOccurred())
	content := map[string]string{}
	seen := map[string]bool{}
	for _, r := range records {
		if dir := filepath.Dir(r.Name); dir != "." {
			g.Expect(seen[dir]).To(BeTrue(), "folder of %s comes first", r.Name)
		}
		g.Expect(seen[r.Name]).To(BeFalse(), "%s is there once", r.Name)
		seen[r.Name] = true
		if r.ReaderAt != nil {
			data, err := io.ReadAll(io.NewSectionReader(r.ReaderAt, 0, int64(r.FileSize)))
			g.Expect(err).NotTo(HaveOccurred())
			content[r.Name] = string(data)
		}
	}
	self, err := os.ReadFile("/proc/self/exe")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(len(content[strings.TrimPrefix(GuestInit, "/")])).To(Equal(len(self)))
	g.Expect(content).To(HaveKeyWithValue("modules/fuse", "object"))
	g.Expect(content).To(HaveKeyWithValue("runtimes/dockerd/tool", "#!/bin/sh\n"))
	g.Expect(content).To(HaveKeyWithValue("runtimes/dockerd/alias", "tool"))
	g.Expect(seen).To(HaveKey("dev/console"))
	var back guestConfig
	g.Expect(json.Unmarshal([]byte(content[configFile]), &back)).To(Succeed())
	g.Expect(back).To(Equal(config))
}

// A binary that is linked dynamically brings its libraries along.
func TestInitramfsBringsLibraries(t *testing.T) {
	const sh = "/bin/sh"
	if interpreter(sh) == "" {
		t.Skip("this host's shell is linked statically")
	}
	g := NewWithT(t)
	data, err := os.ReadFile(sh)
	g.Expect(err).NotTo(HaveOccurred())
	runtime := t.TempDir()
	g.Expect(os.WriteFile(filepath.Join(runtime, "sh"), data, 0o755)).To(Succeed())
	file := filepath.Join(t.TempDir(), "i.cpio")
	_, err = initramfs{Runtimes: map[string]string{"shell": runtime}}.write(file)
	g.Expect(err).NotTo(HaveOccurred())
	f, err := os.Open(file)
	g.Expect(err).NotTo(HaveOccurred())
	defer f.Close()
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(f))
	g.Expect(err).NotTo(HaveOccurred())
	var names []string
	for _, r := range records {
		names = append(names, r.Name)
	}
	g.Expect(names).To(ContainElement(MatchRegexp(`ld-linux.*\.so|ld-musl`)))
	g.Expect(names).To(ContainElement(MatchRegexp(`libc\.`)))
}

func TestParseLibraries(t *testing.T) {
	g := NewWithT(t)
	list := "\tlinux-vdso.so.1 (0x00007fac204fe000)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007fac1b9b1000)\n\t/lib64/ld.so (0x00007fac20500000)\n"
	g.Expect(parseLibraries("dockerd", "/lib64/ld.so", list)).To(Equal([]string{"/lib64/ld.so", "/lib/x/libc.so.6"}))
	_, err := parseLibraries("dockerd", "/lib64/ld.so", "\tlibseccomp.so.2 => not found\n")
	g.Expect(err).To(MatchError("dockerd needs libseccomp.so.2, which this host does not have"))
}

func TestTellingLine(t *testing.T) {
	g := NewWithT(t)
	g.Expect(tellingLine("")).To(Equal("its console is empty"))
	g.Expect(tellingLine("one\r\ntwo\r\n")).To(Equal("two"))
	g.Expect(tellingLine("[1.0] BUG: bad\n[1.1] Kernel panic - not syncing: x\n[1.2] end")).To(Equal("[1.0] BUG: bad"))
	g.Expect(tellingLine("leaklab: no port\n[1.2] reboot: Restarting system\n")).To(Equal("leaklab: no port"))
}

func TestTailKeepsTheEnd(t *testing.T) {
	g := NewWithT(t)
	var w tail
	for range 3 {
		n, err := w.Write([]byte(strings.Repeat("x", tailSize/2)))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(n).To(Equal(tailSize / 2))
	}
	_, err := w.Write([]byte("end"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(w.Len()).To(Equal(tailSize))
	g.Expect(w.String()).To(HaveSuffix("xend"))
}

func TestKernelOfAnArm(t *testing.T) {
	own := &kernel.Kernel{Release: "3.10.0-862.9.1.el7.x86_64"}
	for _, c := range []struct {
		vm   *VM
		arm  string
		want string
		says string
	}{
		{&VM{}, "", DefaultKernel, ""},
		{&VM{}, "5.10", "5.10", ""},
		{&VM{Kernel: own}, "", "", ""},
		{&VM{Kernel: own}, "3.10", "", ""},
		{&VM{Kernel: own}, "6.1", "", "is about kernel 6.1"},
		{&VM{Kernel: own, Force: true}, "6.1", "", ""},
	} {
		g := NewWithT(t)
		got, err := c.vm.kernelName(arm.Arm{VM: arm.VM{Kernel: c.arm}})
		if c.says != "" {
			g.Expect(err).To(MatchError(ContainSubstring(c.says)))
			continue
		}
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(got).To(Equal(c.want))
	}
}

func TestKernelsAreNotTheHosts(t *testing.T) {
	g := NewWithT(t)
	g.Expect(Host{}.Lacks(arm.Arm{VM: arm.VM{Kernel: "3.10"}})).To(MatchError(ContainSubstring("--machine vm")))
}

func TestAcceleratorIsRememberedForOneBoot(t *testing.T) {
	g := NewWithT(t)
	p := accelProbe{Dir: t.TempDir()}
	if f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err != nil {
		g.Expect(p.known()).To(Equal(accelTCG))
		t.Skip("no /dev/kvm here")
	} else {
		f.Close()
	}
	g.Expect(p.known()).To(BeEmpty(), "only a trial can tell")
	g.Expect(p.remember(accelTCG)).To(Succeed())
	g.Expect(p.known()).To(Equal(accelTCG))
	other, err := json.Marshal(accelAnswer{BootID: "of another boot", Accel: accelKVM})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(os.WriteFile(p.file(), other, 0o644)).To(Succeed())
	g.Expect(p.known()).To(BeEmpty())
}

func TestControllersOf(t *testing.T) {
	g := NewWithT(t)
	file := filepath.Join(t.TempDir(), "cgroups")
	g.Expect(os.WriteFile(file, []byte("#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\nmemory\t5\t70\t1\nrdma\t0\t1\t0\n"), 0o644)).To(Succeed())
	g.Expect(controllersOf(file)).To(Equal([]string{"cpuset", "memory"}))
}

// fakeGuest is a guest whose kernel and init are this test.
func fakeGuest(t *testing.T) (g *guest, port *os.File) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	in, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close(); write.Close(); in.Close(); stdin.Close() })
	// Like QEMU it ends with its input.
	go func() {
		io.Copy(io.Discard, in)
		write.Close()
	}()
	return &guest{stdin: stdin, events: bufio.NewReader(read), stderr: new(tail)}, write
}

func TestGuestThatNeverComes(t *testing.T) {
	g := NewWithT(t)
	guest, _ := fakeGuest(t)
	g.Expect(guest.await(context.Background(), 50*time.Millisecond)).To(MatchError(ContainSubstring("no sign of life")))
}

func TestGuestThatCannot(t *testing.T) {
	g := NewWithT(t)
	guest, port := fakeGuest(t)
	g.Expect(tell(port, arm.Event{Type: arm.EventFailed, Text: "this kernel has no FUSE"})).To(Succeed())
	g.Expect(guest.await(context.Background(), time.Minute)).To(MatchError("this kernel has no FUSE"))
}

func TestGuestThatIsReady(t *testing.T) {
	g := NewWithT(t)
	guest, port := fakeGuest(t)
	g.Expect(port.WriteString("\n")).To(Equal(1))
	g.Expect(tell(port, arm.Event{Type: eventReady})).To(Succeed())
	g.Expect(guest.await(context.Background(), time.Minute)).To(Succeed())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	job := arm.Job{Plan: arm.Plan{Timeout: time.Minute}}
	g.Expect(guest.run(ctx, job, func(arm.Event) {})).To(MatchError(errAgentGone))
}

// startProgram has a guardian run a shell script in QEMU's place.
func startProgram(t *testing.T, script string) (*guest, string) {
	g := NewWithT(t)
	dir := t.TempDir() + "/run"
	g.Expect(os.Mkdir(dir, 0o755)).To(Succeed())
	cmd, stdin, events, stderr, err := startGuardian(order{Dir: dir, Program: []string{"/bin/sh", "-c", script}})
	g.Expect(err).NotTo(HaveOccurred())
	return &guest{guard: cmd, stdin: stdin, events: bufio.NewReaderSize(events, eventBuffer), stderr: stderr}, dir
}

func TestGuardianCarriesTheStreams(t *testing.T) {
	g := NewWithT(t)
	guest, dir := startProgram(t, `echo '{"type":"ready"}'; echo on the console >&2; exec cat`)
	g.Expect(guest.await(context.Background(), time.Minute)).To(Succeed())
	g.Expect(io.WriteString(guest.stdin, "a job\n")).To(Equal(6))
	g.Expect(guest.events.ReadString('\n')).To(Equal("a job\n"))
	g.Expect(guest.close()).To(Succeed())
	g.Expect(guest.console()).To(Equal("on the console\n"))
	g.Expect(dir).NotTo(BeADirectory())
}

func TestGuardianKillsWhatDoesNotEnd(t *testing.T) {
	g := NewWithT(t)
	guest, dir := startProgram(t, `echo '{"type":"ready"}'; trap '' TERM HUP INT; while :; do sleep 1; done`)
	g.Expect(guest.await(context.Background(), time.Minute)).To(Succeed())
	g.Expect(guest.close()).To(Succeed())
	g.Expect(dir).NotTo(BeADirectory())
}

// However the guardian ends, QEMU does not outlive it.
func TestProgramDiesWithItsGuardian(t *testing.T) {
	g := NewWithT(t)
	guest, _ := startProgram(t, `echo '{"type":"ready"}'; echo $$; exec cat`)
	g.Expect(guest.await(context.Background(), time.Minute)).To(Succeed())
	pid, err := guest.events.ReadString('\n')
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(guest.guard.Process.Kill()).To(Succeed())
	// The stream's end is the program's.
	rest, err := io.ReadAll(guest.events)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(rest).To(BeEmpty())
	g.Eventually("/proc/" + strings.TrimSpace(pid)).WithTimeout(10 * time.Second).ShouldNot(BeADirectory())
	g.Expect(guest.guard.Wait()).To(HaveOccurred())
}
