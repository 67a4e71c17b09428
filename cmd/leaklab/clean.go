package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/leaklab/leaklab/harness/machine"
	"github.com/leaklab/leaklab/harness/runtimes"
)

func cleanCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "clean",
		Short: "Remove what killed runs have left; with --cache also everything that was built",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cache, err := runtimes.DefaultCache()
			if err != nil {
				return err
			}
			runs, runErr := machine.CleanStale()
			builds, buildErr := cache.RemoveUnfinished()
			for _, what := range append(runs, builds...) {
				fmt.Fprintln(cmd.OutOrStdout(), "removed", what)
			}
			if err := errors.Join(runErr, buildErr); err != nil {
				return err
			}
			if all {
				if err := cache.RemoveAll(); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "removed the runtime cache", cache.Dir)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "cache", false, "empty the cache of runtimes too")
	return cmd
}
