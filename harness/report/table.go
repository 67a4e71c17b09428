package report

import (
	"fmt"
	"io"
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

// Table shows the results to people: documented against measured, verdict, and
// the reason wherever something is not as expected.
func (r Run) Table(w io.Writer, style Style) error {
	t := newTable()
	t.AppendHeader(table.Row{"", "arm", "kind", "documented", "measured", "verdict"})
	for i, a := range r.Arms {
		if i == 0 || r.Arms[i-1].Scenario != a.Scenario {
			t.AppendSeparator()
			t.AppendRow(table.Row{"", a.Scenario})
		}
		documented, measured := a.figures()
		t.AppendRow(table.Row{a.mark(style), a.Arm, a.Kind, documented, measured, a.Verdict})
	}
	if _, err := fmt.Fprintln(w, t.Render()); err != nil {
		return err
	}
	for _, a := range r.Arms {
		if !a.OK || a.Verdict == arm.NotRun {
			if _, err := fmt.Fprintf(w, "%s %s: %s\n", a.mark(style), a.Name(), a.Reason); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintln(w, r.Summary())
	return err
}

// newTable is a plain table without borders, narrow enough for a terminal.
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
	ok, differ, not := 0, 0, 0
	for _, a := range r.Arms {
		switch {
		case a.Verdict == arm.NotRun:
			not++
		case a.OK:
			ok++
		default:
			differ++
		}
	}
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

// figures words what is documented and what was measured of all that decides.
func (a Arm) figures() (documented, measured string) {
	var d, m []string
	for _, o := range a.Outcomes {
		if !o.Decides {
			continue
		}
		d = append(d, o.Name+" "+string(o.Expected))
		m = append(m, fmt.Sprintf("%d of %d [%.2f, %.2f]", o.Yes, o.Trials, o.Lo, o.Hi))
	}
	for _, c := range a.Counters {
		if !c.Decides {
			continue
		}
		d = append(d, fmt.Sprintf("%s %s/op", verdict.Number(c.Expected), c.Unit))
		m = append(m, c.String())
	}
	return strings.Join(d, "\n"), strings.Join(m, "\n")
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
