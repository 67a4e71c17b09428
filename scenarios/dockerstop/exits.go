package dockerstop

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leaklab/leaklab/harness/arm"
)

// exits listens to the events of a daemon's containerd with its own ctr: whether
// the task exit event that dockerd waits for was ever sent. It does not go
// through dockerd, which could have missed it.
type exits struct {
	cmd   *exec.Cmd
	ended chan struct{}

	mu   sync.Mutex
	text bytes.Buffer
}

// Write takes ctr's output.
func (e *exits) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text.Write(p)
}

// listen starts to listen. ctr says nothing when it is ready. That it did not
// miss the exit shows in the end: a task exits once, and it hears it then.
func (d *daemon) listen(lab arm.Lab) (*exits, error) {
	socket := filepath.Join(d.run(), "containerd", "containerd.sock")
	e := &exits{ended: make(chan struct{})}
	e.cmd = exec.Command(lab.Bin("dockerd", "ctr"), "--address", socket, "events")
	e.cmd.Env = []string{"LD_LIBRARY_PATH=" + lab.Bin("dockerd", "lib")}
	e.cmd.Stdout, e.cmd.Stderr = e, e
	e.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	started := make(chan error, 1)
	go func() {
		defer close(e.ended)
		// Pdeathsig is bound to the thread that starts the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := e.cmd.Start()
		started <- err
		if err == nil {
			_ = e.cmd.Wait() // it ends by being killed
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("listening to containerd's events: %w", err)
	}
	return e, nil
}

func (e *exits) stop() {
	_ = e.cmd.Process.Kill() // it may have ended
	<-e.ended
}

// of counts the exit events of a container.
func (e *exits) of(id string) int {
	n := 0
	for line := range strings.Lines(e.String()) {
		if strings.Contains(line, "/tasks/exit") && strings.Contains(line, id) {
			n++
		}
	}
	return n
}

// String is all that was heard.
func (e *exits) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text.String()
}

// await waits until an exit event of the container has come, but not longer than
// bound.
func (e *exits) await(ctx context.Context, id string, bound time.Duration) (bool, error) {
	for deadline := time.Now().Add(bound); e.of(id) == 0; {
		if time.Now().After(deadline) {
			return false, nil
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return false, err
		}
	}
	return true, nil
}
