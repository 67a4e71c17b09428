package runtimes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ParseUserSource reads a version that says where the binaries are, instead of
// which of the known versions it is:
//
//	dockerd@dir:/usr/local/bin                  a folder, or several as in $PATH
//	dockerd@archive:docker-19.03.15.tgz         a tar archive, by path or URL,
//	dockerd@archive:https://…/x.tgz#sha256=…      with its checksum if wanted
//	dockerd@deb:docker.io_24.0.7_amd64.deb      a Debian package file, the same way;
//	                                              more of them after spaces
//	dockerd@debian:20.10.24                     Debian's packages through apt, by
//	                                              the beginning of their version
//
// ok is false for every other version. The binaries need not be complete: what
// an engine does not find beside it, it looks for in $PATH.
func ParseUserSource(name, version string) (_ Recipe, ok bool, err error) {
	kind, rest, ok := strings.Cut(version, ":")
	parse := userSources[kind]
	if !ok || parse == nil {
		return Recipe{}, false, nil
	}
	if rest == "" {
		return Recipe{}, true, fmt.Errorf("%s@%s: nothing comes after %q", name, version, kind+":")
	}
	sources, err := parse(name, rest)
	if err != nil {
		return Recipe{}, true, fmt.Errorf("%s@%s: %w", name, version, err)
	}
	sources[len(sources)-1] = holding{Source: sources[len(sources)-1], name: name}
	return Recipe{Name: name, Version: version, Sources: sources}, true, nil
}

var userSources = map[string]func(name, rest string) ([]Source, error){
	"dir": func(name, rest string) ([]Source, error) {
		paths := filepath.SplitList(rest)
		for i, path := range paths {
			abs, err := filepath.Abs(path)
			if err != nil {
				return nil, err
			}
			paths[i] = abs
		}
		return []Source{Folder{Paths: paths, Files: append(slices.Clone(engineFiles), name)}}, nil
	},
	"archive": func(name, rest string) ([]Source, error) {
		from, sum, err := splitSum(rest)
		return []Source{Archive{From: from, SHA256: sum}}, err
	},
	"deb": func(name, rest string) ([]Source, error) {
		var debs []Source
		for field := range strings.FieldsSeq(rest) {
			from, sum, err := splitSum(field)
			if err != nil {
				return nil, err
			}
			debs = append(debs, DebFile{From: from, SHA256: sum})
		}
		if len(debs) == 0 {
			return nil, fmt.Errorf("no file is named")
		}
		return debs, nil
	},
	"debian": func(name, rest string) ([]Source, error) {
		packages, ok := debianPackages[name]
		if !ok {
			return nil, fmt.Errorf("which of Debian's packages hold %s is not known", name)
		}
		packages = slices.Clone(packages)
		packages[0] += "=" + strings.TrimSuffix(rest, "*") + "*"
		return []Source{DebPackages{Packages: packages}}, nil
	},
}

// engineFiles are the binaries of container engines of all ages: a folder such
// as /usr/bin holds a thousand others.
var engineFiles = []string{"dockerd", "docker", "docker-*", "containerd", "containerd-*", "ctr", "runc", "crun"}

// debianPackages are the packages that make up a runtime; the first has its
// version.
var debianPackages = map[string][]string{
	"dockerd":    {"docker.io", "containerd", "runc"},
	"containerd": {"containerd", "runc"},
	"runc":       {"runc"},
}

// holding is a source that must leave, with those before it, the binary that
// the runtime is named after. Up to 18.06 docker called its companions
// docker-containerd and docker-runc.
type holding struct {
	Source
	name string
}

// Make implements [Source].
func (h holding) Make(ctx context.Context, w *Work) error {
	if err := h.Source.Make(ctx, w); err != nil {
		return err
	}
	for _, name := range []string{h.name, "docker-" + h.name} {
		if _, err := os.Stat(filepath.Join(w.Bin, name)); err == nil {
			return nil
		}
	}
	return fmt.Errorf("there is no %s among the binaries", h.name)
}
