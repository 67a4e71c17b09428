package runtimes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/leaklab/leaklab/harness/store"
)

// Cache keeps finished runtimes in a folder, one entry per digest.
//
// An entry is made in a folder beside its place and renamed into it when it is
// whole, so a build that is killed leaves the cache sound. One process builds an
// entry, others wait for it.
type Cache struct {
	// Dir is the cache's folder; it is made when needed.
	Dir string
}

// DefaultCache is below the user's cache directory, or $LEAKLAB_CACHE.
func DefaultCache() (Cache, error) {
	if dir := os.Getenv("LEAKLAB_CACHE"); dir != "" {
		abs, err := filepath.Abs(dir)
		return Cache{Dir: abs}, err
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return Cache{}, fmt.Errorf("no cache folder (set LEAKLAB_CACHE): %w", err)
	}
	return Cache{Dir: filepath.Join(dir, "leaklab")}, nil
}

// Entry is a finished runtime.
type Entry struct {
	Name    string        `json:"name"`
	Version string        `json:"version"`
	Digest  string        `json:"digest"`
	Sources []Description `json:"sources"`
	// Files are the binaries, name to SHA-256.
	Files map[string]string `json:"files"`
	// Built is when, Seconds how long it took.
	Built   time.Time `json:"built"`
	Seconds float64   `json:"seconds"`
	// Dir holds the entry, Bin its binaries.
	Dir string `json:"-"`
	Bin string `json:"-"`
}

// Ref is the entry's "name@version".
func (e Entry) Ref() string { return e.Name + "@" + e.Version }

const manifestFile = "manifest.json"

// Digest is the key of a recipe: a hash of everything that shapes its binaries.
func Digest(ctx context.Context, r Recipe) (string, []Description, error) {
	var all []Description
	for _, s := range r.Sources {
		d, err := s.Describe(ctx)
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", r.Ref(), err)
		}
		all = append(all, d)
	}
	text, err := json.Marshal(struct {
		Name, Version string
		Sources       []Description
	}{r.Name, r.Version, all})
	if err != nil {
		return "", nil, err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), all, nil
}

// Get returns the finished runtime of a recipe, and makes it first if it is not
// in the cache or not as it was made. progress is told what goes on.
func (c Cache) Get(ctx context.Context, r Recipe, progress func(string)) (Entry, error) {
	digest, sources, err := Digest(ctx, r)
	if errors.Is(err, exec.ErrNotFound) {
		if e, ok := c.brought(r); ok {
			return e, e.verify()
		}
	}
	if err != nil {
		return Entry{}, err
	}
	place := filepath.Join(c.Dir, "runtimes", entryName(r, digest))
	err = store.Ensure(ctx, store.Folder{
		Name:  r.Ref(),
		Place: place,
		Check: func() error {
			e, err := open(place)
			if err != nil {
				return err
			}
			return e.verify()
		},
		Make: func(ctx context.Context, dir string) error {
			return build(ctx, r, Entry{Name: r.Name, Version: r.Version, Digest: digest, Sources: sources}, dir, progress)
		},
	}, progress)
	if err != nil {
		return Entry{}, err
	}
	return open(place)
}

// brought is the newest entry of that name and version, whatever its digest: on
// a machine without the tools to make it, such as a Vagrant box, the cache has
// come from another one, together with this program.
func (c Cache) brought(r Recipe) (Entry, bool) {
	entries, err := c.Entries()
	if err != nil {
		return Entry{}, false
	}
	entries = slices.DeleteFunc(entries, func(e Entry) bool { return e.Ref() != r.Ref() })
	if len(entries) == 0 {
		return Entry{}, false
	}
	return slices.MaxFunc(entries, func(a, b Entry) int { return a.Built.Compare(b.Built) }), true
}

// build makes a recipe's binaries and its manifest in dir.
func build(ctx context.Context, r Recipe, e Entry, dir string, progress func(string)) error {
	bin, work := filepath.Join(dir, "bin"), filepath.Join(dir, "work")
	for _, dir := range []string{bin, work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	log, err := os.Create(filepath.Join(dir, "build.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	start := time.Now()
	for i, s := range r.Sources {
		dir := filepath.Join(work, fmt.Sprint(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		w := &Work{Dir: dir, Bin: bin, Log: log, Progress: func(what string) { progress(r.Ref() + ": " + what) }}
		if err := s.Make(ctx, w); err != nil {
			return fmt.Errorf("making %s: %w", r.Ref(), err)
		}
	}
	if err := store.RemoveAll(work); err != nil {
		return err
	}
	e.Built, e.Seconds = start.UTC().Truncate(time.Second), time.Since(start).Seconds()
	if e.Files, err = store.HashFiles(bin); err != nil {
		return err
	}
	if len(e.Files) == 0 {
		return fmt.Errorf("making %s: its sources left no binary", r.Ref())
	}
	text, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, manifestFile), append(text, '\n'), 0o644)
}

// Entries lists what is in the cache.
func (c Cache) Entries() ([]Entry, error) {
	manifests, err := filepath.Glob(filepath.Join(c.Dir, "runtimes", "*", manifestFile))
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, m := range manifests {
		if store.Unfinished(filepath.Dir(m)) {
			continue
		}
		e, err := open(filepath.Dir(m))
		if err != nil {
			continue // Get says so when it is asked for
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// Find returns the entry of a recipe if it is in the cache.
func (c Cache) Find(ctx context.Context, r Recipe) (Entry, bool) {
	digest, _, err := Digest(ctx, r)
	if err != nil {
		return Entry{}, false
	}
	e, err := open(filepath.Join(c.Dir, "runtimes", entryName(r, digest)))
	return e, err == nil
}

// RemoveAll empties the cache of runtimes.
func (c Cache) RemoveAll() error { return store.RemoveAll(filepath.Join(c.Dir, "runtimes")) }

// RemoveUnfinished removes what killed builds have left, unless it is being
// worked on. It returns the names.
func (c Cache) RemoveUnfinished() ([]string, error) {
	return store.RemoveUnfinished(filepath.Join(c.Dir, "runtimes"))
}

func entryName(r Recipe, digest string) string {
	safe := strings.Map(func(c rune) rune {
		if strings.ContainsRune("/:#?& ", c) {
			return '_'
		}
		return c
	}, r.Ref())
	return safe[:min(len(safe), 80)] + "-" + digest[:12]
}

func open(dir string) (Entry, error) {
	text, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return Entry{}, err
	}
	var e Entry
	if err := json.Unmarshal(text, &e); err != nil {
		return Entry{}, fmt.Errorf("%s: %w", manifestFile, err)
	}
	e.Dir, e.Bin = dir, filepath.Join(dir, "bin")
	return e, nil
}

// verify compares the binaries with what was made.
func (e Entry) verify() error {
	now, err := store.HashFiles(e.Bin)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(e.Files)) {
		if now[name] != e.Files[name] {
			return fmt.Errorf("%s is not what was made", name)
		}
	}
	return nil
}
