package arm

import (
	"fmt"
	"slices"
)

// Axis is a way to vary the subject of an arm over its versions, for bisection:
// which version brought the leak, and which one cured it.
type Axis struct {
	// Name is what --axis calls it: "ttrpc".
	Name string
	// Title says what varies, in one line.
	Title string
	// Arm is the leak arm that is run with each version. A version with which
	// it leaks is bad, one with which it is clean is good.
	Arm string
	// Versions are those known to work, oldest first.
	Versions []string
	// Module is a Go module of which every other version counts as well: those
	// that the module proxy lists and Match matches (a regular expression; empty
	// matches all), and any commit that a user names.
	Module, Match string
	// Subject says which versions the arm's runtimes have, by their names. A
	// runtime that is not in it keeps the arm's own.
	Subject func(version string) map[string]string
	// Kernel says that the versions are kernels, and Subject is nil.
	Kernel bool
	// Chance is the least chance per trial with which a version that has the leak
	// shows it, where the scenario's own runs have established one. With 0 it is
	// estimated at the bad end.
	Chance float64
	// Requires names outcomes of the arm that must hold in every trial with any
	// version: the fault was there. Without them a trial counts neither way.
	Requires []string
}

// ArmOf returns the axis's arm of its scenario.
func (x Axis) ArmOf(s Scenario) (Arm, error) {
	i := slices.IndexFunc(s.Arms, func(a Arm) bool { return a.Name == x.Arm })
	if i < 0 {
		return Arm{}, fmt.Errorf("scenario %s has no arm %q", s.Name, x.Arm)
	}
	return s.Arms[i], nil
}
