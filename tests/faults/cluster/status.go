package cluster

import (
	"errors"
	"os"
	"strings"
	"time"
)

// Status is what a member says of the cluster.
type Status struct {
	View    uint64
	Members []string
}

// Status asks the member.
func (m *Member) Status() (*Status, error) { return nil, errors.New("not there") }

// settled
func (s *Status) settled(name string, members map[string]bool) error { return nil }

// View is the number of the view that a member has installed.
func (c *Cluster) View(m *Member) uint64 {
	c.T.Helper()
	status, err := m.Status()
	c.Must(err)
	return status.View
}

// Logged says whether any member's log holds a text.
func (c *Cluster) Logged(text string) bool {
	for _, m := range c.Members {
		log, err := os.ReadFile(m.log)
		if err == nil && strings.Contains(string(log), text) {
			return true
		}
	}
	return false
}

// EndInOrder ends a member with SIGTERM, as a person or the platform would, and expects exit code 0.
func (c *Cluster) EndInOrder(m *Member) {
	c.T.Helper()
	code, err := m.Stop(60 * time.Second)
	c.Must(err)
	if code != 0 {
		c.T.Fatalf("%s ended with code %d after SIGTERM", m.Name, code)
	}
}

// Count says how many lines of a member's log hold a text.
func (c *Cluster) Count(m *Member, text string) int {
	log, err := os.ReadFile(m.log)
	c.Must(err)
	return strings.Count(string(log), text)
}
