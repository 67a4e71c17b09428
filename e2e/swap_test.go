package e2e

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/report"
)

// The checks can fail: an arm that gets the other version's subject does, with
// a sentence that says what was measured.
var _ = DescribeTable("an arm with the wrong version fails",
	func(name, runtime string, verdict arm.Verdict, says string) {
		code, result := runJSON(name, "--runtime", runtime)
		got := result.Arms[0]
		if got.Verdict == arm.NotRun {
			Skip(got.Reason)
		}
		Expect(code).To(Equal(report.ExitDiffers))
		Expect(got.OK).To(BeFalse())
		Expect(got.Verdict).To(Equal(verdict), got.Reason)
		Expect(got.Reason).To(ContainSubstring(says))
	},
	Entry("a leak arm with the fixed ttrpc", Label("ttrpc"),
		"ttrpc/unix-v1.0.1", "ttrpc-pair@v1.1.0", arm.Clean, "deadlock in 0 of 20 trials, expected in every trial"),
	Entry("a mitigation arm with the leaking ttrpc", Label("ttrpc"),
		"ttrpc/unix-v1.1.0", "ttrpc-pair@v1.0.1", arm.Leaks, "deadlock in 20 of 20 trials, expected in no trial"),
	Entry("a leak arm with the upgraded dockerd", Label("dockerstats"),
		"dockerstats/leak", "dockerd@18.09", arm.Clean, "expected"),
	Entry("a mitigation arm with the old dockerd", Label("dockerstats"),
		"dockerstats/upgrade-18.09", "dockerd@1.13.1", arm.Leaks, "expected"),
	Entry("a leak arm with the fixed containerd", Label("cristats"),
		"cristats/small-1.5.1", "cri-containerd@1.5.1+ttrpc1.1.0", arm.Clean, "expected"),
	Entry("a mitigation arm with the leaking containerd", Label("cristats"),
		"cristats/small-ttrpc-1.1.0-in-containerd", "cri-containerd@1.5.1", arm.Leaks, "expected"),
	Entry("a leak arm with the proposal's dockerd", Label("dockerstop"),
		"dockerstop/wedged-18.09", "dockerd@18.09-kill-timeout", arm.Clean, "goroutines in (*Daemon).Kill: 0 per operation, expected 1"),
	Entry("a mitigation arm with the leaking dockerd", Label("dockerstop"),
		"dockerstop/timeout-18.09", "dockerd@18.09", arm.Leaks, "goroutines in (*Daemon).Kill: 1 per operation, expected 0"),
)
