package recipe

import (
	_ "embed"

	"github.com/leaklab/leaklab/harness/runtimes"
)

//go:embed standin/listeners.go.txt
var standInListeners string

// Containerd02 is the containerd that dockerd 1.13 starts and talks to, under
// the names dockerd looks for. 1.13.1 shipped 0.2.5 of its time; the proxy
// serves the 0.2 branch at its end, 2017-08, which has the same API.
func Containerd02() runtimes.Recipe {
	const module = "github.com/containerd/containerd"
	mod, sum := pins("containerd-0.2")
	build := runtimes.GoBuild{
		Mod: mod,
		Sum: sum,
		Files: map[string]string{
			"docker/go.mod":                     "module github.com/docker/docker\n",
			"docker/pkg/listeners/listeners.go": standInListeners,
		},
		Targets: []runtimes.Target{
			{Package: module + "/containerd", Out: "docker-containerd"},
			{Package: module + "/containerd-shim", Out: "docker-containerd-shim"},
			{Package: module + "/ctr", Out: "docker-containerd-ctr"},
		},
	}
	return runtimes.Recipe{Name: "containerd", Version: "0.2.10", Sources: []runtimes.Source{build}}
}
