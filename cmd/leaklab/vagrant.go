package main

import (
	"errors"
	"io"

	"github.com/spf13/pflag"

	"github.com/leaklab/leaklab/harness/machine"
)

// vagrantFlags are the flags that only --machine vagrant uses.
func vagrantFlags(f *pflag.FlagSet) *machine.Vagrant {
	v := &machine.Vagrant{}
	f.StringVar(&v.Box, "box", "", "with --machine vagrant: the box to use, a folder in vagrant/ (default: the arm's report's)")
	f.BoolVar(&v.Destroy, "destroy", false, "with --machine vagrant: destroy the machines afterwards (default: they stay up)")
	return v
}

// closeMachines ends what machines keep between arms.
func closeMachines(ms []machine.Machine) error {
	var errs []error
	for _, m := range ms {
		if c, ok := m.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}
