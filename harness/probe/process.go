package probe

import (
	"fmt"

	"github.com/prometheus/procfs"
)

// Process is what the kernel says a process holds.
type Process struct {
	FDs     int
	Threads int
	// RSS in bytes. It is recorded and decides nothing: a process that does
	// not leak grows too.
	RSS int
}

// ReadProcess reads /proc/<pid>.
func ReadProcess(pid int) (Process, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return Process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	fds, err := p.FileDescriptorsLen()
	if err != nil {
		return Process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	stat, err := p.Stat()
	if err != nil {
		return Process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return Process{FDs: fds, Threads: stat.NumThreads, RSS: stat.ResidentMemory()}, nil
}

// State is the one-letter state of a process (R, S, D, Z, …) and its wait
// channel.
func State(pid int) (state, wchan string, err error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return "", "", err
	}
	stat, err := p.Stat()
	if err != nil {
		return "", "", err
	}
	wchan, err = p.Wchan()
	return stat.State, wchan, err
}
