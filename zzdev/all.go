package main

import "github.com/leaklab/leaklab/harness/arm"

var all []arm.Scenario
