package main

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the command available to the scripts as "leaklab", also for
// the roles that it plays for itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "guard", "init", "agent", "part":
			os.Exit(run(context.Background(), os.Args[1:]))
		}
	}
	testscript.Main(m, map[string]func(){"leaklab": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("LEAKLAB_CACHE", e.WorkDir+"/cache")
			e.Setenv("HOME", os.Getenv("HOME"))
			path, err := exec.LookPath("leaklab")
			if err != nil {
				return err
			}
			e.Setenv("LEAKLAB", path)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits runs a command that must end with a code: exits 2 leaklab run nothing.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command...")
	}
	err := ts.Exec(args[1], args[2:]...)
	var code = "0"
	if err != nil {
		code = err.Error()
	}
	if want := "exit status " + args[0]; code != want && !(args[0] == "0" && err == nil) {
		ts.Fatalf("%v: %s, want %s", args[1:], code, want)
	}
}
