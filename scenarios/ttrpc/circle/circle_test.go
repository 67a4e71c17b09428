package circle

import (
	"testing"

	"github.com/leaklab/leaklab/harness/probe"
)

// The stacks below are those of ttrpc 1.0.2 and 1.1.0, without their lower
// frames.
const (
	clientWriting = `goroutine 20 [IO wait]:
internal/poll.(*FD).Write(0x0)
	/go/src/internal/poll/fd_unix.go:381 +0x1
github.com/containerd/ttrpc.(*channel).send(0x0)
	/go/pkg/mod/github.com/containerd/ttrpc@v1.0.2/channel.go:132 +0x1
github.com/containerd/ttrpc.(*Client).send(0x0)
	/go/pkg/mod/github.com/containerd/ttrpc@v1.0.2/client.go:310 +0x1
github.com/containerd/ttrpc.(*Client).run(0x0)
	/go/pkg/mod/github.com/containerd/ttrpc@v1.0.2/client.go:259 +0x1
created by github.com/containerd/ttrpc.NewClient in goroutine 1
	/go/pkg/mod/github.com/containerd/ttrpc@v1.0.2/client.go:90 +0x1

`
	clientHandingOver = `goroutine 22 [select]:
github.com/containerd/ttrpc.(*receiver).run(0x0)
	/go/pkg/mod/github.com/containerd/ttrpc@v1.0.2/client.go:209 +0x1
created by github.com/containerd/ttrpc.(*Client).run in goroutine 20
	/go/pkg/mod/github.com/containerd/ttrpc@v1.0.2/client.go:243 +0x1

`
	clientReading = `goroutine 22 [IO wait]:
internal/poll.(*FD).Read(0x0)
	/go/src/internal/poll/fd_unix.go:165 +0x1
github.com/containerd/ttrpc.(*channel).recv(0x0)
	/go/pkg/mod/github.com/containerd/ttrpc@v1.0.2/channel.go:87 +0x1
github.com/containerd/ttrpc.(*receiver).run(0x0)
	/go/pkg/mod/github.com/containerd/ttrpc@v1.0.2/client.go:198 +0x1
created by github.com/containerd/ttrpc.(*Client).run in goroutine 20
	/go/pkg/mod/github.com/containerd/ttrpc@v1.0.2/client.go:243 +0x1

`
	// The receiver of another connection of the same process.
	otherHandingOver = `goroutine 32 [select]:
github.com/containerd/ttrpc.(*receiver).run(0x0)
	/go/pkg/mod/github.com/containerd/ttrpc@v1.0.2/client.go:209 +0x1
created by github.com/containerd/ttrpc.(*Client).run in goroutine 30
	/go/pkg/mod/github.com/containerd/ttrpc@v1.0.2/client.go:243 +0x1

`
	senderWriting = `goroutine 20 [IO wait]:
internal/poll.(*FD).Write(0x0)
	/go/src/internal/poll/fd_unix.go:381 +0x1
github.com/containerd/ttrpc.(*Client).run.func1(0x0)
	/go/pkg/mod/github.com/containerd/ttrpc@v1.1.0/client.go:275 +0x1
created by github.com/containerd/ttrpc.(*Client).run in goroutine 19
	/go/pkg/mod/github.com/containerd/ttrpc@v1.1.0/client.go:262 +0x1

goroutine 21 [select]:
github.com/containerd/ttrpc.(*Client).run(0x0)
	/go/pkg/mod/github.com/containerd/ttrpc@v1.1.0/client.go:330 +0x1

`
	serverWriting = `goroutine 40 [IO wait]:
internal/poll.(*FD).Write(0x0)
	/go/src/internal/poll/fd_unix.go:381 +0x1
github.com/containerd/ttrpc.(*serverConn).run(0x0)
	/go/pkg/mod/github.com/containerd/ttrpc@v1.0.2/server.go:459 +0x1
created by github.com/containerd/ttrpc.(*Server).Serve in goroutine 1
	/go/pkg/mod/github.com/containerd/ttrpc@v1.0.2/server.go:127 +0x1

`
	serverHandingOver = `goroutine 41 [select]:
github.com/containerd/ttrpc.(*serverConn).run.func1(0x0)
	/go/pkg/mod/github.com/containerd/ttrpc@v1.0.2/server.go:404 +0x1
created by github.com/containerd/ttrpc.(*serverConn).run in goroutine 40
	/go/pkg/mod/github.com/containerd/ttrpc@v1.0.2/server.go:332 +0x1

`
)

func TestHalves(t *testing.T) {
	for name, c := range map[string]struct {
		dump           string
		client, server bool
	}{
		"client stuck":                       {dump: clientWriting + clientHandingOver, client: true},
		"client writes and reads":            {dump: clientWriting + clientReading},
		"receiver of another connection":     {dump: clientWriting + otherHandingOver},
		"sender of 1.1.0 writes":             {dump: senderWriting + clientReading},
		"server stuck":                       {dump: serverWriting + serverHandingOver, server: true},
		"server writes, its reader is gone":  {dump: serverWriting},
		"reader of server waits, none write": {dump: serverHandingOver},
	} {
		t.Run(name, func(t *testing.T) {
			gs, err := probe.ParseGoroutineDump([]byte(c.dump))
			if err != nil {
				t.Fatal(err)
			}
			if got := Client(gs); got != c.client {
				t.Errorf("client's half: %v, want %v", got, c.client)
			}
			if got := Server(gs); got != c.server {
				t.Errorf("server's half: %v, want %v", got, c.server)
			}
		})
	}
}

// connection has the queues of a deadlock that was seen, with the smallest
// send buffers.
func connection() Connection {
	return Connection{Network: Unix, Ends: [2]probe.Socket{
		{Inode: 1, Peer: 2, Recv: 1420, Send: 8704},
		{Inode: 2, Peer: 1, Recv: 3602, Send: 4608},
	}}
}

func TestFull(t *testing.T) {
	small, large := [2]int64{4608, 4608}, [2]int64{212992, 212992}
	if !connection().Full(small) {
		t.Error("full queues were not seen")
	}
	if connection().Full(large) {
		t.Error("queues with room were called full")
	}
	unread := connection()
	unread.Ends[0].Recv = 0
	if unread.Full(small) {
		t.Error("a client that reads was called stuck")
	}
	tcp := connection()
	tcp.Network = TCP
	if !tcp.Full([2]int64{}) {
		t.Error("TCP: bytes that are neither read nor acknowledged were not seen")
	}
}

func TestConfirm(t *testing.T) {
	l := Look{Circle: true, Queues: true, Connection: connection()}
	if !Confirm(l, l).Proven() {
		t.Error("two equal looks are no proof")
	}
	moved := l
	moved.Connection.Ends[0].Recv++
	if got := Confirm(l, moved); got.Circle || got.Queues {
		t.Error("a connection that moves was called dead")
	}
	without := l
	without.Circle = false
	if Confirm(l, without).Proven() || Confirm(without, l).Proven() {
		t.Error("one look without the circle must disprove it")
	}
}
