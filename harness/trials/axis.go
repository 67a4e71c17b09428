package trials

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/runtimes"
)

// Versions returns the versions of an axis, oldest first, the given ones among
// them: versions or commits of its module that need not be listed. named are the
// given ones as the axis calls them. A proxy that cannot be asked leaves the
// known versions, and a note that says so.
func Versions(ctx context.Context, axis arm.Axis, given ...string) (versions, named []string, note string, err error) {
	versions = slices.Clone(axis.Versions)
	if axis.Module != "" {
		listed, listErr := runtimes.ModuleVersions(ctx, axis.Module)
		if listErr != nil {
			note = fmt.Sprintf("only known versions: %v", listErr)
		}
		match, err := regexp.Compile(axis.Match)
		if err != nil {
			return nil, nil, "", fmt.Errorf("axis %s: %w", axis.Name, err)
		}
		for _, v := range listed {
			if match.MatchString(v) {
				versions = append(versions, v)
			}
		}
	}
	for _, asked := range given {
		v, ok := find(versions, asked)
		switch {
		case ok:
		case axis.Module == "":
			return nil, nil, "", fmt.Errorf("axis %s has no version %q, only %s", axis.Name, asked, strings.Join(versions, ", "))
		case semver.IsValid(asked):
			v = asked
		case semver.IsValid("v" + asked):
			v = "v" + asked
		default:
			if v, err = runtimes.ModuleVersion(ctx, axis.Module, asked); err != nil {
				return nil, nil, "", err
			}
		}
		versions, named = append(versions, v), append(named, v)
	}
	if axis.Module != "" {
		semver.Sort(versions)
		return slices.Compact(versions), named, note, nil
	}
	return versions[:len(versions)-len(named)], named, note, nil
}

// find returns the version that a user means: with or without the "v".
func find(versions []string, asked string) (string, bool) {
	for _, v := range versions {
		if v == asked || v == "v"+asked || "v"+v == asked {
			return v, true
		}
	}
	return "", false
}

// ListAxis is an axis of an arm made of an ordered list of runtimes
// ("dockerd@18.09"), oldest first.
func ListAxis(a arm.Arm, refs []string) (arm.Axis, error) {
	for _, ref := range refs {
		name, _, err := runtimes.SplitRef(ref)
		if err != nil {
			return arm.Axis{}, err
		}
		if !slices.ContainsFunc(a.Runtimes, func(r string) bool { return strings.HasPrefix(r, name+"@") }) {
			return arm.Axis{}, fmt.Errorf("%s: the arm %s has no runtime %q, it has %s", ref, a.Name, name, strings.Join(a.Runtimes, ", "))
		}
	}
	if len(refs) < 2 {
		return arm.Axis{}, errors.New("at least two versions are needed")
	}
	return arm.Axis{
		Name: "list", Title: "the runtimes given", Arm: a.Name, Versions: refs,
		Subject: func(ref string) map[string]string {
			name, version, _ := strings.Cut(ref, "@")
			return map[string]string{name: version}
		},
	}, nil
}
