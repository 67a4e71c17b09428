package memcg

import (
	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/kernel"
)

// axes are the ways to bisect the scenario.
var axes = []arm.Axis{{
	Name:  "kernel",
	Title: "kernels: those of the catalogue that have cgroup v2, bzImages and packages by their path",
	// The unified hierarchy is what all of them have.
	Arm:      "swapped-6.1-v2",
	Versions: todaysKernels(),
	Kernel:   true,
	Requires: []string{swapped},
}}

// todaysKernels are those of the catalogue that have a source, oldest first.
func todaysKernels() []string {
	var names []string
	for _, k := range kernel.Catalogue() {
		if k.Source != nil {
			names = append(names, k.Name)
		}
	}
	return names
}
