package ttrpc

import "github.com/leaklab/leaklab/harness/arm"

// axes are the ways to bisect the scenario.
var axes = []arm.Axis{{
	Name:     "ttrpc",
	Title:    "releases, pseudo-versions and commits of github.com/containerd/ttrpc",
	Arm:      "unix-v1.0.1",
	Versions: Pairs.Versions,
	Module:   "github.com/containerd/ttrpc",
	Subject:  func(version string) map[string]string { return map[string]string{pairName: version} },
}}
