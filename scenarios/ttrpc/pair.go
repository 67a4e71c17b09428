package ttrpc

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/part"
	"github.com/leaklab/leaklab/harness/probe"
)

// side is one process of a running pair.
type side struct{ *part.Part }

// pair is a running server and client.
type pair struct{ server, client *side }

// status is what both sides tell of themselves.
type status struct {
	Started, Answered, Released, Failed int64
	FirstError                          string
	Sndbuf                              int64
	HeapAndStack                        float64
}

// hanging is the number of calls that have not come back.
func (s status) hanging() int64 { return s.Started - s.Answered - s.Released - s.Failed }

// startPair starts a server and a client that is connected to it.
func startPair(ctx context.Context, lab arm.Lab, s setting, trial int) (*pair, error) {
	dir := lab.Dir(strconv.Itoa(trial))
	addr := filepath.Join(dir, "socket")
	if s.Network == "tcp" {
		addr = fmt.Sprintf("127.0.0.1:%d", 20000+trial)
	}
	p := &pair{}
	for _, role := range []struct {
		name string
		side **side
	}{{"serve", &p.server}, {"call", &p.client}} {
		started, err := startSide(ctx, lab.Bin(pairName, "pair"), role.name, dir,
			"-network", s.Network, "-addr", addr, "-sndbuf", strconv.Itoa(s.Sndbuf))
		if err != nil {
			p.stop()
			return nil, err
		}
		*role.side = started
	}
	return p, nil
}

func startSide(ctx context.Context, bin, role, dir string, args ...string) (*side, error) {
	control := filepath.Join(dir, role+".control")
	p, err := part.Launch(ctx, exec.Command(bin, append([]string{role, "-control", control}, args...)...), "pair "+role, control, "status")
	if err != nil {
		return nil, err
	}
	return &side{p}, nil
}

func (p *pair) stop() {
	for _, s := range []*side{p.client, p.server} {
		if s != nil {
			s.Kill()
		}
	}
}

func (s *side) status(ctx context.Context) (status, error) {
	var st status
	err := s.Ask(ctx, "status", nil, &st)
	return st, err
}

// read samples the client.
func (p *pair) read(ctx context.Context) (map[string]float64, error) {
	gs, err := p.client.Pprof().Goroutines(ctx)
	if err != nil {
		return nil, err
	}
	st, err := p.client.status(ctx)
	if err != nil {
		return nil, err
	}
	proc, err := probe.ReadProcess(p.client.PID())
	if err != nil {
		return nil, err
	}
	return map[string]float64{
		hungCalls.Name:   float64(gs.In("ttrpc.(*Client).dispatch")),
		goroutines.Name:  float64(gs.Total()),
		memory.Name:      st.HeapAndStack,
		residentSet.Name: float64(proc.RSS),
		descriptors.Name: float64(proc.FDs),
	}, nil
}

// profile keeps the side's profiles as evidence, so that before and after can be
// compared.
func (s *side) profile(ctx context.Context, lab arm.Lab, when string) error {
	for _, of := range []struct{ profile, file string }{
		{"goroutine", "client-" + when + ".goroutine.pb.gz"},
		{"heap?gc=1", "client-" + when + ".heap.pb.gz"},
	} {
		data, err := s.Pprof().Get(ctx, of.profile)
		if err != nil {
			return err
		}
		lab.File(of.file, data)
	}
	return nil
}

// freeze stops a side from reading, as a hung peer does; thaw lets it go on.
func (s *side) freeze() error { return s.Signal(unix.SIGSTOP) }
func (s *side) thaw() error   { return s.Signal(unix.SIGCONT) }
