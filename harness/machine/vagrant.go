package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/leaklab/leaklab/harness/arm"
)

// Vagrant is a whole virtual machine with the distribution of a report: one of
// the boxes in the folder vagrant/, brought up by vagrant, with the same binary
// pushed into it. Inside, the arm runs as [Host] runs it.
//
// A machine that is up is used and left up; one that could not be brought up is
// destroyed again. It is used when it is asked for, never by itself.
type Vagrant struct {
	// Dir is the folder with versions.yml and the boxes' folders.
	Dir string
	// Box is the box for every arm. Empty takes the one of the arm's report.
	Box string
	// Destroy destroys the machines that were used, in the end.
	Destroy bool

	boxes    boxes
	installs error // whether vagrant and a provider are there, once looked at
	looked   bool
	// One arm at a time: arms that run side by side would count each other's.
	mu      sync.Mutex
	current *liveBox // the one that is in use
}

// VagrantDirVariable names the folder vagrant/ where it is not found by itself.
const VagrantDirVariable = "LEAKLAB_VAGRANT"

// Name implements [Machine].
func (*Vagrant) Name() string { return "vagrant" }

// OnRequest implements [OnRequest]: it downloads boxes and takes minutes.
func (*Vagrant) OnRequest() {}

// Lacks implements [Machine]. It does not look whether a box can be had.
func (v *Vagrant) Lacks(a arm.Arm) error {
	if !v.looked {
		v.installs = v.look()
		v.looked = true
	}
	if v.installs != nil {
		return v.installs
	}
	_, err := v.boxes.forArm(a, v.Box)
	return err
}

// look finds the folder, vagrant and a provider.
func (v *Vagrant) look() error {
	if err := selfIsStatic(); err != nil {
		return err
	}
	if v.Dir == "" {
		dir, err := findVagrantDir()
		if err != nil {
			return err
		}
		v.Dir = dir
	}
	var err error
	if v.boxes, err = readBoxes(filepath.Join(v.Dir, versionsFile)); err != nil {
		return err
	}
	if _, err := exec.LookPath("vagrant"); err != nil {
		return errors.New("needs vagrant (on Debian: apt-get install --no-install-recommends vagrant vagrant-libvirt libvirt-daemon-system)")
	}
	if _, err := exec.LookPath("ssh"); err != nil {
		return errors.New("needs ssh (on Debian: apt-get install openssh-client)")
	}
	return providerIsThere()
}

// findVagrantDir looks for vagrant/ from the working directory and from the
// binary's folder upwards, which finds it in a clone.
func findVagrantDir() (string, error) {
	if dir := os.Getenv(VagrantDirVariable); dir != "" {
		return filepath.Abs(dir)
	}
	var starts []string
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	for _, dir := range starts {
		for ; ; dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, "vagrant", versionsFile)); err == nil {
				return filepath.Join(dir, "vagrant"), nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", fmt.Errorf("needs the folder vagrant/ of leaklab's sources: run it in a clone, or set %s", VagrantDirVariable)
}

// Run implements [Machine].
func (v *Vagrant) Run(ctx context.Context, a arm.Arm, job arm.Job, emit func(arm.Event)) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if ctx.Err() != nil {
		return ErrInterrupted
	}
	b, err := v.boxes.forArm(a, v.Box)
	if err != nil {
		return err
	}
	progress := func(text string) { emit(arm.Event{Type: arm.EventProgress, Text: text}) }
	live, err := v.bringUp(ctx, b, progress)
	if err == nil {
		err = live.run(ctx, job, emit)
	}
	if ctx.Err() != nil {
		return ErrInterrupted
	}
	return err
}

// bringUp returns the box's machine, ready for jobs. One of another box is let
// go first: two would not fit on a small host.
func (v *Vagrant) bringUp(ctx context.Context, b box, progress func(string)) (*liveBox, error) {
	if v.current != nil && v.current.box.Name == b.Name {
		return v.current, nil
	}
	if err := v.letGo(); err != nil {
		return nil, err
	}
	live, err := bringUp(ctx, filepath.Join(v.Dir, b.Name), b, progress)
	if err != nil {
		return nil, err
	}
	v.current = live
	return live, nil
}

// Close lets go of the machine in use, and destroys it if that is wanted.
func (v *Vagrant) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.letGo()
}

func (v *Vagrant) letGo() error {
	live := v.current
	v.current = nil
	if live == nil {
		return nil
	}
	err := live.disconnect()
	if v.Destroy {
		err = errors.Join(err, live.vagrant.destroy())
	}
	return errors.Join(err, live.unlock())
}

// tellingPart picks from what vagrant has printed the line that says what went
// wrong.
func tellingPart(output string) string {
	var lines []string
	for line := range strings.FieldsFuncSeq(output, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	for _, line := range lines {
		for _, k := range knownTroubles {
			if strings.Contains(line, k.sign) {
				if k.words == "" {
					_, told, _ := strings.Cut(line, "leaklab: ")
					return told
				}
				return k.words
			}
		}
	}
	if len(lines) == 0 {
		return "it said nothing"
	}
	return lines[0]
}

// knownTroubles are what vagrant says at bad ends that have a remedy, with our
// words for it. Where there are none, the line is our own.
var knownTroubles = []struct{ sign, words string }{
	{"leaklab: checksum mismatch", ""},
	{"leaklab: cannot fetch", ""},
	{"LEAKLAB_KERNEL: ", "the kernel in LEAKLAB_KERNEL is not in vagrant/versions.yml"},
	{"No usable default provider", "vagrant has no provider that works here: install vagrant-libvirt and libvirt, or VirtualBox"},
	{"provider 'libvirt' could not be found", "vagrant has no plugin for libvirt (on Debian: apt-get install vagrant-libvirt)"},
	{"provider 'virtualbox' that was requested", "VirtualBox is not installed"},
	{"Call to virConnectOpen failed", "libvirt does not answer: is libvirtd running, and may this user use it (group libvirt)?"},
	{"could not be found or", "the box is not here and cannot be fetched: vagrant box add, or LEAKLAB_BOX for another"},
	{"couldn't be found", "the box is not here and cannot be fetched: vagrant box add, or LEAKLAB_BOX for another"},
	{"error occurred while downloading the remote file", "the box cannot be downloaded: vagrant box add it from a file, or LEAKLAB_BOX for another"},
	{"checksum of the downloaded box did not match", "the box that was downloaded has another checksum than it should have"},
	{"Volume for domain is already created", "an earlier machine has left its volume: virsh vol-list default, then virsh vol-delete"},
	{"Timed out while waiting for the machine to boot", "the machine does not boot within vagrant's bound"},
	{"does not support domain type 'kvm'", "KVM does not work here: LEAKLAB_LIBVIRT_DRIVER=qemu emulates"},
	{"Could not access KVM kernel module", "KVM does not work here: LEAKLAB_LIBVIRT_DRIVER=qemu emulates"},
}
