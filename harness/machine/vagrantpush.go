package machine

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
)

// thing is something of this host that a box keeps in its store, under a name
// that says what is in it: a runtime's folder, or a file.
type thing struct{ Name, Path string }

// inBox is where it is.
func (t thing) inBox() string { return path.Join(boxStore, "have", t.Name) }

// selfThing is the running binary. It is named by its contents, so a box that
// stays up gets a new one when that changes.
var selfThing = sync.OnceValues(func() (thing, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return thing{}, err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return thing{}, err
	}
	return thing{Name: "leaklab-" + hex.EncodeToString(sum.Sum(nil))[:12], Path: "/proc/self/exe"}, nil
})

// archiveThings writes them as a compressed tar: an emulated machine decompresses
// faster than it decrypts.
func archiveThings(w io.Writer, things []thing) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	out := tar.NewWriter(z)
	for _, t := range things {
		if err := archiveTree(out, t.Name, t.Path); err != nil {
			return err
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	return z.Close()
}

func archiveTree(out *tar.Writer, name, root string) error {
	info, err := os.Stat(root) // follows /proc/self/exe
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return archiveFile(out, name, root, info)
	}
	return filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, at)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return archiveFile(out, path.Join(name, filepath.ToSlash(rel)), at, info)
	})
}

// archiveFile writes one file, folder or link, owned by root.
func archiveFile(out *tar.Writer, name, from string, info fs.FileInfo) error {
	link := ""
	if info.Mode().Type() == fs.ModeSymlink {
		var err error
		if link, err = os.Readlink(from); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	header.Name, header.Uid, header.Gid, header.Uname, header.Gname = name, 0, 0, "root", "root"
	if err := out.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(out, f)
	return err
}
