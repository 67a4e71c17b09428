package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// CleanStale removes what runs whose guardian was killed have left: their
// cgroups with everything in them, mounts and folders. Runs that are alive are
// left alone. It returns a line for each thing removed.
func CleanStale() ([]string, error) {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), RunPrefix+"*"))
	if err != nil {
		return nil, err
	}
	done, err := cleanSSH()
	errs := []error{err}
	for _, dir := range dirs {
		o := readOrder(dir)
		if o.Job.Arm == "" && youngerThan(dir, time.Minute) {
			continue // its guardian is just starting
		}
		lock := flock.New(filepath.Join(dir, lockFile))
		free, err := lock.TryLock()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !free {
			continue
		}
		if err := o.cleanUp(); err != nil {
			errs = append(errs, err)
		} else {
			done = append(done, "run folder "+dir)
		}
		lock.Unlock()
	}
	// Cgroups whose folder is gone.
	for _, h := range cgroup1Mounts() {
		orphans, _ := filepath.Glob(filepath.Join(h.Path, RunPrefix+"*"))
		for _, path := range orphans {
			name := filepath.Base(path)
			if held(path) || youngerThan(path, justMade) {
				continue
			}
			if err := removeCgroups("/" + name); err != nil {
				errs = append(errs, err)
				continue
			}
			done = append(done, "cgroup "+name)
		}
	}
	return done, errors.Join(errs...)
}

// justMade is how long a guardian may take from making a cgroup to locking it.
const justMade = 2 * time.Second

func youngerThan(path string, age time.Duration) bool {
	info, err := os.Stat(path)
	return err == nil && time.Since(info.ModTime()) < age
}

// readOrder reads what the guardian of a run was told. A run that never got
// that far has only its folder.
func readOrder(dir string) order {
	o := order{Dir: dir}
	if text, err := os.ReadFile(filepath.Join(dir, orderFile)); err == nil {
		if err := json.Unmarshal(text, &o); err != nil {
			return order{Dir: dir}
		}
	}
	o.Dir = dir
	return o
}

// AgentEvents is the stream on which "leaklab agent" tells its events.
func AgentEvents() (*os.File, error) {
	f := os.NewFile(eventsFD, "events")
	if _, err := f.Stat(); err != nil {
		return nil, fmt.Errorf("the agent is started by leaklab itself, not by hand: %w", err)
	}
	return f, nil
}
