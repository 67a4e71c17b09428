package memcg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// quota measures how many memory cgroups the kernel can still have. It holds
// as many as can be made: what a leak has taken shows as so many less.
//
// The cgroups stay when the arm ends: making 65,000 takes most of an arm's
// time, and the next arm in the same guest begins with them.
type quota struct {
	h   hierarchy
	dir string
	fd  int
	// living is the number of cgroups in dir; they are called 0, 1, 2, …
	living int
	// full is what mkdir said at the limit.
	full error
}

// openQuota finds what earlier arms have made, or begins.
func openQuota(h hierarchy) (*quota, error) {
	q := &quota{h: h, dir: filepath.Join(h.root, "quota")}
	err := os.Mkdir(q.dir, 0o755)
	switch {
	case errors.Is(err, unix.EEXIST):
		names, err := subdirectories(q.dir)
		if err != nil {
			return nil, err
		}
		q.living = names
	case err != nil:
		return nil, err
	case h.v2:
		if err := q.enableCheapest(); err != nil {
			return nil, err
		}
	}
	q.fd, err = unix.Open(q.dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return q, err
}

// enableCheapest gives the cgroups to come a memory controller without its
// files where that can be had: io depends on memory (blkcg's writeback), so the
// kernel then makes each cgroup's memory part, with its number, unseen. That
// saves nearly half of the time.
func (q *quota) enableCheapest() error {
	if err := q.h.enable(q.h.root, "io"); err == nil {
		if err := q.h.enable(q.dir, "io"); err == nil {
			return nil
		}
	}
	return q.h.enable(q.dir, "memory")
}

func subdirectories(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	n := 0
	for _, e := range entries {
		if e.IsDir() {
			n++
		}
	}
	return n, err
}

// fill makes cgroups until no more can be made, and returns how many live.
// progress is told now and then.
func (q *quota) fill(ctx context.Context, progress func(living int)) (int, error) {
	const every = time.Second
	next := time.Now().Add(every)
	for {
		err := unix.Mkdirat(q.fd, strconv.Itoa(q.living), 0o755)
		if isFull(err) {
			q.full = err
			return q.living, enoughMemory(err)
		}
		if err != nil {
			return 0, fmt.Errorf("mkdir of memory cgroup %d: %w", q.living, err)
		}
		q.living++
		if now := time.Now(); now.After(next) {
			if ctx.Err() != nil {
				return 0, context.Cause(ctx)
			}
			progress(q.living)
			next = now.Add(every)
		}
	}
}

// enoughMemory tells an ENOMEM that stands for the quota from one that does not.
func enoughMemory(full error) error {
	if !errors.Is(full, unix.ENOMEM) {
		return nil
	}
	const spareMB = 32
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return err
	}
	if free := info.Freeram * uint64(info.Unit) >> 20; free < spareMB {
		return fmt.Errorf("out of memory before the quota was full (%d MiB free): the guest needs more", free)
	}
	return nil
}

// free removes n of the cgroups.
func (q *quota) free(n int) error {
	for range n {
		if q.living == 0 {
			return errors.New("the quota has nothing left to free")
		}
		if err := q.h.remove(filepath.Join(q.dir, strconv.Itoa(q.living-1))); err != nil {
			return err
		}
		q.living--
	}
	return nil
}
