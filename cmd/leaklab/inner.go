package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/leaklab/leaklab/harness/agent"
	"github.com/leaklab/leaklab/harness/machine"
	"github.com/leaklab/leaklab/scenarios"
)

// innerCommands are the roles that leaklab plays for itself in other processes.
func innerCommands() []*cobra.Command {
	inner := []*cobra.Command{
		{Use: "guard", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			return machine.Guard(os.Stdin)
		}},
		{Use: "init", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			return machine.Init(os.Stdin)
		}},
		{Use: "agent", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			events, err := machine.AgentEvents()
			if err != nil {
				return err
			}
			// A failure is told in the stream; the exit code adds nothing.
			_ = agent.Serve(os.Stdin, events, scenarios.All)
			return nil
		}},
		{Use: "box", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			return machine.Box(os.Stdin, os.Stdout, scenarios.All)
		}},
		{Use: "part", Args: cobra.MinimumNArgs(2), DisableFlagParsing: true, RunE: func(cmd *cobra.Command, args []string) error {
			for _, s := range scenarios.All {
				if part := s.Parts[args[1]]; s.Name == args[0] && part != nil {
					return part(cmd.Context(), args[2:])
				}
			}
			return usage(fmt.Errorf("scenario %q has no part %q", args[0], args[1]))
		}},
	}
	for _, c := range inner {
		c.Hidden = true
	}
	return slices.Clip(inner)
}
