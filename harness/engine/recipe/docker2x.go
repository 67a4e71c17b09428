package recipe

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/leaklab/leaklab/harness/runtimes"
)

// dockerd2xSums are the releases since 25 that were seen to build, with their
// checksums. Of older ones (23, 24) the module proxy does not serve the buildkit
// they pin.
var dockerd2xSums = map[string]string{
	"25.0.6": "h1:5cPwbwriIcsua2REJe8HqQV+6WlWc1byg2QSXzBxBGg=",
	"28.5.2": "h1:DBX0Y0zAjZbSrm1uzOkdr1onVghKaftjlSWt4AFexzM=",
}

// dockerd2xVersion is a release that carries its pins.
var dockerd2xVersion = regexp.MustCompile(`^2[3-9]\.\d+\.\d+(-rc\.\d+)?$`)

// Dockerd2x is a dockerd since 23 as released, unedited, with a containerd 1.6,
// its shim and the runc it drives. Any release that the module proxy serves with
// all its requirements can be asked for.
//
// Left out are the graph drivers that need C libraries, and with cgo quotas on
// overlay2, the plugins that are shared objects, and the journald log driver.
func Dockerd2x(version string) (runtimes.Recipe, error) {
	if !dockerd2xVersion.MatchString(version) {
		return runtimes.Recipe{}, fmt.Errorf("%q is not a release of docker since 23", version)
	}
	daemon := runtimes.OwnPins{
		Module: moduleDocker, Version: "v" + version + "+incompatible", Sum: dockerd2xSums[version],
		ModFile: "vendor.mod", SumFile: "vendor.sum",
		Build: runtimes.GoBuild{
			Targets: []runtimes.Target{{Package: moduleDocker + "/cmd/dockerd", Out: "dockerd"}},
			Tags: []string{
				"exclude_graphdriver_btrfs", "exclude_graphdriver_zfs", "exclude_graphdriver_devicemapper", "exclude_graphdriver_aufs",
				"no_btrfs", "netgo", "osusergo",
			},
			LDFlags: "-X " + moduleDocker + "/dockerversion.Version=" + version,
		},
	}
	containerd, err := containerd15(dockerd2xContainerd, "containerd", "ctr", "containerd-shim-runc-v2")
	if err != nil {
		return runtimes.Recipe{}, err
	}
	sources := slices.Concat([]runtimes.Source{daemon, containerd}, Runc(runcShipped).Sources)
	return runtimes.Recipe{Name: "dockerd", Version: version, Sources: sources}, nil
}

// dockerd2xContainerd is the newest containerd that has a recipe. Releases of
// docker since 23 come with 1.6 or 1.7.
const dockerd2xContainerd = "1.6.38"

// withReleases adds the releases since 23 to the family of dockerds.
func withReleases(f runtimes.Family) runtimes.Family {
	older := f.Recipe
	f.Recipe = func(version string) (runtimes.Recipe, error) {
		if dockerd2xVersion.MatchString(version) {
			return Dockerd2x(version)
		}
		return older(version)
	}
	f.Versions = append(f.Versions, slices.SortedFunc(maps.Keys(dockerd2xSums), compareVersions)...)
	return f
}
