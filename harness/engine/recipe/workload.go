package recipe

import (
	_ "embed"
	"fmt"

	"github.com/leaklab/leaklab/harness/runtimes"
)

//go:embed workload/main.go
var workloadSource string

// WorkloadVersion counts what the containers' program can do; its source is in
// the digest.
const WorkloadVersion = "1"

// Workload is the static program that the lab's containers run, so that no
// image comes from a registry.
var Workload = runtimes.Family{
	Name:     "workload",
	Summary:  "the static program that the lab's containers run: it sleeps, or reads a file",
	Versions: []string{WorkloadVersion},
	Recipe: func(version string) (runtimes.Recipe, error) {
		if version != WorkloadVersion {
			return runtimes.Recipe{}, fmt.Errorf("there is one workload, version %s", WorkloadVersion)
		}
		return runtimes.Recipe{Name: "workload", Version: version, Sources: []runtimes.Source{runtimes.GoBuild{
			Mod:     "module workload\n\ngo 1.21\n",
			Files:   map[string]string{"main.go": workloadSource},
			Targets: []runtimes.Target{{Package: ".", Out: "workload"}},
			LDFlags: "-s -w",
		}}}, nil
	},
}
