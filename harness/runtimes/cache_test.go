package runtimes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	. "github.com/onsi/gomega"
)

// forge is a source that makes one file.
type forge struct {
	content string
	made    *atomic.Int32
	err     error
}

func (f forge) Describe(context.Context) (Description, error) {
	return Description{Kind: "forge", Inputs: map[string]string{"content": f.content}}, nil
}

func (f forge) Make(_ context.Context, w *Work) error {
	f.made.Add(1)
	fmt.Fprintln(w.Log, "forging")
	if f.err != nil {
		return f.err
	}
	if f.content == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(w.Bin, "tool"), []byte(f.content), 0o755)
}

func recipe(f forge) Recipe {
	return Recipe{Name: "tool", Version: "v1", Sources: []Source{f}}
}

func quiet(string) {}

func TestCacheMakesOnce(t *testing.T) {
	g := NewWithT(t)
	c := Cache{Dir: t.TempDir()}
	f := forge{content: "x", made: new(atomic.Int32)}
	first, err := c.Get(t.Context(), recipe(f), quiet)
	g.Expect(err).NotTo(HaveOccurred())
	again, err := c.Get(t.Context(), recipe(f), quiet)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(again).To(Equal(first))
	g.Expect(f.made.Load()).To(Equal(int32(1)))
	g.Expect(filepath.Join(first.Bin, "tool")).To(BeARegularFile())

	// What shapes the binaries names the entry.
	other, err := c.Get(t.Context(), recipe(forge{content: "y", made: new(atomic.Int32)}), quiet)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(other.Digest).NotTo(Equal(first.Digest))
	entries, err := c.Entries()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(entries).To(HaveLen(2))
}

func TestCacheMakesDamagedEntriesAgain(t *testing.T) {
	for name, damage := range map[string]func(e Entry) error{
		"a changed binary":   func(e Entry) error { return os.WriteFile(filepath.Join(e.Bin, "tool"), []byte("evil"), 0o755) },
		"a missing binary":   func(e Entry) error { return os.Remove(filepath.Join(e.Bin, "tool")) },
		"an empty manifest":  func(e Entry) error { return os.Truncate(filepath.Join(e.Dir, manifestFile), 0) },
		"a missing manifest": func(e Entry) error { return os.Remove(filepath.Join(e.Dir, manifestFile)) },
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			c := Cache{Dir: t.TempDir()}
			f := forge{content: "x", made: new(atomic.Int32)}
			e, err := c.Get(t.Context(), recipe(f), quiet)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(damage(e)).To(Succeed())
			e, err = c.Get(t.Context(), recipe(f), quiet)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(os.ReadFile(filepath.Join(e.Bin, "tool"))).To(BeEquivalentTo("x"))
			g.Expect(f.made.Load()).To(Equal(int32(2)))
		})
	}
}

func TestCacheKeepsNothingOfAFailure(t *testing.T) {
	for name, f := range map[string]forge{
		"an error":  {content: "x", made: new(atomic.Int32), err: fmt.Errorf("%w: no such version", ErrUnavailable)},
		"no binary": {made: new(atomic.Int32)},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			c := Cache{Dir: t.TempDir()}
			_, err := c.Get(t.Context(), recipe(f), quiet)
			g.Expect(err).To(MatchError(ContainSubstring("making tool@v1")))
			g.Expect(errors.Is(err, ErrUnavailable)).To(Equal(f.err != nil))
			dirs, err := filepath.Glob(filepath.Join(c.Dir, "runtimes", "*"))
			g.Expect(err).NotTo(HaveOccurred())
			for _, d := range dirs {
				g.Expect(d).To(HaveSuffix(".lock"))
			}
		})
	}
}

func TestCacheIsMadeByOneAtATime(t *testing.T) {
	g := NewWithT(t)
	c := Cache{Dir: t.TempDir()}
	f := forge{content: "x", made: new(atomic.Int32)}
	var all sync.WaitGroup
	errs := make(chan error, 8)
	for range cap(errs) {
		all.Go(func() {
			_, err := c.Get(t.Context(), recipe(f), quiet)
			errs <- err
		})
	}
	all.Wait()
	close(errs)
	for err := range errs {
		g.Expect(err).NotTo(HaveOccurred())
	}
	g.Expect(f.made.Load()).To(Equal(int32(1)))
}

func TestCacheRemovesWhatAKilledBuildLeft(t *testing.T) {
	g := NewWithT(t)
	c := Cache{Dir: t.TempDir()}
	f := forge{content: "x", made: new(atomic.Int32)}
	digest, _, err := Digest(t.Context(), recipe(f))
	g.Expect(err).NotTo(HaveOccurred())
	half := filepath.Join(c.Dir, "runtimes", entryName(recipe(f), digest)+".making", "bin")
	g.Expect(os.MkdirAll(half, 0o755)).To(Succeed())
	g.Expect(os.WriteFile(filepath.Join(half, "tool"), []byte("hal"), 0o755)).To(Succeed())
	removed, err := c.RemoveUnfinished()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(removed).To(HaveLen(1))
	g.Expect(half).NotTo(BeADirectory())
	_, err = c.Get(t.Context(), recipe(f), quiet)
	g.Expect(err).NotTo(HaveOccurred())
}

func TestCacheThatCannotBeWritten(t *testing.T) {
	g := NewWithT(t)
	file := filepath.Join(t.TempDir(), "file")
	g.Expect(os.WriteFile(file, nil, 0o644)).To(Succeed())
	_, err := Cache{Dir: filepath.Join(file, "cache")}.Get(t.Context(), recipe(forge{made: new(atomic.Int32)}), quiet)
	g.Expect(err).To(MatchError(ContainSubstring("LEAKLAB_CACHE")))
}

func TestEdits(t *testing.T) {
	for _, c := range []struct {
		name string
		edit Edit
		want string // of a.go afterwards; or the error
		err  string
	}{
		{name: "once", edit: Edit{File: "a.go", Old: "one", New: "uno"}, want: "uno two two"},
		{name: "as often as declared", edit: Edit{File: "a.go", Old: "two", New: "due", Count: 2}, want: "one due due"},
		{name: "more often than declared", edit: Edit{File: "a.go", Old: "two", New: "due"}, err: "occurs 2 times"},
		{name: "not at all", edit: Edit{File: "a.go", Old: "three", New: "tre"}, err: "occurs 0 times"},
		{name: "over files", edit: Edit{File: "**/*.go", Old: "one", New: "uno", Count: 3}, want: "uno two two"},
		{name: "write", edit: Edit{File: "a.go", Write: "new"}, want: "new"},
		{name: "remove", edit: Edit{File: "sub", Remove: true}, want: "one two two"},
		{name: "remove what is not there", edit: Edit{File: "nothing", Remove: true}, err: "nothing to remove"},
		{name: "nothing to do", edit: Edit{File: "a.go"}, err: "says nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := NewWithT(t)
			dir := t.TempDir()
			g.Expect(os.MkdirAll(filepath.Join(dir, "sub/deep"), 0o755)).To(Succeed())
			for file, text := range map[string]string{"a.go": "one two two", "sub/b.go": "one", "sub/deep/c.go": "one", "sub/d.txt": "one"} {
				g.Expect(os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644)).To(Succeed())
			}
			err := c.edit.Apply(dir)
			if c.err != "" {
				g.Expect(err).To(MatchError(ContainSubstring(c.err)))
				return
			}
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(os.ReadFile(filepath.Join(dir, "a.go"))).To(BeEquivalentTo(c.want))
			if c.edit.Remove {
				_, err := os.Stat(filepath.Join(dir, "sub"))
				g.Expect(err).To(MatchError(fs.ErrNotExist))
			}
		})
	}
}

// What the go command prints when the proxy does not serve a version.
func TestGoErrorNamesWhatIsNotServed(t *testing.T) {
	for _, text := range []string{
		"go: example.com/m@v9.9.9: reading https://proxy/example.com/m/@v/v9.9.9.info: 404 Not Found",
		"go: example.com/m@v9.9.9: invalid version: unknown revision v9.9.9",
		"go: downloading a\ngo: example.com/m@v9.9.9: reading https://proxy/x.mod: 403 Forbidden\n\tserver response: no",
	} {
		g := NewWithT(t)
		err := goError([]string{"go", "mod", "tidy"}, errors.New("exit status 1"), text)
		g.Expect(err).To(MatchError(ErrUnavailable))
		g.Expect(err).To(MatchError(ContainSubstring("example.com/m@v9.9.9")))
	}
	g := NewWithT(t)
	err := goError([]string{"go", "build", "."}, errors.New("exit status 1"), "# pkg\n./x.go:1:1: syntax error\n")
	g.Expect(err).To(MatchError("go build: exit status 1: ./x.go:1:1: syntax error"))
}
