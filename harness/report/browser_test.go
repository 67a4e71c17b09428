package report

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	. "github.com/onsi/gomega"

	"github.com/leaklab/leaklab/harness/arm"
)

// browser starts a headless Chromium, or skips the test where there is none.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("no Chromium here: the report is not looked at (install chromium)")
	}
	alloc, stop := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.Headless, chromedp.NoSandbox,
		chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("hide-scrollbars", true))
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	ctx, timeout := context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(timeout)
	return ctx
}

// complaints gathers what a page says on the console and asks of the network.
type complaints struct {
	mu  sync.Mutex
	all []string
}

func (c *complaints) listen(ctx context.Context) error {
	add := func(s string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.all = append(c.all, s)
	}
	return chromedp.Listen(ctx, func(ev any) {
		switch e := ev.(type) {
		case *cdpruntime.EventConsoleAPICalled:
			add(fmt.Sprintf("console %s: %v", e.Type, e.Args))
		case *cdpruntime.EventExceptionThrown:
			add("exception: " + e.ExceptionDetails.Text)
		case *network.EventRequestWillBeSent:
			if u := e.Request.URL; !strings.HasPrefix(u, "file://") && !strings.HasPrefix(u, "data:") {
				add("asks for " + u)
			}
		case *network.EventLoadingFailed:
			add("loading failed: " + e.ErrorText)
		}
	})
}

// withEvidence writes a run's folder with every kind of evidence in it.
func withEvidence(t *testing.T) (dir string) {
	t.Helper()
	g := NewWithT(t)
	dir = t.TempDir()
	r := results()
	r.Started, r.Command = time.Now(), []string{"leaklab", "run", "s"}
	r.Scenarios = []Scenario{{Name: "s", Title: "something stays", Story: "It happens. For a reason. There is a cure.", Frames: []string{"runtime.goexit", "report.withEvidence.func1"}}}
	r.Claims = []Claim{{ID: "X1", Scenario: "s", Says: "It leaks.", Verdict: arm.Confirmed, Figure: "1 per operation"}}
	leak := &r.Arms[0]
	leak.Samples = append(leak.Samples, arm.Sample{Phase: arm.PhaseRelease, Counters: map[string]float64{"n": 0}, Settled: true})
	keep := func(name string, data []byte) {
		leak.Files = append(leak.Files, "s/leak/"+name)
		g.Expect(os.MkdirAll(filepath.Join(dir, "s/leak"), 0o755)).To(Succeed())
		g.Expect(os.WriteFile(filepath.Join(dir, "s/leak", name), data, 0o644)).To(Succeed())
	}
	snapshot := func(when string) {
		for _, profile := range []string{"goroutine", "heap"} {
			var b bytes.Buffer
			g.Expect(pprof.Lookup(profile).WriteTo(&b, 0)).To(Succeed())
			keep("subject-"+when+"."+profile+profileSuffix, b.Bytes())
		}
	}
	held := make(chan []byte)
	t.Cleanup(func() { close(held) })
	snapshot(before)
	for range 50 {
		go func() { <-held }()
	}
	snapshot(after)
	keep("dump.stacks.txt", []byte("3 goroutines\n\n3 × [select]\n    a.go:1 runtime.goexit\n"))
	keep("peers.sockets.txt", []byte("40 agent,pid=7\n"))
	keep("found.lines.txt", []byte("collecting stats for <x>: not found\n"))
	keep("broken-before.heap.pb.gz", []byte("no profile"))
	keep("broken-after.heap.pb.gz", []byte("no profile"))
	keep("subject.log", []byte("<script>alert(1)</script>\n"))
	leak.Notes = []string{"<script>alert(2)</script>"}
	g.Expect(r.Write(dir)).To(Succeed())
	return dir
}

// sight is what the page shows.
type sight struct {
	Points, Marks, Figures, Evidence int
	Wide                             []string
	Background, Ink, Title           string
}

// TestReportInABrowser looks at the report as a reader does.
func TestReportInABrowser(t *testing.T) {
	g := NewWithT(t)
	ctx := browser(t)
	dir := os.Getenv("LEAKLAB_REPORT") // a real result can be looked at instead
	if dir == "" {
		dir = withEvidence(t)
	}
	var heard complaints
	g.Expect(heard.listen(ctx)).To(Succeed())
	_, err := chromedp.Call(ctx, network.Enable, network.EnableParams{})
	g.Expect(err).NotTo(HaveOccurred())
	url := "file://" + filepath.Join(dir, "report.html")
	type view struct {
		name, scheme, media string
		width               int64
	}
	backgrounds := map[string]string{}
	for _, v := range []view{
		{"light", "light", "screen", 1280}, {"dark", "dark", "screen", 1280},
		{"narrow", "light", "screen", 360}, {"paper", "dark", "print", 700},
	} {
		_, err := chromedp.Call(ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: v.width, Height: 900, DeviceScaleFactor: 1, Mobile: v.width < 600})
		g.Expect(err).NotTo(HaveOccurred())
		_, err = chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Media: v.media, Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: v.scheme}}})
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(chromedp.Do(ctx, chromedp.Navigate(url))).To(Succeed())
		seen, err := chromedp.Run(ctx, chromedp.Evaluate[sight](lookAt))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(seen.Title).To(HavePrefix("leaklab: "))
		g.Expect(seen.Figures).To(BeNumerically(">", 0))
		g.Expect(seen.Points).To(BeNumerically(">", 0), "every plot has points")
		g.Expect(seen.Marks).To(BeNumerically(">=", seen.Points), "every point is drawn")
		g.Expect(seen.Evidence).To(BeNumerically(">", 0))
		g.Expect(seen.Wide).To(BeEmpty(), "%s: nothing sticks out at the side", v.name)
		g.Expect(seen.Ink).NotTo(Equal(seen.Background))
		backgrounds[v.name] = seen.Background
		if to := os.Getenv("LEAKLAB_SHOTS"); to != "" {
			shot, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(os.WriteFile(filepath.Join(to, v.name+".png"), shot, 0o644)).To(Succeed())
		}
	}
	g.Expect(backgrounds["dark"]).NotTo(Equal(backgrounds["light"]))
	g.Expect(backgrounds["paper"]).To(Equal("rgb(255, 255, 255)"), "paper is white, whatever the screen")
	heard.mu.Lock()
	defer heard.mu.Unlock()
	g.Expect(heard.all).To(BeEmpty())
}

// lookAt counts what the page shows. A point is a filled or stroked path with an
// arc or a closed shape inside a plot.
const lookAt = `(() => {
  const figures = [...document.querySelectorAll("figure[data-points]")];
  const points = figures.map(f => +f.dataset.points);
  const wide = [...document.querySelectorAll("body *")].filter(e =>
    !e.closest("svg") && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(e => e.tagName + "." + e.className);
  const line = figures.map(f => f.querySelectorAll("svg.plot path").length);
  return {
    Figures: figures.length,
    Points: figures.length ? Math.min(...points) : 0,
    Marks: line.reduce((a, b) => a + b, 0),
    Evidence: document.querySelectorAll(".stack").length,
    Wide: wide,
    Background: getComputedStyle(document.body).backgroundColor,
    Ink: getComputedStyle(document.body).color,
    Title: document.title,
  };
})()`

// TestReportIsOneFile makes sure that nothing in the page comes from elsewhere
// and that no text of a subject becomes markup.
func TestReportIsOneFile(t *testing.T) {
	g := NewWithT(t)
	page, err := os.ReadFile(filepath.Join(withEvidence(t), "report.html"))
	g.Expect(err).NotTo(HaveOccurred())
	text := string(page)
	for _, elsewhere := range []string{"<script", "src=", "@import", "url(", "<link rel=\"stylesheet"} {
		g.Expect(text).NotTo(ContainSubstring(elsewhere))
	}
	g.Expect(text).To(ContainSubstring("&lt;script&gt;alert(2)"))
	g.Expect(text).To(ContainSubstring("documented"))
	g.Expect(text).To(ContainSubstring("report.withEvidence.func"))
	g.Expect(text).To(ContainSubstring("Cannot be shown: broken-before.heap.pb.gz"))
}
