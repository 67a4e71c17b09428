package machine

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// hierarchy is one mounted cgroup v1 hierarchy.
type hierarchy struct {
	// Path is where it is mounted, Options what to mount it with again.
	Path, Options string
}

func cgroup1Mounts() []hierarchy {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup"))
	if err != nil {
		return nil
	}
	// Generic mount options that the kernel shows among the controllers.
	generic := []string{"rw", "ro", "xattr", "clone_children", "cpuset_v2_mode"}
	var hs []hierarchy
	for _, m := range mounts {
		var opts []string
		for opt := range strings.SplitSeq(m.VFSOptions, ",") {
			if strings.HasPrefix(opt, "name=") {
				opts = append(opts, "none")
			}
			if !slices.Contains(generic, opt) && !strings.HasPrefix(opt, "release_agent=") {
				opts = append(opts, opt)
			}
		}
		h := hierarchy{Path: m.Mountpoint, Options: strings.Join(opts, ",")}
		if !slices.ContainsFunc(hs, func(o hierarchy) bool { return o.Options == h.Options }) {
			hs = append(hs, h)
		}
	}
	return hs
}

// hold is a lock on a run's cgroups. It says that their guardian lives, also to
// a clean-up that looks for run folders elsewhere (another TMPDIR) or that began
// before the run did.
type hold []*os.File

func (h hold) release() {
	for _, f := range h {
		f.Close()
	}
}

// held reports whether a cgroup's guardian lives.
func held(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK
}

// makeCgroups makes the arm's cgroup in every v1 hierarchy and holds it.
func makeCgroups(name string) (holding hold, err error) {
	if name == "" {
		return nil, nil
	}
	defer func() {
		if err != nil {
			holding.release()
		}
	}()
	for _, h := range cgroup1Mounts() {
		dir := filepath.Join(h.Path, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return holding, fmt.Errorf("making a cgroup: %w", err)
		}
		f, err := os.Open(dir)
		if err != nil {
			return holding, fmt.Errorf("making a cgroup: %w", err)
		}
		holding = append(holding, f)
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			return holding, fmt.Errorf("locking a cgroup: %w", err)
		}
		// A new cpuset is empty and takes no task before it has these.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(h.Path, file))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, file), bytes.TrimSpace(value), 0o644)
			}
			if err != nil {
				return holding, err
			}
		}
	}
	return holding, nil
}

func joinCgroups(name string, pid int) error {
	if name == "" {
		return nil
	}
	for _, h := range cgroup1Mounts() {
		file := filepath.Join(h.Path, name, "cgroup.procs")
		if err := os.WriteFile(file, []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return fmt.Errorf("entering a cgroup: %w", err)
		}
	}
	return nil
}

// below lists the arm's cgroups of one hierarchy, innermost first.
func (h hierarchy) below(name string) []string {
	var dirs []string
	filepath.WalkDir(filepath.Join(h.Path, name), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // what vanishes while we look is what we want gone
	})
	slices.Reverse(dirs)
	return dirs
}

// thaw lets every frozen task of the arm run again.
func thaw(name string) {
	for _, h := range cgroup1Mounts() {
		for _, dir := range slices.Backward(h.below(name)) {
			_ = os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0o644)
		}
	}
}

// removeCgroups ends what still runs in the arm's cgroups and removes them.
func removeCgroups(name string) error {
	if name == "" {
		return nil
	}
	thaw(name)
	var err error
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err = nil
		for _, h := range cgroup1Mounts() {
			for _, dir := range h.below(name) {
				killTasks(dir)
				if e := os.Remove(dir); e != nil && !errors.Is(e, fs.ErrNotExist) {
					err = e
				}
			}
		}
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func killTasks(dir string) {
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return
	}
	for field := range bytes.FieldsSeq(procs) {
		if pid, err := strconv.Atoi(string(field)); err == nil && pid > 0 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// unmountBelow lazily unmounts whatever is mounted under dir, innermost first.
func unmountBelow(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range slices.Backward(mounts) {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil && err != unix.EINVAL {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", m.Mountpoint, err))
		}
	}
	return errors.Join(errs...)
}
