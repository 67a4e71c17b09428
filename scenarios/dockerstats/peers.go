package dockerstats

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/leaklab/leaklab/harness/probe"
)

// peers names who is at the other end of the daemon's connections, as the
// report did with "ss -a --unix -p": how many connections each process holds.
func (s *subject) peers() (map[probe.Owner]int, error) {
	all, err := probe.UnixSockets()
	if err != nil {
		return nil, err
	}
	held, err := probe.HeldBy(s.docker.PID(), all)
	if err != nil {
		return nil, err
	}
	owners, err := probe.SocketOwners()
	if err != nil {
		return nil, err
	}
	count := map[probe.Owner]int{}
	var list bytes.Buffer
	for _, sock := range held {
		// Its end of a client's connection has the listener's name.
		if sock.Listening || sock.Peer == 0 || "unix://"+sock.Name != s.docker.Host() {
			continue
		}
		owner := owners[sock.Peer]
		count[owner]++
		fmt.Fprintf(&list, "%d  %d  %s\n", sock.Inode, sock.Peer, owner)
	}
	var text bytes.Buffer
	for _, owner := range byCount(count) {
		fmt.Fprintf(&text, "%d of dockerd's connections have their other end in %s\n", count[owner], owner)
	}
	fmt.Fprintf(&text, "\ndockerd's socket, its peer, and who holds that:\n%s", list.Bytes())
	s.lab.File("dockerd-peers.sockets.txt", text.Bytes())
	return count, nil
}

// byCount lists the processes, those with the most connections first.
func byCount(count map[probe.Owner]int) []probe.Owner {
	return slices.SortedFunc(maps.Keys(count), func(a, b probe.Owner) int {
		if count[a] != count[b] {
			return count[b] - count[a]
		}
		return a.PID - b.PID
	})
}
