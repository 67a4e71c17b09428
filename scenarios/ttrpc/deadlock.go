package ttrpc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/leaklab/leaklab/harness/probe"
)

// proof is the evidence of one look at a silent pair.
type proof struct {
	// Circle: each side has a goroutine of ttrpc that is stuck in a write to
	// the connection and none that reads from it, so that neither can go on.
	Circle bool
	// Queues: both ends of the connection hold bytes that nobody reads, and so
	// many that the other has not taken that the kernel takes no more.
	Queues bool

	client, server probe.Goroutines
	ends           [2]probe.Socket
	answered       int64
}

// look takes the evidence.
func (p *pair) look(ctx context.Context, network string) (proof, error) {
	var pr proof
	var err error
	if pr.client, err = p.client.pprof.Dump(ctx); err != nil {
		return pr, err
	}
	if pr.server, err = p.server.pprof.Dump(ctx); err != nil {
		return pr, err
	}
	st, err := p.client.status(ctx)
	if err != nil {
		return pr, err
	}
	pr.answered = st.Answered
	pr.Circle = stuckWriting(pr.client) && stuckWriting(pr.server)
	pr.ends, err = p.ends(network)
	if err != nil {
		return pr, err
	}
	sndbuf := [2]int64{st.Sndbuf, 0}
	if st, err = p.server.status(ctx); err != nil {
		return pr, err
	}
	sndbuf[1] = st.Sndbuf
	pr.Queues = true
	for i, end := range pr.ends {
		full := end.Send > 0
		if network == "unix" {
			// A writer that found the buffer full is woken once three quarters
			// of it are free again (unix_writable in net/unix/af_unix.c). Over
			// TCP it is the receiver's window that closes.
			full = 4*int64(end.Send) > sndbuf[i]
		}
		pr.Queues = pr.Queues && end.Recv > 0 && full
	}
	return pr, nil
}

// stuckWriting finds the half of the circle that is in one process.
func stuckWriting(gs probe.Goroutines) bool {
	writing, reading := false, false
	for _, s := range gs {
		if !slices.ContainsFunc(s.Frames, func(f probe.Frame) bool {
			return strings.HasPrefix(f.Func, "github.com/containerd/ttrpc.")
		}) {
			continue
		}
		writing = writing || s.Has("internal/poll.(*FD).Write") && s.State == "IO wait"
		reading = reading || s.Has("internal/poll.(*FD).Read")
	}
	return writing && !reading
}

// ends finds the two sockets of the pair's connection, the client's first.
func (p *pair) ends(network string) (ends [2]probe.Socket, err error) {
	list := probe.UnixSockets
	if network == "tcp" {
		list = probe.TCPSockets
	}
	all, err := list()
	if err != nil {
		return ends, err
	}
	clients, err := probe.HeldBy(p.client.pid(), all)
	if err != nil {
		return ends, err
	}
	servers, err := probe.HeldBy(p.server.pid(), all)
	if err != nil {
		return ends, err
	}
	for _, c := range clients {
		for _, s := range servers {
			if c.Listening || s.Listening {
				continue
			}
			if network == "unix" && c.Peer == s.Inode || network == "tcp" && c.Name == reversed(s.Name) {
				return [2]probe.Socket{c, s}, nil
			}
		}
	}
	return ends, fmt.Errorf("no %s connection between client and server", network)
}

func reversed(name string) string {
	local, remote, _ := strings.Cut(name, " ")
	return remote + " " + local
}

// same reports whether nothing has moved between two looks.
func (a proof) same(b proof) bool {
	return a.answered == b.answered && a.ends == b.ends
}

func (a proof) String() string {
	return fmt.Sprintf("circle %v; queues client %d unread/%d unsent, server %d unread/%d unsent; %d calls answered",
		a.Circle, a.ends[0].Recv, a.ends[0].Send, a.ends[1].Recv, a.ends[1].Send, a.answered)
}

// watch waits until a storm of calls is over or has come to a stand. Silence
// only makes it look; what it looks for twice, with nothing moved in between,
// is the circle and the queues.
func (p *pair) watch(ctx context.Context, s setting, calls int64) (last proof, stuck bool, at time.Duration, err error) {
	const (
		every   = 5 * time.Millisecond
		silence = 60 * time.Millisecond
		between = 100 * time.Millisecond
		bound   = 30 * time.Second
	)
	start := time.Now()
	moved, answered := start, int64(-1)
	for time.Since(start) < bound {
		st, err := p.client.status(ctx)
		if err != nil {
			return last, false, 0, err
		}
		if st.Failed > 0 {
			return last, false, 0, fmt.Errorf("%d calls failed: %s", st.Failed, st.FirstError)
		}
		if st.Answered+st.Released == calls {
			return last, false, time.Since(start), nil
		}
		if st.Answered != answered {
			moved, answered = time.Now(), st.Answered
		}
		if time.Since(moved) > silence {
			first, err := p.look(ctx, s.Network)
			if err != nil {
				return last, false, 0, err
			}
			if err := sleep(ctx, between); err != nil {
				return last, false, 0, err
			}
			if last, err = p.look(ctx, s.Network); err != nil {
				return last, false, 0, err
			}
			still := first.same(last)
			last.Circle = last.Circle && first.Circle && still
			last.Queues = last.Queues && first.Queues && still
			if last.Circle && last.Queues {
				return last, true, moved.Sub(start), nil
			}
		}
		if err := sleep(ctx, every); err != nil {
			return last, false, 0, err
		}
	}
	return last, false, time.Since(start), nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
