package ttrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/probe"
)

// side is one process of a running pair.
type side struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	exited chan struct{}
	http   http.Client
	pprof  probe.Pprof
}

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
	s := &side{exited: make(chan struct{}), pprof: probe.Pprof{Socket: control}}
	s.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", control)
	}}
	s.cmd = exec.Command(bin, append([]string{role, "-control", control}, args...)...)
	s.cmd.Stderr = &s.stderr
	s.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the pair: %w", err)
	}
	go func() { s.cmd.Wait(); close(s.exited) }()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := s.status(ctx); err == nil {
			return s, nil
		}
		select {
		case <-s.exited:
			return nil, fmt.Errorf("pair %s ended at once: %s", role, bytes.TrimSpace(s.stderr.Bytes()))
		case <-ctx.Done():
			s.kill()
			return nil, context.Cause(ctx)
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.kill()
			return nil, fmt.Errorf("pair %s does not answer on its control socket", role)
		}
	}
}

func (s *side) kill() {
	s.cmd.Process.Kill() // it may be gone already
	<-s.exited
	s.http.CloseIdleConnections()
}

func (p *pair) stop() {
	for _, s := range []*side{p.client, p.server} {
		if s != nil {
			s.kill()
		}
	}
}

func (s *side) pid() int { return s.cmd.Process.Pid }

func (s *side) status(ctx context.Context) (status, error) {
	var st status
	err := s.ask(ctx, "status", nil, &st)
	return st, err
}

// params are the numbers a command takes.
type params map[string]int

// ask sends a command to the control socket.
func (s *side) ask(ctx context.Context, command string, p params, answer any) error {
	values := url.Values{}
	for k, v := range p {
		values.Set(k, strconv.Itoa(v))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://pair/"+command+"?"+values.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return fmt.Errorf("pair, %s: %w", command, err)
	}
	defer resp.Body.Close()
	if answer == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

// read samples the client.
func (p *pair) read(ctx context.Context) (map[string]float64, error) {
	gs, err := p.client.pprof.Goroutines(ctx)
	if err != nil {
		return nil, err
	}
	st, err := p.client.status(ctx)
	if err != nil {
		return nil, err
	}
	proc, err := probe.ReadProcess(p.client.pid())
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
		data, err := s.pprof.Get(ctx, of.profile)
		if err != nil {
			return err
		}
		lab.File(of.file, data)
	}
	return nil
}

// freeze stops a side from reading, as a hung peer does; thaw lets it go on.
func (s *side) freeze() error { return s.cmd.Process.Signal(unix.SIGSTOP) }
func (s *side) thaw() error   { return s.cmd.Process.Signal(unix.SIGCONT) }
