package dockerstats

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leaklab/leaklab/harness/probe"
)

// The report's polling: 20 containers, every 10 seconds.
const (
	reportContainers = 20
	reportPeriod     = 10 // seconds
	reportRate       = reportContainers / reportPeriod
	reportDay        = 24 * 60 * 60 * reportRate
)

// tellHeadline sets the rate of the calls against the report's, and both
// against the number of descriptors that the daemon may have.
func (s *subject) tellHeadline() error {
	var limit unix.Rlimit
	if err := unix.Prlimit(s.docker.PID(), unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		return fmt.Errorf("dockerd's descriptor limit: %w", err)
	}
	rate := float64(s.sent) / s.sending.Seconds()
	s.lab.Note("%d hung calls in %.2f s, %.0f a second; the report's agent makes %d a second (%d containers every %d s), so its day of %d calls takes %.0f s here",
		s.sent, s.sending.Seconds(), rate, reportRate, reportContainers, reportPeriod, reportDay, reportDay/rate)
	hours := float64(limit.Cur) / reportRate / 3600
	s.lab.Note("dockerd may have %d descriptors on this machine: the report's agent uses them up in %.1f h, this one in %.0f s",
		limit.Cur, hours, float64(limit.Cur)/rate)
	return nil
}

// atLimit lowers the daemon's descriptor limit to a little above what it has,
// makes calls beyond it and shows that it then answers nobody. It sets the
// limit back.
func (s *subject) atLimit(ctx context.Context) error {
	const room, calls = 16, 40
	proc, err := probe.ReadProcess(s.docker.PID())
	if err != nil {
		return err
	}
	var before unix.Rlimit
	low := unix.Rlimit{Cur: uint64(proc.FDs + room)}
	if err := unix.Prlimit(s.docker.PID(), unix.RLIMIT_NOFILE, nil, &before); err != nil {
		return fmt.Errorf("dockerd's descriptor limit: %w", err)
	}
	low.Max = before.Max
	if err := unix.Prlimit(s.docker.PID(), unix.RLIMIT_NOFILE, &low, nil); err != nil {
		return fmt.Errorf("dockerd's descriptor limit: %w", err)
	}
	if err := s.poll(ctx, calls); err != nil {
		return err
	}
	answers := s.answers(ctx)
	says, sayErr := s.saysTooMany(ctx)
	if err := unix.Prlimit(s.docker.PID(), unix.RLIMIT_NOFILE, &before, nil); err != nil {
		return fmt.Errorf("dockerd's descriptor limit: %w", err)
	}
	if sayErr != nil {
		return sayErr
	}
	s.tell(mute, !answers && says, "%d calls with room for %d: a ping is answered %v, \"accept4: too many open files\" in the log %v",
		calls, room, answers, says)
	return nil
}

// answers reports whether the daemon answers a ping on a new connection.
func (s *subject) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return s.docker.Ping(ctx) == nil
}

// saysTooMany waits a little for the daemon to complain in its log.
func (s *subject) saysTooMany(ctx context.Context) (bool, error) {
	for bound := time.Now().Add(3 * time.Second); ; {
		log, err := s.docker.Log()
		if err != nil {
			return false, err
		}
		if bytes.Contains(log, []byte("accept4: too many open files")) {
			return true, nil
		}
		if time.Now().After(bound) {
			return false, nil
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return false, err
		}
	}
}
