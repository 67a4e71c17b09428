package runtimes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/leaklab/leaklab/harness/store"
)

// DebFile is one Debian package file, unpacked and not installed: its scripts
// do not run and its dependencies are not looked at.
type DebFile struct {
	// From is an http(s) URL or a path of this machine.
	From string
	// SHA256 is as in [Archive].
	SHA256 string
	// Files is as in [Archive]; nil takes every executable file of folders
	// called bin and sbin.
	Files map[string]string
}

// Describe implements [Source].
func (d DebFile) Describe(context.Context) (Description, error) {
	return describeFile("debian package file", d.origin(), d.Files)
}

// Make implements [Source].
func (d DebFile) Make(ctx context.Context, w *Work) error {
	f, err := d.origin().open(ctx, w)
	if err != nil {
		return err
	}
	defer f.Close()
	w.Progress("unpacking " + d.origin().name())
	p := picker{files: d.Files, bin: w.Bin, inBin: true}
	if err := p.undeb(ctx, f); err != nil {
		return fmt.Errorf("%s: %w", d.origin().name(), err)
	}
	if err := p.finish(); err != nil {
		return fmt.Errorf("%s: %w", d.origin().name(), err)
	}
	return nil
}

func (d DebFile) origin() origin { return origin{from: d.From, sha256: d.SHA256} }

// undeb takes files out of a Debian package: an ar archive whose member
// data.tar.* holds them (deb(5)).
func (p *picker) undeb(ctx context.Context, r io.Reader) error {
	data, err := debData(r)
	if err != nil {
		return err
	}
	return p.untar(ctx, data)
}

// debData finds the member with the package's files. It knows as much of ar(5)
// as deb(5) allows: short names, nothing nested.
func debData(r io.Reader) (io.Reader, error) {
	magic := make([]byte, len("!<arch>\n"))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != "!<arch>\n" {
		return nil, errors.New("not a Debian package")
	}
	for header := make([]byte, 60); ; {
		if _, err := io.ReadFull(r, header); err == io.EOF {
			return nil, errors.New("not a Debian package: it has no data.tar")
		} else if err != nil {
			return nil, unreadable(err)
		}
		size, err := strconv.ParseInt(string(bytes.TrimSpace(header[48:58])), 10, 64)
		if err != nil || size < 0 || string(header[58:]) != "`\n" {
			return nil, errors.New("not a Debian package: a broken member header")
		}
		if bytes.HasPrefix(header, []byte("data.tar")) {
			return io.LimitReader(r, size), nil
		}
		// Members begin at even offsets.
		if _, err := io.CopyN(io.Discard, r, size+size%2); err != nil {
			return nil, unreadable(err)
		}
	}
}

// DebPackages is packages of this machine's own Debian archive, downloaded by
// apt and unpacked, not installed.
type DebPackages struct {
	// Packages are names with an optional version, in which "*" stands for
	// anything: "docker.io=20.10.24*".
	Packages []string
	// Files is as in [DebFile], over all packages.
	Files map[string]string
}

// Describe implements [Source]. The key holds what apt resolves the names to, so
// a security update is another runtime. Where the machine has never fetched
// apt's package lists, they are fetched.
func (d DebPackages) Describe(ctx context.Context) (Description, error) {
	debs, err := d.resolve(ctx, io.Discard)
	if err != nil {
		return Description{}, err
	}
	in := map[string]string{}
	for name, sum := range debs {
		in["package "+name] = sum
	}
	describeFiles(in, d.Files)
	return Description{Kind: "debian packages", Inputs: in}, nil
}

// Make implements [Source].
func (d DebPackages) Make(ctx context.Context, w *Work) error {
	debs, err := d.resolve(ctx, w.Log)
	if err != nil {
		return err
	}
	w.Progress("fetching " + strings.Join(d.Packages, ", "))
	// apt checks what it downloads against the signed lists. Its sandbox user
	// may not write into our folder.
	args := append([]string{"download", "-o", "APT::Sandbox::User=root"}, d.Packages...)
	if _, err := apt(ctx, w.Dir, w.Log, args...); err != nil {
		return err
	}
	p := picker{files: d.Files, bin: w.Bin, inBin: true}
	for _, name := range slices.Sorted(maps.Keys(debs)) {
		w.Progress("unpacking " + name)
		if err := p.unpack(ctx, filepath.Join(w.Dir, name), debs[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := p.finish(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(d.Packages, ", "), err)
	}
	return nil
}

// unpack takes files out of a downloaded package, after a look at its checksum: the key
// of the runtime rests on it.
func (p *picker) unpack(ctx context.Context, path, sum string) error {
	got, err := store.HashFile(path)
	if err != nil {
		return err
	}
	if got != sum {
		return fmt.Errorf("wrong checksum: sha256 is %s, apt's lists say %s", got, sum)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return p.undeb(ctx, f)
}

// aptLine is one line of "apt-get download --print-uris".
var aptLine = regexp.MustCompile(`(?m)^'[^']*' (\S+) \d+ SHA256:([0-9a-f]{64})$`)

// resolve asks apt which package files it would download, file name to SHA-256.
func (d DebPackages) resolve(ctx context.Context, log io.Writer) (map[string]string, error) {
	aptUpdate.Lock()
	defer aptUpdate.Unlock()
	args := append([]string{"download", "--print-uris"}, d.Packages...)
	out, err := apt(ctx, "", log, args...)
	if errors.Is(err, ErrUnavailable) && !aptHasLists(ctx, log) {
		if _, err = apt(ctx, "", log, "update"); err == nil {
			out, err = apt(ctx, "", log, args...)
		}
	}
	if err != nil {
		return nil, err
	}
	debs := map[string]string{}
	for _, m := range aptLine.FindAllStringSubmatch(out, -1) {
		debs[m[1]] = m[2]
	}
	if len(debs) != len(d.Packages) {
		return nil, fmt.Errorf("apt names %d files for %s", len(debs), strings.Join(d.Packages, ", "))
	}
	return debs, nil
}

// aptUpdate keeps one caller from asking while another fetches the lists.
var aptUpdate sync.Mutex

// aptHasLists reports whether any of apt's package lists was ever fetched.
func aptHasLists(ctx context.Context, log io.Writer) bool {
	out, err := apt(ctx, "", log, "indextargets", "--format", "$(FILENAME)", "Identifier: Packages")
	if err != nil {
		return true
	}
	for list := range strings.Lines(out) {
		// They may be kept compressed, with a suffix.
		if kept, _ := filepath.Glob(strings.TrimSpace(list) + "*"); len(kept) > 0 {
			return true
		}
	}
	return false
}

// apt runs apt-get and returns what it prints.
func apt(ctx context.Context, dir string, log io.Writer, args ...string) (string, error) {
	path, err := exec.LookPath("apt-get")
	if err != nil {
		return "", errors.New("apt-get is not here (this runtime comes from Debian's packages): give the package files as @deb:PATH, or the binaries as @dir:PATH")
	}
	cmd := exec.CommandContext(ctx, path, append([]string{"-q"}, args...)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "LC_ALL=C")
	var out, all bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &all
	fmt.Fprintf(log, "$ apt-get %s\n", strings.Join(args, " "))
	err = cmd.Run()
	log.Write(out.Bytes())
	log.Write(all.Bytes())
	if err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", aptError(args[0], err, all.String())
	}
	return out.String(), nil
}

var (
	aptSays     = regexp.MustCompile(`(?m)^E: (.*)$`)
	aptNotFound = regexp.MustCompile(`^(Unable to locate package|Version '.*' for '.*' was not found|Package '.*' has no installation candidate|Can't select)`)
)

// aptError picks the telling line out of what apt printed.
func aptError(verb string, err error, text string) error {
	m := aptSays.FindStringSubmatch(text)
	switch {
	case m == nil:
		return fmt.Errorf("apt-get %s: %w", verb, err)
	case aptNotFound.MatchString(m[1]):
		return fmt.Errorf("%w: apt: %s", ErrUnavailable, m[1])
	case strings.Contains(m[1], "404"):
		return fmt.Errorf("%w: apt's package lists are old (apt-get update): %s", ErrUnavailable, m[1])
	}
	return fmt.Errorf("apt-get %s: %s", verb, m[1])
}
