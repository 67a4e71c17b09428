package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gexec"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/report"
)

// Every Vagrantfile is valid, for both providers. It proves that the settings are
// known to Vagrant, and nothing about VirtualBox or the boxes.
var _ = Describe("Vagrantfiles", Label("vagrantfiles"), func() {
	for _, folder := range []string{"docker-1.13", "docker-18.09", "kmem", "ttrpc", "debian"} {
		for _, provider := range []string{"libvirt", "virtualbox"} {
			It(fmt.Sprintf("are valid: %s for %s", folder, provider), func() {
				needTool("vagrant", "install Vagrant and vagrant-libvirt")
				dir := GinkgoT().TempDir()
				// All that Vagrant asks of VirtualBox here is its version.
				Expect(os.WriteFile(filepath.Join(dir, "VBoxManage"), []byte("#!/bin/sh\necho 7.0.0r1\n"), 0o755)).To(Succeed())
				cmd := exec.Command("vagrant", "validate")
				cmd.Dir = filepath.Join("..", "vagrant", folder)
				cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "VAGRANT_DEFAULT_PROVIDER="+provider,
					"VAGRANT_HOME="+dir, "VAGRANT_DOTFILE_PATH="+filepath.Join(dir, "dotfiles"), "VAGRANT_CHECKPOINT_DISABLE=1")
				out, err := cmd.CombinedOutput()
				Expect(err).NotTo(HaveOccurred(), "%s", out)
			})
		}
	}
})

func needTool(name, remedy string) {
	GinkgoHelper()
	if _, err := exec.LookPath(name); err != nil {
		Skip(name + " is not here: " + remedy)
	}
}

// testBox is a Vagrant of the suite's own, with the project's test box: nothing
// of the user's boxes and machines is touched.
type testBox struct {
	dir string
	// vagrant is the folder of the boxes, and folder the one in it that is used.
	vagrant, folder string
}

const testBoxName = "leaklab/testbox"

func newTestBox() testBox {
	GinkgoHelper()
	file := os.Getenv("LEAKLAB_TESTBOX")
	if file == "" {
		Skip("no test box: make e2e-vagrant makes it and runs this")
	}
	for _, tool := range []string{"vagrant", "virsh"} {
		needTool(tool, "install Vagrant, vagrant-libvirt and libvirt-daemon-system")
	}
	vagrant, err := filepath.Abs("../vagrant")
	Expect(err).NotTo(HaveOccurred())
	b := testBox{dir: GinkgoT().TempDir(), vagrant: vagrant, folder: "debian"}
	for name, value := range map[string]string{
		"VAGRANT_HOME":               filepath.Join(b.dir, "home"),
		"VAGRANT_DOTFILE_PATH":       filepath.Join(b.dir, "dotfiles"),
		"VAGRANT_DEFAULT_PROVIDER":   "libvirt",
		"VAGRANT_CHECKPOINT_DISABLE": "1",
		"LEAKLAB_BOX":                testBoxName,
		"LEAKLAB_VM_PREFIX":          fmt.Sprintf("e2e-%d-", os.Getpid()),
		"LEAKLAB_MEMORY":             "1024",
		"LEAKLAB_CPUS":               "1",
	} {
		GinkgoT().Setenv(name, value)
	}
	daemon := func(action string) {
		out, err := exec.Command("sh", filepath.Join(vagrant, "testbox", "libvirtd.sh"), action, filepath.Join(b.dir, "libvirtd")).CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), "%s", out)
	}
	daemon("start")
	DeferCleanup(daemon, "stop")
	DeferCleanup(b.removeVolumes)
	DeferCleanup(func() { b.run("destroy", "--force") })
	b.run("box", "add", "--name", testBoxName, "--provider", "libvirt", file)
	return b
}

// run runs vagrant in the box's folder.
func (b testBox) run(args ...string) string {
	GinkgoHelper()
	cmd := exec.Command("vagrant", args...)
	cmd.Dir = filepath.Join(b.vagrant, b.folder)
	session, err := gexec.Start(cmd, GinkgoWriter, GinkgoWriter)
	Expect(err).NotTo(HaveOccurred())
	Eventually(session, 15*time.Minute).Should(gexec.Exit(0))
	return string(session.Out.Contents())
}

// withDownload is a copy of the boxes' folder in which one download comes from
// another address.
func (b testBox) withDownload(folder, name, url string) testBox {
	GinkgoHelper()
	changed := filepath.Join(b.dir, "vagrant")
	Expect(os.CopyFS(changed, os.DirFS(b.vagrant))).To(Succeed())
	b.vagrant, b.folder = changed, folder
	DeferCleanup(func() { b.run("destroy", "--force") })
	GinkgoT().Setenv("LEAKLAB_VAGRANT", changed)
	file := filepath.Join(changed, "versions.yml")
	text, err := os.ReadFile(file)
	Expect(err).NotTo(HaveOccurred())
	before, after, ok := strings.Cut(string(text), "\n  "+folder+":\n")
	Expect(ok).To(BeTrue())
	line := regexp.MustCompile(`(- name: ` + regexp.QuoteMeta(name) + `\n +url: ).*`)
	Expect(line.MatchString(after)).To(BeTrue())
	after = line.ReplaceAllString(after, "${1}"+url)
	Expect(os.WriteFile(file, []byte(before+"\n  "+folder+":\n"+after), 0o644)).To(Succeed())
	return b
}

// serve serves the bytes that content holds to the machines of vagrant-libvirt's network,
// whose host always has this address.
func serve(path string, content *atomic.Value) string {
	GinkgoHelper()
	listener, err := net.Listen("tcp", ":0")
	Expect(err).NotTo(HaveOccurred())
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(content.Load().([]byte)) // a guest that goes is what some specs want
	})}
	go func() { _ = server.Serve(listener) }() // until it is closed
	DeferCleanup(server.Close)
	return fmt.Sprintf("http://192.168.121.1:%d%s", listener.Addr().(*net.TCPAddr).Port, path)
}

// archive is a compressed tar of one executable.
func archive(name, text string) []byte {
	GinkgoHelper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	Expect(w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text))})).To(Succeed())
	_, err := w.Write([]byte(text))
	Expect(err).NotTo(HaveOccurred())
	Expect(w.Close()).To(Succeed())
	Expect(z.Close()).To(Succeed())
	return b.Bytes()
}

// removeVolumes removes the copy of the box that vagrant-libvirt keeps.
func (b testBox) removeVolumes() {
	for _, volume := range b.volumes() {
		if strings.HasPrefix(volume, "leaklab-VAGRANTSLASH-testbox") {
			out, err := exec.Command("virsh", "--connect", "qemu:///system", "vol-delete", volume, "default").CombinedOutput()
			Expect(err).NotTo(HaveOccurred(), "%s", out)
		}
	}
}

func (b testBox) volumes() []string {
	out, err := exec.Command("virsh", "--connect", "qemu:///system", "vol-list", "default").Output()
	Expect(err).NotTo(HaveOccurred())
	var names []string
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 2 && strings.HasPrefix(f[1], "/") {
			names = append(names, f[0])
		}
	}
	return names
}

// machine is the name of the machine at libvirt.
func (b testBox) machine() string { return os.Getenv("LEAKLAB_VM_PREFIX") + "leaklab-" + b.folder }

func (b testBox) expectNothing() {
	GinkgoHelper()
	Expect(b.run("status", "--machine-readable")).To(ContainSubstring(",state,not_created"))
	Expect(b.volumes()).NotTo(ContainElement(ContainSubstring(b.machine())))
}

// unitGrowth is what has grown between the two lines of leaklab-unit in a text.
func unitGrowth(text string) (fds, goroutines int) {
	GinkgoHelper()
	found := regexp.MustCompile(`fds=(\d+) goroutines=(\d+)`).FindAllStringSubmatch(text, -1)
	Expect(found).To(HaveLen(2), text)
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		Expect(err).NotTo(HaveOccurred())
		return n
	}
	return number(found[1][1]) - number(found[0][1]), number(found[1][2]) - number(found[0][2])
}

var _ = Describe("a Vagrant box", Serial, Label("vagrant"), func() {
	It("goes up, runs arms, and is destroyed", func() {
		b := newTestBox()
		inBox := []string{"--machine", "vagrant", "--box", "debian"}

		// Not the upgrade: its storm of answered calls is too much for an emulated
		// processor within the arm's bound.
		By("a leak and a mitigation, from nothing")
		code, result := runJSON(append([]string{"ttrpc/unix-v1.0.1", "ttrpc/deadline-v1.0.1", "--trials", "8"}, inBox...)...)
		for i, want := range []arm.Verdict{arm.Leaks, arm.Clean} {
			got := result.Arms[i]
			AddReportEntry(got.Arm, fmt.Sprintf("%.0f s: %s", got.Seconds, got.Reason))
			Expect(got.Machine).To(Equal("vagrant"))
			Expect(got.Verdict).To(Equal(want), got.Reason)
		}
		Expect(code).To(Equal(report.ExitOK))
		Expect(result.Arms[0].Files).NotTo(BeEmpty(), "the evidence came along")
		Expect(b.run("status", "--machine-readable")).To(ContainSubstring(",state,running"), "it stays up")

		By("the machine lost in the middle")
		session, err := gexec.Start(exec.Command(leaklab, append([]string{"run", "ttrpc/unix-v1.1.0", "--trials", "500",
			"--out", filepath.Join(b.dir, "lost")}, inBox...)...), GinkgoWriter, GinkgoWriter)
		Expect(err).NotTo(HaveOccurred())
		Eventually(func() string { return b.run("ssh", "-c", "pgrep -f 'leakla[b] agent' || true") }, 2*time.Minute).Should(MatchRegexp(`\d`))
		out, err := exec.Command("virsh", "--connect", "qemu:///system", "destroy", b.machine()).CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), "%s", out)
		Eventually(session, 3*time.Minute).Should(gexec.Exit(report.ExitDiffers))
		Expect(session.Err).To(gbytes.Say("the connection to the box debian was lost"))

		By("up again, run and destroyed by one command")
		code, result = runJSON(append([]string{"ttrpc/unix-v1.0.1", "--trials", "2", "--destroy"}, inBox...)...)
		Expect(result.Arms[0].Verdict).To(Equal(arm.Leaks), result.Arms[0].Reason)
		Expect(code).To(Equal(report.ExitOK))
		b.expectNothing()
	})

	It("runs an engine", func() {
		newTestBox()
		code, result := runJSON("dockerstats/leak", "--machine", "vagrant", "--box", "debian", "--destroy",
			"--rounds", "4", "--ops", "25", "--timeout", "20m")
		got := result.Arms[0]
		AddReportEntry(got.Arm, fmt.Sprintf("%.0f s: %s", got.Seconds, got.Reason))
		Expect(got.Verdict).To(Equal(arm.Leaks), got.Reason)
		Expect(code).To(Equal(report.ExitOK))
	})

	It("shows the leak of stats calls by systemd's own MountFlags, and its end without", func() {
		b := newTestBox()
		b.run("up")
		folder := filepath.Join(b.dir, "engine")
		for _, ref := range []string{"dockerd@1.13.1", "workload@1"} {
			code, out, _ := run("runtimes", "build", ref)
			Expect(code).To(Equal(report.ExitOK))
			Expect(os.CopyFS(folder, os.DirFS(strings.Fields(out)[2]))).To(Succeed())
		}
		script, err := os.ReadFile(filepath.Join(b.vagrant, "provision", "own-dockerd.sh"))
		Expect(err).NotTo(HaveOccurred())
		_, tool, _ := strings.Cut(string(script), "<<'TOOL'; then\n")
		tool, _, _ = strings.Cut(tool, "TOOL\n")
		Expect(os.WriteFile(filepath.Join(folder, "leaklab-unit"), []byte(tool), 0o755)).To(Succeed())
		b.run("upload", folder, "/tmp/engine")
		unit, err := filepath.Abs("testdata/unit.sh")
		Expect(err).NotTo(HaveOccurred())
		b.run("upload", unit, "/tmp/unit.sh")
		out := b.run("ssh", "-c", "chmod -R 755 /tmp/engine && sudo bash /tmp/unit.sh /tmp/engine")
		AddReportEntry("measured", out)
		slave, none, ok := strings.Cut(out, "setting none")
		Expect(ok).To(BeTrue())
		Expect(slave).To(And(ContainSubstring("MountFlags=slave "), ContainSubstring("answered 0")))
		fds, goroutines := unitGrowth(slave)
		Expect(fds).To(Equal(20), "one descriptor per call")
		Expect(goroutines).To(Equal(60), "three goroutines per call")
		Expect(none).To(And(ContainSubstring("MountFlags= "), ContainSubstring("answered 20")))
		fds, goroutines = unitGrowth(none)
		Expect(fds).To(BeNumerically("<", 10))
		Expect(goroutines).To(BeNumerically("<", 20), "at most what serves connections that are closing")
	})

	It("goes up with plain vagrant and runs leaklab by itself", func() {
		b := newTestBox()
		code, _, _ := run("runtimes", "build", "ttrpc-pair@v1.1.0")
		Expect(code).To(Equal(report.ExitOK))
		GinkgoT().Setenv("LEAKLAB_BIN", leaklab)
		b.run("up")
		out := b.run("ssh", "-c", "sudo leaklab run ttrpc/sndbuf-v1.1.0 --trials 8 --out /tmp/out || true")
		// Every storm is answered on a quiet machine only; that none deadlocks is
		// what counts here.
		Expect(out).To(MatchRegexp(`sndbuf-v1\.1\.0 +deadlock +never +0 of 8 +clean`))
		b.run("destroy", "--force")
		b.expectNothing()
	})

	It("holds downloads to their checksums", func() {
		b := newTestBox()
		first := archive("bin/containerd", "#!/bin/sh\necho containerd x v1.5.1 y\n")
		var served atomic.Value
		served.Store(first)
		url := serve("/containerd.tar.gz", &served)
		b = b.withDownload("ttrpc", "containerd", url)
		args := []string{"ttrpc/unix-v1.0.1", "--trials", "2", "--machine", "vagrant", "--destroy"}

		By("recording the checksum of the first download")
		code, result := runJSON(args...)
		Expect(code).To(Equal(report.ExitOK), "%v", result.Arms)
		Expect(result.Arms[0].Notes).To(ContainElement("in the Vagrant box ttrpc"), "the arm's own box, without asking")
		lock, err := os.ReadFile(filepath.Join(b.vagrant, "versions.lock"))
		Expect(err).NotTo(HaveOccurred())
		Expect(string(lock)).To(ContainSubstring(fmt.Sprintf("%x %s\n", sha256.Sum256(first), url)))

		By("refusing another one")
		served.Store(archive("bin/containerd", "#!/bin/sh\necho something else\n"))
		code, result = runJSON(args...)
		Expect(code).To(Equal(report.ExitDiffers))
		Expect(result.Arms[0].Reason).To(ContainSubstring("vagrant up: checksum mismatch of " + url))
		b.expectNothing()
	})

	It("says so when it cannot go up, and leaves nothing", func() {
		b := newTestBox()
		GinkgoT().Setenv("LEAKLAB_BOX", "leaklab/no-such-box")
		GinkgoT().Setenv("VAGRANT_SERVER_URL", "http://127.0.0.1:1")
		code, result := runJSON("ttrpc/unix-v1.0.1", "--machine", "vagrant", "--box", "debian")
		Expect(code).NotTo(Equal(report.ExitOK))
		Expect(result.Arms[0].Reason).To(ContainSubstring("the box is not here and cannot be fetched"))
		b.expectNothing()
	})
})
