package cristats

import (
	"strings"

	"github.com/leaklab/leaklab/harness/arm"
)

// axes are the ways to bisect the scenario: releases of containerd with the
// ttrpc each requires, and ttrpc within one containerd.
var axes = []arm.Axis{
	{
		Name:     "containerd",
		Title:    "containerd 1.5 and 1.6 with its shim, as released",
		Arm:      "small-1.5.1",
		Versions: []string{"v1.5.1", "v1.5.4", "v1.5.7", "v1.5.8", "v1.6.38"},
		Module:   "github.com/containerd/containerd",
		Match:    `^v1\.[56]\.\d+$`,
		Subject:  both,
	},
	{
		Name:     "ttrpc",
		Title:    "github.com/containerd/ttrpc within containerd and shim 1.5.1",
		Arm:      "small-1.5.1",
		Versions: []string{"v1.0.2", "v1.1.0"},
		Module:   "github.com/containerd/ttrpc",
		// 1.5.1 does not compile with those before and after.
		Match: `^v1\.(0\.2|1\.\d+)$`,
		Subject: func(version string) map[string]string {
			return both(shipped + "+ttrpc" + strings.TrimPrefix(version, "v"))
		},
	},
}

// both gives containerd and shim the same version.
func both(version string) map[string]string {
	version = strings.TrimPrefix(version, "v")
	return map[string]string{containerdName: version, shimName: version}
}
