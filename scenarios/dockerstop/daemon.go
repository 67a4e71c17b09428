package dockerstop

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sync/errgroup"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/engine"
	"github.com/leaklab/leaklab/harness/probe"
)

// daemon is one dockerd with one container that is stopped again and again.
type daemon struct {
	number int
	docker *engine.Docker
	// id is the container, pid its first process.
	id  string
	pid int
	// dose is the number of stops it gets in the first pass, made those it got.
	dose, made int
	// before is what was counted before the first stop, gain what has been added
	// at the last sample.
	before, gain map[string]float64
	tally        tally
}

const image = "workload"

// run is the daemon's exec-root, on the arm's tmpfs. It must
// be short: see [engine.Options].
func (d *daemon) run() string { return fmt.Sprintf("/run/d%d", d.number) }

// startDaemon starts a dockerd as it is out of the package: debug mode is off.
func (s setting) startDaemon(ctx context.Context, lab arm.Lab, number int) (*daemon, error) {
	d := &daemon{number: number}
	docker, err := engine.StartDocker(ctx, engine.Options{
		Bin:         lab.Bin("dockerd", ""),
		Dir:         lab.Dir(fmt.Sprintf("docker%d", number)),
		Run:         d.run(),
		SlaveMounts: s.Slave,
		Config:      map[string]any{"debug": false},
		Env:         s.env(),
	})
	if err != nil {
		return nil, fmt.Errorf("dockerd %d: %w", number, err)
	}
	d.docker = docker
	return d, nil
}

// prepare warms the daemon up, with a stop that works, and runs the container
// that will be held.
func (d *daemon) prepare(ctx context.Context, lab arm.Lab, held string) error {
	if err := d.docker.Import(ctx, image, lab.Bin("workload", "workload")); err != nil {
		return err
	}
	id, err := d.docker.Run(ctx, engine.Container{Name: "warm-up", Image: image, Cmd: []string{"/workload", "sleep"}, Network: "host"})
	if err != nil {
		return err
	}
	if err := d.stop(ctx, id); err != nil {
		return fmt.Errorf("stopping a container that can be stopped: %w", err)
	}
	if err := d.docker.Remove(ctx, id); err != nil {
		return err
	}
	d.id, err = d.docker.Run(ctx, engine.Container{
		Name: "held", Image: image, Cmd: []string{"/workload", "read", "/held/" + file},
		Network: "host", Binds: []string{held + ":/held"}, CgroupParent: heldParent,
	})
	if err != nil {
		return err
	}
	return d.findPID(ctx)
}

// startAgain starts the container again after it was stopped.
func (d *daemon) startAgain(ctx context.Context) error {
	if err := d.docker.Client().ContainerStart(ctx, d.id, container.StartOptions{}); err != nil {
		return err
	}
	return d.findPID(ctx)
}

func (d *daemon) findPID(ctx context.Context) error {
	info, err := d.docker.Client().ContainerInspect(ctx, d.id)
	if err != nil {
		return err
	}
	d.pid = info.State.Pid
	return nil
}

// grace is the t of every stop, in seconds: how long the daemon waits between
// the stop signal and SIGKILL.
const grace = 1

func (d *daemon) stop(ctx context.Context, id string) error {
	t := grace
	return d.docker.Client().ContainerStop(ctx, id, container.StopOptions{Timeout: &t})
}

// read counts what decides, and what is cheap.
func (d *daemon) read(ctx context.Context) (map[string]float64, error) {
	// First what is asked of the kernel: asking the daemon is a connection more,
	// for a moment longer than it takes.
	proc, err := probe.ReadProcess(d.docker.PID())
	if err != nil {
		return nil, err
	}
	sockets, err := d.connections()
	if err != nil {
		return nil, err
	}
	gs, err := d.docker.Pprof().Goroutines(ctx)
	if err != nil {
		return nil, err
	}
	alone := 0
	for _, s := range sockets {
		if s.Peer == 0 {
			alone++
		}
	}
	return map[string]float64{
		killing.Name:     float64(gs.In(inKill)),
		waiting.Name:     float64(gs.In(inWait)),
		attached.Name:    float64(gs.In(inConn)),
		goroutines.Name:  float64(gs.Total()),
		descriptors.Name: float64(proc.FDs),
		peerless.Name:    float64(alone),
		residentSet.Name: float64(proc.RSS),
	}, nil
}

// connections are the daemon's ends of its clients' connections. They bear the
// name of the socket on which they came in.
func (d *daemon) connections() ([]probe.Socket, error) {
	all, err := probe.UnixSockets()
	if err != nil {
		return nil, err
	}
	held, err := probe.HeldBy(d.docker.PID(), all)
	if err != nil {
		return nil, err
	}
	var clients []probe.Socket
	for _, s := range held {
		if !s.Listening && "unix://"+s.Name == d.docker.Host() {
			clients = append(clients, s)
		}
	}
	return clients, nil
}

// settled reads the counters once they have stood still for two looks. They may
// move a little after the last stop: an idle connection closes, a timer fires.
func (d *daemon) settled(ctx context.Context) (counters map[string]float64, still bool, err error) {
	const (
		every = 200 * time.Millisecond
		looks = 3
		bound = 10 * time.Second
	)
	d.docker.Client().Close() // only what is idle
	same := 1
	last, err := d.read(ctx)
	for deadline := time.Now().Add(bound); err == nil && same < looks && time.Now().Before(deadline); {
		if err = sleep(ctx, every); err != nil {
			break
		}
		if counters, err = d.read(ctx); err != nil {
			break
		}
		same++
		for _, c := range []arm.Counter{killing, waiting, goroutines, descriptors, peerless} {
			if counters[c.Name] != last[c.Name] {
				same = 1
			}
		}
		last = counters
	}
	if err != nil {
		return nil, false, err
	}
	// Live bytes, after the collections that asking for the profile brings about:
	// what lies in a sync.Pool survives one.
	for range 2 {
		if _, err := d.docker.Pprof().Get(ctx, "heap?gc=1"); err != nil {
			return nil, false, err
		}
	}
	if last[memory.Name], err = d.docker.Pprof().Memory(ctx); err != nil {
		return nil, false, err
	}
	return last, same >= looks, nil
}

// gained is what the counters have gained since before the first stop.
func (d *daemon) gained(now map[string]float64) map[string]float64 {
	gain := map[string]float64{}
	for name, v := range now {
		gain[name] = v - d.before[name]
	}
	return gain
}

// fleet are the arm's daemons, by dose.
type fleet []*daemon

// top is the daemon with the largest dose: the one whose evidence is kept.
func (f fleet) top() *daemon { return f[len(f)-1] }

// each does something with all daemons at once.
func (f fleet) each(ctx context.Context, do func(ctx context.Context, d *daemon) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, d := range f {
		group.Go(func() error {
			if err := do(ctx, d); err != nil {
				return fmt.Errorf("dockerd %d: %w", d.number, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// end stops all daemons and delivers the log of the last.
func (f fleet) end(lab arm.Lab) error {
	var errs []error
	for i, d := range f {
		d.docker.Kill()
		if i < len(f)-1 {
			continue
		}
		log, err := d.docker.Log()
		lab.File("dockerd.log", log)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
