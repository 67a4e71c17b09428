package runtimes

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// OwnPins compiles packages of a Go module by the pins that the module carries
// without being a module of its own: docker has had a go.mod and a go.sum called
// vendor.mod and vendor.sum since 22.06. So nothing is shipped but the checksum.
type OwnPins struct {
	// Module and Version as the module proxy serves them.
	Module, Version string
	// Sum is the checksum of the module, "h1:…"; empty leaves it to the
	// checksum database.
	Sum string
	// ModFile and SumFile are the names of the pins in the module.
	ModFile, SumFile string
	// Build is how, without its pins.
	Build GoBuild
}

// Describe implements [Source].
func (p OwnPins) Describe(ctx context.Context) (Description, error) {
	d, err := p.Build.Describe(ctx)
	if err != nil {
		return Description{}, err
	}
	d.Kind = "go build by the module's own pins"
	delete(d.Inputs, "go.mod")
	delete(d.Inputs, "go.sum")
	d.Inputs["module"] = p.Module + "@" + p.Version
	d.Inputs["checksum"] = p.Sum
	d.Inputs["pins"] = p.ModFile + " " + p.SumFile
	return d, nil
}

// moduleLine is the line of a go.mod that names the module.
var moduleLine = regexp.MustCompile(`(?m)^module .*$`)

// Make implements [Source].
func (p OwnPins) Make(ctx context.Context, w *Work) error {
	w.Progress("fetching " + p.Module + "@" + p.Version)
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", p.Module+"@"+p.Version)
	// Away from any go.mod and go.sum: the checksum database answers.
	cmd.Dir, cmd.Env = w.Dir, append(os.Environ(), "GOTOOLCHAIN=local", "GOWORK=off", "GOFLAGS=")
	out, err := output(cmd, w)
	if err != nil {
		return err
	}
	var module struct{ Dir, Sum, GoModSum string }
	if err := json.Unmarshal(out, &module); err != nil {
		return fmt.Errorf("go mod download %s: %w", p.Module, err)
	}
	if p.Sum != "" && module.Sum != p.Sum {
		return fmt.Errorf("%s@%s: wrong checksum: it is %s, not %s", p.Module, p.Version, module.Sum, p.Sum)
	}
	mod, err := os.ReadFile(filepath.Join(module.Dir, p.ModFile))
	if err != nil {
		return fmt.Errorf("%s@%s carries no pins: %w", p.Module, p.Version, err)
	}
	sum, err := os.ReadFile(filepath.Join(module.Dir, p.SumFile))
	if err != nil {
		return fmt.Errorf("%s@%s carries no pins: %w", p.Module, p.Version, err)
	}
	b := p.Build
	// The pins are of a module with the path of this one, which now becomes
	// one of its own requirements.
	b.Mod = moduleLine.ReplaceAllString(string(mod), "module ownpins") +
		fmt.Sprintf("\nrequire %s %s\n", p.Module, p.Version)
	b.Sum = string(sum) + fmt.Sprintf("%[1]s %[2]s %[3]s\n%[1]s %[2]s/go.mod %[4]s\n", p.Module, p.Version, module.Sum, module.GoModSum)
	return b.Make(ctx, w)
}
