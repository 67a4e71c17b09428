package runtimes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
)

// ModuleVersions returns the released versions of a Go module that the module
// proxy lists, oldest first.
func ModuleVersions(ctx context.Context, module string) ([]string, error) {
	info, err := moduleInfo(ctx, "-versions", module+"@latest")
	return info.Versions, err
}

// ModuleVersion returns the version, or pseudo-version, of a Go module that a
// query such as a commit means.
func ModuleVersion(ctx context.Context, module, query string) (string, error) {
	info, err := moduleInfo(ctx, module+"@"+query)
	return info.Version, err
}

type module struct {
	Version  string
	Versions []string
}

func moduleInfo(ctx context.Context, args ...string) (module, error) {
	var m module
	cmd := exec.CommandContext(ctx, "go", append([]string{"list", "-m", "-json"}, args...)...)
	// Away from any go.mod, whose requirements would answer instead.
	cmd.Dir = os.TempDir()
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local", "GOWORK=off", "GOFLAGS=")
	var out, all bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &all
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return m, context.Cause(ctx)
		}
		return m, goError(cmd.Args, err, all.String())
	}
	if err := json.Unmarshal(out.Bytes(), &m); err != nil {
		return m, fmt.Errorf("go list -m %v: %w", args, err)
	}
	return m, nil
}
