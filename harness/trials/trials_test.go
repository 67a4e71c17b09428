package trials

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/bisect"
	"github.com/leaklab/leaklab/harness/machine"
	"github.com/leaklab/leaklab/harness/plan"
	"github.com/leaklab/leaklab/harness/report"
	"github.com/leaklab/leaklab/harness/runtimes"
)

// play is a machine on which the versions before v3 of a tool leak, and v5
// fails.
type play struct {
	// whole plays the arm that decides by slopes.
	runs   *int
	failed *int
}

func (play) Name() string        { return "play" }
func (play) Lacks(arm.Arm) error { return nil }
func (p play) Run(_ context.Context, _ arm.Arm, job arm.Job, emit func(arm.Event)) error {
	*p.runs++
	text, err := os.ReadFile(filepath.Join(job.Runtimes["tool"], "tool"))
	if err != nil {
		return err
	}
	if string(text) == "v5" {
		*p.failed++
		return errors.New("unknown flag --storage-driver")
	}
	emit(arm.Event{Type: arm.EventStarted})
	for trial := 1; trial <= job.Plan.Trials; trial++ {
		emit(arm.Event{Type: arm.EventOutcome, Outcome: &arm.OutcomeResult{Name: "deadlock", Trial: trial, Yes: string(text) < "v3"}})
	}
	return nil
}

// tool is a source whose binary holds its version. v4 does not compile.
type tool struct{ version string }

func (s tool) Describe(context.Context) (runtimes.Description, error) {
	return runtimes.Description{Kind: "tool"}, nil
}
func (s tool) Make(_ context.Context, w *runtimes.Work) error {
	if s.version == "v4" {
		return errors.New("go build: exit status 1")
	}
	return os.WriteFile(filepath.Join(w.Bin, "tool"), []byte(s.version), 0o755)
}

type nobody struct{}

func (nobody) Preparing(string)            {}
func (nobody) Started(plan.Step, int, int) {}
func (nobody) Progress(plan.Step, string)  {}
func (nobody) Finished(report.Arm)         {}

// newTester has the versions v1 to v5 of the tool.
func newTester(t *testing.T, dir string) (*Tester, play) {
	p := play{new(int), new(int)}
	tester := &Tester{
		Scenario: arm.Scenario{Name: "s", Arms: []arm.Arm{{
			Name: "a", Kind: arm.Leak, Runtimes: []string{"tool@v1"}, Plan: arm.Plan{Trials: 20},
			Outcomes: []arm.Outcome{{Name: "deadlock", Expect: arm.Always, Decides: true}},
		}}},
		Axis: arm.Axis{Name: "tool", Arm: "a", Subject: func(v string) map[string]string { return map[string]string{"tool": v} }},
		Families: runtimes.Families{{Name: "tool", Recipe: func(v string) (runtimes.Recipe, error) {
			return runtimes.Recipe{Name: "tool", Version: v, Sources: []runtimes.Source{tool{v}}}, nil
		}}},
		Machines: func(context.Context, string, func(string)) ([]machine.Machine, string, error) {
			return []machine.Machine{p}, "", nil
		},
		Cache:   runtimes.Cache{Dir: dir},
		Memory:  Memory{Dir: filepath.Join(dir, "trials")},
		Out:     t.TempDir(),
		Watcher: nobody{},
	}
	t.Cleanup(tester.Close)
	return tester, p
}

func TestABisectionOfRuntimes(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	versions := []string{"v1", "v2", "v3", "v4", "v5", "v6"}
	tester, p := newTester(t, dir)
	r, err := bisect.Run(t.Context(), versions, "v6", "v1", tester, bisect.DefaultSettings, func(bisect.Step) {})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.Sentence()).To(HavePrefix("v3 is the first good version, v2 the last bad one"))
	g.Expect(*p.runs).To(BeNumerically(">", 3))
	g.Expect(tester.Evidence("v2")).NotTo(BeEmpty())

	// Another process: all is remembered.
	tester, p = newTester(t, dir)
	again, err := bisect.Run(t.Context(), versions, "v6", "v1", tester, bisect.DefaultSettings, func(bisect.Step) {})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(*p.runs).To(Equal(*p.failed), "only what failed, which another day may not")
	g.Expect(again.Changes).To(Equal(r.Changes))

	// Forgotten on demand.
	tester, p = newTester(t, dir)
	tester.Again = true
	_, err = bisect.Run(t.Context(), versions, "v6", "v1", tester, bisect.DefaultSettings, func(bisect.Step) {})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(*p.runs).NotTo(BeZero())
}

func TestWhatCannotBeTested(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	tester, p := newTester(t, dir)
	_, err := tester.Test(t.Context(), "v4", 1)
	g.Expect(err).To(MatchError(bisect.ErrCannotTest))
	g.Expect(err).To(MatchError(ContainSubstring("making tool@v4: go build: exit status 1")))
	_, err = tester.Known(t.Context(), "v4")
	g.Expect(err).To(MatchError(ContainSubstring("go build: exit status 1 (found 0s ago)")))

	// An arm that fails twice with a version does not run with it.
	_, err = tester.Test(t.Context(), "v5", 1)
	g.Expect(err).To(MatchError(ContainSubstring("cannot test: failed: unknown flag")))
	g.Expect(*p.failed).To(Equal(2))
}

func TestInterruptedTrialsCountNothing(t *testing.T) {
	g := NewWithT(t)
	tester, _ := newTester(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c, err := tester.Test(ctx, "v1", 5)
	g.Expect(err).To(MatchError(context.Canceled))
	g.Expect(c).To(BeZero())
}

func TestARunHasTheTrialsOfItsArm(t *testing.T) {
	g := NewWithT(t)
	tester, p := newTester(t, t.TempDir())
	c, err := tester.Test(t.Context(), "v1", 50)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(c).To(Equal(bisect.Counts{Bad: 50}))
	g.Expect(*p.runs).To(Equal(3), "50 trials in runs of 20")
}

func TestCount(t *testing.T) {
	trial := func(n int, name string, yes bool) arm.OutcomeResult {
		return arm.OutcomeResult{Name: name, Trial: n, Yes: yes}
	}
	decides := []report.Outcome{{Name: "deadlock", Decides: true}, {Name: "wedged"}}
	wedged := []string{"wedged"}
	for _, c := range []struct {
		name string
		arm  report.Arm
		want bisect.Counts
	}{
		{"a verdict of slopes", report.Arm{Verdict: arm.Leaks}, bisect.Counts{Bad: 1}},
		{"a clean one, the fault was there", report.Arm{Verdict: arm.Clean, Trials: []arm.OutcomeResult{trial(1, "wedged", true)}}, bisect.Counts{Good: 1}},
		{"a clean one, but the fault was not there", report.Arm{Verdict: arm.Clean, Trials: []arm.OutcomeResult{trial(1, "wedged", false)}}, bisect.Counts{Unclear: 1}},
		{"an inconclusive one", report.Arm{Verdict: arm.Inconclusive}, bisect.Counts{Unclear: 1}},
		{"outcomes", report.Arm{Outcomes: decides, Trials: []arm.OutcomeResult{
			trial(1, "deadlock", true), trial(2, "deadlock", false), trial(3, "deadlock", true), trial(3, "wedged", false),
		}}, bisect.Counts{Bad: 1, Good: 1, Unclear: 1}},
	} {
		NewWithT(t).Expect(Count(c.arm, wedged)).To(Equal(c.want), c.name)
	}
}

func TestVersions(t *testing.T) {
	list := arm.Axis{Name: "dockerd", Versions: []string{"1.13.1", "18.09", "20.10.24"}}
	g := NewWithT(t)
	versions, named, _, err := Versions(t.Context(), list, "18.09", "1.13.1")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(versions).To(Equal(list.Versions))
	g.Expect(named).To(Equal([]string{"18.09", "1.13.1"}))
	_, _, _, err = Versions(t.Context(), list, "18.06")
	g.Expect(err).To(MatchError(`axis dockerd has no version "18.06", only 1.13.1, 18.09, 20.10.24`))

	// A module's, without a proxy: what is known, and what is given in its place.
	t.Setenv("GOPROXY", "off")
	module := arm.Axis{Name: "m", Module: "example.com/m", Versions: []string{"v1.9.0", "v1.10.0"}}
	versions, named, note, err := Versions(t.Context(), module, "1.9.0", "v1.9.5-0.20200102030405-0123456789ab")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(versions).To(Equal([]string{"v1.9.0", "v1.9.5-0.20200102030405-0123456789ab", "v1.10.0"}))
	g.Expect(named[0]).To(Equal("v1.9.0"))
	g.Expect(note).To(HavePrefix("only known versions: "))
}

func TestListAxis(t *testing.T) {
	g := NewWithT(t)
	a := arm.Arm{Name: "a", Runtimes: []string{"dockerd@1.13.1", "runc@1"}}
	axis, err := ListAxis(a, []string{"dockerd@1.13.1", "dockerd@deb:x.deb"})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(axis.Subject("dockerd@deb:x.deb")).To(Equal(map[string]string{"dockerd": "deb:x.deb"}))
	_, err = ListAxis(a, []string{"dockerd@1.13.1", "containerd@1"})
	g.Expect(err).To(MatchError(`containerd@1: the arm a has no runtime "containerd", it has dockerd@1.13.1, runc@1`))
	_, err = ListAxis(a, nil)
	g.Expect(err).To(HaveOccurred())
}

func TestAhead(t *testing.T) {
	g := NewWithT(t)
	made := make(chan string, 10)
	a := &ahead{failed: map[string]error{}, make: func(ctx context.Context, v string) error {
		made <- v
		switch v {
		case "broken":
			return errors.New("it does not compile")
		case "slow":
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}}
	a.want(t.Context(), []string{"one", "broken", "slow", "never"})
	for _, want := range []string{"one", "broken", "slow"} {
		g.Eventually(made).Should(Receive(Equal(want)))
	}
	g.Expect(a.yield(t.Context(), "broken")).To(MatchError("it does not compile"))
	g.Expect(a.yield(t.Context(), "slow")).To(Succeed(), "given up, and not failed")
	g.Eventually(made).Should(Receive(Equal("never")))
	a.want(t.Context(), []string{"slow"})
	g.Eventually(made).Should(Receive(Equal("slow")))
	a.stop()
	g.Consistently(made, 50*time.Millisecond).ShouldNot(Receive())
}

func TestDocument(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	d := Document{
		Schema: Schema, Scenario: "s", Axis: "tool", Answer: "v2 <is> the first good version",
		Result: bisect.Result{
			Versions: []string{"v1", "v2", "v3"},
			Steps: []bisect.Step{
				{Version: "v1", Verdict: bisect.Bad, Counts: bisect.Counts{Bad: 20}, Risk: 1e-5},
				{Version: "v2", Verdict: bisect.Good, Counts: bisect.Counts{Good: 12}},
			},
			Changes: []bisect.Change{{Last: "v1", First: "v2", To: bisect.Good}},
		},
		Subjects: map[string]Subject{"v1": {Folder: "v1", Last: "deadlock in 20 of 20 trials"}},
	}
	g.Expect(os.Mkdir(filepath.Join(dir, "v1"), 0o755)).To(Succeed())
	g.Expect(d.Write(dir, func(string) []report.Arm { return nil })).To(Succeed())
	page, err := os.ReadFile(filepath.Join(dir, "bisect.html"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(page)).To(ContainSubstring("v2 &lt;is&gt; the first good version"))
	g.Expect(string(page)).To(ContainSubstring(`<rect class="cell bad"`))
	g.Expect(string(page)).To(ContainSubstring("v3: not tested"))
	g.Expect(filepath.Join(dir, "v1", "result.json")).To(BeARegularFile())
	fragment, err := d.Fragment()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(fragment)).To(HavePrefix(`<section class="bisect">`))
}
