package memcg

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// workerPart is the name of the process that goes into cgroups.
const workerPart = "worker"

// worker is that process, as the agent sees it: the report's shell. It is apart
// from the agent because a process with many threads that hits its own small
// limits livelocks, and because nothing else may be charged to the cgroup.
type worker struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *bufio.Reader
}

func startWorker() (*worker, error) {
	w := &worker{cmd: exec.Command("/proc/self/exe", "part", name, workerPart)}
	w.cmd.Args[0] = "leaklab"
	w.cmd.Stderr = os.Stderr
	// One thread for Go code, no collector: as little as possible of the
	// runtime's own doings is charged.
	w.cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=off")
	in, err := w.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.in, w.answers = in, bufio.NewReader(out)
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the worker: %w", err)
	}
	if _, err := w.ask("hello"); err != nil {
		return nil, errors.Join(err, w.stop())
	}
	return w, nil
}

func (w *worker) pid() int { return w.cmd.Process.Pid }

// ask sends a command and waits for its answer, a number.
func (w *worker) ask(command string) (int, error) {
	if _, err := io.WriteString(w.in, command+"\n"); err != nil {
		return 0, fmt.Errorf("the worker is gone: %w", err)
	}
	line, err := w.answers.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("the worker is gone: %w", err)
	}
	line = strings.TrimSpace(line)
	n, err := strconv.Atoi(line)
	if err != nil {
		return 0, fmt.Errorf("the worker: %s", line)
	}
	return n, nil
}

// fork has it fork once; the child, whose pid is returned, sleeps until killed.
func (w *worker) fork() (int, error) { return w.ask("fork") }

// reap waits for a child that was killed.
func (w *worker) reap(pid int) error {
	_, err := w.ask("reap " + strconv.Itoa(pid))
	return err
}

// exec has it fork, execute a program and reap it.
func (w *worker) exec() error {
	_, err := w.ask("exec")
	return err
}

// touch has it write a file of some pages, which are charged to its cgroup.
func (w *worker) touch(file string) error {
	_, err := w.ask("touch " + file)
	return err
}

func (w *worker) stop() error {
	w.in.Close()
	if err := w.cmd.Wait(); err != nil {
		return fmt.Errorf("the worker: %w", err)
	}
	return nil
}

// work is the worker's own side: it answers one command per line until its
// input ends.
//
// It reads with raw system calls: a thread that the runtime sees waiting makes
// it start another one, and a thread is a fork as far as the kernel's accounting
// goes.
func work(_ context.Context, args []string) error {
	if len(args) > 0 { // the program that exec executes
		return nil
	}
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	touched()
	var line []byte
	one := make([]byte, 1)
	for {
		n, err := rawRead(0, one)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return nil
		case one[0] != '\n':
			line = append(line, one[0])
			continue
		}
		answer, err := obey(string(line))
		if err != nil {
			answer = strings.ReplaceAll(err.Error(), "\n", " ")
		}
		line = line[:0]
		if _, err := os.Stdout.WriteString(answer + "\n"); err != nil {
			return err
		}
	}
}

func obey(command string) (string, error) {
	verb, argument, _ := strings.Cut(command, " ")
	switch verb {
	case "hello":
		return "0", nil
	case "fork":
		pid, err := forkSleeper()
		return strconv.Itoa(pid), err
	case "reap":
		pid, err := strconv.Atoi(argument)
		if err != nil {
			return "", err
		}
		_, err = unix.Wait4(pid, nil, 0, nil)
		return "0", err
	case "exec":
		// The pause is from the documented recipe.
		time.Sleep(execPause)
		return "0", exec.Command("/proc/self/exe", "part", name, workerPart, "nothing").Run()
	case "touch":
		return "0", touch(argument)
	}
	return "", fmt.Errorf("unknown command %q", verb)
}

// execPause is waited before each fork of the two that take about 60 ms.
const execPause = 30 * time.Millisecond

// touchPages are written. The kernel puts new pages on its lists in batches of
// at most 31, and reclaims none that is on no list.
const touchPages = 40

// touched is what is written. It is made and in memory before the worker enters
// a cgroup: memory that it took inside would be charged there, and stay.
var touched = sync.OnceValue(func() []byte {
	data := make([]byte, touchPages*os.Getpagesize())
	for i := range data {
		data[i] = byte(i) // no page of one value, which zram would not keep
	}
	return data
})

func touch(file string) error {
	fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: file, Err: err}
	}
	_, err = unix.Write(fd, touched())
	return errors.Join(err, unix.Close(fd))
}
