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

// live is for terminals: finished arms above, below them a line for whatever is
// built, and one for each running arm that moves with what it does.
type live struct {
	out *mpb.Progress

	mu    sync.Mutex
	lines map[string]*liveLine
}

// liveLine is one moving line. It has a lock of its own, because bars are drawn
// by a goroutine of the library's.
type liveLine struct {
	bar  *mpb.Bar
	mu   sync.Mutex
	text string
}

// preparing is the line of what is built.
const preparing = ""

func newLive() *live {
	return &live{out: mpb.New(mpb.WithOutput(os.Stderr), mpb.WithWidth(2)), lines: map[string]*liveLine{}}
}

// open makes a line.
func (l *live) open(name, head, text string) {
	line := &liveLine{text: text}
	line.bar = l.out.New(0, mpb.SpinnerStyle(), mpb.BarRemoveOnComplete(),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			line.mu.Lock()
			defer line.mu.Unlock()
			return head + line.text
		})))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines[name] = line
}

func (l *live) line(name string) *liveLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines[name]
}

func (l *live) drop(name string) {
	l.mu.Lock()
	line := l.lines[name]
	delete(l.lines, name)
	l.mu.Unlock()
	if line != nil {
		line.bar.SetTotal(-1, true)
	}
}

func (l *live) Preparing(text string) {
	if l.line(preparing) == nil {
		l.open(preparing, "", text)
		return
	}
	l.set(preparing, text)
}

func (l *live) Started(s plan.Step, i, n int) {
	l.drop(preparing)
	l.open(s.Name(), fmt.Sprintf("[%d/%d] %s: ", i, n, s.Name()), "starting")
}

func (l *live) Progress(s plan.Step, text string) { l.set(s.Name(), text) }

func (l *live) set(name, text string) {
	if line := l.line(name); line != nil {
		line.mu.Lock()
		defer line.mu.Unlock()
		line.text = text
	}
}

func (l *live) Finished(a report.Arm) {
	l.drop(a.Name())
	fmt.Fprintln(l.out, a.Line(report.Coloured))
}

func (l *live) close() {
	l.drop(preparing)
	l.out.Wait()
}
