package fault

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test proper runs in a process with a mount namespace of its own, so that
// what it shares reaches nobody.
func TestSlaveMountsAreNotSeenOutside(t *testing.T) {
	dir := os.Getenv("LEAKLAB_TEST_SLAVE")
	if dir != "" {
		slaveMountsAreNotSeenOutside(t, dir)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir = t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "LEAKLAB_TEST_SLAVE="+dir)
	// With this flag os/exec makes the new namespace private too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(mounts(t, "self"), dir) {
		t.Error("a mount reached the test's own namespace")
	}
}

func slaveMountsAreNotSeenOutside(t *testing.T, dir string) {
	if err := ShareMounts(); err != nil {
		t.Fatal(err)
	}
	up, down := filepath.Join(dir, "up"), filepath.Join(dir, "down")
	for _, d := range []string{up, down} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	inside, leave := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- SlaveMounts(func() error {
			defer close(inside)
			if unix.Gettid() == unix.Getpid() {
				t.Error("the first thread is in the slave namespace")
			}
			return unix.Mount("leaklab", up, "tmpfs", 0, "")
		})
	}()
	<-inside
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if strings.Contains(mounts(t, "self"), up) {
		t.Error("a mount of the slave namespace is seen outside")
	}
	inside = make(chan struct{})
	go func() {
		ended <- SlaveMounts(func() error {
			close(inside)
			<-leave
			if !strings.Contains(mounts(t, "thread-self"), down) {
				t.Error("a mount outside is not seen in the slave namespace")
			}
			out, err := exec.Command("cat", "/proc/self/mounts").Output()
			if !strings.Contains(string(out), down) {
				t.Errorf("a child is not in the namespace (%v)", err)
			}
			return nil
		})
	}()
	<-inside
	if err := unix.Mount("leaklab", down, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	close(leave)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func mounts(t *testing.T, who string) string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + who + "/mounts")
	if err != nil {
		t.Error(err)
	}
	return string(text)
}
