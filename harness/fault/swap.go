package fault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Swap is a swap space in compressed memory (zram), as many systems of today
// have one. It is of the whole kernel, so only virtual machines should get it.
type Swap struct {
	device string // "/dev/zram0"
	on     bool
}

// SwapOn makes a swap space of the first zram device. It needs root and the
// module zram.
func SwapOn(bytes int64) (*Swap, error) {
	const name = "zram0"
	s := &Swap{device: filepath.Join("/dev", name)}
	size := filepath.Join("/sys/block", name, "disksize")
	if err := os.WriteFile(size, []byte(strconv.FormatInt(bytes, 10)), 0o644); err != nil {
		return nil, fmt.Errorf("making a swap space of zram: %w", err)
	}
	if err := writeSwapHeader(s.device, bytes); err != nil {
		return nil, errors.Join(err, s.reset())
	}
	if err := s.On(); err != nil {
		return nil, errors.Join(err, s.reset())
	}
	return s, nil
}

// writeSwapHeader does what mkswap does: union swap_header,
// include/linux/swap.h.
func writeSwapHeader(device string, bytes int64) error {
	page := make([]byte, os.Getpagesize())
	const info = 1024 // the first bytes are the boot loader's
	binary.NativeEndian.PutUint32(page[info:], 1)
	binary.NativeEndian.PutUint32(page[info+4:], uint32(bytes/int64(len(page))-1))
	copy(page[len(page)-10:], "SWAPSPACE2")
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(page, 0)
	return errors.Join(err, f.Sync(), f.Close())
}

// On lets the kernel swap to it.
func (s *Swap) On() error {
	if err := s.call(unix.SYS_SWAPON); err != nil {
		return fmt.Errorf("swapon %s: %w", s.device, err)
	}
	s.on = true
	return nil
}

// Off takes it away; what was in it goes back to memory.
func (s *Swap) Off() error {
	if err := s.call(unix.SYS_SWAPOFF); err != nil {
		return fmt.Errorf("swapoff %s: %w", s.device, err)
	}
	s.on = false
	return nil
}

func (s *Swap) call(number uintptr) error {
	path, err := unix.BytePtrFromString(s.device)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(number, uintptr(unsafe.Pointer(path)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// Remove takes the swap space away for good.
func (s *Swap) Remove() error {
	if s.on {
		if err := s.Off(); err != nil {
			return err
		}
	}
	return s.reset()
}

func (s *Swap) reset() error {
	return os.WriteFile(filepath.Join("/sys/block", filepath.Base(s.device), "reset"), []byte("1"), 0o644)
}
