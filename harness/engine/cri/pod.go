package cri

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
	"k8s.io/cri-api/pkg/apis/runtime/v1alpha2"
)

// Pod is a running pod with one container. The two share one shim.
type Pod struct {
	// ID is the sandbox's, Container that of its container.
	ID, Container string
	// Shim is the shim's process id.
	Shim int
}

// RunPod starts a pod in the node's network, and its container, which sleeps.
func (n *Node) RunPod(ctx context.Context, name string) (Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, callBound)
	defer cancel()
	config := &v1alpha2.PodSandboxConfig{
		Metadata: &v1alpha2.PodSandboxMetadata{Name: name, Uid: name, Namespace: "leaklab"},
		Linux: &v1alpha2.LinuxPodSandboxConfig{SecurityContext: &v1alpha2.LinuxSandboxSecurityContext{
			NamespaceOptions: &v1alpha2.NamespaceOption{Network: v1alpha2.NamespaceMode_NODE},
		}},
	}
	sandbox, err := n.Runtime().RunPodSandbox(ctx, &v1alpha2.RunPodSandboxRequest{Config: config})
	if err != nil {
		return Pod{}, fmt.Errorf("pod %s: %w", name, err)
	}
	p := Pod{ID: sandbox.PodSandboxId}
	created, err := n.Runtime().CreateContainer(ctx, &v1alpha2.CreateContainerRequest{
		PodSandboxId: p.ID,
		Config: &v1alpha2.ContainerConfig{
			Metadata: &v1alpha2.ContainerMetadata{Name: "workload"},
			Image:    &v1alpha2.ImageSpec{Image: ImageName},
			Command:  []string{Workload, "sleep"},
		},
		SandboxConfig: config,
	})
	if err != nil {
		return p, fmt.Errorf("pod %s: %w", name, err)
	}
	p.Container = created.ContainerId
	if _, err := n.Runtime().StartContainer(ctx, &v1alpha2.StartContainerRequest{ContainerId: p.Container}); err != nil {
		return p, fmt.Errorf("pod %s: %w", name, err)
	}
	p.Shim, err = shimOf(p.ID)
	return p, err
}

// RemovePod stops and removes a pod with its container. Like kubelet it repeats
// what containerd refuses while it is still busy with the end of a shim.
func (n *Node) RemovePod(ctx context.Context, p Pod) error {
	ctx, cancel := context.WithTimeout(ctx, callBound)
	defer cancel()
	for {
		err := n.removePod(ctx, p)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (n *Node) removePod(ctx context.Context, p Pod) error {
	if _, err := n.Runtime().StopPodSandbox(ctx, &v1alpha2.StopPodSandboxRequest{PodSandboxId: p.ID}); err != nil {
		return fmt.Errorf("stopping pod %.12s: %w", p.ID, err)
	}
	if _, err := n.Runtime().RemovePodSandbox(ctx, &v1alpha2.RemovePodSandboxRequest{PodSandboxId: p.ID}); err != nil {
		return fmt.Errorf("removing pod %.12s: %w", p.ID, err)
	}
	return nil
}

// KillShim ends a pod's shim. containerd notices, and ends the containers.
func (p Pod) KillShim() error { return unix.Kill(p.Shim, unix.SIGKILL) }

// shimOf finds the shim of a pod by its command line.
func shimOf(id string) (int, error) {
	procs, err := procfs.AllProcs()
	if err != nil {
		return 0, err
	}
	for _, p := range procs {
		args, err := p.CmdLine()
		if err != nil {
			continue // it has just ended
		}
		// "start" and "delete" are short-lived helpers of the same name.
		i := slices.Index(args, "-id")
		if i < 0 || i+1 >= len(args) || args[i+1] != id || slices.Contains(args, "start") || slices.Contains(args, "delete") {
			continue
		}
		return p.PID, nil
	}
	return 0, fmt.Errorf("no shim for pod %.12s", id)
}
