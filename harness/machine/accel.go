package machine

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// accelerator is how QEMU runs a guest's instructions.
type accelerator string

const (
	accelKVM accelerator = "kvm"
	accelTCG accelerator = "tcg"
)

// accelProbe remembers, until the host's next boot, whether KVM really boots
// guests here: that /dev/kvm can be opened does not mean that it does.
type accelProbe struct {
	// Dir is a folder of the cache.
	Dir string
}

type accelAnswer struct {
	BootID string      `json:"boot"`
	Accel  accelerator `json:"accelerator"`
}

func (p accelProbe) file() string { return filepath.Join(p.Dir, "accelerator.json") }

// known returns the answer, or "" if only a trial can tell.
func (p accelProbe) known() (accelerator, error) {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return accelTCG, nil
	}
	f.Close()
	boot, err := bootID()
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(p.file())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	var answer accelAnswer
	if err := json.Unmarshal(text, &answer); err != nil || answer.BootID != boot {
		return "", nil // of another boot, or half written: try again
	}
	return answer.Accel, nil
}

func (p accelProbe) remember(accel accelerator) error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	text, err := json.Marshal(accelAnswer{boot, accel})
	if err != nil {
		return err
	}
	return os.WriteFile(p.file(), append(text, '\n'), 0o644)
}

func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}
