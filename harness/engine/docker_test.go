package engine

import (
	"archive/tar"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFlags(t *testing.T) {
	o := Options{Dir: "/lab/docker", Run: "/run/docker", Flags: []string{"--last"}}
	for help, want := range map[string]string{
		"  -g, --graph string   Root of the Docker runtime": "--graph",
		"      --data-root string   Root directory":         "--data-root",
	} {
		f := flags(o, help)
		if i := slices.Index(f, want); i < 0 || f[i+1] != "/lab/docker/data" {
			t.Errorf("%s: no %s in %q", help, want, f)
		}
		if !slices.Contains(f, "--bridge=none") || f[len(f)-1] != "--last" {
			t.Errorf("flags are %q", f)
		}
		if i := slices.Index(f, "--host"); i < 0 || f[i+1] != "unix:///run/docker/docker.sock" {
			t.Errorf("flags are %q", f)
		}
	}
	o.Bridge = true
	if f := flags(o, ""); slices.Contains(f, "--bridge=none") {
		t.Errorf("with a bridge the flags are %q", f)
	}
}

// What belongs to another daemon must stay as it is.
func TestStartDockerLeavesOthersAlone(t *testing.T) {
	run := t.TempDir()
	dir := filepath.Join(t.TempDir(), "docker")
	_, err := StartDocker(context.Background(), Options{Bin: "/nowhere", Dir: dir, Run: run})
	if err == nil || !strings.Contains(err.Error(), "another daemon") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("it went on: %v", err)
	}
}

func TestStartDockerWithoutBinary(t *testing.T) {
	dir := t.TempDir()
	_, err := StartDocker(context.Background(), Options{Bin: dir, Dir: dir, Run: filepath.Join(dir, "run")})
	if err == nil || !strings.Contains(err.Error(), "dockerd") {
		t.Errorf("error %v", err)
	}
}

// fakeDockerd answers --help, says its last words and ends.
const fakeDockerd = `#!/bin/sh
if [ "$1" = --help ]; then echo "--data-root"; exit 0; fi
echo "first words"
echo "Error starting daemon: no devices cgroup"
exit 1
`

func TestStartDockerTellsLastWords(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "dockerd"), []byte(fakeDockerd), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := StartDocker(context.Background(), Options{Bin: dir, Dir: dir, Run: filepath.Join(dir, "run")})
	if err == nil || !strings.Contains(err.Error(), "no devices cgroup") {
		t.Errorf("error %v", err)
	}
}

func TestImageOf(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "workload")
	if err := os.WriteFile(binary, []byte("static"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := imageOf(binary)
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(r)
	h, err := archive.Next()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(archive)
	if err != nil || h.Name != "workload" || h.Mode != 0o755 || string(data) != "static" {
		t.Errorf("%+v %q %v", h, data, err)
	}
	if _, err := archive.Next(); err != io.EOF {
		t.Errorf("more than one file: %v", err)
	}
	if _, err := imageOf(binary + "x"); err == nil {
		t.Error("made an image of nothing")
	}
}
