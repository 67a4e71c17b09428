// Package part runs the helper processes of scenarios: the programs, callers
// mostly, that must not share a process with the agent, because what they hold
// is counted. A part answers HTTP on a control socket and serves its profiles
// there.
package part

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leaklab/leaklab/harness/probe"
)

// Part is a helper process that was started.
type Part struct {
	name    string
	control string
	cmd     *exec.Cmd
	stderr  bytes.Buffer // to be read once ended is closed
	ended   chan struct{}
	http    http.Client
}

// startBound is how long a part may take to open its control socket.
const startBound = 10 * time.Second

// Start starts "leaklab part <scenario> <name> -control <control> <args>…" and
// waits until its control socket answers. It dies with the calling process.
func Start(ctx context.Context, scenario, name, control string, args ...string) (*Part, error) {
	cmd := exec.Command("/proc/self/exe", append([]string{"part", scenario, name, "-control", control}, args...)...)
	cmd.Args[0] = "leaklab"
	return Launch(ctx, cmd, name, control, "")
}

// Launch starts any program that has a control socket as parts have, and waits
// until it answers the command ready. It dies with the calling process.
func Launch(ctx context.Context, cmd *exec.Cmd, name, control, ready string) (*Part, error) {
	p := &Part{name: name, control: control, cmd: cmd, ended: make(chan struct{})}
	p.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", control)
	}}
	p.cmd.Stderr = &p.stderr
	p.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	started := make(chan error, 1)
	go func() {
		defer close(p.ended)
		// Pdeathsig is bound to the thread that starts the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // parts end by being killed
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting the %s: %w", name, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startBound, fmt.Errorf("the %s does not answer on its control socket", name))
	defer cancel()
	for {
		if p.Ask(ctx, ready, nil, nil) == nil {
			return p, nil
		}
		select {
		case <-p.ended:
			return nil, fmt.Errorf("the %s ended at once: %s", name, bytes.TrimSpace(p.stderr.Bytes()))
		case <-ctx.Done():
			p.Kill()
			return nil, context.Cause(ctx)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// PID is the process's.
func (p *Part) PID() int { return p.cmd.Process.Pid }

// Pprof reads the process's profiles.
func (p *Part) Pprof() probe.Pprof { return probe.Pprof{Socket: p.control} }

// Kill ends the process and returns when it is gone, with all it held. It may
// be called more than once.
func (p *Part) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
	p.http.CloseIdleConnections()
}

// Signal sends the process a signal.
func (p *Part) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Params are the numbers that a command takes.
type Params map[string]int

// Ask sends a command and reads its answer, JSON, unless answer is nil.
func (p *Part) Ask(ctx context.Context, command string, params Params, answer any) error {
	values := url.Values{}
	for k, v := range params {
		values.Set(k, strconv.Itoa(v))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://part/"+command+"?"+values.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", p.name, command, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return fmt.Errorf("%s, %s: %w", p.name, command, err)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s, %s: %s", p.name, command, bytes.TrimSpace(body))
	case answer == nil:
		return nil
	}
	return json.Unmarshal(body, answer)
}

// Command is a command as the part itself sees it. What it returns is sent as
// JSON.
type Command func(ctx context.Context, params Params) (answer any, err error)

// Serve is the part's own side: it answers commands on the control socket until
// ctx ends. The process shows under its name in ps and ss.
func Serve(ctx context.Context, name, control string, commands map[string]Command) error {
	// The kernel keeps 15 bytes of it.
	if err := os.WriteFile("/proc/self/comm", []byte(name), 0o644); err != nil {
		return err
	}
	l, err := net.Listen("unix", control)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("POST /{$}", func(http.ResponseWriter, *http.Request) {})
	for command, do := range commands {
		mux.HandleFunc("POST /"+command, func(w http.ResponseWriter, r *http.Request) {
			answer, err := do(r.Context(), paramsOf(r.URL.Query()))
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(answer) // nobody is left to tell
		})
	}
	err = http.Serve(l, mux)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func paramsOf(values url.Values) Params {
	p := Params{}
	for k, v := range values {
		if n, err := strconv.Atoi(strings.Join(v, "")); err == nil {
			p[k] = n
		}
	}
	return p
}
