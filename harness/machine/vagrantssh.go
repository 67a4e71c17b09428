package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// sshConfig is how to reach a box: what `vagrant ssh` itself uses, as told by
// `vagrant ssh-config`. Calling ssh saves Vagrant's own start, seconds each time,
// and one connection serves for all: its handshake is dear in an emulated machine.
type sshConfig struct {
	dir, host string
	// lock is held as long as the connection is in use.
	lock *flock.Flock
}

// sshDirPrefix starts the names of the connections' folders.
const sshDirPrefix = "leaklab-ssh-"

// sshFailed is the exit code of ssh when the connection, and not the command,
// failed.
const sshFailed = 255

// newSSHConfig keeps what `vagrant ssh-config` has told.
func newSSHConfig(text string) (sshConfig, error) {
	var host string
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "Host" {
			host = f[1]
			break
		}
	}
	if host == "" {
		return sshConfig{}, fmt.Errorf("vagrant ssh-config names no host: %s", firstLine(text))
	}
	// A short path: it holds a socket.
	dir, err := os.MkdirTemp("", sshDirPrefix)
	if err != nil {
		return sshConfig{}, err
	}
	c := sshConfig{dir: dir, host: host, lock: flock.New(filepath.Join(dir, lockFile))}
	return c, errors.Join(c.lock.Lock(), os.WriteFile(c.file(), []byte(text), 0o600))
}

func (c sshConfig) file() string { return filepath.Join(c.dir, "config") }

// command prepares a command in the box.
func (c sshConfig) command(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "ssh", "-F", c.file(), "-T",
		"-o", "BatchMode=yes", "-o", "ConnectTimeout=60",
		// A box that is gone is noticed after a minute.
		"-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4",
		"-o", "ControlMaster=auto", "-o", "ControlPersist=300", "-o", "ControlPath="+filepath.Join(c.dir, "s"),
		c.host, script)
	// The terminal's Ctrl-C is ours to pass on.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	// The connection that stays behind holds the standard streams open.
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// output runs a command in the box and returns what it prints.
func (c sshConfig) output(ctx context.Context, stdin io.Reader, script string) (string, error) {
	var out, told bytes.Buffer
	cmd := c.command(ctx, script)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &told
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return "", fmt.Errorf("ssh to the box: %w: %s", err, lastLine(told.String()))
	}
	return out.String(), nil
}

// close ends the connection.
func (c sshConfig) close() error {
	if c.dir == "" {
		return nil
	}
	// It fails where the connection has gone by itself.
	_ = exec.Command("ssh", "-F", c.file(), "-o", "ControlPath="+filepath.Join(c.dir, "s"), "-O", "exit", c.host).Run()
	return errors.Join(c.lock.Unlock(), os.RemoveAll(c.dir))
}

// cleanSSH removes the folders of connections whose leaklab was killed; the
// connections end by themselves.
func cleanSSH() (done []string, err error) {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), sshDirPrefix+"*"))
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		lock := flock.New(filepath.Join(dir, lockFile))
		if free, lockErr := lock.TryLock(); lockErr != nil || !free {
			err = errors.Join(err, lockErr)
			continue
		}
		if removeErr := os.RemoveAll(dir); removeErr != nil {
			err = errors.Join(err, removeErr)
		} else {
			done = append(done, "connection folder "+dir)
		}
		err = errors.Join(err, lock.Unlock())
	}
	return done, err
}
