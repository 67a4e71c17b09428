package probe

import (
	"context"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	. "github.com/onsi/gomega"
)

// hang blocks goroutines in a function with a name to look for.
func hang(n int) (release func()) {
	stop := make(chan struct{})
	started := make(chan struct{})
	for range n {
		go func() { started <- struct{}{}; waitForever(stop) }()
		<-started
	}
	return func() { close(stop) }
}

//go:noinline
func waitForever(stop chan struct{}) { <-stop }

// hoard holds memory from a site with a name to look for.
//
//go:noinline
func hoard(n int) []byte { return make([]byte, n) }

// serveProfiles serves this process's own profiles on a unix socket.
func serveProfiles(t *testing.T) Pprof {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return Pprof{Socket: socket}
}

func TestGoroutinesByStack(t *testing.T) {
	g := NewWithT(t)
	p := serveProfiles(t)
	release := hang(7)
	defer release()
	profile, err := p.Goroutines(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Eventually(func() int { gs, _ := p.Goroutines(t.Context()); return gs.In("probe.waitForever") }).Should(Equal(7))
	g.Expect(profile.In("probe.waitForever", "probe.noSuchFunction")).To(BeZero())
	g.Expect(profile.Total()).To(BeNumerically(">", 7))

	dump, err := p.Dump(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	stacks := dump.Holding("probe.waitForever")
	g.Expect(stacks).To(HaveLen(1))
	g.Expect(stacks[0].State).To(Equal("chan receive"))
	g.Expect(stacks[0].Count).To(Equal(7))
	g.Expect(string(stacks.Text())).To(ContainSubstring("probe_test.go"))
}

func TestDumpsAmongOtherText(t *testing.T) {
	g := NewWithT(t)
	// As a shim prints on SIGUSR1, among its log.
	gs, err := ParseGoroutineDump([]byte(`time="2021" level=info msg="=== BEGIN goroutine stack dump ===
goroutine 12 [select, 3 minutes]:
github.com/containerd/ttrpc.(*serverConn).run(0xc0001)
	/go/ttrpc/server.go:404 +0x5ee
created by github.com/containerd/ttrpc.(*Server).Serve
	/go/ttrpc/server.go:127 +0x2a7

`))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(gs.In("ttrpc.(*serverConn).run")).To(Equal(1))
	g.Expect(gs[0].Minutes).To(Equal(3))
	g.Expect(gs[0].Frames[0].String()).To(Equal("server.go:404 ttrpc.(*serverConn).run"))
	_, err = ParseGoroutineDump([]byte("no dump"))
	g.Expect(err).To(MatchError(ContainSubstring("there is none")))
	_, err = ParseGoroutineProfile([]byte("no profile"))
	g.Expect(err).To(HaveOccurred())
}

func TestHeapBySite(t *testing.T) {
	g := NewWithT(t)
	p := serveProfiles(t)
	held := hoard(64 << 20)
	h, err := p.Heap(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(h.At("probe.hoard").Bytes).To(BeNumerically(">=", len(held)))
	g.Expect(h.Total()).To(BeNumerically(">=", h.At("probe.hoard").Bytes))
	g.Expect(h[0].Func).To(HaveSuffix("probe.hoard"), "the largest comes first")
	runtime.KeepAlive(held)
}

func TestProcess(t *testing.T) {
	g := NewWithT(t)
	before, err := ReadProcess(os.Getpid())
	g.Expect(err).NotTo(HaveOccurred())
	f, err := os.Open("/dev/null")
	g.Expect(err).NotTo(HaveOccurred())
	defer f.Close()
	after, err := ReadProcess(os.Getpid())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(after.FDs).To(Equal(before.FDs + 1))
	g.Expect(after.RSS).To(BeNumerically(">", 1<<20))
	_, err = ReadProcess(1 << 30)
	g.Expect(err).To(HaveOccurred())
}

func TestSocketsTheirQueuesAndPeers(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			g := NewWithT(t)
			addr := "127.0.0.1:0"
			list := TCPSockets
			if network == "unix" {
				addr, list = filepath.Join(t.TempDir(), "s"), UnixSockets
			}
			l, err := net.Listen(network, addr)
			g.Expect(err).NotTo(HaveOccurred())
			defer l.Close()
			client, err := net.Dial(network, l.Addr().String())
			g.Expect(err).NotTo(HaveOccurred())
			defer client.Close()
			server, err := l.Accept()
			g.Expect(err).NotTo(HaveOccurred())
			_, err = client.Write(make([]byte, 1000))
			g.Expect(err).NotTo(HaveOccurred())

			held := func() []Socket {
				all, err := list()
				g.Expect(err).NotTo(HaveOccurred())
				held, err := HeldBy(os.Getpid(), all)
				g.Expect(err).NotTo(HaveOccurred())
				var connected []Socket
				for _, s := range held {
					if !s.Listening && s.Recv > 0 {
						connected = append(connected, s)
					}
				}
				return connected
			}
			g.Eventually(held).Should(HaveLen(1))
			s := held()[0]
			g.Expect(s.Recv).To(BeEquivalentTo(1000))
			if network == "unix" {
				g.Expect(s.Peer).NotTo(BeZero())
				client.Close()
				g.Eventually(func() uint32 { return held()[0].Peer }).Should(BeZero(), "the peer has gone")
			}
			server.Close()
			g.Eventually(held).Should(BeEmpty())
		})
	}
}

func TestProfilesThatAreNotServed(t *testing.T) {
	g := NewWithT(t)
	_, err := serveProfiles(t).Get(t.Context(), "no-such-profile")
	g.Expect(err).To(MatchError(ContainSubstring("404")))
	_, err = Pprof{Socket: "/nonexistent"}.Get(context.Background(), "heap")
	g.Expect(err).To(HaveOccurred())
}
