package cristats

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/engine/cri"
	"github.com/leaklab/leaklab/harness/part"
)

// client is a running caller process.
type client struct{ *part.Part }

// startClient starts a caller for the containers of some pods.
func startClient(ctx context.Context, lab arm.Lab, node *cri.Node, name string, pods ...cri.Pod) (client, error) {
	var containers []string
	for _, p := range pods {
		containers = append(containers, p.Container)
	}
	p, err := part.Start(ctx, "cristats", callerPart, filepath.Join(lab.Dir("callers"), name),
		"-cri", node.Socket(), "-containers", strings.Join(containers, ","))
	return client{p}, err
}

func (c client) status(ctx context.Context) (callerStatus, error) {
	var st callerStatus
	err := c.Ask(ctx, "status", nil, &st)
	return st, err
}

// tell gives a command that has no answer.
func (c client) tell(ctx context.Context, command string, p part.Params) error {
	return c.Ask(ctx, command, p, nil)
}
