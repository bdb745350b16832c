package faults

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/sidegrid/faults/client"
	"example.com/sidegrid/faults/cluster"
)

// Shape of the steady load: bounded, and well below what two cores can do.
const (
	stallWriters = 4 // per member
	stallReaders = 4 // per member
	stallPause   = 2 * time.Millisecond
	stallKeys    = 256
	// stallRepeats of each cause, each on another member, so that no supervisor waits before its restart.
	stallRepeats = 3
)

// TestStalls measures: default settings, three members, steady load; the longest that an app waits for a write or a
// read around each kind of fault. An app here repeats a refused request every few milliseconds. Nothing is asserted
// but that every request succeeds in the end.
func TestStalls(t *testing.T) {
	onlyLong(t)
	causes := []struct {
		name string
		hurt func(c *cluster.Cluster, m *cluster.Member) error
		mend func(c *cluster.Cluster, m *cluster.Member) error
	}{
		{"nothing", nothing, nothing},
		{"kill -9 of the member", func(_ *cluster.Cluster, m *cluster.Member) error { return m.KillMember() }, nothing},
		{"kill -9 of both", func(_ *cluster.Cluster, m *cluster.Member) error { return m.Kill() },
			func(_ *cluster.Cluster, m *cluster.Member) error { return m.Start() }},
		{"cut", func(c *cluster.Cluster, m *cluster.Member) error { return c.Fabric.Isolate(m.Node) },
			func(c *cluster.Cluster, _ *cluster.Member) error { return c.Fabric.Heal() }},
		{"SIGSTOP", func(_ *cluster.Cluster, m *cluster.Member) error { return m.Pause() },
			func(_ *cluster.Cluster, m *cluster.Member) error { return m.Resume() }},
		{"drain", func(_ *cluster.Cluster, m *cluster.Member) error { return m.Drain(drainTimeout) },
			func(_ *cluster.Cluster, m *cluster.Member) error {
				if _, err := m.Stop(drainTimeout); err != nil {
					return err
				}
				return m.Start()
			}},
	}
	t.Logf("%-24s %-10s %14s %14s %14s %14s %9s", "cause", "member", "writes", "reads, copy", "reads, others", "beside it", "refusals")
	for _, cause := range causes {
		c := cluster.Start(t, cluster.Options{Members: 3, Announced: faultWarnings})
		var worst figures
		for i := range stallRepeats {
			victim := c.Members[i%len(c.Members)]
			got := measure(t, c, victim, func() error { return cause.hurt(c, victim) }, func() error { return cause.mend(c, victim) })
			t.Logf("%-24s %-10s %s", cause.name, victim.Name, got)
			worst = worst.worse(got)
			c.WaitFormed(c.Members...)
		}
		t.Logf("%-24s %-10s %s", cause.name, "longest", worst)
	}
}

func nothing(*cluster.Cluster, *cluster.Member) error { return nil }

// figures are the longest waits of one run.
type figures struct {
	writes     time.Duration // through the other members
	readsCopy  time.Duration // at other members that hold a copy of the key themselves
	readsOther time.Duration // at other members that hold none
	beside     time.Duration // of any kind through the member that was hurt, where it goes on serving
	refusals   int           // through the other members
}

func (f figures) String() string {
	ms := func(d time.Duration) string { return fmt.Sprintf("%11.1f ms", float64(d.Microseconds())/1e3) }
	return fmt.Sprintf("%s %s %s %s %9d", ms(f.writes), ms(f.readsCopy), ms(f.readsOther), ms(f.beside), f.refusals)
}

func (f figures) worse(g figures) figures {
	return figures{max(f.writes, g.writes), max(f.readsCopy, g.readsCopy), max(f.readsOther, g.readsOther),
		max(f.beside, g.beside), f.refusals + g.refusals}
}

// measure puts steady load on all members, hurts one, and gives the longest waits of requests from shortly before
// until the others have settled.
func measure(t *testing.T, c *cluster.Cluster, victim *cluster.Member, hurt, mend func() error) figures {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var mu sync.Mutex
	var got figures
	var all sync.WaitGroup
	note := func(change func(*figures)) {
		mu.Lock()
		change(&got)
		mu.Unlock()
	}
	for _, m := range c.Members {
		held := heldAt(t, m)
		for w := range stallWriters {
			all.Go(func() {
				for n := w; ctx.Err() == nil; n += stallWriters {
					took, refused := until(ctx, func(once context.Context) (*client.Reply, error) {
						return m.API.Put(once, "sessions", fmt.Sprintf("written-%d", n%stallKeys), "value")
					})
					note(func(f *figures) { f.noteWrite(m == victim, took, refused) })
					pace(ctx, stallPause)
				}
			})
		}
		for r := range stallReaders {
			all.Go(func() {
				for n := r; ctx.Err() == nil; n += stallReaders {
					k := n % stallKeys
					took, refused := until(ctx, func(once context.Context) (*client.Reply, error) {
						return m.API.Get(once, "sessions", restingKey(k))
					})
					note(func(f *figures) { f.noteRead(m == victim, held[k], took, refused) })
					pace(ctx, stallPause)
				}
			})
		}
	}
	time.Sleep(500 * time.Millisecond) // some steady load before, which counts too
	c.Must(hurt())
	time.Sleep(3 * time.Second) // the fault lasts; what stalls, stalls by now
	c.Must(mend())
	stop()
	all.Wait()
	return got
}

func (f *figures) noteWrite(beside bool, took time.Duration, refused int) {
	if beside {
		f.beside = max(f.beside, took)
		return
	}
	f.writes = max(f.writes, took)
	f.refusals += refused
}

func (f *figures) noteRead(beside, held bool, took time.Duration, refused int) {
	switch {
	case beside:
		f.beside = max(f.beside, took)
		return
	case held:
		f.readsCopy = max(f.readsCopy, took)
	default:
		f.readsOther = max(f.readsOther, took)
	}
	f.refusals += refused
}

func restingKey(n int) string { return fmt.Sprintf("resting-%d", n) }

// heldAt stores the keys that are only read, and says which of them the member holds itself: it answers those
// without a hop.
func heldAt(t *testing.T, m *cluster.Member) []bool {
	t.Helper()
	held := make([]bool, stallKeys)
	forEach(t, stallKeys, func(n int) error {
		put := func(ctx context.Context) (*client.Reply, error) {
			return m.API.Put(ctx, "sessions", restingKey(n), "value")
		}
		if reply, err := insist(put); err != nil || reply.Status >= 300 {
			return fmt.Errorf("storing %s: %v %v", restingKey(n), reply, err)
		}
		get := func(ctx context.Context) (*client.Reply, error) { return m.API.Get(ctx, "sessions", restingKey(n)) }
		// The first read may come before the copy knows the write to be stable, and then asks the primary.
		for range 20 {
			reply, err := insist(get)
			if err != nil {
				return err
			}
			if held[n] = reply.Header.Get("Sidegrid-Hops") == "0"; held[n] {
				break
			}
		}
		return nil
	})
	if !slices.Contains(held, true) || !slices.Contains(held, false) {
		t.Fatalf("%s answers all keys alike, with or without a hop: the figures would not tell reads apart", m.Name)
	}
	return held
}

// until repeats a request until it succeeds and says how long that took and how often it was refused. A request that
// the end of the run cuts off counts nothing: what waits for the hurt member then, waits for no cluster.
func until(ctx context.Context, ask func(context.Context) (*client.Reply, error)) (took time.Duration, refused int) {
	began := time.Now()
	for {
		reply, err := ask(ctx)
		switch {
		case err == nil && reply.Status < 300:
			return time.Since(began), refused
		case ctx.Err() != nil:
			return 0, refused
		}
		refused++
		pace(ctx, retryPause)
	}
}
