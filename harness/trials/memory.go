package trials

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/bisect"
)

// Memory keeps what trials have shown, a file per subject, so that a second
// bisection is instant and an interrupted one continues.
type Memory struct {
	// Dir is the folder; it is made when needed.
	Dir string
}

// subject is all that a trial's answer depends on.
type subject struct {
	Scenario string `json:"scenario"`
	Arm      string `json:"arm"`
	// Plan without its number of trials.
	Plan arm.Plan `json:"plan"`
	// Runtimes are the digests of the subjects, by reference.
	Runtimes map[string]string `json:"runtimes"`
	Machine  string            `json:"machine"`
	Kernel   string            `json:"kernel"`
	// Leaklab is the SHA-256 of the program, which holds the arm.
	Leaklab string `json:"leaklab"`
}

// record is what is remembered of a subject.
type record struct {
	Subject subject       `json:"subject"`
	Counts  bisect.Counts `json:"counts"`
	// Cannot says why it cannot be tested, Since when that was found.
	Cannot string    `json:"cannot,omitempty"`
	Since  time.Time `json:"since,omitzero"`
}

// cannotFor is how long it is believed that something cannot be tested: a build
// may have failed for want of a network.
const cannotFor = 24 * time.Hour

func (m Memory) file(s subject) (string, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return filepath.Join(m.Dir, s.Scenario+"-"+s.Arm+"-"+hex.EncodeToString(sum[:8])+".json"), nil
}

// recall returns what is known; an empty record where nothing is.
func (m Memory) recall(s subject) (record, error) {
	file, err := m.file(s)
	if err != nil {
		return record{}, err
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return record{Subject: s}, nil
	}
	if err != nil {
		return record{}, err
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return record{}, fmt.Errorf("what is remembered in %s cannot be read (remove it): %w", file, err)
	}
	if time.Since(r.Since) > cannotFor {
		r.Cannot = ""
	}
	return r, nil
}

// forget removes what is known.
func (m Memory) forget(s subject) error {
	file, err := m.file(s)
	if err != nil {
		return err
	}
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// add remembers more trials, or that there cannot be any. Other processes may
// be adding to the same subject.
func (m Memory) add(ctx context.Context, s subject, c bisect.Counts, cannot error) error {
	file, err := m.file(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(m.Dir, 0o755); err != nil {
		return fmt.Errorf("trials cannot be remembered (set LEAKLAB_CACHE): %w", err)
	}
	lock := flock.New(file + ".lock")
	if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return err
	}
	defer lock.Unlock()
	r, err := m.recall(s)
	if err != nil {
		return err
	}
	r.Counts, r.Cannot = r.Counts.Plus(c), ""
	if cannot != nil {
		r.Cannot, r.Since = cannot.Error(), time.Now().UTC().Truncate(time.Second)
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	// Beside its place first, so that a full disk leaves no half of it.
	if err := os.WriteFile(file+".new", append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
