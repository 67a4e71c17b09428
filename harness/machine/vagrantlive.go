package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/leaklab/leaklab/harness/arm"
)

// liveBox is a box's machine that is up and that we are connected to.
type liveBox struct {
	box     box
	vagrant vagrantFolder
	ssh     sshConfig
	lock    *flock.Flock
	// have are the things in the box's store, own the box's own runtimes.
	have map[string]bool
	own  map[string]ownRuntime
}

// ownRuntime is an engine of the box's own packages.
type ownRuntime struct{ Package, SHA256 string }

// Where things are in a box. Provisioning makes boxOwn.
const (
	boxStore = "/opt/leaklab"
	boxOwn   = "/var/lib/leaklab/own"
)

// bringUp brings a folder's machine up and connects to it.
func bringUp(ctx context.Context, folder string, b box, progress func(string)) (_ *liveBox, err error) {
	live := &liveBox{box: b, vagrant: vagrantFolder(folder)}
	if live.lock, err = lockBox(folder, b.Name); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, live.unlock())
		}
	}()
	if err := live.vagrant.up(ctx, progress); err != nil {
		return nil, err
	}
	progress("connecting to the box " + b.Name)
	config, err := live.vagrant.output(ctx, "ssh-config")
	if err != nil {
		return nil, err
	}
	if live.ssh, err = newSSHConfig(config); err != nil {
		return nil, err
	}
	if err := live.inventory(ctx); err != nil {
		return nil, errors.Join(err, live.disconnect())
	}
	return live, nil
}

// lockBox keeps other leaklabs out of a box while one uses it.
func lockBox(folder, name string) (*flock.Flock, error) {
	dir := os.Getenv("VAGRANT_DOTFILE_PATH")
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(folder, ".vagrant")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(dir, "leaklab-"+name+".lock"))
	if ok, err := lock.TryLock(); err != nil {
		return nil, err
	} else if !ok {
		return nil, fmt.Errorf("another leaklab uses the box %s at the moment", name)
	}
	return lock, nil
}

func (l *liveBox) unlock() error { return l.lock.Unlock() }

// disconnect ends the connection; the machine stays.
func (l *liveBox) disconnect() error { return l.ssh.close() }

// inventory asks the box what it has.
func (l *liveBox) inventory(ctx context.Context) error {
	script := `for thing in ` + boxStore + `/have/*; do [ -e "$thing" ] && echo "have ${thing##*/}"; done
for dir in ` + boxOwn + `/*/; do
	[ -d "$dir" ] || continue
	name=$(basename "$dir")
	echo "own $name $(cat "` + boxOwn + `/$name.version") $(sha256sum "$dir$name" | cut -d ' ' -f 1)"
done
true`
	out, err := l.ssh.output(ctx, nil, script)
	if err != nil {
		return err
	}
	l.have, l.own = map[string]bool{}, map[string]ownRuntime{}
	for line := range strings.Lines(out) {
		switch f := strings.Fields(line); {
		case len(f) == 2 && f[0] == "have":
			l.have[f[1]] = true
		case len(f) == 4 && f[0] == "own":
			l.own[f[1]] = ownRuntime{Package: f[2], SHA256: f[3]}
		}
	}
	return nil
}

// run pushes what the job needs and runs it.
func (l *liveBox) run(ctx context.Context, job arm.Job, emit func(arm.Event)) error {
	self, err := selfThing()
	if err != nil {
		return err
	}
	things := []thing{self}
	inBox := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(job.Runtimes)) {
		bin := job.Runtimes[name]
		entry := filepath.Dir(bin)
		if own, ok := l.own[name]; ok && l.box.hasOwn(name, entry) {
			inBox[name] = boxOwn + "/" + name
			emit(arm.Event{Type: arm.EventRuntime, Name: name, Fields: map[string]string{"version": own.Package, "digest": own.SHA256}})
			continue
		}
		t := thing{Name: filepath.Base(entry), Path: bin}
		things = append(things, t)
		inBox[name] = t.inBox()
	}
	if err := l.push(ctx, things, func(text string) { emit(arm.Event{Type: arm.EventProgress, Text: text}) }); err != nil {
		return err
	}
	job.Runtimes = inBox
	emit(arm.Event{Type: arm.EventNote, Text: "in the Vagrant box " + l.box.Name})
	return l.runPushed(ctx, self, job, emit)
}

// push copies to the box what it has not yet.
func (l *liveBox) push(ctx context.Context, things []thing, progress func(string)) error {
	var missing []thing
	for _, t := range things {
		if !l.have[t.Name] {
			missing = append(missing, t)
			progress("pushing " + t.Name + " to the box")
		}
	}
	if len(missing) == 0 {
		return nil
	}
	read, write := io.Pipe()
	go func() { write.CloseWithError(archiveThings(write, missing)) }()
	defer read.Close()
	// Each thing is there as a whole or not at all. Of leaklab itself the newest
	// is enough.
	_, err := l.ssh.output(ctx, read, `sudo sh -ec 'store=`+boxStore+`
rm -rf $store/in
mkdir -p $store/in $store/have
tar -xzf - -C $store/in
for thing in $store/in/*; do
	case ${thing##*/} in leaklab-*) rm -rf $store/have/leaklab-* ;; esac
	rm -rf "$store/have/${thing##*/}"
	mv "$thing" $store/have/
done'`)
	if err != nil {
		return fmt.Errorf("pushing to the box: %w", err)
	}
	for _, t := range missing {
		l.have[t.Name] = true
	}
	return nil
}

// runPushed runs a job by the binary that is in the box.
func (l *liveBox) runPushed(ctx context.Context, self thing, job arm.Job, emit func(arm.Event)) error {
	line, err := json.Marshal(job)
	if err != nil {
		return err
	}
	var told bytes.Buffer
	// Not bound to ctx: the agent is to let go of its faults first.
	cmd := l.ssh.command(context.Background(), "sudo "+self.inBox()+" box")
	cmd.Stderr = &told
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	events, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting ssh: %w", err)
	}
	stopped := context.AfterFunc(ctx, func() {
		stdin.Close()
		time.AfterFunc(2*stopGrace, func() { _ = cmd.Process.Kill() }) // it may have ended
	})
	_, err = stdin.Write(append(line, '\n'))
	if err == nil {
		err = follow(events, emit)
	}
	stopped()
	if err != nil {
		stdin.Close()
	}
	// After its last word the box still cleans up; the input's end would tell it
	// to stop.
	io.Copy(io.Discard, events)
	stdin.Close()
	waitErr := cmd.Wait()
	var agentErr *AgentError
	var exit *exec.ExitError
	switch {
	case errors.As(err, &agentErr):
		return err
	case errors.As(waitErr, &exit) && exit.ExitCode() == sshFailed:
		why := "it does not answer any more"
		if told.Len() > 0 {
			why = lastLine(told.String())
		}
		return fmt.Errorf("the connection to the box %s was lost: %s", l.box.Name, why)
	case err == nil && waitErr != nil:
		return fmt.Errorf("in the box, after the arm: %s", lastLine(told.String()))
	case errors.Is(err, errAgentGone) && told.Len() > 0:
		return fmt.Errorf("the box could not run the arm: %s", lastLine(told.String()))
	}
	return err
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return "no reason was given"
	}
	return strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
}
