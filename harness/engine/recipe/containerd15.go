package recipe

import (
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/leaklab/leaklab/harness/runtimes"
)

// The CRI containerd and its shim are two runtimes, because which of the two
// has which ttrpc is a question of its own.
const (
	CRIContainerdName = "cri-containerd"
	CRIShimName       = "cri-shim"
)

// criVersions are versions that are known to build. Up to 1.5.7 containerd
// required ttrpc 1.0.2, from 1.5.8 on 1.1.0; the ones with a "+" differ from
// what was released in their ttrpc alone.
var criVersions = []string{"1.5.1", "1.5.1+ttrpc1.1.0", "1.5.4", "1.5.7", "1.5.8", "1.6.38"}

// criPinned are the versions whose checksums are shipped.
var criPinned = []string{"1.5.1", "1.5.1+ttrpc1.1.0", "1.5.8"}

// CRIContainerd is containerd with its kubernetes plugin, of any version 1.5.x
// or 1.6.x, and ctr.
var CRIContainerd = criFamily(CRIContainerdName, "containerd as kubelet uses it; <version>+ttrpc<version> replaces its ttrpc",
	func(version string) (runtimes.Recipe, error) {
		build, err := containerd15(version, "containerd", "ctr")
		return runtimes.Recipe{Name: CRIContainerdName, Version: version, Sources: []runtimes.Source{build}}, err
	})

// CRIShim is the shim that such a containerd starts, with the runc it drives.
var CRIShim = criFamily(CRIShimName, "containerd-shim-runc-v2 with runc; versions as of "+CRIContainerdName,
	func(version string) (runtimes.Recipe, error) {
		build, err := containerd15(version, "containerd-shim-runc-v2")
		sources := slices.Concat([]runtimes.Source{build}, Runc(runcShipped).Sources)
		return runtimes.Recipe{Name: CRIShimName, Version: version, Sources: sources}, err
	})

func criFamily(name, summary string, make func(version string) (runtimes.Recipe, error)) runtimes.Family {
	return runtimes.Family{
		Name:     name,
		Summary:  summary,
		Versions: criVersions,
		Recipe: func(version string) (runtimes.Recipe, error) {
			if r, ok, err := runtimes.ParseUserSource(name, version); ok {
				return r, err
			}
			return make(version)
		},
	}
}

// criVersion is a version of containerd with, after a plus, the ttrpc that
// takes the place of the one it requires.
var criVersion = regexp.MustCompile(`^(1\.([56])\.\d+(?:-[0-9A-Za-z.-]+)?)(?:\+ttrpc(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?))?$`)

// containerd15 compiles commands of one containerd. The replacements are those
// of containerd's own go.mod, which do not count when it is not the main
// module; without the old protobuf and grpc 1.5 does not compile. Left out are
// the snapshotters that need C libraries or a file system of their own.
func containerd15(version string, commands ...string) (runtimes.GoBuild, error) {
	m := criVersion.FindStringSubmatch(version)
	if m == nil {
		return runtimes.GoBuild{}, fmt.Errorf("%q is not a containerd 1.5 or 1.6 (want 1.5.1, or 1.5.1+ttrpc1.1.0)", version)
	}
	const module = "github.com/containerd/containerd"
	replace := []string{
		"github.com/gogo/googleapis => github.com/gogo/googleapis v1.3.2",
		"github.com/urfave/cli => github.com/urfave/cli v1.22.1",
		"google.golang.org/genproto => google.golang.org/genproto v0.0.0-20200224152610-e50cd9704f63",
	}
	// Since go 1.17 the requirements of requirements are pruned, and 1.6 was
	// selected so; 1.5 was not, and all of its requirements count.
	language := "1.18"
	if m[2] == "5" {
		language = "1.16"
		replace = append(replace,
			"github.com/golang/protobuf => github.com/golang/protobuf v1.3.5",
			"google.golang.org/grpc => google.golang.org/grpc v1.27.1",
		)
	}
	if m[3] != "" {
		replace = append(replace, "github.com/containerd/ttrpc => github.com/containerd/ttrpc v"+m[3])
	}
	build := runtimes.GoBuild{
		Mod:     fmt.Sprintf("module criruntime\n\ngo %s\n\nrequire %s v%s\n\nreplace (\n\t%s\n)\n", language, module, m[1], strings.Join(replace, "\n\t")),
		Sum:     criSum,
		Open:    !slices.Contains(criPinned, version),
		Tags:    []string{"no_aufs", "no_btrfs", "no_devmapper", "no_zfs", "netgo", "osusergo"},
		LDFlags: "-X " + module + "/version.Version=" + version,
	}
	imports := ""
	for _, c := range commands {
		build.Targets = append(build.Targets, runtimes.Target{Package: module + "/cmd/" + c, Out: c})
		imports += fmt.Sprintf("\t_ %q\n", module+"/cmd/"+c)
	}
	if build.Open {
		// Something must import the commands, or tidying drops containerd.
		build.Files = map[string]string{"tools.go": "//go:build tools\n\npackage tools\n\nimport (\n" + imports + ")\n"}
	}
	return build, nil
}

// criSum holds the checksums of every module that the pinned versions need.
//
//go:embed pins/cri-containerd/go.sum.txt
var criSum string
