package fault

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// ShareMounts makes every mount of the caller's namespace shared, as systemd
// leaves them at boot. It is for the arm's own namespace, which has no peers
// outside.
func ShareMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("sharing the mounts: %w", err)
	}
	return nil
}

// SlaveMounts calls f in a new mount namespace whose mounts are slaves of the
// caller's: what systemd's MountFlags=slave gives a service at each start. What
// is mounted in it is not seen outside. Processes that f starts are in it, and
// it ends with the last of them.
//
// f runs on a thread of its own. A process that f starts with Pdeathsig is
// killed when f returns, so f had better wait for it.
func SlaveMounts(f func() error) error {
	done := make(chan error, 1)
	offMainThread(func() {
		// Never unlocked: the thread ends with the goroutine, and nothing else
		// gets to run in this namespace.
		done <- inSlaveNamespace(f)
	})
	return <-done
}

// offMainThread calls f in a goroutine that is locked to a thread other than
// the process's first, which the run-time could not end, and whose namespace
// /proc/<pid> shows.
func offMainThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		// The first thread is occupied while the next goroutine gets its own.
		next := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(next)
			f()
		}()
		<-next
		runtime.UnlockOSThread()
	}()
}

func inSlaveNamespace(f func() error) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("making a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("making the mounts slaves: %w", err)
	}
	return f()
}
