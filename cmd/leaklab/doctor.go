package main

import (
	"fmt"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/leaklab/leaklab/harness/plan"
	"github.com/leaklab/leaklab/harness/report"
	"github.com/leaklab/leaklab/harness/runtimes"
	"github.com/leaklab/leaklab/scenarios"
)

func doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine can run, and what is missing for the rest",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			facts := report.HostFacts()
			for _, name := range report.HostFactNames {
				fmt.Fprintf(out, "%-10s %s\n", name, facts[name])
			}
			cache, err := runtimes.DefaultCache()
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%-10s %s\n", "cache", cache.Dir)
			if _, err := exec.LookPath("go"); err != nil {
				fmt.Fprintf(out, "%-10s missing: runtimes cannot be built (install Go 1.26 or newer)\n", "go")
			}
			steps, err := plan.Make(scenarios.All, scenarios.Runtimes, machines(), plan.Wishes{})
			if err != nil {
				return err
			}
			can := 0
			for _, s := range steps {
				if s.Machine != nil {
					can++
				} else {
					fmt.Fprintf(out, "%s cannot run here: %v\n", s.Name(), s.Why)
				}
			}
			fmt.Fprintf(out, "%d of %d arms can run here\n", can, len(steps))
			if can == 0 {
				return exit(report.ExitCannot)
			}
			return nil
		},
	}
}
