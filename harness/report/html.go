package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/verdict"
)

//go:embed report.css
var pageStyle string

//go:embed report.html.tmpl
var pageText string

// Page is what the HTML report is made from.
type Page struct {
	Style   template.CSS
	Run     Run
	Command string
	// Tally counts the arms: as expected, not, not run.
	OK, Differ, NotRun int
	HostFacts          []Fact
	Scenarios          []PageScenario
}

// Fact is a line of a strip of facts.
type Fact struct{ Name, Value string }

// PageScenario is one scenario's part of the page.
type PageScenario struct {
	Scenario
	Answers  Answers
	Arms     []PageArm
	Plots    []Plot
	Claims   []Claim
	Facts    []Fact
	Again    string
	Evidence []PageArm // the arms that have some, those that leak first
	// First is the arm whose evidence is open from the start.
	First string
}

// PageArm is an arm with its evidence.
type PageArm struct {
	Arm
	Mark     string
	Rows     []PageRow
	Evidence Evidence
	Released string
}

// PageRow is one deciding measure of an arm.
type PageRow struct {
	Name, Documented, Measured string
	Verdict                    arm.Verdict
	OK                         bool
}

var pageTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"number": verdict.Number,
	"bytes":  byteSize,
	"short":  func(s string) string { return s[:min(len(s), 12)] },
	"class":  func(v any) string { return strings.ReplaceAll(fmt.Sprint(v), " ", "") },
	"join":   strings.Join,
	"base":   func(s string) string { return s[strings.LastIndex(s, "/")+1:] },
}).Parse(pageText))

// byteSize words a number of bytes.
func byteSize(n int64) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

// HTML writes the report as one page that needs nothing else. The evidence is
// read from the results' folder.
func (r Run) HTML(w io.Writer, dir string) error {
	p, err := newPage(r, dir)
	if err != nil {
		return err
	}
	return pageTemplate.Execute(w, p)
}

func (r Run) writeHTML(dir string) func(*os.File) error {
	return func(f *os.File) error { return r.HTML(f, dir) }
}

func newPage(r Run, dir string) (Page, error) {
	p := Page{Style: template.CSS(pageStyle), Run: r, Command: r.again()}
	p.OK, p.Differ, p.NotRun = r.tally()
	for _, name := range HostFactNames {
		if v := r.Host[name]; v != "" {
			p.HostFacts = append(p.HostFacts, Fact{name, v})
		}
	}
	for _, s := range r.scenarios() {
		part, err := newPageScenario(r, s, dir)
		if err != nil {
			return p, fmt.Errorf("scenario %s: %w", s.Name, err)
		}
		p.Scenarios = append(p.Scenarios, part)
	}
	return p, nil
}

// scenarios are those of the arms; a result that does not describe them still
// has their names.
func (r Run) scenarios() []Scenario {
	all := slices.Clone(r.Scenarios)
	for _, a := range r.Arms {
		if !slices.ContainsFunc(all, func(s Scenario) bool { return s.Name == a.Scenario }) {
			all = append(all, Scenario{Name: a.Scenario})
		}
	}
	return all
}

func newPageScenario(r Run, s Scenario, dir string) (PageScenario, error) {
	part := PageScenario{Scenario: s, Again: "leaklab run " + s.Name}
	arms := pick(r.Arms, func(a Arm) bool { return a.Scenario == s.Name })
	evidence := map[string]Evidence{}
	for _, a := range arms {
		ev := ReadEvidence(dir, a, s.Frames)
		evidence[a.Name()] = ev
		part.Arms = append(part.Arms, PageArm{Arm: a, Mark: a.mark(Plain), Rows: rows(a), Evidence: ev})
	}
	var err error
	if part.Plots, err = Plots(arms); err != nil {
		return part, err
	}
	part.Answers = Answer(arms, evidence)
	part.Facts = subjects(arms)
	for _, c := range r.Claims {
		if c.Scenario == s.Name {
			part.Claims = append(part.Claims, c)
		}
	}
	for _, a := range part.Arms {
		if len(a.Files)+len(a.Notes) > 0 {
			part.Evidence = append(part.Evidence, a)
		}
	}
	slices.SortStableFunc(part.Evidence, func(a, b PageArm) int { return rank(a.Kind) - rank(b.Kind) })
	if len(part.Evidence) > 0 {
		part.First = part.Evidence[0].Arm.Arm
	}
	return part, nil
}

// rows are an arm's deciding measures, and what else is not as expected. What
// was not measured the reason tells.
func rows(a Arm) []PageRow {
	var all []PageRow
	for _, o := range a.Outcomes {
		if o.Trials > 0 && (o.Decides || !o.OK) {
			all = append(all, PageRow{o.Name, string(o.Expected), fmt.Sprintf("%d of %d trials [%.2f, %.2f]", o.Yes, o.Trials, o.Lo, o.Hi), "", o.OK})
		}
	}
	for _, c := range a.Counters {
		if c.Decides && c.Slope != nil {
			all = append(all, PageRow{c.Name, amount(c.Expected, c.Expected, c.Unit, c.Unit), c.bounds(), c.Verdict, c.OK})
		}
	}
	return all
}

// bounds is the slope with its interval even where that is a single value.
func (c Counter) bounds() string {
	if c.Slope == nil || c.Lo == nil || c.Hi == nil {
		return c.String()
	}
	return fmt.Sprintf("%s [%s, %s]", verdict.Number(*c.Slope), verdict.Number(*c.Lo), verdict.Number(*c.Hi))
}

// subjects are the versions and digests that the arms used, and where they ran.
func subjects(arms []Arm) []Fact {
	var facts []Fact
	add := func(name, value string) {
		if f := (Fact{name, value}); value != "" && !slices.Contains(facts, f) {
			facts = append(facts, f)
		}
	}
	for _, a := range arms {
		if a.Verdict == arm.NotRun {
			continue
		}
		add("machine", strings.TrimSpace(fmt.Sprintf("%s, kernel %s, cgroup %s", a.Machine, a.Kernel, a.Cgroup)))
	}
	for _, a := range arms {
		for _, rt := range a.Runtimes {
			add(rt.Name+"@"+rt.Version, "sha256:"+rt.Digest[:min(12, len(rt.Digest))])
		}
	}
	return facts
}

// again is the command line that repeats the run, without this machine's paths.
func (r Run) again() string {
	words := []string{"leaklab"}
	for i := 1; i < len(r.Command); i++ {
		switch w := r.Command[i]; {
		case w == "--out":
			i++
		case strings.HasPrefix(w, "--out="), w == "--json":
		case strings.ContainsAny(w, " *?'"):
			words = append(words, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
		default:
			words = append(words, w)
		}
	}
	return strings.Join(words, " ")
}

func (r Run) tally() (ok, differ, not int) {
	for _, a := range r.Arms {
		switch {
		case a.Verdict == arm.NotRun:
			not++
		case a.OK:
			ok++
		default:
			differ++
		}
	}
	return ok, differ, not
}
