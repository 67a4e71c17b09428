// Command pair is the subject of the ttrpc scenario: a server and a client
// around the ttrpc module of one version, as two processes. It is built once
// per version, from this one source (see recipe.go in the parent folder).
//
//	pair serve|call -network unix|tcp -addr ADDR -control SOCKET [-sndbuf N]
//
// Each side answers on its control socket, a unix socket that speaks HTTP:
// /status tells what happened so far as JSON, /debug/pprof/ serves the
// profiles, and the client also takes POST /storm, /stop and /calls.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	service = "leaklab.Echo"
	method  = "Echo"
)

// message is a BytesValue that every version of ttrpc can carry: up to 1.1 they
// marshal with gogo/protobuf, which wants Marshal and Unmarshal, from 1.2 on
// with google.golang.org/protobuf, which wants ProtoReflect.
type message struct{ v wrapperspb.BytesValue }

func (m *message) Reset()                             { m.v.Reset() }
func (m *message) String() string                     { return m.v.String() }
func (m *message) ProtoMessage()                      {}
func (m *message) ProtoReflect() protoreflect.Message { return m.v.ProtoReflect() }
func (m *message) Marshal() ([]byte, error)           { return proto.Marshal(&m.v) }
func (m *message) Unmarshal(data []byte) error        { return proto.Unmarshal(data, &m.v) }

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: pair serve|call [flags]")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	network := flags.String("network", "unix", "unix or tcp")
	addr := flags.String("addr", "", "address of the server")
	control := flags.String("control", "", "path of the control socket")
	sndbuf := flags.Int("sndbuf", 0, "SO_SNDBUF of the connection in bytes; 0 leaves the default")
	flags.Parse(os.Args[2:])

	listen, err := net.Listen("unix", *control)
	if err != nil {
		log.Fatal(err)
	}
	switch os.Args[1] {
	case "serve":
		err = serve(*network, *addr, *sndbuf)
	case "call":
		err = dial(*network, *addr, *sndbuf)
	default:
		err = fmt.Errorf("no role %q", os.Args[1])
	}
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listen, nil))
}

// serve starts an echo server of this ttrpc version.
func serve(network, addr string, sndbuf int) error {
	l, err := net.Listen(network, addr)
	if err != nil {
		return err
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	var handled atomic.Int64
	server.Register(service, map[string]ttrpc.Method{
		method: func(_ context.Context, unmarshal func(interface{}) error) (interface{}, error) {
			var m message
			if err := unmarshal(&m); err != nil {
				return nil, err
			}
			handled.Add(1)
			return &m, nil
		},
	})
	conns := &buffered{Listener: l, sndbuf: sndbuf}
	http.HandleFunc("/status", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]int64{"handled": handled.Load(), "sndbuf": conns.actual.Load()})
	})
	go func() { log.Fatal(server.Serve(context.Background(), conns)) }()
	return nil
}

// buffered sets the send buffer of every connection it accepts.
type buffered struct {
	net.Listener
	sndbuf int
	actual atomic.Int64
}

func (b *buffered) Accept() (net.Conn, error) {
	conn, err := b.Listener.Accept()
	if err != nil {
		return nil, err
	}
	actual, err := setSndbuf(conn, b.sndbuf)
	b.actual.Store(int64(actual))
	return conn, err
}

// setSndbuf asks for a send buffer and returns the one in force, in the
// kernel's own count (twice what is asked for, within its bounds).
func setSndbuf(conn net.Conn, size int) (actual int, err error) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	ctlErr := raw.Control(func(fd uintptr) {
		if size > 0 {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, size)
		}
		if err == nil {
			actual, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
		}
	})
	return actual, errors.Join(ctlErr, err)
}

// caller is the client side: one ttrpc client, as containerd holds one per shim.
type caller struct {
	client *ttrpc.Client
	sndbuf int
	// Calls by how they ended. What is started and in none of the others hangs.
	started, answered, released, failed atomic.Int64
	firstErr                            atomic.Value
	// stopped ends storms after the calls that are under way.
	stopped atomic.Bool
}

func dial(network, addr string, sndbuf int) error {
	conn, err := net.Dial(network, addr)
	if err != nil {
		return err
	}
	actual, err := setSndbuf(conn, sndbuf)
	if err != nil {
		return err
	}
	c := &caller{client: ttrpc.NewClient(conn), sndbuf: actual}
	http.HandleFunc("/status", c.status)
	http.HandleFunc("/storm", c.storm)
	http.HandleFunc("/stop", func(w http.ResponseWriter, _ *http.Request) { c.stopped.Store(true); reply(w, nil) })
	http.HandleFunc("/calls", c.calls)
	return nil
}

func (c *caller) status(w http.ResponseWriter, _ *http.Request) {
	firstErr, _ := c.firstErr.Load().(string)
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	reply(w, map[string]any{
		"heapAndStack": mem.HeapInuse + mem.StackInuse,
		"started":      c.started.Load(), "answered": c.answered.Load(), "released": c.released.Load(),
		"failed": c.failed.Load(), "firstError": firstErr, "sndbuf": c.sndbuf,
	})
}

// storm starts callers that each make calls one after the other. It does not
// wait for them.
func (c *caller) storm(w http.ResponseWriter, r *http.Request) {
	callers, calls := number(r, "callers"), number(r, "calls")
	size, deadline := number(r, "size"), time.Duration(number(r, "deadlineMs"))*time.Millisecond
	for i := 0; i < callers; i++ {
		go func() {
			for j := 0; j < calls && !c.stopped.Load(); j++ {
				c.call(size, deadline)
			}
		}()
	}
	reply(w, nil)
}

// calls starts single calls, each in a goroutine of its own. With a deadline it
// waits until all have come back or wait=ms is over; without, for nothing.
func (c *caller) calls(w http.ResponseWriter, r *http.Request) {
	n, size := number(r, "n"), number(r, "size")
	deadline := time.Duration(number(r, "deadlineMs")) * time.Millisecond
	var all sync.WaitGroup
	for i := 0; i < n; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			c.call(size, deadline)
		}()
	}
	if wait := number(r, "waitMs"); wait > 0 {
		back := make(chan struct{})
		go func() { all.Wait(); close(back) }()
		select {
		case <-back:
		case <-time.After(time.Duration(wait) * time.Millisecond):
		}
	}
	reply(w, nil)
}

func (c *caller) call(size int, deadline time.Duration) {
	ctx := context.Background()
	if deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, deadline)
		defer cancel()
	}
	var req, resp message
	req.v.Value = make([]byte, size)
	c.started.Add(1)
	err := c.client.Call(ctx, service, method, &req, &resp)
	switch {
	case err == nil && len(resp.v.Value) == size:
		c.answered.Add(1)
	case ctx.Err() != nil:
		c.released.Add(1)
	default:
		c.failed.Add(1)
		c.firstErr.CompareAndSwap(nil, fmt.Sprintf("%v (%d bytes back)", err, len(resp.v.Value)))
	}
}

func number(r *http.Request, name string) int {
	n, _ := strconv.Atoi(r.URL.Query().Get(name)) // absent means 0
	return n
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}
