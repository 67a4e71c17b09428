package runtimes

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/leaklab/leaklab/harness/store"
)

// Folder is local folders of finished binaries. What is in them is copied, so
// that a later change of theirs is another runtime and not a silent one.
type Folder struct {
	// Paths are searched like $PATH: the first folder that has a name wins.
	Paths []string
	// Files are patterns ([filepath.Match]) of the names to take. Nil takes
	// every executable file.
	Files []string
}

// Describe implements [Source]. Only the contents count, not where they lie.
func (s Folder) Describe(context.Context) (Description, error) {
	found, err := s.find()
	if err != nil {
		return Description{}, err
	}
	in := map[string]string{}
	for name, path := range found {
		sum, err := store.HashFile(path)
		if err != nil {
			return Description{}, err
		}
		in["file "+name] = sum
	}
	return Description{Kind: "folder", Inputs: in}, nil
}

// Make implements [Source].
func (s Folder) Make(ctx context.Context, w *Work) error {
	found, err := s.find()
	if err != nil {
		return err
	}
	w.Progress("copying " + strings.Join(slices.Sorted(maps.Keys(found)), ", "))
	for name, path := range found {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := copyFile(filepath.Join(w.Bin, name), path); err != nil {
			return err
		}
	}
	return nil
}

// find returns the executables, name to path. Links are followed.
func (s Folder) find() (map[string]string, error) {
	found := map[string]string{}
	for _, dir := range s.Paths {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		for _, e := range entries {
			if _, ok := found[e.Name()]; ok || !s.wants(e.Name()) {
				continue
			}
			path := filepath.Join(dir, e.Name())
			if info, err := os.Stat(path); err == nil && isExecutable(info) {
				found[e.Name()] = path
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: no runtime binary in %s", ErrUnavailable, strings.Join(s.Paths, ", "))
	}
	return found, nil
}

func (s Folder) wants(name string) bool {
	return s.Files == nil || slices.ContainsFunc(s.Files, func(pattern string) bool {
		ok, err := filepath.Match(pattern, name)
		return err == nil && ok
	})
}

func isExecutable(info fs.FileInfo) bool {
	return info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

func copyFile(dst, src string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}
