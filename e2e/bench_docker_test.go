package e2e

import (
	"bufio"
	"context"
	"net/http/httptrace"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"

	"github.com/leaklab/leaklab/harness/report"
)

// recipe runs the shell recipe in what mode it is told.
func recipe(b *testing.B, mode string) *exec.Cmd {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Skip("the engines need root")
	}
	if _, err := exec.LookPath("curl"); err != nil {
		b.Skip("the shell recipe needs curl")
	}
	dir := b.TempDir()
	cmd := exec.Command("sh", "testdata/dockerstats.sh", built(b, "dockerd@1.13.1"),
		filepath.Join(built(b, "workload@1"), "workload"), dir, mode)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGTERM}
	b.Cleanup(func() {
		// Innermost first; they are empty once the recipe's pid namespace is gone.
		for _, pattern := range []string{"/sys/fs/cgroup/*/leaklab-bench/*", "/sys/fs/cgroup/*/leaklab-bench"} {
			dirs, _ := filepath.Glob(pattern)
			for _, d := range dirs {
				for range 50 {
					if os.Remove(d) == nil {
						break
					}
					time.Sleep(100 * time.Millisecond)
				}
			}
		}
	})
	return cmd
}

// BenchmarkDockerVerdict is the time that "leaklab run dockerstats/leak" takes
// over that of the same steps typed as a shell recipe, which gives no verdict.
func BenchmarkDockerVerdict(b *testing.B) {
	for range b.N {
		cmd := recipe(b, "rounds")
		start := time.Now()
		out, err := cmd.Output()
		if err != nil {
			b.Fatalf("the recipe: %v\n%s", err, out)
		}
		typed := time.Since(start).Seconds()
		result := measure(b, "dockerstats/leak")
		b.ReportMetric(result.Seconds/typed, "leaklab/typed")
		b.ReportMetric(typed, "s-typed")
		b.ReportMetric(result.Seconds, "s-leaklab")
		b.ReportMetric(0, "ns/op")
	}
}

var perSecond = regexp.MustCompile(`hung calls in [0-9.]+ s, ([0-9]+) a second`)

// BenchmarkHungCalls is the rate of hung stats calls through leaklab over that of
// a bare loop of the same client against the same engine.
func BenchmarkHungCalls(b *testing.B) {
	for range b.N {
		through := hungRate(b, measure(b, "dockerstats/leak"))
		cmd := recipe(b, "hold")
		stdin, err := cmd.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		id, err := bufio.NewReader(stdout).ReadString('\n')
		if err != nil {
			b.Fatalf("the recipe ended: %v", err)
		}
		bare := bareHungCalls(b, filepath.Join(cmd.Args[len(cmd.Args)-2], "docker.sock"), strings.TrimSpace(id), 2200)
		stdin.Close()
		cmd.Wait()
		b.ReportMetric(through/bare, "through/bare")
		b.ReportMetric(through, "calls/s")
		b.ReportMetric(0, "ns/op")
	}
}

func hungRate(b *testing.B, result report.Run) float64 {
	b.Helper()
	for _, note := range result.Arms[0].Notes {
		if m := perSecond.FindStringSubmatch(note); m != nil {
			rate, err := strconv.ParseFloat(m[1], 64)
			if err != nil {
				b.Fatal(err)
			}
			return rate
		}
	}
	b.Fatalf("no rate among the notes %q", result.Arms[0].Notes)
	return 0
}

// bareHungCalls makes calls at once and returns how many requests a second were
// written, as leaklab counts them.
func bareHungCalls(b *testing.B, socket, id string, calls int) float64 {
	b.Helper()
	docker, err := client.NewClientWithOpts(client.WithHost("unix://"+socket), client.WithAPIVersionNegotiation())
	if err != nil {
		b.Fatal(err)
	}
	defer docker.Close()
	docker.NegotiateAPIVersion(b.Context())
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var written sync.WaitGroup
	written.Add(calls)
	start := time.Now()
	for range calls {
		go func() {
			var once sync.Once
			trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { once.Do(written.Done) }}
			resp, err := docker.ContainerStats(httptrace.WithClientTrace(ctx, trace), id, false)
			if err == nil {
				resp.Body.Close()
			}
		}()
	}
	written.Wait()
	return float64(calls) / time.Since(start).Seconds()
}

// BenchmarkStops is how many stops a second leaklab puts through a dockerd with
// an unkillable container while the arm stops, settling left out.
func BenchmarkStops(b *testing.B) {
	for range b.N {
		result := measure(b, "dockerstop/wedged-18.09")
		stops, seconds := 0, 0.0
		for _, s := range result.Arms[0].Samples {
			stops = max(stops, s.Ops)
			seconds = max(seconds, s.Seconds)
		}
		if seconds == 0 {
			seconds = result.Arms[0].Seconds
		}
		b.ReportMetric(float64(stops)/seconds, "stops/s")
		b.ReportMetric(result.Seconds, "s-verdict")
		b.ReportMetric(0, "ns/op")
	}
}
