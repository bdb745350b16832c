package faults

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/sidegrid/faults/client"
	"example.com/sidegrid/faults/cluster"
)

// workers that write or read sessions at once.
const workers = 16

// sessions are entries whose writes were acknowledged.
type sessions struct {
	t     *testing.T
	cache string
	count int
}

func sessionKey(n int) string { return fmt.Sprintf("session-%06d", n) }

func sessionValue(n int) string { return fmt.Sprintf(`{"user":"user-%06d","cart":%d}`, n, n*7) }

// writeSessions stores sessions through all members by turns; each is acknowledged when it returns.
func writeSessions(t *testing.T, cache string, count int, through []*cluster.Member) *sessions {
	t.Helper()
	began := time.Now()
	forEach(t, count, func(n int) error {
		m := through[n%len(through)]
		reply, err := insist(func(ctx context.Context) (*client.Reply, error) {
			return m.API.Put(ctx, cache, sessionKey(n), sessionValue(n), "Content-Type", "application/json")
		})
		if err != nil {
			return fmt.Errorf("writing session %d through %s: %w", n, m.Name, err)
		}
		// 204 when an earlier try was applied though its answer was lost.
		if reply.Status != 201 && reply.Status != 204 {
			return fmt.Errorf("writing session %d through %s: %s", n, m.Name, reply)
		}
		return nil
	})
	t.Logf("%d sessions written through %s in %.1f s", count, names(through), time.Since(began).Seconds())
	return &sessions{t: t, cache: cache, count: count}
}

// allReadable checks that every session is readable, with its value, at each of the members.
func (s *sessions) allReadable(when string, at []*cluster.Member) {
	s.t.Helper()
	began := time.Now()
	var lost atomic.Int64
	forEach(s.t, s.count*len(at), func(i int) error {
		n, m := i/len(at), at[i%len(at)]
		reply, err := insist(func(ctx context.Context) (*client.Reply, error) { return m.API.Get(ctx, s.cache, sessionKey(n)) })
		if err != nil {
			return fmt.Errorf("%s: session %d can't be read at %s: %w", when, n, m.Name, err)
		}
		if reply.Status != 200 || string(reply.Body) != sessionValue(n) {
			lost.Add(1)
			if lost.Load() <= 5 {
				return fmt.Errorf("%s: session %d at %s: %s %q", when, n, m.Name, reply, reply.Body)
			}
		}
		return nil
	})
	if n := lost.Load(); n > 0 {
		s.t.Fatalf("%s: %d of %d reads did not show the acknowledged session", when, n, s.count*len(at))
	}
	s.t.Logf("%s: all %d sessions readable at %s (%.1f s)", when, s.count, names(at), time.Since(began).Seconds())
}

// forEach does a job for 0 to count-1 with some workers, and fails the test on the first errors.
func forEach(t *testing.T, count int, job func(n int) error) {
	t.Helper()
	var next, failed atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for n := int(next.Add(1)) - 1; n < count && failed.Load() < 5; n = int(next.Add(1)) - 1 {
				if err := job(n); err != nil {
					failed.Add(1)
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if failed.Load() > 0 {
		t.FailNow()
	}
}
