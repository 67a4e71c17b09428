package runtimes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// GoBuild compiles packages of public Go modules inside a module of our own
// that pins every dependency.
type GoBuild struct {
	// Mod and Sum are the pins: the building module's go.mod and go.sum.
	Mod, Sum string
	// Open lets the go command complete the pins (go mod tidy) for versions
	// whose checksums are not shipped. The checksum database still applies.
	// Without it an incomplete pin is an error.
	Open bool
	// Files are sources of our own in the building module, path to content.
	Files map[string]string
	// Targets are the binaries to make.
	Targets []Target
	Tags    []string
	CGO     bool
	LDFlags string
	// Env are further settings of the go command, e.g. "GONOSUMDB=…".
	Env []string
	// Edits are applied to writable copies of the modules they name.
	Edits []Edit
}

// Target is one binary of a GoBuild.
type Target struct {
	// Package is an import path, or "." for the building module itself.
	Package string
	// Out is the binary's file name.
	Out string
	// LDFlags are added to those of the build.
	LDFlags string
}

// Describe implements [Source].
func (b GoBuild) Describe(ctx context.Context) (Description, error) {
	version, err := goVersion(ctx)
	if err != nil {
		return Description{}, err
	}
	in := map[string]string{
		"go":      version,
		"go.mod":  b.Mod,
		"go.sum":  b.Sum,
		"tags":    strings.Join(b.Tags, ","),
		"cgo":     fmt.Sprint(b.CGO),
		"pinned":  fmt.Sprint(!b.Open),
		"ldflags": b.LDFlags,
		"env":     strings.Join(b.Env, " "),
	}
	for _, t := range b.Targets {
		in["target "+t.Out] = strings.TrimSpace(t.Package + " " + t.LDFlags)
	}
	for name, content := range b.Files {
		in["file "+name] = content
	}
	return Description{Kind: "go build", Inputs: in, Edits: b.Edits}, nil
}

// Make implements [Source].
func (b GoBuild) Make(ctx context.Context, w *Work) error {
	root := filepath.Join(w.Dir, "build")
	files := map[string]string{"go.mod": b.Mod, "go.sum": b.Sum}
	for name, content := range b.Files {
		files[name] = content
	}
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	goCmd := b.command(ctx, root, w)
	if b.Open {
		w.Progress("resolving modules")
		if err := goCmd("mod", "tidy"); err != nil {
			return err
		}
	}
	w.Progress("fetching modules")
	if err := b.patch(ctx, root, w); err != nil {
		return err
	}
	for _, t := range b.Targets {
		w.Progress("compiling " + t.Out)
		args := []string{"build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(w.Bin, t.Out)}
		if len(b.Tags) > 0 {
			args = append(args, "-tags", strings.Join(b.Tags, ","))
		}
		if flags := strings.TrimSpace(b.LDFlags + " " + t.LDFlags); flags != "" {
			args = append(args, "-ldflags", flags)
		}
		if err := goCmd(append(args, t.Package)...); err != nil {
			return err
		}
	}
	return nil
}

// patch puts edited copies of modules in the place of the originals.
func (b GoBuild) patch(ctx context.Context, root string, w *Work) error {
	var modules []string
	for _, e := range b.Edits {
		if !slices.Contains(modules, e.Module) {
			modules = append(modules, e.Module)
		}
	}
	for i, module := range modules {
		source, err := b.moduleDir(ctx, root, module, w)
		if err != nil {
			return err
		}
		// Inside the building module, so that no path of this machine shapes
		// the binary.
		copied := fmt.Sprintf("patched/%d", i)
		if err := copyModule(filepath.Join(root, copied), source, module); err != nil {
			return err
		}
		for _, e := range b.Edits {
			if e.Module != module {
				continue
			}
			if err := e.Apply(filepath.Join(root, copied)); err != nil {
				return err
			}
		}
		if err := b.command(ctx, root, w)("mod", "edit", "-replace="+module+"=./"+copied); err != nil {
			return err
		}
	}
	return nil
}

// moduleDir downloads a module as the pins select it and returns its folder.
func (b GoBuild) moduleDir(ctx context.Context, root, module string, w *Work) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{if .Replace}}{{.Replace.Path}}@{{.Replace.Version}}{{else}}{{.Path}}@{{.Version}}{{end}}", module)
	cmd.Dir, cmd.Env = root, b.env()
	out, err := output(cmd, w)
	if err != nil {
		return "", err
	}
	cmd = exec.CommandContext(ctx, "go", "mod", "download", "-json", strings.TrimSpace(string(out)))
	cmd.Dir, cmd.Env = root, b.env()
	if out, err = output(cmd, w); err != nil {
		return "", err
	}
	var info struct{ Dir string }
	if err := json.Unmarshal(out, &info); err != nil {
		return "", fmt.Errorf("go mod download %s: %w", module, err)
	}
	return info.Dir, nil
}

// copyModule makes a writable copy of a module of the read-only module cache.
func copyModule(dst, src, module string) error {
	if err := os.CopyFS(dst, os.DirFS(src)); err != nil {
		return err
	}
	err := filepath.WalkDir(dst, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o755)
		}
		return os.Chmod(path, 0o644)
	})
	if err != nil {
		return err
	}
	// A replacement folder needs a go.mod; old modules have none.
	gomod := filepath.Join(dst, "go.mod")
	if _, err := os.Stat(gomod); err == nil {
		return nil
	}
	return os.WriteFile(gomod, []byte("module "+module+"\n"), 0o644)
}

func (b GoBuild) env() []string {
	cgo := "CGO_ENABLED=0"
	if b.CGO {
		cgo = "CGO_ENABLED=1"
	}
	// The user's own go settings (proxy, caches) stay; what shapes the binary
	// is fixed.
	// A pinned build must not heal its pins: with -mod=mod a missing module
	// makes go upgrade others, and the binary is no longer what its name says.
	mod := "-mod=readonly"
	if b.Open {
		mod = "-mod=mod"
	}
	env := append(os.Environ(), "GOTOOLCHAIN=local", "GOWORK=off", "GOFLAGS="+mod, "GOOS=linux", cgo)
	return append(env, b.Env...)
}

func (b GoBuild) command(ctx context.Context, dir string, w *Work) func(args ...string) error {
	return func(args ...string) error {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir, cmd.Env = dir, b.env()
		_, err := output(cmd, w)
		return err
	}
}

// output runs a tool, copies what it says to the build log and turns its
// failure into one line.
func output(cmd *exec.Cmd, w *Work) ([]byte, error) {
	var out, all bytes.Buffer
	cmd.Stdout = &out
	cmd.Stderr = &all
	fmt.Fprintf(w.Log, "$ %s\n", strings.Join(cmd.Args, " "))
	err := cmd.Run()
	w.Log.Write(out.Bytes())
	w.Log.Write(all.Bytes())
	if err != nil {
		return nil, goError(cmd.Args, err, all.String()+out.String())
	}
	return out.Bytes(), nil
}

var notServed = regexp.MustCompile(`(\S+@\S+?):? .*(?:unknown revision|invalid version|404 Not Found|403 Forbidden|410 Gone|not available|no matching versions)`)

// goError picks the telling line out of what the go command printed.
func goError(args []string, err error, text string) error {
	if m := notServed.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%w: the module proxy does not serve %s", ErrUnavailable, m[1])
	}
	if strings.Contains(text, `C compiler "gcc" not found`) {
		return fmt.Errorf("%s: gcc is missing: install the packages gcc and libc6-dev", strings.Join(args[:min(2, len(args))], " "))
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	last := lines[len(lines)-1]
	return fmt.Errorf("%s: %w: %s", strings.Join(args[:min(2, len(args))], " "), err, last)
}

var goVersion = func() func(context.Context) (string, error) {
	var mu sync.Mutex
	var version string
	return func(ctx context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if version != "" {
			return version, nil
		}
		out, err := exec.CommandContext(ctx, "go", "env", "GOVERSION", "GOARCH").Output()
		if err != nil {
			return "", fmt.Errorf("the go command is needed to build runtimes (install Go 1.26 or newer): %w", err)
		}
		version = strings.Join(strings.Fields(string(out)), "/")
		return version, nil
	}
}()
