package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/verdict"
)

//go:embed compare.html.tmpl
var compareText string

// Comparison sets two results side by side, arm by arm.
type Comparison struct {
	A, B  Run
	Style template.CSS
	Rows  []CompareRow
	// Changed is the number of rows whose intervals do not overlap.
	Changed int
	// OnlyA and OnlyB are arms without a counterpart.
	OnlyA, OnlyB []string
	Facts        []CompareFact
}

// CompareRow is one deciding measure in both results.
type CompareRow struct {
	Arm, Measure string
	A, B         string
	// VerdictA and VerdictB are the arms'.
	VerdictA, VerdictB arm.Verdict
	// Change says what became of it: "gone", "less", "new", "more", "same", or
	// that the intervals overlap and do not tell.
	Change string
}

// Summary says how much has changed.
func (c Comparison) Summary() string {
	return fmt.Sprintf("%d of %d measures changed", c.Changed, len(c.Rows))
}

// weight orders changes: what has changed, what may have, what has not.
func weight(change string) int {
	switch change {
	case same, notRun:
		return 2
	case overlap:
		return 1
	}
	return 0
}

// What a change is called where nothing can be said to have changed.
const (
	same    = "same"
	overlap = "intervals overlap"
	notRun  = "not run"
)

// CompareFact is something about the machines or subjects that differs.
type CompareFact struct{ Name, A, B string }

// Compare sets b beside a. Arms are matched by name; where each result has one
// arm only, these two are compared whatever they are called.
func Compare(a, b Run) Comparison {
	c := Comparison{A: a, B: b, Style: template.CSS(pageStyle)}
	matched := map[string]bool{}
	for _, x := range a.Arms {
		i := slices.IndexFunc(b.Arms, func(y Arm) bool { return counterparts(a, b, x, y) })
		if i < 0 {
			c.OnlyA = append(c.OnlyA, x.Name())
			continue
		}
		matched[b.Arms[i].Name()] = true
		c.Rows = append(c.Rows, compareArms(x, b.Arms[i])...)
	}
	for _, y := range b.Arms {
		if !matched[y.Name()] {
			c.OnlyB = append(c.OnlyB, y.Name())
		}
	}
	c.Facts = compareFacts(a, b)
	// What has changed comes first.
	slices.SortStableFunc(c.Rows, func(a, b CompareRow) int {
		return weight(a.Change) - weight(b.Change)
	})
	for _, r := range c.Rows {
		if weight(r.Change) == 0 {
			c.Changed++
		}
	}
	return c
}

// counterparts reports whether two arms are to be compared.
func counterparts(a, b Run, x, y Arm) bool {
	return x.Name() == y.Name() || len(a.Arms) == 1 && len(b.Arms) == 1
}

func compareArms(x, y Arm) []CompareRow {
	name := x.Name()
	if x.Name() != y.Name() {
		name += " → " + y.Name()
	}
	row := func(measure, a, b, change string) CompareRow {
		return CompareRow{name, measure, a, b, x.Verdict, y.Verdict, change}
	}
	if x.Verdict == arm.NotRun || y.Verdict == arm.NotRun {
		return []CompareRow{row("verdict", string(x.Verdict), string(y.Verdict), notRun)}
	}
	var rows []CompareRow
	for _, p := range x.Outcomes {
		for _, q := range y.Outcomes {
			if p.Name == q.Name && (p.Decides || q.Decides) {
				rows = append(rows, row(p.Name, outcomeFigure(p), outcomeFigure(q), change(
					verdict.Interval{Estimate: float64(p.Yes), Lo: p.Lo, Hi: p.Hi}, verdict.Interval{Estimate: float64(q.Yes), Lo: q.Lo, Hi: q.Hi})))
			}
		}
	}
	for _, p := range x.Counters {
		for _, q := range y.Counters {
			if p.Name == q.Name && (p.Decides || q.Decides) {
				rows = append(rows, row(p.Name, p.String(), q.String(), change(p.interval(), q.interval())))
			}
		}
	}
	return rows
}

func outcomeFigure(o Outcome) string {
	return fmt.Sprintf("%d of %d [%.2f, %.2f]", o.Yes, o.Trials, o.Lo, o.Hi)
}

// interval is the slope's; where a bound is missing it tells nothing.
func (c Counter) interval() verdict.Interval {
	if c.Slope == nil || c.Lo == nil || c.Hi == nil {
		return verdict.Slope(nil, nil)
	}
	return verdict.Interval{Estimate: *c.Slope, Lo: *c.Lo, Hi: *c.Hi}
}

func change(a, b verdict.Interval) string {
	switch {
	case a == b:
		return same
	case b.Hi < a.Lo && b.Estimate == 0:
		return "gone"
	case b.Hi < a.Lo:
		return "less"
	case b.Lo > a.Hi && a.Estimate == 0:
		return "new"
	case b.Lo > a.Hi:
		return "more"
	}
	return overlap
}

// compareFacts lists what of host and subjects is not the same.
func compareFacts(a, b Run) []CompareFact {
	var facts []CompareFact
	for _, name := range HostFactNames {
		if a.Host[name] != b.Host[name] {
			facts = append(facts, CompareFact{name, a.Host[name], b.Host[name]})
		}
	}
	add := func(name, x, y string) {
		if f := (CompareFact{name, x, y}); x != y && !slices.Contains(facts, f) {
			facts = append(facts, f)
		}
	}
	for _, x := range a.Arms {
		for _, y := range b.Arms {
			if counterparts(a, b, x, y) {
				add("subjects", refs(x), refs(y))
				add("machine", x.Machine+" "+x.Kernel, y.Machine+" "+y.Kernel)
			}
		}
	}
	return facts
}

func refs(a Arm) string {
	var all []string
	for _, r := range a.Runtimes {
		all = append(all, r.Name+"@"+r.Version)
	}
	return strings.Join(all, ", ")
}

var compareTemplate = template.Must(template.New("compare").Funcs(template.FuncMap{
	"class": func(v any) string { return strings.ReplaceAll(fmt.Sprint(v), " ", "") },
}).Parse(compareText))

// WriteHTML writes the comparison as one page that needs nothing else.
func (c Comparison) WriteHTML(path string) error {
	var b bytes.Buffer
	if err := compareTemplate.Execute(&b, c); err != nil {
		return err
	}
	return writeWhole(path, func(f *os.File) error { _, err := f.Write(b.Bytes()); return err })
}

// Table shows the comparison in a terminal.
func (c Comparison) Table(w io.Writer) error {
	t := newTable()
	t.AppendHeader(table.Row{"arm", "measure", "first", "second", "change"})
	t.SetColumnConfigs([]table.ColumnConfig{
		{Number: 1, WidthMax: 20, WidthMaxEnforcer: text.WrapText},
		{Number: 2, WidthMax: 18, WidthMaxEnforcer: text.WrapSoft},
		{Number: 3, WidthMax: 15, WidthMaxEnforcer: text.WrapSoft},
		{Number: 4, WidthMax: 15, WidthMaxEnforcer: text.WrapSoft},
	})
	for i, r := range c.Rows {
		name := r.Arm
		if i > 0 && c.Rows[i-1].Arm == name {
			name = ""
		}
		t.AppendRow(table.Row{name, r.Measure, r.A, r.B, r.Change})
	}
	if _, err := fmt.Fprintln(w, t.Render()); err != nil {
		return err
	}
	for _, f := range c.Facts {
		if _, err := fmt.Fprintf(w, "%s: %s → %s\n", f.Name, f.A, f.B); err != nil {
			return err
		}
	}
	for _, only := range []struct {
		where string
		arms  []string
	}{{"first", c.OnlyA}, {"second", c.OnlyB}} {
		if len(only.arms) > 0 {
			line := fmt.Sprintf("only in the %s: %s", only.where, strings.Join(only.arms, ", "))
			if _, err := fmt.Fprintln(w, text.WrapSoft(line, tableWidth)); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintln(w, c.Summary())
	return err
}
