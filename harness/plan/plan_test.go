package plan

import (
	"context"
	"errors"
	"fmt"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/machine"
	"github.com/leaklab/leaklab/harness/runtimes"
)

var catalogue = []arm.Scenario{
	{Name: "stop", Arms: []arm.Arm{
		{Name: "leak-18.09", Kind: arm.Leak, Runtimes: []string{"dockerd@18.09"}, Plan: arm.Plan{Ops: 10, Rounds: 6}},
		{Name: "upgrade", Kind: arm.Mitigation, Runtimes: []string{"dockerd@20.10"}, Needs: []arm.Need{arm.NeedRoot}},
	}},
	{Name: "stats", Arms: []arm.Arm{{Name: "leak-1.13", Kind: arm.Leak, Runtimes: []string{"dockerd@1.13"}}}},
}

var families = runtimes.Families{{Name: "dockerd", Recipe: func(v string) (runtimes.Recipe, error) {
	if v == "bad" {
		return runtimes.Recipe{}, errors.New("no such version form")
	}
	return runtimes.Recipe{Name: "dockerd", Version: v}, nil
}}}

// place is a machine that lacks what it is told to.
type place struct {
	name  string
	lacks arm.Need
}

func (p place) Name() string { return p.name }
func (p place) Lacks(a arm.Arm) error {
	if a.Has(p.lacks) {
		return fmt.Errorf("needs %s", p.lacks)
	}
	return nil
}
func (place) Run(context.Context, arm.Arm, arm.Job, func(arm.Event)) error { return nil }

var places = []machine.Machine{place{"first", arm.NeedRoot}, place{"second", ""}}

func names(steps []Step) (all []string) {
	for _, s := range steps {
		all = append(all, s.Name())
	}
	return all
}

func TestSelection(t *testing.T) {
	for _, c := range []struct {
		patterns, want []string
	}{
		{nil, []string{"stop/leak-18.09", "stop/upgrade", "stats/leak-1.13"}},
		{[]string{"stop"}, []string{"stop/leak-18.09", "stop/upgrade"}},
		{[]string{"stop/upgrade"}, []string{"stop/upgrade"}},
		{[]string{"*/leak-*"}, []string{"stop/leak-18.09", "stats/leak-1.13"}},
		{[]string{"stats", "stop/leak-18.09", "stats/*"}, []string{"stats/leak-1.13", "stop/leak-18.09"}},
	} {
		g := NewWithT(t)
		steps, err := Make(catalogue, families, places, Wishes{Patterns: c.patterns})
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(names(steps)).To(Equal(c.want))
	}
}

func TestWrongUsage(t *testing.T) {
	for _, c := range []struct {
		wishes Wishes
		says   string
	}{
		{Wishes{Patterns: []string{"stopp"}}, `no scenario or arm "stopp"; near are stop`},
		{Wishes{Patterns: []string{"stop/upgrde"}}, "near are stop/upgrade"},
		{Wishes{Patterns: []string{"zzzzzzzz"}}, "leaklab list shows all"},
		{Wishes{Patterns: []string{"stop/[a"}}, "syntax error in pattern"},
		{Wishes{Machine: "moon"}, "no machine \"moon\", there are first, second"},
		{Wishes{Replace: map[string]string{"runc": "1"}}, `no chosen arm uses a runtime "runc"`},
		{Wishes{Replace: map[string]string{"dockerd": "bad"}}, "no such version form"},
	} {
		g := NewWithT(t)
		_, err := Make(catalogue, families, places, c.wishes)
		g.Expect(err).To(MatchError(ErrUsage))
		g.Expect(err).To(MatchError(ContainSubstring(c.says)))
	}
}

func TestReplacementAndPlan(t *testing.T) {
	g := NewWithT(t)
	steps, err := Make(catalogue, families, places, Wishes{
		Patterns: []string{"stop"}, Replace: map[string]string{"dockerd": "23"}, Plan: arm.Plan{Ops: 99, Rounds: 40},
	})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(steps[0].Recipes[0].Ref()).To(Equal("dockerd@23"))
	g.Expect(steps[0].Plan.Ops).To(Equal(99))
	g.Expect(steps[0].Plan.Rounds).To(Equal(40))
	g.Expect(steps[0].Plan.MaxRounds).To(Equal(40))
	g.Expect(steps[1].Plan.Warmup).To(Equal(arm.DefaultPlan.Warmup))
}

func TestMachineIsTheFirstThatCan(t *testing.T) {
	g := NewWithT(t)
	steps, err := Make(catalogue, families, places, Wishes{Patterns: []string{"stop"}})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(steps[0].Machine.Name()).To(Equal("first"))
	g.Expect(steps[1].Machine.Name()).To(Equal("second"))

	// One that was asked for is never replaced by another.
	steps, err = Make(catalogue, families, places, Wishes{Patterns: []string{"stop"}, Machine: "first"})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(steps[1].Machine).To(BeNil())
	g.Expect(steps[1].Why).To(MatchError("first: needs root"))
}
