package part

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The test binary plays leaklab when it is started with the part's arguments.
func TestMain(m *testing.M) {
	if len(os.Args) > 4 && os.Args[1] == "part" {
		os.Exit(play(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// play is one of the test's parts: scenario, name, "-control", path.
func play(args []string) int {
	if args[1] == "mute" {
		os.Stderr.WriteString("has nothing to say\n")
		return 1
	}
	err := Serve(context.Background(), args[1], args[3], map[string]Command{
		"double": func(_ context.Context, p Params) (any, error) { return p["n"] * 2, nil },
		"fail":   func(context.Context, Params) (any, error) { return nil, errors.New("cannot") },
	})
	if err != nil {
		return 1
	}
	return 0
}

func TestPart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	control := filepath.Join(t.TempDir(), "c")
	p, err := Start(ctx, "test", "a-caller", control)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	var n int
	if err := p.Ask(ctx, "double", Params{"n": 21}, &n); err != nil || n != 42 {
		t.Errorf("%d, %v", n, err)
	}
	if err := p.Ask(ctx, "fail", nil, nil); err == nil || !strings.Contains(err.Error(), "cannot") {
		t.Errorf("error %v", err)
	}
	if err := p.Ask(ctx, "unknown", nil, nil); err == nil {
		t.Error("an unknown command was answered")
	}
	if gs, err := p.Pprof().Goroutines(ctx); err != nil || gs.Total() == 0 {
		t.Errorf("its goroutines: %v, %v", gs, err)
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.PID()))
	if err != nil || string(comm) != "a-caller\n" {
		t.Errorf("its name is %q (%v)", comm, err)
	}
	p.Kill()
	if _, err := net.Dial("unix", control); err == nil {
		t.Error("it answers after it was killed")
	}
}

func TestPartThatEnds(t *testing.T) {
	_, err := Start(t.Context(), "test", "mute", filepath.Join(t.TempDir(), "c"))
	if err == nil || !strings.Contains(err.Error(), "nothing to say") {
		t.Errorf("error %v", err)
	}
}
