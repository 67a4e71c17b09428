package e2e

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"testing"

	"github.com/leaklab/leaklab/harness/trials"
)

// BenchmarkBisect is what a bisection of the ttrpc axis costs, next to a scan of
// all its versions and to the least that yes-or-no answers can do (a halving
// each, after both ends).
func BenchmarkBisect(b *testing.B) {
	bin := os.Getenv("LEAKLAB_BIN")
	if bin == "" {
		b.Skip("LEAKLAB_BIN names no built leaklab: use make bench")
	}
	bisect := func(flags ...string) trials.Document {
		args := append([]string{"bisect", "ttrpc", "--bad", "v1.0.1", "--good", "v1.2.10", "--again", "--json", "--out", b.TempDir()}, flags...)
		cmd := exec.Command(bin, args...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			b.Fatalf("%v: %v\n%s", args, err, out)
		}
		var doc trials.Document
		if err := json.Unmarshal(out, &doc); err != nil {
			b.Fatal(err)
		}
		return doc
	}
	for range b.N {
		scan := bisect("--all") // first, so that both find everything built
		plain := bisect("--probes", "0")
		runs, tested := plain.Result.Trials()
		scanRuns, scanTested := scan.Result.Trials()
		b.ReportMetric(float64(tested), "versions")
		b.ReportMetric(2+math.Log2(float64(len(plain.Result.Versions)-1)), "versions-minimum")
		b.ReportMetric(float64(scanTested), "versions-scan")
		b.ReportMetric(float64(runs), "trials")
		b.ReportMetric(float64(scanRuns), "trials-scan")
		b.ReportMetric(scan.Result.Seconds/plain.Result.Seconds, "times-faster-than-scan")
		b.ReportMetric(0, "ns/op")
	}
}
