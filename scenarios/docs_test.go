package scenarios

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

// runsTheExample is a test of the documented scenario: it runs its arms as an
// agent does and judges them.
const runsTheExample = `package bodies

import (
	"bytes"
	"encoding/json"
	"io"
	"testing"

	"github.com/leaklab/leaklab/harness/agent"
	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/verdict"
)

func TestExample(t *testing.T) {
	for _, a := range Scenario.Arms {
		job, err := json.Marshal(arm.Job{Scenario: Scenario.Name, Arm: a.Name, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		in, stop := io.Pipe()
		go stop.Write(append(job, '\n'))
		var out bytes.Buffer
		if err := agent.Serve(in, &out, []arm.Scenario{Scenario}); err != nil {
			t.Fatal(err)
		}
		var samples []arm.Sample
		for events := json.NewDecoder(&out); events.More(); {
			var e arm.Event
			if err := events.Decode(&e); err != nil {
				t.Fatal(err)
			}
			if e.Sample != nil {
				samples = append(samples, *e.Sample)
			}
		}
		if v := verdict.Judge(a, samples, nil); !v.OK {
			t.Errorf("%s: %s", a.Name, v.Reason)
		}
	}
}
`

// TestTheDocumentedScenario compiles the worked example of the documentation,
// laid over this module as if its folder were here, and runs it.
func TestTheDocumentedScenario(t *testing.T) {
	g := NewWithT(t)
	text, err := os.ReadFile("../docs/adding-a-scenario.md")
	g.Expect(err).NotTo(HaveOccurred())
	_, rest, found := strings.Cut(string(text), "```go\n")
	g.Expect(found).To(BeTrue())
	code, _, found := strings.Cut(rest, "```")
	g.Expect(found).To(BeTrue())
	g.Expect(strings.Count(code, "\n")).To(BeNumerically("<", 100), "the example stays short")

	here, err := filepath.Abs("bodies")
	g.Expect(err).NotTo(HaveOccurred())
	dir := t.TempDir()
	overlay := map[string]map[string]string{"Replace": {}}
	for name, content := range map[string]string{"scenario.go": code, "scenario_test.go": runsTheExample} {
		file := filepath.Join(dir, name)
		g.Expect(os.WriteFile(file, []byte(content), 0o644)).To(Succeed())
		overlay["Replace"][filepath.Join(here, name)] = file
	}
	list, err := json.Marshal(overlay)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(os.WriteFile(filepath.Join(dir, "overlay.json"), list, 0o644)).To(Succeed())
	bin := filepath.Join(dir, "bodies.test")
	out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-o", bin, "./bodies").CombinedOutput()
	g.Expect(err).NotTo(HaveOccurred(), "%s", out)
	out, err = exec.Command(bin).CombinedOutput()
	g.Expect(err).NotTo(HaveOccurred(), "%s", out)
}
