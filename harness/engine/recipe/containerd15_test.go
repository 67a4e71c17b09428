package recipe

import (
	"strings"
	"testing"

	"github.com/leaklab/leaklab/harness/runtimes"
)

func TestContainerd15Pins(t *testing.T) {
	for version, want := range map[string][]string{
		"1.5.1":            {"containerd/containerd v1.5.1\n", "grpc v1.27.1", "go 1.16"},
		"1.5.1+ttrpc1.1.0": {"containerd/containerd v1.5.1\n", "github.com/containerd/ttrpc => github.com/containerd/ttrpc v1.1.0"},
		"1.6.38":           {"containerd/containerd v1.6.38\n", "go 1.18"},
	} {
		r, err := CRIContainerd.Recipe(version)
		if err != nil {
			t.Fatal(err)
		}
		build := r.Sources[0].(runtimes.GoBuild)
		for _, text := range want {
			if !strings.Contains(build.Mod, text) {
				t.Errorf("%s: go.mod lacks %q:\n%s", version, text, build.Mod)
			}
		}
	}
}

func TestContainerd15TTRPCIsTheOnlyDifference(t *testing.T) {
	shipped, err := containerd15("1.5.1", "containerd")
	if err != nil {
		t.Fatal(err)
	}
	fixed, err := containerd15("1.5.1+ttrpc1.1.0", "containerd")
	if err != nil {
		t.Fatal(err)
	}
	without := strings.ReplaceAll(fixed.Mod, "\n\tgithub.com/containerd/ttrpc => github.com/containerd/ttrpc v1.1.0", "")
	if without != shipped.Mod {
		t.Errorf("the two differ in more than ttrpc:\n%s\n%s", shipped.Mod, fixed.Mod)
	}
}

func TestContainerd15RefusesOthers(t *testing.T) {
	for _, version := range []string{"1.3.0", "1.7.0", "1.5", "v1.5.1", "1.5.1+ttrpc", "1.5.1+ttrpcv1.1.0", "newest"} {
		if _, err := CRIShim.Recipe(version); err == nil {
			t.Errorf("%s was taken", version)
		}
	}
}
