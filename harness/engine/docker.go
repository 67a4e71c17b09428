// Package engine runs the real container engines in throw-away roots: any
// dockerd with the containerd, shim and runc it drives, started, broken,
// restarted and read like the machine's own, and never touching that one.
package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"

	"github.com/leaklab/leaklab/harness/fault"
	"github.com/leaklab/leaklab/harness/probe"
)

// Options say how a dockerd is run. Networking is off unless Bridge is set, and
// iptables are never touched.
type Options struct {
	// Bin is the folder of the engine's binaries. It is the daemon's whole PATH:
	// old versions make iptables chains wherever they find iptables.
	Bin string
	// Dir holds the daemon's data, configuration and log.
	Dir string
	// Run is the daemon's exec-root and holds its socket; it must not exist yet.
	// It belongs on a /run of the arm's own, which arms have that need root.
	// The path must be short: that of a unix socket ends at 108 bytes, and
	// libnetwork's has 80 of its own. Containers of 18.09 whose network is not
	// the host's want [DefaultRun]: it does not tell its hook of another.
	Run string
	// SlaveMounts gives the daemon, at each start, a new mount namespace whose
	// mounts are slaves, as MountFlags=slave in its systemd unit does. Without
	// it the daemon shares its caller's namespace, in every start the same one.
	SlaveMounts bool
	// Bridge leaves the default bridge network on. It wants a network
	// namespace of its own.
	Bridge bool
	// Config is written to daemon.json: "live-restore", "debug", …
	Config map[string]any
	// Env is the environment beside PATH: "GODEBUG=memprofilerate=1".
	Env []string
	// Flags are further flags of the daemon.
	Flags []string
}

// DefaultRun is the run-time folder that dockerd takes by itself.
const DefaultRun = "/run/docker"

// How long the daemon may take to answer its first ping, and to end after
// SIGTERM before it is killed. Both take about a second (1.13.1), but with exact
// heap profiles on an emulated, busy processor the first takes over a minute.
const (
	startBound = 3 * time.Minute
	stopBound  = time.Minute
)

// Docker is a dockerd that was started. Its methods are for one goroutine.
type Docker struct {
	opts   Options
	flags  []string
	cmd    *exec.Cmd
	ended  chan struct{} // closed when the daemon is gone
	client *client.Client
}

// StartDocker starts a dockerd and waits until it answers. What it starts dies
// with the calling process; Kill it all the same. Where the run-time state of
// another daemon is found, that one is left alone and nothing is started.
func StartDocker(ctx context.Context, o Options) (*Docker, error) {
	if err := os.Mkdir(o.Run, 0o755); err != nil {
		return nil, fmt.Errorf("a folder for dockerd's run-time state (it must not be another daemon's): %w", err)
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	d := &Docker{opts: o}
	d.opts.Config = maps.Clone(o.Config)
	if err := d.writeConfig(); err != nil {
		return nil, err
	}
	help, err := d.command("--help").Output()
	if err != nil {
		return nil, fmt.Errorf("asking dockerd for its flags: %w", err)
	}
	d.flags = flags(o, string(help))
	if err := d.Start(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *Docker) logPath() string { return filepath.Join(d.opts.Dir, "dockerd.log") }

func configPath(o Options) string { return filepath.Join(o.Dir, "daemon.json") }

func (d *Docker) writeConfig() error {
	config := d.opts.Config
	if config == nil {
		config = map[string]any{}
	}
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(configPath(d.opts), text, 0o644)
}

// command prepares the daemon's binary with the environment it runs in.
func (d *Docker) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(d.opts.Bin, "dockerd"), args...)
	cmd.Dir = d.opts.Dir
	cmd.Env = append([]string{"PATH=" + d.opts.Bin}, d.opts.Env...)
	// Packages bring the libraries that a small system may lack.
	if lib := filepath.Join(d.opts.Bin, "lib"); isDir(lib) {
		cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+lib)
	}
	return cmd
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// Start starts the daemon again after [Docker.Stop] or [Docker.Kill], and waits
// until it answers.
func (d *Docker) Start(ctx context.Context) error {
	if err := d.launch(); err != nil {
		return err
	}
	if err := d.awaitAnswer(ctx); err != nil {
		d.Kill()
		return err
	}
	// The idle connections of an earlier client lead to an earlier daemon.
	c, err := client.NewClientWithOpts(client.WithHost("unix://"+d.socket()), client.WithAPIVersionNegotiation())
	if err != nil {
		d.Kill()
		return fmt.Errorf("a client for dockerd: %w", err)
	}
	d.client = c
	return nil
}

func (d *Docker) launch() error {
	log, err := os.OpenFile(d.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := d.command(d.flags...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	started, ended := make(chan error, 1), make(chan struct{})
	run := func() error {
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log, and told by who wanted it to live
		}
		return nil
	}
	go func() {
		defer close(ended)
		if d.opts.SlaveMounts {
			if err := fault.SlaveMounts(run); err != nil {
				started <- err
			}
			return
		}
		// Pdeathsig is bound to the thread that starts the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		run()
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("starting dockerd: %w", err)
	}
	d.cmd, d.ended = cmd, ended
	return nil
}

// socket is where the daemon listens.
func (d *Docker) socket() string { return socket(d.opts) }

func socket(o Options) string { return filepath.Join(o.Run, "docker.sock") }

// awaitAnswer pings until the daemon answers.
func (d *Docker) awaitAnswer(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startBound, fmt.Errorf("dockerd does not answer within %v", startBound))
	defer cancel()
	for {
		if d.Ping(ctx) == nil {
			return nil
		}
		select {
		case <-d.ended:
			return fmt.Errorf("dockerd ended at once: %s", d.lastWords())
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Ping asks once whether the daemon answers, on a connection of its own.
func (d *Docker) Ping(ctx context.Context) error {
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", d.socket())
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/_ping", nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// lastWords is the last line of the log.
func (d *Docker) lastWords() []byte {
	text, err := d.Log()
	if err != nil {
		return []byte(err.Error())
	}
	text = bytes.TrimSpace(text)
	return text[bytes.LastIndexByte(text, '\n')+1:]
}

// Stop ends the daemon as systemd does: SIGTERM, and SIGKILL when that does not
// help, which is an error. With live-restore its containers go on.
func (d *Docker) Stop(ctx context.Context) error {
	d.client.Close() // it only closes idle connections
	if err := d.cmd.Process.Signal(unix.SIGTERM); err != nil {
		return fmt.Errorf("stopping dockerd: %w", err)
	}
	select {
	case <-d.ended:
		return nil
	case <-ctx.Done():
		d.Kill()
		return context.Cause(ctx)
	case <-time.After(stopBound):
		d.Kill()
		return fmt.Errorf("dockerd did not stop within %v and was killed", stopBound)
	}
}

// Restart stops the daemon and starts it again.
func (d *Docker) Restart(ctx context.Context) error {
	if err := d.Stop(ctx); err != nil {
		return err
	}
	return d.Start(ctx)
}

// Kill ends the daemon at once. It may be called at any time.
func (d *Docker) Kill() {
	if d.client != nil {
		d.client.Close()
	}
	_ = d.cmd.Process.Kill() // it may have ended
	<-d.ended
}

// Reload changes daemon.json and has the daemon read it again (SIGHUP).
func (d *Docker) Reload(config map[string]any) error {
	if d.opts.Config == nil {
		d.opts.Config = map[string]any{}
	}
	maps.Copy(d.opts.Config, config)
	if err := d.writeConfig(); err != nil {
		return err
	}
	return d.cmd.Process.Signal(unix.SIGHUP)
}

// PID is the daemon's process, a new one after each start.
func (d *Docker) PID() int { return d.cmd.Process.Pid }

// Host is the daemon's address as clients want it: "unix:///run/docker/docker.sock".
func (d *Docker) Host() string { return "unix://" + d.socket() }

// Client is a client of the daemon since its last start, for the lab's own
// requests. It keeps up to six idle connections, which count as the daemon's.
func (d *Docker) Client() *client.Client { return d.client }

// Pprof reads the profiles that the daemon serves in debug mode.
func (d *Docker) Pprof() probe.Pprof { return probe.Pprof{Socket: d.socket()} }

// Log is all that the daemon has said, in all its starts.
func (d *Docker) Log() ([]byte, error) { return os.ReadFile(d.logPath()) }

// LogLines is the log line by line.
func (d *Docker) LogLines() ([]LogLine, error) {
	text, err := d.Log()
	if err != nil {
		return nil, err
	}
	return ParseLog(text), nil
}
