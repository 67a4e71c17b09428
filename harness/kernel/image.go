package kernel

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/therootcompany/xz"
)

// bzImage is a parsed x86 boot image (Documentation/arch/x86/boot.rst).
type bzImage struct {
	// banner is the version line: "6.1.0-50-cloud-amd64 (…) #1 SMP …".
	banner string
	// payload is the compressed vmlinux.
	payload []byte
}

// errNotBzImage reports a file that is no x86 boot image.
var errNotBzImage = errors.New("not an x86 boot image (bzImage)")

// Offsets in the setup header.
const (
	offSetupSects    = 0x1f1
	offMagic         = 0x202
	offProtocol      = 0x206
	offVersion       = 0x20e
	offPayload       = 0x248
	offPayloadLength = 0x24c
	sectorSize       = 512
)

func parseBzImage(image []byte) (bzImage, error) {
	if len(image) < offPayloadLength+4 || !bytes.Equal(image[offMagic:offMagic+4], []byte("HdrS")) {
		return bzImage{}, errNotBzImage
	}
	le := binary.LittleEndian
	if protocol := le.Uint16(image[offProtocol:]); protocol < 0x208 {
		return bzImage{}, fmt.Errorf("%w: boot protocol %#x is older than 2.08", errNotBzImage, protocol)
	}
	var b bzImage
	at := int(le.Uint16(image[offVersion:])) + sectorSize
	if at >= len(image) {
		return bzImage{}, fmt.Errorf("%w: its version lies outside", errNotBzImage)
	}
	banner, _, found := bytes.Cut(image[at:min(len(image), at+sectorSize)], []byte{0})
	if !found || len(bytes.Fields(banner)) == 0 {
		return bzImage{}, fmt.Errorf("%w: it has no version", errNotBzImage)
	}
	b.banner = string(banner)
	sectors := int(image[offSetupSects])
	if sectors == 0 {
		sectors = 4 // the boot protocol's default
	}
	start := (sectors+1)*sectorSize + int(le.Uint32(image[offPayload:]))
	end := start + int(le.Uint32(image[offPayloadLength:]))
	if start >= end || end > len(image) {
		return bzImage{}, fmt.Errorf("%w: it is cut off", errNotBzImage)
	}
	b.payload = image[start:end]
	return b, nil
}

// release is the first word of the banner.
func (b bzImage) release() string { return strings.Fields(b.banner)[0] }

// vmlinux decompresses the ELF image.
func (b bzImage) vmlinux() ([]byte, error) {
	stream := b.payload
	if !bytes.HasPrefix(stream, magicGzip) {
		// Except after gzip, which has it already, the build appends the
		// uncompressed size in four bytes.
		stream = stream[:max(0, len(stream)-4)]
	}
	r, err := decompress(stream)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", b.release(), err)
	}
	image, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("decompressing kernel %s: %w", b.release(), err)
	}
	if !bytes.HasPrefix(image, []byte("\x7fELF")) {
		return nil, fmt.Errorf("kernel %s: what was compressed is no ELF image", b.release())
	}
	return image, nil
}

// The first bytes of compressed streams.
var (
	magicGzip  = []byte{0x1f, 0x8b}
	magicXZ    = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	magicZstd  = []byte{0x28, 0xb5, 0x2f, 0xfd}
	magicLZ4   = []byte{0x02, 0x21, 0x4c, 0x18} // the legacy frame that kernels use
	magicBzip2 = []byte("BZh")
)

// decompress picks a decompressor by the stream's first bytes.
func decompress(stream []byte) (io.Reader, error) {
	r := bytes.NewReader(stream)
	switch {
	case bytes.HasPrefix(stream, magicGzip):
		z, err := gzip.NewReader(r)
		if err == nil {
			z.Multistream(false)
		}
		return z, err
	case bytes.HasPrefix(stream, magicXZ):
		z, err := xz.NewReader(r, 0)
		if err == nil {
			z.Multistream(false)
		}
		return z, err
	case bytes.HasPrefix(stream, magicZstd):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case bytes.HasPrefix(stream, magicLZ4):
		return lz4.NewReader(r), nil
	case bytes.HasPrefix(stream, magicBzip2):
		return bzip2.NewReader(r), nil
	}
	return nil, fmt.Errorf("unknown compression (starts with % x)", stream[:min(len(stream), 6)])
}
