package probe

import (
	"bytes"
	"runtime/pprof"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

func parkedHere(running chan<- struct{}, release <-chan struct{}) {
	running <- struct{}{}
	<-release
}

func goroutineProfile(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 0); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestGrowthOfGoroutines(t *testing.T) {
	before := goroutineProfile(t)
	release := make(chan struct{})
	defer close(release)
	const n = 7
	running := make(chan struct{})
	for range n {
		go parkedHere(running, release)
		<-running
	}
	after := goroutineProfile(t)

	var parsed [2]Goroutines
	for i, data := range [][]byte{before, after} {
		gs, err := ParseGoroutineProfile(data)
		if err != nil {
			t.Fatal(err)
		}
		parsed[i] = gs
	}
	grown := parsed[1].Since(parsed[0])
	if got := grown.In("probe.parkedHere"); got != n {
		t.Errorf("%d goroutines grew, want %d\n%s", got, n, grown.Text())
	}
	if same := parsed[1].Since(parsed[1]); len(same) != 0 {
		t.Errorf("nothing changed, but:\n%s", same.Text())
	}

	data, err := DiffProfiles(before, after)
	if err != nil {
		t.Fatal(err)
	}
	diff, err := profile.ParseData(data)
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for _, s := range diff.Sample {
		for _, l := range s.Location {
			if strings.HasSuffix(l.Line[0].Function.Name, "probe.parkedHere") {
				sum += s.Value[0]
			}
		}
	}
	if sum != n {
		t.Errorf("the difference holds %d of them, want %d", sum, n)
	}
}

func TestGrowthOfHeap(t *testing.T) {
	before := Heap{{"a", 100, 1}, {"b", 50, 5}}
	after := Heap{{"c", 300, 3}, {"a", 160, 2}, {"b", 10, 1}}
	want := Heap{{"c", 300, 3}, {"a", 60, 1}}
	got := after.Since(before)
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %v, want %v", got, want)
	}
	if text := string(got.Text(1)); !strings.Contains(text, "360 bytes in 2") || strings.Contains(text, " a\n") {
		t.Errorf("text:\n%s", text)
	}
}

func TestDiffProfilesRefusesOtherData(t *testing.T) {
	good := goroutineProfile(t)
	if _, err := DiffProfiles([]byte("x"), good); err == nil {
		t.Error("took a broken earlier profile")
	}
	if _, err := DiffProfiles(good, []byte("x")); err == nil {
		t.Error("took a broken later profile")
	}
}
