package ttrpc

import (
	_ "embed"
	"fmt"
	"regexp"

	"github.com/leaklab/leaklab/harness/runtimes"
)

//go:embed pair/main.go
var pairSource string

// pairSum holds the checksums of every module that the known versions need.
//
//go:embed pins/go.sum
var pairSum string

// pairName is the runtime: a client and a server around one version of ttrpc.
const pairName = "ttrpc-pair"

// newest is the newest ttrpc at the time of writing, and the one of the main
// module.
const newest = "v1.2.10"

// Pairs is the family of ttrpc pairs, one per version of the ttrpc module.
var Pairs = runtimes.Family{
	Name:    pairName,
	Summary: "a client and a server process around github.com/containerd/ttrpc of one version",
	Versions: []string{
		"v1.0.1", "v1.0.2", "v1.1.0", "v1.1.2", "v1.2.2", "v1.2.5", "v1.2.6", "v1.2.7", "v1.2.8", "v1.2.9", newest,
	},
	Recipe: func(version string) (runtimes.Recipe, error) {
		if !moduleVersion.MatchString(version) {
			return runtimes.Recipe{}, fmt.Errorf("%q is not a version of a Go module (want something like v1.0.1)", version)
		}
		return runtimes.Recipe{Name: pairName, Version: version, Sources: []runtimes.Source{runtimes.GoBuild{
			Mod: fmt.Sprintf(`module github.com/leaklab/leaklab/scenarios/ttrpc/pair

go 1.21

require (
	github.com/containerd/ttrpc %s
	google.golang.org/protobuf v1.36.11
)
`, version),
			// The requirements of ttrpc itself complete the pins; any version
			// can be asked for.
			Sum:     pairSum,
			Open:    true,
			Files:   map[string]string{"main.go": pairSource},
			Targets: []runtimes.Target{{Package: ".", Out: "pair"}},
		}}}, nil
	},
}

var moduleVersion = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)
