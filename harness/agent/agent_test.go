package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/leaklab/leaklab/harness/arm"
)

var stones = arm.Counter{Name: "stones", Unit: "stones", Documented: 1, Decides: true}

// counting is an arm whose counter grows by step per operation.
func counting(step float64) arm.Arm {
	return arm.Arm{Name: "a", Kind: arm.Leak, Counters: []arm.Counter{stones}, Run: func(ctx context.Context, lab arm.Lab) error {
		n := 0.0
		return lab.Rounds(ctx, arm.Rounds{
			Operate: func(_ context.Context, ops int) error { n += step * float64(ops); return nil },
			Read:    func(context.Context) (map[string]float64, error) { return map[string]float64{stones.Name: n}, nil },
		})
	}}
}

// serve runs one arm and returns what the agent told.
func serve(t *testing.T, a arm.Arm, plan arm.Plan, in func(job []byte) io.Reader) ([]arm.Event, error) {
	t.Helper()
	job, err := json.Marshal(arm.Job{Scenario: "s", Arm: "a", Plan: plan, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = Serve(in(append(job, '\n')), &out, []arm.Scenario{{Name: "s", Arms: []arm.Arm{a}}})
	var events []arm.Event
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		var e arm.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events, err
}

// open is an input that stays open after the job, as a living command's.
func open(t *testing.T) func([]byte) io.Reader {
	r, w := io.Pipe()
	t.Cleanup(func() { w.Close() })
	return func(job []byte) io.Reader { return io.MultiReader(bytes.NewReader(job), r) }
}

func TestRoundsStopOnceDecided(t *testing.T) {
	for step, want := range map[float64]int{1: 5, 0: 5, 0.3: 9} {
		g := NewWithT(t)
		events, err := serve(t, counting(step), arm.Plan{Rounds: 4, MaxRounds: 8, Ops: 10, Warmup: 3}, open(t))
		g.Expect(err).NotTo(HaveOccurred())
		var samples []arm.Sample
		for _, e := range events {
			if e.Sample != nil {
				samples = append(samples, *e.Sample)
			}
		}
		g.Expect(samples).To(HaveLen(want), "slope %v", step)
		g.Expect(samples[0].Ops).To(Equal(0))
		g.Expect(samples[0].Counters["stones"]).To(BeNumerically("~", 3*step), "the warm-up is not counted")
		g.Expect(samples[1].Ops).To(Equal(10))
		g.Expect(events[0].Type).To(Equal(arm.EventStarted))
		g.Expect(events[len(events)-1].Type).To(Equal(arm.EventDone))
	}
}

func TestSettlingWaitsForTheCountersThatDecide(t *testing.T) {
	g := NewWithT(t)
	backlog, reads := 5.0, 0
	a := arm.Arm{Name: "a", Counters: []arm.Counter{stones, {Name: "noise", Unit: "fds"}}}
	a.Run = func(ctx context.Context, lab arm.Lab) error {
		return lab.Rounds(ctx, arm.Rounds{
			Operate: func(context.Context, int) error { backlog = 5; return nil },
			Read: func(context.Context) (map[string]float64, error) {
				backlog = max(backlog-1, 0)
				reads++
				return map[string]float64{stones.Name: backlog, "noise": float64(reads)}, nil
			},
			Settle: 5 * time.Second, Every: time.Millisecond, Quiet: 20 * time.Millisecond,
		})
	}
	events, err := serve(t, a, arm.Plan{Rounds: 4, MaxRounds: 4, Ops: 1, Warmup: 1}, open(t))
	g.Expect(err).NotTo(HaveOccurred())
	for _, e := range events {
		if e.Sample != nil {
			g.Expect(e.Sample.Counters["stones"]).To(BeZero())
			g.Expect(e.Sample.Settled).To(BeTrue())
		}
	}
}

func TestSettlingHasABound(t *testing.T) {
	g := NewWithT(t)
	n := 0.0
	a := counting(0)
	a.Run = func(ctx context.Context, lab arm.Lab) error {
		return lab.Rounds(ctx, arm.Rounds{
			Operate: func(context.Context, int) error { return nil },
			Read:    func(context.Context) (map[string]float64, error) { n++; return map[string]float64{"stones": n}, nil },
			Settle:  30 * time.Millisecond, Quiet: time.Second,
		})
	}
	events, err := serve(t, a, arm.Plan{Rounds: 4, MaxRounds: 4, Ops: 1, Warmup: 1}, open(t))
	g.Expect(err).NotTo(HaveOccurred())
	for _, e := range events {
		if e.Sample != nil {
			g.Expect(e.Sample.Settled).To(BeFalse())
		}
	}
}

func TestBadEnds(t *testing.T) {
	waits := func(ctx context.Context, _ arm.Lab) error { <-ctx.Done(); return context.Cause(ctx) }
	for _, c := range []struct {
		name string
		run  func(context.Context, arm.Lab) error
		plan arm.Plan
		in   func([]byte) io.Reader
		says string
	}{
		{"an error", func(context.Context, arm.Lab) error { return errors.New("no luck") }, arm.Plan{}, open(t), "no luck"},
		{"a panic", func(context.Context, arm.Lab) error { panic("oops") }, arm.Plan{}, open(t), "panicked: oops"},
		{"too long", waits, arm.Plan{Timeout: 20 * time.Millisecond}, open(t), "not finished within 20ms"},
		{"the command is gone", waits, arm.Plan{}, func(job []byte) io.Reader { return bytes.NewReader(job) }, "stopped before the end"},
		{"the command says stop", waits, arm.Plan{}, func(job []byte) io.Reader { return io.MultiReader(bytes.NewReader(job), strings.NewReader("stop\n")) }, "stopped before the end"},
		{"no job", waits, arm.Plan{}, func([]byte) io.Reader { return strings.NewReader("") }, "no job came"},
		{"not a job", waits, arm.Plan{}, func([]byte) io.Reader { return strings.NewReader("{]\n") }, "cannot be read"},
		{"an arm it does not know", waits, arm.Plan{}, func([]byte) io.Reader { return strings.NewReader(`{"scenario":"s","arm":"b"}` + "\n") }, "knows no arm s/b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := NewWithT(t)
			events, err := serve(t, arm.Arm{Name: "a", Run: c.run}, c.plan, c.in)
			g.Expect(err).To(MatchError(ContainSubstring(c.says)))
			last := events[len(events)-1]
			g.Expect(last.Type).To(Equal(arm.EventFailed))
			g.Expect(last.Text).To(ContainSubstring(c.says))
		})
	}
}

func TestOperationErrorsEndTheArm(t *testing.T) {
	g := NewWithT(t)
	a := counting(1)
	a.Run = func(ctx context.Context, lab arm.Lab) error {
		return lab.Rounds(ctx, arm.Rounds{
			Operate: func(context.Context, int) error { return errors.New("the engine is gone") },
			Read:    func(context.Context) (map[string]float64, error) { return nil, nil },
		})
	}
	_, err := serve(t, a, arm.Plan{}, open(t))
	g.Expect(err).To(MatchError("warm-up: the engine is gone"))
}
