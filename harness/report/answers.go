package report

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/verdict"
)

// Answers are what a reader wants to know of a scenario, worked out of its
// arms: does it leak, how fast, where, what cures it, how sure is that.
type Answers struct {
	Leaks, Rate, Where, Cure, Sure string
	// State is the class of the whole: "leaks", "clean", "differs", "notrun".
	State string
}

// Answer works the answers out.
func Answer(arms []Arm, evidence map[string]Evidence) Answers {
	return Answers{
		Leaks: whether(arms), Rate: rates(arms), Where: where(arms, evidence),
		Cure: cures(arms), Sure: certainty(arms), State: state(arms),
	}
}

func pick(arms []Arm, ok func(Arm) bool) []Arm {
	return slices.DeleteFunc(slices.Clone(arms), func(a Arm) bool { return !ok(a) })
}

func ofKind(k arm.Kind) func(Arm) bool {
	return func(a Arm) bool { return a.Kind == k && a.Verdict != arm.NotRun }
}

func ran(a Arm) bool { return a.Verdict != arm.NotRun }

func state(arms []Arm) string {
	done := pick(arms, ran)
	switch {
	case len(done) == 0:
		return "notrun"
	case slices.ContainsFunc(done, func(a Arm) bool { return !a.OK }):
		return "differs"
	case len(pick(done, ofKind(arm.Leak))) > 0:
		return "leaks"
	}
	return "clean"
}

func whether(arms []Arm) string {
	leak := pick(arms, ofKind(arm.Leak))
	if len(leak) == 0 {
		for _, a := range arms {
			if a.Kind == arm.Leak {
				return "Not run here: " + a.Reason
			}
		}
		return "No arm of this run is to show the leak."
	}
	yes := pick(leak, func(a Arm) bool { return a.Verdict == arm.Leaks })
	switch len(yes) {
	case 0:
		return fmt.Sprintf("No, in none of %d arms that are to show it.", len(leak))
	case len(leak):
		if len(leak) == 1 {
			return "Yes, in the one arm that is to show it."
		}
		return fmt.Sprintf("Yes, in all %d arms that are to show it.", len(leak))
	}
	return fmt.Sprintf("In %d of %d arms that are to show it.", len(yes), len(leak))
}

// rates gives, of every deciding measure of the arms that leak, the least and
// the largest.
func rates(arms []Arm) string {
	var words []string
	leak := pick(arms, func(a Arm) bool { return a.Kind == arm.Leak && a.Verdict == arm.Leaks })
	type span struct {
		lo, hi     float64
		unit, name string
		operation  string
	}
	var spans []span
	for _, a := range leak {
		for _, c := range a.Counters {
			if !c.Decides || c.Slope == nil || c.Expected == 0 {
				continue
			}
			i := slices.IndexFunc(spans, func(s span) bool { return s.name == c.Name && s.operation == a.Operation })
			if i < 0 {
				spans = append(spans, span{*c.Slope, *c.Slope, c.Unit, c.Name, a.Operation})
				continue
			}
			spans[i].lo, spans[i].hi = min(spans[i].lo, *c.Slope), max(spans[i].hi, *c.Slope)
		}
	}
	for i, s := range spans {
		if slices.ContainsFunc(spans[:i], func(o span) bool { return o.operation == s.operation }) {
			continue
		}
		var figures []string
		for _, o := range spans {
			if o.operation == s.operation {
				figures = append(figures, amount(o.lo, o.hi, o.unit, o.name))
			}
		}
		words = append(words, fmt.Sprintf("per %s %s", strings.TrimPrefix(s.operation, "one "), strings.Join(figures, ", ")))
	}
	yes, trials := map[string]int{}, map[string]int{}
	var names []string
	for _, a := range leak {
		for _, o := range a.Outcomes {
			if o.Decides {
				if trials[o.Name] == 0 {
					names = append(names, o.Name)
				}
				yes[o.Name] += o.Yes
				trials[o.Name] += o.Trials
			}
		}
	}
	for _, n := range names {
		words = append(words, fmt.Sprintf("%s in %d of %d trials", n, yes[n], trials[n]))
	}
	if len(words) == 0 {
		return "–"
	}
	return capital(strings.Join(words, "; "))
}

// amount words a range of slopes: "1 goroutine in dispatch".
func amount(lo, hi float64, unit, name string) string {
	figure := verdict.Number(lo)
	if high := verdict.Number(hi); high != figure {
		figure += " to " + high
	}
	if !strings.Contains(name, unit) {
		name = fmt.Sprintf("%s (%s)", unit, name)
	}
	if figure == "1" {
		name = strings.Replace(name, unit, strings.TrimSuffix(unit, "s"), 1)
	}
	return figure + " " + name
}

func capital(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(first)) + s[size:]
}

// where names the documented place that holds most.
func where(arms []Arm, evidence map[string]Evidence) string {
	for _, a := range pick(arms, ofKind(arm.Leak)) {
		ev := evidence[a.Name()]
		for _, f := range slices.Concat(ev.Growth, ev.Stacks) {
			for _, g := range f.Stacks {
				if !g.Documented {
					continue
				}
				for _, l := range g.Lines {
					if l.Documented {
						return fmt.Sprintf("%s goroutines at %s (%s, arm %s)", verdict.Number(float64(g.Count)), l.Text, f.Title, a.Arm)
					}
				}
			}
		}
		for _, h := range ev.Heap {
			if len(h.Sites) > 0 {
				return fmt.Sprintf("%s, %d bytes (%s, arm %s)", h.Sites[0].Func, h.Sites[0].Bytes, h.Title, a.Arm)
			}
		}
	}
	var names []string
	for _, a := range pick(arms, ofKind(arm.Leak)) {
		for _, c := range a.Counters {
			if c.Decides && c.Verdict == arm.Leaks && !slices.Contains(names, c.Name) {
				names = append(names, c.Name)
			}
		}
	}
	if len(names) == 0 {
		return "–"
	}
	return strings.Join(names, "; ")
}

func cures(arms []Arm) string {
	all := pick(arms, ofKind(arm.Mitigation))
	var good, unnamed, bad []string
	for _, a := range all {
		switch {
		case a.Verdict != arm.Clean || !a.OK:
			bad = append(bad, fmt.Sprintf("%s (%s)", a.Arm, a.Verdict))
		case a.Cure == "":
			unnamed = append(unnamed, a.Arm)
		case !slices.Contains(good, a.Cure):
			good = append(good, a.Cure)
		}
	}
	if len(unnamed) > 0 {
		good = append(good, "what is done in "+strings.Join(unnamed, ", "))
	}
	words := capital(strings.Join(good, "; "))
	switch {
	case len(all) == 0:
		return "No mitigation was run."
	case len(good) == 0:
		return "Nothing that was tried: " + strings.Join(bad, ", ")
	case len(bad) > 0:
		words += "; but not " + strings.Join(bad, ", ")
	}
	return words
}

// certainty says how much lies behind the verdicts.
func certainty(arms []Arm) string {
	done := pick(arms, ran)
	if len(done) == 0 {
		return "–"
	}
	ok := len(pick(done, func(a Arm) bool { return a.OK }))
	controls := pick(done, ofKind(arm.Control))
	clean := len(pick(controls, func(a Arm) bool { return a.Verdict == arm.Clean }))
	samples, operations, trials := 0, 0, 0
	for _, a := range done {
		for _, s := range a.Samples {
			if s.Phase == arm.PhaseRound {
				samples++
			}
		}
		if n := len(a.Samples); n > 0 {
			most := 0
			for _, s := range a.Samples {
				most = max(most, s.Ops)
			}
			operations += most
		}
		for _, o := range a.Outcomes {
			if o.Decides {
				trials += o.Trials
			}
		}
	}
	words := fmt.Sprintf("%d of %d arms as expected", ok, len(done))
	if len(controls) > 0 {
		words += fmt.Sprintf(", %d of %d controls clean", clean, len(controls))
	}
	words += fmt.Sprintf("; 95 %% intervals from %d settled samples over %d operations", samples, operations)
	if trials > 0 {
		words += fmt.Sprintf(" and from %d trials", trials)
	}
	return words
}
