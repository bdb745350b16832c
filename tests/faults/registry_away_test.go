package faults

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/sidegrid/faults/client"
	"example.com/sidegrid/faults/cluster"
)

// TestRegistryAway: while the registry's file is gone, everything goes on without an error, since only changes of the
// view need it; once it is back they work again (V-7, G-3).
func TestRegistryAway(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Members: 3, Announced: registryWarnings})
	s := writeSessions(t, "sessions", 500, c.Members)
	before := c.View(c.Members[0])

	hidden := c.Registry + ".away"
	c.Must(os.Rename(c.Registry, hidden))
	ctx, stop := context.WithTimeout(context.Background(), sized(5*time.Second, 2*time.Minute))
	defer stop()
	var done atomic.Int64
	var all sync.WaitGroup
	for i, m := range c.Members {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := readAndWrite(m, fmt.Sprintf("away-%d-%d", i, n%50), n); err != nil {
					t.Errorf("%s, %d operations in: %v", m.Name, n, err)
					return
				}
				done.Add(1)
				pace(ctx, time.Millisecond)
			}
		})
	}
	all.Wait()
	t.Logf("%d reads and writes without an error while the registry was away", 2*done.Load())
	if after := c.View(c.Members[0]); after != before {
		t.Errorf("the view changed from %d to %d", before, after)
	}
	c.Must(os.Rename(hidden, c.Registry))
	s.allReadable("registry back", c.Members)
	leaver := c.Members[2]
	c.Must(leaver.Drain(drainTimeout))
	c.WaitFormed(c.Members[:2]...)
	s.allReadable("one drained after that", c.Members)
}

// readAndWrite does one of each, without retries: here every refusal is an error.
func readAndWrite(m *cluster.Member, key string, n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), client.Timeout)
	defer cancel()
	value := fmt.Sprint(n)
	reply, err := m.API.Put(ctx, "sessions", key, value)
	if err != nil {
		return err
	}
	if reply.Status != 201 && reply.Status != 204 {
		return fmt.Errorf("put: %s", reply)
	}
	reply, err = m.API.Get(ctx, "sessions", key)
	if err != nil {
		return err
	}
	if reply.Status != 200 || string(reply.Body) != value {
		return fmt.Errorf("get after put of %s: %s %q", value, reply, reply.Body)
	}
	return nil
}

// pace spaces out the requests of a bounded load.
func pace(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
