// Package kernel makes the subjects that live below user space: Linux kernels
// of a named version, from a distribution's package or from a file, each kept in
// a cache with everything a virtual machine needs to boot it.
package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ErrUnknown reports a kernel that is neither in the catalogue, nor in the
// cache, nor a file.
var ErrUnknown = errors.New("unknown kernel")

// ErrUnavailable reports a kernel that its source does not serve, or serves
// damaged.
var ErrUnavailable = errors.New("kernel not available")

// Kernel is a finished kernel in the cache.
type Kernel struct {
	// Name is how it was asked for: a name of the catalogue, or the release.
	Name string `json:"name"`
	// Release is what uname -r says in it, read from the image.
	Release string `json:"release"`
	// Banner is the image's whole version line.
	Banner string `json:"banner"`
	// Origin says in one line where it is from.
	Origin string `json:"origin"`
	// Digest is the key of the source: of a package's or a file's contents.
	Digest string `json:"digest"`
	// Files are SHA-256 sums by path in Dir.
	Files map[string]string `json:"files"`
	Added time.Time         `json:"added"`
	// Dir holds the entry.
	Dir string `json:"-"`
}

// The files of an entry.
const (
	imageFile    = "vmlinuz"
	vmlinuxFile  = "vmlinux"
	modulesDir   = "modules"
	manifestFile = "manifest.json"
)

// Image is the path of the compressed image.
func (k Kernel) Image() string { return filepath.Join(k.Dir, imageFile) }

// Vmlinux is the path of the uncompressed ELF image.
func (k Kernel) Vmlinux() string { return filepath.Join(k.Dir, vmlinuxFile) }

// Series reports whether the kernel belongs to a series such as "3.10" or
// "6.1".
func (k Kernel) Series(series string) bool { return InSeries(k.Release, series) }

// InSeries reports whether a release belongs to a series: "6.1.0-50" is of
// "6.1", "6.12" is not.
func InSeries(release, series string) bool {
	rest, ok := strings.CutPrefix(release, series)
	return ok && series != "" && (rest == "" || rest[0] < '0' || rest[0] > '9')
}

// Knows reports whether the kernel understands a boot parameter, given with its
// equals sign: "cgroup.memory=".
func (k Kernel) Knows(parameter string) (bool, error) {
	text, err := os.ReadFile(k.Vmlinux())
	if err != nil {
		return false, err
	}
	// A parameter's name stands in the image as a C string of its own.
	return bytes.Contains(text, []byte("\x00"+parameter+"\x00")), nil
}

// PVH reports whether QEMU can enter the uncompressed image directly: it has
// the note XEN_ELFNOTE_PHYS32_ENTRY (CONFIG_PVH, since Linux 4.21).
func (k Kernel) PVH() (bool, error) {
	f, err := elf.Open(k.Vmlinux())
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", k.Release, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		notes := make([]byte, p.Filesz)
		if _, err := p.ReadAt(notes, 0); err != nil {
			return false, fmt.Errorf("reading %s: %w", k.Release, err)
		}
		if hasNote(notes, f.ByteOrder, "Xen", xenPhys32Entry) {
			return true, nil
		}
	}
	return false, nil
}

// xenPhys32Entry is XEN_ELFNOTE_PHYS32_ENTRY, include/xen/interface/elfnote.h.
const xenPhys32Entry = 18

// hasNote looks for a note by its owner and type in a PT_NOTE segment.
func hasNote(notes []byte, order binary.ByteOrder, owner string, kind uint32) bool {
	const header = 12
	round4 := func(n uint32) int { return int(n+3) &^ 3 }
	for len(notes) >= header {
		nameLen, descLen := order.Uint32(notes), order.Uint32(notes[4:])
		end := header + round4(nameLen) + round4(descLen)
		if end > len(notes) || int(nameLen) > len(notes)-header {
			return false
		}
		name := strings.TrimRight(string(notes[header:header+int(nameLen)]), "\x00")
		if name == owner && order.Uint32(notes[8:]) == kind {
			return true
		}
		notes = notes[end:]
	}
	return false
}
