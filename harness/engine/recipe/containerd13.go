package recipe

import "github.com/leaklab/leaklab/harness/runtimes"

// Containerd13 is containerd 1.3.0 with its shim for dockerd 18.09, which starts
// containerd itself and finds both in $PATH. (18.09 shipped 1.2; 1.2.10 builds
// too, but starts no container without CAP_SYS_RESOURCE.)
//
// Left out are the snapshotters that dockerd does not use, and the kubernetes
// plugin: their modules are not served in versions that fit, or need C
// libraries. Two of them have no build tag, hence the edits.
func Containerd13() runtimes.Recipe {
	const (
		module  = "github.com/containerd/containerd"
		version = "1.3.0"
	)
	without := func(name string) runtimes.Edit {
		return runtimes.Edit{
			Module: module,
			Why:    "no " + name + " snapshotter: dockerd does not use it, and its module is not served",
			File:   "cmd/containerd/builtins_linux.go",
			Old:    "\t_ \"github.com/containerd/" + name + "\"\n",
		}
	}
	mod, sum := pins("containerd-" + version)
	build := runtimes.GoBuild{
		Mod: mod,
		Sum: sum,
		Targets: []runtimes.Target{
			{Package: module + "/cmd/containerd", Out: "containerd"},
			{Package: module + "/cmd/containerd-shim", Out: "containerd-shim"},
			{Package: module + "/cmd/ctr", Out: "ctr"},
		},
		Tags:    []string{"no_btrfs", "no_cri", "no_devmapper", "netgo", "osusergo"},
		LDFlags: "-X " + module + "/version.Version=" + version,
		Edits:   []runtimes.Edit{without("aufs"), without("zfs")},
	}
	return runtimes.Recipe{Name: "containerd", Version: version, Sources: []runtimes.Source{build}}
}
