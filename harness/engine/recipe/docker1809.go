package recipe

import (
	"slices"

	"github.com/leaklab/leaklab/harness/runtimes"
)

// Dockerd1809 is dockerd 18.09, the engine of the stop report, with the
// containerd and runc it drives. The folder of its binaries is a complete PATH
// for it.
func Dockerd1809() runtimes.Recipe { return dockerd1809("18.09", nil) }

// Dockerd1809Timeout is [Dockerd1809] with the stop report's proposal applied
// and nothing else: the last wait in Kill, which had no timeout, gets one.
func Dockerd1809Timeout() runtimes.Recipe {
	return dockerd1809("18.09-kill-timeout", []runtimes.Edit{killTimeout})
}

// killTimeout is the report's "the current Wait with timeout can be returned
// and exit directly". Kill still returns nil when the time is over: were it an
// error, containerStop in stop.go would go on to wait for the container itself,
// again without a timeout, and leak the same two goroutines there. So a client
// that stays is told 204 although the container lives. moby took this wait away
// later, in two places at once, with an error to the client (20.10 has it); its
// two seconds are taken over.
var killTimeout = runtimes.Edit{
	Module: moduleDocker,
	Why:    "the stop report's proposal: the last Wait in Kill gets a timeout",
	File:   "daemon/kill.go",
	Old: `	// Wait for exit with no timeout.
	// Ignore returned status.
	<-container.Wait(context.Background(), containerpkg.WaitConditionNotRunning)
`,
	New: `	// Wait for exit with a timeout.
	// Ignore returned status.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	<-container.Wait(ctx, containerpkg.WaitConditionNotRunning)
`,
}

// dockerd1809 compiles the 18.09 branch as it was in April 2019. It needs no
// edit to compile, only neighbours that the module proxy serves and one newer
// etcd (3.2's generated codec panics under today's Go).
//
// cgo is needed by its graph drivers (quota, and copying by reflink), so it is
// linked against the C library, statically. Left out are the drivers that need
// more libraries than that, and aufs.
func dockerd1809(version string, edits []runtimes.Edit) runtimes.Recipe {
	mod, sum := pins("dockerd-18.09")
	daemon := runtimes.GoBuild{
		Mod:     mod,
		Sum:     sum,
		Targets: []runtimes.Target{{Package: moduleDocker + "/cmd/dockerd", Out: "dockerd"}},
		Tags: []string{
			"exclude_graphdriver_btrfs", "exclude_graphdriver_devicemapper", "exclude_graphdriver_zfs", "exclude_graphdriver_aufs",
			"no_btrfs", "netgo", "osusergo", "static_build",
		},
		CGO:     true,
		LDFlags: "-linkmode external -extldflags -static",
		Edits:   edits,
	}
	sources := slices.Concat([]runtimes.Source{daemon}, Containerd13().Sources, Runc("1.1.5").Sources)
	return runtimes.Recipe{Name: "dockerd", Version: version, Sources: sources}
}
