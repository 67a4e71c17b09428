package dockerstop

import (
	"testing"

	"github.com/leaklab/leaklab/harness/probe"
)

// Four stops at the four places where one can be, shortened from a dump of
// 18.09.
const dump = `goroutine 10 [chan receive, 2 minutes]:
github.com/docker/docker/daemon.(*Daemon).Kill(0xc1, 0xc2)
	/src/daemon/kill.go:162 +0x1
github.com/docker/docker/daemon.(*Daemon).containerStop(0xc1, 0xc2, 0x1)
	/src/daemon/stop.go:80 +0x1

goroutine 11 [select, 2 minutes]:
github.com/docker/docker/container.(*State).Wait.func1()
	/src/container/state.go:213 +0x1
created by github.com/docker/docker/container.(*State).Wait in goroutine 10
	/src/container/state.go:212 +0x1

goroutine 20 [chan receive]:
github.com/docker/docker/daemon.killProcessDirectly(0xc2)
	/src/daemon/container_operations_unix.go:336 +0x1
github.com/docker/docker/daemon.(*Daemon).Kill(0xc1, 0xc2)
	/src/daemon/kill.go:153 +0x1
github.com/docker/docker/daemon.(*Daemon).containerStop(0xc1, 0xc2, 0x1)
	/src/daemon/stop.go:80 +0x1

goroutine 21 [select]:
github.com/docker/docker/container.(*State).Wait.func1()
	/src/container/state.go:213 +0x1
created by github.com/docker/docker/container.(*State).Wait in goroutine 20
	/src/container/state.go:212 +0x1

goroutine 30 [sync.Mutex.Lock]:
github.com/docker/docker/daemon.(*Daemon).killWithSignal(0xc1, 0xc2, 0x9)
	/src/daemon/kill.go:64 +0x1
github.com/docker/docker/daemon.(*Daemon).killPossiblyDeadProcess(0xc1, 0xc2, 0x9)
	/src/daemon/kill.go:169 +0x1
github.com/docker/docker/daemon.(*Daemon).Kill(0xc1, 0xc2)
	/src/daemon/kill.go:128 +0x1
github.com/docker/docker/daemon.(*Daemon).containerStop(0xc1, 0xc2, 0x1)
	/src/daemon/stop.go:80 +0x1

goroutine 40 [chan receive]:
github.com/docker/docker/daemon.(*Daemon).containerStop(0xc1, 0xc2, 0x1)
	/src/daemon/stop.go:75 +0x1

goroutine 41 [select]:
github.com/docker/docker/container.(*State).Wait.func1()
	/src/container/state.go:213 +0x1
created by github.com/docker/docker/container.(*State).Wait in goroutine 40
	/src/container/state.go:212 +0x1

`

func TestWhereStopsAre(t *testing.T) {
	gs, err := probe.ParseGoroutineDump([]byte(dump))
	if err != nil {
		t.Fatal(err)
	}
	if n := beforeKill(gs); n != 2 {
		t.Errorf("%d stops have their SIGKILL before them, not 2", n)
	}
	if n := lastWait(gs).Total(); n != 1 {
		t.Errorf("%d stops are in their last wait, not 1", n)
	}
	if n := pairs(gs); n != 1 {
		t.Errorf("%d stops hold their two goroutines, not 1", n)
	}
	if n := gs.In(inKill); n != 3 {
		t.Errorf("%d goroutines in Kill, not 3", n)
	}
}

func TestBufioOnTop(t *testing.T) {
	site := func(f string, n int64) probe.HeapSite { return probe.HeapSite{Func: f, Bytes: n} }
	for name, c := range map[string]struct {
		grown probe.Heap
		want  bool
	}{
		"as in the report": {probe.Heap{site("bufio.NewReaderSize", 9), site("bufio.NewWriterSize", 8), site("x", 1)}, true},
		"only one of them": {probe.Heap{site("bufio.NewReaderSize", 9), site("x", 1)}, false},
		"behind another":   {probe.Heap{site("x", 10), site("bufio.NewReaderSize", 9), site("bufio.NewWriterSize", 8)}, false},
		"nothing grew":     {nil, false},
	} {
		if got, _ := bufioOnTop(c.grown); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
