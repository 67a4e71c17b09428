package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/leaklab/leaklab/harness/kernel"
	"github.com/leaklab/leaklab/harness/machine"
)

func kernelsCommand() *cobra.Command {
	var modules string
	cmd := &cobra.Command{
		Use:   "kernels",
		Short: "List, add and show the kernels that virtual machines run",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return listKernels(cmd) },
	}
	add := &cobra.Command{
		Use:   "add kernel...",
		Short: "Fetch kernels into the cache: by name, or from a file or URL (rpm, deb, bzImage)",
		Example: `  leaklab kernels add 6.1
  leaklab kernels add kernel-3.10.0-862.9.1.el7.x86_64.rpm
  leaklab kernels add arch/x86/boot/bzImage --modules /lib/modules/6.6.0`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, refs []string) error { return addKernels(cmd, refs, modules) },
	}
	add.Flags().StringVar(&modules, "modules", "", "folder of the modules of a bare bzImage")
	cmd.AddCommand(
		&cobra.Command{Use: "list", Short: "List kernels and which are in the cache", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return listKernels(cmd) }},
		add,
		&cobra.Command{Use: "show kernel", Short: "Show release, origin, digest and place of a kernel, as JSON", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return showKernel(cmd, args[0]) }},
	)
	return cmd
}

// useKernel gives every virtual machine of a run the kernel that was asked for.
func useKernel(ctx context.Context, ms []machine.Machine, ref string) error {
	cache, err := kernel.DefaultCache()
	if err != nil {
		return err
	}
	k, err := cache.Resolve(ctx, ref, "", func(text string) { fmt.Fprintln(os.Stderr, text) })
	if err != nil {
		return err
	}
	for _, m := range ms {
		if vm, ok := m.(*machine.VM); ok {
			vm.Kernel = &k
		}
	}
	return nil
}

func listKernels(cmd *cobra.Command) error {
	cache, err := kernel.DefaultCache()
	if err != nil {
		return err
	}
	have, err := cache.Entries()
	if err != nil {
		return err
	}
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(table.Row{"kernel", "what it is", "in the cache"})
	state := func(k kernel.Kernel) string { return k.Release + " sha256:" + k.Digest[:12] }
	listed := kernel.Catalogue()
	for _, l := range listed {
		in := "–"
		if k, err := cache.Find(l.Name); err == nil {
			in = state(k)
		}
		t.AppendRow(table.Row{l.Name, l.Summary, in})
	}
	for _, k := range have {
		if !slices.ContainsFunc(listed, func(l kernel.Listed) bool { return l.Name == k.Name }) {
			t.AppendRow(table.Row{k.Name, k.Origin, state(k)})
		}
	}
	fmt.Fprintln(cmd.OutOrStdout(), t.Render())
	return nil
}

func addKernels(cmd *cobra.Command, refs []string, modules string) error {
	cache, err := kernel.DefaultCache()
	if err != nil {
		return err
	}
	for _, ref := range refs {
		k, err := cache.Fetch(cmd.Context(), ref, modules, func(text string) { fmt.Fprintln(os.Stderr, text) })
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s %s sha256:%s %s\n", k.Name, k.Release, k.Digest[:12], k.Dir)
	}
	return nil
}

// shownKernel is a kernel in the words of `kernels show`: its files are many
// and are counted.
type shownKernel struct {
	kernel.Kernel
	Files int    `json:"files"`
	Place string `json:"place"`
}

func showKernel(cmd *cobra.Command, ref string) error {
	cache, err := kernel.DefaultCache()
	if err != nil {
		return err
	}
	k, err := cache.Lookup(ref)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(shownKernel{Kernel: k, Files: len(k.Files), Place: k.Dir})
}
