package cristats

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"

	"github.com/moby/spdystream"
	"k8s.io/cri-api/pkg/apis/runtime/v1alpha2"

	"github.com/leaklab/leaklab/harness/engine/cri"
	"github.com/leaklab/leaklab/harness/part"
)

// streamProtocol is the newest remote-command protocol over SPDY: an error
// stream, and one for each of stdin, stdout and stderr that was asked for.
const streamProtocol = "v4.channel.k8s.io"

// stream runs a command through the streaming path: GetExec gives a URL of
// containerd's own server, which is spoken to in SPDY, as kubelet's proxy does
// for kubectl exec -i.
func (c *caller) stream(ctx context.Context) error {
	s, err := c.dial(ctx, listRoot)
	if err != nil {
		return err
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.stdin.Close(); err != nil {
		return err
	}
	out, err := io.ReadAll(s.stdout)
	if err != nil {
		return err
	}
	status, err := io.ReadAll(s.status)
	if err != nil {
		return err
	}
	if len(out) == 0 {
		return fmt.Errorf("the streaming exec printed nothing: %s", status)
	}
	return nil
}

// execStream is an open streaming exec.
type execStream struct {
	conn                  *spdystream.Connection
	stdin, stdout, status *spdystream.Stream
}

// Close ends it by closing the connection.
func (s *execStream) Close() error { return s.conn.Close() }

// dial starts a streaming exec and opens its streams.
func (c *caller) dial(ctx context.Context, command []string) (*execStream, error) {
	resp, err := c.cri.Exec(ctx, &v1alpha2.ExecRequest{ContainerId: c.containers[0], Cmd: command, Stdin: true, Stdout: true})
	if err != nil {
		return nil, err
	}
	at, err := url.Parse(resp.Url)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, resp.Url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "SPDY/3.1")
	req.Header.Set("X-Stream-Protocol-Version", streamProtocol)
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", at.Host)
	if err != nil {
		return nil, err
	}
	s, err := upgrade(raw, req)
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("streaming exec: %w", err)
	}
	return s, nil
}

// upgrade turns a connection into one of SPDY and opens the streams.
func upgrade(raw net.Conn, req *http.Request) (*execStream, error) {
	if err := req.Write(raw); err != nil {
		return nil, err
	}
	buffered := bufio.NewReader(raw)
	resp, err := http.ReadResponse(buffered, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, errors.New(resp.Status)
	}
	s := &execStream{}
	if s.conn, err = spdystream.NewConnection(bufferedConn{raw, buffered}, false); err != nil {
		return nil, err
	}
	go s.conn.Serve(spdystream.NoOpStreamHandler)
	for _, open := range []struct {
		kind   string
		stream **spdystream.Stream
	}{{"error", &s.status}, {"stdin", &s.stdin}, {"stdout", &s.stdout}} {
		*open.stream, err = s.conn.CreateStream(http.Header{"Streamtype": {open.kind}}, nil, false)
		if err == nil {
			err = (*open.stream).Wait()
		}
		if err != nil {
			return nil, errors.Join(err, s.conn.Close())
		}
	}
	return s, nil
}

// bufferedConn reads first what came with the upgrade's answer.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// heldStreams are streaming execs that are kept open.
type heldStreams struct {
	mu   sync.Mutex
	open []*execStream
}

// open starts streaming execs that wait for the end of their input.
func (c *caller) open(ctx context.Context, p part.Params) (any, error) {
	for range p["n"] {
		s, err := c.dial(ctx, []string{cri.Workload, "wait"})
		if err != nil {
			return nil, err
		}
		c.held.mu.Lock()
		c.held.open = append(c.held.open, s)
		c.held.mu.Unlock()
	}
	return nil, nil
}

// close ends the input of every stream, waits for its command to end, and
// closes the connection.
func (h *heldStreams) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, s := range h.open {
		errs = append(errs, s.stdin.Close())
		_, err := io.Copy(io.Discard, s.stdout)
		errs = append(errs, err, s.Close())
	}
	h.open = nil
	return errors.Join(errs...)
}
