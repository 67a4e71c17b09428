package cristats

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof" // the caller's goroutines are counted
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/cri-api/pkg/apis/runtime/v1alpha2"

	"github.com/leaklab/leaklab/harness/engine/cri"
)

// callerPart is the name of the caller among the scenario's parts.
const callerPart = "caller"

// runCaller is a process that calls the CRI as kubelet does:
//
//	leaklab part cristats caller -control SOCKET -cri SOCKET
//
// It is told what to do on its control socket, which speaks HTTP:
//
//	/status          what happened so far, as JSON
//	/stats?n=        n times ListContainerStats, all at once
//	/loop            ListContainerStats, one after the other, until /stop
//	/execs?workers=  ExecSync in so many workers, times= each (0: until /stop)
//	/streams?…       the same through GetExec URLs and SPDY, as kubectl exec
//	/open?n=         n streaming execs that stay open until /close
//	/debug/pprof/    the profiles
//
// Calls take no deadline unless deadlineMs= says so; container= is whom execs
// go to, and of whom stats are asked (default: all).
func runCaller(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet(callerPart, flag.ContinueOnError)
	control := flags.String("control", "", "path of the control socket")
	socket := flags.String("cri", "", "path of containerd's socket")
	if err := flags.Parse(args); err != nil {
		return err
	}
	conn, err := grpc.NewClient("unix://"+*socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	l, err := net.Listen("unix", *control)
	if err != nil {
		return err
	}
	c := &caller{cri: v1alpha2.NewRuntimeServiceClient(conn)}
	http.HandleFunc("/status", c.status)
	http.HandleFunc("/stats", c.stats)
	http.HandleFunc("/loop", c.loop)
	http.HandleFunc("/execs", c.storm(&c.execs, c.exec))
	http.HandleFunc("/streams", c.storm(&c.execs, c.stream))
	http.HandleFunc("/open", c.open)
	http.HandleFunc("/close", func(w http.ResponseWriter, _ *http.Request) { c.held.close(); reply(w, nil) })
	http.HandleFunc("/stop", func(w http.ResponseWriter, _ *http.Request) { c.stopped.Store(true); reply(w, nil) })
	return http.Serve(l, nil)
}

// caller is the state of the process.
type caller struct {
	cri          v1alpha2.RuntimeServiceClient
	stat, execs  tally
	held         heldStreams
	stopped      atomic.Bool
	listed      atomic.Int64
}

// tally counts calls by how they ended. What is started and in none of the
// others hangs.
type tally struct {
	started, answered, released, failed atomic.Int64
	firstErr                            atomic.Value
}

// count runs one call.
func (t *tally) count(ctx context.Context, call func(context.Context) error) {
	t.started.Add(1)
	err := call(ctx)
	switch {
	case err == nil:
		t.answered.Add(1)
	case ctx.Err() != nil:
		t.released.Add(1)
	default:
		t.failed.Add(1)
		t.firstErr.CompareAndSwap(nil, err.Error())
	}
}

// figures are a tally in the words of /status.
type figures struct {
	Started, Answered, Released, Failed int64
	FirstError                          string
}

func (t *tally) figures() figures {
	first, _ := t.firstErr.Load().(string)
	return figures{t.started.Load(), t.answered.Load(), t.released.Load(), t.failed.Load(), first}
}

// hanging is the number of calls that have not come back.
func (f figures) hanging() int64 { return f.Started - f.Answered - f.Released - f.Failed }

// callerStatus is the answer of /status.
type callerStatus struct {
	Stats, Execs figures
	// Listed is the number of containers in the last answered list.
	Listed int64
	// HeapAndStack are the bytes that the Go run-time has in use.
	HeapAndStack uint64
}

func (c *caller) status(w http.ResponseWriter, _ *http.Request) {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	reply(w, callerStatus{Stats: c.stat.figures(), Execs: c.execs.figures(), Listed: c.listed.Load(), HeapAndStack: mem.HeapInuse + mem.StackInuse})
}

// deadline gives a call's context: kubelet's has no deadline for the stats.
func deadline(r *http.Request) (context.Context, context.CancelFunc) {
	if ms := number(r, "deadlineMs"); ms > 0 {
		return context.WithTimeout(context.Background(), time.Duration(ms)*time.Millisecond)
	}
	return context.WithCancel(context.Background())
}

func (c *caller) list(r *http.Request) {
	ctx, cancel := deadline(r)
	defer cancel()
	filter := &v1alpha2.ContainerStatsFilter{Id: r.URL.Query().Get("container")}
	c.stat.count(ctx, func(ctx context.Context) error {
		resp, err := c.cri.ListContainerStats(ctx, &v1alpha2.ListContainerStatsRequest{Filter: filter})
		if err == nil {
			c.listed.Store(int64(len(resp.Stats)))
		}
		return err
	})
}

// stats starts single calls, each in a goroutine of its own, and waits for them
// no longer than waitMs.
func (c *caller) stats(w http.ResponseWriter, r *http.Request) {
	var all sync.WaitGroup
	for range number(r, "n") {
		all.Go(func() { c.list(r) })
	}
	wait(&all, r)
	reply(w, nil)
}

func wait(all *sync.WaitGroup, r *http.Request) {
	ms := number(r, "waitMs")
	if ms == 0 {
		return
	}
	back := make(chan struct{})
	go func() { all.Wait(); close(back) }()
	select {
	case <-back:
	case <-time.After(time.Duration(ms) * time.Millisecond):
	}
}

func (c *caller) loop(w http.ResponseWriter, r *http.Request) {
	c.stopped.Store(false)
	period := time.Duration(number(r, "periodMs")) * time.Millisecond
	go func() {
		for !c.stopped.Load() {
			c.list(r)
			time.Sleep(period)
		}
	}()
	reply(w, nil)
}

// storm is a handler that starts workers which each make calls one after the
// other. It does not wait for them unless waitMs says so.
func (c *caller) storm(t *tally, call func(ctx context.Context, container string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c.stopped.Store(false)
		container, times := r.URL.Query().Get("container"), number(r, "times")
		var all sync.WaitGroup
		for range number(r, "workers") {
			all.Go(func() {
				for i := 0; (times == 0 || i < times) && !c.stopped.Load(); i++ {
					ctx, cancel := deadline(r)
					t.count(ctx, func(ctx context.Context) error { return call(ctx, container) })
					cancel()
				}
			})
		}
		wait(&all, r)
		reply(w, nil)
	}
}

// listRoot is what execs run: ls, as in the report.
var listRoot = []string{cri.Workload, "list", "/"}

func (c *caller) exec(ctx context.Context, container string) error {
	resp, err := c.cri.ExecSync(ctx, &v1alpha2.ExecSyncRequest{ContainerId: container, Cmd: listRoot})
	if err == nil && (resp.ExitCode != 0 || len(resp.Stdout) == 0) {
		return fmt.Errorf("exec ended with code %d and %d bytes: %s", resp.ExitCode, len(resp.Stdout), resp.Stderr)
	}
	return err
}

func number(r *http.Request, name string) int {
	n, _ := strconv.Atoi(r.URL.Query().Get(name)) // absent means 0
	return n
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) // whoever asked has gone otherwise
}
