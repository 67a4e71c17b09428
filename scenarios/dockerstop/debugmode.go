package dockerstop

import (
	"context"
	"fmt"
	"time"

	"github.com/leaklab/leaklab/harness/arm"
)

// switchDebug switches the daemon's debug mode on as the report did: debug in
// daemon.json, and SIGHUP. It says whether that was enough, and whether the
// profiles could be read before.
func (d *daemon) switchDebug(ctx context.Context, lab arm.Lab) error {
	_, refused := d.docker.Pprof().Get(ctx, "goroutine")
	lab.Outcome(arm.OutcomeResult{Name: profilesAnyway, Trial: 1, Yes: refused == nil, Detail: fmt.Sprintf("profile before debug mode: error %v", refused)})

	was, err := d.debug(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := d.docker.Reload(map[string]any{"debug": true}); err != nil {
		return err
	}
	const bound = 5 * time.Second
	is := was
	for !is && time.Since(start) < bound {
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
		if is, err = d.debug(ctx); err != nil {
			return err
		}
	}
	lab.Outcome(arm.OutcomeResult{Name: debugBySIGHUP, Trial: 1, Yes: !was && is, Seconds: time.Since(start).Seconds(),
		Detail: fmt.Sprintf("docker info, Debug Mode: %v, after SIGHUP: %v", was, is)})
	return nil
}

func (d *daemon) debug(ctx context.Context) (bool, error) {
	info, err := d.docker.Client().Info(ctx)
	return info.Debug, err
}
