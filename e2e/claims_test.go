package e2e

import (
	"slices"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/ledger"
	"github.com/leaklab/leaklab/harness/report"
	"github.com/leaklab/leaklab/scenarios"
)

// A spec per claim of the field reports, judged by what the arms that it rests
// on have measured in this run of the suite.
var _ = Describe("claims", func() {
	for _, s := range scenarios.All {
		Describe(s.Name, Label(s.Name), func() {
			for _, c := range s.Claims {
				It(c.ID+": "+c.Says, Label("claim"), func() {
					if len(c.Checks) == 0 {
						Skip(c.Missing)
					}
					var arms []report.Arm
					for _, name := range armsOf(c) {
						_, a := runArm(s.Name, name)
						arms = append(arms, a)
					}
					got := ledger.Judge([]arm.Scenario{{Name: s.Name, Arms: s.Arms, Claims: []arm.Claim{c}}}, []report.Run{{Arms: arms}})[0]
					if got.Verdict == arm.NotHere {
						Skip(got.Missing)
					}
					AddReportEntry(string(got.Verdict), got.Figure)
					Expect(got.Verdict).To(BeElementOf(arm.Confirmed, arm.Refined), got.Figure)
				})
			}
		})
	}
})

// armsOf are the arms that a claim rests on.
func armsOf(c arm.Claim) []string {
	checks := slices.Clone(c.Checks)
	if c.Correction != nil {
		checks = append(checks, c.Correction.Checks...)
	}
	var names []string
	for _, check := range checks {
		if !slices.Contains(names, check.Arm) {
			names = append(names, check.Arm)
		}
	}
	return names
}
