package ledger

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/report"
)

// Table shows the claims in a terminal of 80 columns.
func Table(w io.Writer, claims []report.Claim) error {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.Style().Options = table.Options{SeparateHeader: true, SeparateRows: true}
	t.Style().Box.PaddingLeft, t.Style().Box.PaddingRight = "", " "
	t.SetColumnConfigs([]table.ColumnConfig{
		{Number: 2, WidthMax: 34, WidthMaxEnforcer: text.WrapSoft},
		{Number: 3, WidthMax: 24, WidthMaxEnforcer: text.WrapSoft},
		{Number: 4, WidthMax: 12, WidthMaxEnforcer: text.WrapSoft},
	})
	t.AppendHeader(table.Row{"id", "claim", "measured", "verdict"})
	for _, c := range claims {
		says, figure := c.Says, c.Figure
		if c.Correction != "" {
			says += "\n→ " + c.Correction
		}
		if c.Missing != "" {
			figure = strings.TrimSpace(figure + "\n" + c.Missing)
		}
		t.AppendRow(table.Row{c.ID, says, figure, c.Verdict})
	}
	if _, err := fmt.Fprintln(w, t.Render()); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, Summary(claims))
	return err
}

// Summary counts the verdicts.
func Summary(claims []report.Claim) string {
	n := map[arm.ClaimVerdict]int{}
	for _, c := range claims {
		n[c.Verdict]++
	}
	words := []string{fmt.Sprintf("%d claims", len(claims))}
	for _, v := range []arm.ClaimVerdict{arm.Confirmed, arm.Refined, arm.Refuted, arm.Undecided, arm.NotHere} {
		if n[v] > 0 {
			words = append(words, fmt.Sprintf("%d %s", n[v], v))
		}
	}
	return strings.Join(words, ", ")
}

// Markdown is the table of the README, between its markers.
func Markdown(claims []report.Claim) string {
	var b strings.Builder
	b.WriteString("| id | claim | measured | verdict |\n|---|---|---|---|\n")
	cell := strings.NewReplacer("|", `\|`, "\n", " ")
	for _, c := range claims {
		says, figure := c.Says, c.Figure
		if c.Correction != "" {
			says += " *" + c.Correction + "*"
		}
		if figure == "" {
			figure = c.Missing
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.ID, cell.Replace(says), cell.Replace(figure), c.Verdict)
	}
	return b.String()
}
