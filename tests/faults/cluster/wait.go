package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"
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
	c.WaitFor(fmt.Sprintf("one cluster of %d", len(members)), FormDeadline, func() error { return formed(members) })
}

func formed(members []*Member) error {
	names := map[string]bool{}
	for _, m := range members {
		names[m.Name] = true
	}
	view := uint64(0)
	for _, m := range members {
		status, err := m.Status()
		if err != nil {
			return err
		}
		if err := status.settled(m.Name, names); err != nil {
			return err
		}
		if view != 0 && status.View != view {
			return fmt.Errorf("views %d and %d", view, status.View)
		}
		view = status.View
	}
	return nil
}

// get reads a path of the member, which must answer 200.
func (m *Member) get(ask func(context.Context) (int, []byte, error), what string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	status, body, err := ask(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", what, m.Name, err)
	}
	if status != 200 {
		return nil, fmt.Errorf("%s of %s: %d %s", what, m.Name, status, strings.TrimSpace(string(body)))
	}
	return body, nil
}
