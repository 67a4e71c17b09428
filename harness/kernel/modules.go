package kernel

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrNoModule reports a module that a kernel neither has nor has built in.
var ErrNoModule = errors.New("no such module")

// Modules are the loadable modules of one kernel.
type Modules struct {
	release string
	files   map[string]string // name to path
	builtin map[string]bool
}

// Module is one loadable module.
type Module struct {
	Name string
	// Path is its file in the cache, possibly compressed.
	Path string
	// Object is the uncompressed ELF object, as the kernel loads it.
	Object []byte
}

// Modules indexes the kernel's modules. A kernel that came as a bare image has
// none, and nothing is known of what it has built in.
func (k Kernel) Modules() (*Modules, error) {
	m := &Modules{release: k.Release, files: map[string]string{}, builtin: map[string]bool{}}
	root := filepath.Join(k.Dir, modulesDir)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == root {
			return filepath.SkipAll
		}
		if err != nil {
			return err
		}
		if name, ok := moduleName(path); ok && d.Type().IsRegular() {
			m.files[name] = path
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("modules of %s: %w", k.Release, err)
	}
	list, err := os.Open(filepath.Join(root, "modules.builtin"))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	} else if err != nil {
		return nil, err
	}
	defer list.Close()
	lines := bufio.NewScanner(list)
	for lines.Scan() {
		if name, ok := moduleName(lines.Text()); ok {
			m.builtin[name] = true
		}
	}
	return m, lines.Err()
}

// moduleName is the name under which the kernel knows a module file.
func moduleName(path string) (string, bool) {
	name, suffix, ok := strings.Cut(filepath.Base(path), ".ko")
	if !ok || !slices.Contains([]string{"", ".xz", ".gz", ".zst"}, suffix) {
		return "", false
	}
	return canonical(name), true
}

// canonical spells a module's name as the kernel does.
func canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }

// Has reports whether the kernel has a module, loadable or built in.
func (m *Modules) Has(name string) bool {
	name = canonical(name)
	return m.files[name] != "" || m.builtin[name]
}

// Load reads modules and all that they depend on, in the order in which the
// kernel must get them. What is built in is left out; what is missing is an
// [ErrNoModule].
func (m *Modules) Load(names ...string) ([]Module, error) {
	var order []Module
	done := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = canonical(name)
		if done[name] || m.builtin[name] {
			return nil
		}
		done[name] = true
		path := m.files[name]
		if path == "" {
			return fmt.Errorf("%w: %s in kernel %s", ErrNoModule, name, m.release)
		}
		mod := Module{Name: name, Path: path}
		var err error
		if mod.Object, err = readModule(path); err != nil {
			return err
		}
		depends, err := mod.depends()
		if err != nil {
			return err
		}
		for _, d := range depends {
			if err := add(d); err != nil {
				return fmt.Errorf("%s needs: %w", name, err)
			}
		}
		order = append(order, mod)
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// readModule reads a module's object, which may be compressed.
func readModule(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil || bytes.HasPrefix(data, []byte("\x7fELF")) {
		return data, err
	}
	r, err := decompress(data)
	if err == nil {
		data, err = io.ReadAll(r)
	}
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", filepath.Base(path), err)
	}
	return data, nil
}

// depends reads what the module's build has recorded as its dependencies. It
// is where depmod's modules.dep has them from, and unlike that file it is there
// before a package has been installed.
func (m Module) depends() ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(m.Object))
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", m.Name, err)
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("module %s has no .modinfo", m.Name)
	}
	info, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", m.Name, err)
	}
	for field := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := strings.CutPrefix(string(field), "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
