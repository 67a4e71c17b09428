// Package e2e runs every arm of the catalogue through the real command, as a
// user would, and has Ginkgo assert that the leak appears and that the
// mitigation removes it. See "make e2e"; "go test ./e2e" and "ginkgo ./e2e"
// work too, and --label-filter picks scenarios, kinds and machines.
package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gexec"

	"github.com/leaklab/leaklab/harness/report"
)

func TestE2E(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "leaklab")
}

// leaklab is the binary under test; shared is a folder that all processes of
// the suite have in common.
var leaklab, shared string

// One process builds it, unless LEAKLAB_BIN names one that is built.
var _ = SynchronizedBeforeSuite(func() []byte {
	path := os.Getenv("LEAKLAB_BIN")
	if path == "" {
		var err error
		path, err = gexec.BuildWithEnvironment("github.com/leaklab/leaklab/cmd/leaklab", []string{"CGO_ENABLED=0"})
		Expect(err).NotTo(HaveOccurred())
	}
	dir, err := os.MkdirTemp("", "leaklab-e2e-")
	Expect(err).NotTo(HaveOccurred())
	return []byte(path + "\n" + dir)
}, func(both []byte) {
	leaklab, shared, _ = strings.Cut(string(both), "\n")
	SetDefaultEventuallyTimeout(30 * time.Second)
})

var _ = SynchronizedAfterSuite(func() {}, func() {
	gexec.CleanupBuildArtifacts()
	Expect(os.RemoveAll(shared)).To(Succeed())
})

// run runs the command to its end and returns its exit code.
func run(args ...string) (code int, stdout, stderr string) {
	GinkgoHelper()
	session, err := gexec.Start(exec.Command(leaklab, args...), nil, GinkgoWriter)
	Expect(err).NotTo(HaveOccurred())
	Eventually(session, 15*time.Minute).Should(gexec.Exit())
	return session.ExitCode(), string(session.Out.Contents()), string(session.Err.Contents())
}

// runJSON runs arms with --json and reads the result.
func runJSON(args ...string) (code int, result report.Run) {
	GinkgoHelper()
	out := filepath.Join(GinkgoT().TempDir(), "out")
	code, stdout, stderr := run(append([]string{"run", "--json", "--out", out}, args...)...)
	Expect(json.Unmarshal([]byte(stdout), &result)).To(Succeed(), "stdout is one JSON object: %q; stderr: %s", stdout, stderr)
	Expect(filepath.Join(out, "result.json")).To(BeARegularFile())
	return code, result
}
