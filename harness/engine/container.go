package engine

import (
	"context"
	"fmt"

	"github.com/docker/docker/api/types/container"
)

// Container says what a container runs.
type Container struct {
	// Name has two characters or more; dockerd wants that.
	Name  string
	Image string
	Cmd   []string
	// Network is "none" unless set. A container on it still has a network
	// namespace and a sandbox.
	Network string
	// Binds are bind mounts, "/host/path:/path:ro".
	Binds []string
	// CgroupParent replaces the daemon's, below the arm's own cgroup.
	CgroupParent string
}

// Run creates and starts a container and returns its id.
func (d *Docker) Run(ctx context.Context, c Container) (id string, err error) {
	if c.Network == "" {
		c.Network = "none"
	}
	created, err := d.client.ContainerCreate(ctx,
		&container.Config{Image: c.Image, Cmd: c.Cmd},
		&container.HostConfig{
			NetworkMode: container.NetworkMode(c.Network),
			Binds:       c.Binds,
			Resources:   container.Resources{CgroupParent: c.CgroupParent},
		}, nil, nil, c.Name)
	if err != nil {
		return "", fmt.Errorf("creating container %s: %w", c.Name, err)
	}
	if err := d.client.ContainerStart(ctx, created.ID, container.StartOptions{}); err != nil {
		return "", fmt.Errorf("starting container %s: %w", c.Name, err)
	}
	return created.ID, nil
}

// Remove ends a container and removes it.
func (d *Docker) Remove(ctx context.Context, id string) error {
	if err := d.client.ContainerRemove(ctx, id, container.RemoveOptions{Force: true}); err != nil {
		return fmt.Errorf("removing container %.12s: %w", id, err)
	}
	return nil
}

// RestartContainer restarts a container as "docker restart -t 0" does.
func (d *Docker) RestartContainer(ctx context.Context, id string) error {
	now := 0
	if err := d.client.ContainerRestart(ctx, id, container.StopOptions{Timeout: &now}); err != nil {
		return fmt.Errorf("restarting container %.12s: %w", id, err)
	}
	return nil
}

// Address is the container's IPv4 address on the default bridge; empty when it
// has none.
func (d *Docker) Address(ctx context.Context, id string) (string, error) {
	info, err := d.client.ContainerInspect(ctx, id)
	if err != nil {
		return "", fmt.Errorf("inspecting container %.12s: %w", id, err)
	}
	if info.NetworkSettings == nil {
		return "", nil
	}
	if bridge := info.NetworkSettings.Networks["bridge"]; bridge != nil {
		return bridge.IPAddress, nil
	}
	return "", nil
}
