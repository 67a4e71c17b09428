package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path"
	"syscall"
	"time"

	"github.com/leaklab/leaklab/harness/agent"
	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/kernel"
	"github.com/leaklab/leaklab/harness/machine"
	"github.com/leaklab/leaklab/harness/verdict"
)

var fake = arm.Scenario{Name: "fake", Arms: []arm.Arm{
	{Name: "well", VM: arm.VM{Shared: true}, Run: func(_ context.Context, lab arm.Lab) error {
		for _, f := range []string{"/proc/mounts", "/proc/meminfo", "/proc/modules", "/proc/cgroups"} {
			b, _ := os.ReadFile(f)
			lab.File(f[1:], b)
		}
		return nil
	}},
	{Name: "fuse", Needs: []arm.Need{arm.NeedFUSE, arm.NeedCgroup1, arm.NeedRoot}, Run: func(_ context.Context, lab arm.Lab) error { return nil }},
	{Name: "big", Run: func(_ context.Context, lab arm.Lab) error { lab.File("big", make([]byte, 8<<20)); return nil }},
	{Name: "panic", Run: func(context.Context, arm.Lab) error { return os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0) }},
	{Name: "oom", Run: func(context.Context, arm.Lab) error {
		var keep [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			keep = append(keep, b)
		}
		_ = keep
		return nil
	}},
	{Name: "hang", Plan: arm.Plan{Timeout: 3 * time.Second}, Run: func(context.Context, arm.Lab) error { select {} }},
	{Name: "wait", Run: func(ctx context.Context, _ arm.Lab) error { <-ctx.Done(); return nil }},
}}

func main() {
	if len(os.Args) < 2 {
		os.Exit(2)
	}
	all := append(all, fake)
	switch os.Args[1] {
	case "guard":
		if err := machine.Guard(os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	case "guest":
		machine.Guest()
	case "agent":
		ev, err := machine.AgentEvents()
		if err == nil {
			_ = agent.Serve(os.Stdin, ev, all)
		}
		return
	case "part":
		for _, s := range all {
			if s.Name == os.Args[2] {
				if err := s.Parts[os.Args[3]](context.Background(), os.Args[4:]); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
			}
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cache, err := kernel.DefaultCache()
	if err != nil {
		panic(err)
	}
	vm := &machine.VM{Kernels: cache}
	defer vm.Close()
	if ref := os.Getenv("KERNEL"); ref != "" {
		k, err := cache.Resolve(ctx, ref, "", func(s string) { fmt.Println("  ..", s) })
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		vm.Kernel = &k
		vm.Force = os.Getenv("FORCE") != ""
	}
	for _, pattern := range os.Args[1:] {
		for _, s := range all {
			for _, a := range s.Arms {
				if ok, _ := path.Match(pattern, s.Name+"/"+a.Name); !ok {
					continue
				}
				if err := vm.Lacks(a); err != nil {
					fmt.Printf("== %s/%s not run: %v\n", s.Name, a.Name, err)
					continue
				}
				var samples []arm.Sample
				var trials []arm.OutcomeResult
				t := time.Now()
				job := arm.Job{Scenario: s.Name, Arm: a.Name, Plan: a.Plan.Or(arm.DefaultPlan), Seed: 1, Runtimes: map[string]string{}}
				err := vm.Run(ctx, a, job, func(e arm.Event) {
					if e.Type == arm.EventFile && os.Getenv("FILES") == "" {
						fmt.Printf("   [%6.1fs] file %s %d bytes\n", time.Since(t).Seconds(), e.Name, len(e.Data))
						return
					}
					if e.Sample != nil {
						samples = append(samples, *e.Sample)
					}
					if e.Outcome != nil {
						trials = append(trials, *e.Outcome)
					}
					if e.Type == arm.EventFile {
						fmt.Printf("   file %s\n%s\n", e.Name, e.Data)
						return
					}
					b, _ := json.Marshal(e)
					fmt.Printf("   [%6.1fs] %s\n", time.Since(t).Seconds(), b)
				})
				r := verdict.Judge(a, samples, trials)
				fmt.Printf("== %s/%s %.1fs err=%v: %s (expected %s) ok=%v %s\n", s.Name, a.Name, time.Since(t).Seconds(), err, r.Verdict, r.Expected, r.OK, r.Reason)
			}
		}
	}
}
