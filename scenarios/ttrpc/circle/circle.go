// Package circle proves the deadlock of the ttrpc 1.0.x client on a living
// connection: by the circle of waits in the stacks of both processes, and by
// the queues of the connection's two sockets. Silence proves nothing.
package circle

import (
	"fmt"
	"strings"

	"github.com/leaklab/leaklab/harness/probe"
)

// The networks that a connection can be of.
const (
	Unix = "unix"
	TCP  = "tcp"
)

// half is one process's part of the circle: a writer that waits for the peer to
// read, and the receiver of the same connection, which waits for the writer to
// take what it has read.
type half struct{ writer, receiver string }

var (
	// In ttrpc 1.0.x the client's run sends requests and takes responses in one
	// goroutine. From 1.1.0 on it does neither, so that no stack matches.
	clientHalf = half{"ttrpc.(*Client).run", "ttrpc.(*receiver).run"}
	// The server's run sends responses and takes requests in every version.
	serverHalf = half{"ttrpc.(*serverConn).run", "ttrpc.(*serverConn).run.func1"}
)

// Client finds the client's half of the circle in a dump with states.
func Client(gs probe.Goroutines) bool { return clientHalf.in(gs) }

// Server finds the server's half.
func Server(gs probe.Goroutines) bool { return serverHalf.in(gs) }

func (h half) in(gs probe.Goroutines) bool {
	stuck := map[int]bool{}
	for _, s := range gs.Holding(h.writer, "internal/poll.(*FD).Write") {
		for _, m := range s.Members {
			if s.State == "IO wait" {
				stuck[m.ID] = true
			}
		}
	}
	for _, s := range gs.Holding(h.receiver) {
		for _, m := range s.Members {
			// Programs built before Go 1.21 do not tell who started whom; there
			// it is enough that a writer and a receiver are stuck at all.
			same := stuck[m.Parent] || m.Parent == 0 && len(stuck) > 0
			if same && s.State == "select" && !s.Has("internal/poll.(*FD).Read") {
				return true
			}
		}
	}
	return false
}

// Connection is a ttrpc connection between two processes; the client's end
// comes first.
type Connection struct {
	Network string
	Ends    [2]probe.Socket
}

// Connections lists the connections between a client and a server process of
// this network namespace.
func Connections(network string, client, server int) ([]Connection, error) {
	list := probe.UnixSockets
	if network == TCP {
		list = probe.TCPSockets
	}
	all, err := list()
	if err != nil {
		return nil, err
	}
	clients, err := probe.HeldBy(client, all)
	if err != nil {
		return nil, err
	}
	servers, err := probe.HeldBy(server, all)
	if err != nil {
		return nil, err
	}
	var found []Connection
	for _, c := range clients {
		for _, s := range servers {
			if c.Listening || s.Listening {
				continue
			}
			if network == Unix && c.Peer == s.Inode || network == TCP && c.Name == reversed(s.Name) {
				found = append(found, Connection{Network: network, Ends: [2]probe.Socket{c, s}})
			}
		}
	}
	return found, nil
}

func reversed(name string) string {
	local, remote, _ := strings.Cut(name, " ")
	return remote + " " + local
}

// Full reports whether both ends hold bytes that nobody reads, and so many that
// the other has not taken that the kernel takes no more. sndbuf are the send
// buffers in the kernel's own count, the client's first; TCP needs none.
func (c Connection) Full(sndbuf [2]int64) bool {
	for i, end := range c.Ends {
		full := end.Send > 0
		if c.Network == Unix {
			// A writer that found the buffer full is woken once three quarters
			// of it are free again (unix_writable in net/unix/af_unix.c). Over
			// TCP it is the receiver's window that closes.
			full = 4*int64(end.Send) > sndbuf[i]
		}
		if end.Recv == 0 || !full {
			return false
		}
	}
	return true
}

// Look is the evidence of one look at a connection and its two processes.
type Look struct {
	// Circle: each process has the connection's writer stuck in a write and its
	// receiver waiting for the writer, so that neither can go on.
	Circle bool
	// Queues: the connection is full in both directions.
	Queues bool

	Connection     Connection
	Client, Server probe.Goroutines
}

// Confirm is the evidence of two looks with a pause between them: what both
// saw, on a connection on which nothing has moved.
func Confirm(first, second Look) Look {
	still := first.Connection == second.Connection
	second.Circle = second.Circle && first.Circle && still
	second.Queues = second.Queues && first.Queues && still
	return second
}

// Proven reports whether the look is proof of the deadlock.
func (l Look) Proven() bool { return l.Circle && l.Queues }

// String gives the figures.
func (l Look) String() string {
	c, s := l.Connection.Ends[0], l.Connection.Ends[1]
	return fmt.Sprintf("circle %v; queues client %d unread/%d unsent, server %d unread/%d unsent",
		l.Circle, c.Recv, c.Send, s.Recv, s.Send)
}
