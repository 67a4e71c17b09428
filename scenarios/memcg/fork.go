package memcg

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// forkSleeper is fork(2) with a child that sleeps until it is killed, as the
// report's "sleep 100 &" does. Nothing of the Go runtime works in the child,
// which has but the calling thread: it makes raw system calls and nothing else.
//
//go:norace
//go:nocheckptr
func forkSleeper() (int, error) {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	if pid == 0 {
		for {
			unix.RawSyscall(unix.SYS_PAUSE, 0, 0, 0)
		}
	}
	return int(pid), nil
}

// rawRead is read(2) unseen by the Go scheduler.
func rawRead(fd int, p []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
