package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sassoftware/go-rpmutils"

	"github.com/leaklab/leaklab/harness/store"
)

// RPM is a kernel package of an enterprise Linux in a file: kernel-*.rpm up to
// el7, kernel-core-*.rpm later.
type RPM struct{ Path string }

// Find implements [Source]. It checks the digests of header and payload; whose
// signature the package bears is not looked at.
func (r RPM) Find(context.Context, string, func(string)) (Package, error) {
	f, err := os.Open(r.Path)
	if err != nil {
		return Package{}, err
	}
	defer f.Close()
	header, _, err := rpmutils.Verify(f, nil)
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("it is cut off")
		}
		return Package{}, fmt.Errorf("%w: %s is no sound rpm: %w", ErrUnavailable, filepath.Base(r.Path), err)
	}
	nevra, err := header.GetNEVRA()
	if err != nil {
		return Package{}, fmt.Errorf("%w: %s: %w", ErrUnavailable, filepath.Base(r.Path), err)
	}
	if arch := nevra.Arch; arch != "x86_64" {
		return Package{}, fmt.Errorf("%w: %s is for %s, not x86_64", ErrUnavailable, filepath.Base(r.Path), arch)
	}
	sum, err := store.HashFile(r.Path)
	if err != nil {
		return Package{}, err
	}
	name := fmt.Sprintf("rpm %s-%s-%s.%s", nevra.Name, nevra.Version, nevra.Release, nevra.Arch)
	return Package{Origin: name, Digest: sum, Unpack: r.unpack}, nil
}

// unpack writes the boot image and the modules of the package below dir.
func (r RPM) unpack(ctx context.Context, dir string) error {
	f, err := os.Open(r.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	rpm, err := rpmutils.ReadRpm(f)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, filepath.Base(r.Path), err)
	}
	payload, err := rpm.PayloadReaderExtended()
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, filepath.Base(r.Path), err)
	}
	for {
		info, err := payload.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: unpacking %s: %w", ErrUnavailable, filepath.Base(r.Path), err)
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		name := strings.TrimPrefix(filepath.Clean("/"+info.Name()), "/")
		regular := info.Mode()&0o170000 == 0o100000 && !payload.IsLink()
		if !regular || !wanted(name) {
			continue
		}
		if err := writeFile(filepath.Join(dir, name), payload); err != nil {
			return err
		}
	}
}

// wanted reports whether a file of a package belongs to a kernel as a virtual
// machine needs it.
func wanted(name string) bool {
	base := filepath.Base(name)
	_, module := moduleName(name)
	return module || base == "modules.builtin" || strings.HasPrefix(base, "vmlinuz")
}

func writeFile(path string, from io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Close())
}
