package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/bisect"
	"github.com/leaklab/leaklab/harness/kernel"
	"github.com/leaklab/leaklab/harness/machine"
	"github.com/leaklab/leaklab/harness/report"
	"github.com/leaklab/leaklab/harness/runtimes"
	"github.com/leaklab/leaklab/harness/trials"
	"github.com/leaklab/leaklab/scenarios"
)

// bisectWishes are the flags of bisect.
type bisectWishes struct {
	axis, good, bad string
	versions        []string
	versionsFrom    string
	settings        bisect.Settings
	machine, out    string
	again, noAhead  bool
	asJSON          bool
}

func bisectCommand() *cobra.Command {
	w := bisectWishes{settings: bisect.DefaultSettings}
	cmd := &cobra.Command{
		Use:   "bisect scenario[/arm] --bad version [--good version]",
		Short: "Find the version that brought a leak, or the one that cured it",
		Long: `bisect runs a leak arm with one version of its subject after the other, and
answers with the first version that differs and how sure that is. A version with
which the arm leaks is bad. The good end may be the older or the newer one;
without it every version is tried.

What trials have shown is remembered: an interrupted bisection continues, and the
same one again is instant.

Exit codes: 0 there is an answer, 1 an end is not what it was given as, 2 wrong
usage, 3 this machine cannot test it, 130 interrupted.`,
		Example: `  leaklab bisect ttrpc --axis ttrpc --bad v1.0.2 --good v1.1.0
  leaklab bisect ttrpc --bad v1.0.1 --all
                          every version of the axis, as a table
  leaklab bisect ttrpc/sndbuf-v1.0.1 --axis list --bad ttrpc-pair@v1.0.1 \
      --versions ttrpc-pair@v1.0.1,ttrpc-pair@v1.1.0,ttrpc-pair@v1.2.2`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return w.run(cmd, args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&w.axis, "axis", "", `what varies: an axis of the scenario (default: its first), or "list"`)
	f.StringVar(&w.good, "good", "", "a version without the leak (none: test all versions)")
	f.StringVar(&w.bad, "bad", "", "a version with the leak")
	f.StringSliceVar(&w.versions, "versions", nil, "the versions, oldest first, instead of the axis's own; runtimes name@version for --axis list")
	f.StringVar(&w.versionsFrom, "versions-from", "", "a shell command that prints the versions, oldest first, one a line")
	f.Float64Var(&w.settings.Confidence, "confidence", w.settings.Confidence, "least chance that the whole answer is right")
	f.BoolVar(&w.settings.All, "all", false, "test every version, to find every change")
	f.IntVar(&w.settings.Probes, "probes", w.settings.Probes, "versions to test away from the answer, in search of further changes")
	f.IntVar(&w.settings.MaxTrials, "max-trials", w.settings.MaxTrials, "most trials per version")
	f.StringVar(&w.machine, "machine", "", "where to run (default: the first that can)")
	f.BoolVar(&w.again, "again", false, "forget what earlier trials have shown")
	f.BoolVar(&w.noAhead, "no-ahead", false, "build each version only when it is tested")
	f.StringVar(&w.out, "out", "", "folder for the results (default: leaklab-results/<time>)")
	f.BoolVar(&w.asJSON, "json", false, "print one JSON object and nothing else")
	return cmd
}

func (w *bisectWishes) run(cmd *cobra.Command, target string) error {
	ctx := cmd.Context()
	if w.bad == "" {
		return usage(errors.New("--bad is needed: a version that has the leak"))
	}
	scenario, axis, err := w.choose(ctx, target)
	if err != nil {
		return usage(err)
	}
	given := []string{w.bad}
	if w.good != "" {
		given = append(given, w.good)
	}
	versions, named, note, err := trials.Versions(ctx, axis, given...)
	if err != nil {
		return usage(err)
	}
	bad, good := named[0], ""
	if w.good != "" {
		good = named[1]
	} else {
		w.settings.All = true
	}
	a, err := axis.ArmOf(scenario)
	if err != nil {
		return usage(err)
	}
	settings := w.settings
	switch {
	case trials.BySlopes(a):
		settings = settings.ForSlopes()
	case axis.Chance > 0:
		settings.Chance = axis.Chance
	}
	if err := bisect.Check(versions, good, bad, settings); err != nil {
		return usage(err)
	}
	if w.out == "" {
		w.out = filepath.Join("leaklab-results", time.Now().Format("20060102-150405.000"))
	}
	if w.out, err = filepath.Abs(w.out); err != nil {
		return err
	}
	if err := report.OpenFolder(w.out); err != nil {
		return usage(err)
	}
	cache, err := runtimes.DefaultCache()
	if err != nil {
		return err
	}
	watch := newStepWatcher(w.asJSON)
	tester := &trials.Tester{
		Scenario: scenario, Axis: axis, Families: scenarios.Runtimes, Machines: machinesWithKernel, Machine: w.machine,
		Cache: cache, Memory: trials.Memory{Dir: filepath.Join(cache.Dir, "trials")},
		Again: w.again, NoAhead: w.noAhead, Out: w.out, Watcher: watch,
	}
	defer tester.Close()
	doc := trials.Document{
		Schema: trials.Schema, Started: time.Now().UTC(), Command: os.Args, Version: version, Host: report.HostFacts(),
		Scenario: scenario.Name, Arm: a.Name, Axis: axis.Name, Note: note, Subjects: map[string]trials.Subject{},
	}
	var bisectErr error
	doc.Result, bisectErr = bisect.Run(ctx, versions, good, bad, tester, settings, watch.step)
	tester.Close()
	watch.close()
	for _, v := range doc.Result.Versions {
		if s, ok := trials.Known(v, tester.Evidence(v)); ok {
			doc.Subjects[v] = s
		}
	}
	doc.Answer = doc.Result.Sentence()
	if bisectErr != nil {
		doc.Error = bisectErr.Error()
	}
	if err := doc.Write(w.out, tester.Evidence); err != nil {
		return err
	}
	if err := showBisection(cmd.OutOrStdout(), doc, w.out, w.asJSON); err != nil {
		return err
	}
	return bisectExit(ctx, bisectErr)
}

// bisectExit turns the end of a bisection into the exit code.
func bisectExit(ctx context.Context, err error) error {
	var end *bisect.EndError
	switch {
	case ctx.Err() != nil:
		return exit(report.ExitInterrupted)
	case errors.As(err, &end) && end.Found == bisect.Untestable:
		return exit(report.ExitCannot)
	case errors.As(err, &end), errors.Is(err, bisect.ErrTooRare):
		return exit(report.ExitDiffers)
	}
	return err
}

// choose finds the scenario and the axis, with the versions and the arm that
// the user wants instead.
func (w *bisectWishes) choose(ctx context.Context, target string) (scenario arm.Scenario, axis arm.Axis, err error) {
	name, armName, _ := strings.Cut(target, "/")
	i := slices.IndexFunc(scenarios.All, func(s arm.Scenario) bool { return s.Name == name })
	if i < 0 {
		return scenario, axis, fmt.Errorf("no scenario %q; leaklab list shows all", name)
	}
	scenario = scenarios.All[i]
	versions := w.versions
	if w.versionsFrom != "" {
		if versions, err = versionsOf(ctx, w.versionsFrom); err != nil {
			return scenario, axis, err
		}
	}
	if w.axis == "list" {
		i := slices.IndexFunc(scenario.Arms, func(a arm.Arm) bool {
			return a.Name == armName || armName == "" && a.Kind == arm.Leak
		})
		if i < 0 {
			return scenario, axis, fmt.Errorf("scenario %s has no arm %q", name, armName)
		}
		axis, err = trials.ListAxis(scenario.Arms[i], versions)
		return scenario, axis, err
	}
	var names []string
	i = -1
	for k, a := range scenario.Axes {
		names = append(names, a.Name)
		if i < 0 && (w.axis == "" || a.Name == w.axis) {
			i = k
		}
	}
	if i < 0 {
		return scenario, axis, fmt.Errorf("scenario %s has no axis %q, it has %s", name, w.axis, strings.Join(append(names, "list"), ", "))
	}
	axis = scenario.Axes[i]
	if armName != "" {
		axis.Arm = armName
	}
	if versions != nil {
		axis.Versions, axis.Module = versions, ""
	}
	return scenario, axis, nil
}

// machinesWithKernel are the machines for a version of an axis: a virtual
// machine with that kernel, or with none the usual ones.
func machinesWithKernel(ctx context.Context, name string, progress func(string)) ([]machine.Machine, string, error) {
	if name == "" {
		return machines(), "", nil
	}
	kernels, err := kernel.DefaultCache()
	if err != nil {
		return nil, "", err
	}
	k, err := kernels.Resolve(ctx, name, "", progress)
	if err != nil {
		return nil, "", err
	}
	return []machine.Machine{&machine.VM{Kernels: kernels, Kernel: &k, Force: true}}, k.Release + " sha256:" + k.Digest, nil
}

// versionsOf runs the user's command and reads the versions that it prints.
func versionsOf(ctx context.Context, command string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("--versions-from %q: %w", command, err)
	}
	return strings.Fields(string(out)), nil
}

// stepWatcher shows the steps of a bisection, and what goes on in each.
type stepWatcher struct {
	watcher
	out io.Writer
}

func newStepWatcher(quiet bool) stepWatcher {
	w := stepWatcher{watcher: newWatcher(quiet), out: os.Stderr}
	switch under := w.watcher.(type) {
	case *live:
		w.out = under.out
	case silent:
		w.out = io.Discard
	}
	return w
}

// Finished says nothing: an arm that is clean where it would leak is no failure
// here.
func (stepWatcher) Finished(report.Arm) {}

func (w stepWatcher) step(s bisect.Step) {
	fmt.Fprintf(w.out, "%s %s: %s (%.1f s)\n", s.Version, s.Verdict, trialsOf(s), s.Seconds)
}

// trialsOf words what a step rests on.
func trialsOf(s bisect.Step) string {
	if s.Reason != "" {
		return s.Reason
	}
	text := s.Counts.String()
	if n := s.Remembered.Decided(); n > 0 {
		text += fmt.Sprintf(", %d of them known", n)
	}
	return text
}

// showBisection prints the versions as a table, oldest first, and the answer.
func showBisection(w io.Writer, doc trials.Document, out string, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(doc)
	}
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 4, WidthMax: 70, WidthMaxEnforcer: text.WrapSoft}})
	t.AppendHeader(table.Row{"version", "verdict", "step", "trials", "seconds"})
	for _, c := range doc.Cells() {
		if c.Turns {
			t.AppendSeparator()
		}
		if c.Order == 0 {
			t.AppendRow(table.Row{c.Version, "–"})
			continue
		}
		s := doc.Result.Steps[c.Order-1]
		t.AppendRow(table.Row{c.Version, s.Verdict, c.Order, trialsOf(s), fmt.Sprintf("%.1f", s.Seconds)})
	}
	fmt.Fprintln(w, t.Render())
	if doc.Note != "" {
		fmt.Fprintln(w, doc.Note)
	}
	if doc.Error != "" {
		fmt.Fprintln(w, doc.Error)
	}
	_, err := fmt.Fprintf(w, "%s\nevidence in %s\n", doc.Answer, out)
	return err
}
