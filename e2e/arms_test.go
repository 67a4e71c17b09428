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
					code, got := runArm(s.Name, a.Name)
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

// ran are the arms that this process has run, for the specs of claims.
var ran = map[string]armRun{}

type armRun struct {
	code int
	arm  report.Arm
}

// runArm runs an arm by itself, once for all specs of this process.
func runArm(scenario, name string) (code int, got report.Arm) {
	GinkgoHelper()
	name = scenario + "/" + name
	if r, ok := ran[name]; ok {
		return r.code, r.arm
	}
	code, result := runJSON(name)
	Expect(result.Arms).To(HaveLen(1))
	ran[name] = armRun{code, result.Arms[0]}
	return code, result.Arms[0]
}

func sentence(a arm.Arm) string {
	switch a.Kind {
	case arm.Leak:
		return fmt.Sprintf("the leak appears: %s", a.Name)
	case arm.Mitigation:
		return fmt.Sprintf("the mitigation removes it: %s", a.Name)
	}
	return fmt.Sprintf("nothing leaks without the fault: %s", a.Name)
}
