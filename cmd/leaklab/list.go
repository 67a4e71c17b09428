package main

import (
	"encoding/json"
	"fmt"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/plan"
	"github.com/leaklab/leaklab/scenarios"
)

func listCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list [scenario[/arm]...]",
		Short: "List scenarios and arms, and where each would run",
		RunE: func(cmd *cobra.Command, args []string) error {
			steps, err := plan.Make(scenarios.All, scenarios.Runtimes, machines(), plan.Wishes{Patterns: args})
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(listed(steps))
			}
			scenario := ""
			for _, s := range steps {
				if s.Scenario.Name != scenario {
					scenario = s.Scenario.Name
					fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n  report: %s\n", scenario, s.Scenario.Title, s.Scenario.Report)
					fmt.Fprintln(cmd.OutOrStdout(), armTable(steps, scenario))
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func armTable(steps []plan.Step, scenario string) string {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.Style().Options.SeparateRows = true
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 3, WidthMax: 60, WidthMaxEnforcer: text.WrapSoft}})
	t.AppendHeader(table.Row{"arm", "kind", "what is done and expected", "runs on"})
	for _, s := range steps {
		if s.Scenario.Name == scenario {
			t.AppendRow(table.Row{s.Arm.Name, s.Arm.Kind, s.Arm.Title, where(s)})
		}
	}
	return t.Render()
}

func where(s plan.Step) string {
	if s.Machine == nil {
		return "not here"
	}
	return s.Machine.Name()
}

// listedArm is an arm in the JSON of list.
type listedArm struct {
	Scenario string      `json:"scenario"`
	Arm      string      `json:"arm"`
	Kind     arm.Kind    `json:"kind"`
	Title    string      `json:"title"`
	Expected arm.Verdict `json:"expected"`
	Runtimes []string    `json:"runtimes"`
	Machine  string      `json:"machine,omitempty"`
	Why      string      `json:"why,omitempty"`
	Plan     arm.Plan    `json:"plan"`
}

func listed(steps []plan.Step) []listedArm {
	all := []listedArm{}
	for _, s := range steps {
		l := listedArm{
			Scenario: s.Scenario.Name, Arm: s.Arm.Name, Kind: s.Arm.Kind, Title: s.Arm.Title,
			Expected: s.Arm.Expect(), Runtimes: s.Arm.Runtimes, Plan: s.Plan,
		}
		if s.Machine != nil {
			l.Machine = s.Machine.Name()
		} else {
			l.Why = s.Why.Error()
		}
		all = append(all, l)
	}
	return all
}
