// Package cri runs a node as kubelet sees it: a containerd with its CRI plugin,
// and pods with one container each. Everything is in one folder of the arm's;
// only the sockets of the shims are at their fixed place below /run/containerd,
// which the arm's machine keeps private.
package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/cri-api/pkg/apis/runtime/v1alpha2"

	"github.com/leaklab/leaklab/harness/probe"
)

// Options say what a node is made of.
type Options struct {
	// Containerd and Ctr are the binaries, Shims is the folder with
	// containerd-shim-runc-v2 and runc.
	Containerd, Ctr, Shims string
	// Workload is the static binary that becomes the image.
	Workload string
	// Dir is an empty folder.
	Dir string
}

// Node is a running containerd. Its methods may be called from several
// goroutines, except Restart and Stop.
type Node struct {
	opts   Options
	cmd    *exec.Cmd
	exited chan struct{}
	conn   *grpc.ClientConn
}

// Bounds for what is not under test.
const (
	startBound = 30 * time.Second
	callBound  = 30 * time.Second
	stopBound  = 5 * time.Second
)

// Start starts containerd and imports the image.
func Start(ctx context.Context, opts Options) (*Node, error) {
	n := &Node{opts: opts}
	// Upper directories of an overlay must not lie on an overlay, which the
	// host's own root may be; and nothing of this is worth a disk.
	if err := unix.Mount("tmpfs", opts.Dir, "tmpfs", unix.MS_NOSUID, "mode=755"); err != nil {
		return nil, fmt.Errorf("a tmpfs for containerd: %w", err)
	}
	if err := os.WriteFile(n.path("config.toml"), []byte(n.config()), 0o644); err != nil {
		return nil, err
	}
	if err := n.start(ctx); err != nil {
		return nil, err
	}
	if err := n.importImage(ctx); err != nil {
		return nil, errors.Join(err, n.Stop())
	}
	return n, nil
}

func (n *Node) path(name string) string { return filepath.Join(n.opts.Dir, name) }

// Socket is the path of the CRI socket, Log that of what containerd and its
// shims have written.
func (n *Node) Socket() string { return n.path("containerd.sock") }
func (n *Node) Log() string    { return n.path("containerd.log") }

// Pprof reads containerd's profiles from its debug socket.
func (n *Node) Pprof() probe.Pprof { return probe.Pprof{Socket: n.path("debug.sock")} }

// PID is containerd's.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// Runtime is the CRI of the node. Calls must have a deadline.
func (n *Node) Runtime() v1alpha2.RuntimeServiceClient {
	return v1alpha2.NewRuntimeServiceClient(n.conn)
}

// config has the log at "warning", so that only what the shims say (their
// stacks among it) comes through in one piece; restrict_oom_score_adj lets it
// run without CAP_SYS_RESOURCE.
func (n *Node) config() string {
	return fmt.Sprintf(`version = 2
root = %q
state = %q

[grpc]
  address = %q

[debug]
  address = %q
  level = "warn"

[plugins."io.containerd.internal.v1.opt"]
  path = %q

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
`, n.path("root"), n.path("state"), n.Socket(), n.path("debug.sock"), n.path("opt"), ImageName)
}

// start starts containerd and waits until its CRI answers.
func (n *Node) start(ctx context.Context) error {
	log, err := os.OpenFile(n.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	n.cmd = exec.Command(n.opts.Containerd, "--config", n.path("config.toml"))
	n.cmd.Env = append(os.Environ(), "PATH="+n.opts.Shims+string(filepath.ListSeparator)+os.Getenv("PATH"))
	n.cmd.Stdout, n.cmd.Stderr = log, log
	if err := n.cmd.Start(); err != nil {
		return fmt.Errorf("starting containerd: %w", err)
	}
	cmd, exited := n.cmd, make(chan struct{})
	n.exited = exited
	go func() { cmd.Wait(); close(exited) }() // how it ended is in its log
	if n.conn, err = grpc.NewClient("unix://"+n.Socket(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return errors.Join(err, n.end())
	}
	ctx, cancel := context.WithTimeout(ctx, startBound)
	defer cancel()
	for {
		_, err := n.Runtime().Version(ctx, &v1alpha2.VersionRequest{})
		if err == nil {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("containerd ended at once: %s", n.lastWords())
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("containerd does not answer: %w (%s)", err, n.lastWords()), n.end())
		case <-time.After(20 * time.Millisecond):
			n.conn.ResetConnectBackoff()
		}
	}
}

func (n *Node) lastWords() string {
	text, err := os.ReadFile(n.Log())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

func (n *Node) importImage(ctx context.Context) error {
	archive := n.path("image.tar")
	if err := writeImage(archive, n.opts.Workload); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callBound)
	defer cancel()
	out, err := exec.CommandContext(ctx, n.opts.Ctr, "--address", n.Socket(), "--namespace", "k8s.io", "images", "import", archive).CombinedOutput()
	if err != nil {
		return fmt.Errorf("importing the image: %w: %s", err, bytes.TrimSpace(out))
	}
	images := v1alpha2.NewImageServiceClient(n.conn)
	for {
		// The CRI learns of it by an event.
		st, err := images.ImageStatus(ctx, &v1alpha2.ImageStatusRequest{Image: &v1alpha2.ImageSpec{Image: ImageName}})
		if err != nil {
			return fmt.Errorf("importing the image: %w", err)
		}
		if st.Image != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("containerd has not noticed the imported image")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Restart ends containerd as an init system does, with SIGTERM and, if that is
// not enough, SIGKILL, and starts it again. The shims live on.
func (n *Node) Restart(ctx context.Context) error {
	if err := n.end(); err != nil {
		return err
	}
	return n.start(ctx)
}

// Stop ends containerd. Shims and containers end with the arm's namespaces.
func (n *Node) Stop() error { return n.end() }

func (n *Node) end() error {
	err := n.conn.Close()
	for _, sig := range []os.Signal{unix.SIGTERM, unix.SIGKILL} {
		if e := n.cmd.Process.Signal(sig); e != nil && !errors.Is(e, os.ErrProcessDone) {
			return errors.Join(err, e)
		}
		select {
		case <-n.exited:
			return err
		case <-time.After(stopBound):
		}
	}
	return errors.Join(err, errors.New("containerd does not end, not even by SIGKILL"))
}
