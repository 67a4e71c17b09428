// Package runtimes makes the subjects that live in user space — daemons, shims
// and small client/server pairs of a named version — and keeps them in a cache.
//
// A recipe says where a runtime comes from. Everything that shapes its binaries
// goes into a digest; the digest names the cache entry, so an entry never has
// to be invalidated, only looked up.
package runtimes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ErrUnknown reports a runtime name that no family answers to.
var ErrUnknown = errors.New("unknown runtime")

// ErrUnavailable reports a version that its source does not serve.
var ErrUnavailable = errors.New("version not available")

// Family is one kind of runtime in all its versions, e.g. every dockerd.
type Family struct {
	// Name is the part of a reference before the "@", e.g. "dockerd".
	Name string
	// Summary says what it is, in one line.
	Summary string
	// Versions are the ones known to work, oldest first. Recipe may accept more.
	Versions []string
	// Recipe says how to make one version.
	Recipe func(version string) (Recipe, error)
}

// Recipe says how one runtime of one version is made. Its sources are run in
// order and leave their binaries side by side in one folder.
type Recipe struct {
	Name    string
	Version string
	Sources []Source
}

// Ref is the name by which arms ask for the recipe: "dockerd@1.13.1".
func (r Recipe) Ref() string { return r.Name + "@" + r.Version }

// Source is one origin of binaries.
type Source interface {
	// Describe returns everything that shapes the result and nothing else:
	// marshalled to JSON it is part of the cache key and of `runtimes show`.
	// It must not hold paths of this machine unless the path is the source.
	Describe(ctx context.Context) (Description, error)
	// Make leaves finished, executable files in w.Bin.
	Make(ctx context.Context, w *Work) error
}

// Description is what a source contributes to the cache key.
type Description struct {
	Kind   string            `json:"kind"`
	Inputs map[string]string `json:"inputs,omitempty"`
	Edits  []Edit            `json:"edits,omitempty"`
}

// Work is the bench on which a source makes its binaries.
type Work struct {
	// Dir is scratch space, removed afterwards.
	Dir string
	// Bin is where finished binaries go.
	Bin string
	// Log receives the output of the tools that are run; it is kept beside the
	// binaries.
	Log io.Writer
	// Progress says in a few words what is being done.
	Progress func(string)
}

// SplitRef splits "name@version".
func SplitRef(ref string) (name, version string, err error) {
	name, version, ok := strings.Cut(ref, "@")
	if !ok || name == "" || version == "" {
		return "", "", fmt.Errorf("%q is not a runtime: want name@version", ref)
	}
	return name, version, nil
}

// Families is the set of runtimes a program knows.
type Families []Family

// Recipe finds the recipe of a reference.
func (fs Families) Recipe(ref string) (Recipe, error) {
	name, version, err := SplitRef(ref)
	if err != nil {
		return Recipe{}, err
	}
	i := slices.IndexFunc(fs, func(f Family) bool { return f.Name == name })
	if i < 0 {
		var known []string
		for _, f := range fs {
			known = append(known, f.Name)
		}
		return Recipe{}, fmt.Errorf("%w %q: known are %s", ErrUnknown, name, strings.Join(known, ", "))
	}
	return fs[i].Recipe(version)
}
