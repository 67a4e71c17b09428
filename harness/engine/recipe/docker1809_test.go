package recipe

import (
	"slices"
	"strings"
	"testing"

	"github.com/leaklab/leaklab/harness/runtimes"
)

func edits(t *testing.T, r runtimes.Recipe, source int) []runtimes.Edit {
	t.Helper()
	build, ok := r.Sources[source].(runtimes.GoBuild)
	if !ok {
		t.Fatalf("source %d of %s is no Go build", source, r.Ref())
	}
	return build.Edits
}

// The engine of the report is as it was, and the mitigation differs from it by
// the proposal alone.
func TestDockerd1809IsAsItWas(t *testing.T) {
	if es := edits(t, Dockerd1809(), 0); len(es) != 0 {
		t.Errorf("dockerd 18.09 is edited: %v", es)
	}
	es := edits(t, Dockerd1809Timeout(), 0)
	if len(es) != 1 || es[0].File != "daemon/kill.go" || es[0].Count > 1 {
		t.Fatalf("the mitigation is %v", es)
	}
	var gone []string
	for line := range strings.Lines(es[0].Old) {
		if !strings.HasPrefix(strings.TrimSpace(line), "//") && !strings.Contains(es[0].New, line) {
			gone = append(gone, strings.TrimSpace(line))
		}
	}
	if !slices.Equal(gone, []string{"<-container.Wait(context.Background(), containerpkg.WaitConditionNotRunning)"}) {
		t.Errorf("the mitigation takes away %q", gone)
	}
}

// What 18.09 talks to is its own matter: containerd loses plugins, no behaviour.
func TestContainerd13OnlyLosesPlugins(t *testing.T) {
	for _, e := range edits(t, Containerd13(), 0) {
		if e.New != "" || e.File != "cmd/containerd/builtins_linux.go" || !strings.HasPrefix(e.Old, "\t_ \"") {
			t.Errorf("an edit that is no removed import: %v", e)
		}
	}
}

func TestRecipesDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, r := range []runtimes.Recipe{Dockerd1809(), Dockerd1809Timeout(), Containerd13()} {
		digest, _, err := runtimes.Digest(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[digest]; ok {
			t.Errorf("%s and %s have the same key", r.Ref(), other)
		}
		seen[digest] = r.Ref()
	}
}
