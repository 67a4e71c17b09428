package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/leaklab/leaklab/harness/runtimes"
	"github.com/leaklab/leaklab/scenarios"
)

func runtimesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "runtimes",
		Short: "List, build and show the runtimes that arms use",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return listRuntimes(cmd) },
	}
	cmd.AddCommand(
		&cobra.Command{Use: "list", Short: "List runtimes and which versions are in the cache", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return listRuntimes(cmd) }},
		&cobra.Command{Use: "build name@version...", Short: "Build runtimes into the cache", Args: cobra.MinimumNArgs(1),
			RunE: buildRuntimes},
		&cobra.Command{Use: "show name@version", Short: "Show version, digest, sources and edits of a runtime, as JSON", Args: cobra.ExactArgs(1),
			RunE: showRuntime},
	)
	return cmd
}

func listRuntimes(cmd *cobra.Command) error {
	cache, err := runtimes.DefaultCache()
	if err != nil {
		return err
	}
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(table.Row{"runtime", "what it is", "in the cache"})
	for _, f := range scenarios.Runtimes {
		for _, v := range f.Versions {
			r, err := f.Recipe(v)
			if err != nil {
				return err
			}
			state := "–"
			if e, ok := cache.Find(cmd.Context(), r); ok {
				state = "sha256:" + e.Digest[:12]
			}
			t.AppendRow(table.Row{r.Ref(), f.Summary, state})
		}
	}
	fmt.Fprintln(cmd.OutOrStdout(), t.Render())
	return nil
}

func buildRuntimes(cmd *cobra.Command, refs []string) error {
	cache, err := runtimes.DefaultCache()
	if err != nil {
		return err
	}
	for _, ref := range refs {
		r, err := scenarios.Runtimes.Recipe(ref)
		if err != nil {
			return err
		}
		e, err := cache.Get(cmd.Context(), r, func(text string) { fmt.Fprintln(os.Stderr, text) })
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s sha256:%s %s\n", e.Ref(), e.Digest[:12], e.Bin)
	}
	return nil
}

// shown is a runtime in the words of `runtimes show`.
type shown struct {
	runtimes.Entry
	Cached bool   `json:"cached"`
	Place  string `json:"place,omitempty"`
}

func showRuntime(cmd *cobra.Command, args []string) error {
	cache, err := runtimes.DefaultCache()
	if err != nil {
		return err
	}
	r, err := scenarios.Runtimes.Recipe(args[0])
	if err != nil {
		return err
	}
	e, cached := cache.Find(cmd.Context(), r)
	if !cached {
		digest, sources, err := runtimes.Digest(cmd.Context(), r)
		if err != nil {
			return err
		}
		e = runtimes.Entry{Name: r.Name, Version: r.Version, Digest: digest, Sources: sources}
	}
	for i := range e.Sources {
		shorten(e.Sources[i].Inputs)
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(shown{Entry: e, Cached: cached, Place: e.Dir})
}

// shorten cuts checksums and sources, which are pages long, for reading.
func shorten(inputs map[string]string) {
	for name, value := range inputs {
		if lines := strings.Count(value, "\n"); lines > 0 && (name == "go.sum" || strings.HasPrefix(name, "file ")) {
			inputs[name] = fmt.Sprintf("(%d lines)", lines)
		}
	}
}
