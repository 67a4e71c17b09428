package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// vagrantFolder runs the command vagrant in a folder with a Vagrantfile.
type vagrantFolder string

// How long vagrant may take to end what it is doing once it is told to stop,
// and to destroy a machine.
const (
	vagrantGrace  = 2 * time.Minute
	destroyBounds = 5 * time.Minute
)

// command prepares vagrant. It has a process group of its own, so that the
// terminal's Ctrl-C reaches it through us, once; when ctx ends it is interrupted,
// and finishes what must not be left half done.
func (f vagrantFolder) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "vagrant", append(args, "--no-color")...)
	cmd.Dir = string(f)
	cmd.Env = append(os.Environ(), "VAGRANT_CHECKPOINT_DISABLE=1", "LEAKLAB_PUSHES=1")
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGINT) }
	cmd.WaitDelay = vagrantGrace
	return cmd
}

// output runs vagrant and returns what it prints.
func (f vagrantFolder) output(ctx context.Context, args ...string) (string, error) {
	var out, told bytes.Buffer
	cmd := f.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &out, &told
	if err := cmd.Run(); err != nil {
		return "", vagrantError(args, err, told.String()+"\n"+out.String())
	}
	return out.String(), nil
}

func vagrantError(args []string, err error, output string) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("vagrant %s: %w", args[0], err)
	}
	return fmt.Errorf("vagrant %s: %s", args[0], tellingPart(output))
}

// state is what vagrant calls the machine's: "not_created", "running", …
func (f vagrantFolder) state(ctx context.Context) (string, error) {
	out, err := f.output(ctx, "status", "--machine-readable")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		// time,target,state,value
		if fields := strings.Split(strings.TrimSpace(line), ","); len(fields) == 4 && fields[2] == "state" {
			return fields[3], nil
		}
	}
	return "", fmt.Errorf("vagrant status says nothing of a state: %s", firstLine(out))
}

const (
	stateNone    = "not_created"
	stateRunning = "running"
)

// up brings the machine up and provisions it. If it was not there before and
// that fails, what there is of it is removed.
func (f vagrantFolder) up(ctx context.Context, progress func(string)) error {
	before, err := f.state(ctx)
	if err != nil {
		return err
	}
	if before == stateRunning {
		return nil
	}
	progress("vagrant up")
	var told bytes.Buffer
	lines := &lineWriter{each: func(line string) { progress("vagrant up: " + line) }}
	cmd := f.command(ctx, "up")
	cmd.Stdout = lines
	cmd.Stderr = io.MultiWriter(lines, &told)
	err = cmd.Run()
	if err == nil {
		return nil
	}
	err = vagrantError([]string{"up"}, err, told.String()+"\n"+lines.kept.String())
	if before == stateNone {
		progress("removing what there is of the machine")
		err = errors.Join(err, f.destroy())
	}
	return err
}

// destroy removes the machine, whatever has become of our context.
func (f vagrantFolder) destroy() error {
	ctx, cancel := context.WithTimeout(context.Background(), destroyBounds)
	defer cancel()
	_, err := f.output(ctx, "destroy", "--force")
	return err
}

// lineWriter hands on what is written line by line, without vagrant's name of
// the machine, and keeps the end of it.
type lineWriter struct {
	each func(string)

	mu      sync.Mutex
	partial []byte
	kept    tail
}

// Write implements [io.Writer].
func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept.Write(p)
	w.partial = append(w.partial, p...)
	for {
		i := bytes.IndexAny(w.partial, "\r\n")
		if i < 0 {
			return len(p), nil
		}
		line := string(w.partial[:i])
		w.partial = w.partial[i+1:]
		if _, text, ok := strings.Cut(line, ": "); ok {
			line = text
		}
		if line = strings.TrimSpace(line); line != "" {
			w.each(line)
		}
	}
}

// providerIsThere reports whether vagrant has a provider whose other half is
// installed too.
func providerIsThere() error {
	if _, err := exec.LookPath("VBoxManage"); err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := vagrantFolder("").output(ctx, "plugin", "list")
	if err != nil {
		return err
	}
	if !strings.Contains(out, "vagrant-libvirt") {
		return errors.New("vagrant has no provider that can be used here: install VirtualBox, or vagrant-libvirt and libvirt-daemon-system")
	}
	return nil
}
