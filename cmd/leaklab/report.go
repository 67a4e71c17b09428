package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/leaklab/leaklab/harness/report"
)

func reportCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "report result [result]",
		Short: "Make the report of a results' folder again, or compare two results",
		Long: `With one folder, report prints its table and makes report.html and the other
files again from result.json and the evidence beside it.

With two folders, it compares them arm by arm (before and after a mitigation, two
kernels, two versions), prints what differs, and writes compare.html.`,
		Example: `  leaklab report leaklab-results/20260102-150405.000
  leaklab report before after --out compare.html`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var runs []report.Run
			for _, dir := range args {
				r, err := report.Load(dir)
				if err != nil {
					return usage(err)
				}
				runs = append(runs, r)
			}
			if len(runs) == 2 {
				return compare(cmd, runs[0], runs[1], out)
			}
			if out != "" {
				return usage(fmt.Errorf("--out is for comparing two results"))
			}
			if err := runs[0].Render(args[0]); err != nil {
				return err
			}
			return runs[0].Table(cmd.OutOrStdout(), style(os.Stdout))
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file for the comparison (default: compare.html)")
	return cmd
}

func compare(cmd *cobra.Command, a, b report.Run, out string) error {
	c := report.Compare(a, b)
	if out == "" {
		out = "compare.html"
	}
	if err := c.WriteHTML(out); err != nil {
		return err
	}
	if err := c.Table(cmd.OutOrStdout()); err != nil {
		return err
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), "the comparison is in", out)
	return err
}
