package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/prometheus/procfs"
)

// Owner is a process that holds a socket.
type Owner struct {
	PID int
	// Name is the process's own (its comm), as ps and ss show it.
	Name string
}

// String is as in ss: "agent,pid=1962370".
func (o Owner) String() string { return fmt.Sprintf("%s,pid=%d", o.Name, o.PID) }

// SocketOwners finds, for each socket of this pid namespace, a process that
// holds it, by the socket's inode. A socket without an entry is held by nobody
// here: by the kernel, by a queue, or by a process out of sight.
func SocketOwners() (map[uint32]Owner, error) {
	procs, err := procfs.AllProcs()
	if err != nil {
		return nil, err
	}
	owners := map[uint32]Owner{}
	for _, p := range procs {
		inodes, err := SocketInodes(p.PID)
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		name, err := p.Comm()
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("process %d: %w", p.PID, err)
		}
		for _, inode := range inodes {
			if _, known := owners[inode]; !known {
				owners[inode] = Owner{PID: p.PID, Name: name}
			}
		}
	}
	return owners, nil
}

// gone recognises a process that ended while it was looked at.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}
