package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"

	"github.com/leaklab/leaklab/harness/arm"
)

// Box is the far end of [Vagrant]: in the box, as root, it reads a job, runs it
// as [Host] does and tells its events. It is the command "leaklab box". The end
// of the input means "stop".
func Box(in io.Reader, out io.Writer, scenarios []arm.Scenario) error {
	var mu sync.Mutex
	enc := json.NewEncoder(out)
	emit := func(e arm.Event) {
		mu.Lock()
		defer mu.Unlock()
		// Nobody listens any more: the input's end says so too.
		_ = enc.Encode(e)
	}
	err := boxRun(in, emit, scenarios)
	if err == nil {
		return nil
	}
	text := err.Error()
	var told *AgentError
	if errors.As(err, &told) {
		text = told.Text
	}
	emit(arm.Event{Type: arm.EventFailed, Text: text})
	return err
}

func boxRun(in io.Reader, emit func(arm.Event), scenarios []arm.Scenario) (err error) {
	line, err := readLine(in)
	if err != nil {
		return fmt.Errorf("no job came: %w", err)
	}
	var job arm.Job
	if err := json.Unmarshal(line, &job); err != nil {
		return fmt.Errorf("the job cannot be read: %w", err)
	}
	a, err := arm.Find(scenarios, job.Scenario, job.Arm)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = in.Read(make([]byte, 1)) // whatever comes, or nobody left to send it
		cancel()
	}()
	unlock, err := lockWholeBox(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := fitBox(ctx, a.VM); err != nil {
		return err
	}
	a.VM = arm.VM{}
	host := Host{Spare: true}
	if err := host.Lacks(a); err != nil {
		return fmt.Errorf("the box cannot run it: %w", err)
	}
	return host.Run(ctx, a, job, emit)
}

// lockWholeBox waits for an earlier job whose caller has gone.
func lockWholeBox(ctx context.Context) (func() error, error) {
	const patience = 2 * stopGrace
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	lock := flock.New(filepath.Join(os.TempDir(), "leaklab-box.lock"))
	if _, err := lock.TryLockContext(ctx, 200*time.Millisecond); err != nil {
		return nil, fmt.Errorf("an earlier arm still runs in the box: %w", err)
	}
	return lock.Unlock, nil
}

// fitBox holds the box to what the arm wants of a virtual machine.
func fitBox(ctx context.Context, want arm.VM) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	release := unix.ByteSliceToString(u.Release[:])
	if k := want.Kernel; k != "" && release != k && !strings.HasPrefix(release, k+".") {
		return fmt.Errorf("it is about kernel %s, the box runs %s", k, release)
	}
	for _, name := range want.Modules {
		// What is built in is fine with modprobe too.
		if out, err := exec.CommandContext(ctx, "modprobe", name).CombinedOutput(); err != nil {
			return fmt.Errorf("the box has no module %s: %s", name, lastLine(string(out)))
		}
	}
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	given := strings.Fields(string(text))
	for _, parameter := range want.Cmdline {
		if !slices.Contains(given, parameter) {
			return fmt.Errorf("the box's kernel was not booted with %s", parameter)
		}
	}
	return nil
}
