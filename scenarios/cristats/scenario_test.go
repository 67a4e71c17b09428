package cristats

import (
	"testing"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/engine/recipe"
)

func TestTally(t *testing.T) {
	f := figures{Started: 10, Answered: 3, Empty: 1, Released: 2, Failed: 1}
	if got := f.hanging(); got != 3 {
		t.Errorf("%d of %+v hang, want 3", got, f)
	}
}

// TestArms keeps the arms honest: whoever expects the deadlock also expects its
// evidence.
func TestArms(t *testing.T) {
	for _, a := range Scenario.Arms {
		want := map[string]bool{}
		for _, o := range a.Outcomes {
			want[o.Name] = o.Expect == arm.Always
		}
		for _, evidence := range []string{stackCircle, fullQueues} {
			if want[deadlock] != want[evidence] {
				t.Errorf("%s expects %q: %v, but %q: %v", a.Name, deadlock, want[deadlock], evidence, want[evidence])
			}
		}
	}
}

// TestAxes: every version of an axis has a recipe, a commit's too.
func TestAxes(t *testing.T) {
	commits := map[string]string{
		"containerd": "v1.5.8-0.20211101000000-0123456789ab",
		"ttrpc":      "v1.0.3-0.20210301000000-0123456789ab",
	}
	for _, axis := range axes {
		for _, version := range append(axis.Versions, commits[axis.Name]) {
			for name, v := range axis.Subject(version) {
				if _, err := recipe.Families.Recipe(name + "@" + v); err != nil {
					t.Errorf("%s %s: %v", axis.Name, version, err)
				}
			}
		}
	}
}

// TestCures: a mitigation says what a reader can do, and nothing else does.
func TestCures(t *testing.T) {
	for _, a := range Scenario.Arms {
		if (a.Kind == arm.Mitigation) != (a.Cure != "") {
			t.Errorf("%s is a %s with the cure %q", a.Name, a.Kind, a.Cure)
		}
	}
}
