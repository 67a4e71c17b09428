package cristats

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/cri-api/pkg/apis/runtime/v1alpha2"

	"github.com/leaklab/leaklab/harness/engine/cri"
	"github.com/leaklab/leaklab/harness/part"
)

// callerPart is the name of the caller among the scenario's parts.
const callerPart = "caller"

// runCaller is a process that calls the CRI as kubelet does:
//
//	leaklab part cristats caller -control SOCKET -cri SOCKET -containers ID,…
//
// Its commands (see [part.Serve]; none waits for calls unless waitMs says so):
//
//	status           what happened so far
//	stats n=         n times ListContainerStats, all at once
//	loop             ListContainerStats, one after the other, until stop
//	execs workers=   ExecSync in so many workers, one after the other, until stop;
//	                 times= ends each worker after so many
//	streams …        the same through GetExec URLs and SPDY, as kubectl exec
//	open n=          n streaming execs that stay open until close
//
// Execs go to the first container. Stats are asked of all containers of the
// node, or of the of-th of those given, counted from 1. Calls take no deadline
// unless deadlineMs says so.
func runCaller(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet(callerPart, flag.ContinueOnError)
	control := flags.String("control", "", "path of the control socket")
	socket := flags.String("cri", "", "path of containerd's socket")
	containers := flags.String("containers", "", "ids, separated by commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	conn, err := grpc.NewClient("unix://"+*socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	c := &caller{cri: v1alpha2.NewRuntimeServiceClient(conn), containers: strings.Split(*containers, ",")}
	return part.Serve(ctx, "caller", *control, map[string]part.Command{
		"status":  c.status,
		"stats":   c.stats,
		"loop":    c.loop,
		"execs":   c.storm(c.exec),
		"streams": c.storm(c.stream),
		"open":    c.open,
		"close":   func(context.Context, part.Params) (any, error) { return nil, c.held.close() },
		"stop":    func(context.Context, part.Params) (any, error) { c.stopped.Store(true); return nil, nil },
	})
}

// caller is the state of the process.
type caller struct {
	cri        v1alpha2.RuntimeServiceClient
	containers []string
	list, run  tally
	held       heldStreams
	stopped    atomic.Bool
	listed     atomic.Int64
}

// tally counts calls by how they ended. What is started and in none of the
// others hangs.
type tally struct {
	started, answered, empty, released, failed atomic.Int64
	firstErr                                   atomic.Value
}

// errEmpty reports a list in which a container has no figures: containerd 1.5
// gives up on a container whose shim does not answer within the deadline, and
// answers without it.
var errEmpty = errors.New("a container has no figures")

// count runs one call.
func (t *tally) count(ctx context.Context, call func(context.Context) error) {
	t.started.Add(1)
	err := call(ctx)
	switch {
	case err == nil:
		t.answered.Add(1)
	case errors.Is(err, errEmpty):
		t.empty.Add(1)
	case ctx.Err() != nil:
		t.released.Add(1)
	default:
		t.failed.Add(1)
		t.firstErr.CompareAndSwap(nil, err.Error())
	}
}

// figures are a tally in the words of status.
type figures struct {
	Started, Answered, Empty, Released, Failed int64
	FirstError                                 string
}

func (t *tally) figures() figures {
	first, _ := t.firstErr.Load().(string)
	return figures{t.started.Load(), t.answered.Load(), t.empty.Load(), t.released.Load(), t.failed.Load(), first}
}

// hanging is the number of calls that have not come back.
func (f figures) hanging() int64 { return f.Started - f.Answered - f.Empty - f.Released - f.Failed }

// callerStatus is the answer of status.
type callerStatus struct {
	Stats, Execs figures
	// Listed is the number of containers in the last list.
	Listed int64
	// HeapAndStack are the bytes that the Go run-time has in use.
	HeapAndStack uint64
}

func (c *caller) status(context.Context, part.Params) (any, error) {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return callerStatus{Stats: c.list.figures(), Execs: c.run.figures(), Listed: c.listed.Load(), HeapAndStack: mem.HeapInuse + mem.StackInuse}, nil
}

// deadline gives a call's context: kubelet's has no deadline for the stats.
func deadline(p part.Params) (context.Context, context.CancelFunc) {
	if ms := p["deadlineMs"]; ms > 0 {
		return context.WithTimeout(context.Background(), time.Duration(ms)*time.Millisecond)
	}
	return context.WithCancel(context.Background())
}

// ask is one call for stats.
func (c *caller) ask(p part.Params) {
	ctx, cancel := deadline(p)
	defer cancel()
	filter := &v1alpha2.ContainerStatsFilter{}
	if i := p["of"]; i > 0 {
		filter.Id = c.containers[i-1]
	}
	c.list.count(ctx, func(ctx context.Context) error {
		resp, err := c.cri.ListContainerStats(ctx, &v1alpha2.ListContainerStatsRequest{Filter: filter})
		if err != nil {
			return err
		}
		c.listed.Store(int64(len(resp.Stats)))
		for _, s := range resp.Stats {
			if s.Cpu == nil || s.Memory == nil {
				return errEmpty
			}
		}
		return nil
	})
}

// stats starts single calls, each in a goroutine of its own.
func (c *caller) stats(_ context.Context, p part.Params) (any, error) {
	if p["of"] > len(c.containers) {
		return nil, fmt.Errorf("there are %d containers", len(c.containers))
	}
	var all sync.WaitGroup
	for range p["n"] {
		all.Go(func() { c.ask(p) })
	}
	wait(&all, p)
	return nil, nil
}

// wait waits for calls no longer than waitMs.
func wait(all *sync.WaitGroup, p part.Params) {
	if p["waitMs"] == 0 {
		return
	}
	back := make(chan struct{})
	go func() { all.Wait(); close(back) }()
	select {
	case <-back:
	case <-time.After(time.Duration(p["waitMs"]) * time.Millisecond):
	}
}

func (c *caller) loop(_ context.Context, p part.Params) (any, error) {
	c.stopped.Store(false)
	go func() {
		for !c.stopped.Load() {
			c.ask(p)
		}
	}()
	return nil, nil
}

// storm is a command that starts workers which each make calls one after the
// other.
func (c *caller) storm(call func(context.Context) error) part.Command {
	return func(_ context.Context, p part.Params) (any, error) {
		c.stopped.Store(false)
		var all sync.WaitGroup
		for range p["workers"] {
			all.Go(func() {
				for i := 0; (p["times"] == 0 || i < p["times"]) && !c.stopped.Load(); i++ {
					ctx, cancel := deadline(p)
					c.run.count(ctx, call)
					cancel()
				}
			})
		}
		wait(&all, p)
		return nil, nil
	}
}

// listRoot is what execs run: ls, as in the report.
var listRoot = []string{cri.Workload, "list", "/"}

func (c *caller) exec(ctx context.Context) error {
	resp, err := c.cri.ExecSync(ctx, &v1alpha2.ExecSyncRequest{ContainerId: c.containers[0], Cmd: listRoot})
	if err == nil && (resp.ExitCode != 0 || len(resp.Stdout) == 0) {
		return fmt.Errorf("exec ended with code %d and %d bytes: %s", resp.ExitCode, len(resp.Stdout), resp.Stderr)
	}
	return err
}
