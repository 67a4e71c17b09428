package cri

import (
	"strings"
	"testing"

	"github.com/leaklab/leaklab/harness/probe"
)

const logLine = `time="2021-11-09T15:50:43Z" level=info msg="=== BEGIN goroutine stack dump ===\ngoroutine 7 [IO wait]:\nmain.f()\n\t/src/main.go:3 +0x1\n\ngoroutine 8 [select]:\nmain.g()\n\t/src/main.go:9 +0x1\ncreated by main.f in goroutine 7\n\t/src/main.go:2 +0x1\n\n=== END goroutine stack dump ===" namespace=k8s.io` + "\n"

func TestShimStacks(t *testing.T) {
	log := "level=warning msg=\"before\"\n" + logLine
	dump, ok := shimStacks([]byte(log))
	if !ok {
		t.Fatal("no dump found")
	}
	gs, err := probe.ParseGoroutineDump(dump)
	if err != nil {
		t.Fatal(err)
	}
	if gs.Total() != 2 || gs.In("main.g") != 1 {
		t.Fatalf("got %s", gs.Text())
	}
	child := gs.Holding("main.g")[0].Members[0]
	if want := (probe.Goroutine{ID: 8, Parent: 7, StartedBy: "main.f"}); child != want {
		t.Errorf("got %+v, want %+v", child, want)
	}
}

func TestShimStacksIncomplete(t *testing.T) {
	half := logLine[:strings.Index(logLine, "goroutine 8")]
	if _, ok := shimStacks([]byte(half)); ok {
		t.Error("half a dump was taken for a whole one")
	}
	if _, ok := shimStacks(nil); ok {
		t.Error("an empty log was taken for a dump")
	}
}

// TestShimStacksInterrupted: containerd's own lines fall into the middle of a
// dump while it copies it.
func TestShimStacksInterrupted(t *testing.T) {
	at := strings.Index(logLine, "goroutine 8") + 4
	const own = `time="2021-11-09T15:50:44Z" level=error msg="get state for X" error="context deadline exceeded"` + "\n" +
		"E1109 15:50:44.000001      18 exec.go:87] error executing command in container\n"
	dump, ok := shimStacks([]byte(logLine[:at] + own + logLine[at:]))
	if !ok {
		t.Fatal("no dump found")
	}
	whole, _ := shimStacks([]byte(logLine))
	if string(dump) != string(whole) {
		t.Errorf("got %s", dump)
	}
	log := "before\n" + logLine[:at] + own + logLine[at:] + "after\n"
	if got, want := string(withoutDumps([]byte(log))), "before\n"+own+"after\n"; got != want {
		t.Errorf("without the dump the log is\n%s\nwant\n%s", got, want)
	}
}
