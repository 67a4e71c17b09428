package runtimes

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Edit is one small, declared change to a copy of somebody else's module: what
// it takes to compile it with today's Go, or the one mitigation under test.
// Exactly one of Old, Write and Remove is set.
type Edit struct {
	// Module is the import path of the module whose copy is edited.
	Module string `json:"module"`
	// Why justifies the edit in one line.
	Why string `json:"why"`
	// File is a path inside the module. For a replacement it may be a pattern
	// in which "**" stands for any number of folders.
	File string `json:"file"`
	// Old is replaced by New, Count times over all files that match File.
	// Count 0 means once. Any other number of matches is an error.
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
	Count int    `json:"count,omitempty"`
	// Write makes File with this content: stand-ins of our own.
	Write string `json:"write,omitempty"`
	// Remove deletes File, which may be a folder and must exist.
	Remove bool `json:"remove,omitempty"`
}

// Apply carries the edit out in root, the writable copy of its module.
func (e Edit) Apply(root string) error {
	switch {
	case e.Remove:
		path := filepath.Join(root, e.File)
		if _, err := os.Lstat(path); err != nil {
			return fmt.Errorf("edit %q: nothing to remove: %w", e.Why, err)
		}
		return os.RemoveAll(path)
	case e.Write != "":
		path := filepath.Join(root, e.File)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, []byte(e.Write), 0o644)
	case e.Old != "":
		return e.replace(root)
	}
	return fmt.Errorf("edit %q of %s says nothing to do", e.Why, e.File)
}

func (e Edit) replace(root string) error {
	want := max(e.Count, 1)
	found := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || !matchPath(e.File, filepath.ToSlash(rel)) {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n := strings.Count(string(text), e.Old)
		if n == 0 {
			return nil
		}
		found += n
		return os.WriteFile(path, []byte(strings.ReplaceAll(string(text), e.Old, e.New)), 0o644)
	})
	if err != nil {
		return err
	}
	if found != want {
		return fmt.Errorf("edit %q: %q occurs %d times in %s of %s, declared %d", e.Why, e.Old, found, e.File, e.Module, want)
	}
	return nil
}

// matchPath is filepath.Match with "**" for any number of folders.
func matchPath(pattern, name string) bool {
	before, after, ok := strings.Cut(pattern, "**/")
	if !ok {
		m, err := filepath.Match(pattern, name)
		return err == nil && m
	}
	rest, ok := strings.CutPrefix(name, before)
	if !ok {
		return false
	}
	for {
		if matchPath(after, rest) {
			return true
		}
		_, rest, ok = strings.Cut(rest, "/")
		if !ok {
			return false
		}
	}
}
