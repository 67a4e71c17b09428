package ledger

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	. "github.com/onsi/gomega"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/report"
)

// scenario has an arm that leaks and one that does not, and one claim.
func scenario(c arm.Claim) arm.Scenario {
	c.ID = "T1"
	return arm.Scenario{Name: "s", Report: "r", Claims: []arm.Claim{c}, Arms: []arm.Arm{
		{Name: "leak", Runtimes: []string{"d@1"}}, {Name: "cure"}, {Name: "elsewhere"},
	}}
}

func run(age int, arms ...report.Arm) report.Run {
	return report.Run{Started: time.Unix(int64(1000-age), 0), Arms: arms}
}

func leaking(slope, lo, hi float64) report.Arm {
	return report.Arm{Scenario: "s", Arm: "leak", Verdict: arm.Leaks, Runtimes: []report.Runtime{{Name: "d", Version: "1"}},
		Counters: []report.Counter{{Name: "n", Unit: "fds", Slope: &slope, Lo: &lo, Hi: &hi}},
		Outcomes: []report.Outcome{{Name: "hang", Yes: 9, Trials: 10, Lo: 0.55, Hi: 1}, {Name: "rare", Yes: 4, Trials: 10, Lo: 0.1, Hi: 0.7}, {Name: "none", Trials: 10, Hi: 0.3}}}
}

var (
	clean     = report.Arm{Scenario: "s", Arm: "cure", Verdict: arm.Clean}
	elsewhere = report.Arm{Scenario: "s", Arm: "elsewhere", Verdict: arm.NotRun, Reason: "needs root"}
)

func TestVerdicts(t *testing.T) {
	all := []report.Run{run(0, leaking(1, 0.99, 1.01), clean, elsewhere)}
	holds, fails := arm.PerOperation("leak", "n", 0.9, 1.1), arm.PerOperation("leak", "n", 2, 3)
	for name, tt := range map[string]struct {
		claim arm.Claim
		want  arm.ClaimVerdict
		says  string
	}{
		"a slope inside":          {arm.Claim{Checks: []arm.Check{holds}}, arm.Confirmed, "1 [0.99, 1.01] fds per operation"},
		"a slope outside":         {arm.Claim{Checks: []arm.Check{holds, fails}}, arm.Refuted, "1 [0.99"},
		"a slope across":          {arm.Claim{Checks: []arm.Check{arm.PerOperation("leak", "n", 1, 2)}}, arm.Undecided, "1 [0.99"},
		"an outcome":              {arm.Claim{Checks: []arm.Check{arm.Happens("leak", "hang")}}, arm.Confirmed, "hang: 9 of 10"},
		"an outcome that is not":  {arm.Claim{Checks: []arm.Check{arm.Happens("leak", "none")}}, arm.Refuted, "none: 0 of 10"},
		"an outcome now and then": {arm.Claim{Checks: []arm.Check{arm.Happens("leak", "rare")}}, arm.Undecided, "rare: 4 of 10"},
		"never":                   {arm.Claim{Checks: []arm.Check{arm.NeverHappens("leak", "none")}}, arm.Confirmed, "none: 0 of 10"},
		"never, but once":         {arm.Claim{Checks: []arm.Check{arm.NeverHappens("leak", "rare")}}, arm.Refuted, "rare"},
		"a verdict":               {arm.Claim{Checks: []arm.Check{arm.LeavesNothing("cure")}}, arm.Confirmed, "clean"},
		"another verdict":         {arm.Claim{Checks: []arm.Check{arm.Reads("cure", arm.Leaks)}}, arm.Refuted, "clean"},
		"not run":                 {arm.Claim{Checks: []arm.Check{holds, arm.LeavesNothing("elsewhere")}}, arm.NotHere, "needs root"},
		"no such measure":         {arm.Claim{Checks: []arm.Check{arm.Happens("leak", "nonsense")}}, arm.NotHere, "has not measured"},
		"no checks":               {arm.Claim{Missing: "a bridge"}, arm.NotHere, "a bridge"},
		"a correction":            {arm.Claim{Checks: []arm.Check{holds}, Correction: &arm.Correction{Says: "but", Checks: []arm.Check{arm.LeavesNothing("cure")}}}, arm.Refined, "clean"},
		"no correction needed":    {arm.Claim{Checks: []arm.Check{holds}, Correction: &arm.Correction{Says: "but", Checks: []arm.Check{fails}}}, arm.Confirmed, "1 [0.99"},
		"a correction not run":    {arm.Claim{Checks: []arm.Check{holds}, Correction: &arm.Correction{Says: "but", Checks: []arm.Check{arm.LeavesNothing("elsewhere")}}}, arm.Confirmed, "needs root"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			got := Judge([]arm.Scenario{scenario(tt.claim)}, all)
			g.Expect(got).To(HaveLen(1))
			g.Expect(got[0].Verdict).To(Equal(tt.want), "%+v", got[0])
			g.Expect(got[0].Figure + got[0].Missing).To(ContainSubstring(tt.says))
		})
	}
}

func TestTheNewestResultDecides(t *testing.T) {
	g := NewWithT(t)
	s := scenario(arm.Claim{Checks: []arm.Check{arm.PerOperation("leak", "n", 0.9, 1.1)}})
	verdict := func(runs ...report.Run) arm.ClaimVerdict { return Judge([]arm.Scenario{s}, runs)[0].Verdict }
	old, young := run(10, leaking(1, 1, 1)), run(0, leaking(5, 5, 5))
	g.Expect(verdict(old, young)).To(Equal(arm.Refuted))
	g.Expect(verdict(young, old)).To(Equal(arm.Refuted), "whatever the order")

	other := leaking(5, 5, 5)
	other.Runtimes[0].Version = "2"
	g.Expect(verdict(old, run(0, other))).To(Equal(arm.Confirmed), "another version says nothing about the claim")

	absent := report.Arm{Scenario: "s", Arm: "leak", Verdict: arm.NotRun, Reason: "interrupted"}
	g.Expect(verdict(old, run(0, absent))).To(Equal(arm.Confirmed), "what could not run stands back")

	failed := leaking(5, 5, 5)
	failed.Verdict, failed.Reason = arm.Inconclusive, "failed: the disk is full"
	g.Expect(verdict(run(0, failed))).To(Equal(arm.NotHere))
	g.Expect(verdict(old, run(0, failed))).To(Equal(arm.Confirmed), "what broke off stands back")
	g.Expect(verdict()).To(Equal(arm.NotHere))
}

func TestOrder(t *testing.T) {
	g := NewWithT(t)
	var s arm.Scenario
	for _, id := range []string{"M1", "T10", "T9", "S2", "K11"} {
		s.Claims = append(s.Claims, arm.Claim{ID: id})
	}
	var ids []string
	for _, c := range Judge([]arm.Scenario{s}, nil) {
		ids = append(ids, c.ID)
	}
	g.Expect(ids).To(Equal([]string{"S2", "K11", "T9", "T10", "M1"}))
}

func TestShown(t *testing.T) {
	g := NewWithT(t)
	claims := Judge([]arm.Scenario{scenario(arm.Claim{Says: strings.Repeat("a | long sentence ", 9), Checks: []arm.Check{arm.Happens("leak", "hang")}})},
		[]report.Run{run(0, leaking(1, 1, 1))})
	var b bytes.Buffer
	g.Expect(Table(&b, claims)).To(Succeed())
	for line := range strings.Lines(b.String()) {
		g.Expect(utf8.RuneCountInString(strings.TrimRight(line, "\n"))).To(BeNumerically("<=", 80))
	}
	g.Expect(b.String()).To(ContainSubstring("1 claims, 1 confirmed"))
	g.Expect(Markdown(claims)).To(ContainSubstring(`a \| long`))
}
