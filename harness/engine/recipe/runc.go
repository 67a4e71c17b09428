package recipe

import (
	"fmt"

	"github.com/leaklab/leaklab/harness/runtimes"
)

// runcShipped is the version of runc whose checksums are shipped.
const runcShipped = "1.1.5"

// Runc is runc of the given version (1.1.5, 1.1.14 and 1.2.6 are known to
// build), linked statically so that it runs in any guest, under its own name
// and the one dockerd 1.13 looks for. It is built without seccomp, which needs
// a C library and which the old engines do not ask for.
//
// runc needs cgo: it enters namespaces in C before the Go run-time starts.
func Runc(version string) runtimes.Recipe {
	const module = "github.com/opencontainers/runc"
	build := runtimes.GoBuild{
		CGO:     true,
		Tags:    []string{"netgo", "osusergo"},
		LDFlags: "-extldflags -static -X main.version=" + version,
		Targets: []runtimes.Target{
			{Package: module, Out: "runc"},
			{Package: module, Out: "docker-runc"},
		},
	}
	if version == runcShipped {
		build.Mod, build.Sum = pins("runc-" + version)
	} else {
		build.Open = true
		build.Mod = fmt.Sprintf("module runtimerunc\n\ngo 1.22\n\nrequire %s v%s\n", module, version)
		// Something must import runc, or tidying drops it.
		build.Files = map[string]string{
			"tools.go": fmt.Sprintf("//go:build tools\n\npackage tools\n\nimport _ %q\n", module),
		}
	}
	return runtimes.Recipe{Name: "runc", Version: version, Sources: []runtimes.Source{build}}
}
