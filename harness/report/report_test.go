package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	. "github.com/onsi/gomega"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/verdict"
)

// results is a run with an arm of each ending.
func results() Run {
	judged := func(name string, kind arm.Kind, step float64, points int) Arm {
		a := arm.Arm{Kind: kind, Counters: []arm.Counter{{Name: "n", Unit: "goroutines", Documented: 1, Decides: true}}}
		res := Arm{Scenario: "s", Arm: name, Kind: kind, Seconds: 1.5}
		for i := range points {
			res.Samples = append(res.Samples, arm.Sample{Phase: arm.PhaseRound, Round: i, Ops: 10 * i, Counters: map[string]float64{"n": step * float64(10*i)}})
		}
		res.SetVerdict(verdict.Judge(a, res.Samples, nil))
		return res
	}
	return Run{Schema: Schema, Arms: []Arm{
		judged("leak", arm.Leak, 1, 5),
		judged("cure", arm.Mitigation, 0, 5),
		judged("broken-cure", arm.Mitigation, 1, 5),
		judged("short", arm.Leak, 1, 2),
		{Scenario: "t", Arm: "elsewhere", Kind: arm.Leak, Verdict: arm.NotRun, OK: true, Reason: "needs root"},
	}}
}

func TestExitCodes(t *testing.T) {
	g := NewWithT(t)
	arms := results().Arms
	g.Expect(Run{Arms: arms[:2]}.ExitCode()).To(Equal(ExitOK))
	g.Expect(Run{Arms: arms}.ExitCode()).To(Equal(ExitDiffers))
	g.Expect(Run{Arms: append(arms[:2:2], arms[4])}.ExitCode()).To(Equal(ExitOK), "what could not run counts neither way")
	g.Expect(Run{Arms: arms[4:]}.ExitCode()).To(Equal(ExitCannot))
	g.Expect(Run{}.ExitCode()).To(Equal(ExitCannot))
}

func TestTable(t *testing.T) {
	g := NewWithT(t)
	var b bytes.Buffer
	g.Expect(results().Table(&b, Plain)).To(Succeed())
	text := b.String()
	g.Expect(text).To(ContainSubstring("✗ s/broken-cure: n: 1 per operation, expected 0"))
	g.Expect(text).To(ContainSubstring("– t/elsewhere: needs root"))
	g.Expect(text).To(ContainSubstring("2 arms as expected, 2 not, 1 not run"))
	g.Expect(text).NotTo(ContainSubstring("\x1b"))
}

func TestTableFitsATerminal(t *testing.T) {
	g := NewWithT(t)
	r := results()
	for i := range r.Arms {
		a := &r.Arms[i]
		a.Arm = "an-arm-with-a-rather-long-name-" + a.Arm
		a.Reason = strings.Repeat("a long reason ", 20)
		lo, hi := 0.9995, 1000.5
		a.Counters = append(a.Counters, a.Counters...)
		for j := range a.Counters {
			a.Counters[j].Name = strings.Repeat("long ", 10) + strconv.Itoa(j)
			a.Counters[j].Lo, a.Counters[j].Hi = &lo, &hi
		}
		if a.Verdict != arm.NotRun {
			a.Verdict = arm.Inconclusive
		}
	}
	var b bytes.Buffer
	g.Expect(r.Table(&b, Plain)).To(Succeed())
	for line := range strings.Lines(b.String()) {
		g.Expect(utf8.RuneCountInString(strings.TrimRight(line, "\n"))).To(BeNumerically("<=", tableWidth), line)
	}
}

func TestFiles(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	g.Expect(OpenFolder(dir)).To(Succeed())
	g.Expect(results().Write(dir)).To(Succeed())
	files, err := os.ReadDir(dir)
	g.Expect(err).NotTo(HaveOccurred())
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
	}
	g.Expect(names).To(ConsistOf("result.json", "junit.xml", "samples.csv", "metrics.txt", "report.txt", "report.html"))

	text, err := os.ReadFile(filepath.Join(dir, "result.json"))
	g.Expect(err).NotTo(HaveOccurred())
	var back Run
	g.Expect(json.Unmarshal(text, &back)).To(Succeed())
	g.Expect(back.Arms).To(HaveLen(5))
	g.Expect(*back.Arms[0].Counters[0].Slope).To(Equal(1.0))
	g.Expect(back.Arms[3].Counters[0].Lo).To(BeNil(), "a bound that does not exist is null")

	xmlText, err := os.ReadFile(filepath.Join(dir, "junit.xml"))
	g.Expect(err).NotTo(HaveOccurred())
	var suites struct {
		Suites []struct {
			Name  string `xml:"name,attr"`
			Cases []struct {
				Failure *struct{} `xml:"failure"`
				Skipped *struct{} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	g.Expect(xml.Unmarshal(xmlText, &suites)).To(Succeed())
	g.Expect(suites.Suites).To(HaveLen(2))
	g.Expect(suites.Suites[0].Cases[2].Failure).NotTo(BeNil())
	g.Expect(suites.Suites[1].Cases[0].Skipped).NotTo(BeNil())

	csvText, err := os.ReadFile(filepath.Join(dir, "samples.csv"))
	g.Expect(err).NotTo(HaveOccurred())
	rows, err := csv.NewReader(bytes.NewReader(csvText)).ReadAll()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(rows).To(HaveLen(1 + 5 + 5 + 5 + 2))
}

func TestAFolderThatCannotBeMade(t *testing.T) {
	g := NewWithT(t)
	file := filepath.Join(t.TempDir(), "file")
	g.Expect(os.WriteFile(file, nil, 0o644)).To(Succeed())
	err := OpenFolder(filepath.Join(file, "out"))
	g.Expect(err).To(MatchError(ContainSubstring("--out")))
	g.Expect(strings.Count(err.Error(), "\n")).To(BeZero())
}
