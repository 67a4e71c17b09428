package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Listed is a kernel that users can ask for by a short name.
type Listed struct {
	// Name is the kernel's series: "6.1".
	Name string
	// Summary says what it is there for, in one line.
	Summary string
	// Source is nil where the user has to bring the file.
	Source Source
}

// Catalogue lists the kernels with a name, oldest first.
func Catalogue() []Listed {
	const cloud = "linux-image-cloud-amd64"
	return []Listed{
		{"3.10", "CentOS 7, the report's kernel; bring the file: " + AddEL7, nil},
		{"5.10", "Debian 11, cgroup v1 and v2", Debian{"bullseye", cloud}},
		{"6.1", "Debian 12, cgroup v1 and v2", Debian{"bookworm", cloud}},
		{"6.12", "Debian 13, memory controller of cgroup v2 only", Debian{"trixie", cloud}},
	}
}

// AddEL7 is the command that gets the kernel no mirror here serves.
const AddEL7 = "leaklab kernels add <path or URL of kernel-3.10.0-862.9.1.el7.x86_64.rpm>"

// Obtainable says why a kernel cannot be had by its name, nil where it is in the
// cache or has a source. It asks nobody.
func (c Cache) Obtainable(name string) error {
	if _, err := c.Find(name); err == nil {
		return nil
	}
	_, err := listedSource(name)
	return err
}

// listedSource finds the source of a name in the catalogue.
func listedSource(name string) (Source, error) {
	all := Catalogue()
	i := slices.IndexFunc(all, func(l Listed) bool { return l.Name == name })
	switch {
	case i < 0:
		return nil, fmt.Errorf("%w %q; known are %s, files and URLs", ErrUnknown, name, strings.Join(names(all), ", "))
	case all[i].Source == nil:
		return nil, fmt.Errorf("%w: no kernel %s in the cache: %s", ErrUnavailable, name, AddEL7)
	}
	return all[i].Source, nil
}

// Named returns the kernel of a name: from the cache, else from the catalogue's
// source.
func (c Cache) Named(ctx context.Context, name string, progress func(string)) (Kernel, error) {
	k, err := c.Lookup(name)
	if err == nil {
		return k, nil
	}
	if !errors.Is(err, ErrUnknown) {
		progress(fmt.Sprintf("%v: making it again", err))
	}
	source, err := listedSource(name)
	if err != nil {
		return Kernel{}, err
	}
	return c.Add(ctx, name, source, progress)
}

// Resolve returns the kernel that a user means: a file, a URL, or a name as in
// [Cache.Named].
func (c Cache) Resolve(ctx context.Context, ref, modules string, progress func(string)) (Kernel, error) {
	s, ok := sourceOf(ref, modules)
	if !ok {
		return c.Named(ctx, ref, progress)
	}
	return c.Add(ctx, "", s, progress)
}

// Fetch adds a kernel to the cache even if one of that name is there: the
// newest that its source has.
func (c Cache) Fetch(ctx context.Context, ref, modules string, progress func(string)) (Kernel, error) {
	s, ok := sourceOf(ref, modules)
	if ok {
		return c.Add(ctx, "", s, progress)
	}
	all := Catalogue()
	i := slices.IndexFunc(all, func(l Listed) bool { return l.Name == ref && l.Source != nil })
	if i < 0 {
		return c.Named(ctx, ref, progress)
	}
	return c.Add(ctx, ref, all[i].Source, progress)
}

// sourceOf tells files and URLs from names.
func sourceOf(ref, modules string) (Source, bool) {
	if strings.HasPrefix(ref, "http://") || strings.HasPrefix(ref, "https://") {
		return URL{URL: ref, Modules: modules}, true
	}
	info, err := os.Stat(ref)
	if err == nil && info.Mode().IsRegular() || strings.ContainsRune(ref, os.PathSeparator) {
		return File{Path: ref, Modules: modules}, true
	}
	return nil, false
}

func names(all []Listed) []string {
	var s []string
	for _, l := range all {
		s = append(s, l.Name)
	}
	return s
}
