package runner

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/plan"
	"github.com/leaklab/leaklab/harness/report"
	"github.com/leaklab/leaklab/harness/runtimes"
)

// play is a machine whose agent tells what it is given.
type play struct {
	events []arm.Event
	err    error
	jobs   *[]arm.Job
}

func (play) Name() string        { return "play" }
func (play) Lacks(arm.Arm) error { return nil }
func (p play) Run(_ context.Context, _ arm.Arm, job arm.Job, emit func(arm.Event)) error {
	*p.jobs = append(*p.jobs, job)
	for _, e := range p.events {
		emit(e)
	}
	return p.err
}

type tool struct{ err error }

func (tool) Describe(context.Context) (runtimes.Description, error) {
	return runtimes.Description{Kind: "tool"}, nil
}
func (s tool) Make(_ context.Context, w *runtimes.Work) error {
	if s.err != nil {
		return s.err
	}
	return os.WriteFile(filepath.Join(w.Bin, "tool"), []byte("x"), 0o755)
}

type nobody struct{}

func (nobody) Preparing(string)            {}
func (nobody) Started(plan.Step, int, int) {}
func (nobody) Progress(plan.Step, string)  {}
func (nobody) Finished(report.Arm)         {}

var leak = arm.Arm{Name: "a", Kind: arm.Leak, Counters: []arm.Counter{{Name: "n", Documented: 1, Decides: true}}}

// leaking is what an agent tells of a leak of one per operation.
func leaking() []arm.Event {
	events := []arm.Event{{Type: arm.EventStarted, Fields: map[string]string{"kernel": "6.18", "cgroup": "v1"}}}
	for i := range 5 {
		events = append(events, arm.Event{Type: arm.EventSample, Sample: &arm.Sample{
			Phase: arm.PhaseRound, Ops: 10 * i, Counters: map[string]float64{"n": float64(10 * i)}}})
	}
	return append(events,
		arm.Event{Type: arm.EventNote, Text: "a note"},
		arm.Event{Type: arm.EventFile, Name: "stacks/all.txt", Data: []byte("stacks")},
		arm.Event{Type: arm.EventDone, Fields: map[string]string{"agent": "0.1"}})
}

func run(t *testing.T, ctx context.Context, p play, source tool) (report.Arm, string, error) {
	t.Helper()
	p.jobs = new([]arm.Job)
	out := t.TempDir()
	r := Runner{Cache: runtimes.Cache{Dir: t.TempDir()}, Out: out, Watcher: nobody{}}
	arms, err := r.Run(ctx, []plan.Step{{
		Scenario: arm.Scenario{Name: "s"}, Arm: leak, Machine: p,
		Recipes: []runtimes.Recipe{{Name: "tool", Version: "v1", Sources: []runtimes.Source{source}}},
	}})
	if err != nil {
		return report.Arm{}, out, err
	}
	return arms[0], out, nil
}

func TestARunIsJudgedAndKept(t *testing.T) {
	g := NewWithT(t)
	a, out, err := run(t, t.Context(), play{events: leaking()}, tool{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(a.Verdict).To(Equal(arm.Leaks))
	g.Expect(a.OK).To(BeTrue())
	g.Expect(a.Kernel).To(Equal("6.18"))
	g.Expect(a.Notes).To(Equal([]string{"a note"}))
	g.Expect(a.CPU).To(HaveKey("agent"))
	g.Expect(a.Runtimes).To(HaveLen(1))
	g.Expect(a.Runtimes[0].Digest).NotTo(BeEmpty())
	g.Expect(a.Files).To(Equal([]string{"s/a/stacks/all.txt"}))
	g.Expect(os.ReadFile(filepath.Join(out, a.Files[0]))).To(BeEquivalentTo("stacks"))
}

func TestAFailureIsNoVerdict(t *testing.T) {
	g := NewWithT(t)
	a, _, err := run(t, t.Context(), play{events: leaking(), err: errors.New("the agent was killed")}, tool{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(a.Verdict).To(Equal(arm.Inconclusive))
	g.Expect(a.OK).To(BeFalse())
	g.Expect(a.Reason).To(Equal("failed: the agent was killed"))
	g.Expect(report.Run{Arms: []report.Arm{a}}.ExitCode()).To(Equal(report.ExitDiffers))
}

func TestARuntimeThatCannotBeMade(t *testing.T) {
	g := NewWithT(t)
	a, _, err := run(t, t.Context(), play{}, tool{err: runtimes.ErrUnavailable})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(a.Verdict).To(Equal(arm.NotRun))
	g.Expect(a.Reason).To(ContainSubstring("making tool@v1"))
	g.Expect(report.Run{Arms: []report.Arm{a}}.ExitCode()).To(Equal(report.ExitCannot))
}

func TestAnInterruptedRun(t *testing.T) {
	g := NewWithT(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a, _, err := run(t, ctx, play{events: leaking()}, tool{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(a.Verdict).To(Equal(arm.NotRun))
	g.Expect(a.Reason).To(Equal("interrupted"))
}

func TestEvidenceStaysInItsFolder(t *testing.T) {
	g := NewWithT(t)
	_, _, err := run(t, t.Context(), play{events: []arm.Event{{Type: arm.EventFile, Name: "../../x", Data: []byte("x")}}}, tool{})
	g.Expect(err).To(MatchError(ContainSubstring("named a file")))
}
