package runtimes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/leaklab/leaklab/harness/store"
)

// stalled is how long a server may say nothing before a download is given up.
var stalled = time.Minute

// origin is where a file comes from: an http(s) URL or a path of this machine.
type origin struct {
	from   string
	sha256 string // declared, or empty
}

func (o origin) remote() bool {
	return strings.HasPrefix(o.from, "https://") || strings.HasPrefix(o.from, "http://")
}

// describe returns what identifies the file. A file of this machine is
// identified by its content, wherever it lies.
func (o origin) describe() (map[string]string, error) {
	if o.remote() {
		in := map[string]string{"url": o.from}
		if o.sha256 != "" {
			in["sha256"] = strings.ToLower(o.sha256)
		}
		return in, nil
	}
	sum, err := store.HashFile(o.from)
	if err != nil {
		return nil, o.unreadable(err)
	}
	return map[string]string{"file": filepath.Base(o.from), "sha256": sum}, nil
}

func (o origin) unreadable(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no file %s", ErrUnavailable, o.from)
	}
	return err
}

// name is how progress and errors call the file.
func (o origin) name() string {
	if u, err := url.Parse(o.from); err == nil && o.remote() {
		return path.Base(u.Path)
	}
	return filepath.Base(o.from)
}

// open returns the file, whole and with the right checksum. A remote one is
// downloaded first.
func (o origin) open(ctx context.Context, w *Work) (*os.File, error) {
	local := o.from
	if o.remote() {
		local = filepath.Join(w.Dir, "download")
		if err := o.download(ctx, local, w); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(local)
	if err != nil {
		return nil, o.unreadable(err)
	}
	if err := o.check(f, w); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// check compares the file with the declared checksum, or tells which it has.
func (o origin) check(f *os.File, w *Work) error {
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	fmt.Fprintf(w.Log, "%s sha256=%s\n", o.from, sum)
	switch {
	case o.sha256 == "" && o.remote():
		w.Progress(fmt.Sprintf("%s came with sha256=%s (none was declared)", o.name(), sum))
	case o.sha256 != "" && !strings.EqualFold(o.sha256, sum):
		return fmt.Errorf("%s has the wrong checksum: sha256 is %s, declared %s", o.name(), sum, o.sha256)
	}
	return nil
}

func (o origin) download(ctx context.Context, to string, w *Work) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(stalled, func() {
		cancel(fmt.Errorf("the server has been silent for %v", stalled))
	})
	defer watchdog.Stop()
	fail := func(err error) error {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("fetching %s: %w", o.name(), err)
	}
	w.Progress("fetching " + o.name())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.from, nil)
	if err != nil {
		return fail(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fail(err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusForbidden, http.StatusGone:
		return fmt.Errorf("%w: the server does not serve %s (%s)", ErrUnavailable, o.name(), resp.Status)
	default:
		return fail(errors.New(resp.Status))
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	told := time.Now()
	var n int64
	body := readerFunc(func(p []byte) (int, error) {
		got, err := resp.Body.Read(p)
		watchdog.Reset(stalled)
		n += int64(got)
		if time.Since(told) > time.Second {
			told = time.Now()
			w.Progress(fmt.Sprintf("fetching %s: %s of %s", o.name(), megabytes(n), megabytes(resp.ContentLength)))
		}
		return got, err
	})
	if _, err := io.Copy(f, body); errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("fetching %s: cut short after %d of %d bytes", o.name(), n, resp.ContentLength)
	} else if err != nil {
		return fail(err)
	}
	return f.Close()
}

func megabytes(n int64) string {
	if n < 0 {
		return "?"
	}
	return fmt.Sprintf("%.0f MB", float64(n)/1e6)
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
