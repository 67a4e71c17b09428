package e2e

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leaklab/leaklab/harness/report"
	"github.com/leaklab/leaklab/scenarios"
)

// The benchmarks print ratios of figures from one run, since the figures
// themselves depend on the machine and on its neighbours: make bench.

// measure runs arms with the built command.
func measure(b *testing.B, args ...string) report.Run {
	b.Helper()
	bin := os.Getenv("LEAKLAB_BIN")
	if bin == "" {
		b.Skip("LEAKLAB_BIN names no built leaklab: use make bench")
	}
	cmd := exec.Command(bin, append([]string{"run", "--json", "--out", b.TempDir()}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("%v: %v\n%s", args, err, out)
	}
	var result report.Run
	if err := json.Unmarshal(out, &result); err != nil {
		b.Fatal(err)
	}
	return result
}

// BenchmarkHarnessShare is the agent's share of the CPU time that the agent and
// its subjects use together.
func BenchmarkHarnessShare(b *testing.B) {
	for _, name := range []string{"ttrpc/unix-v1.0.1", "ttrpc/unix-v1.1.0"} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				cpu := measure(b, name).Arms[0].CPU
				agent, err1 := strconv.ParseFloat(cpu["agent"], 64)
				subjects, err2 := strconv.ParseFloat(cpu["subjects"], 64)
				if err1 != nil || err2 != nil {
					b.Fatalf("no CPU seconds: %v", cpu)
				}
				b.ReportMetric(agent/(agent+subjects), "harness-share")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// BenchmarkTimeToVerdict is how long each arm takes, in seconds and as a share
// of its scenario.
func BenchmarkTimeToVerdict(b *testing.B) {
	for _, s := range scenarios.All {
		b.Run(s.Name, func(b *testing.B) {
			for range b.N {
				result := measure(b, s.Name)
				b.ReportMetric(result.Seconds, "s/scenario")
				b.ReportMetric(0, "ns/op")
				for _, a := range result.Arms {
					b.Logf("%-40s %6.1f s  %4.1f %%", a.Name(), a.Seconds, 100*a.Seconds/result.Seconds)
				}
			}
		})
	}
}

// BenchmarkLeakingCalls compares the rate of leaking calls through leaklab with
// that of a bare loop of the same client, in calls per second.
func BenchmarkLeakingCalls(b *testing.B) {
	const calls = 8000
	for range b.N {
		result := measure(b, "ttrpc/unix-v1.0.1", "--ops", fmt.Sprint(calls), "--trials", "6")
		var seconds []float64
		for _, s := range result.Arms[0].Samples {
			if s.Seconds > 0 {
				seconds = append(seconds, s.Seconds)
			}
		}
		through := 0.0
		for _, s := range seconds {
			through += float64(calls) / s / float64(len(seconds))
		}
		bare := bareTTRPC(b, calls, len(seconds))
		b.ReportMetric(through/bare, "through/bare")
		b.ReportMetric(through, "calls/s")
		b.ReportMetric(0, "ns/op")
	}
}

// bareTTRPC drives the pair with nothing of leaklab around it: deadlock, then
// rounds of calls. It returns the mean of the rounds' calls per second.
func bareTTRPC(b *testing.B, calls, rounds int) float64 {
	b.Helper()
	pair := filepath.Join(built(b, "ttrpc-pair@v1.0.1"), "pair")
	dir := b.TempDir()
	for _, role := range []string{"serve", "call"} {
		cmd := exec.Command(pair, role, "-network", "unix", "-addr", filepath.Join(dir, "s"), "-control", filepath.Join(dir, role))
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		for range 500 {
			if _, err := ask(dir, role, "status"); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	must := func(text string, err error) string {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
		return text
	}
	must(ask(dir, "call", "storm?callers=64&calls=40&size=4096"))
	time.Sleep(time.Second)
	must(ask(dir, "call", "calls?n=20&size=64"))
	sum := 0.0
	for range rounds {
		start := time.Now()
		must(ask(dir, "call", fmt.Sprintf("calls?n=%d&size=64", calls)))
		sum += float64(calls) / time.Since(start).Seconds()
		time.Sleep(100 * time.Millisecond)
	}
	if status := must(ask(dir, "call", "status")); strings.Contains(status, `"answered":2560,`) {
		b.Fatal("the bare pair did not deadlock")
	}
	return sum / float64(rounds)
}

// bareClient keeps its connections, as leaklab does.
var bareClient = http.Client{Transport: &http.Transport{
	DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		socket, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		path, err := hex.DecodeString(socket)
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, "unix", string(path))
	},
}}

// ask sends a command to the control socket of one side.
func ask(dir, role, command string) (string, error) {
	resp, err := bareClient.Post("http://"+hex.EncodeToString([]byte(filepath.Join(dir, role)))+"/"+command, "", nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// built is the folder of a runtime's binaries.
func built(b *testing.B, ref string) string {
	b.Helper()
	out, err := exec.Command(os.Getenv("LEAKLAB_BIN"), "runtimes", "build", ref).Output()
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(out))
	return fields[len(fields)-1]
}
