package recipe

import "github.com/leaklab/leaklab/harness/runtimes"

// DockerdDebian is Debian bookworm's dockerd 20.10.24 with its containerd and
// runc, from the packages: the upgrade that cures the stop leak.
//
// They are linked dynamically. The two libraries that a small system may lack
// come along in lib/, which belongs in LD_LIBRARY_PATH; the C library and the
// rest are the machine's own, so it takes a glibc of 2.34 or newer.
func DockerdDebian() runtimes.Recipe {
	return runtimes.Recipe{Name: "dockerd", Version: "20.10.24", Sources: []runtimes.Source{
		runtimes.DebPackages{
			Packages: []string{"docker.io=20.10.24*", "containerd=1.6.20*", "runc=1.1.5*", "libdevmapper1.02.1", "libseccomp2"},
			Files: map[string]string{
				"usr/sbin/dockerd":                "dockerd",
				"usr/bin/containerd":              "containerd",
				"usr/bin/containerd-shim":         "containerd-shim",
				"usr/bin/containerd-shim-runc-v2": "containerd-shim-runc-v2",
				"usr/bin/ctr":                     "ctr",
				"usr/sbin/runc":                   "runc",
				"**/libdevmapper.so.1.02.1":       "lib/libdevmapper.so.1.02.1",
				"**/libseccomp.so.2.*":            "lib/libseccomp.so.2",
			},
		},
	}}
}
