package kernel

import (
	"bytes"
	"testing"

	. "github.com/onsi/gomega"
)

func TestVmlinuxOfEveryCompression(t *testing.T) {
	for name, payload := range map[string][]byte{
		"gzip": packed(t, gzipped, vmlinuxPVH), // ends with its size by itself
		"zstd": sized(packed(t, zstded, vmlinuxPVH), len(vmlinuxPVH)),
		"xz":   sized(packed(t, xzed, vmlinuxPVH), len(vmlinuxPVH)),
		"lz4":  sized(packed(t, lz4ed, vmlinuxPVH), len(vmlinuxPVH)),
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			b, err := parseBzImage(makeBzImage(el7Banner, payload))
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(b.release()).To(Equal(el7Release))
			g.Expect(b.banner).To(Equal(el7Banner))
			got, err := b.vmlinux()
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(bytes.Equal(got, vmlinuxPVH)).To(BeTrue())
		})
	}
}

func TestWhatIsNoBootImage(t *testing.T) {
	good := fakeImage(t)
	noVersion := bytes.Clone(good)
	noVersion[offVersion], noVersion[offVersion+1] = 0xff, 0xff
	old := bytes.Clone(good)
	old[offProtocol] = 0x02
	for name, c := range map[string]struct {
		image []byte
		says  string
	}{
		"empty":         {nil, "not an x86 boot image"},
		"text":          {bytes.Repeat([]byte("a"), 4096), "not an x86 boot image"},
		"cut off":       {good[:len(good)-50], "cut off"},
		"no version":    {noVersion, "its version lies outside"},
		"old protocol":  {old, "older than 2.08"},
		"only a header": {good[:offPayloadLength+4], "its version lies outside"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			_, err := parseBzImage(c.image)
			g.Expect(err).To(MatchError(errNotBzImage))
			g.Expect(err).To(MatchError(ContainSubstring(c.says)))
		})
	}
}

func TestPayloadThatIsNoKernel(t *testing.T) {
	for name, c := range map[string]struct {
		payload []byte
		says    string
	}{
		"no ELF":              {packed(t, gzipped, []byte("hello")), "no ELF image"},
		"unknown compression": {[]byte("\x89LZO\x00 and so on"), "unknown compression"},
		"damaged":             {packed(t, gzipped, vmlinuxPVH)[:40], "decompressing kernel " + el7Release},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			b, err := parseBzImage(makeBzImage(el7Banner, c.payload))
			g.Expect(err).NotTo(HaveOccurred())
			_, err = b.vmlinux()
			g.Expect(err).To(MatchError(ContainSubstring(c.says)))
		})
	}
}

func TestInSeries(t *testing.T) {
	for _, c := range []struct {
		release, series string
		want            bool
	}{
		{"6.1.0-50-cloud-amd64", "6.1", true},
		{"6.1", "6.1", true},
		{"6.12.107+deb13-cloud-amd64", "6.1", false},
		{"6.12.107+deb13-cloud-amd64", "6.12", true},
		{el7Release, "3.10", true},
		{"3.10.0", "3.10", true},
		{"3.1.10", "3.10", false},
		{"3.10.0", "", false},
	} {
		NewWithT(t).Expect(InSeries(c.release, c.series)).To(Equal(c.want), "%s in %s", c.release, c.series)
	}
}
