package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/leaklab/leaklab/harness/ledger"
	"github.com/leaklab/leaklab/harness/report"
	"github.com/leaklab/leaklab/scenarios"
)

func claimsCommand() *cobra.Command {
	var asJSON, asMarkdown bool
	cmd := &cobra.Command{
		Use:   "claims [folder...]",
		Short: "Say what the newest results have measured of the field reports' claims",
		Long: `Every sentence of the field reports that can be checked, with the figure that
the newest results give for it and what follows: confirmed, refined (true, with a
correction), refuted, or not run here. Folders are results, or hold results;
without any, leaklab-results.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if asJSON && asMarkdown {
				return usage(errors.New("--json or --markdown, not both"))
			}
			runs, err := results(args)
			if err != nil {
				return err
			}
			claims := ledger.Judge(scenarios.All, runs)
			out := cmd.OutOrStdout()
			switch {
			case asJSON:
				return json.NewEncoder(out).Encode(claims)
			case asMarkdown:
				_, err := fmt.Fprint(out, ledger.Markdown(claims))
				return err
			}
			return ledger.Table(out, claims)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&asMarkdown, "markdown", false, "print the table of the README")
	return cmd
}

// results loads every result below the folders.
func results(dirs []string) ([]report.Run, error) {
	asked := len(dirs) > 0
	if !asked {
		dirs = []string{"leaklab-results"}
	}
	var runs []report.Run
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil && path == dir && !asked && errors.Is(err, fs.ErrNotExist):
				return nil // nothing was run yet
			case err != nil:
				return usage(err)
			case d.Name() != "result.json":
				return nil
			}
			r, err := report.Load(filepath.Dir(path))
			if err != nil {
				return err
			}
			runs = append(runs, r)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return runs, nil
}
