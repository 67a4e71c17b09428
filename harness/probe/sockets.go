package probe

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Socket is one socket of this network namespace.
type Socket struct {
	Inode uint32
	// Peer is the inode of the other end of a unix socket; 0 when there is none
	// (any more).
	Peer uint32
	// Name is the address of a unix socket that has one, or both addresses of
	// a TCP connection.
	Name string
	// Recv are bytes that came and were not read. Send is what was sent and has
	// not been taken: for TCP bytes not acknowledged, for a unix socket the
	// memory charged to it.
	Recv, Send uint32
	// Listening sockets have no peer and count connections in their queues.
	Listening bool
}

// UnixSockets lists the unix sockets of this network namespace, through
// sock_diag, as ss -x does.
func UnixSockets() ([]Socket, error) {
	infos, err := netlink.UnixSocketDiagInfo()
	if err != nil {
		return nil, fmt.Errorf("sock_diag (unix): %w", err)
	}
	var all []Socket
	for _, i := range infos {
		s := Socket{Inode: i.DiagMsg.INode, Listening: i.DiagMsg.State == stateListen}
		if i.Peer != nil {
			s.Peer = *i.Peer
		}
		if i.Name != nil {
			s.Name = socketName(*i.Name)
		}
		if i.Queue != nil {
			s.Recv, s.Send = i.Queue.RQueue, i.Queue.WQueue
		}
		all = append(all, s)
	}
	return all, nil
}

// socketName cuts a path at its end. What follows it is not part of it: the
// library hands on the four bytes after the attribute too. An abstract name,
// which begins with a zero, may hold zeros and is left as it comes.
func socketName(raw string) string {
	if strings.HasPrefix(raw, "\x00") {
		return strings.TrimRight(raw, "\x00")
	}
	path, _, _ := strings.Cut(raw, "\x00")
	return path
}

const stateListen = 10 // TCP_LISTEN, include/net/tcp_states.h

// TCPSockets lists the IPv4 TCP sockets of this network namespace.
func TCPSockets() ([]Socket, error) {
	infos, err := netlink.SocketDiagTCP(unix.AF_INET)
	if err != nil {
		return nil, fmt.Errorf("sock_diag (tcp): %w", err)
	}
	var all []Socket
	for _, i := range infos {
		all = append(all, Socket{
			Inode:     i.INode,
			Name:      fmt.Sprintf("%v:%d %v:%d", i.ID.Source, i.ID.SourcePort, i.ID.Destination, i.ID.DestinationPort),
			Recv:      i.RQueue,
			Send:      i.WQueue,
			Listening: i.State == stateListen,
		})
	}
	return all, nil
}

// SocketInodes are the inodes of the sockets that a process holds.
func SocketInodes(pid int) ([]uint32, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return nil, err
	}
	targets, err := p.FileDescriptorTargets()
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	var inodes []uint32
	for _, t := range targets {
		number, ok := strings.CutPrefix(t, "socket:[")
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("process %d holds %s: %w", pid, t, err)
		}
		inodes = append(inodes, uint32(n))
	}
	return inodes, nil
}

// HeldBy picks the sockets that a process holds.
func HeldBy(pid int, sockets []Socket) ([]Socket, error) {
	inodes, err := SocketInodes(pid)
	if err != nil {
		return nil, err
	}
	var held []Socket
	for _, s := range sockets {
		if slices.Contains(inodes, s.Inode) {
			held = append(held, s)
		}
	}
	return held, nil
}
