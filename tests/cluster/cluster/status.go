package cluster

import (
	"context"
	"errors"
	"fmt"
)

// Status gives a line for each process and each node.
//
// # Errors
// When a process has ended, a node isn't ready or the API server doesn't answer; the lines are given all the same.
func (c *Cluster) Status(ctx context.Context) ([]string, error) {
	var lines []string
	var failed error
	c.mutex.Lock()
	processes := c.state.Processes
	c.mutex.Unlock()
	for _, p := range processes {
		word := "runs"
		if !p.alive() {
			word = "has ended"
			failed = errors.Join(failed, fmt.Errorf("%s has ended: see %s/%s.log", p.Name, c.Logs(), p.Name))
		}
		lines = append(lines, fmt.Sprintf("process %-28s %7d %s", p.Name, p.PID, word))
	}
	ready, err := c.api.nodesReady(ctx)
	failed = errors.Join(failed, err)
	for i, name := range c.Nodes() {
		word := "Ready"
		if !ready[name] {
			word = "not Ready"
			failed = errors.Join(failed, fmt.Errorf("%s isn't ready", name))
		}
		cut, err := c.network.isCut(ctx, i+1)
		failed = errors.Join(failed, err)
		if cut {
			word += ", cut off"
		}
		lines = append(lines, fmt.Sprintf("node    %-28s %s %s, %s", name, c.network.nodeAddress(i+1), zone(i+1), word))
	}
	return lines, failed
}
