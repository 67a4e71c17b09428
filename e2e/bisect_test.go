package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gexec"

	"github.com/leaklab/leaklab/harness/bisect"
	"github.com/leaklab/leaklab/harness/report"
	"github.com/leaklab/leaklab/harness/trials"
)

// bisecting runs leaklab bisect with a memory of trials of its own; the
// runtimes are those of the user's cache.
type bisecting struct{ cache, out string }

func newBisecting() bisecting {
	GinkgoHelper()
	dir := GinkgoT().TempDir()
	b := bisecting{filepath.Join(dir, "cache"), filepath.Join(dir, "out")}
	Expect(os.Mkdir(b.cache, 0o755)).To(Succeed())
	user, err := os.UserCacheDir()
	Expect(err).NotTo(HaveOccurred())
	if from := os.Getenv("LEAKLAB_CACHE"); from != "" {
		user = from
	} else {
		user = filepath.Join(user, "leaklab")
	}
	Expect(os.MkdirAll(filepath.Join(user, "runtimes"), 0o755)).To(Succeed())
	Expect(os.Symlink(filepath.Join(user, "runtimes"), filepath.Join(b.cache, "runtimes"))).To(Succeed())
	return b
}

func (b bisecting) start(args ...string) *gexec.Session {
	GinkgoHelper()
	cmd := exec.Command(leaklab, append([]string{"bisect", "--out", b.out}, args...)...)
	cmd.Env = append(os.Environ(), "LEAKLAB_CACHE="+b.cache)
	session, err := gexec.Start(cmd, GinkgoWriter, GinkgoWriter)
	Expect(err).NotTo(HaveOccurred())
	return session
}

// run bisects to the end.
func (b bisecting) run(args ...string) (code int, doc trials.Document) {
	GinkgoHelper()
	session := b.start(append([]string{"--json"}, args...)...)
	Eventually(session, 20*time.Minute).Should(gexec.Exit())
	Expect(json.Unmarshal(session.Out.Contents(), &doc)).To(Succeed(), "%s%s", session.Out.Contents(), session.Err.Contents())
	for _, file := range []string{"bisect.json", "bisect.html"} {
		Expect(filepath.Join(b.out, file)).To(BeARegularFile())
	}
	return session.ExitCode(), doc
}

// skipWithout skips where the machine cannot test the ends.
func skipWithout(doc trials.Document, code int) {
	if code == report.ExitCannot {
		Skip(doc.Error)
	}
}

var _ = Describe("bisect", Label("bisect"), func() {
	It("ttrpc: 1.1.0 cured the deadlock of 1.0.2, and the second time is instant", Label("ttrpc"), func() {
		b := newBisecting()
		code, doc := b.run("ttrpc", "--axis", "ttrpc", "--bad", "v1.0.1", "--good", "v1.2.10")
		skipWithout(doc, code)
		Expect(code).To(Equal(report.ExitOK), doc.Error)
		AddReportEntry("answer", doc.Answer)
		Expect(doc.Answer).To(HavePrefix("v1.1.0 is the first good version, v1.0.2 the last bad one"))
		Expect(doc.Result.Changes).To(Equal([]bisect.Change{{Last: "v1.0.2", First: "v1.1.0", To: bisect.Good, Between: []string{}}}))
		Expect(doc.Result.Confidence).To(BeNumerically(">=", 0.99))
		for _, side := range []string{"v1.0.2", "v1.1.0"} {
			Expect(doc.Subjects).To(HaveKey(side))
			Expect(doc.Subjects[side].Runtimes[0].Digest).NotTo(BeEmpty())
			Expect(filepath.Join(b.out, doc.Subjects[side].Folder, "result.json")).To(BeARegularFile())
		}

		start := time.Now()
		_, again := b.run("ttrpc", "--axis", "ttrpc", "--bad", "v1.0.1", "--good", "v1.2.10")
		Expect(again.Result.Changes).To(Equal(doc.Result.Changes))
		run, _ := again.Result.Trials()
		Expect(run).To(BeZero())
		Expect(time.Since(start)).To(BeNumerically("<", 10*time.Second))
	})

	It("an interrupted bisection continues", Label("ttrpc"), func() {
		b := newBisecting()
		args := []string{"ttrpc", "--bad", "1.0.1", "--good", "1.1.0"}
		session := b.start(args...)
		// Once the bad end is known.
		Eventually(session.Err, 10*time.Minute).Should(gbytes.Say("v1.0.1 bad"))
		session.Interrupt()
		Eventually(session).Should(gexec.Exit(report.ExitInterrupted))
		code, doc := b.run(args...)
		skipWithout(doc, code)
		Expect(code).To(Equal(report.ExitOK), doc.Error)
		Expect(doc.Answer).To(HavePrefix("v1.1.0 is the first good version"))
		Expect(doc.Result.Steps[0].Remembered).To(Equal(doc.Result.Steps[0].Counts))
	})

	It("ends that are not what they are given as are told", Label("ttrpc"), func() {
		code, doc := newBisecting().run("ttrpc", "--bad", "v1.1.2", "--good", "v1.2.10")
		skipWithout(doc, code)
		Expect(code).To(Equal(report.ExitDiffers))
		Expect(doc.Error).To(HavePrefix("v1.1.2 was given as bad, but is good (bad in 0 of "))
	})

	It("a version that cannot be built is passed by", Label("ttrpc"), func() {
		code, doc := newBisecting().run("ttrpc/unix-v1.0.1", "--axis", "list", "--probes", "0",
			"--versions", "ttrpc-pair@v1.0.1,ttrpc-pair@v1.0.99,ttrpc-pair@v1.1.0",
			"--bad", "ttrpc-pair@v1.0.1", "--good", "ttrpc-pair@v1.1.0")
		skipWithout(doc, code)
		Expect(code).To(Equal(report.ExitOK), doc.Error)
		Expect(doc.Answer).To(HavePrefix("the first good version is one of ttrpc-pair@v1.0.99, ttrpc-pair@v1.1.0"))
		Expect(doc.Result.Of("ttrpc-pair@v1.0.99")).To(Equal(bisect.Untestable))
	})
})

// The exit codes that git bisect run wants, whatever the arm expects.
var _ = DescribeTable("run --git-bisect", Label("bisect", "ttrpc"),
	func(version string, want int) {
		code, _, stderr := run("run", "ttrpc/unix-v1.0.1", "--runtime", "ttrpc-pair@"+version, "--git-bisect", "--out", filepath.Join(GinkgoT().TempDir(), "out"))
		Expect(code).To(Equal(want), strings.TrimSpace(stderr))
	},
	Entry("a leak is bad", "v1.0.2", 1),
	Entry("clean is good", "v1.1.0", 0),
	Entry("what cannot be built is skipped", "v1.0.99", 125),
	Entry("wrong usage stops the bisection", "latest", 128),
)
