package faults

import (
	"testing"
	"time"

	"example.com/sidegrid/faults/cluster"
)

// drainTimeout is how long a member may take to hand over; far longer than it needs.
const drainTimeout = 60 * time.Second

// TestSessionsSurvive: with two owners, nothing acknowledged is lost when one member is killed, each is restarted in
// turn, and the cluster grows to five and shrinks to two by drains (W-1, M-1, M-2, C-3, T-1).
func TestSessionsSurvive(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Members: 3, Announced: faultWarnings})
	s := writeSessions(t, "sessions", sized(2_000, 20_000), c.Members)
	s.allReadable("at first", c.Members)

	victim := c.Members[1]
	c.Must(victim.Kill())
	s.allReadable("after the kill of "+victim.Name, without(c.Members, victim))
	c.WaitFormed(without(c.Members, victim)...)
	c.Must(victim.Start())
	c.WaitFormed(c.Members...)
	s.allReadable("with "+victim.Name+" back", c.Members)

	for _, m := range c.Members {
		c.EndInOrder(m)
		c.Must(m.Start())
		c.WaitFormed(c.Members...)
		s.allReadable("after the restart of "+m.Name, c.Members)
	}
	growAndShrink(c, s)
}

// TestDrainsAloneLoseNothing: with a single owner there is no second copy, and still an orderly leave loses nothing.
func TestDrainsAloneLoseNothing(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Members: 3, Caches: map[string]map[string]any{
		"single": {"mode": "distributed", "owners": 1},
	}})
	s := writeSessions(t, "single", sized(2_000, 20_000), c.Members)
	s.allReadable("at first", c.Members)
	growAndShrink(c, s)
}

// growAndShrink takes a cluster of three to five members and then, by drains of the oldest, to two.
func growAndShrink(c *cluster.Cluster, s *sessions) {
	c.T.Helper()
	for range 2 {
		c.Must(c.Add().Start())
	}
	c.WaitFormed(c.Members...)
	s.allReadable("grown to five", c.Members)
	left := c.Members
	for len(left) > 2 {
		m := left[0]
		c.Must(m.Drain(drainTimeout))
		// Drained, it owns nothing and still serves its app, as a client.
		s.allReadable(m.Name+" drained", left)
		left = left[1:]
		c.WaitFormed(left...)
		c.EndInOrder(m)
		s.allReadable(m.Name+" ended", left)
	}
}

func without(members []*cluster.Member, one *cluster.Member) []*cluster.Member {
	var rest []*cluster.Member
	for _, m := range members {
		if m != one {
			rest = append(rest, m)
		}
	}
	return rest
}
