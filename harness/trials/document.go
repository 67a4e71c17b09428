package trials

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"time"

	"github.com/leaklab/leaklab/harness/bisect"
	"github.com/leaklab/leaklab/harness/report"
)

// Schema is the version of bisect.json; docs/bisect.md describes it.
const Schema = 1

// Document is bisect.json: a bisection's answer and all it rests on.
type Document struct {
	Schema   int               `json:"schema"`
	Started  time.Time         `json:"started"`
	Command  []string          `json:"command"`
	Version  string            `json:"version"`
	Host     map[string]string `json:"host"`
	Scenario string            `json:"scenario"`
	Arm      string            `json:"arm"`
	Axis     string            `json:"axis"`
	// Answer is one sentence; Error says why there is none, or not a whole one.
	Answer string        `json:"answer"`
	Error  string        `json:"error,omitempty"`
	Result bisect.Result `json:"result"`
	// Subjects are what was run in this run, by version.
	Subjects map[string]Subject `json:"subjects"`
	// Note is what else there is to say of the versions.
	Note string `json:"note,omitempty"`
}

// Subject is one version as it was run.
type Subject struct {
	// Runtimes with their digests.
	Runtimes []report.Runtime `json:"runtimes"`
	// Folder of the evidence, below that of the document.
	Folder string `json:"folder"`
	// Last is what the last of its runs measured, in words.
	Last string `json:"last"`
}

// Write leaves bisect.json and bisect.html in dir, and a result.json with all
// that belongs to it in the folder of each version that was run.
func (d Document) Write(dir string, evidence func(version string) []report.Arm) error {
	for version, s := range d.Subjects {
		run := report.Run{
			Schema: report.Schema, Started: d.Started, Command: d.Command, Version: d.Version, Host: d.Host, Arms: evidence(version),
		}
		for _, a := range run.Arms {
			run.Seconds += a.Seconds
		}
		if err := run.Write(filepath.Join(dir, s.Folder)); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "bisect.json"), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing bisect.json: %w", err)
	}
	var page bytes.Buffer
	if err := pages.ExecuteTemplate(&page, "page", d); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "bisect.html"), page.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing bisect.html: %w", err)
	}
	return nil
}

// Fragment is the strip chart and the steps as a piece of HTML that needs
// nothing else, for other pages.
func (d Document) Fragment() (template.HTML, error) {
	var b bytes.Buffer
	err := pages.ExecuteTemplate(&b, "fragment", d)
	return template.HTML(b.String()), err
}

//go:embed bisect.html.tmpl
var pageFiles embed.FS

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"add":  func(a, b int) int { return a + b },
	"mul":  func(a, b int) int { return a * b },
	"risk": func(v float64) string { return fmt.Sprintf("%.1g", v) },
}).ParseFS(pageFiles, "bisect.html.tmpl"))

// Cell is one version in the strip chart.
type Cell struct {
	Version string
	Verdict bisect.Verdict
	Counts  bisect.Counts
	// Order is the number of the step in which it was tested, from 1; 0 for
	// none.
	Order int
	// Turns says that the verdict is another than that of the version before.
	Turns bool
}

// Cells are the versions, oldest first.
func (d Document) Cells() []Cell {
	turns := map[string]bool{}
	for _, c := range d.Result.Changes {
		turns[c.First] = true
	}
	var cells []Cell
	for _, v := range d.Result.Versions {
		c := Cell{Version: v, Turns: turns[v]}
		for i, s := range d.Result.Steps {
			if s.Version == v {
				c.Verdict, c.Counts, c.Order = s.Verdict, s.Counts, i+1
			}
		}
		cells = append(cells, c)
	}
	return cells
}

// Known makes one subject of a version's runs.
func Known(version string, runs []report.Arm) (Subject, bool) {
	if len(runs) == 0 {
		return Subject{}, false
	}
	last := runs[len(runs)-1]
	return Subject{Runtimes: last.Runtimes, Folder: Folder(version), Last: last.Reason}, true
}
