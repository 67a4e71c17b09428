package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/ledger"
	"github.com/leaklab/leaklab/harness/machine"
	"github.com/leaklab/leaklab/harness/plan"
	"github.com/leaklab/leaklab/harness/report"
	"github.com/leaklab/leaklab/harness/runner"
	"github.com/leaklab/leaklab/harness/runtimes"
	"github.com/leaklab/leaklab/scenarios"
)

func runCommand() *cobra.Command {
	var (
		wishes plan.Wishes
		out    string
		jobs   int
		// kernelRef names the kernel of virtual machines.
		kernelRef string
		asJSON    bool
		forGit    bool
		replace   []string
		vagrant   *machine.Vagrant
	)
	cmd := &cobra.Command{
		Use:   "run [scenario[/arm]...]",
		Short: "Run arms and give the verdict on each",
		Example: `  leaklab run                              everything this machine can run
  leaklab run ttrpc                        one scenario
  leaklab run 'ttrpc/unix-*' --trials 50   some arms, more trials
  leaklab run ttrpc/unix-v1.0.1 --runtime ttrpc-pair@v1.1.0
                                           an arm with another version`,
		RunE: func(cmd *cobra.Command, args []string) error {
			wishes.Patterns = args
			wishes.Replace = map[string]string{}
			for _, ref := range replace {
				name, version, err := runtimes.SplitRef(ref)
				if err != nil {
					return usage(err)
				}
				wishes.Replace[name] = version
			}
			for name, n := range map[string]int{"trials": wishes.Plan.Trials, "ops": wishes.Plan.Ops, "rounds": wishes.Plan.Rounds, "jobs": jobs} {
				if n < 0 || n == 0 && cmd.Flags().Changed(name) {
					return usage(fmt.Errorf("--%s must be at least 1", name))
				}
			}
			places := append(machines(), vagrant)
			if kernelRef != "" {
				if err := useKernel(cmd.Context(), places, kernelRef); err != nil {
					return err
				}
			}
			steps, err := plan.Make(scenarios.All, scenarios.Runtimes, places, wishes)
			if err != nil {
				return err
			}
			if out == "" {
				out = filepath.Join("leaklab-results", time.Now().Format("20060102-150405.000"))
			}
			if out, err = filepath.Abs(out); err != nil {
				return err
			}
			if err := report.OpenFolder(out); err != nil {
				return usage(err)
			}
			cache, err := runtimes.DefaultCache()
			if err != nil {
				return err
			}
			watcher := newWatcher(asJSON)
			result := report.Run{
				Schema: report.Schema, Started: time.Now().UTC(), Command: os.Args, Version: version, Out: out, Host: report.HostFacts(),
			}
			result.Arms, err = runner.Runner{Cache: cache, Out: out, Watcher: watcher, Jobs: jobs}.Run(cmd.Context(), steps)
			watcher.close()
			err = errors.Join(err, closeMachines(places))
			result.Seconds = time.Since(result.Started).Seconds()
			if err != nil {
				return err
			}
			result.Scenarios = report.Describe(scenarios.All, result.Arms)
			result.Claims = ledger.Judge(ran(result.Scenarios), []report.Run{result})
			if err := result.Write(out); err != nil {
				return err
			}
			err = show(cmd, result, asJSON)
			if forGit && cmd.Context().Err() == nil {
				return exit(gitBisectCode(result))
			}
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&wishes.Plan.Trials, "trials", 0, "repetitions of the whole fault per arm (0: the arm's own)")
	f.IntVar(&wishes.Plan.Ops, "ops", 0, "operations per round (0: the arm's own)")
	f.IntVar(&wishes.Plan.Rounds, "rounds", 0, "least number of rounds, at least 4 for a verdict (0: the arm's own)")
	f.DurationVar(&wishes.Plan.Timeout, "timeout", 0, "bound for each arm (0: the arm's own)")
	f.IntVar(&jobs, "jobs", runtime.NumCPU(), "arms that run at the same time")
	f.StringVar(&wishes.Machine, "machine", "", "where to run: host, vm or vagrant (default: the first that can; vagrant only when it is asked for)")
	f.StringVar(&kernelRef, "kernel", "", "with --machine vm: the kernel to use, a name of leaklab kernels, a file or a URL")
	vagrant = vagrantFlags(f)
	f.StringArrayVar(&replace, "runtime", nil, "use this version of a runtime instead, name@version (repeatable)")
	f.StringVar(&out, "out", "", "folder for the results (default: leaklab-results/<time>)")
	f.BoolVar(&asJSON, "json", false, "print one JSON object and nothing else")
	f.BoolVar(&forGit, strings.TrimPrefix(gitBisect, "--"), false, "exit as \"git bisect run\" wants it: 0 clean, 1 leaks, 125 cannot test")
	cmd.ValidArgsFunction = completeArms
	return cmd
}

// ran picks the catalogue's scenarios that a result is about.
func ran(described []report.Scenario) []arm.Scenario {
	return slices.DeleteFunc(slices.Clone(scenarios.All), func(s arm.Scenario) bool {
		return !slices.ContainsFunc(described, func(d report.Scenario) bool { return d.Name == s.Name })
	})
}

func completeArms(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, s := range scenarios.All {
		names = append(names, s.Name)
		for _, a := range s.Arms {
			names = append(names, s.Name+"/"+a.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// show prints the result and turns it into the exit code.
func show(cmd *cobra.Command, result report.Run, asJSON bool) error {
	stdout := cmd.OutOrStdout()
	if asJSON {
		if err := json.NewEncoder(stdout).Encode(result); err != nil {
			return err
		}
	} else if err := result.Table(stdout, style(os.Stdout)); err != nil {
		return err
	}
	if cmd.Context().Err() != nil {
		return exit(report.ExitInterrupted)
	}
	if code := result.ExitCode(); code != report.ExitOK {
		return exit(code)
	}
	return nil
}

func style(f *os.File) report.Style {
	if term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" {
		return report.Coloured
	}
	return report.Plain
}

// watcher shows how a run goes on, on stderr.
type watcher interface {
	runner.Watcher
	close()
}

func newWatcher(quiet bool) watcher {
	switch {
	case quiet:
		return silent{}
	case term.IsTerminal(int(os.Stderr.Fd())):
		return newLive()
	}
	return lines{}
}

// silent shows nothing.
type silent struct{}

func (silent) Preparing(string)            {}
func (silent) Started(plan.Step, int, int) {}
func (silent) Progress(plan.Step, string)  {}
func (silent) Finished(report.Arm)         {}
func (silent) close()                      {}

// lines is for pipes and logs: a line per thing that is built, and per arm.
type lines struct{ silent }

func (lines) Preparing(text string) { fmt.Fprintln(os.Stderr, text) }

func (lines) Finished(a report.Arm) { fmt.Fprintln(os.Stderr, a.Line(report.Plain)) }
