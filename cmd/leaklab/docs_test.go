package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hugelgupf/go-shlex"
	. "github.com/onsi/gomega"
	"github.com/spf13/cobra"

	"github.com/leaklab/leaklab/harness/plan"
	"github.com/leaklab/leaklab/harness/runtimes"
	"github.com/leaklab/leaklab/scenarios"
)

// quick are the documented commands that are run here; the others are checked
// as far as they go without an hour's work: their command, flags and arguments,
// and for run the arms and versions that they ask for. The end-to-end suite
// runs arms for real.
var quick = []string{"list", "doctor", "runtimes", "claims", "clean"}

// placeholder marks what stands for something else.
var placeholder = regexp.MustCompile(`…|\[|<|VERSION|FOLDER|FILE|NAME`)

// documented finds the commands in a text: lines of fenced blocks, and code
// within lines.
func documented(text string) []string {
	inline := regexp.MustCompile("`(leaklab [^`]+)`")
	var all []string
	fenced := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
			continue
		}
		if fenced && strings.HasPrefix(line, "leaklab ") {
			command, _, _ := strings.Cut(line, " #")
			// In a list of commands, words follow after spaces.
			command, _, _ = strings.Cut(command, "  ")
			all = append(all, command)
		}
		if !fenced {
			for _, m := range inline.FindAllStringSubmatch(line, -1) {
				all = append(all, m[1])
			}
		}
	}
	return slices.DeleteFunc(all, placeholder.MatchString)
}

// TestDocumentedCommands runs every command of the documentation, or checks it.
func TestDocumentedCommands(t *testing.T) {
	g := NewWithT(t)
	var files []string
	patterns := []string{"../../*.md", "../../docs/*.md"}
	for _, s := range scenarios.All {
		patterns = append(patterns, "../../scenarios/"+s.Name+"/README.md")
	}
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		g.Expect(err).NotTo(HaveOccurred())
		files = append(files, found...)
	}
	seen := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		g.Expect(err).NotTo(HaveOccurred())
		for _, line := range documented(string(text)) {
			if seen[line] {
				continue
			}
			seen[line] = true
			t.Run(filepath.Base(file)+"/"+line, func(t *testing.T) { checkCommand(t, line) })
		}
	}
	g.Expect(len(seen)).To(BeNumerically(">", 5))
}

func checkCommand(t *testing.T, line string) {
	g := NewWithT(t)
	if strings.Contains(line, "kernel") && !hasCommand("kernels") {
		t.Skip("the command kernels is not part of this leaklab yet")
	}
	words := shlex.Split(line)[1:]
	root := rootCommand()
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	cmd, rest, err := root.Find(words)
	g.Expect(err).NotTo(HaveOccurred())
	if len(words) == 1 && cmd != root {
		return // the name of a command, in a sentence
	}
	g.Expect(cmd.ParseFlags(rest)).To(Succeed())
	args := cmd.Flags().Args()
	g.Expect(cmd.ValidateArgs(args)).To(Succeed())
	if cmd.Name() == "run" {
		checkRun(t, cmd, args)
		return
	}
	if !slices.Contains(quick, words[0]) || cmd.Name() == "build" || cmd.Name() == "clean" {
		return
	}
	t.Setenv("LEAKLAB_CACHE", t.TempDir())
	t.Chdir(t.TempDir())
	root = rootCommand()
	root.SetOut(io.Discard)
	root.SetArgs(words)
	g.Expect(root.ExecuteContext(context.Background())).To(Succeed())
}

// checkRun plans what a documented run asks for.
func checkRun(t *testing.T, cmd *cobra.Command, patterns []string) {
	g := NewWithT(t)
	wishes := plan.Wishes{Patterns: patterns, Replace: map[string]string{}}
	replace, err := cmd.Flags().GetStringArray("runtime")
	g.Expect(err).NotTo(HaveOccurred())
	for _, ref := range replace {
		name, version, err := runtimes.SplitRef(ref)
		g.Expect(err).NotTo(HaveOccurred())
		wishes.Replace[name] = version
	}
	steps, err := plan.Make(scenarios.All, scenarios.Runtimes, machines(), wishes)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(steps).NotTo(BeEmpty())
}

func hasCommand(name string) bool {
	return slices.ContainsFunc(rootCommand().Commands(), func(c *cobra.Command) bool { return c.Name() == name })
}
