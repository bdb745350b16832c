package cluster

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Status is what a member says of the cluster (`GET /v1/cluster`).
type Status struct {
	Member struct {
		ID            string `json:"id"`
		Name          string `json:"name"`
		Participation string `json:"participation"`
		Ready         bool   `json:"ready"`
		Reason        string `json:"reason"`
		Groups        struct {
			Promoting int `json:"promoting"`
			Incoming  int `json:"incoming"`
		} `json:"groups"`
	} `json:"member"`
	View *struct {
		Number  uint64 `json:"number"`
		Members []struct {
			ID        string `json:"id"`
			Name      string `json:"name"`
			Suspected bool   `json:"suspected"`
		} `json:"members"`
	} `json:"view"`
	Health struct {
		UnderReplicated int `json:"underReplicatedGroups"`
	} `json:"health"`
}

// Status asks the member.
func (m *Member) Status() (*Status, error) {
	body, err := m.get(m.API, "/v1/cluster")
	if err != nil {
		return nil, err
	}
	status := new(Status)
	if err := json.Unmarshal(body, status); err != nil {
		return nil, fmt.Errorf("/v1/cluster of %s: %w", m.Name, err)
	}
	return status, nil
}

// Ready says whether the member would be sent requests.
func (m *Member) Ready() bool {
	status, err := m.Status()
	return err == nil && status.Member.Ready
}

// ids are the incarnations in the view, by name.
func (s *Status) ids() map[string]string {
	ids := map[string]string{}
	if s.View != nil {
		for _, m := range s.View.Members {
			ids[m.Name] = m.ID
		}
	}
	return ids
}

// settled says what keeps this member from being at rest in a view of so many members.
func (s *Status) settled(members int) error {
	name := s.Member.Name
	switch {
	case s.View == nil:
		return fmt.Errorf("%s has no view: %s", name, s.Member.Reason)
	case !s.Member.Ready:
		return fmt.Errorf("%s is not ready: %s", name, s.Member.Reason)
	case s.Member.Participation != "member":
		return fmt.Errorf("%s is %s", name, s.Member.Participation)
	case len(s.View.Members) != members:
		return fmt.Errorf("view %d of %s has %d members, not %d", s.View.Number, name, len(s.View.Members), members)
	case s.Health.UnderReplicated > 0 || s.Member.Groups.Incoming > 0:
		return fmt.Errorf("%s knows %d groups that miss copies", name, s.Health.UnderReplicated)
	case s.Member.Groups.Promoting > 0:
		return fmt.Errorf("%s takes over %d groups", name, s.Member.Groups.Promoting)
	}
	for _, m := range s.View.Members {
		if m.Suspected {
			return fmt.Errorf("%s suspects %s", name, m.Name)
		}
	}
	return nil
}

// View is the number of the view that a member has installed.
func (c *Cluster) View(m *Member) uint64 {
	c.T.Helper()
	status, err := m.Status()
	c.Must(err)
	if status.View == nil {
		c.T.Fatalf("%s has no view", m.Name)
	}
	return status.View.Number
}

// Metric is the sum over the series of a metric that a member shows on its admin port; 0 when there is none.
func (c *Cluster) Metric(m *Member, name string) float64 {
	c.T.Helper()
	body, err := m.get(m.Admin, "/metrics")
	c.Must(err)
	var total float64
	lines := bufio.NewScanner(bytes.NewReader(body))
	for lines.Scan() {
		rest, ours := strings.CutPrefix(lines.Text(), name)
		if !ours || rest == "" || (rest[0] != '{' && rest[0] != ' ') {
			continue
		}
		value, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		c.Must(err)
		total += value
	}
	return total
}

// Logged says whether any member's log holds a text.
func (c *Cluster) Logged(text string) bool {
	for _, m := range c.Members {
		if log, err := os.ReadFile(m.log); err == nil && strings.Contains(string(log), text) {
			return true
		}
	}
	return false
}

// Count says how many lines of a member's log hold a text.
func (c *Cluster) Count(m *Member, text string) int {
	log, err := os.ReadFile(m.log)
	c.Must(err)
	return strings.Count(string(log), text)
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
