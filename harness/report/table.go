package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/verdict"
)

// Style says where a table is shown.
type Style int

// The styles.
const (
	Plain    Style = iota // a file or a pipe
	Coloured              // a terminal
)

// tableWidth is what a table has to fit in.
const tableWidth = 80

// Table shows the results to people: documented against measured, verdict, and
// the reason wherever something is not as expected.
func (r Run) Table(w io.Writer, style Style) error {
	t := newTable()
	t.AppendHeader(table.Row{"", "arm", "measure", "documented", "measured", "verdict"})
	t.SetColumnConfigs([]table.ColumnConfig{
		{Number: 2, WidthMax: 20, WidthMaxEnforcer: text.WrapText},
		{Number: 3, WidthMax: 16, WidthMaxEnforcer: text.WrapSoft},
		{Number: 4, WidthMax: 10, WidthMaxEnforcer: text.WrapSoft, Align: text.AlignRight, AlignHeader: text.AlignRight},
		{Number: 5, WidthMax: 15, WidthMaxEnforcer: text.WrapSoft},
	})
	for i, a := range r.Arms {
		if i == 0 || r.Arms[i-1].Scenario != a.Scenario {
			t.AppendSeparator()
			t.AppendRow(table.Row{"", a.Scenario})
		}
		for j, m := range a.measures() {
			row := table.Row{"", "", m.what, m.documented, m.measured, ""}
			if j == 0 {
				row[0], row[1], row[5] = a.mark(style), a.Arm, a.Verdict
			}
			t.AppendRow(row)
		}
	}
	if _, err := fmt.Fprintln(w, t.Render()); err != nil {
		return err
	}
	for _, a := range r.Arms {
		if !a.OK || a.Verdict == arm.NotRun {
			why := text.WrapSoft(fmt.Sprintf("%s: %s", a.Name(), a.Reason), tableWidth-2)
			if _, err := fmt.Fprintf(w, "%s %s\n", a.mark(style), strings.ReplaceAll(why, "\n", "\n  ")); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintln(w, r.Summary())
	return err
}

// newTable is a plain table without borders.
func newTable() table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.Style().Options = table.Options{SeparateHeader: true}
	t.Style().Box.PaddingLeft, t.Style().Box.PaddingRight = "", " "
	return t
}

// Line tells one arm in a line.
func (a Arm) Line(style Style) string {
	line := fmt.Sprintf("%s %s %s: %s", a.mark(style), a.Name(), a.Verdict, a.Reason)
	if a.Seconds > 0 {
		line += fmt.Sprintf(" (%.1f s)", a.Seconds)
	}
	return line
}

// Summary counts the arms.
func (r Run) Summary() string {
	ok, differ, not := r.tally()
	s := fmt.Sprintf("%d arms as expected, %d not, %d not run; %.0f s", ok, differ, not, r.Seconds)
	if r.Out != "" {
		s += "; evidence in " + r.Out
	}
	return s
}

func (a Arm) mark(style Style) string {
	mark, colour := "✓", text.FgGreen
	switch {
	case a.Verdict == arm.NotRun:
		mark, colour = "–", text.FgYellow
	case !a.OK:
		mark, colour = "✗", text.FgRed
	}
	if style == Plain {
		return mark
	}
	return colour.Sprint(mark)
}

// measure is a line of an arm in the table.
type measure struct{ what, documented, measured string }

// measures words what is documented and what was measured of all that decides.
func (a Arm) measures() []measure {
	var all []measure
	if a.Verdict == arm.NotRun {
		return []measure{{}}
	}
	for _, o := range a.Outcomes {
		if o.Decides && o.Trials > 0 {
			all = append(all, measure{o.Name, shareWord(o.Expected), fmt.Sprintf("%d of %d", o.Yes, o.Trials)})
		}
	}
	for _, c := range a.Counters {
		if c.Decides && c.Slope != nil {
			what := c.Unit + "/op"
			if slices.ContainsFunc(a.Counters, func(o Counter) bool { return o.Decides && o.Unit == c.Unit && o.Name != c.Name }) {
				what = c.Name
			}
			all = append(all, measure{what, verdict.Number(c.Expected), c.String()})
		}
	}
	if len(all) == 0 {
		return []measure{{}}
	}
	return all
}

func shareWord(s arm.Share) string {
	switch s {
	case arm.Always:
		return "always"
	case arm.Never:
		return "never"
	}
	return "–"
}

// String is the slope with its interval.
func (c Counter) String() string {
	switch {
	case c.Slope == nil:
		return "–"
	case c.Lo == nil || c.Hi == nil:
		return verdict.Number(*c.Slope)
	}
	return verdict.Interval{Estimate: *c.Slope, Lo: *c.Lo, Hi: *c.Hi}.String()
}
