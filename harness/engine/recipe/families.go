package recipe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/leaklab/leaklab/harness/runtimes"
)

// Families are the container engines and what they run: every version that has
// a recipe here, and through [runtimes.ParseUserSource] any other that a user
// has as binaries, an archive or packages.
var Families = runtimes.Families{
	withReleases(family("dockerd", "the Docker daemon with the containerd, shim and runc it drives", map[string]func() runtimes.Recipe{
		"1.13.1":             Dockerd1131,
		"18.09":              Dockerd1809,
		"18.09-kill-timeout": Dockerd1809Timeout,
		"20.10.24":           DockerdDebian,
	})),
	family("containerd", "containerd with its shim, as a dockerd starts it", map[string]func() runtimes.Recipe{
		"0.2.10": Containerd02,
		"1.3.0":  Containerd13,
	}),
	{
		Name:     "runc",
		Summary:  "runc, linked statically",
		Versions: []string{runcShipped},
		Recipe: func(version string) (runtimes.Recipe, error) {
			if r, ok, err := runtimes.ParseUserSource("runc", version); ok {
				return r, err
			}
			return Runc(version), nil
		},
	},
	CRIContainerd,
	CRIShim,
	Workload,
}

// family has the versions of one engine, and the users' own.
func family(name, summary string, known map[string]func() runtimes.Recipe) runtimes.Family {
	var versions []string
	for v := range known {
		versions = append(versions, v)
	}
	slices.SortFunc(versions, compareVersions)
	return runtimes.Family{
		Name:     name,
		Summary:  summary,
		Versions: versions,
		Recipe: func(version string) (runtimes.Recipe, error) {
			if make := known[version]; make != nil {
				return make(), nil
			}
			if r, ok, err := runtimes.ParseUserSource(name, version); ok {
				return r, err
			}
			return runtimes.Recipe{}, fmt.Errorf("there is no recipe for %s %s, only for %s; others come from dir:, archive:, deb: and debian: sources",
				name, version, strings.Join(versions, ", "))
		},
	}
}

// compareVersions orders "1.13.1" before "18.09".
func compareVersions(a, b string) int {
	as, bs := strings.FieldsFunc(a, separator), strings.FieldsFunc(b, separator)
	return slices.CompareFunc(as, bs, func(a, b string) int {
		if len(a) != len(b) && numeric(a) && numeric(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
}

func separator(r rune) bool { return r == '.' || r == '-' }

func numeric(s string) bool { return strings.Trim(s, "0123456789") == "" }
