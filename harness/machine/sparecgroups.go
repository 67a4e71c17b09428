package machine

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/leaklab/leaklab/harness/arm"
)

// cgroupNamespaces reports whether the kernel has them.
func cgroupNamespaces() bool {
	_, err := os.Stat("/proc/self/ns/cgroup")
	return err == nil
}

// topCgroups are the cgroups below the roots of all v1 hierarchies, by name.
func topCgroups() map[string]bool {
	names := map[string]bool{}
	for _, h := range cgroup1Mounts() {
		dirs, _ := filepath.Glob(filepath.Join(h.Path, "*", "cgroup.procs"))
		for _, dir := range dirs {
			names[filepath.Base(filepath.Dir(dir))] = true
		}
	}
	return names
}

// removeNewCgroups removes the cgroups that were not there before, and notes
// those that cannot be removed.
func removeNewCgroups(before map[string]bool, emit func(arm.Event)) {
	for name := range topCgroups() {
		if before[name] {
			continue
		}
		if err := removeCgroups("/" + name); err != nil {
			emit(arm.Event{Type: arm.EventNote, Text: fmt.Sprintf("the arm's cgroup %s stays: %v", name, err)})
		}
	}
}
