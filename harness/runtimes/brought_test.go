package runtimes

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	. "github.com/onsi/gomega"
)

// toolless is a source on a machine without the tools to make it.
type toolless struct{ forge }

func (toolless) Describe(context.Context) (Description, error) {
	return Description{}, fmt.Errorf("the go command is needed: %w", exec.ErrNotFound)
}

func TestCacheFromAnotherMachine(t *testing.T) {
	g := NewWithT(t)
	c := Cache{Dir: t.TempDir()}
	here := Recipe{Name: "tool", Version: "v1", Sources: []Source{toolless{}}}
	_, err := c.Get(t.Context(), here, quiet)
	g.Expect(err).To(MatchError(ContainSubstring("the go command is needed")))

	made, err := c.Get(t.Context(), recipe(forge{content: "x", made: new(atomic.Int32)}), quiet)
	g.Expect(err).NotTo(HaveOccurred())
	found, err := c.Get(t.Context(), here, quiet)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(found).To(Equal(made))

	g.Expect(os.WriteFile(filepath.Join(made.Bin, "tool"), []byte("y"), 0o755)).To(Succeed())
	_, err = c.Get(t.Context(), here, quiet)
	g.Expect(err).To(MatchError("tool is not what was made"))
}
