package fault

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mountWedge mounts a wedge, or skips where that is not possible.
func mountWedge(t *testing.T) *Wedge {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting FUSE needs root")
	}
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Skip(err)
	} else {
		f.Close()
	}
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
	time.Sleep(50 * time.Millisecond) // it stays so
	awaitState(t, cmd.Process.Pid, "D")

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

// A wedge must not outlive its process, whatever kills it.
func TestWedgeEndsWithItsProcess(t *testing.T) {
	if dir := os.Getenv("LEAKLAB_TEST_WEDGE"); dir != "" {
		w, err := Mount(dir)
		if err != nil {
			t.Fatal(err)
		}
		// A child that outlives us must not hold the connection.
		if err := exec.Command("sleep", "5").Start(); err != nil {
			t.Fatal(err)
		}
		w.WaitHanging(t.Context(), 1)
		unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	dir := mountWedge(t).Dir() // for its checks
	dir = t.TempDir()
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	holder := exec.Command(os.Args[0], "-test.run=^TestWedgeEndsWithItsProcess$")
	holder.Env = append(os.Environ(), "LEAKLAB_TEST_WEDGE="+dir)
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	for !mounted(t, dir) {
		time.Sleep(5 * time.Millisecond)
	}
	cmd := exec.Command("cat", dir+"/"+WedgeFile)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ends(t, holder)
	ends(t, cmd)
}

func TestMountNeedsAFolder(t *testing.T) {
	mountWedge(t)
	if _, err := Mount(t.TempDir() + "/missing"); err == nil {
		t.Error("mounted on nothing")
	}
}
