package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
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

// armRun is what came of an arm's run.
type armRun struct {
	Code int
	Arm  report.Arm
}

// runArm runs an arm by itself, once for all specs of all processes of the
// suite: those of claims rest on what those of arms have measured.
func runArm(scenario, name string) (code int, got report.Arm) {
	GinkgoHelper()
	kept := filepath.Join(shared, scenario+"."+name+".json")
	lock := flock.New(kept + ".lock")
	Expect(lock.Lock()).To(Succeed())
	defer lock.Unlock()
	var r armRun
	if text, err := os.ReadFile(kept); err == nil {
		Expect(json.Unmarshal(text, &r)).To(Succeed())
		return r.Code, r.Arm
	}
	code, result := runJSON(scenario + "/" + name)
	Expect(result.Arms).To(HaveLen(1))
	text, err := json.Marshal(armRun{code, result.Arms[0]})
	Expect(err).NotTo(HaveOccurred())
	Expect(os.WriteFile(kept, text, 0o644)).To(Succeed())
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
