package report

import (
	"fmt"
	"os"
	"runtime"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// HostFactNames are the keys of HostFacts in the order in which to show them.
var HostFactNames = []string{"kernel", "arch", "cpus", "memory", "cgroup", "nofile", "user", "go"}

// HostFacts are what of this machine a run's figures may depend on.
func HostFacts() map[string]string {
	facts := map[string]string{
		"arch": runtime.GOARCH,
		"cpus": fmt.Sprint(runtime.NumCPU()),
		"user": fmt.Sprintf("uid %d", os.Geteuid()),
		"go":   runtime.Version(),
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		facts["kernel"] = unix.ByteSliceToString(u.Release[:])
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		facts["nofile"] = fmt.Sprintf("%d (hard %d)", limit.Cur, limit.Max)
	}
	facts["cgroup"] = "v1"
	var st unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		facts["cgroup"] = "v2"
	}
	if fs, err := procfs.NewDefaultFS(); err == nil {
		if m, err := fs.Meminfo(); err == nil && m.MemTotalBytes != nil {
			facts["memory"] = fmt.Sprintf("%.1f GiB", float64(*m.MemTotalBytes)/(1<<30))
		}
	}
	return facts
}
