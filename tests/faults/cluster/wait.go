package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	"example.com/sidegrid/faults/client"
)

// Protocol deadlines, generous: a test that waits longer has found a fault, not a slow machine.
const (
	// FormDeadline: members that start become one cluster.
	FormDeadline = 60 * time.Second
	// SettleDeadline: after a fault every copy is there again.
	SettleDeadline = 60 * time.Second
)

// pause between two looks at a condition.
const pause = 20 * time.Millisecond

// WaitFor waits until a condition holds, which says what it still waits for, and fails the test at the deadline.
func (c *Cluster) WaitFor(what string, deadline time.Duration, holds func() error) {
	c.T.Helper()
	if err := Await(deadline, holds); err != nil {
		c.T.Fatalf("%s: not within %s: %v", what, deadline, err)
	}
}

// Await waits until a condition gives no error, and gives its last one at the deadline.
func Await(deadline time.Duration, holds func() error) error {
	end := time.Now().Add(deadline)
	for {
		err := holds()
		if err == nil || time.Now().After(end) {
			return err
		}
		time.Sleep(pause)
	}
}

// WaitFormed waits until exactly these members are one view, all of them ready and all copies in place.
func (c *Cluster) WaitFormed(members ...*Member) {
	c.T.Helper()
	c.WaitFor("one cluster of "+names(members), FormDeadline, func() error {
		_, err := formed(members)
		return err
	})
}

// WaitQuiet waits until these members have been one view, the same one, for a while: longer than a suspicion that
// began before takes to become a change of the view. After it, another fault is the only one.
func (c *Cluster) WaitQuiet(members ...*Member) {
	c.T.Helper()
	const while = 1500 * time.Millisecond
	var view uint64
	var since time.Time
	c.WaitFor("quiet of "+names(members), SettleDeadline, func() error {
		now, err := formed(members)
		if err != nil || now != view {
			view, since = now, time.Now()
		}
		if err == nil && time.Since(since) < while {
			err = fmt.Errorf("quiet for %s only", time.Since(since))
		}
		return err
	})
}

// formed gives the number of the view that these members and no others are settled in.
func formed(members []*Member) (uint64, error) {
	var view uint64
	var all []*Status
	for _, m := range members {
		status, err := m.Status()
		if err != nil {
			return 0, err
		}
		if err := status.settled(len(members)); err != nil {
			return 0, err
		}
		if view != 0 && status.View.Number != view {
			return 0, fmt.Errorf("there are views %d and %d", view, status.View.Number)
		}
		view = status.View.Number
		all = append(all, status)
	}
	// The incarnations that answer, and not ones that died before them, are in each view.
	for _, status := range all {
		ids := status.ids()
		for _, other := range all {
			if ids[other.Member.Name] != other.Member.ID {
				return 0, fmt.Errorf("%s has another incarnation of %s in its view", status.Member.Name, other.Member.Name)
			}
		}
	}
	return view, nil
}

func names(members []*Member) string {
	var all []string
	for _, m := range members {
		all = append(all, m.Name)
	}
	return strings.Join(all, ", ")
}

// get reads a path of the member, which must answer 200.
func (m *Member) get(from *client.Client, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	reply, err := from.Do(ctx, client.Call{Method: "GET", Path: path})
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", path, m.Name, err)
	}
	if reply.Status != 200 {
		return nil, fmt.Errorf("%s of %s: %s", path, m.Name, reply)
	}
	return reply.Body, nil
}
