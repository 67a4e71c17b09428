package dockerstop

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/probe"
)

// profiles are a daemon's at one moment, in pprof's format.
type profiles struct{ heap, goroutines []byte }

func (d *daemon) profiles(ctx context.Context) (p profiles, err error) {
	if p.heap, err = d.docker.Pprof().Get(ctx, "heap?gc=1"); err != nil {
		return p, err
	}
	p.goroutines, err = d.docker.Pprof().Get(ctx, "goroutine")
	return p, err
}

// deliver hands in the profiles under names that the report pairs.
func (p profiles) deliver(lab arm.Lab, when string) {
	lab.File("dockerd-"+when+".heap.pb.gz", p.heap)
	lab.File("dockerd-"+when+".goroutine.pb.gz", p.goroutines)
}

// since delivers, as text, what a daemon has gained between two moments, and
// returns the heap's part.
func (p profiles) since(before profiles, lab arm.Lab) (probe.Heap, error) {
	var goroutines [2]probe.Goroutines
	var heap [2]probe.Heap
	for i, at := range []profiles{before, p} {
		var err error
		if goroutines[i], err = probe.ParseGoroutineProfile(at.goroutines); err != nil {
			return nil, err
		}
		if heap[i], err = probe.ParseHeap(at.heap); err != nil {
			return nil, err
		}
	}
	grown := heap[1].Since(heap[0])
	var text bytes.Buffer
	text.WriteString("What dockerd has gained between the moment before the first stop and the end.\n\nGoroutines by stack:\n")
	text.Write(goroutines[1].Since(goroutines[0]).Text())
	text.WriteString("\nHeap by allocation site:\n")
	text.Write(grown.Text(20))
	lab.File("dockerd-growth.txt", text.Bytes())
	return grown, nil
}

// deliverSockets writes the daemon's ends of its clients' connections as ss
// shows them.
func (d *daemon) deliverSockets(lab arm.Lab) error {
	sockets, err := d.connections()
	if err != nil {
		return err
	}
	var text bytes.Buffer
	fmt.Fprintln(&text, "dockerd's ends of its clients' connections (inode, peer's inode); peer 0: the client has gone")
	for _, s := range sockets {
		fmt.Fprintf(&text, "%s %d %d\n", s.Name, s.Inode, s.Peer)
	}
	lab.File("dockerd.sockets.txt", text.Bytes())
	return nil
}

// bufioOnTop reports whether the two sites of claim K4 are among the most that
// the heap has gained: at least one is the first, and both are among the first
// four.
func bufioOnTop(grown probe.Heap) (yes bool, detail string) {
	rank := map[string]int{}
	var top []string
	total := grown.Total()
	for i, s := range grown[:min(4, len(grown))] {
		rank[s.Func] = i + 1
		top = append(top, fmt.Sprintf("%s %.1f %%", s.Func, 100*float64(s.Bytes)/float64(total)))
	}
	reader, writer := rank["bufio.NewReaderSize"], rank["bufio.NewWriterSize"]
	return reader > 0 && writer > 0 && min(reader, writer) == 1, strings.Join(top, ", ")
}
