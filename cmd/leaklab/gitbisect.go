package main

import (
	"slices"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/report"
)

// The exit codes that "git bisect run" wants (git-bisect(1)). It takes every
// other one below 128 for bad, and stops at those above.
const (
	gitGood = 0
	gitBad  = 1
	gitSkip = 125
	gitStop = 128
)

// gitBisect is the flag of run that maps the exit codes.
const gitBisect = "--git-bisect"

// gitBisectCode says whether the arms that were run leak, whatever they were
// expected to do: bad as soon as one does, good when all are clean. A deadlock
// in one trial of many is proof enough.
func gitBisectCode(r report.Run) int {
	code := gitGood
	for _, a := range r.Arms {
		shown := slices.ContainsFunc(a.Outcomes, func(o report.Outcome) bool { return o.Decides && o.Yes > 0 })
		if a.Verdict == arm.Leaks || shown {
			return gitBad
		}
		if a.Verdict != arm.Clean {
			code = gitSkip
		}
	}
	return code
}

// forGit maps an exit code of leaklab that stands for no verdict.
func forGit(code int) int {
	switch code {
	case report.ExitCannot:
		return gitSkip
	case report.ExitInterrupted:
		return code
	}
	return gitStop
}
