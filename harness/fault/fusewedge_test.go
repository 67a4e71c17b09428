package fault

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// needFUSE skips the test where FUSE cannot be mounted.
func needFUSE(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting FUSE needs root")
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	f.Close()
}

func mountWedge(t *testing.T) *Wedge {
	t.Helper()
	needFUSE(t)
	w, err := Mount(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// reader starts a process that reads the wedge and hangs there.
func reader(t *testing.T, w *Wedge) *exec.Cmd {
	t.Helper()
	before := w.Hanging()
	cmd := exec.Command("cat", w.Path())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := w.WaitHanging(ctx, before+1); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func state(t *testing.T, pid int) string {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := bytes.Cut(stat, []byte(") "))
	return string(after[:1])
}

// awaitState waits until the process is in the state.
func awaitState(t *testing.T, pid int, want string) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for state(t, pid) != want {
		if time.Now().After(deadline) {
			t.Fatalf("process is in state %s, want %s", state(t, pid), want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// ends fails unless the process ends soon.
func ends(t *testing.T, cmd *exec.Cmd) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("the reader did not end")
		return nil
	}
}

func mounted(t *testing.T, dir string) bool {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(mounts, []byte(" "+dir+" "))
}

func TestWedgeMakesReadersUnkillable(t *testing.T) {
	w := mountWedge(t)
	cmd := reader(t, w)
	awaitState(t, cmd.Process.Pid, "S")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	awaitState(t, cmd.Process.Pid, "D")
	time.Sleep(50 * time.Millisecond)
	if s := state(t, cmd.Process.Pid); s != "D" {
		t.Errorf("a moment later it is in state %s", s)
	}

	w.Answer()
	if err := ends(t, cmd); err == nil {
		t.Error("the killed reader ended well")
	}
	if n := w.Hanging(); n != 0 {
		t.Errorf("%d reads still hang", n)
	}
}

func TestWedgeAnswersReadersThatLive(t *testing.T) {
	w := mountWedge(t)
	cmd := reader(t, w)
	w.Answer()
	if err := ends(t, cmd); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(w.Path()); err != nil || len(got) != 0 {
		t.Errorf("a later read: %q, %v", got, err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestWedgeAbort(t *testing.T) {
	w := mountWedge(t)
	first, second := reader(t, w), reader(t, w)
	if err := second.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	awaitState(t, second.Process.Pid, "D")
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []*exec.Cmd{first, second} {
		if err := ends(t, cmd); err == nil {
			t.Error("a reader of an aborted connection ended well")
		}
	}
	if mounted(t, w.Dir()) {
		t.Error("the mount is still there")
	}
	for range 2 {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := w.Hanging(); n != 0 {
		t.Errorf("%d reads still hang", n)
	}
}

// What "leaklab clean", or a person, can do without the process that mounted it.
func TestWedgeEndedFromOutside(t *testing.T) {
	w := mountWedge(t)
	fusectl := t.TempDir()
	if err := unix.Mount("fusectl", fusectl, "fusectl", 0, ""); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { unix.Unmount(fusectl, unix.MNT_DETACH) })
	cmd := reader(t, w)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	awaitState(t, cmd.Process.Pid, "D")
	if err := os.WriteFile(fmt.Sprintf("%s/%d/abort", fusectl, w.ConnectionID()), []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	ends(t, cmd)
	if err := w.WaitHanging(t.Context(), 1); err == nil {
		t.Error("waiting on an ended connection succeeded")
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if mounted(t, w.Dir()) {
		t.Error("the mount is still there")
	}
}

// holderDir tells a copy of the test binary to be the process that holds a wedge.
const holderDir = "LEAKLAB_TEST_WEDGE"

// A wedge must not outlive its process, whatever kills it.
func TestWedgeEndsWithItsProcess(t *testing.T) {
	if dir := os.Getenv(holderDir); dir != "" {
		holdAndDie(t, dir)
	}
	needFUSE(t)
	dir := t.TempDir()
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	holder := exec.Command(os.Args[0], "-test.run=^TestWedgeEndsWithItsProcess$")
	holder.Env = append(os.Environ(), holderDir+"="+dir)
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !mounted(t, dir); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the holder did not mount its wedge")
		}
	}
	cmd := exec.Command("cat", filepath.Join(dir, WedgeFile))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ends(t, holder)
	died := time.Now()
	if err := ends(t, cmd); err == nil {
		t.Error("the reader got an answer")
	}
	if d := time.Since(died); d > childLives/2 {
		t.Errorf("the reader was freed only after %v", d)
	}
}

// childLives is how long the holder's child outlives it.
const childLives = 4 * time.Second

// holdAndDie mounts a wedge and kills itself once a reader hangs on it. The
// child that outlives it must not keep the connection.
func holdAndDie(t *testing.T, dir string) {
	w, err := Mount(dir)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("sleep", fmt.Sprint(childLives.Seconds()))
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if err := w.WaitHanging(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	unix.Kill(os.Getpid(), unix.SIGKILL)
	select {}
}

func TestMountNeedsAFolder(t *testing.T) {
	needFUSE(t)
	if _, err := Mount(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("mounted on nothing")
	}
}
