package dockerstats

import (
	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/engine/recipe"
)

// axes are the ways to bisect the scenario. The leak shows in every run.
var axes = []arm.Axis{{
	Name:     "dockerd",
	Title:    "dockerd by version, under MountFlags=slave and restarted",
	Arm:      "leak",
	Versions: recipe.DockerdReleases,
	Subject:  func(version string) map[string]string { return map[string]string{"dockerd": version} },
	Chance:   1,
	Requires: []string{sandboxLost},
}}
