package probe

import (
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
