package kernel

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
)

func silent(string) {}

func moduleNames(ms []Module) []string {
	var names []string
	for _, m := range ms {
		names = append(names, m.Name)
	}
	return names
}

func TestRPMBecomesAKernel(t *testing.T) {
	g := NewWithT(t)
	cache := Cache{Dir: t.TempDir()}
	rpm := writeTemp(t, "kernel.rpm", el7RPM(t))
	k, err := cache.Resolve(context.Background(), rpm, "", silent)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(k.Release).To(Equal(el7Release))
	g.Expect(k.Name).To(Equal(el7Release))
	g.Expect(k.Origin).To(Equal("rpm kernel-3.10.0-862.9.1.el7.x86_64"))
	g.Expect(k.Series("3.10")).To(BeTrue())
	g.Expect(k.PVH()).To(BeTrue())
	g.Expect(k.Knows("cgroup.memory=")).To(BeTrue())
	g.Expect(k.Knows("cgroup.mem=")).To(BeFalse())
	g.Expect(filepath.Join(k.Dir, "root")).NotTo(BeAnExistingFile())

	m, err := k.Modules()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(m.Has("8250")).To(BeTrue(), "built in")
	g.Expect(m.Has("virtio-console")).To(BeTrue(), "either spelling")
	loaded, err := m.Load("virtio_console", "8250", "fuse", "virtio")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(moduleNames(loaded)).To(Equal([]string{"virtio", "virtio_ring", "virtio_console", "fuse"}))
	for _, l := range loaded {
		g.Expect(bytes.HasPrefix(l.Object, []byte("\x7fELF"))).To(BeTrue(), "uncompressed")
	}
	_, err = m.Load("zram")
	g.Expect(err).To(MatchError(ErrNoModule))

	g.Expect(cache.Obtainable("3.10")).To(Succeed())
	for _, ref := range []string{"3.10", el7Release, k.Digest[:12]} {
		again, err := cache.Named(context.Background(), ref, silent)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(again).To(Equal(k), ref)
	}
}

func TestRPMOverHTTP(t *testing.T) {
	g := NewWithT(t)
	rpm := el7RPM(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/kernel.rpm":
			w.Write(rpm)
		case "/broken-off.rpm":
			w.Header().Set("Content-Length", "1000000")
			w.Write(rpm)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	cache := Cache{Dir: t.TempDir()}
	k, err := cache.Resolve(context.Background(), server.URL+"/kernel.rpm", "", silent)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(k.Release).To(Equal(el7Release))
	for _, path := range []string{"/none.rpm", "/broken-off.rpm"} {
		_, err = cache.Resolve(context.Background(), server.URL+path, "", silent)
		g.Expect(err).To(MatchError(ErrUnavailable), path)
	}
	g.Expect(filepath.Glob(filepath.Join(cache.Dir, ".find-*"))).To(BeEmpty())
}

// A package that is cut off or changed anywhere is refused, and leaves nothing.
func TestDamagedRPMIsRefused(t *testing.T) {
	good := el7RPM(t)
	cases := map[string][]byte{
		"only the lead":     good[:96],
		"half a header":     good[:400],
		"half a payload":    good[:len(good)-len(good)/3],
		"one byte short":    good[:len(good)-1],
		"other end":         flip(good, len(good)-1),
		"other payload":     flip(good, len(good)-len(good)/4),
		"changed file name": bytes.Replace(good, []byte("vmlinuz-"), []byte("vmlinux-"), 1),
		"other machine":     makeRPM(t, "aarch64", map[string][]byte{"/boot/vmlinuz": fakeImage(t)}),
		"without an image":  makeRPM(t, "x86_64", map[string][]byte{"/etc/motd": []byte("hello")}),
	}
	for name, data := range cases {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			cache := Cache{Dir: t.TempDir()}
			_, err := cache.Resolve(context.Background(), writeTemp(t, "kernel.rpm", data), "", silent)
			g.Expect(err).To(MatchError(ErrUnavailable))
			g.Expect(err.Error()).NotTo(ContainSubstring("\n"))
			g.Expect(cache.Entries()).To(BeEmpty())
		})
	}
}

func flip(data []byte, at int) []byte {
	changed := bytes.Clone(data)
	changed[at] ^= 0x40
	return changed
}

func TestBareImageWithModules(t *testing.T) {
	g := NewWithT(t)
	cache := Cache{Dir: t.TempDir()}
	image := writeTemp(t, "bzImage", fakeImage(t))
	bare, err := cache.Resolve(context.Background(), image, "", silent)
	g.Expect(err).NotTo(HaveOccurred())
	m, err := bare.Modules()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(m.Has("fuse")).To(BeFalse())

	modules := t.TempDir()
	g.Expect(os.MkdirAll(filepath.Join(modules, "kernel/fs"), 0o755)).To(Succeed())
	g.Expect(os.WriteFile(filepath.Join(modules, "kernel/fs/fuse.ko"), makeModule(""), 0o644)).To(Succeed())
	g.Expect(os.WriteFile(filepath.Join(modules, "modules.order"), nil, 0o644)).To(Succeed())
	with, err := cache.Resolve(context.Background(), image, modules, silent)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(with.Dir).NotTo(Equal(bare.Dir))
	m, err = with.Modules()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(m.Has("fuse")).To(BeTrue())

	_, err = cache.Resolve(context.Background(), image, t.TempDir(), silent)
	g.Expect(err).To(MatchError(ContainSubstring("no modules in")))
	_, err = cache.Resolve(context.Background(), writeTemp(t, "kernel.rpm", el7RPM(t)), modules, silent)
	g.Expect(err).To(MatchError(ContainSubstring("brings its own modules")))
}

func TestDamagedEntryIsMadeAgain(t *testing.T) {
	g := NewWithT(t)
	cache := Cache{Dir: t.TempDir()}
	image := writeTemp(t, "bzImage", fakeImage(t))
	k, err := cache.Resolve(context.Background(), image, "", silent)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(os.WriteFile(k.Vmlinux(), []byte("other"), 0o644)).To(Succeed())
	_, err = cache.Lookup("3.10")
	g.Expect(err).To(MatchError(ContainSubstring("vmlinux is not what was unpacked")))

	var said []string
	again, err := cache.Resolve(context.Background(), image, "", func(s string) { said = append(said, s) })
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(said).To(ContainElement(ContainSubstring("damaged")))
	g.Expect(again.verify()).To(Succeed())
}

func TestUnknownNames(t *testing.T) {
	g := NewWithT(t)
	cache := Cache{Dir: t.TempDir()}
	_, err := cache.Resolve(context.Background(), "4.19", "", silent)
	g.Expect(err).To(MatchError(ErrUnknown))
	_, err = cache.Resolve(context.Background(), "3.10", "", silent)
	g.Expect(err).To(MatchError(ErrUnavailable))
	g.Expect(err).To(MatchError(ContainSubstring("leaklab kernels add")))
	g.Expect(cache.Obtainable("3.10")).To(MatchError(ErrUnavailable))
	g.Expect(cache.Obtainable("6.1")).To(Succeed())
	_, err = cache.Resolve(context.Background(), "/no/such/bzImage", "", silent)
	g.Expect(err).To(MatchError(os.ErrNotExist))
}

func TestAptErrorIsItsFirst(t *testing.T) {
	g := NewWithT(t)
	text := "W: something\nE: The repository 'x' does not have a Release file.\nE: another\n"
	g.Expect(aptError(text, os.ErrInvalid)).To(Equal("The repository 'x' does not have a Release file."))
	g.Expect(aptError("", os.ErrInvalid)).To(Equal("invalid argument"))
}
