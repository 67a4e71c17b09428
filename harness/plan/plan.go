// Package plan decides what is run: which arms, with which runtimes, on which
// machine, and what cannot run and why.
package plan

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/agext/levenshtein"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/machine"
	"github.com/leaklab/leaklab/harness/runtimes"
)

// ErrUsage marks what the user asked for and cannot have: exit code 2.
var ErrUsage = errors.New("wrong usage")

// Step is one arm to run.
type Step struct {
	Scenario arm.Scenario
	Arm      arm.Arm
	// Plan is the arm's with the user's wishes in it.
	Plan arm.Plan
	// Recipes are the arm's runtimes, after replacements.
	Recipes []runtimes.Recipe
	// Machine is nil when no machine can run it; Why says why.
	Machine machine.Machine
	Why     error
}

// Name is "scenario/arm".
func (s Step) Name() string { return s.Scenario.Name + "/" + s.Arm.Name }

// Wishes are what the user wants different from the catalogue.
type Wishes struct {
	// Patterns select scenarios and arms: "ttrpc", "ttrpc/unix-v1.0.1",
	// "ttrpc/unix-*"; none selects all.
	Patterns []string
	// Plan overrides what it sets.
	Plan arm.Plan
	// Machine is the name of the machine, or empty to choose.
	Machine string
	// Replace maps a runtime's name to the version to use instead.
	Replace map[string]string
}

// Make plans a run. An error wraps [ErrUsage]; an arm that cannot run here is
// no error but a step without a machine.
func Make(all []arm.Scenario, families runtimes.Families, machines []machine.Machine, w Wishes) ([]Step, error) {
	steps, err := selectArms(all, w.Patterns)
	if err != nil {
		return nil, err
	}
	if w.Machine != "" {
		i := slices.IndexFunc(machines, func(m machine.Machine) bool { return m.Name() == w.Machine })
		if i < 0 {
			return nil, fmt.Errorf("%w: no machine %q, there are %s", ErrUsage, w.Machine, strings.Join(machine.Names(machines), ", "))
		}
		machines = machines[i : i+1]
	} else {
		machines = slices.DeleteFunc(slices.Clone(machines), func(m machine.Machine) bool {
			_, onRequest := m.(machine.OnRequest)
			return onRequest
		})
	}
	used := map[string]bool{}
	for i := range steps {
		s := &steps[i]
		s.Plan = w.Plan.Or(s.Arm.Plan).Or(arm.DefaultPlan)
		s.Plan.MaxRounds = max(s.Plan.MaxRounds, s.Plan.Rounds)
		for _, ref := range s.Arm.Runtimes {
			name, version, err := runtimes.SplitRef(ref)
			if err != nil {
				return nil, err
			}
			if v := w.Replace[name]; v != "" {
				version, used[name] = v, true
			}
			r, err := families.Recipe(name + "@" + version)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrUsage, err)
			}
			s.Recipes = append(s.Recipes, r)
		}
		s.Machine, s.Why = choose(machines, s.Arm)
	}
	for name := range w.Replace {
		if !used[name] {
			return nil, fmt.Errorf("%w: no chosen arm uses a runtime %q", ErrUsage, name)
		}
	}
	return steps, nil
}

// choose takes the first machine that can run the arm.
func choose(machines []machine.Machine, a arm.Arm) (machine.Machine, error) {
	var why []error
	for _, m := range machines {
		err := m.Lacks(a)
		if err == nil {
			return m, nil
		}
		why = append(why, fmt.Errorf("%s: %w", m.Name(), err))
	}
	return nil, errors.Join(why...)
}

func selectArms(all []arm.Scenario, patterns []string) ([]Step, error) {
	if len(patterns) == 0 {
		patterns = []string{"*"}
	}
	var steps []Step
	for _, p := range patterns {
		found := false
		for _, s := range all {
			for _, a := range s.Arms {
				step := Step{Scenario: s, Arm: a}
				ok, err := matches(p, step)
				if err != nil {
					return nil, fmt.Errorf("%w: %q: %w", ErrUsage, p, err)
				}
				if !ok {
					continue
				}
				found = true
				if !slices.ContainsFunc(steps, func(o Step) bool { return o.Name() == step.Name() }) {
					steps = append(steps, step)
				}
			}
		}
		if !found {
			return nil, fmt.Errorf("%w: no scenario or arm %q%s", ErrUsage, p, suggest(all, p))
		}
	}
	return steps, nil
}

func matches(pattern string, s Step) (bool, error) {
	if !strings.Contains(pattern, "/") {
		return path.Match(pattern, s.Scenario.Name)
	}
	return path.Match(pattern, s.Name())
}

// suggest words the names nearest to what was asked for.
func suggest(all []arm.Scenario, asked string) string {
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
		for _, a := range s.Arms {
			names = append(names, s.Name+"/"+a.Name)
		}
	}
	near := slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		return levenshtein.Match(asked, n, nil) < 0.6
	})
	slices.SortStableFunc(near, func(a, b string) int {
		return levenshtein.Distance(asked, a, nil) - levenshtein.Distance(asked, b, nil)
	})
	if len(near) == 0 {
		return "; leaklab list shows all"
	}
	return "; near are " + strings.Join(near[:min(len(near), 3)], ", ")
}
