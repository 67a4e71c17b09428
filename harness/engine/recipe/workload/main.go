// Command workload is what the lab's containers run. It is one static binary
// without dependencies, so that an image is a tar archive with one file in it.
//
//	workload sleep        sleep until told to stop, then end at once
//	workload read FILE    read a file to its end, deaf to polite signals, and sleep
//	workload list DIR     print the names in a folder, as ls does
//	workload wait         wait for the end of the standard input
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// The main thread does the work. What the process is seen to be is what its main
// thread is: were another one to hang in a read, a kill would leave the main
// thread a zombie, and runc would take the container for stopped.
func init() { runtime.LockOSThread() }

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "workload:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "sleep":
		// Pid 1 of a pid namespace gets no signal that it does not handle.
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
		<-stop
		return nil
	case len(args) == 2 && args[0] == "read":
		// Only SIGKILL is to end the read, as in a process that hangs.
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		if _, err := os.ReadFile(args[1]); err != nil {
			return err
		}
		return run([]string{"sleep"})
	case len(args) == 2 && args[0] == "list":
		entries, err := os.ReadDir(args[1])
		for _, e := range entries {
			fmt.Println(e.Name())
		}
		return err
	case len(args) == 1 && args[0] == "wait":
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
	return fmt.Errorf("usage: workload sleep | read FILE | list DIR | wait")
}
