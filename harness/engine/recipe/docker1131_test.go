package recipe

import (
	"bytes"
	"go/format"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/leaklab/leaklab/harness/runtimes"
)

// leakingPath names, per module, what the stats leak runs through: from the
// route that waits for ever back to the netns that cannot be entered.
// libnetwork's controller.go, where a sandbox is looked up by its id, is not
// among them: it has the loading of plugins too, which is edited.
var leakingPath = map[string][]string{
	moduleDocker: {
		"api/server/router/container/*.go",
		"api/server/router/local.go",
		"daemon/stats.go",
		"daemon/stats_collector.go",
		"daemon/stats_collector_unix.go",
		"daemon/stats_unix.go",
		"pkg/pubsub/publisher.go",
	},
	moduleLibnetwork: {
		"ns/*.go",
		"osl/*.go",
		"sandbox.go",
		"sandbox_externalkey_unix.go",
		"sandbox_store.go",
	},
}

// importPath is a replacement that can only change where an import comes from.
var importPath = regexp.MustCompile(`^"[\w.-]+(/[\w.-]+)+"$`)

func TestEditsStayOutOfTheLeakingPath(t *testing.T) {
	for _, e := range dockerd1131Edits() {
		if strings.Contains(e.File, "*") && e.Old != "" {
			if !importPath.MatchString(e.Old) || !importPath.MatchString(e.New) {
				t.Errorf("edit of %s %s: a pattern may only respell an import: %s → %s", e.Module, e.File, e.Old, e.New)
			}
			continue
		}
		for _, leaking := range leakingPath[e.Module] {
			if touches(e.File, leaking) {
				t.Errorf("edit of %s %s is in the leaking path (%s)", e.Module, e.File, leaking)
			}
		}
	}
}

// touches reports whether a file, or a folder that is removed, meets a pattern.
func touches(file, pattern string) bool {
	if strings.HasPrefix(pattern, file+"/") {
		return true
	}
	match, err := path.Match(pattern, file)
	return err != nil || match
}

func TestTouches(t *testing.T) {
	for file, want := range map[string]bool{
		"daemon/stats.go": true,
		"osl":             true,
		"osl/netns.go":    true,
		"controller.go":   false,
	} {
		var got bool
		for _, patterns := range leakingPath {
			for _, p := range patterns {
				got = got || touches(file, p)
			}
		}
		if got != want {
			t.Errorf("touches(%q) = %v", file, got)
		}
	}
}

func TestEditsAreDeclared(t *testing.T) {
	for _, e := range dockerd1131Edits() {
		if e.Module == "" || e.Why == "" || e.File == "" {
			t.Errorf("edit %+v says too little", e)
		}
		if strings.Contains(e.Why, "\n") {
			t.Errorf("edit of %s: the reason is not one line", e.File)
		}
		ways := 0
		for _, way := range []bool{e.Old != "", e.Write != "", e.Remove} {
			if way {
				ways++
			}
		}
		if ways != 1 {
			t.Errorf("edit of %s does %d things", e.File, ways)
		}
		if e.Write != "" {
			wantFormatted(t, e.File, e.Write)
		}
	}
}

func TestStandIns(t *testing.T) {
	for name, text := range map[string]string{
		"cluster": standInCluster, "swarmkit": standInSwarmkit, "rc2spec": standInRC2Spec, "listeners": standInListeners,
	} {
		wantFormatted(t, name, text)
	}
}

func wantFormatted(t *testing.T, name, text string) {
	t.Helper()
	out, err := format.Source([]byte(text))
	if err != nil {
		t.Errorf("%s: %v", name, err)
	} else if !bytes.Equal(out, []byte(text)) {
		t.Errorf("%s is not gofmt'd", name)
	}
}

var replacedByFolder = regexp.MustCompile(`=> (\S*/\S*)\n`)

func TestDockerd1131IsComplete(t *testing.T) {
	var made []string
	for _, source := range Dockerd1131().Sources {
		build, ok := source.(runtimes.GoBuild)
		if !ok {
			t.Fatalf("source is a %T", source)
		}
		for _, target := range build.Targets {
			made = append(made, target.Out)
		}
		if build.Sum == "" || build.Open {
			t.Errorf("the build of %v is not pinned", build.Targets)
		}
		for _, m := range replacedByFolder.FindAllStringSubmatch(build.Mod, -1) {
			folder, ok := strings.CutPrefix(m[1], "./")
			if _, brought := build.Files[folder+"/go.mod"]; !ok || !brought {
				t.Errorf("pins point to %s, which the recipe does not bring along", m[1])
			}
		}
	}
	for _, name := range []string{"dockerd", "docker-containerd", "docker-containerd-shim", "docker-containerd-ctr", "docker-runc", "runc"} {
		if !slices.Contains(made, name) {
			t.Errorf("no %s among %v", name, made)
		}
	}
}

func TestRuncVersions(t *testing.T) {
	for version, open := range map[string]bool{"1.1.5": false, "1.1.14": true, "1.2.6": true} {
		r := Runc(version)
		if want := "runc@" + version; r.Ref() != want {
			t.Errorf("got %s, want %s", r.Ref(), want)
		}
		build := r.Sources[0].(runtimes.GoBuild)
		if build.Open != open || (build.Sum == "") != open {
			t.Errorf("%s: open is %v, checksums %v", version, build.Open, build.Sum != "")
		}
		if want := "github.com/opencontainers/runc v" + version + "\n"; !strings.Contains(build.Mod, want) {
			t.Errorf("%s: not required by\n%s", version, build.Mod)
		}
	}
}
