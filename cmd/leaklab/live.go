package main

import (
	"fmt"
	"os"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/leaklab/leaklab/harness/plan"
	"github.com/leaklab/leaklab/harness/report"
)

// live is for terminals: finished arms above, below a line that moves with what
// the running one does.
type live struct {
	out *mpb.Progress
	bar *mpb.Bar

	mu   sync.Mutex
	head string
	now  string
}

func newLive() *live {
	l := &live{out: mpb.New(mpb.WithOutput(os.Stderr), mpb.WithWidth(2))}
	l.bar = l.out.New(0, mpb.SpinnerStyle(), mpb.BarRemoveOnComplete(),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.head + l.now
		})))
	return l
}

func (l *live) set(head, now string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head, l.now = head, now
}

func (l *live) Preparing(text string) { l.set("", text) }

func (l *live) Started(s plan.Step, i, n int) {
	l.set(fmt.Sprintf("[%d/%d] %s: ", i, n, s.Name()), "starting")
}

func (l *live) Progress(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = text
}

func (l *live) Finished(a report.Arm) {
	fmt.Fprintln(l.out, a.Line(report.Coloured))
	l.set("", "")
}

func (l *live) close() {
	l.bar.SetTotal(-1, true)
	l.out.Wait()
}
