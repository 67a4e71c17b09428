// Package memcg is the scenario of the memory cgroups that are gone but keep
// their number: a kernel has 65,535 of them, and when all are taken no container
// starts any more. On CentOS 7 a fork inside a cgroup with kernel memory
// accounting loses one; on today's kernels a page in swap does.
package memcg

import (
	"context"
	"time"

	"github.com/leaklab/leaklab/harness/arm"
)

const name = "memcg"

// Scenario is the catalogue's entry.
var Scenario = arm.Scenario{
	Name:   name,
	Title:  "removed memory cgroups keep their numbers; at 65,535 no container starts any more",
	Report: "honkiko 2018, cgroup leaks hiding in your cluster (claims M1–M9)",
	Story:  story,
	Claims: claims,
	Arms:   arms(),
	Axes:   axes,
	Parts:  map[string]func(context.Context, []string) error{workerPart: work},
}

// The counters, per cycle.
var (
	lost  = arm.Counter{Name: "memory cgroup numbers lost", Unit: "numbers", Documented: 1, Decides: true}
	dead  = arm.Counter{Name: "dying memory cgroups", Unit: "cgroups", Documented: 1}
	alive = arm.Counter{Name: "memory cgroups that can live", Unit: "cgroups"}
)

// The outcomes.
const (
	charged = "kernel memory is charged to the cgroup"
	swapped = "every removed cgroup has pages in swap"
	// anySwapped is what mitigations are held to.
	anySwapped = "some removed cgroup has pages in swap"
	givenBack  = "swapoff gives every number back"
	dyingGo    = "nine in ten dying cgroups go with their files"
	quotaFull  = "mkdir fails below 65,536 memory cgroups"
	oneForOne  = "one rmdir makes room for one mkdir"
	stepSeven  = "mkdir fails after the last rmdir"
)

var plan = arm.Plan{Rounds: 4, MaxRounds: 8, Ops: 50, Warmup: 20, Timeout: 30 * time.Minute}

// system is a kernel in one of its cgroup modes.
type system struct {
	name string
	vm   arm.VM
}

// guestMB is room for a full quota: about 2 GB of slab, and the rest of the
// system.
const guestMB = 3072

func el7(cmdline ...string) arm.VM {
	// Each lost number also keeps a dozen slab caches.
	return arm.VM{Kernel: "3.10", MemoryMB: guestMB + 512, Cmdline: cmdline, Shared: true}
}

func today(series string, v2 bool) arm.VM {
	return arm.VM{Kernel: series, CgroupV2: v2, MemoryMB: guestMB, Modules: []string{"zram", "lzo-rle"}, Shared: true}
}

// systems are today's kernels. Debian's 6.12 has the memory controller of v2
// alone.
var systems = []system{
	{"5.10-v1", today("5.10", false)},
	{"5.10-v2", today("5.10", true)},
	{"6.1-v1", today("6.1", false)},
	{"6.1-v2", today("6.1", true)},
	{"6.12-v2", today("6.12", true)},
}

func arms() []arm.Arm {
	all := reportArms()
	for _, s := range systems {
		all = append(all, todayArms(s)...)
	}
	return all
}

// cycles completes an arm whose operation is a cycle.
func cycles(a arm.Arm, r recipe) arm.Arm {
	r.levels = max(r.levels, 1)
	a.Operation = "one cgroup made, used and removed"
	if r.levels > 1 {
		a.Operation = "one pod with a container made, used and removed"
	}
	counter := lost
	counter.Documented = float64(r.levels)
	a.Counters = []arm.Counter{counter, dead, alive}
	a.Needs = []arm.Need{arm.NeedRoot}
	a.Plan = plan
	a.Run = r.run
	return a
}

// steps completes an arm that is the report's procedure.
func steps(a arm.Arm, r recipe) arm.Arm {
	const trials = 8 // the fewest that decide either way are 6
	r.levels = 1
	a.Operation = "the report's seven steps"
	expect := arm.Never
	if a.Kind == arm.Leak {
		expect = arm.Always
	}
	a.Outcomes = []arm.Outcome{
		{Name: stepSeven, Expect: expect, Decides: true},
		{Name: quotaFull, Expect: arm.Always},
		{Name: oneForOne, Expect: arm.Always},
	}
	a.Needs = []arm.Need{arm.NeedRoot}
	a.Plan = arm.Plan{Trials: trials, Timeout: plan.Timeout}
	a.Run = r.sevenSteps
	return a
}

// reportArms are those of the report's kernel.
func reportArms() []arm.Arm {
	isCharged := []arm.Outcome{{Name: charged, Expect: arm.Always}}
	return []arm.Arm{
		cycles(arm.Arm{
			Name: "fork-3.10", Kind: arm.Leak, VM: el7(), Outcomes: isCharged,
			Title: "el7: kernel memory accounting on, one fork inside whose child lives on: each removed cgroup keeps its number",
		}, recipe{kmem: true, forks: sleeper}),
		cycles(arm.Arm{
			Name: "execs-3.10", Kind: arm.Leak, VM: el7(), Outcomes: isCharged,
			Title: "el7: kernel memory accounting on, two programs run inside and are long reaped: each removed cgroup keeps its number for ever",
		}, recipe{kmem: true, forks: twoExecs}),
		cycles(arm.Arm{
			Name: "pod-3.10", Kind: arm.Leak, VM: el7(), Outcomes: isCharged,
			Title: "el7: a pod's cgroup with a container's in it, a fork inside: two numbers per pod",
		}, recipe{kmem: true, forks: sleeper, levels: 2}),
		steps(arm.Arm{
			Name: "seven-steps-3.10", Kind: arm.Leak, VM: el7(),
			Title: "el7: the report's seven steps at a full quota: the last mkdir fails",
		}, recipe{kmem: true, forks: sleeper}),
		cycles(arm.Arm{
			Name: "free-memory-3.10", Kind: arm.Leak, VM: el7(), Outcomes: isCharged,
			Title: "el7: as execs-3.10, and caches dropped and slabs shrunk after each round: it does not help",
		}, recipe{kmem: true, forks: twoExecs, cure: true}),
		cycles(arm.Arm{
			Name: "fork-without-kmem-3.10", Kind: arm.Mitigation, VM: el7(),
			Title: "el7: no kernel memory accounting (runc and kubelet built with nokmem), one fork inside: nothing is lost",
		}, recipe{forks: sleeper}),
		steps(arm.Arm{
			Name: "seven-steps-without-kmem-3.10", Kind: arm.Mitigation, VM: el7(),
			Title: "el7: the report's steps without the third: the last mkdir succeeds",
		}, recipe{forks: sleeper}),
		cycles(arm.Arm{
			Name: "kmem-without-fork-3.10", Kind: arm.Control, VM: el7(),
			Title: "el7: kernel memory accounting on, nothing forked inside: nothing is lost",
		}, recipe{kmem: true}),
		cycles(arm.Arm{
			Name: "nokmem-parameter-3.10", Kind: arm.Mitigation, VM: el7("cgroup.memory=nokmem"),
			Title: "el7 booted with cgroup.memory=nokmem, two programs run inside: nothing is lost",
		}, recipe{kmem: true, forks: twoExecs}),
	}
}

// todayArms are those of one of today's kernels.
func todayArms(s system) []arm.Arm {
	inSwap := []arm.Outcome{{Name: swapped, Expect: arm.Always}, {Name: givenBack, Expect: arm.Always}}
	notInSwap := []arm.Outcome{{Name: anySwapped, Expect: arm.Never}}
	const swappy = 100
	all := []arm.Arm{
		cycles(arm.Arm{
			Name: "fork-" + s.name, Kind: arm.Control, VM: s.vm,
			Title: s.name + ": the report's recipe, kernel memory accounted, one fork inside: nothing is lost on this kernel",
		}, recipe{kmem: true, forks: sleeper}),
		steps(arm.Arm{
			Name: "seven-steps-" + s.name, Kind: arm.Control, VM: s.vm,
			Title: s.name + ": the report's seven steps at a full quota: the last mkdir succeeds on this kernel",
		}, recipe{kmem: true, forks: sleeper}),
		cycles(arm.Arm{
			Name: "swapped-" + s.name, Kind: arm.Leak, VM: s.vm, Outcomes: inSwap,
			Title: s.name + ": pages of the removed cgroup are in swap: it keeps its number until swapoff",
		}, recipe{pages: reclaimed, swap: swapOn, swappiness: swappy}),
		cycles(arm.Arm{
			Name: "swapoff-" + s.name, Kind: arm.Mitigation, VM: s.vm,
			Title: s.name + ": the same, and swapoff after each round: every number comes back",
		}, recipe{pages: reclaimed, swap: swapAway, swappiness: swappy}),
		cycles(arm.Arm{
			Name: "no-swap-" + s.name, Kind: arm.Mitigation, VM: s.vm,
			Title: s.name + ": the same without swap: nothing is lost",
		}, recipe{pages: reclaimed, swappiness: swappy}),
		cycles(arm.Arm{
			Name: "page-cache-" + s.name, Kind: arm.Control, VM: s.vm,
			Outcomes: []arm.Outcome{{Name: dyingGo, Expect: arm.Always}},
			Title:    s.name + ": the removed cgroup's pages stay in memory: the cgroup is dying until the file goes, but its number is free",
		}, recipe{pages: kept}),
		cycles(arm.Arm{
			Name: "swappiness-0-" + s.name, Kind: arm.Mitigation, VM: s.vm, Outcomes: notInSwap,
			Title: s.name + ": swap is on but swappiness is 0: no page gets there, nothing is lost",
		}, recipe{pages: reclaimed, swap: swapOn}),
	}
	if !s.vm.CgroupV2 {
		all = append(all, cycles(arm.Arm{
			Name: "force-empty-" + s.name, Kind: arm.Leak, VM: s.vm, Outcomes: inSwap,
			Title: s.name + ": memory.force_empty before rmdir does not help: it is what swaps the pages out",
		}, recipe{pages: emptied, swap: swapOn, swappiness: swappy}))
	}
	return all
}
