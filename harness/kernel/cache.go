package kernel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/leaklab/leaklab/harness/runtimes"
	"github.com/leaklab/leaklab/harness/store"
)

// Cache keeps finished kernels in a folder, one entry per digest of what they
// came from.
type Cache struct {
	// Dir is the cache's folder; it is made when needed.
	Dir string
}

// DefaultCache lies beside the runtimes'.
func DefaultCache() (Cache, error) {
	c, err := runtimes.DefaultCache()
	return Cache{Dir: filepath.Join(c.Dir, "kernels")}, err
}

// Source is where a kernel comes from.
type Source interface {
	// Find locates the kernel's package and says what it is. It may keep files
	// in scratch, which lives until the package is unpacked.
	Find(ctx context.Context, scratch string, progress func(string)) (Package, error)
}

// Package is a kernel that has been found and not been unpacked.
type Package struct {
	// Origin says in one line what it is.
	Origin string
	// Digest identifies its contents.
	Digest string
	// Unpack writes it below dir, laid out as in a file system's root.
	Unpack func(ctx context.Context, dir string) error
}

// Add makes the kernel of a source an entry of the cache, known by name (its
// release when name is empty).
func (c Cache) Add(ctx context.Context, name string, s Source, progress func(string)) (Kernel, error) {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return Kernel{}, fmt.Errorf("the cache cannot be written (set LEAKLAB_CACHE): %w", err)
	}
	scratch, err := os.MkdirTemp(c.Dir, ".find-")
	if err != nil {
		return Kernel{}, err
	}
	defer store.RemoveAll(scratch)
	p, err := s.Find(ctx, scratch, progress)
	if err != nil {
		if ctx.Err() != nil {
			return Kernel{}, context.Cause(ctx)
		}
		return Kernel{}, err
	}
	place := filepath.Join(c.Dir, p.Digest[:16])
	err = store.Ensure(ctx, store.Folder{
		Name:  p.Origin,
		Place: place,
		Check: func() error {
			k, err := open(place)
			if err != nil {
				return err
			}
			return k.verify()
		},
		Make: func(ctx context.Context, dir string) error {
			progress("unpacking " + p.Origin)
			root := filepath.Join(dir, "root")
			if err := p.Unpack(ctx, root); err != nil {
				return err
			}
			if err := finish(root, dir, Kernel{Name: name, Origin: p.Origin, Digest: p.Digest}); err != nil {
				return fmt.Errorf("%s: %w", p.Origin, err)
			}
			return store.RemoveAll(root)
		},
	}, progress)
	if err != nil {
		return Kernel{}, err
	}
	k, err := open(place)
	if err != nil || name == "" || k.Name == name {
		return k, err
	}
	// Found under another name before: the last one counts.
	k.Name = name
	return k, k.writeManifest()
}

// finish turns an unpacked package into an entry in dir.
func finish(root, dir string, k Kernel) error {
	image, err := findImage(root)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(image)
	if err != nil {
		return err
	}
	parsed, err := parseBzImage(data)
	if err != nil {
		return err
	}
	vmlinux, err := parsed.vmlinux()
	if err != nil {
		return err
	}
	k.Dir, k.Banner, k.Release, k.Added = dir, parsed.banner, parsed.release(), time.Now().UTC().Truncate(time.Second)
	if k.Name == "" {
		k.Name = k.Release
	}
	if err := os.Rename(image, k.Image()); err != nil {
		return err
	}
	if err := os.WriteFile(k.Vmlinux(), vmlinux, 0o644); err != nil {
		return err
	}
	for _, lib := range []string{"lib", "usr/lib"} {
		err := os.Rename(filepath.Join(root, lib, "modules", k.Release), filepath.Join(dir, modulesDir))
		if err == nil {
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if k.Files, err = k.hashFiles(); err != nil {
		return err
	}
	return k.writeManifest()
}

// findImage finds the one boot image of an unpacked package: below /boot, or
// beside the modules as newer packages have it.
func findImage(root string) (string, error) {
	for _, pattern := range []string{"boot/vmlinuz*", "lib/modules/*/vmlinuz", "usr/lib/modules/*/vmlinuz"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return "", err
		}
		for _, path := range found {
			if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("%w: no boot image in it", ErrUnavailable)
}

// Entries lists what is in the cache, the newest first.
func (c Cache) Entries() ([]Kernel, error) {
	manifests, err := filepath.Glob(filepath.Join(c.Dir, "*", manifestFile))
	if err != nil {
		return nil, err
	}
	var all []Kernel
	for _, m := range manifests {
		if dir := filepath.Dir(m); !store.Unfinished(dir) {
			if k, err := open(dir); err == nil { // Add says so when it is asked for
				all = append(all, k)
			}
		}
	}
	slices.SortFunc(all, func(a, b Kernel) int { return b.Added.Compare(a.Added) })
	return all, nil
}

// Find returns the newest entry of a name, a release, a beginning of a digest
// or, last, a series. Whether it is still as it was made, [Cache.Lookup] says.
func (c Cache) Find(ref string) (Kernel, error) {
	all, err := c.Entries()
	if err != nil {
		return Kernel{}, err
	}
	for _, matches := range []func(Kernel) bool{
		func(k Kernel) bool { return k.Name == ref || k.Release == ref },
		func(k Kernel) bool { return len(ref) >= 8 && strings.HasPrefix(k.Digest, ref) },
		func(k Kernel) bool { return k.Series(ref) },
	} {
		if i := slices.IndexFunc(all, matches); i >= 0 {
			return all[i], nil
		}
	}
	return Kernel{}, fmt.Errorf("%w %q", ErrUnknown, ref)
}

// Lookup is [Cache.Find] for a kernel that is to be booted: a damaged entry is
// an error.
func (c Cache) Lookup(ref string) (Kernel, error) {
	k, err := c.Find(ref)
	if err != nil {
		return Kernel{}, err
	}
	return k, k.verify()
}

// RemoveAll empties the cache of kernels.
func (c Cache) RemoveAll() error { return store.RemoveAll(c.Dir) }

// RemoveUnfinished removes what killed processes have left, and returns the
// names.
func (c Cache) RemoveUnfinished() ([]string, error) { return store.RemoveUnfinished(c.Dir) }

func open(dir string) (Kernel, error) {
	text, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return Kernel{}, err
	}
	var k Kernel
	if err := json.Unmarshal(text, &k); err != nil {
		return Kernel{}, fmt.Errorf("%s: %w", manifestFile, err)
	}
	k.Dir = dir
	return k, nil
}

func (k Kernel) writeManifest() error {
	text, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(k.Dir, manifestFile), append(text, '\n'), 0o644)
}

// hashFiles sums the images and the modules.
func (k Kernel) hashFiles() (map[string]string, error) {
	sums := map[string]string{}
	for _, path := range []string{k.Image(), k.Vmlinux()} {
		sum, err := store.HashFile(path)
		if err != nil {
			return nil, err
		}
		sums[filepath.Base(path)] = sum
	}
	modules, err := store.HashFiles(filepath.Join(k.Dir, modulesDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for path, sum := range modules {
		sums[filepath.Join(modulesDir, path)] = sum
	}
	return sums, nil
}

// verify compares the entry with what was made.
func (k Kernel) verify() error {
	now, err := k.hashFiles()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(k.Files)) {
		if now[name] != k.Files[name] {
			return fmt.Errorf("kernel %s in the cache is damaged: %s is not what was unpacked", k.Release, name)
		}
	}
	return nil
}
