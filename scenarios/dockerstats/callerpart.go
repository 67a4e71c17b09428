package dockerstats

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/leaklab/leaklab/harness/part"
)

// callerName is the part, and the name of its process: the one that ss shows at
// the other end of dockerd's sockets.
const callerName = "stats-caller"

// status is what a caller tells of its calls. A call that was started and ended
// in no way hangs.
type status struct {
	Started int64
	// Answered came back with figures, Empty with none in them (not running, or
	// not found: engines from 17.12 on), Ended without an answer.
	Answered, Empty, Ended int64
	// Released came back at their own deadline.
	Released int64
	// Failed is the rest; FirstError is what the first of them met.
	Failed     int64
	FirstError string
	// Streams are open streaming calls.
	Streams int64
}

func (s status) returned() int64 { return s.Answered + s.Empty + s.Ended + s.Released + s.Failed }
func (s status) hanging() int64  { return s.Started - s.returned() }

// since is what came after an earlier look. Calls that hung then count as made
// later, when they return.
func (s status) since(before status) status {
	s.Started -= before.Started
	s.Answered -= before.Answered
	s.Empty -= before.Empty
	s.Ended -= before.Ended
	s.Released -= before.Released
	s.Failed -= before.Failed
	return s
}

func (s status) String() string {
	text := fmt.Sprintf("%d calls: %d answered, %d empty, %d ended, %d at their deadline, %d failed, %d hang",
		s.Started, s.Answered, s.Empty, s.Ended, s.Released, s.Failed, s.hanging())
	if s.FirstError != "" {
		text += " (" + s.FirstError + ")"
	}
	return text
}

// caller is the agent of the report: it asks the daemon for the stats of every
// container, again and again.
type caller struct {
	docker     *client.Client
	containers []string
	streamed   map[string]bool

	mu     sync.Mutex
	status status
}

// runCaller is the caller's process.
//
//	poll?n=N&deadlineMs=D
//	    asks N times for all containers, each call in a goroutine of its own, and
//	    returns once all requests are written
//	stream?n=N
//	    sees that one streaming call per container is open, and lets N periods
//	    of reading from them pass
//	status
func runCaller(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet(callerName, flag.ContinueOnError)
	control := flags.String("control", "", "path of the control socket")
	host := flags.String("host", "", "address of the daemon")
	containers := flags.String("containers", "", "names of the containers, with commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	docker, err := client.NewClientWithOpts(client.WithHost(*host), client.WithAPIVersionNegotiation())
	if err != nil {
		return err
	}
	docker.NegotiateAPIVersion(ctx)
	c := &caller{docker: docker, containers: strings.Split(*containers, ","), streamed: map[string]bool{}}
	return part.Serve(ctx, callerName, *control, map[string]part.Command{
		"poll":   c.poll,
		"stream": c.stream,
		"status": func(context.Context, part.Params) (any, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.status, nil
		},
	})
}

// sendBound is how long all requests of a poll may take to be written: one that
// is not means that the daemon accepts no connection any more.
const sendBound = 20 * time.Second

func (c *caller) poll(_ context.Context, p part.Params) (any, error) {
	var sent sync.WaitGroup
	for range p["n"] {
		for _, name := range c.containers {
			sent.Add(1)
			written := sync.OnceFunc(sent.Done)
			go func() {
				defer written() // a call that fails first has none to write
				c.call(name, time.Duration(p["deadlineMs"])*time.Millisecond, written)
			}()
		}
	}
	done := make(chan struct{})
	go func() { sent.Wait(); close(done) }()
	select {
	case <-done:
		return nil, nil
	case <-time.After(sendBound):
		return nil, fmt.Errorf("not all requests could be sent within %v", sendBound)
	}
}

// call makes one call as the report's agent does. Without a deadline it is that
// of version 1.20.0, context.Background() and all.
func (c *caller) call(name string, deadline time.Duration, written func()) {
	ctx := context.Background()
	if deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, deadline)
		defer cancel()
	}
	trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { written() }}
	c.count(func(s *status) { s.Started++ })
	answer, err := c.ask(httptrace.WithClientTrace(ctx, trace), name)
	c.count(func(s *status) {
		switch {
		case err == nil && answer.Read.IsZero():
			s.Empty++
		case err == nil:
			s.Answered++
		case ctx.Err() != nil:
			s.Released++
		case errors.Is(err, io.EOF):
			s.Ended++
		default:
			s.Failed++
			if s.FirstError == "" {
				s.FirstError = err.Error()
			}
		}
	})
}

// ask is the report's getContainerStats. Like it, it does not close the answer's
// body: an answer of known length is read to its end, which lets go of the
// connection all the same. The arms in which calls are answered show that.
func (c *caller) ask(ctx context.Context, name string) (stats container.StatsResponse, err error) {
	resp, err := c.docker.ContainerStats(ctx, name, false)
	if err != nil {
		return stats, err
	}
	err = json.NewDecoder(resp.Body).Decode(&stats)
	return stats, err
}

func (c *caller) count(change func(*status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.status)
}

// streamPeriod stands for the time between two polls of a caller that streams
// instead.
const streamPeriod = time.Millisecond

func (c *caller) stream(ctx context.Context, p part.Params) (any, error) {
	for _, name := range c.containers {
		if c.streamed[name] {
			continue
		}
		resp, err := c.docker.ContainerStats(context.Background(), name, true)
		if err != nil {
			return nil, err
		}
		c.streamed[name] = true
		c.count(func(s *status) { s.Streams++ })
		go func() {
			defer resp.Body.Close()
			answers := json.NewDecoder(resp.Body)
			for {
				var stats container.StatsResponse
				err := answers.Decode(&stats)
				c.count(func(s *status) {
					if err != nil {
						s.Streams--
						return
					}
					s.Answered++
				})
				if err != nil {
					return
				}
			}
		}()
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(p["n"]) * streamPeriod):
	}
	return nil, nil
}
