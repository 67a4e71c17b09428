package report

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

func TestMetrics(t *testing.T) {
	g := NewWithT(t)
	var b bytes.Buffer
	g.Expect(results().Metrics(&b)).To(Succeed())
	g.Expect(b.String()).To(HaveSuffix("# EOF\n"))

	families := map[string]*dto.MetricFamily{}
	for d := expfmt.NewDecoder(&b, expfmt.NewFormat(expfmt.TypeOpenMetrics)); ; {
		var f dto.MetricFamily
		err := d.Decode(&f)
		if errors.Is(err, io.EOF) {
			break
		}
		g.Expect(err).NotTo(HaveOccurred())
		families[f.GetName()] = &f
	}
	g.Expect(families).To(HaveKey("leaklab_slope"))
	g.Expect(families["leaklab_arm_as_expected"].Metric).To(HaveLen(4), "an arm that was not run is left out")
	slope := families["leaklab_slope"].Metric[0]
	g.Expect(slope.GetGauge().GetValue()).To(Equal(1.0))
	labels := map[string]string{}
	for _, l := range slope.Label {
		labels[l.GetName()] = l.GetValue()
	}
	g.Expect(labels).To(And(HaveKeyWithValue("arm", "leak"), HaveKeyWithValue("counter", "n"), HaveKeyWithValue("unit", "goroutines")))
	g.Expect(families["leaklab_slope_lower"].Metric).To(HaveLen(3), "a bound that does not exist is left out")
}

func TestCompare(t *testing.T) {
	g := NewWithT(t)
	before, after := results(), results()
	after.Arms[0] = after.Arms[1]
	after.Arms[0].Arm = "leak"
	after.Host = map[string]string{"kernel": "6.1"}
	after.Arms = after.Arms[:4]
	c := Compare(before, after)
	g.Expect(c.Rows[0].Change).To(Equal("gone"))
	g.Expect(c.Changed).To(Equal(1))
	g.Expect(c.Rows[1].Change).To(Equal("intervals overlap"), "bounds that do not exist tell nothing")
	g.Expect(c.Rows[2].Change).To(Equal("same"), "what has not changed comes last")
	g.Expect(c.OnlyA).To(ConsistOf("t/elsewhere"))
	g.Expect(c.Facts).To(ContainElement(CompareFact{"kernel", "", "6.1"}))
	var b bytes.Buffer
	g.Expect(c.Table(&b)).To(Succeed())
	g.Expect(b.String()).To(ContainSubstring("kernel:  → 6.1"))
	path := t.TempDir() + "/compare.html"
	g.Expect(c.WriteHTML(path)).To(Succeed())

	one := Run{Arms: []Arm{{Scenario: "s", Arm: "a"}}}
	other := Run{Arms: []Arm{{Scenario: "s", Arm: "b"}}}
	g.Expect(Compare(one, other).OnlyA).To(BeEmpty(), "two single arms are compared whatever their names")
	g.Expect(strings.Contains(one.again(), "leaklab")).To(BeTrue())
}
