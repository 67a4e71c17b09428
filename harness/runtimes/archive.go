package runtimes

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Archive is a tar archive of finished binaries, plain or compressed by gzip,
// xz or zstd, such as docker's official static docker-X.Y.Z.tgz.
type Archive struct {
	// From is an http(s) URL or a path of this machine.
	From string
	// SHA256 is the archive's declared checksum. Where it is empty, the sum of
	// what came is told and kept in the build log.
	SHA256 string
	// Files maps paths inside the archive to names of binaries; "**/" in a path
	// stands for any number of folders. Nil takes every executable file under
	// its own name, whatever its folder.
	Files map[string]string
}

// Describe implements [Source].
func (a Archive) Describe(context.Context) (Description, error) {
	return describeFile("archive", a.origin(), a.Files)
}

// Make implements [Source].
func (a Archive) Make(ctx context.Context, w *Work) error {
	f, err := a.origin().open(ctx, w)
	if err != nil {
		return err
	}
	defer f.Close()
	w.Progress("unpacking " + a.origin().name())
	p := picker{files: a.Files, bin: w.Bin}
	if err := p.untar(ctx, f); err != nil {
		return fmt.Errorf("%s: %w", a.origin().name(), err)
	}
	if err := p.finish(); err != nil {
		return fmt.Errorf("%s: %w", a.origin().name(), err)
	}
	return nil
}

func (a Archive) origin() origin { return origin{from: a.From, sha256: a.SHA256} }

func describeFile(kind string, o origin, files map[string]string) (Description, error) {
	in, err := o.describe()
	if err != nil {
		return Description{}, err
	}
	describeFiles(in, files)
	return Description{Kind: kind, Inputs: in}, nil
}

func describeFiles(in, files map[string]string) {
	for from, to := range files {
		in["take "+from] = to
	}
}

// picker takes chosen files out of archives and makes binaries of them. What it
// writes is named by the recipe or by a plain file name, never by a path of the
// archive's.
type picker struct {
	files map[string]string // as in [Archive.Files]
	bin   string
	// inBin restricts an unnamed choice to folders called bin or sbin.
	inBin bool
	taken map[string]string // binary to its path in the archive
}

// choose returns the binary that an archive member becomes, or "".
func (p *picker) choose(name string, mode fs.FileMode) string {
	if p.files == nil {
		dir := path.Base(path.Dir(name))
		if mode&0o111 == 0 || p.inBin && dir != "bin" && dir != "sbin" {
			return ""
		}
		return path.Base(name)
	}
	for from, to := range p.files {
		if matchPath(from, name) {
			return to
		}
	}
	return ""
}

// untar reads one tar archive, compressed or not.
func (p *picker) untar(ctx context.Context, compressed io.Reader) error {
	r, done, err := decompress(compressed)
	if err != nil {
		return unreadable(err)
	}
	defer done()
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			// The rest of the stream holds its checksum.
			_, err := io.Copy(io.Discard, r)
			return unreadable(err)
		}
		if err != nil {
			return unreadable(err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		name := path.Clean(h.Name)
		if !filepath.IsLocal(name) {
			return fmt.Errorf("the archive is not safe: it holds the path %q", h.Name)
		}
		to := p.choose(name, h.FileInfo().Mode())
		if to == "" || h.Typeflag != tar.TypeReg {
			continue
		}
		if err := p.write(to, name, t); err != nil {
			return err
		}
	}
}

func (p *picker) write(to, name string, r io.Reader) error {
	if other, ok := p.taken[to]; ok {
		return fmt.Errorf("%s and %s would both become %s", other, name, to)
	}
	file := filepath.Join(p.bin, to)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		return unreadable(err)
	}
	if p.taken == nil {
		p.taken = map[string]string{}
	}
	p.taken[to] = name
	return f.Close()
}

// finish checks that everything was there.
func (p *picker) finish() error {
	if p.files == nil && len(p.taken) == 0 {
		return errors.New("no executable file in it")
	}
	for _, from := range slices.Sorted(maps.Keys(p.files)) {
		if _, ok := p.taken[p.files[from]]; !ok {
			return fmt.Errorf("no file %s in it", from)
		}
	}
	return nil
}

// unreadable says what a broken stream means.
func unreadable(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errors.New("the archive is cut short")
	}
	return fmt.Errorf("not an archive that can be read: %w", err)
}

// decompress looks at the first bytes to find out how a stream is compressed.
func decompress(r io.Reader) (_ io.Reader, done func(), err error) {
	// The xz package reads byte by byte.
	b := bufio.NewReaderSize(r, 1<<20)
	magic, err := b.Peek(6)
	if err != nil {
		return nil, nil, err
	}
	done = func() {}
	switch {
	case bytes.HasPrefix(magic, []byte("\x1f\x8b")):
		r, err = gzip.NewReader(b)
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		r, err = xz.NewReader(b)
	case bytes.HasPrefix(magic, []byte("\x28\xb5\x2f\xfd")):
		var d *zstd.Decoder
		if d, err = zstd.NewReader(b, zstd.WithDecoderConcurrency(1)); err == nil {
			r, done = d, d.Close
		}
	default:
		r = b
	}
	return r, done, err
}

// splitSum splits "FROM#sha256=SUM".
func splitSum(s string) (from, sum string, err error) {
	from, frag, ok := strings.Cut(s, "#")
	if !ok {
		return from, "", nil
	}
	sum, ok = strings.CutPrefix(frag, "sha256=")
	if !ok || len(sum) != 64 || strings.Trim(strings.ToLower(sum), "0123456789abcdef") != "" {
		return "", "", fmt.Errorf("%q: after # comes sha256= and 64 hexadecimal digits", s)
	}
	return from, strings.ToLower(sum), nil
}
