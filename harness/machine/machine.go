// Package machine runs jobs somewhere: on this host in throw-away namespaces,
// or in a virtual machine. Whatever the place, a job goes in, the agent's
// events come back, and nothing stays behind.
package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/leaklab/leaklab/harness/arm"
)

// Machine is a place where an agent can run.
type Machine interface {
	// Name is what --machine calls it.
	Name() string
	// Lacks says in one line what keeps the arm from running here, and what to
	// do about it; nil when it can run.
	Lacks(a arm.Arm) error
	// Run runs one job and hands on every event. It returns nil once the agent
	// has said done. When ctx ends it stops the agent and still cleans up.
	Run(ctx context.Context, a arm.Arm, job arm.Job, emit func(arm.Event)) error
}

// OnRequest marks machines that are used only when they are asked for by name.
type OnRequest interface{ OnRequest() }

// ErrInterrupted reports a job that was stopped from outside.
var ErrInterrupted = errors.New("interrupted")

// follow hands on the events of an agent until its stream ends, and says how
// the agent ended.
func follow(events io.Reader, emit func(arm.Event)) error {
	lines := bufio.NewReaderSize(events, 1<<16)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 1 {
			var e arm.Event
			if jsonErr := json.Unmarshal(line, &e); jsonErr != nil {
				return fmt.Errorf("the agent's stream is broken: %w (%.60q)", jsonErr, line)
			}
			switch e.Type {
			case arm.EventDone:
				emit(e)
				return nil
			case arm.EventFailed:
				return &AgentError{Text: e.Text}
			}
			emit(e)
		}
		if err != nil {
			return errAgentGone
		}
	}
}

// errAgentGone reports a stream that ended without a last word: the agent was
// killed.
var errAgentGone = errors.New("the agent ended without a last word (killed, or out of memory?)")

// AgentError is a failure that the agent itself told.
type AgentError struct{ Text string }

func (e *AgentError) Error() string { return firstLine(e.Text) }

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// Names lists machines by name.
func Names(ms []Machine) []string {
	names := make([]string, len(ms))
	for i, m := range ms {
		names[i] = m.Name()
	}
	slices.Sort(names)
	return names
}
