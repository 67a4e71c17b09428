package fault

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// SetSndbuf sets SO_SNDBUF, in bytes, of a socket that another process holds,
// found by its inode. The kernel doubles what is asked for and keeps it within
// its bounds: 1 gives its smallest.
//
// It works on a duplicate of the descriptor (pidfd_getfd(2), Linux 5.6), which
// takes the right to trace the process.
func SetSndbuf(pid int, inode uint32, size int) error {
	return withSocket(pid, inode, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, size)
	})
}

// Sndbuf reads the SO_SNDBUF in force, in the kernel's own count.
func Sndbuf(pid int, inode uint32) (size int, err error) {
	err = withSocket(pid, inode, func(fd int) error {
		size, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
		return err
	})
	return size, err
}

// withSocket calls do with a duplicate of another process's socket.
func withSocket(pid int, inode uint32, do func(fd int) error) error {
	number, err := descriptorOf(pid, fmt.Sprintf("socket:[%d]", inode))
	if err != nil {
		return err
	}
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open of process %d: %w", pid, err)
	}
	defer unix.Close(process)
	fd, err := unix.PidfdGetfd(process, number, 0)
	if err != nil {
		return fmt.Errorf("pidfd_getfd of process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if err := do(fd); err != nil {
		return fmt.Errorf("socket %d of process %d: %w", inode, pid, err)
	}
	return nil
}

// descriptorOf finds the number under which a process holds a file.
func descriptorOf(pid int, target string) (int, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	names, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, n := range names {
		if link, err := os.Readlink(filepath.Join(dir, n.Name())); err == nil && link == target {
			return strconv.Atoi(n.Name())
		}
	}
	return 0, fmt.Errorf("process %d does not hold %s", pid, target)
}
