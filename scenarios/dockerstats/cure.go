package dockerstats

import (
	"context"
	"fmt"
	"time"
)

// cure lets calls hang, heals the containers, and waits for the calls to
// return.
func (s *subject) cure(ctx context.Context) error {
	if err := s.poll(ctx, 50); err != nil {
		return err
	}
	before, err := s.status(ctx)
	if err != nil {
		return err
	}
	if err := s.setting.Cure(ctx, s); err != nil {
		return err
	}
	for healed := time.Now(); ; {
		after, err := s.status(ctx)
		if err != nil {
			return err
		}
		if after.hanging() == 0 || time.Since(healed) > longPatience {
			s.tell(cured, before.hanging() > 0 && after.hanging() == 0, "%d calls hung before, %d after %.1f s",
				before.hanging(), after.hanging(), time.Since(healed).Seconds())
			break
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	s.patient = true // what hung was the past
	return nil
}

func restartContainers(ctx context.Context, s *subject) error {
	for _, id := range s.ids {
		if err := s.docker.RestartContainer(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func replaceContainers(ctx context.Context, s *subject) error {
	for i, id := range s.ids {
		if err := s.docker.Remove(ctx, id); err != nil {
			return err
		}
		var err error
		if s.ids[i], err = s.run(ctx, s.names[i]); err != nil {
			return err
		}
	}
	return nil
}

// tellAddresses answers claim S15: it makes a new container and compares
// addresses.
func (s *subject) tellAddresses(ctx context.Context) error {
	old, err := s.docker.Address(ctx, s.ids[0])
	if err != nil {
		return err
	}
	id, err := s.run(ctx, "newcomer")
	if err != nil {
		return err
	}
	address, err := s.docker.Address(ctx, id)
	if err != nil {
		return err
	}
	if old == "" || address == "" {
		return fmt.Errorf("a container on the bridge has no address (%q, %q)", old, address)
	}
	s.tell(addressTwice, old == address, "the one that runs has %s, the new one %s", old, address)
	return s.docker.Remove(ctx, id)
}
