package fault

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSetSndbuf(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	var st unix.Stat_t
	if err := unix.Fstat(fds[0], &st); err != nil {
		t.Fatal(err)
	}
	pid, inode := os.Getpid(), uint32(st.Ino)
	before, err := Sndbuf(pid, inode)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		t.Skipf("pidfd_getfd is not to be had here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := SetSndbuf(pid, inode, 1); err != nil {
		t.Fatal(err)
	}
	after, err := unix.GetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil {
		t.Fatal(err)
	}
	if after >= before || after > 8192 {
		t.Errorf("SO_SNDBUF went from %d to %d, want the kernel's smallest", before, after)
	}
	if err := SetSndbuf(pid, 0, 1); err == nil {
		t.Error("a socket that nobody holds was set")
	}
}
