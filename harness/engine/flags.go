package engine

import (
	"path/filepath"
	"strings"
)

// cgroupParent is below the arm's own cgroup.
const cgroupParent = "/leaklab"

// flags are those of a dockerd whose --help is given. What can be changed while
// it runs is in daemon.json instead: dockerd refuses a setting that is in both.
func flags(o Options, help string) []string {
	data := "--data-root"
	if !strings.Contains(help, data) {
		data = "--graph" // before 17.05
	}
	f := []string{
		data, filepath.Join(o.Dir, "data"),
		"--exec-root", o.Run,
		"--pidfile", filepath.Join(o.Run, "docker.pid"),
		"--host", "unix://" + socket(o),
		"--config-file", configPath(o),
		// The one driver that every version has and every file system carries.
		"--storage-driver", "vfs",
		"--cgroup-parent", cgroupParent,
		"--iptables=false", "--ip-forward=false", "--ip-masq=false", "--userland-proxy=false",
	}
	if strings.Contains(help, "--ip6tables") {
		f = append(f, "--ip6tables=false") // on by itself since 27
	}
	if strings.Contains(help, `"unconfined"`) {
		// Since 20.10 every dockerd sets a profile, and a runc made without
		// seccomp refuses it.
		f = append(f, "--seccomp-profile=unconfined")
	}
	if !o.Bridge {
		f = append(f, "--bridge=none")
	}
	return append(f, o.Flags...)
}
