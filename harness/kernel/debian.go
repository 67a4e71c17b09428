package kernel

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/leaklab/leaklab/harness/store"
)

// Debian is a kernel package of a Debian suite, got through this machine's own
// apt: from its mirror, with its keys, but in a state folder of our own, so that
// nothing of the machine's is changed and no root is needed.
type Debian struct {
	// Suite is the release's code name: "bookworm".
	Suite string
	// Package may be a meta package that depends on the newest image:
	// "linux-image-cloud-amd64".
	Package string
}

// Find implements [Source].
func (d Debian) Find(ctx context.Context, scratch string, progress func(string)) (Package, error) {
	progress("asking apt for " + d.Package + " of " + d.Suite)
	apt, err := newApt(ctx, d.Suite, scratch)
	if err != nil {
		return Package{}, err
	}
	name := d.Package
	image, err := apt.show(ctx, name)
	if err != nil {
		return Package{}, err
	}
	if m := dependsOnImage.FindStringSubmatch(image["Depends"]); m != nil && !versionedImage.MatchString(name) {
		name = m[1]
		if image, err = apt.show(ctx, name); err != nil {
			return Package{}, err
		}
	}
	origin := fmt.Sprintf("Debian %s %s %s", d.Suite, name, image["Version"])
	if image["SHA256"] == "" {
		return Package{}, fmt.Errorf("%w: apt knows no checksum of %s", ErrUnavailable, origin)
	}
	unpack := func(ctx context.Context, dir string) error {
		progress(fmt.Sprintf("fetching %s (%s bytes)", origin, image["Size"]))
		deb, err := apt.download(ctx, name, image["Version"])
		if err != nil {
			return err
		}
		return Deb{Path: deb}.unpack(ctx, dir)
	}
	return Package{Origin: origin, Digest: image["SHA256"], Unpack: unpack}, nil
}

var (
	dependsOnImage = regexp.MustCompile(`\b(linux-image-[0-9]\S*)`)
	versionedImage = regexp.MustCompile(`^linux-image-[0-9]`)
)

// apt runs this machine's apt on one suite with a state of its own.
type apt struct {
	suite   string
	dir     string
	options []string
}

func newApt(ctx context.Context, suite, dir string) (*apt, error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return nil, fmt.Errorf("%w: Debian's kernels need apt on this machine; give a file instead (leaklab kernels add FILE)", ErrUnavailable)
	}
	mirror, err := debianMirror(ctx)
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	// Without packages of its own the state says that nothing is installed.
	status, sources := filepath.Join(dir, "status"), filepath.Join(dir, "sources.list")
	line := fmt.Sprintf("deb %s%s %s main\n", signedBy(), mirror, suite)
	if err := errors.Join(os.WriteFile(status, nil, 0o644), os.WriteFile(sources, []byte(line), 0o644)); err != nil {
		return nil, err
	}
	a := &apt{suite: suite, dir: dir, options: []string{
		"-o", "Dir::State=" + filepath.Join(dir, "state"),
		"-o", "Dir::State::status=" + status,
		"-o", "Dir::Cache=" + filepath.Join(dir, "cache"),
		"-o", "Dir::Etc::sourcelist=" + sources,
		"-o", "Dir::Etc::sourceparts=-",
		"-o", "Dir::Etc::preferencesparts=-",
		"-o", "APT::Sandbox::User=",
		"-o", "APT::Get::AllowUnauthenticated=false",
		"-o", "Acquire::Languages=none",
		// An update that fails must not be taken for one.
		"-o", "APT::Update::Error-Mode=any",
	}}
	_, err = a.run(ctx, "apt-get", "-q", "update")
	return a, err
}

// debianMirror is where this machine gets Debian's main archive from.
func debianMirror(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)",
		"Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("apt-get indextargets: %w", err)
	}
	if mirror, _, ok := strings.Cut(string(out), "\n"); ok {
		return mirror, nil
	}
	return "", fmt.Errorf("%w: this machine's apt has no Debian archive (after apt-get update); give a file instead (leaklab kernels add FILE)", ErrUnavailable)
}

// signedBy restricts the trusted keys to Debian's, where the machine has them
// as a file of their own (package debian-archive-keyring). Otherwise apt trusts
// what the machine's apt trusts.
func signedBy() string {
	for _, keyring := range []string{"/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg"} {
		if _, err := os.Stat(keyring); err == nil {
			return "[signed-by=" + keyring + "] "
		}
	}
	return ""
}

// show returns the fields of the newest version of a package.
func (a *apt) show(ctx context.Context, name string) (map[string]string, error) {
	out, err := a.run(ctx, "apt-cache", "--no-all-versions", "show", name)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		if key, value, ok := strings.Cut(lines.Text(), ": "); ok && !strings.HasPrefix(key, " ") {
			fields[key] = value
		}
	}
	if fields["Version"] == "" {
		return nil, fmt.Errorf("%w: Debian %s has no package %s", ErrUnavailable, a.suite, name)
	}
	return fields, lines.Err()
}

// download fetches a package, which apt checks against the signed list, and
// returns its path.
func (a *apt) download(ctx context.Context, name, version string) (string, error) {
	if _, err := a.run(ctx, "apt-get", "-q", "download", name+"="+version); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(a.dir, "*.deb"))
	if err != nil || len(debs) == 0 {
		return "", fmt.Errorf("%w: apt left no %s: %w", ErrUnavailable, name, cmp.Or(err, fs.ErrNotExist))
	}
	return debs[0], nil
}

func (a *apt) run(ctx context.Context, tool string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, tool, append(a.options, args...)...)
	cmd.Dir, cmd.Env = a.dir, append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: apt on Debian %s: %s", ErrUnavailable, a.suite, aptError(stderr.String(), err))
	}
	return out, nil
}

// aptError picks the first error out of what apt printed.
func aptError(text string, err error) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "E: "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return err.Error()
}

// Deb is a Debian package in a file.
type Deb struct{ Path string }

// Find implements [Source].
func (d Deb) Find(context.Context, string, func(string)) (Package, error) {
	sum, err := store.HashFile(d.Path)
	if err != nil {
		return Package{}, err
	}
	return Package{Origin: "Debian package " + filepath.Base(d.Path), Digest: sum, Unpack: d.unpack}, nil
}

func (d Deb) unpack(ctx context.Context, dir string) error {
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "--extract", d.Path, dir).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s cannot be unpacked: %w: %s", ErrUnavailable, filepath.Base(d.Path), err, firstLine(string(out)))
	}
	return nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// digestOf sums texts that together identify something.
func digestOf(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}
