package e2e

import (
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/report"
	"github.com/leaklab/leaklab/scenarios"
)

// A spec per arm, from the catalogue: adding an arm adds its spec.
var _ = Describe("arms", func() {
	for _, s := range scenarios.All {
		Describe(s.Name, Label(s.Name), func() {
			for _, a := range s.Arms {
				It(sentence(a), Label(string(a.Kind)), func() {
					code, result := runJSON(s.Name + "/" + a.Name)
					Expect(result.Arms).To(HaveLen(1))
					got := result.Arms[0]
					if got.Verdict == arm.NotRun {
						Expect(code).To(Equal(report.ExitCannot))
						Skip(got.Reason)
					}
					AddReportEntry("measured", got.Reason)
					Expect(got.Verdict).To(Equal(a.Expect()), got.Reason)
					Expect(got.OK).To(BeTrue(), got.Reason)
					Expect(code).To(Equal(report.ExitOK))
				})
			}
		})
	}
})

func sentence(a arm.Arm) string {
	switch a.Kind {
	case arm.Leak:
		return fmt.Sprintf("the leak appears: %s", a.Name)
	case arm.Mitigation:
		return fmt.Sprintf("the mitigation removes it: %s", a.Name)
	}
	return fmt.Sprintf("nothing leaks without the fault: %s", a.Name)
}
