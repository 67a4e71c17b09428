package runtimes

import (
	"path/filepath"
	"strings"
	"testing"
)

// runAll makes all sources of a recipe on one bench.
func runAll(t *testing.T, r Recipe) (map[string]string, error) {
	t.Helper()
	c := Cache{Dir: t.TempDir()}
	e, err := c.Get(t.Context(), r, func(string) {})
	if err != nil {
		return nil, err
	}
	return readTree(t, e.Bin), nil
}

func TestUserSource(t *testing.T) {
	dir := makeBin(t, map[string]string{"dockerd": "the daemon", "ls": "not an engine's"})
	more := makeBin(t, map[string]string{"containerd": "its companion"})
	tgz := compress(t, "gz", makeTar(t, official))
	deb := makeDeb("xz", compress(t, "xz", makeTar(t, packaged[:2])))
	companion := makeDeb("", makeTar(t, packaged[2:3]))
	fakeApt(t, makeDeb("", makeTar(t, packaged)), true)
	for _, version := range []string{
		"dir:" + dir + string(filepath.ListSeparator) + more,
		"archive:" + writeTemp(t, "docker-1.2.3.tgz", tgz),
		"archive:" + serve(t, "docker-1.2.3.tgz", tgz, len(tgz)) + "#sha256=" + sumOf(tgz),
		"deb:" + writeTemp(t, "b.deb", companion) + " " + writeTemp(t, "a.deb", deb) + "#sha256=" + sumOf(deb),
	} {
		r, ok, err := ParseUserSource("dockerd", version)
		if !ok || err != nil {
			t.Fatalf("%s: %v, %v", version, ok, err)
		}
		if r.Ref() != "dockerd@"+version {
			t.Errorf("it is called %s", r.Ref())
		}
		files, err := runAll(t, r)
		if err != nil {
			t.Errorf("%s: %v", version, err)
			continue
		}
		wantFiles(t, files, officialFiles)
	}
}

func TestUserSourceDebian(t *testing.T) {
	r, ok, err := ParseUserSource("dockerd", "debian:20.10.24")
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	got := r.Sources[0].(holding).Source.(DebPackages).Packages
	if strings.Join(got, " ") != "docker.io=20.10.24* containerd runc" {
		t.Errorf("packages %q", got)
	}
	if debianPackages["dockerd"][0] != "docker.io" {
		t.Error("parsing has changed the table")
	}
}

func TestUserSourceIsNone(t *testing.T) {
	for _, version := range []string{"18.09", "1.13.1", "2:20.10", "https://example.org/x.tgz", "dir"} {
		if _, ok, err := ParseUserSource("dockerd", version); ok || err != nil {
			t.Errorf("%s: %v, %v", version, ok, err)
		}
	}
}

func TestUserSourceFails(t *testing.T) {
	for version, want := range map[string]string{
		"dir:":                    `nothing comes after "dir:"`,
		"archive:x.tgz#md5=00":    "after # comes sha256=",
		"archive:x.tgz#sha256=00": "64 hexadecimal digits",
		"deb: ":                   "no file is named",
		"deb:x.deb#sha256=" + strings.Repeat("g", 64): "hexadecimal",
	} {
		_, ok, err := ParseUserSource("dockerd", version)
		if !ok {
			t.Errorf("%s: not taken for a source", version)
		}
		wantError(t, err, want)
	}
	_, _, err := ParseUserSource("ttrpc", "debian:1.0")
	wantError(t, err, "which of Debian's packages hold ttrpc is not known")

	// The runtime's own binary must be there.
	r, _, err := ParseUserSource("dockerd", "archive:"+writeTemp(t, "x.tar", makeTar(t, official[2:])))
	if err != nil {
		t.Fatal(err)
	}
	_, err = runAll(t, r)
	wantError(t, err, "there is no dockerd among the binaries")
}
