package probe

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
)

// Pprof reads the profiles that a Go program serves below /debug/pprof/ on a
// unix socket. Every read uses a connection of its own and closes it, so that
// the probe leaves no goroutine and no descriptor in the counters.
type Pprof struct {
	// Socket is the path of the program's (debug) socket.
	Socket string
}

// Get fetches a profile by name and query: "goroutine", "goroutine?debug=2",
// "heap?gc=1".
func (p Pprof) Get(ctx context.Context, profile string) ([]byte, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", p.Socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://unix/debug/pprof/"+profile, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w", profile, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("profile %s: %s", profile, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// Goroutines fetches and reads the goroutine profile.
func (p Pprof) Goroutines(ctx context.Context) (Goroutines, error) {
	data, err := p.Get(ctx, "goroutine")
	if err != nil {
		return nil, err
	}
	return ParseGoroutineProfile(data)
}

// Dump fetches and reads the goroutine dump with states and waiting times.
func (p Pprof) Dump(ctx context.Context) (Goroutines, error) {
	data, err := p.Get(ctx, "goroutine?debug=2")
	if err != nil {
		return nil, err
	}
	return ParseGoroutineDump(data)
}

// Heap fetches and reads the heap profile, after a garbage collection.
func (p Pprof) Heap(ctx context.Context) (Heap, error) {
	data, err := p.Get(ctx, "heap?gc=1")
	if err != nil {
		return nil, err
	}
	return ParseHeap(data)
}

// Memory fetches what the Go run-time of the process has in use for its heap
// and its stacks together, in bytes, without a garbage collection.
func (p Pprof) Memory(ctx context.Context) (float64, error) {
	text, err := p.Get(ctx, "heap?debug=1")
	if err != nil {
		return 0, err
	}
	return parseMemory(text)
}

// parseMemory reads the figures at the end of a heap profile as text:
// "# HeapInuse = 123" and "# Stack = in use / from the system".
func parseMemory(text []byte) (float64, error) {
	sum := 0.0
	for _, name := range []string{"# HeapInuse = ", "# Stack = "} {
		_, rest, ok := bytes.Cut(text, []byte("\n"+name))
		if !ok {
			return 0, fmt.Errorf("heap profile: it has no line %q", name)
		}
		var n float64
		if _, err := fmt.Sscan(string(rest[:min(len(rest), 32)]), &n); err != nil {
			return 0, fmt.Errorf("heap profile, %q: %w", name, err)
		}
		sum += n
	}
	return sum, nil
}
