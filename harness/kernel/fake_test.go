package kernel

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/rpmpack"
	"github.com/klauspost/compress/zstd"
	. "github.com/onsi/gomega"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

// section is one section of a made ELF file; a note is also a segment.
type section struct {
	name string
	data []byte
	note bool
}

// makeELF makes the smallest ELF file that has these sections.
func makeELF(sections ...section) []byte {
	const headerSize, progSize, sectionSize = 64, 56, 64
	le := binary.LittleEndian
	names := []byte{0}
	var body, progs, heads []byte
	nProgs := 0
	for _, s := range sections {
		if s.note {
			nProgs++
		}
	}
	at := headerSize + nProgs*progSize
	heads = append(heads, make([]byte, sectionSize)...) // the null section
	addSection := func(name string, kind elf.SectionType, data []byte) {
		h := make([]byte, sectionSize)
		le.PutUint32(h, uint32(len(names)))
		le.PutUint32(h[4:], uint32(kind))
		le.PutUint64(h[24:], uint64(at+len(body)))
		le.PutUint64(h[32:], uint64(len(data)))
		names = append(append(names, name...), 0)
		heads = append(heads, h...)
		body = append(body, data...)
	}
	for _, s := range sections {
		if s.note {
			p := make([]byte, progSize)
			le.PutUint32(p, uint32(elf.PT_NOTE))
			le.PutUint64(p[8:], uint64(at+len(body)))
			le.PutUint64(p[32:], uint64(len(s.data)))
			progs = append(progs, p...)
		}
		addSection(s.name, elf.SHT_PROGBITS, s.data)
	}
	all := append(names, ".shstrtab\x00"...)
	h := make([]byte, sectionSize)
	le.PutUint32(h, uint32(len(names)))
	le.PutUint32(h[4:], uint32(elf.SHT_STRTAB))
	le.PutUint64(h[24:], uint64(at+len(body)))
	le.PutUint64(h[32:], uint64(len(all)))
	heads, body = append(heads, h...), append(body, all...)

	head := make([]byte, headerSize)
	copy(head, "\x7fELF\x02\x01\x01")
	le.PutUint16(head[16:], uint16(elf.ET_REL))
	le.PutUint16(head[18:], uint16(elf.EM_X86_64))
	le.PutUint32(head[20:], 1)
	le.PutUint64(head[32:], headerSize)
	le.PutUint64(head[40:], uint64(at+len(body)))
	le.PutUint16(head[52:], headerSize)
	le.PutUint16(head[54:], progSize)
	le.PutUint16(head[56:], uint16(nProgs))
	le.PutUint16(head[58:], sectionSize)
	le.PutUint16(head[60:], uint16(len(heads)/sectionSize))
	le.PutUint16(head[62:], uint16(len(heads)/sectionSize-1))
	return bytes.Join([][]byte{head, progs, body, heads}, nil)
}

// makeNote makes an ELF note.
func makeNote(owner string, kind uint32) []byte {
	n := make([]byte, 12)
	binary.LittleEndian.PutUint32(n, uint32(len(owner)+1))
	binary.LittleEndian.PutUint32(n[4:], 4)
	binary.LittleEndian.PutUint32(n[8:], kind)
	name := append([]byte(owner), 0)
	for len(name)%4 != 0 {
		name = append(name, 0)
	}
	return append(append(n, name...), 1, 2, 3, 4)
}

// vmlinuxPVH is a kernel with PVH entry that knows one boot parameter.
var vmlinuxPVH = makeELF(
	section{name: ".notes", data: append(makeNote("Linux", 1), makeNote("Xen", xenPhys32Entry)...), note: true},
	section{name: ".init.data", data: []byte("\x00cgroup.memory=\x00quiet\x00")},
)

// makeBzImage wraps a payload as a boot image does.
func makeBzImage(banner string, payload []byte) []byte {
	const sectors = 4
	image := make([]byte, (sectors+1)*sectorSize)
	le := binary.LittleEndian
	image[offSetupSects] = sectors
	copy(image[offMagic:], "HdrS")
	le.PutUint16(image[offProtocol:], 0x20f)
	const versionAt = 0x300
	le.PutUint16(image[offVersion:], versionAt-sectorSize)
	copy(image[versionAt:], banner+"\x00")
	const before = 64 // some code first
	le.PutUint32(image[offPayload:], before)
	le.PutUint32(image[offPayloadLength:], uint32(len(payload)))
	image = append(image, make([]byte, before)...)
	return append(append(image, payload...), "code after it"...)
}

// sized appends the size that the kernel's build does.
func sized(stream []byte, size int) []byte {
	return binary.LittleEndian.AppendUint32(stream, uint32(size))
}

func packed(t testing.TB, make func(io.Writer) (io.WriteCloser, error), data []byte) []byte {
	g := NewWithT(t)
	var b bytes.Buffer
	w, err := make(&b)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = w.Write(data)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(w.Close()).To(Succeed())
	return b.Bytes()
}

func gzipped(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }
func zstded(w io.Writer) (io.WriteCloser, error)  { return zstd.NewWriter(w) }
func xzed(w io.Writer) (io.WriteCloser, error)    { return xz.NewWriter(w) }
func lz4ed(w io.Writer) (io.WriteCloser, error) {
	z := lz4.NewWriter(w)
	return z, z.Apply(lz4.LegacyOption(true))
}

// el7Banner is the report's kernel.
const el7Release = "3.10.0-862.9.1.el7.x86_64"

const el7Banner = el7Release + " (mockbuild@x86) #1 SMP Mon Jul 16 16:29:36 UTC 2018"

// fakeImage is a boot image of the report's kernel.
func fakeImage(t testing.TB) []byte {
	return makeBzImage(el7Banner, packed(t, gzipped, vmlinuxPVH))
}

// makeModule makes a module that depends on others.
func makeModule(depends string) []byte {
	return makeELF(section{name: ".modinfo", data: []byte("license=GPL\x00depends=" + depends + "\x00intree=Y\x00")})
}

// makeRPM makes a package of these files.
func makeRPM(t testing.TB, arch string, files map[string][]byte) []byte {
	g := NewWithT(t)
	r, err := rpmpack.NewRPM(rpmpack.RPMMetaData{Name: "kernel", Version: "3.10.0", Release: "862.9.1.el7", Arch: arch, OS: "linux", Compressor: "xz"})
	g.Expect(err).NotTo(HaveOccurred())
	for name, body := range files {
		r.AddFile(rpmpack.RPMFile{Name: name, Body: body, Mode: 0o100644, Owner: "root", Group: "root"})
	}
	var b bytes.Buffer
	g.Expect(r.Write(&b)).To(Succeed())
	return b.Bytes()
}

// el7RPM is laid out as the distribution's package.
func el7RPM(t testing.TB) []byte {
	modules := "/lib/modules/" + el7Release
	return makeRPM(t, "x86_64", map[string][]byte{
		"/boot/vmlinuz-" + el7Release:                                   fakeImage(t),
		"/boot/System.map-" + el7Release:                                []byte("ffffffff81000000 T _text\n"),
		modules + "/kernel/fs/fuse/fuse.ko.xz":                          packed(t, xzed, makeModule("")),
		modules + "/kernel/drivers/char/virtio_console.ko.xz":           packed(t, xzed, makeModule("virtio,virtio_ring")),
		modules + "/kernel/drivers/virtio/virtio.ko.xz":                 packed(t, xzed, makeModule("")),
		modules + "/kernel/drivers/virtio/virtio_ring.ko.xz":            packed(t, xzed, makeModule("")),
		modules + "/modules.builtin":                                    []byte("kernel/drivers/tty/serial/8250/8250.ko\n"),
		"/usr/share/doc/kernel-keys/" + el7Release + "/kernel-sign.cer": []byte("certificate"),
	})
}

func writeTemp(t testing.TB, name string, data []byte) string {
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
