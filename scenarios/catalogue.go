// Package scenarios is the catalogue: every documented leak that leaklab
// reproduces, and every runtime that their arms ask for.
package scenarios

import (
	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/engine/recipe"
	"github.com/leaklab/leaklab/harness/runtimes"
	"github.com/leaklab/leaklab/scenarios/cristats"
	"github.com/leaklab/leaklab/scenarios/dockerstats"
	"github.com/leaklab/leaklab/scenarios/dockerstop"
	"github.com/leaklab/leaklab/scenarios/ttrpc"
)

// All are the scenarios, in the order in which they are run.
var All = []arm.Scenario{
	ttrpc.Scenario,
	dockerstats.Scenario,
	cristats.Scenario,
	dockerstop.Scenario,
}

// Runtimes are the families of runtimes that arms can name.
var Runtimes = append(runtimes.Families{
	ttrpc.Pairs,
}, recipe.Families...)
