package memcg

import "github.com/leaklab/leaklab/harness/arm"

const story = "Nodes that had started tens of thousands of containers started no more: mkdir of a memory cgroup said no space left on device, with a few hundred cgroups alive. " +
	"A kernel has 65,535 numbers for memory cgroups; on CentOS 7 a fork inside a cgroup that accounts kernel memory keeps the number after the cgroup has gone, " +
	"and on today's kernels a page of it in swap does. " +
	"Not switching the accounting on (nokmem), or taking the pages out of swap, leaves nothing; restarting daemons and freeing memory do not help."

// claims are all of the report's.
var claims = []arm.Claim{
	{
		ID:   "M1",
		Says: "There can be at most 65,535 memory cgroups; the next mkdir says no space left on device.",
		Checks: []arm.Check{
			arm.Happens("seven-steps-6.1-v1", quotaFull),
			arm.Happens("seven-steps-5.10-v1", quotaFull),
		},
	},
	{
		ID:   "M2",
		Says: "Removing one memory cgroup makes room for one.",
		Checks: []arm.Check{
			arm.Happens("seven-steps-6.1-v1", oneForOne),
			arm.Happens("seven-steps-5.10-v1", oneForOne),
		},
	},
	{
		ID:   "M3",
		Says: "With kernel memory accounting on and a fork inside, the number of the removed cgroup never comes back.",
		Checks: []arm.Check{
			arm.PerOperation("fork-3.10", lost.Name, 0.9, 1.1),
			arm.PerOperation("execs-3.10", lost.Name, 0.9, 1.1),
			arm.Happens("seven-steps-3.10", stepSeven),
		},
	},
	{
		ID:   "M4",
		Says: "Without kernel memory accounting nothing leaks.",
		Checks: []arm.Check{
			arm.LeavesNothing("fork-without-kmem-3.10"),
			arm.NeverHappens("seven-steps-without-kmem-3.10", stepSeven),
		},
	},
	{
		ID:     "M5",
		Says:   "With kernel memory accounting on but nothing forked inside nothing leaks.",
		Checks: []arm.Check{arm.LeavesNothing("kmem-without-fork-3.10")},
	},
	{
		ID:     "M6",
		Says:   "A pod can lose two numbers, the pod's and the container's.",
		Checks: []arm.Check{arm.PerOperation("pod-3.10", lost.Name, 1.9, 2.1)},
	},
	{
		ID:   "M7",
		Says: "Kernels up to 3.10.0-862.9.1 have it; a fix is in 3.19 and 4.x, and later kernels leak in other ways.",
		Checks: []arm.Check{
			arm.Reads("fork-3.10", arm.Leaks),
			arm.LeavesNothing("fork-5.10-v1"),
			arm.LeavesNothing("fork-6.1-v1"),
			arm.PerOperation("swapped-6.1-v1", lost.Name, 0.9, 1.1),
		},
	},
	{
		ID:      "M8",
		Says:    "runc switches kernel memory accounting on since its pull request 1350; built with the tag nokmem it does not.",
		Missing: "runc of both builds inside an el7 guest",
	},
	{
		ID:     "M9",
		Says:   "Freeing memory does not help.",
		Checks: []arm.Check{arm.PerOperation("free-memory-3.10", lost.Name, 0.9, 1.1)},
	},
}
