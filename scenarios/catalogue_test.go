package scenarios

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/ledger"
)

// TestClaimsCanBeMeasured: whatever a claim asks for is something that an arm
// of its scenario delivers.
func TestClaimsCanBeMeasured(t *testing.T) {
	for _, s := range All {
		t.Run(s.Name, func(t *testing.T) {
			g := NewWithT(t)
			g.Expect(s.Story).NotTo(BeEmpty())
			seen := map[string]bool{}
			for _, c := range s.Claims {
				g.Expect(c.ID).To(MatchRegexp(`^[SKTM]\d+$`))
				g.Expect(seen[c.ID]).To(BeFalse(), "%s twice", c.ID)
				seen[c.ID] = true
				g.Expect(c.Says).To(HaveSuffix("."), c.ID)
				g.Expect(len(c.Checks) > 0 || c.Missing != "").To(BeTrue(), "%s: neither checks nor what is missing", c.ID)
				checks := slices.Clone(c.Checks)
				if c.Correction != nil {
					checks = append(checks, c.Correction.Checks...)
				}
				for _, check := range checks {
					g.Expect(delivers(s, check)).To(BeTrue(), "%s asks for %+v", c.ID, check)
				}
			}
		})
	}
}

func delivers(s arm.Scenario, c arm.Check) bool {
	i := slices.IndexFunc(s.Arms, func(a arm.Arm) bool { return a.Name == c.Arm })
	if i < 0 {
		return false
	}
	a := s.Arms[i]
	switch {
	case c.Outcome != "":
		return slices.ContainsFunc(a.Outcomes, func(o arm.Outcome) bool { return o.Name == c.Outcome })
	case c.Counter != "":
		return slices.ContainsFunc(a.Counters, func(k arm.Counter) bool { return k.Name == c.Counter }) && c.Lo < c.Hi
	}
	return c.Verdict != ""
}

// row is a line of the claims' table: id, claim, measured, verdict.
var row = regexp.MustCompile(`(?m)^\| ([SKTM]\d+) \| (.*?) \| (.*) \| (.*) \|$`)

// TestReadmeHasTheClaims: the table in the README is generated; here it must
// have every claim of the catalogue, in our words, with a verdict of those
// there are. The figures in it are those of the day it was made.
func TestReadmeHasTheClaims(t *testing.T) {
	g := NewWithT(t)
	readme, err := os.ReadFile("../README.md")
	g.Expect(err).NotTo(HaveOccurred())
	_, rest, found := strings.Cut(string(readme), "<!-- claims: made by leaklab claims --markdown -->\n")
	g.Expect(found).To(BeTrue(), "the README has no marker for the claims")
	table, _, found := strings.Cut(rest, "<!-- claims end -->")
	g.Expect(found).To(BeTrue())
	rows := row.FindAllStringSubmatch(table, -1)
	claims := ledger.Judge(All, nil)
	const again = "make it again: leaklab claims --markdown"
	g.Expect(rows).To(HaveLen(len(claims)), again)
	verdicts := []arm.ClaimVerdict{arm.Confirmed, arm.Refined, arm.Refuted, arm.Undecided, arm.NotHere}
	for i, c := range claims {
		g.Expect(rows[i][1]).To(Equal(c.ID), again)
		g.Expect(rows[i][2]).To(HavePrefix(c.Says), again)
		g.Expect(verdicts).To(ContainElement(arm.ClaimVerdict(rows[i][4])), again)
	}
}
