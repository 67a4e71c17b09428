package report

import (
	"io"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"

	"github.com/leaklab/leaklab/harness/arm"
)

// Metrics writes the result in the text format of OpenMetrics, for those who
// keep results in Prometheus.
func (r Run) Metrics(w io.Writer) error {
	families := []*dto.MetricFamily{
		r.family("leaklab_arm_as_expected", "Whether the arm's verdict is the expected one: 1 or 0; an arm that was not run is left out.", armGauge(func(a Arm) float64 {
			if a.OK {
				return 1
			}
			return 0
		})),
		r.family("leaklab_arm_duration_seconds", "How long the arm took.", armGauge(func(a Arm) float64 { return a.Seconds })),
		r.family("leaklab_slope", "What stays behind per operation.", counterGauge(func(c Counter) *float64 { return c.Slope })),
		r.family("leaklab_slope_lower", "Lower bound of the slope's 95 % interval.", counterGauge(func(c Counter) *float64 { return c.Lo })),
		r.family("leaklab_slope_upper", "Upper bound of the slope's 95 % interval.", counterGauge(func(c Counter) *float64 { return c.Hi })),
		r.family("leaklab_slope_documented", "The slope that the report documents.", counterGauge(func(c Counter) *float64 { return &c.Documented })),
		r.family("leaklab_outcome_trials", "Trials in which a yes/no question was asked.", outcomeGauge(func(o Outcome) float64 { return float64(o.Trials) })),
		r.family("leaklab_outcome_yes", "Trials in which the answer was yes.", outcomeGauge(func(o Outcome) float64 { return float64(o.Yes) })),
	}
	encoder := expfmt.NewEncoder(w, expfmt.NewFormat(expfmt.TypeOpenMetrics))
	for _, f := range families {
		if len(f.Metric) == 0 {
			continue
		}
		if err := encoder.Encode(f); err != nil {
			return err
		}
	}
	_, err := expfmt.FinalizeOpenMetrics(w)
	return err
}

// gauge makes an arm's metrics, given the labels of the arm.
type gauge func(a Arm, labels []*dto.LabelPair) []*dto.Metric

func (r Run) family(name, help string, of gauge) *dto.MetricFamily {
	f := &dto.MetricFamily{Name: &name, Help: &help, Type: dto.MetricType_GAUGE.Enum()}
	for _, a := range r.Arms {
		if a.Verdict == arm.NotRun {
			continue
		}
		labels := []*dto.LabelPair{label("scenario", a.Scenario), label("arm", a.Arm), label("kind", string(a.Kind)), label("verdict", string(a.Verdict))}
		for _, m := range of(a, labels) {
			m.TimestampMs = proto.Int64(r.Started.UnixMilli())
			f.Metric = append(f.Metric, m)
		}
	}
	return f
}

func armGauge(value func(Arm) float64) gauge {
	return func(a Arm, labels []*dto.LabelPair) []*dto.Metric {
		return []*dto.Metric{metric(value(a), labels)}
	}
}

func counterGauge(value func(Counter) *float64) gauge {
	return func(a Arm, labels []*dto.LabelPair) (all []*dto.Metric) {
		for _, c := range a.Counters {
			if v := value(c); v != nil {
				all = append(all, metric(*v, labels, label("counter", c.Name), label("unit", c.Unit), label("operation", a.Operation)))
			}
		}
		return all
	}
}

func outcomeGauge(value func(Outcome) float64) gauge {
	return func(a Arm, labels []*dto.LabelPair) (all []*dto.Metric) {
		for _, o := range a.Outcomes {
			all = append(all, metric(value(o), labels, label("outcome", o.Name)))
		}
		return all
	}
}

func metric(v float64, labels []*dto.LabelPair, more ...*dto.LabelPair) *dto.Metric {
	return &dto.Metric{Label: append(append([]*dto.LabelPair{}, labels...), more...), Gauge: &dto.Gauge{Value: &v}}
}

func label(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }
