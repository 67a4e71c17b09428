package dockerstop

import (
	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/engine/recipe"
)

// axes are the ways to bisect the scenario.
var axes = []arm.Axis{{
	Name:     "dockerd",
	Title:    "dockerd, by the recipes here",
	Arm:      "wedged-18.09",
	Versions: recipe.DockerdReleases,
	Subject:  func(version string) map[string]string { return map[string]string{"dockerd": version} },
	Requires: []string{unkillable, noExit},
}}
