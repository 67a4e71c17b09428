package runtimes

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// member is a file of an archive made in a test.
type member struct {
	name string
	mode int64
	text string
	link string
}

// official is laid out as docker's static archives are.
var official = []member{
	{name: "docker/", mode: 0o755},
	{name: "docker/dockerd", mode: 0o755, text: "the daemon"},
	{name: "docker/containerd", mode: 0o755, text: "its companion"},
	{name: "docker/docker-init", link: "init"},
	{name: "docker/LICENSE", mode: 0o644, text: "a license"},
}

func makeTar(t *testing.T, members []member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: m.mode, Size: int64(len(m.text)), Typeflag: tar.TypeReg}
		switch {
		case m.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, m.link
		case strings.HasSuffix(m.name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, m.text)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var compressors = map[string]func(io.Writer) (io.WriteCloser, error){
	"":    func(w io.Writer) (io.WriteCloser, error) { return nopCloser{w}, nil },
	"gz":  func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
	"xz":  func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
	"zst": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func compress(t *testing.T, how string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := compressors[how](&b)
	if err == nil {
		_, err = w.Write(data)
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// makeDeb makes a Debian package around a data.tar, compressed or not.
func makeDeb(how string, data []byte) []byte {
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	add := func(name, text string) {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n%s", name, 0, 0, 0, "100644", len(text), text)
		if len(text)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	add("debian-binary", "2.0\n")
	add("control.tar.xz", "odd")
	add(strings.TrimSuffix("data.tar."+how, "."), string(data))
	return b.Bytes()
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func writeTemp(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// serve is a web server with one file, in as many bytes as it says; it returns
// the file's URL.
func serve(t *testing.T, name string, data []byte, says int) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/"+name {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(says))
		w.Write(data)
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/" + name
}

// made is what a source left on the bench.
type made struct {
	files    map[string]string
	log      string
	progress []string
}

// run describes and makes a source.
func run(t *testing.T, s Source) (made, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := s.Describe(ctx); err != nil {
		return made{}, err
	}
	var m made
	var log bytes.Buffer
	w := &Work{Dir: t.TempDir(), Bin: t.TempDir(), Log: &log, Progress: func(p string) { m.progress = append(m.progress, p) }}
	err := s.Make(ctx, w)
	m.files, m.log = readTree(t, w.Bin), log.String()
	return m, err
}

func readTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !isExecutable(info) {
			t.Errorf("%s cannot be run: %v", path, info.Mode())
		}
		text, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		files[rel] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func wantFiles(t *testing.T, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("the bench holds %v, want %v", got, want)
	}
}

// wantError checks for a one-line error with the words.
func wantError(t *testing.T, err error, words string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("no error, want %q", words)
	case !strings.Contains(err.Error(), words):
		t.Errorf("error %q, want %q", err, words)
	case strings.Contains(err.Error(), "\n"):
		t.Errorf("error of several lines: %q", err)
	}
}

func wantUnavailable(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v, want ErrUnavailable", err)
	}
}

func digest(t *testing.T, s Source) string {
	t.Helper()
	d, _, err := Digest(t.Context(), Recipe{Name: "x", Version: "1", Sources: []Source{s}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var officialFiles = map[string]string{"dockerd": "the daemon", "containerd": "its companion"}

func TestArchive(t *testing.T) {
	for how := range compressors {
		t.Run("tar."+how, func(t *testing.T) {
			data := compress(t, how, makeTar(t, official))
			for _, from := range []string{
				writeTemp(t, "docker-19.03.15.tgz", data),
				serve(t, "docker-19.03.15.tgz", data, len(data)),
			} {
				m, err := run(t, Archive{From: from, SHA256: strings.ToUpper(sumOf(data))})
				if err != nil {
					t.Fatal(err)
				}
				wantFiles(t, m.files, officialFiles)
			}
		})
	}
}

func TestArchiveTakesNamedFiles(t *testing.T) {
	from := writeTemp(t, "x.tar", makeTar(t, official))
	m, err := run(t, Archive{From: from, Files: map[string]string{"**/LICENSE": "lib/license", "docker/dockerd": "daemon"}})
	if err != nil {
		t.Fatal(err)
	}
	wantFiles(t, m.files, map[string]string{"lib/license": "a license", "daemon": "the daemon"})

	_, err = run(t, Archive{From: from, Files: map[string]string{"docker/dockerd": "a", "docker/runc": "b"}})
	wantError(t, err, "no file docker/runc in it")
	// A link is not what it points to.
	_, err = run(t, Archive{From: from, Files: map[string]string{"docker/docker-init": "b"}})
	wantError(t, err, "no file docker/docker-init in it")
}

func TestArchiveTellsAnUndeclaredSum(t *testing.T) {
	data := makeTar(t, official)
	m, err := run(t, Archive{From: serve(t, "x.tar", data, len(data))})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(m.log, sumOf(data)) {
		t.Errorf("the log does not hold the sum: %q", m.log)
	}
	if !slices.ContainsFunc(m.progress, func(p string) bool { return strings.Contains(p, sumOf(data)) }) {
		t.Errorf("the sum was not told: %q", m.progress)
	}
}

func TestArchiveRefuses(t *testing.T) {
	tgz := compress(t, "gz", makeTar(t, official))
	wrong := strings.Repeat("0", 64)
	for name, c := range map[string]struct {
		members []member
		data    []byte
		sum     string
		want    string
	}{
		"wrong checksum":  {data: tgz, sum: wrong, want: "x.tgz has the wrong checksum: sha256 is " + sumOf(tgz)},
		"cut short":       {data: tgz[:len(tgz)/2], want: "x.tgz: the archive is cut short"},
		"cut in checksum": {data: tgz[:len(tgz)-3], want: "cut short"},
		"empty":           {data: []byte{}, want: "cut short"},
		"damaged":         {data: append(slices.Clone(tgz[:len(tgz)-8]), make([]byte, 8)...), want: "not an archive that can be read: gzip: invalid checksum"},
		"a web page":      {data: bytes.Repeat([]byte("<html>"), 200), want: "not an archive that can be read"},
		"no executables":  {members: official[4:], want: "no executable file in it"},
		"goes up":         {members: []member{{name: "docker/../../dockerd", mode: 0o755, text: "x"}}, want: `not safe: it holds the path "docker/../../dockerd"`},
		"absolute":        {members: []member{{name: "/usr/bin/dockerd", mode: 0o755, text: "x"}}, want: "not safe"},
		"two of a name":   {members: append(official[:3:3], member{name: "old/dockerd", mode: 0o755, text: "x"}), want: "docker/dockerd and old/dockerd would both become dockerd"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.members != nil {
				c.data = compress(t, "gz", makeTar(t, c.members))
			}
			_, err := run(t, Archive{From: writeTemp(t, "x.tgz", c.data), SHA256: c.sum})
			wantError(t, err, c.want)
			_, err = run(t, Archive{From: serve(t, "x.tgz", c.data, len(c.data)), SHA256: c.sum})
			wantError(t, err, c.want)
		})
	}
}

func TestArchiveStaysOnTheBench(t *testing.T) {
	// A link out of the folder, and a file through it.
	outside := t.TempDir()
	from := writeTemp(t, "x.tar", makeTar(t, []member{
		{name: "docker/bin", link: outside},
		{name: "docker/bin/dockerd", mode: 0o755, text: "x"},
	}))
	if _, err := run(t, Archive{From: from}); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, readTree(t, outside), map[string]string{})
}

func TestFetchFails(t *testing.T) {
	data := makeTar(t, official)
	url := serve(t, "x.tar", data, len(data))

	_, err := run(t, Archive{From: strings.Replace(url, "x.tar", "other.tgz", 1)})
	wantError(t, err, "the server does not serve other.tgz (404 Not Found)")
	wantUnavailable(t, err)

	_, err = run(t, Archive{From: writeTemp(t, "x.tar", data) + "x"})
	wantError(t, err, "there is no file")
	wantUnavailable(t, err)

	_, err = run(t, Archive{From: serve(t, "x.tar", data, len(data)+10)})
	wantError(t, err, fmt.Sprintf("fetching x.tar: cut short after %d of %d bytes", len(data), len(data)+10))

	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer broken.Close()
	_, err = run(t, Archive{From: broken.URL + "/x.tar"})
	wantError(t, err, "fetching x.tar: 502 Bad Gateway")

	broken.Close()
	_, err = run(t, Archive{From: broken.URL + "/x.tar"})
	wantError(t, err, "connection refused")
}

func TestFetchGivesUp(t *testing.T) {
	block := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Write([]byte("a little"))
		w.(http.Flusher).Flush()
		<-block
	}))
	defer srv.Close()
	defer close(block)

	defer func(d time.Duration) { stalled = d }(stalled)
	stalled = 50 * time.Millisecond
	_, err := run(t, Archive{From: srv.URL + "/x.tar"})
	wantError(t, err, "fetching x.tar: the server has been silent for 50ms")

	stalled = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	w := &Work{Dir: t.TempDir(), Bin: t.TempDir(), Log: io.Discard, Progress: func(string) {}}
	if err := (Archive{From: srv.URL + "/x.tar"}).Make(ctx, w); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
}

func TestKeyOfAFile(t *testing.T) {
	data := makeTar(t, official)
	here, there := writeTemp(t, "x.tar", data), writeTemp(t, "x.tar", data)
	other := writeTemp(t, "x.tar", makeTar(t, official[:2]))
	if digest(t, Archive{From: here}) != digest(t, Archive{From: there}) {
		t.Error("the same file elsewhere has another key")
	}
	if digest(t, Archive{From: here}) == digest(t, Archive{From: other}) {
		t.Error("another file has the same key")
	}
	if digest(t, Archive{From: here}) == digest(t, Archive{From: here, Files: map[string]string{"a": "b"}}) {
		t.Error("another choice of files has the same key")
	}
	const url = "https://example.org/x.tgz"
	if digest(t, Archive{From: url}) == digest(t, Archive{From: url, SHA256: sumOf(data)}) {
		t.Error("a declared sum does not change the key")
	}
}

// packaged is laid out as Debian's packages are.
var packaged = []member{
	{name: "./", mode: 0o755},
	{name: "./usr/sbin/dockerd", mode: 0o755, text: "the daemon"},
	{name: "./usr/bin/containerd", mode: 0o755, text: "its companion"},
	{name: "./usr/bin/dockerd", link: "../sbin/dockerd"},
	{name: "./usr/share/docker/helper", mode: 0o755, text: "no binary"},
	{name: "./usr/lib/any-arch/libx.so.1.2", mode: 0o644, text: "a library"},
}

func TestDebFile(t *testing.T) {
	for how := range compressors {
		t.Run("data.tar."+how, func(t *testing.T) {
			data := makeDeb(how, compress(t, how, makeTar(t, packaged)))
			for _, from := range []string{writeTemp(t, "x.deb", data), serve(t, "x.deb", data, len(data))} {
				m, err := run(t, DebFile{From: from, SHA256: sumOf(data)})
				if err != nil {
					t.Fatal(err)
				}
				wantFiles(t, m.files, officialFiles)
			}
			m, err := run(t, DebFile{From: writeTemp(t, "x.deb", data), Files: map[string]string{"**/libx.so.1.*": "lib/libx.so.1"}})
			if err != nil {
				t.Fatal(err)
			}
			wantFiles(t, m.files, map[string]string{"lib/libx.so.1": "a library"})
		})
	}
}

func TestDebFileRefuses(t *testing.T) {
	deb := makeDeb("xz", compress(t, "xz", makeTar(t, packaged)))
	bad := slices.Clone(deb)
	copy(bad[8+48:], "-2       ")
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"not one":       {[]byte("PK\x03\x04 not a package"), "x.deb: not a Debian package"},
		"empty":         {nil, "x.deb: not a Debian package"},
		"cut in header": {deb[:100], "cut short"},
		"cut in member": {deb[:8+60+4+60+2], "cut short"},
		"cut in data":   {deb[:len(deb)-40], "cut short"},
		"no data":       {deb[:8+60+4+60+4], "it has no data.tar"},
		"bad size":      {bad, "a broken member header"},
		"goes up":       {makeDeb("", makeTar(t, []member{{name: "./../../usr/bin/dockerd", mode: 0o755}})), "not safe"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := run(t, DebFile{From: writeTemp(t, "x.deb", c.data)})
			wantError(t, err, c.want)
		})
	}
}

// fakeApt puts a script in the place of apt-get. $lists is there once "update"
// was run; $deb is a package.
func fakeApt(t *testing.T, deb []byte, lists bool) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "lists_Packages")
	if lists {
		os.WriteFile(file+".lz4", nil, 0o644)
	}
	script := fmt.Sprintf(`#!/bin/sh
lists=%[1]s deb=%[2]s
case "$*" in
"-q update") touch $lists;;
*indextargets*) echo $lists;;
*nosuch*) echo "E: Unable to locate package nosuch" >&2; exit 100;;
*docker.io=19*) echo "E: Version '19*' for 'docker.io' was not found" >&2; exit 100;;
*gone*--print-uris*|*--print-uris*gone*) echo "'x:/gone.deb' gone.deb 12 SHA256:%[3]s";;
*gone*) printf 'Get:1 x\nE: Failed to fetch x:/gone.deb  404  Not Found\nE: Some more\n' >&2; exit 100;;
*--print-uris*)
	ls $lists* >/dev/null 2>&1 || { echo "E: Unable to locate package docker.io" >&2; exit 100; }
	echo "'x:/docker.io.deb' docker.io_20.10.24_amd64.deb 12 SHA256:%[3]s";;
*download*) cp $deb docker.io_20.10.24_amd64.deb;;
*) exit 99;;
esac
`, file, writeTemp(t, "x.deb", deb), sumOf(deb))
	if err := os.WriteFile(filepath.Join(dir, "apt-get"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestDebPackages(t *testing.T) {
	deb := makeDeb("xz", compress(t, "xz", makeTar(t, packaged)))
	for _, lists := range []bool{true, false} {
		t.Run(fmt.Sprintf("lists %v", lists), func(t *testing.T) {
			fakeApt(t, deb, lists)
			m, err := run(t, DebPackages{Packages: []string{"docker.io=20.10.24*"}})
			if err != nil {
				t.Fatal(err)
			}
			wantFiles(t, m.files, officialFiles)
		})
	}
}

func TestDebPackagesFail(t *testing.T) {
	deb := makeDeb("", makeTar(t, packaged))
	fakeApt(t, deb, true)
	for _, c := range []struct{ pkg, want string }{
		{"nosuch", "apt: Unable to locate package nosuch"},
		{"docker.io=19*", "apt: Version '19*' for 'docker.io' was not found"},
		{"gone", "apt's package lists are old (apt-get update): Failed to fetch"},
	} {
		_, err := run(t, DebPackages{Packages: []string{c.pkg}})
		wantError(t, err, c.want)
		wantUnavailable(t, err)
	}
	_, err := run(t, DebPackages{Packages: []string{"docker.io"}, Files: map[string]string{"usr/bin/docker": "docker"}})
	wantError(t, err, "no file usr/bin/docker in it")
	_, err = run(t, DebPackages{Packages: []string{"docker.io", "runc"}})
	wantError(t, err, "apt names 1 files for docker.io, runc")

	t.Setenv("PATH", t.TempDir())
	_, err = run(t, DebPackages{Packages: []string{"docker.io"}})
	wantError(t, err, "apt-get is not here")
}

func makeBin(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFolder(t *testing.T) {
	first := makeBin(t, map[string]string{"dockerd": "the daemon"})
	second := makeBin(t, map[string]string{"dockerd": "another", "real": "its companion", "ls": "not an engine's"})
	os.WriteFile(filepath.Join(second, "notes"), []byte("text"), 0o644)
	os.Symlink("real", filepath.Join(second, "containerd"))
	os.Symlink("nowhere", filepath.Join(second, "runc"))
	s := Folder{Paths: []string{first, second}, Files: []string{"dockerd", "containerd*", "runc", "notes"}}
	m, err := run(t, s)
	if err != nil {
		t.Fatal(err)
	}
	wantFiles(t, m.files, officialFiles)

	before := digest(t, s)
	if err := os.WriteFile(filepath.Join(first, "dockerd"), []byte("a newer one"), 0o755); err != nil {
		t.Fatal(err)
	}
	if digest(t, s) == before {
		t.Error("a changed binary has the same key")
	}
	if digest(t, Folder{Paths: []string{second}}) == digest(t, Folder{Paths: []string{second}, Files: []string{"dockerd"}}) {
		t.Error("another choice of files has the same key")
	}
}

func TestFolderFails(t *testing.T) {
	_, err := run(t, Folder{Paths: []string{filepath.Join(t.TempDir(), "missing")}})
	wantError(t, err, "no such file or directory")
	wantUnavailable(t, err)
	_, err = run(t, Folder{Paths: []string{makeBin(t, map[string]string{"ls": ""})}, Files: []string{"dockerd"}})
	wantError(t, err, "no runtime binary in")
	wantUnavailable(t, err)
}
