package machine

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/u-root/u-root/pkg/cpio"
	"golang.org/x/sys/unix"

	"github.com/leaklab/leaklab/harness/kernel"
)

// The initramfs's own names.
const (
	runtimesDir = "runtimes"
	modulesDir  = "modules"
	configFile  = "guest.json"
)

// initramfs is what a guest has for a root file system.
type initramfs struct {
	Config  guestConfig
	Modules []kernel.Module
	// Runtimes are folders of this host by name.
	Runtimes map[string]string
}

// etc is what programs expect of /etc.
var etc = map[string]string{
	"passwd":        "root:x:0:0:root:/root:/bin/sh\n",
	"group":         "root:x:0:\n",
	"hosts":         "127.0.0.1 localhost\n",
	"hostname":      "guest\n",
	"resolv.conf":   "",
	"nsswitch.conf": "hosts: files\n",
}

// write makes the archive and returns its size in bytes.
func (i initramfs) write(file string) (int64, error) {
	f, err := os.Create(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buffered := bufio.NewWriterSize(f, 1<<20)
	w := &archive{out: cpio.Newc.Writer(buffered), seen: map[string]bool{}}
	if err := i.fill(w); err != nil {
		return 0, fmt.Errorf("making the initramfs: %w", err)
	}
	if err := errors.Join(cpio.WriteTrailer(w.out), buffered.Flush()); err != nil {
		return 0, fmt.Errorf("making the initramfs: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), f.Close()
}

func (i initramfs) fill(w *archive) error {
	config, err := json.Marshal(i.Config)
	if err != nil {
		return err
	}
	if err := w.record("dev/console", cpio.CharDev("dev/console", 0o600, 5, 1)); err != nil {
		return err
	}
	if err := w.copy(path.Base(GuestInit), "/proc/self/exe", 0o755); err != nil {
		return err
	}
	if err := w.file(configFile, config); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(etc)) {
		if err := w.file(path.Join("etc", name), []byte(etc[name])); err != nil {
			return err
		}
	}
	for _, m := range i.Modules {
		if err := w.file(path.Join(modulesDir, m.Name), m.Object); err != nil {
			return err
		}
	}
	var dynamic []string
	for _, name := range slices.Sorted(maps.Keys(i.Runtimes)) {
		found, err := w.tree(path.Join(runtimesDir, name), i.Runtimes[name])
		if err != nil {
			return fmt.Errorf("runtime %s: %w", name, err)
		}
		dynamic = append(dynamic, found...)
	}
	return w.libraries(dynamic)
}

// archive writes each record once, folders before what is in them.
type archive struct {
	out  cpio.RecordWriter
	seen map[string]bool
}

// record writes one record, and first the folders above it.
func (w *archive) record(name string, r cpio.Record) error {
	if w.seen[name] {
		return nil
	}
	w.seen[name] = true
	if dir := path.Dir(name); dir != "." {
		if err := w.record(dir, cpio.Directory(dir, 0o755)); err != nil {
			return err
		}
	}
	return w.out.WriteRecord(r)
}

func (w *archive) file(name string, data []byte) error {
	return w.record(name, cpio.StaticFile(name, string(data), 0o644))
}

// copy writes a file of this host.
func (w *archive) copy(name, from string, mode uint64) error {
	f, size, err := readable(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return w.record(name, cpio.Record{
		ReaderAt: f,
		Info:     cpio.Info{Name: name, Mode: unix.S_IFREG | mode, FileSize: uint64(size)},
	})
}

// tree writes a folder of this host. It returns the binaries in it that are
// linked dynamically.
func (w *archive) tree(name, root string) (dynamic []string, err error) {
	err = filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, at)
		if err != nil {
			return err
		}
		in := path.Join(name, filepath.ToSlash(rel))
		switch {
		case d.IsDir():
			return w.record(in, cpio.Directory(in, 0o755))
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(at)
			if err != nil {
				return err
			}
			return w.record(in, cpio.Symlink(in, target))
		case !d.Type().IsRegular():
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if interpreter(at) != "" {
			dynamic = append(dynamic, at)
		}
		return w.copy(in, at, uint64(info.Mode().Perm()))
	})
	return dynamic, err
}

// libraries writes what dynamic binaries are linked with, at the paths where
// this host has it.
func (w *archive) libraries(binaries []string) error {
	for _, file := range binaries {
		paths, err := librariesOf(file)
		if err != nil {
			return err
		}
		for _, p := range paths {
			// The binary's own libraries are in its tree.
			if filepath.Dir(p) == filepath.Join(filepath.Dir(file), "lib") {
				continue
			}
			// Where a library is a link, the guest gets the file itself.
			if err := w.copy(path.Clean(p)[1:], p, 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}
