// Command leaklab reproduces documented resource leaks of container runtimes,
// measures them per operation and shows whether a mitigation removes them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/leaklab/leaklab/harness/kernel"
	"github.com/leaklab/leaklab/harness/machine"
	"github.com/leaklab/leaklab/harness/plan"
	"github.com/leaklab/leaklab/harness/report"
	"github.com/leaklab/leaklab/harness/runtimes"
)

// version is set by the linker.
var version = "development"

func main() {
	if machine.InGuest() {
		fmt.Fprintln(os.Stderr, "leaklab:", machine.Guest()) // it returns only if it cannot end the machine
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second Ctrl-C ends the command at once; its guardians clean up.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:]))
}

// machines are those that arms can run on, in the order of preference.
func machines() []machine.Machine {
	ms := []machine.Machine{machine.Host{}}
	if kernels, err := kernel.DefaultCache(); err == nil {
		ms = append(ms, &machine.VM{Kernels: kernels})
	}
	return ms
}

// rootCommand is leaklab with all its commands.
func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "leaklab",
		Short:         "Reproduce documented resource leaks of container runtimes, and prove their mitigations",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Long: `leaklab puts the real leaking version of a container runtime or kernel in front
of the documented fault, counts what stays behind per operation, and shows that
the mitigation leaves nothing.

Exit codes: 0 all as expected, 1 a verdict differs, 2 wrong usage, 3 this machine
cannot run it, 130 interrupted.`,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	root.AddCommand(listCommand(), runCommand(), bisectCommand(), reportCommand(), claimsCommand(), doctorCommand(), runtimesCommand(), kernelsCommand(), cleanCommand())
	root.AddCommand(innerCommands()...)
	return root
}

func run(ctx context.Context, args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	code := exitCode(err)
	var done exit
	if err != nil && !errors.As(err, &done) {
		fmt.Fprintln(os.Stderr, "leaklab:", err)
		if slices.Contains(args, gitBisect) {
			return forGit(code)
		}
	}
	return code
}

// exit ends the command with a code; what there is to say has been said.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit %d", int(e)) }

func usage(err error) error { return fmt.Errorf("%w: %w", plan.ErrUsage, err) }

func exitCode(err error) int {
	var done exit
	switch {
	case err == nil:
		return report.ExitOK
	case errors.As(err, &done):
		return int(done)
	case errors.Is(err, context.Canceled):
		return report.ExitInterrupted
	case errors.Is(err, plan.ErrUsage), errors.Is(err, runtimes.ErrUnknown), isCobraUsage(err):
		return report.ExitUsage
	}
	return report.ExitCannot
}

// isCobraUsage recognises the errors for which cobra has no type.
func isCobraUsage(err error) bool {
	var prefix string
	_, scanErr := fmt.Sscan(err.Error(), &prefix)
	return scanErr == nil && (prefix == "unknown" || prefix == "accepts" || prefix == "requires")
}
