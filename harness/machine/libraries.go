package machine

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// interpreter is the dynamic loader that a binary asks for; empty for one that
// is linked statically, and for what is no binary.
func interpreter(file string) string {
	f, err := elf.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name := make([]byte, p.Filesz)
		if _, err := p.ReadAt(name, 0); err != nil {
			return ""
		}
		return string(bytes.TrimRight(name, "\x00"))
	}
	return ""
}

// librariesOf lists the files of this host that a binary is linked with, its
// loader among them. Libraries that lie beside it in lib come first, as they do
// when it is run.
func librariesOf(file string) ([]string, error) {
	loader := interpreter(file)
	if loader == "" {
		return nil, nil
	}
	cmd := exec.Command(loader, "--list", file)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LD_LIBRARY_PATH="+filepath.Join(filepath.Dir(file), "lib"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("libraries of %s: %w: %s", filepath.Base(file), err, firstLine(string(out)))
	}
	return parseLibraries(filepath.Base(file), loader, string(out))
}

// parseLibraries reads what a loader lists: "libc.so.6 => /lib/libc.so.6 (0x…)".
func parseLibraries(file, loader, list string) ([]string, error) {
	found := []string{loader}
	for line := range strings.Lines(list) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), " => ")
		if !ok {
			continue // the vdso, and the loader itself
		}
		path, _, _ := strings.Cut(rest, " (")
		if !filepath.IsAbs(path) {
			return nil, fmt.Errorf("%s needs %s, which this host does not have", file, name)
		}
		found = append(found, path)
	}
	return found, nil
}
