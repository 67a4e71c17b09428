// Package store keeps folders that are either whole or not there: each is made
// beside its place and renamed into it, by one process at a time.
package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

const (
	makingSuffix = ".making"
	lockSuffix   = ".lock"
)

// Folder says how one folder is looked at and made.
type Folder struct {
	// Name is how people know it, for messages.
	Name string
	// Place is the finished folder's path.
	Place string
	// Check returns nil when Place holds the folder as it was made, and an error
	// that is [fs.ErrNotExist] when there is none.
	Check func() error
	// Make fills dir, which is empty and becomes Place when Make returns nil.
	Make func(ctx context.Context, dir string) error
}

// Ensure makes the folder unless it is there and sound. Other processes that
// want the same folder wait for the one that makes it. progress is told when it
// waits, and when something damaged is made again.
func Ensure(ctx context.Context, f Folder, progress func(string)) error {
	if err := os.MkdirAll(filepath.Dir(f.Place), 0o755); err != nil {
		return fmt.Errorf("the cache cannot be written (set LEAKLAB_CACHE): %w", err)
	}
	lock := flock.New(f.Place + lockSuffix)
	if ok, err := lock.TryLock(); err != nil {
		return err
	} else if !ok {
		progress("waiting for another leaklab to finish " + f.Name)
		if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	defer lock.Unlock()

	switch err := f.Check(); {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		progress(fmt.Sprintf("%s in the cache is damaged (%v): making it again", f.Name, err))
	}
	making := f.Place + makingSuffix
	// A killed process may have left one; the lock is ours.
	for _, dir := range []string{f.Place, making} {
		if err := RemoveAll(dir); err != nil {
			return err
		}
	}
	defer RemoveAll(making)
	if err := os.Mkdir(making, 0o755); err != nil {
		return err
	}
	if err := f.Make(ctx, making); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	return os.Rename(making, f.Place)
}

// Unfinished reports whether path is a folder that is still being made, or was
// when its maker was killed.
func Unfinished(path string) bool { return strings.HasSuffix(path, makingSuffix) }

// RemoveUnfinished removes from dir what killed processes have left, unless it
// is being worked on. It returns the names.
func RemoveUnfinished(dir string) ([]string, error) {
	making, err := filepath.Glob(filepath.Join(dir, "*"+makingSuffix))
	if err != nil {
		return nil, err
	}
	var done []string
	for _, path := range making {
		lock := flock.New(strings.TrimSuffix(path, makingSuffix) + lockSuffix)
		if ok, err := lock.TryLock(); err != nil || !ok {
			continue
		}
		err := RemoveAll(path)
		lock.Unlock()
		if err != nil {
			return done, err
		}
		done = append(done, filepath.Base(path))
	}
	return done, nil
}

// HashFiles returns the SHA-256 of every regular file below dir, by its path
// in it.
func HashFiles(dir string) (map[string]string, error) {
	sums := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		sum, err := HashFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		sums[rel] = sum
		return err
	})
	return sums, err
}

// HashFile returns the SHA-256 of a file in hexadecimal.
func HashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// RemoveAll is [os.RemoveAll] for trees that hold read-only folders, as copies
// of Go modules do.
func RemoveAll(path string) error {
	err := os.RemoveAll(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(p, 0o755)
		}
		return nil // what cannot be changed, the second try names
	})
	return os.RemoveAll(path)
}
