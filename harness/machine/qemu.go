package machine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// board is the kind of machine that QEMU emulates.
type board string

const (
	// boardMicroVM has no BIOS, PCI or timers to wait for and enters an
	// uncompressed kernel directly; it takes one with a PVH entry.
	boardMicroVM board = "microvm"
	// boardPC boots everything.
	boardPC board = "pc"
)

// port is the guest's end of the stream of job and events.
type port string

const (
	portVirtio port = "virtio" // about 300 times faster than
	portSerial port = "ttyS1"
)

// portName is how the virtio port is known in the guest.
const portName = "leaklab"

// qemu is everything that shapes QEMU's command line.
type qemu struct {
	Accel     accelerator
	Board     board
	Port      port
	OldKernel bool
	MemoryMB  int
	CPUs      int
	Kernel    string
	Initramfs string
	Cmdline   []string
}

// layout picks the board and the port for a kernel, and the modules that the
// port needs.
//
// The microvm gets no ACPI, and without it a kernel finds no virtio device
// there. With ACPI there is no timer to fall back on when the processor's clock
// cannot be calibrated, as happens on a busy host: the guest then never boots.
func layout(pvh bool, has func(module string) bool) (board, port, []string) {
	if pvh {
		return boardMicroVM, portSerial, nil
	}
	virtio := []string{"virtio_pci", "virtio_console"}
	for _, module := range virtio {
		if !has(module) {
			return boardPC, portSerial, nil
		}
	}
	return boardPC, portVirtio, virtio
}

// args is the command line. QEMU's stdin and stdout are the port, its stderr
// is the guest's console.
func (q qemu) args() []string {
	args := []string{
		qemuBinary, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-m", strconv.Itoa(q.MemoryMB), "-smp", strconv.Itoa(max(q.CPUs, 1)),
		"-chardev", "stdio,id=port,signal=off",
		"-chardev", "file,id=console,path=/dev/stderr",
		"-serial", "chardev:console",
		"-kernel", q.Kernel, "-initrd", q.Initramfs, "-append", strings.Join(q.cmdline(), " "),
	}
	switch q.Accel {
	case accelKVM:
		args = append(args, "-accel", "kvm")
	default:
		// One thread: a guest boots faster so than with one per processor. The
		// cache of translated code would otherwise grow to a quarter of the
		// host's memory.
		args = append(args, "-accel", "tcg,thread=single,tb-size=128")
	}
	if q.Accel == accelKVM && !q.OldKernel {
		args = append(args, "-cpu", "host")
	} else {
		// QEMU 7.2 emulates cmpxchg16b with wrong flags, on which Linux 6.12
		// dies under load; all kernels do without that instruction.
		args = append(args, "-cpu", "qemu64,-cx16")
	}
	switch q.Board {
	case boardMicroVM:
		args = append(args, "-M", "microvm,x-option-roms=off,acpi=off", "-bios", "qboot.rom")
	default:
		args = append(args, "-M", "pc")
	}
	switch {
	case q.Port == portVirtio:
		args = append(args, "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=port,name="+portName)
	case q.Board == boardMicroVM: // which has but one of its own
		args = append(args, "-device", "isa-serial,chardev=port,index=1")
	default:
		args = append(args, "-serial", "chardev:port")
	}
	return args
}

// cmdline are the kernel's boot parameters.
func (q qemu) cmdline() []string {
	uarts := 1
	if q.Port == portSerial {
		uarts = 2
	}
	return slices.Concat([]string{
		"console=ttyS0", "quiet", "panic=-1", "oops=panic", "reboot=t",
		// What only costs time: hiding addresses, mitigations, self tests,
		// waiting for entropy and for hardware that is not there, memory that is
		// cleared twice, accounting of pressure.
		"nokaslr", "mitigations=off", "no_timer_check", "cryptomgr.notests", "random.trust_cpu=on",
		"init_on_alloc=0", "psi=0",
		fmt.Sprintf("8250.nr_uarts=%d", uarts),
	}, q.Cmdline, []string{"rdinit=" + GuestInit})
}
