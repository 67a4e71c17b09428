package kernel

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/leaklab/leaklab/harness/store"
)

// Image is a bare boot image in a file, with the modules that belong to it.
type Image struct {
	Path string
	// Modules is the folder that a system has as /lib/modules/<release>; empty
	// for a kernel that needs none.
	Modules string
}

// Find implements [Source].
func (i Image) Find(context.Context, string, func(string)) (Package, error) {
	data, err := os.ReadFile(i.Path)
	if err != nil {
		return Package{}, err
	}
	image, err := parseBzImage(data)
	if err != nil {
		return Package{}, fmt.Errorf("%w: %s: %w", ErrUnavailable, i.Path, err)
	}
	digest := digestOf(string(data))
	if i.Modules != "" {
		sums, err := store.HashFiles(i.Modules)
		if err != nil {
			return Package{}, fmt.Errorf("modules: %w", err)
		}
		parts := []string{digest}
		for _, name := range slices.Sorted(maps.Keys(sums)) {
			if wanted(name) {
				parts = append(parts, name, sums[name])
			}
		}
		if len(parts) == 1 {
			return Package{}, fmt.Errorf("%w: no modules in %s", ErrUnavailable, i.Modules)
		}
		digest = digestOf(parts...)
	}
	unpack := func(ctx context.Context, dir string) error {
		if err := writeFile(filepath.Join(dir, "boot", "vmlinuz"), bytes.NewReader(data)); err != nil {
			return err
		}
		if i.Modules == "" {
			return nil
		}
		return copyModules(filepath.Join(dir, "lib/modules", image.release()), i.Modules)
	}
	return Package{Origin: "file " + filepath.Base(i.Path), Digest: digest, Unpack: unpack}, nil
}

// copyModules copies what a virtual machine needs of a folder of modules.
func copyModules(dst, src string) error {
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !wanted(path) {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return writeFile(filepath.Join(dst, rel), f)
	})
}

// File is a kernel in a file of whatever kind: boot image, rpm or Debian
// package, told apart by its first bytes.
type File struct {
	Path string
	// Modules belong to a bare boot image.
	Modules string
}

// Find implements [Source].
func (f File) Find(ctx context.Context, scratch string, progress func(string)) (Package, error) {
	head, err := readHead(f.Path)
	if err != nil {
		return Package{}, err
	}
	var s Source = Image(f)
	switch {
	case bytes.HasPrefix(head, []byte{0xed, 0xab, 0xee, 0xdb}):
		s = RPM{Path: f.Path}
	case bytes.HasPrefix(head, []byte("!<arch>\n")):
		s = Deb{Path: f.Path}
	}
	if _, bare := s.(Image); !bare && f.Modules != "" {
		return Package{}, fmt.Errorf("%s brings its own modules: leave out --modules", filepath.Base(f.Path))
	}
	return s.Find(ctx, scratch, progress)
}

func readHead(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, 8)
	n, err := io.ReadFull(f, head)
	if err != nil && n == 0 {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return head[:n], nil
}

// URL is a kernel in a file that a web server has.
type URL struct{ URL, Modules string }

// Find implements [Source].
func (u URL) Find(ctx context.Context, scratch string, progress func(string)) (Package, error) {
	at, err := url.Parse(u.URL)
	if err != nil {
		return Package{}, err
	}
	progress("fetching " + at.Redacted())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.URL, nil)
	if err != nil {
		return Package{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return Package{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Package{}, fmt.Errorf("%w: %s: the server says %s", ErrUnavailable, at.Redacted(), resp.Status)
	}
	file := filepath.Join(scratch, path.Base("/"+at.Path))
	if err := writeFile(file, resp.Body); err != nil {
		return Package{}, fmt.Errorf("%w: %s: %w", ErrUnavailable, at.Redacted(), err)
	}
	return File{Path: file, Modules: u.Modules}.Find(ctx, scratch, progress)
}
