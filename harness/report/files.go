package report

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"github.com/leaklab/leaklab/harness/arm"
)

// OpenFolder makes the folder for results and sees that it can be written.
func OpenFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("the results' folder cannot be made (choose another with --out): %w", err)
	}
	probe, err := os.CreateTemp(dir, ".probe-")
	if err != nil {
		return fmt.Errorf("the results' folder cannot be written (choose another with --out): %w", err)
	}
	probe.Close()
	return os.Remove(probe.Name())
}

// Write leaves result.json, junit.xml, samples.csv, metrics.txt, report.txt and
// report.html in dir.
func (r Run) Write(dir string) error {
	if err := writeWhole(filepath.Join(dir, "result.json"), r.writeJSON); err != nil {
		return fmt.Errorf("writing result.json: %w", err)
	}
	return r.Render(dir)
}

// Render makes everything that follows from result.json and the evidence.
func (r Run) Render(dir string) error {
	for name, write := range map[string]func(*os.File) error{
		"junit.xml":   r.writeJUnit,
		"samples.csv": r.writeSamples,
		"metrics.txt": func(f *os.File) error { return r.Metrics(f) },
		"report.html": r.writeHTML(dir),
		"report.txt":  func(f *os.File) error { return r.Table(f, Plain) },
	} {
		if err := writeWhole(filepath.Join(dir, name), write); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	return nil
}

// writeWhole writes a file beside its place first, so that a full disk leaves
// no half of it.
func writeWhole(path string, write func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".writing-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func (r Run) writeJSON(f *os.File) error {
	e := json.NewEncoder(f)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func (r Run) writeJUnit(f *os.File) error {
	suites := junit.Testsuites{Name: "leaklab"}
	byScenario := map[string]*junit.Testsuite{}
	var order []string
	for _, a := range r.Arms {
		suite := byScenario[a.Scenario]
		if suite == nil {
			suite = &junit.Testsuite{Name: a.Scenario, Timestamp: r.Started.Format(time.RFC3339)}
			byScenario[a.Scenario] = suite
			order = append(order, a.Scenario)
		}
		c := junit.Testcase{Name: a.Arm, Classname: a.Scenario, Time: strconv.FormatFloat(a.Seconds, 'f', 3, 64)}
		switch {
		case a.Verdict == arm.NotRun:
			c.Skipped = &junit.Result{Message: a.Reason}
		case !a.OK:
			c.Failure = &junit.Result{Message: fmt.Sprintf("%s, expected %s", a.Verdict, a.Expected), Data: a.Reason}
		default:
			c.SystemOut = &junit.Output{Data: a.Reason}
		}
		suite.AddTestcase(c)
	}
	for _, name := range order {
		suites.AddSuite(*byScenario[name])
	}
	return suites.WriteXML(f)
}

func (r Run) writeSamples(f *os.File) error {
	w := csv.NewWriter(f)
	if err := w.Write([]string{"scenario", "arm", "phase", "round", "operations", "counter", "value", "settled"}); err != nil {
		return err
	}
	for _, a := range r.Arms {
		for _, s := range a.Samples {
			for _, name := range slices.Sorted(maps.Keys(s.Counters)) {
				err := w.Write([]string{
					a.Scenario, a.Arm, string(s.Phase), strconv.Itoa(s.Round), strconv.Itoa(s.Ops), name,
					strconv.FormatFloat(s.Counters[name], 'f', -1, 64), strconv.FormatBool(s.Settled),
				})
				if err != nil {
					return err
				}
			}
		}
	}
	w.Flush()
	return w.Error()
}
