package faults

import (
	"context"
	"slices"
	"sync"
	"testing"

	"example.com/sidegrid/faults/client"
	"example.com/sidegrid/faults/cluster"
)

// TestAllKilledFormAgain: when every member is killed at one time and started again, the new incarnations prove the
// old ones dead, form a cluster by themselves, empty, and report the loss (P-1, C-7).
func TestAllKilledFormAgain(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Members: 3, Announced: slices.Concat(faultWarnings, lossWarnings)})
	before := c.View(c.Members[0])
	writeSessions(t, "sessions", 100, c.Members)
	var all sync.WaitGroup
	for _, m := range c.Members {
		all.Go(func() {
			if err := m.Kill(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, m := range c.Members {
		c.Must(m.Start())
	}
	c.WaitFormed(c.Members...)
	if after := c.View(c.Members[0]); after <= before {
		t.Errorf("view numbers went from %d to %d; they must go on", before, after)
	}
	for _, m := range c.Members {
		reply, err := insist(func(ctx context.Context) (*client.Reply, error) {
			return m.API.Get(ctx, "sessions", sessionKey(1))
		})
		if err != nil || reply.Status != 404 {
			t.Errorf("%s answers for what was lost: %v %v", m.Name, reply, err)
		}
	}
	if !c.Logged(lossWarnings[0]) {
		t.Error("no member reports the loss")
	}
	writeSessions(t, "sessions", 100, c.Members).allReadable("formed again", c.Members)
}
